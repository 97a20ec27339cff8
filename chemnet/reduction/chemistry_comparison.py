"""Comparison of methods that make a trained chemistry network small: loss, ignition delays, cost of a step."""

from __future__ import annotations

import copy
import functools
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import nn

from chemnet.benchmark.model import FlameCells, flame_cells
from chemnet.benchmark.timing import Timing, machine_table, take_turns
from chemnet.gas.state import Array
from chemnet.reduction.baselines import BASELINES
from chemnet.reduction.comparison import (
    RESULTS,
    Column,
    Comparison,
    ComparisonSettings,
    Count,
    Figure,
    Job,
    Positive,
    Run,
    Say,
    Trained,
)
from chemnet.reduction.methods import METHODS, USUAL, Clock, Large, Part, plan, start_of, taught
from chemnet.reduction.run import find_data, find_original
from chemnet.reduction.stage_run import calibration
from chemnet.reduction.torch_pruning import lacks
from chemnet.runtime.config import parse, read_yaml, shipped_yaml
from chemnet.runtime.errors import UsageError
from chemnet.runtime.files import read_json
from chemnet.runtime.lazy import installed
from chemnet.runtime.report import Picture
from chemnet.runtime.run_folder import read_kept, sha256, write_kept
from chemnet.runtime.tables import Table
from chemnet.runtime.threads import threads_for
from chemnet.runtime.torch_threads import torch_threads
from chemnet.surrogate.hybrid import HybridStep
from chemnet.surrogate.model import Surrogate
from chemnet.surrogate.network import count, describe
from chemnet.training.batches import TrainingData, validation_loss
from chemnet.training.checkpoint import write_checkpoint
from chemnet.training.loop import fit
from chemnet.training.options import FitOptions, choose_device
from chemnet.training.tensors import learning_set_for
from chemnet.validation import QUICK, IgnitionCases, validate_ignition
from chemnet.validation.metrics import largest, mean

_BEYOND = 3  # rates that are tried beyond those given
_ABOUT_RUNS = {"description", "methods", "seeds", "rates"}  # decide which runs there are, not their results


class ChemistrySettings(ComparisonSettings):
    """Settings of a comparison of methods that lead to hidden `widths`.

    * `fit`: how every network is trained; its `steps` are those of a reduced one, its learning rate is the scan's.
    * rates are scanned for `scan_steps` steps, or where a method trains longer for the same share of its steps, since a
      longer training wants a smaller rate; where the best is the smallest or the largest, up to three half or twice as
      large follow.
    * `large_steps`, `large_seconds`: the training of the large network, where its file does not give them or it was
      trained on another machine.
    * `cases` are the ignitions, `flame` the cells for the cost of a step, `cells` of them, in `turns` turns.
    """

    known_methods: ClassVar[Sequence[str]] = tuple(METHODS)

    methods: tuple[str, ...] = Field(USUAL, min_length=1)
    widths: tuple[Count, ...] = Field(min_length=1)
    fit: FitOptions
    rates: tuple[Positive, ...] = Field((1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2), min_length=1)
    scan_steps: Count = 500
    calibration_states: Count = 8192
    large_steps: Count | None = None
    large_seconds: Positive | None = None
    cases: IgnitionCases = QUICK
    flame: FlameCells = FlameCells()
    cells: Count = 1000
    turns: Count = 7

    @field_validator("fit")
    @classmethod
    def _equal_steps(cls, options: FitOptions) -> FitOptions:
        if options.batch_growth > 1.0:
            raise ValueError("steps are compared by time, so all batches must be of one size: batch_growth 1")
        return options


def read_settings(name: str | Path) -> ChemistrySettings:
    """Settings of a name that ships, or of a YAML file. Raises FileError, UsageError."""
    path = shipped_yaml(name, "comparison", Path(__file__).parent / "comparisons")
    return parse(ChemistrySettings, read_yaml(path), str(path))


