"""Options of a training: optimiser, schedule of the learning rate, batches, precision, device."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator

from chemnet.runtime.config import Config
from chemnet.runtime.errors import UsageError
from chemnet.surrogate.inference import has_bf16_instructions

_MAX_BATCH_CPU = 4096  # a batch that grows further only makes sense on a GPU
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Precision = Literal["fp32", "bf16"]


class Phase(Config):
    """Part of a schedule: an optimiser and its learning rate over `steps` of time (None: to the end).

    `cosine` falls from the rate to `lowest` over each `period`, after a linear `warmup`, or without a period once over
    the whole training; `alternating` changes between the rate and `lowest` every `period`; `steps` multiplies it by
    `decay` every `period`. Without a `rate` it is the schedule's initial rate. SGD has a momentum of 0.9, on request
    Nesterov's. `weight_decay` is of matrices, with `decay_biases` of all parameters.
    """

    optimizer: Literal["sgd", "adam", "adamw", "muon"]
    schedule: Literal["cosine", "alternating", "steps"]
    period: Positive | None = None
    rate: Positive | None = None
    lowest: NotNegative = 0.0
    warmup: NotNegative = 0.0
    decay: Positive = 1.0
    weight_decay: NotNegative = 0.0
    decay_biases: bool = False
    nesterov: bool = False
    steps: Count | None = None

    @model_validator(mode="after")
    def _has_a_period(self) -> Phase:
        if self.period is None and self.schedule != "cosine":
            raise ValueError(f"schedule {self.schedule} needs a period")
        return self

    def rate_at(self, time: float, initial: float, share: float = 0.0) -> float:
        """Learning rate at `time` since the phase began, when `share` of the training is done."""
        highest = initial if self.rate is None else self.rate
        if self.schedule == "steps":
            return highest * self.decay ** (time // (self.period or 1.0))
        if self.schedule == "alternating":
            return highest if int(time // (self.period or 1.0)) % 2 == 0 else self.lowest
        if time < self.warmup:
            return highest * (time + 1e-3) / self.warmup
        if self.period is not None:
            share = math.fmod(time - self.warmup, self.period) / self.period
        return self.lowest + 0.5 * (highest - self.lowest) * (1.0 + math.cos(math.pi * min(share, 1.0)))


class FitOptions(Config):
    """Options of a fit.

    `schedule` is `cosine` (linear warm-up over `warmup_steps`, then half a cosine to zero) or `steps` (times `decay`
    every `decay_every` steps); `phases`, with `phase_unit` steps as unit of time, replace optimiser and schedule. The
    batch grows by `batch_growth` every `batch_growth_every` steps up to `max_batch_size`; on a CPU it stops at 4096,
    unless it `grows_on_cpu`. At the end the weights are
    the mean over the last `average_share` of the training. They are judged `rollouts` times, at equal shares of the
    training and the last time at its end, and the best are returned. `change_loss` is the weight of the relative errors
    of changes in states of flows (`changes.py`), beside the loss of labels.

    A limit of minutes (`--max-minutes`) stretches the schedule over the steps or the minutes, whichever end sooner, so
    that it always comes to its end; warm-up and growth of the batch still count steps.
    """

    optimizer: Literal["adam", "adamw", "muon"] = "muon"
    learning_rate: Positive = 1.5e-2
    weight_decay: NotNegative = 0.0
    schedule: Literal["cosine", "steps"] = "cosine"
    warmup_steps: int = Field(default=100, ge=0)
    decay: Positive = 1.0
    decay_every: Count = 1000
    phases: tuple[Phase, ...] = ()
    phase_unit: Count = 1
    steps: int = Field(ge=1)
    batch_size: Count = 1024
    batch_growth: float = Field(default=1.0, ge=1)
    batch_growth_every: Count = 1000
    max_batch_size: Count = 131072
    grows_on_cpu: bool = False
    average_share: float = Field(default=0.05, ge=0, le=1)
    loss: Literal["l1", "mse"] = "l1"
    change_loss: NotNegative = 0.0
    precision: Precision = "fp32"
    report_every: Count = 250
    rollouts: int = Field(default=8, ge=0)

    def schedule_phases(self) -> tuple[Phase, ...]:
        """Phases of the schedule; the other keys describe one phase."""
        if self.phases:
            return self.phases
        period = float(self.decay_every) if self.schedule == "steps" else None
        own = {"optimizer": self.optimizer, "schedule": self.schedule, "weight_decay": self.weight_decay}
        return (Phase(**own, period=period, decay=self.decay, decay_biases=True),)  # type: ignore[arg-type]

    def phase_at(self, step: int, share: float, initial: float | None = None) -> tuple[int, float]:
        """Number of the phase and learning rate at a step, after `share` (0 to 1) of the training.

        Where time is short, the share is more than that of the steps, and the schedule is ahead. `initial` is the rate
        at its begin, by default `learning_rate`.
        """
        initial, number, phases = initial or self.learning_rate, 0, self.schedule_phases()
        time = (step if share <= step / self.steps else share * self.steps) / self.phase_unit
        if not self.phases and self.schedule == "cosine":
            initial *= min(1.0, (step + 1) / (self.warmup_steps + 1))
        for phase in phases[:-1]:
            if phase.steps is None or time < phase.steps:
                break
            time, number = time - phase.steps, number + 1
        return number, phases[number].rate_at(time, initial, share)

    def rate_at(self, step: int, share: float) -> float:
        """Learning rate at a step, after `share` (0 to 1) of the training."""
        return self.phase_at(step, share)[1]

    def batch_at(self, step: int) -> int:
        """Batch size at a step."""
        grown = self.batch_size * self.batch_growth ** (step // self.batch_growth_every)
        return int(min(grown, max(self.batch_size, self.max_batch_size)))

    def on(self, device: str) -> FitOptions:
        """Options for a device: on a CPU the batch stops growing at 4096, where it does not `grows_on_cpu`, and without
        instructions for bf16 the precision is fp32, which is then several times as fast."""
        changes: dict[str, object] = {}
        if device == "cpu" and self.batch_growth > 1.0 and not self.grows_on_cpu:
            changes["max_batch_size"] = min(self.max_batch_size, max(self.batch_size, _MAX_BATCH_CPU))
        if device == "cpu" and self.precision == "bf16" and not has_bf16_instructions():
            changes["precision"] = "fp32"
        return self.model_copy(update=changes)

    def scaled(self, scale: float) -> FitOptions:
        """Options of a training of `scale` times the steps, in (0, 1], in which the rate falls and the batch grows
        after the same shares of it. Raises UsageError for another scale, and for phases, which have steps of their
        own."""
        if not 0.0 < scale <= 1.0:
            raise UsageError(f"scale {scale:g}: expected a share of the steps, above 0 and at most 1")
        if self.phases:
            raise UsageError("a schedule of phases cannot be scaled: its phases have steps of their own")
        counts = ("steps", "decay_every", "batch_growth_every", "report_every")
        return self.model_copy(update={name: max(1, round(scale * getattr(self, name))) for name in counts})


def choose_device(name: str) -> str:
    """Device `cpu` or `cuda`; `auto` is a GPU if there is one. Raises UsageError for a GPU that is missing."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch sees no GPU here; use --device cpu or auto")
    return name
