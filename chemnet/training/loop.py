"""Training loop: fits a network to batches of states or images, resumable at any step.

The learning rate and the batch size are pure functions of the step or of the finished share of the training. A
checkpoint holds weights, optimiser, running average, random state, step and time; on the CPU a resumed training is
bitwise that without interruption (unless it is limited by time). Several processes (`distributed.py`) can train one
network: they hold the same weights and share the rows of each batch. On a GPU whether the loss is finite is asked at
every report, as no step waits for it (`steps.py`).
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from chemnet.runtime.errors import UsageError, end_by, signals_wait
from chemnet.runtime.run_folder import begin_run, clear_run
from chemnet.runtime.tables import write_csv
from chemnet.runtime.threads import threads_for
from chemnet.runtime.torch_threads import torch_threads
from chemnet.training.batches import Batches
from chemnet.training.checkpoint import check_no_run, read_checkpoint, write_checkpoint
from chemnet.training.distributed import Team
from chemnet.training.options import FitOptions
from chemnet.training.steps import Training

HISTORY, CHECKPOINT, BEST = "loss.csv", "last.pt", "best.pt"

_FORMAT = 2  # of checkpoints
Judge = Callable[[nn.Module], float]  # relative error of the ignition delays of a network in use


@dataclass(frozen=True)
class FitReport:
    """Outcome of a training; `validation_loss` (of images the accuracy) and `judgement` are of the returned weights."""

    steps: int
    seconds: float
    initial_loss: float
    validation_loss: float
    best_step: int
    judgement: float | None
    largest_batch: int


def fit(
    network: nn.Module,
    batches: Batches,
    options: FitOptions,
    run: str | Path,
    *,
    seed: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    kind: str = "training",
    max_minutes: float | None = None,
    device: str = "cpu",
    n_threads: int | None = None,
    judge: Judge | None = None,
    facts: Mapping[str, Any] | None = None,
    team: Team = Team(),  # noqa: B008 (immutable)
    begin: Callable[[], None] = lambda: None,
    report: Callable[[str], None] = print,
) -> FitReport:
    """Train `network` in place; `run` receives `loss.csv` and the checkpoints `last.pt` and, with a judge, `best.pt`.

    With a judge the weights of `best.pt` are returned. With `max_minutes` the schedule is stretched over the steps or
    the minutes, whichever end sooner. With `resume` the training goes on from `run/last.pt`, which must have the same
    options, seed, and `facts` (plain data); phases may go on to more steps. A run that is there, of this `kind`, is
    replaced with `overwrite` only. `begin` is called after these checks; `n_threads` is chosen as `runtime/threads.py`
    says. SIGINT and SIGTERM end the training after the step with a checkpoint. Raises FileError when the checkpoint is
    missing or damaged, UsageError when it belongs to another training or would be lost, NumericalError when the loss is
    not finite.
    """
    if options.batch_size < team.size:
        raise UsageError(f"batch_size {options.batch_size}: there are {team.size} processes to share a batch")
    wanted, options = options, options.on(device)
    training = Training(network, batches, options, seed=seed, device=device, team=team)
    fixed = options.model_dump(mode="json", exclude={"steps"} if options.phases else set())
    facts = {"checkpoint format": _FORMAT, **(facts or {}), "fit": fixed, "seed": seed, "rows": len(batches)}
    limit = math.inf if max_minutes is None else 60.0 * max_minutes
    threads = threads_for(sum(p.numel() for p in network.parameters()), n_threads)
    with signals_wait() as signals, torch_threads(threads):
        loop = _Fit(training, Path(run), facts, limit, judge, signals, report)
        loop.warn(wanted)
        if not resume and team.leads:
            check_no_run(loop.folder, CHECKPOINT, kind, overwrite)
        loop.start(resume, begin)
        result = loop.run()
    if signals or loop.stopped:
        end_by(signals[0] if signals else signal.SIGINT)
    return result


@dataclass
class _Fit:
    """State of a training beyond its steps: history, running average, and the best weights."""

    training: Training
    folder: Path
    facts: dict[str, Any]
    limit: float  # [s]
    judge: Judge | None
    signals: list[int]
    write_line: Callable[[str], None]
    stopped: bool = False
    average: list[torch.Tensor] = field(default_factory=list)
    averaged: int = 0
    elapsed: float = 0.0
    running: float = 0.0
    since: int = 0  # steps in the sum of losses `running`
    history: list[list[float]] = field(default_factory=list)
    best: float = math.inf
    best_step: int = 0
    began: float = 0.0  # on the monotonic clock, less the time of the parts before

    def start(self, resume: bool, begin: Callable[[], None]) -> None:
        """Take the folder for a new or a resumed training."""
        saved = read_checkpoint(self.folder / CHECKPOINT) if resume else None
        if self.training.team.leads or saved:
            begin_run(self.folder, self.facts, saved["facts"] if saved else None)
        if saved:
            self.training.restore(saved)
            for name in _OF_A_FIT:
                setattr(self, name, saved[name])
            self.average = [mean.to(self.training.device) for mean in self.average]
            if (self.folder / BEST).exists():
                best = read_checkpoint(self.folder / BEST)
                self.best, self.best_step = best["score"], best["step"]
        begin()
        if not saved:
            averages = self.training.options.average_share > 0.0
            self.average = [torch.zeros_like(p) for p in self._parameters()] if averages else []
            if self.training.team.leads:
                clear_run(self.folder, (BEST, CHECKPOINT))
            self._record(math.nan)

    def warn(self, wanted: FitOptions) -> None:
        """Report the options that the device changes."""
        options, last = self.training.options, wanted.steps - 1
        if options.batch_at(last) < wanted.batch_at(last):
            most, full = options.max_batch_size, wanted.batch_at(last)
            self.report(f"without a GPU the batch stops growing at {most}; its schedule goes to {full}")
        if options.precision != wanted.precision:
            self.report(f"this processor has no instructions for {wanted.precision}: {options.precision} instead")

    def run(self) -> FitReport:
        """Train to the end, or to the step after a signal."""
        options, training = self.training.options, self.training
        self.began = time.monotonic() - self.elapsed
        share = self._share()
        while share < 1.0:
            loss, self.elapsed, stops = training.take_step(share, self._clock_and_signals)
            self.running += loss
            self.since += 1
            self._add_to_average(share)
            before, share = share, self._share()
            if share < 1.0 and int(share * options.rollouts) > int(before * options.rollouts):
                self._judge()
            if share >= 1.0:
                self._use_average()
            if training.step % options.report_every == 0 or share >= 1.0:
                mean = float(self.running) / self.since
                training.check(mean)
                self._record(mean)
                self.running, self.since = 0.0, 0
                self._save()
            if stops > 0:
                self.stopped = True
                self._save()
                self.report(f"stopped after step {training.step}; --resume goes on from here")
                return self._result(self.history[-1][2])
        self._judge()
        return self._result(self._use_best())

    def report(self, line: str) -> None:
        """Report a line, once for the team."""
        if self.training.team.leads:
            self.write_line(line)

    def _parameters(self) -> list[nn.Parameter]:
        return list(self.training.network.parameters())

    def _clock_and_signals(self) -> tuple[float, float]:
        """Elapsed time [s] of the leader and number of signals; their sums over the team are the same in all."""
        return (time.monotonic() - self.began if self.training.team.leads else 0.0), len(self.signals)

    def _result(self, loss: float) -> FitReport:
        step, judged = self.training.step, self.best_step > 0
        return FitReport(
            steps=step,
            seconds=self.elapsed,
            initial_loss=self.history[0][2],
            validation_loss=loss,
            best_step=self.best_step if judged else step,
            judgement=self.best if judged else None,
            largest_batch=self.training.options.batch_at(max(step - 1, 0)),
        )

    def _share(self) -> float:
        """Finished share of the training."""
        return max(self.training.step / self.training.options.steps, self.elapsed / self.limit)

    def _add_to_average(self, share: float) -> None:
        """Add the weights to the running average near the end; a prolonged training begins its average anew."""
        self.averaged = self.averaged + 1 if share >= 1.0 - self.training.options.average_share else 0
        if self.averaged:
            with torch.no_grad():
                for mean, parameter in zip(self.average, self._parameters(), strict=True):
                    mean += (parameter - mean) / self.averaged

    def _use_average(self) -> None:
        """Take the running average, where there is one, for the weights."""
        if self.averaged:
            with torch.no_grad():
                for mean, parameter in zip(self.average, self._parameters(), strict=True):
                    parameter.copy_(mean)

    def _judge(self) -> None:
        """Judge the weights of this step and keep them if they are the best."""
        if self.judge is None or self.training.options.rollouts == 0 or not self.training.team.leads:
            return
        score, step = self.judge(self.training.network), self.training.step
        if score <= self.best:
            self.best, self.best_step = score, step
            content = {"score": score, "step": step, "network": self.training.network.state_dict()}
            write_checkpoint(self.folder / BEST, content)
        best = "the best" if step == self.best_step else f"the best {100.0 * self.best:.3g} % at step {self.best_step}"
        self.report(f"step {step}, error of ignition delays {100.0 * score:.3g} %, {best}")

    def _use_best(self) -> float:
        """Restore the best weights; returns their validation measure."""
        if not (0 < self.best_step < self.training.step and self.training.team.leads):
            return self.history[-1][2]
        self.training.network.load_state_dict(read_checkpoint(self.folder / BEST)["network"])
        return self.training.metric()

    def _record(self, training_loss: float) -> None:
        """Add a line to the history, write and report it."""
        measured, step, options = self.training.metric(), self.training.step, self.training.options
        self.training.check(measured)
        rate = options.rate_at(step, self._share())
        self.history.append([step, training_loss, measured, rate, options.batch_at(step), self.elapsed])
        if not self.training.team.leads:
            return
        measure = self.training.batches.measure
        columns = ("step", "training_loss", measure, "learning_rate", "batch_size", "seconds")
        write_csv(self.folder / HISTORY, columns, self.history)
        share = self._share()
        loss = f"loss {training_loss:.5f}, " if step else ""
        left = f", {self.elapsed / share - self.elapsed:.0f} s left" if 0.0 < share < 1.0 else ""
        self.report(f"step {step}, {loss}{measure.replace('_', ' ')} {measured:.5f}{left}")

    def _save(self) -> None:
        self.running = float(self.running)
        if self.training.team.leads:
            content = {**self.training.state(), **{name: getattr(self, name) for name in _OF_A_FIT}}
            write_checkpoint(self.folder / CHECKPOINT, {"facts": self.facts, **content})
        self.training.saved = self.training.step


_OF_A_FIT = ("average", "averaged", "elapsed", "running", "since", "history")