def compare_methods(
    name: str | Path,
    model: str | Path | None = None,
    *,
    config: str | Path | None = None,
    data: Path | None = None,
    out: Path | None = None,
    device: str = "auto",
    overwrite: bool = False,
    report: Say = print,
) -> list[Table]:
    """Tables of `compare`, for settings that ship or of a YAML file and a model found as `reduction.run.reduce` does.

    All is left in `out`, by default in `runs/<config>/comparison`. Raises what `compare` and `reduce` raise.
    """
    settings = read_settings(name)
    original, settled = find_original(model, config)
    learning = learning_set_for(original, find_data(original, settled, data, report))
    out = out or Path("runs") / settled.name / "comparison"
    cache = Path("runs") / "references"
    how: dict[str, Any] = {"device": device, "cache": cache, "overwrite": overwrite, "report": report}
    with torch_threads(threads_for(count(original.network, biases=True))):
        return compare(original, learning.tensors, settings, out, **how)


def compare(
    original: Surrogate,
    data: TrainingData,
    settings: ChemistrySettings,
    out: Path,
    *,
    device: str = "auto",
    cache: Path | None = None,
    overwrite: bool = False,
    report: Say = print,
) -> list[Table]:
    """Tables of a comparison, which are left in `out/comparison.json` with all runs; what is missing is run.

    `original` is the trained large model, `data` its training data, seen through its transform; `cache` is where the
    references of the ignitions are kept. Where matplotlib is installed `out/pareto.png` is drawn.
    `out/comparison.html` and `.md` are the page of all of it.
    Raises UsageError for settings that do not fit the model or the data, and what training and validation raise.
    """
    task = ChemistryTask(original, data, settings, out, choose_device(device), cache)
    share = settings.scan_steps / settings.fit.steps
    how = {"scan_share": share, "beyond": _BEYOND, "overwrite": overwrite, "report": report}
    comparison = Comparison(task, settings, out, **how)  # type: ignore[arg-type]
    target = "-".join(map(str, settings.widths))
    tables = comparison.tables([target], [task.budget_table(), machine_table()])
    pictures = []
    if installed("matplotlib") and _points([out]):
        draw_pareto([out], out / "pareto.png")
        pictures.append(Picture(out / "pareto.png", "Errors of the ignition delays over weights and over the cost"))
    comparison.write_page(tables, pictures)
    return tables


