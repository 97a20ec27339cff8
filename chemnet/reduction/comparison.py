"""Comparison of methods that make a trained network small: one start, one budget, several seeds, a rate for each.

A task makes, trains and measures the network of a method; here learning rates are scanned, finished runs are kept and
tables are made. Each run leaves a folder with its training and `result.json`, which is written last; a finished run of
the same task and settings is taken as it is, so that an interrupted comparison goes on where it was.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple, Protocol

from pydantic import Field, field_validator
from torch import nn

from chemnet.runtime.config import Config, parse
from chemnet.runtime.errors import NumericalError
from chemnet.runtime.files import check_new, write_json
from chemnet.runtime.nearest import hint
from chemnet.runtime.report import Picture, write_report
from chemnet.runtime.run_folder import read_kept, sha256, write_kept
from chemnet.runtime.tables import Table

RESULTS, PAGE = "comparison.json", "comparison"
_WAY_OUT = "It is of another model, data or settings: name another folder with --out, or replace it with --overwrite."
Figure = int | float | str | None
Say = Callable[[str], None]
Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]


class ComparisonSettings(Config):
    """Settings of a comparison: `methods` by name, number of `seeds`, learning `rates` to scan with the first seed."""

    known_methods: ClassVar[Sequence[str]] = ()

    description: str = ""
    methods: tuple[str, ...] = Field(min_length=1)
    seeds: Count = 3
    rates: tuple[Positive, ...] = Field(min_length=1)

    @field_validator("methods")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in names if name not in cls.known_methods]
        if unknown:
            raise ValueError(f"no method {unknown[0]}{hint(unknown[0], cls.known_methods)}")
        if len(set(names)) < len(names):
            raise ValueError("name each method once")
        return names


@dataclass(frozen=True)
class Job:
    """One training of a method's network: to a `target`, at a learning `rate`, for a `share` of the steps."""

    method: str
    target: str
    seed: int
    rate: float
    share: float
    folder: Path


class Trained(NamedTuple):
    """A trained network, its validation `loss`, and further figures by name."""

    network: nn.Module
    loss: float
    figures: Mapping[str, Figure]


class Column(NamedTuple):
    """Column of the table: its heading, a figure of the runs times `scale`; with `spread` the range over the seeds."""

    heading: str
    figure: str
    scale: float = 1
    spread: bool = False


class Task(Protocol):
    """Task of a comparison: `origin` is the fingerprint of all that its runs share, `columns` those of its table."""

    @property
    def origin(self) -> str: ...
    @property
    def columns(self) -> Sequence[Column]: ...

    def lacks(self, method: str) -> str | None:
        """The package that has to be installed for a method, if there is one."""
        ...

    def rates(self, method: str) -> Sequence[float]:
        """Learning rates to scan."""
        ...

    def train(self, job: Job) -> Trained:
        """Make and train a network. Raises NumericalError where the training diverges."""
        ...

    def measure(self, job: Job, trained: Trained) -> Mapping[str, Figure]:
        """Figures of a trained network, which is kept in the folder of the job."""
        ...


class Run(Config):
    """Result of one run; without a `loss` its training diverged, and there are no other figures."""

    method: str
    target: str
    seed: int
    rate: float
    loss: float | None
    figures: dict[str, Figure]


