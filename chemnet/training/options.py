"""Options of a training: optimiser, schedule of the learning rate, batches, precision, device."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field

from chemnet.runtime.config import Config
from chemnet.runtime.errors import UsageError
from chemnet.surrogate.inference import has_bf16_instructions

_MAX_BATCH_CPU = 4096  # a batch that grows further only makes sense on a GPU
Positive = Annotated[float, Field(gt=0)]


class FitOptions(Config):
    """How to train.

    `schedule` is `cosine` (linear warm-up over `warmup_steps`, then half a cosine to zero) or `steps` (times `decay`
    every `decay_every` steps). The batch grows by `batch_growth` every `batch_growth_every` steps up to
    `max_batch_size`. At the end the weights are the mean over the last `average_share` of the training. They are judged
    `rollouts` times, at equal shares of the training and the last time at its end, and the best are returned.
    """

    optimizer: Literal["adam", "adamw", "muon"] = "muon"
    learning_rate: Positive = 1.5e-2
    weight_decay: float = Field(0.0, ge=0)
    schedule: Literal["cosine", "steps"] = "cosine"
    warmup_steps: int = Field(100, ge=0)
    decay: Positive = 1.0
    decay_every: int = Field(1000, ge=1)
    steps: int = Field(ge=1)
    batch_size: int = Field(1024, ge=1)
    batch_growth: float = Field(1.0, ge=1)
    batch_growth_every: int = Field(1000, ge=1)
    max_batch_size: int = Field(131072, ge=1)
    average_share: float = Field(0.05, ge=0, le=1)
    loss: Literal["l1", "mse"] = "l1"
    precision: Literal["fp32", "bf16"] = "fp32"
    report_every: int = Field(250, ge=1)
    rollouts: int = Field(8, ge=0)

    def rate_at(self, step: int, share: float) -> float:
        """Learning rate at a step, of which `share` (0 to 1) of the training lies before."""
        if self.schedule == "steps":
            return self.learning_rate * self.decay ** (step // self.decay_every)
        warm = min(1.0, (step + 1) / (self.warmup_steps + 1))
        return self.learning_rate * warm * 0.5 * (1.0 + math.cos(math.pi * min(share, 1.0)))

    def on(self, device: str) -> FitOptions:
        """These options on a device: without a GPU the batch stops growing at 4096, and without instructions for bf16
        the precision is fp32, which is then several times as fast."""
        changes: dict[str, object] = {}
        if device == "cpu" and self.batch_growth > 1.0:
            changes["max_batch_size"] = min(self.max_batch_size, max(self.batch_size, _MAX_BATCH_CPU))
        if device == "cpu" and self.precision == "bf16" and not has_bf16_instructions():
            changes["precision"] = "fp32"
        return self.model_copy(update=changes)

    def batch_at(self, step: int) -> int:
        """Batch size at a step."""
        grown = self.batch_size * self.batch_growth ** (step // self.batch_growth_every)
        return int(min(grown, max(self.batch_size, self.max_batch_size)))


def choose_device(name: str) -> str:
    """`auto` is the GPU where there is one. Raises UsageError for a device that is not there."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch sees no GPU here; use --device cpu or auto")
    return name