class ChemistryTask:
    """Task of a comparison of chemistry networks, shared by all of its runs."""

    def __init__(
        self,
        original: Surrogate,
        data: TrainingData,
        settings: ChemistrySettings,
        out: Path,
        device: str,
        cache: Path | None,
    ) -> None:
        widths = describe(original.network).widths[1:-1]
        if len(settings.widths) != len(widths) or any(a > b for a, b in zip(settings.widths, widths, strict=True)):
            raise UsageError(f"hidden widths {list(settings.widths)} do not fit into a network of {list(widths)}")
        if len(data.x) <= settings.fit.batch_size:
            raise UsageError(f"{len(data.x)} rows for batches of {settings.fit.batch_size}: take smaller batches")
        self.original, self.settings, self.device = original, settings, device
        self.data, self.cache = data.to(device), cache or out / "references"
        self.large = Large(original.network, *self._training_of_the_large())
        plain = settings.model_dump(mode="json", exclude=_ABOUT_RUNS)
        weights = original.network.state_dict().values()
        facts = [plain, len(data.x), self.large.steps, self.large.seconds]
        self.origin = sha256(facts, data.x_val, data.y_val, *weights)
        self.clock = Clock(out / "clock.json", self.origin, self.large, self.data, settings.fit.on(device))

    @functools.cached_property
    def columns(self) -> tuple[Column, ...]:
        """Columns of the table."""
        full = count(self.original.network, biases=False)
        return (
            Column("time", "time"),
            Column("weights", "weights"),
            Column("weights [%]", "weights", 100.0 / full),
            Column("steps", "steps"),
            Column("seconds", "seconds"),
            Column("loss at once", "loss_at_once"),
            Column("validation loss", "loss", spread=True),
            Column("delay error, mean [%]", "delay_mean", spread=True),
            Column("delay error, max [%]", "delay_max", spread=True),
            Column("failed cases", "failed"),
            Column("cost [us]", "microseconds"),
            Column("cost / unreduced", "relative_cost"),
        )

    def lacks(self, method: str) -> str | None:
        """The package that has to be installed for a method, if there is one."""
        return lacks(METHODS[method].baseline)

    def rates(self, method: str) -> Sequence[float]:
        """Learning rates to scan."""
        return self.settings.rates

    def train(self, job: Job) -> Trained:
        """The network of a method, made and trained part by part; the last part is trained in the job's folder."""
        method, seed = METHODS[job.method], job.seed
        parts = self._plan(job.method, job.share)
        states, data = self._calibration(seed), self._labels(method.teacher)
        network, seconds = start_of(method, self.large, seed), 0.0
        resume = self._resumes(job, parts)
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            if number > 0 or method.fresh is None:
                start = time.perf_counter()
                network = BASELINES[method.baseline](network.cpu(), part.widths, states, seed)
                seconds += time.perf_counter() - start
            network = network.to(self.device)
            at_once = validation_loss(network, self.data, self.settings.fit.loss)
            changes: dict[str, object] = {"steps": part.steps, "learning_rate": job.rate}
            if not last:  # a constant rate until the network has its last widths
                changes |= {"schedule": "steps", "decay": 1.0, "average_share": 0.0}
            options = self.settings.fit.model_copy(update=changes)
            where = job.folder if last else job.folder / f"part-{number + 1}"
            how: dict[str, Any] = {"seed": seed, "device": self.device, "report": _silent}
            done = fit(network, data, options, where, resume=resume, overwrite=True, **how)
            seconds += done.seconds
        figures: dict[str, Figure] = {
            "time": method.budget,
            "weights": count(network, biases=False),
            "steps": sum(part.steps for part in parts),
            "seconds": seconds,
            "loss_at_once": at_once if math.isfinite(at_once) else None,
        }
        return Trained(network.cpu(), done.validation_loss, figures)

    def _resumes(self, job: Job, parts: Sequence[Part]) -> bool:
        """Whether a training of one part goes on from its checkpoint; writes the origin of the training."""
        path = job.folder / "begun.json"
        origin = sha256(self.origin, [job.method, job.seed, job.rate, [[list(p.widths), p.steps] for p in parts]])
        resume = len(parts) == 1 and read_kept(path, origin) is not None and (job.folder / "last.pt").is_file()
        write_kept(path, origin, {})
        return resume

    def _plan(self, method: str, share: float = 1.0) -> list[Part]:
        widths, steps, states = self.settings.widths, self.settings.fit.steps, self._calibration(0)
        parts = plan(METHODS[method], widths, steps, self.large, self.clock, states)
        return [Part(part.widths, max(1, round(share * part.steps))) for part in parts]

    def measure(self, job: Job, trained: Trained) -> Mapping[str, Figure]:
        """Delay errors [%] of the cases that ignite, failed cases, and cost per cell [us], also to the unreduced."""
        facts = {"method": job.method, "seed": job.seed, "rate": job.rate, "loss": trained.loss, **trained.figures}
        model = self.original.with_network(trained.network, comparison=facts)
        _save(model, job.folder)
        step = HybridStep(model, outside="error")
        found = validate_ignition(step, step.dt, self.settings.cases, _silent, self.cache)
        errors = 100.0 * found.delay_error
        timing = self._cost(step)
        return {
            "delay_mean": mean(errors),
            "delay_max": largest(errors),
            "failed": int(found.failed.sum()),
            "microseconds": 1e6 * timing.per_cell("model")[0],
            "relative_cost": timing.ratio("model", "unreduced"),
        }

    def _cost(self, step: HybridStep) -> Timing:
        steps = {"unreduced": HybridStep(self.original, outside="error"), "model": step}
        with torch_threads(1):
            return take_turns(steps, self._cells, step.dt, self.settings.turns)

    @functools.cached_property
    def _cells(self) -> Array:
        """Cells of a flame front, mostly reacting."""
        settings = self.settings
        return flame_cells(self.original.mechanism, settings.flame, settings.cells)["flame front"]

    def _calibration(self, seed: int) -> torch.Tensor:
        """Calibration inputs on the CPU, the same for the same seed."""
        return calibration(self.data, self.settings.calibration_states, seed).cpu()

    @functools.lru_cache(maxsize=1)  # noqa: B019 (a task lives as long as its comparison)
    def _labels(self, share: float) -> TrainingData:
        """The data with this share of the large network's answers in the labels."""
        return taught(self.data, copy.deepcopy(self.large.network).to(self.device), share)

    def _training_of_the_large(self) -> tuple[int, float]:
        """Steps and seconds of the large network's training; zeros where no method needs them."""
        budgets = {METHODS[name].budget for name in self.settings.methods}
        known = self.original.metadata
        steps = self.settings.large_steps or known.get("steps")
        seconds = self.settings.large_seconds or known.get("seconds")
        if (steps is None and "all steps" in budgets) or (seconds is None and "all time" in budgets):
            raise UsageError("the model file has no steps and seconds of its training: give large_steps, large_seconds")
        return int(steps or 0), float(seconds or 0.0)

    def budget_table(self) -> Table:
        """The times that are compared, as steps and seconds of a network of the final widths."""
        settings, large = self.settings, self.large
        pace = self.clock.step(settings.widths)
        names = {METHODS[name].budget: name for name in settings.methods if not METHODS[name].cuts}
        rows: list[tuple[Any, ...]] = [("training of the large network", large.steps, large.seconds)]
        for budget, name in names.items():
            (part,) = self._plan(name)
            rows.append((budget, part.steps, part.steps * pace))
        rows.append(("a reduction with refit", None, self.clock.reduction(settings.widths, self._calibration(0))))
        title = f"times, where a step of the small network takes {1e3 * pace:.3g} ms here"
        return Table(title, ("time", "steps", "seconds"), rows)