class Comparison:
    """Runs of the methods of `settings` to targets, in the folder `out`.

    Rates are scanned for `scan_share` of the steps; where the best is the smallest or the largest, up to `beyond` more
    follow, half or twice as large. A single rate is taken as it is. Runs that are there and have another origin are
    replaced with `overwrite` only.
    """

    def __init__(
        self,
        task: Task,
        settings: ComparisonSettings,
        out: Path,
        *,
        scan_share: float = 1.0,
        beyond: int = 0,
        overwrite: bool = False,
        report: Say = print,
    ) -> None:
        self.task, self.settings, self.out, self.report = task, settings, out, report
        self.scan_share, self.beyond, self.overwrite = scan_share, beyond, overwrite

    def runs(self, method: str, target: str) -> list[Run]:
        """Runs of a method at its best rate, one per seed; those that are finished are taken as they are."""
        rate = self.rate(method, target)
        return [self._run(method, target, seed, rate) for seed in range(self.settings.seeds)]

    def rate(self, method: str, target: str) -> float:
        """The best learning rate. Raises NumericalError where the training diverges at all of them."""
        rates = self.task.rates(method)
        if len(rates) == 1:
            return rates[0]
        losses = self.scan(method, target)
        best = min(losses, key=lambda rate: losses[rate])
        if not math.isfinite(losses[best]):
            raise NumericalError(f"{method}: the training diverges at all of the rates\nAdd smaller ones.")
        return best

    def scan(self, method: str, target: str) -> dict[float, float]:
        """Validation loss by learning rate, infinite where the training diverged."""
        rates = self.task.rates(method)
        losses: dict[float, float] = {}
        waiting = list(rates)
        while waiting:
            rate = waiting.pop(0)
            loss = self._run(method, target, 0, rate, self.scan_share).loss
            losses[rate] = math.inf if loss is None else loss
            if not waiting and len(rates) > 1 and len(losses) < len(rates) + self.beyond:
                waiting = _beyond(losses)
        return losses

    def _run(self, method: str, target: str, seed: int, rate: float, share: float = 1.0) -> Run:
        part = "" if share == 1.0 else "scan/"
        folder = self.out / f"{part}{method}-{target}-seed{seed}-rate{rate:g}"
        job = Job(method, target, seed, rate, share, folder)
        origin = sha256(self.task.origin, [method, target, seed, rate, share])
        kept = read_kept(folder / "result.json", origin)
        if kept is not None:
            return parse(Run, kept["run"], str(folder))
        check_new(folder / "result.json", self.overwrite, _WAY_OUT)
        (folder / "result.json").unlink(missing_ok=True)
        self.report(f"{method} to {target}, seed {seed}, rate {rate:g}{' (scan)' if part else ''}")
        run = self._made(job)
        write_kept(folder / "result.json", origin, {"run": run.model_dump(mode="json")})
        self.report(f"{folder.name}: {'diverged' if run.loss is None else f'loss {run.loss:.5f}'}")
        return run

    def _made(self, job: Job) -> Run:
        loss: float | None = None
        figures: dict[str, Figure] = {}
        try:
            trained = self.task.train(job)
        except NumericalError as error:
            self.report(f"{job.folder.name}: {str(error).splitlines()[0]}")
        else:
            loss, figures = trained.loss, dict(trained.figures)
            if job.share == 1.0:
                figures |= self.task.measure(job, trained)
        return Run(method=job.method, target=job.target, seed=job.seed, rate=job.rate, loss=loss, figures=figures)

    def tables(self, targets: Sequence[str], more: Sequence[Table] = ()) -> list[Table]:
        """Run what is missing; tables of methods and of rates, and `more`.

        They are left in `comparison.json`, with the settings and all runs.
        """
        methods = self.settings.methods
        able = [method for method in methods if self.task.lacks(method) is None]
        runs = {(method, target): self.runs(method, target) for method in able for target in targets}
        rows = [self._row(method, target, runs.get((method, target))) for target in targets for method in methods]
        first = Table(f"methods, means over the runs with {self.settings.seeds} seeds", self._headings(), rows)
        tables = [first, self._rate_table([pair for pair in runs if len(self.task.rates(pair[0])) > 1]), *more]
        content = {
            "settings": self.settings.model_dump(mode="json"),
            "runs": [run.model_dump(mode="json") for each in runs.values() for run in each],
            "tables": [table.as_json() for table in tables],
        }
        write_json(self.out / RESULTS, content)
        return tables

    def write_page(self, tables: Sequence[Table], pictures: Sequence[Picture] = ()) -> None:
        """Leave the tables and pictures as `comparison.md` and `comparison.html` beside the results."""
        lead = self.settings.description or f"{len(self.settings.methods)} methods, {self.settings.seeds} seeds"
        files = write_report(self.out / PAGE, "Comparison of methods of reduction", lead, [*tables, *pictures])
        self.report(f"written: {', '.join(map(str, files))}")

    def _headings(self) -> list[str]:
        columns = [
            name
            for column in self.task.columns
            for name in ([column.heading, f"{column.heading}, from - to"] if column.spread else [column.heading])
        ]
        return ["method", "target", "rate", *columns, "remark"]

    def _row(self, method: str, target: str, runs: Sequence[Run] | None) -> tuple[Any, ...]:
        """Means over the seeds; of a method that lacks a package only its name."""
        if runs is None:
            nothing = (None for _ in self._headings()[3:])
            return (method, target, *nothing, f"skipped: pip install {self.task.lacks(method)}")
        cells: list[Any] = []
        for column in self.task.columns:
            values = [run.loss if column.figure == "loss" else run.figures.get(column.figure) for run in runs]
            cells += _cells(column, [value for value in values if value is not None])
        diverged = sum(run.loss is None for run in runs)
        return method, target, runs[0].rate, *cells, f"{diverged} of {len(runs)} diverged" if diverged else ""

    def _rate_table(self, pairs: Sequence[tuple[str, str]]) -> Table:
        """Validation losses of the scans, one row per scan."""
        scans = {pair: self.scan(*pair) for pair in pairs}
        rates = sorted({rate for losses in scans.values() for rate in losses})
        rows = []
        for (method, target), losses in scans.items():
            best = self.rate(method, target)
            edge = "at the end of the range" if best in (min(losses), max(losses)) else ""
            rows.append((method, target, best, *(losses.get(rate) for rate in rates), edge))
        columns = ("method", "target", "best", *(f"{rate:g}" for rate in rates), "remark")
        return Table("validation losses of the scanned learning rates", columns, rows)


def _cells(column: Column, values: Sequence[Any]) -> list[Any]:
    """Mean of a column, or what is alike for all seeds, text included; and the range in words where that is wanted."""
    scaled = values if column.scale == 1 else [column.scale * value for value in values]
    mean = scaled[0] if len(set(scaled)) == 1 else sum(scaled) / len(scaled) if scaled else None
    if not column.spread:
        return [mean]
    return [mean, (min(scaled), max(scaled)) if scaled else None]


def _beyond(losses: Mapping[float, float]) -> list[float]:
    """The rate to try next: half of the smallest or twice the largest, where that is the best."""
    best = min(losses, key=lambda rate: losses[rate])
    return [0.5 * best] if best == min(losses) else [2.0 * best] if best == max(losses) else []
