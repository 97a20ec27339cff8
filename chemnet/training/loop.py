"""One training loop for every network: fit a network to pairs of inputs and labels, resumable at any step.

The learning rate and the batch size are pure functions of the step or of the share of the training that is done. A
checkpoint holds everything the loop needs to go on: weights, optimiser, running average, random state, step and time;
on the CPU an interrupted training goes on bitwise (unless it is limited by time). Several processes (`distributed.py`)
train one network with the same loop: they hold the same weights and share the rows of each batch.
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from chemnet.runtime.errors import NumericalError, UsageError, signals_wait
from chemnet.runtime.run_folder import check_same
from chemnet.runtime.tables import write_csv
from chemnet.training.batches import TrainingData, loss_of, validation_loss
from chemnet.training.checkpoint import read_checkpoint, write_checkpoint
from chemnet.training.distributed import Team
from chemnet.training.optimizers import optimizers_for
from chemnet.training.options import FitOptions

_ONE_THREAD = 300_000  # parameters of the largest network that is not worth a second thread
Judge = Callable[[nn.Module], float]  # how wrong a network is in use; smaller is better


@dataclass(frozen=True)
class FitReport:
    """What a training came to; `validation_loss`, `best_step` and `judgement` are of the weights that are returned."""

    steps: int
    seconds: float
    initial_loss: float
    validation_loss: float
    best_step: int
    judgement: float | None
    largest_batch: int


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
    judge: Judge | None = None,
    about: Mapping[str, Any] | None = None,
    team: Team = Team(),  # noqa: B008 (immutable)
    begin: Callable[[], None] = lambda: None,
    report: Callable[[str], None] = print,
) -> FitReport:
    """Train `network` in place; `run` receives `loss.csv` and the checkpoints `last.pt` and, where there is a judge,
    `best.pt`, whose weights are returned.

    With `max_minutes` the schedule is stretched over the steps or the minutes, whichever end sooner. With `resume` the
    training goes on from `run/last.pt`, which must be one of the same options, seed, and `about` (plain data that the
    caller wants to be the same); `begin` is called when that is settled. SIGINT and SIGTERM end the training after the
    step with a checkpoint. Raises FileError when that is missing or damaged, UsageError when it belongs to another
    training, NumericalError at the step at which the loss is no longer finite.
    """
    if options.batch_size < team.size:
        raise UsageError(f"batch_size {options.batch_size}: there are {team.size} processes to share a batch")
    wanted, options = options, options.on(device)
    loop = _Fit(network.to(device), data.to(device), options, Path(run), seed, max_minutes, report)
    loop.judge, loop.about, loop.team, loop.begin = judge, dict(about or {}), team, begin
    last = options.steps - 1
    if options.batch_at(last) < wanted.batch_at(last):
        full = wanted.batch_at(last)
        loop.report(f"without a GPU the batch stops growing at {options.max_batch_size}; its schedule goes to {full}")
    if options.precision != wanted.precision:
        loop.report(f"this processor has no instructions for {wanted.precision}: {options.precision} instead")
    with signals_wait() as loop.signals, _threads_for(network):
        result = loop.run(resume)
    if loop.signals or loop.stopped:
        signal.raise_signal(loop.signals[0] if loop.signals else signal.SIGINT)
    return result


@contextmanager
def _threads_for(network: nn.Module) -> Iterator[None]:
    """One thread for a small network, unless OMP_NUM_THREADS says otherwise: threads that wait for each other at every
    layer gain little on idle cores, and on busy ones cost a hundredfold."""
    before = torch.get_num_threads()
    if "OMP_NUM_THREADS" not in os.environ and sum(p.numel() for p in network.parameters()) <= _ONE_THREAD:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def bare_steps(network: nn.Module, data: TrainingData, options: FitOptions) -> None:
    """The steps of `fit` and nothing around them, at a constant rate: what `chemnet bench training` compares with."""
    optimizers = optimizers_for(network, options)
    mean_loss, labels = loss_of(options.loss), data.y[:, data.active]
    order = torch.randperm(len(data.x))
    for step in range(options.steps):
        size = options.batch_at(step)
        start = step * size % (len(order) - size)
        rows = order[start : start + size]
        with torch.autocast(data.x.device.type, torch.bfloat16, enabled=options.precision == "bf16"):
            outputs = network(data.x[rows])
        loss = mean_loss(outputs[:, data.active].float(), labels[rows])
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()


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
        self.network, self.data, self.options, self.folder, self.seed = network, data, options, run, seed
        self.say = report
        self.judge: Judge | None = None
        self.about: dict[str, Any] = {}
        self.team = Team()
        self.begin: Callable[[], None] = lambda: None
        self.signals: list[int] = []
        self.stopped = False
        self.limit = math.inf if max_minutes is None else 60.0 * max_minutes
        self.optimizers = optimizers_for(network, options)
        self.generator = torch.Generator().manual_seed(seed)
        self.order = torch.empty(0, dtype=torch.int64)
        self.position = 0
        self.average = [torch.zeros_like(p) for p in network.parameters()]
        self.averaged = self.step = self.saved = 0
        self.elapsed = self.running = 0.0
        self.since = 0  # steps that `running`, the sum of their losses, is of
        self.history: list[list[float]] = []
        self.best, self.best_step = math.inf, 0
        self.start = 0.0

    def run(self, resume: bool) -> FitReport:
        """Train to the end, or to the step at which a signal waits."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if resume:
            self._load()
        self.begin()
        if not resume:
            (self.folder / "best.pt").unlink(missing_ok=True)
            self._record(math.nan)
        self.start = time.monotonic() - self.elapsed
        share = self._share()
        while share < 1.0:
            self._take_step(share)
            before, share = share, self._share()
            if share < 1.0 and int(share * self.options.rollouts) > int(before * self.options.rollouts):
                self._judge()
            if self.step % self.options.report_every == 0 or share >= 1.0:
                self._record(self.running / self.since)
                self.running, self.since = 0.0, 0
                self._save()
            if self.stopped:
                self._save()
                self.report(f"stopped after step {self.step}; --resume goes on from here")
                return self._result(self.history[-1][2])
        self._use_average()
        self._record(self.history[-1][1])
        self._save()
        self._judge()
        return self._result(self._use_best())

    def report(self, line: str) -> None:
        """Tell the user, once."""
        if self.team.leads:
            self.say(line)

    def _result(self, loss: float) -> FitReport:
        judged = self.best_step > 0
        return FitReport(
            steps=self.step,
            seconds=self.elapsed,
            initial_loss=self.history[0][2],
            validation_loss=loss,
            best_step=self.best_step if judged else self.step,
            judgement=self.best if judged else None,
            largest_batch=self.options.batch_at(max(self.step - 1, 0)),
        )

    def _share(self) -> float:
        """Share of the training that is done."""
        return max(self.step / self.options.steps, self.elapsed / self.limit)

    def _take_step(self, share: float) -> None:
        """One step of all optimisers."""
        rows = self._batch(self.options.batch_at(self.step))
        rate = self.options.rate_at(self.step, share)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
            for group in optimizer.param_groups:
                group["lr"] = rate
        mine = rows[self.team.rank :: self.team.size]
        with torch.autocast(self.data.x.device.type, torch.bfloat16, enabled=self.options.precision == "bf16"):
            outputs = self.network(self.data.x[mine])
        active = self.data.active
        loss = loss_of(self.options.loss)(outputs[:, active].float(), self.data.y[mine][:, active])
        loss = loss * (len(mine) / len(rows))
        loss.backward()
        self._exchange(loss.item())
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        if share >= 1.0 - self.options.average_share:
            self._add_to_average()
        else:
            self.averaged = 0  # a training that is prolonged leaves the mean of its first end behind

    def _exchange(self, loss: float) -> None:
        """Sum gradients and loss over the team; its leader's clock is everyone's, and where one stops, all do."""
        clock = time.monotonic() - self.start if self.team.leads else 0.0
        loss, self.elapsed, stops = self.team.sum(self.network.parameters(), (loss, clock, len(self.signals)))
        self._check(loss)
        self.running += loss
        self.since += 1
        self.stopped = stops > 0

    def _check(self, loss: float) -> None:
        if not math.isfinite(loss):
            kept = f"; the checkpoint of step {self.saved} is kept" if self.saved else ""
            raise NumericalError(
                f"the loss is {loss} at step {self.step}{kept}\n"
                f"Start anew with a smaller rate: --set fit.learning_rate={0.5 * self.options.learning_rate:g}"
            )

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

    def _judge(self) -> None:
        """Judge the weights of this step and keep them if there have been no better ones."""
        if self.judge is None or self.options.rollouts == 0 or not self.team.leads:
            return
        score = self.judge(self.network)
        if score <= self.best:
            self.best, self.best_step = score, self.step
            content = {"score": score, "step": self.step, "network": self.network.state_dict()}
            write_checkpoint(self.folder / "best.pt", content)
        self.report(f"step {self.step}, roll-outs {score:.5f}, best {self.best:.5f} of step {self.best_step}")

    def _use_best(self) -> float:
        """Take back the weights that were judged best, if these are not they; their validation loss."""
        if not (0 < self.best_step < self.step and self.team.leads):
            return self.history[-1][2]
        self.network.load_state_dict(read_checkpoint(self.folder / "best.pt")["network"])
        return validation_loss(self.network, self.data, self.options.loss)

    def _record(self, training_loss: float) -> None:
        """Add a line to the history, write it, and say how it goes."""
        loss = validation_loss(self.network, self.data, self.options.loss)
        self._check(loss)
        rate = self.options.rate_at(self.step, self._share())
        self.history.append([self.step, training_loss, loss, rate, self.options.batch_at(self.step), self.elapsed])
        if not self.team.leads:
            return
        columns = ("step", "training_loss", "validation_loss", "learning_rate", "batch_size", "seconds")
        write_csv(self.folder / "loss.csv", columns, self.history)
        left = self.elapsed / max(self._share(), 1e-9) - self.elapsed
        self.report(f"step {self.step}, loss {training_loss:.5f}, validation {loss:.5f}, {left:.0f} s left")

    def _facts(self) -> dict[str, Any]:
        """What a training that is resumed must have in common with the one that left the checkpoint."""
        options = {f"fit.{key}": value for key, value in self.options.model_dump(mode="json").items()}
        return {**self.about, **options, "seed": self.seed, "rows": len(self.data.x)}

    def _state(self) -> dict[str, Any]:
        return {
            "facts": self._facts(),
            "network": self.network.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "generator": self.generator.get_state(),
            "average": self.average,
            **{name: getattr(self, name) for name in _PLAIN},
        }

    def _save(self) -> None:
        if self.team.leads:
            write_checkpoint(self.folder / "last.pt", self._state())
        self.saved = self.step

    def _load(self) -> None:
        path = self.folder / "last.pt"
        state = read_checkpoint(path)
        defaults = {f"fit.{key}": field.default for key, field in FitOptions.model_fields.items()}
        check_same(path, {**defaults, **state["facts"]}, self._facts())
        self.network.load_state_dict(state["network"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.generator.set_state(state["generator"])
        self.average = [mean.to(self.data.x.device) for mean in state["average"]]
        for name in _PLAIN:
            setattr(self, name, state[name])
        self.saved = self.step
        if (self.folder / "best.pt").exists():
            best = read_checkpoint(self.folder / "best.pt")
            self.best, self.best_step = best["score"], best["step"]


_PLAIN = ("order", "position", "averaged", "step", "elapsed", "running", "since", "history")