def draw_pareto(folders: Sequence[Path], path: Path) -> None:
    """Draw weights and cost against ignition-delay error of all runs of one or several comparisons (their folders).

    Raises FileError for a folder without results, UsageError where there is no run to draw.
    """
    from chemnet.runtime import plots

    points = _points(folders)
    if not points:
        raise UsageError(f"{', '.join(map(str, folders))}: no run with a network that ignites")
    plots.pareto(path, points)


def _points(folders: Sequence[Path]) -> dict[str, dict[str, Array]]:
    """Figures of the runs that ignite, by method."""
    rows: dict[str, list[Mapping[str, Figure]]] = {}
    for folder in folders:
        for entry in read_json(folder / RESULTS)["runs"]:
            run = parse(Run, entry, str(folder / RESULTS))
            if run.figures.get("delay_mean") is not None:
                rows.setdefault(run.method, []).append(run.figures)
    names = {"weights": "weights", "microseconds": "microseconds", "error": "delay_mean", "failed": "failed"}
    return {
        method: {name: np.array([run[key] for run in runs], dtype=float) for name, key in names.items()}
        for method, runs in rows.items()
    }


def _save(model: Surrogate, folder: Path) -> None:
    """A model file, or for a network in factors, which no model file describes, a checkpoint of its weights."""
    if any(isinstance(module, nn.Identity) for module in model.network):
        write_checkpoint(folder / "network.pt", {"network": model.network.state_dict()})
    else:
        model.save(folder / "model.safetensors")


def _silent(line: str) -> None:
    """Report of the parts of a run, which is left out."""
