"""One training loop for every network: fit a network to pairs of inputs and labels, resumable at any step.

The learning rate and the batch size are pure functions of the step or of the share of the training that is done. A
checkpoint holds everything the loop needs to go on: weights, optimiser, running average, random state, step and time;
on the CPU an interrupted training goes on bitwise (unless it is limited by time).
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import nn

from chemnet.config import Config
from chemnet.errors import FileError, NumericalError, UsageError
from chemnet.files import atomic

_VALIDATION_BLOCK = 8192
Positive = Annotated[float, Field(gt=0)]


class FitOptions(Config):
    """How to train.

    `schedule` is `cosine` (linear warm-up over `warmup_steps`, then half a cosine to zero) or `steps` (times `decay`
    every `decay_every` steps). The batch grows by `batch_growth` every `batch_growth_every` steps up to
    `max_batch_size`. The weights returned are the mean over the last `average_share` of the training.
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

    def rate_at(self, step: int, share: float) -> float:
        """Learning rate at a step, of which `share` (0 to 1) of the training lies before."""
        if self.schedule == "steps":
            return self.learning_rate * self.decay ** (step // self.decay_every)
        warm = min(1.0, (step + 1) / (self.warmup_steps + 1))
        return self.learning_rate * warm * 0.5 * (1.0 + math.cos(math.pi * min(share, 1.0)))

    def batch_at(self, step: int) -> int:
        """Batch size at a step."""
        grown = self.batch_size * self.batch_growth ** (step // self.batch_growth_every)
        return int(min(grown, max(self.batch_size, self.max_batch_size)))


@dataclass(frozen=True)
class TrainingData:
    """Float32 inputs x (n, m) and labels y (n, m_out), for training and validation.

    The loss is taken over the output columns `active`; the others are never trained.
    """

    x: torch.Tensor
    y: torch.Tensor
    x_val: torch.Tensor
    y_val: torch.Tensor
    active: torch.Tensor

    def to(self, device: str) -> TrainingData:
        """The same data on a device."""
        return TrainingData(*(getattr(self, name).to(device) for name in ("x", "y", "x_val", "y_val", "active")))


@dataclass(frozen=True)
class FitReport:
    """What a training came to."""

    steps: int
    seconds: float
    initial_loss: float
    validation_loss: float


def choose_device(name: str) -> str:
    """`auto` is the GPU where there is one. Raises UsageError for a device that is not there."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch sees no GPU here; use --device cpu or auto")
    return name


def validation_loss(network: nn.Module, data: TrainingData, loss: str = "l1") -> float:
    """Mean loss over the validation rows and active columns, in float32."""
    total = 0.0
    with torch.no_grad():
        for start in range(0, len(data.x_val), _VALIDATION_BLOCK):
            rows = slice(start, start + _VALIDATION_BLOCK)
            total += _LOSSES[loss](
                network(data.x_val[rows])[:, data.active], data.y_val[rows][:, data.active]
            ).item() * (len(data.x_val[rows]))
    return total / max(len(data.x_val), 1)


_LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "l1": nn.functional.l1_loss,
    "mse": nn.functional.mse_loss,
}


def fit(
    network: nn.Module,
    data: TrainingData,
    options: FitOptions,
    run: str | Path,
    *,
    seed: int = 0,
    resume: bool = False,
    max_minutes: float | None = None,
    device: str = "cpu",
    report: Callable[[str], None] = print,
) -> FitReport:
    """Train `network` in place; `run` receives `loss.csv` and the checkpoint `last.pt`.

    With `max_minutes` the schedule is stretched over the steps or the minutes, whichever end sooner. With `resume` the
    training goes on from `run/last.pt`. Raises FileError when that is missing or damaged, NumericalError when the
    loss is no longer finite.
    """
    return _Fit(network.to(device), data.to(device), options, Path(run), seed, max_minutes, report).run(resume)


class _Fit:
    """State of one training; the parts that a checkpoint holds are in `_state`."""

    def __init__(
        self,
        network: nn.Module,
        data: TrainingData,
        options: FitOptions,
        run: Path,
        seed: int,
        max_minutes: float | None,
        report: Callable[[str], None],
    ) -> None:
        self.network, self.data, self.options, self.folder, self.report = network, data, options, run, report
        self.limit = math.inf if max_minutes is None else 60.0 * max_minutes
        self.optimizers = _optimizers(network, options)
        self.generator = torch.Generator().manual_seed(seed)
        self.order = torch.empty(0, dtype=torch.int64)
        self.position = 0
        self.average = [torch.zeros_like(p) for p in network.parameters()]
        self.averaged = self.step = 0
        self.elapsed = 0.0
        self.history: list[list[float]] = []

    def run(self, resume: bool) -> FitReport:
        """Train to the end."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if resume:
            self._load()
        else:
            self._record(math.nan)
        start = time.monotonic() - self.elapsed
        running, since = 0.0, 0
        while (share := self._share()) < 1.0:
            running += self._take_step(share)
            since += 1
            self.elapsed = time.monotonic() - start
            if self.step % self.options.report_every == 0 or self._share() >= 1.0:
                self._record(running / since)
                self._save()
                running, since = 0.0, 0
        self._use_average()
        self._record(self.history[-1][1])
        self._save()
        return FitReport(self.step, self.elapsed, self.history[0][2], self.history[-1][2])

    def _share(self) -> float:
        """Share of the training that is done."""
        return max(self.step / self.options.steps, self.elapsed / self.limit)

    def _take_step(self, share: float) -> float:
        rows = self._batch(self.options.batch_at(self.step))
        rate = self.options.rate_at(self.step, share)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
            for group in optimizer.param_groups:
                group["lr"] = rate
        with torch.autocast(self.data.x.device.type, torch.bfloat16, enabled=self.options.precision == "bf16"):
            outputs = self.network(self.data.x[rows])
        active = self.data.active
        loss = _LOSSES[self.options.loss](outputs[:, active].float(), self.data.y[rows][:, active])
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        if share >= 1.0 - self.options.average_share:
            self._add_to_average()
        else:
            self.averaged = 0  # a training that is prolonged leaves the mean of its first end behind
        return loss.item()

    def _batch(self, size: int) -> torch.Tensor:
        """Rows of the next batch: every row once per pass, in random order."""
        if self.position + size > len(self.order):
            self.order = torch.randperm(len(self.data.x), generator=self.generator)
            self.position = 0
        rows = self.order[self.position : self.position + size]
        self.position += size
        return rows.to(self.data.x.device)

    def _add_to_average(self) -> None:
        self.averaged += 1
        with torch.no_grad():
            for mean, parameter in zip(self.average, self.network.parameters(), strict=True):
                mean += (parameter - mean) / self.averaged

    def _use_average(self) -> None:
        if self.averaged:
            with torch.no_grad():
                for mean, parameter in zip(self.average, self.network.parameters(), strict=True):
                    parameter.copy_(mean)

    def _record(self, training_loss: float) -> None:
        """Add a line to the history, write it, and say how it goes."""
        loss = validation_loss(self.network, self.data, self.options.loss)
        if not math.isfinite(loss):
            raise NumericalError(
                f"the loss is {loss} at step {self.step}\nUse a smaller learning rate and resume=False."
            )
        rate = self.options.rate_at(self.step, self._share())
        self.history.append([self.step, training_loss, loss, rate, self.options.batch_at(self.step), self.elapsed])
        with atomic(self.folder / "loss.csv") as path, open(path, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["step", "training_loss", "validation_loss", "learning_rate", "batch_size", "seconds"])
            writer.writerows(self.history)
        left = self.elapsed / max(self._share(), 1e-9) - self.elapsed
        self.report(f"step {self.step}, loss {training_loss:.5f}, validation {loss:.5f}, {left:.0f} s left")

    def _state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "generator": self.generator.get_state(),
            "order": self.order,
            "position": self.position,
            "average": self.average,
            "averaged": self.averaged,
            "step": self.step,
            "elapsed": self.elapsed,
            "history": self.history,
            "options": self.options.model_dump(),
        }

    def _save(self) -> None:
        with atomic(self.folder / "last.pt") as path:
            torch.save(self._state(), path)

    def _load(self) -> None:
        path = self.folder / "last.pt"
        state = read_checkpoint(path)
        if state["options"] != self.options.model_dump():
            raise UsageError(f"{path} was trained with other options\nStart anew without --resume, or restore them.")
        self.network.load_state_dict(state["network"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.generator.set_state(state["generator"])
        self.average = [mean.to(self.data.x.device) for mean in state["average"]]
        for name in ("order", "position", "averaged", "step", "elapsed", "history"):
            setattr(self, name, state[name])


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Content of a checkpoint; it is read as plain tensors and numbers and cannot run code.

    Raises FileError when it is missing or damaged.
    """
    if not Path(path).is_file():
        raise FileError(f"no checkpoint {path} to resume from; start without --resume")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise FileError(f"{path} is damaged ({str(error).splitlines()[0][:80]})\nStart without --resume.") from None


def _optimizers(network: nn.Module, options: FitOptions) -> list[torch.optim.Optimizer]:
    """Adam or AdamW for everything, or Muon for the matrices with AdamW for the biases."""
    parameters = list(network.parameters())
    rate, decay = options.learning_rate, options.weight_decay
    if options.optimizer == "adam":
        return [torch.optim.Adam(parameters, rate, weight_decay=decay)]
    if options.optimizer == "adamw":
        return [torch.optim.AdamW(parameters, rate, weight_decay=decay)]
    matrices = [p for p in parameters if p.ndim == 2]
    biases = [p for p in parameters if p.ndim != 2]
    return [
        torch.optim.Muon(matrices, rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(biases, rate, weight_decay=decay),
    ]
