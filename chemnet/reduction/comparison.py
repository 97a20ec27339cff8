"""The honest comparison: several routes to a small network from the same start, with the same data, several seeds.

Every route has the same optimiser and a learning rate of its own, the best of a short scan. Each trial leaves a folder
`<route>-seed<k>` with its model, its `loss.csv` and `result.json`, which is written last; a finished trial of the same
weights, data and settings is taken as it is. Networks are those of the end of the training, none is picked by its
roll-outs, and all of them are judged alike: validation loss, ignitions, weights, measured cost.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import importlib.util
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, field_validator
from torch import nn

from chemnet.benchmark.model import FlameCells, flame_cells
from chemnet.benchmark.timing import Timing, machine_table, take_turns
from chemnet.gas.state import Array
from chemnet.reduction.baselines import BASELINES
from chemnet.reduction.results import RESULTS, Trial, draw_pareto, result_table
from chemnet.reduction.routes import ROUTES, USUAL, Clock, Large, Part, Route, plan, start_of, taught
from chemnet.reduction.run import find_data, find_original, learning_set_for
from chemnet.runtime.config import Config, parse, read_yaml, shipped_yaml
from chemnet.runtime.errors import FileError, NumericalError, UsageError
from chemnet.runtime.files import read_json, write_json
from chemnet.runtime.tables import Table
from chemnet.surrogate.model import Surrogate
from chemnet.surrogate.network import count, describe
from chemnet.training.loop import FitOptions, TrainingData, choose_device, fit, validation_loss, write_checkpoint
from chemnet.training.run import TrainConfig
from chemnet.validation import QUICK, IgnitionCases, validate_ignition
from chemnet.validation.metrics import largest, mean

_MOST_BEYOND = 3  # rates that are tried beyond those given
_RESULT, _TRIAL = "result.json", "trial.json"
_NOT_IN_A_TRIAL = {"description", "routes", "seeds"}  # settings that change which trials there are, not what they give

Say = Callable[[str], None]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Comparison(Config):
    """What is compared: `routes` to a network of these hidden `widths`, over `seeds` trainings each.

    * `fit`: how every network is trained; its `steps` are those of a reduced one, its learning rate is the scan's.
    * `rates` are tried with the first seed for `scan_steps` steps, or where a route trains longer for the same share of
      its steps, since a longer training wants a smaller rate; where the best is the smallest or the largest, up to
      three half or twice as large follow. A single rate is taken as it is.
    * `large_steps`, `large_seconds`: what the training of the large network took, where its file does not tell or was
      trained on another machine.
    * `cases` are the ignitions, `flame` the cells for the cost of a step, `cells` of them, in `turns` turns.
    """

    description: str = ""
    routes: tuple[str, ...] = Field(USUAL, min_length=1)
    widths: tuple[Count, ...] = Field(min_length=1)
    seeds: Count = 3
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

    @field_validator("routes")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in names if name not in ROUTES]
        if unknown:
            raise ValueError(f"no route {unknown[0]}; there are {', '.join(ROUTES)}")
        if len(set(names)) < len(names):
            raise ValueError("name each route once")
        return names

    @field_validator("fit")
    @classmethod
    def _equal_steps(cls, options: FitOptions) -> FitOptions:
        if options.batch_growth > 1.0:
            raise ValueError("steps are compared by time, so all batches must be of one size: batch_growth 1")
        return options


def read_comparison(name: str | Path) -> Comparison:
    """The settings of that name that ship, or of a YAML file. Raises FileError, UsageError."""
    path = shipped_yaml(name, "comparison", Path(__file__).parent)
    return parse(Comparison, read_yaml(path), str(path))


def compare_routes(
    name: str | Path,
    model: str | Path | None = None,
    config: TrainConfig | None = None,
    *,
    data: Path | None = None,
    out: Path | None = None,
    device: str = "auto",
    report: Say = print,
) -> list[Table]:
    """As `compare`, for settings that ship or of a YAML file and a model that is found as `reduction.reduce` finds it.

    All is left in `out`, by default in `runs/<config>/comparison`. Raises what both raise.
    """
    settings = read_comparison(name)
    original, config = find_original(model, config)
    learning = learning_set_for(original, find_data(original, config, data, report))
    out = out or Path("runs") / config.name / "comparison"
    cache = Path("runs") / "references"
    return compare(original, learning.tensors, settings, out, device=device, cache=cache, report=report)


def compare(
    original: Surrogate,
    data: TrainingData,
    settings: Comparison,
    out: Path,
    *,
    device: str = "auto",
    cache: Path | None = None,
    report: Say = print,
) -> list[Table]:
    """Run what is missing of a comparison; its tables, which are left in `out/comparison.json` with all trials.

    `original` is the trained large model, `data` what it was trained on, seen through its transform; `cache` is where
    the references of the ignitions are kept. Where matplotlib is installed `out/pareto.png` is drawn.
    Raises UsageError for settings that do not fit the model or the data, and what training and judging raise.
    """
    contest = _Contest(original, data, settings, out, choose_device(device), cache, report)
    trials = {name: contest.run(name) for name in settings.routes if ROUTES[name].lacks() is None}
    tables = [
        result_table(settings.routes, settings.widths, trials, count(original.network, biases=False)),
        contest.budget_table(),
        contest.rate_table(),
        machine_table(),
    ]
    content = {
        "settings": settings.model_dump(mode="json"),
        "trials": [trial.model_dump(mode="json") for each in trials.values() for trial in each],
        "tables": [table.as_json() for table in tables],
    }
    write_json(out / RESULTS, content)
    ignite = any(trial.delay_mean is not None for each in trials.values() for trial in each)
    if ignite and importlib.util.find_spec("matplotlib"):
        draw_pareto([out], out / "pareto.png")
    return tables


class _Contest:
    """One comparison: what all of its trials share, and where they are kept."""

    def __init__(
        self,
        original: Surrogate,
        data: TrainingData,
        settings: Comparison,
        out: Path,
        device: str,
        cache: Path | None,
        report: Say,
    ) -> None:
        widths = describe(original.network).widths[1:-1]
        if len(settings.widths) != len(widths) or any(a > b for a, b in zip(settings.widths, widths, strict=True)):
            raise UsageError(f"hidden widths {list(settings.widths)} do not fit into a network of {list(widths)}")
        self.original, self.settings, self.out, self.device, self.say = original, settings, out, device, report
        self.data = data.to(device)
        if len(self.data.x) <= settings.fit.batch_size:
            raise UsageError(f"{len(self.data.x)} rows for batches of {settings.fit.batch_size}: take smaller batches")
        self._taught = (0.0, self.data)
        self.cache = cache or out / "references"
        self.large = Large(original.network, *self._training_of_the_large())
        self.origin = self._hash()
        self.clock = Clock(out / "clock.json", self.origin, self.large, self.data, settings.fit.on(device))

    def run(self, name: str) -> list[Trial]:
        """All trials of a route; those that are finished are taken as they are."""
        return [self._trial(name, seed) for seed in range(self.settings.seeds)]

    def _trial(self, name: str, seed: int) -> Trial:
        folder, route = self.out / f"{name}-seed{seed}", ROUTES[name]
        origin = _digest(self.origin, name, route.description(), seed)
        kept = _kept(folder / _RESULT, origin)
        if kept is not None:
            self.say(f"{name}, seed {seed}: taken from {folder}")
            return parse(Trial, kept["trial"], str(folder))
        (folder / _RESULT).unlink(missing_ok=True)
        rate = self._rate(route)
        parts = self._plan(route)
        job = {"origin": origin, "rate": rate, "parts": [[list(part.widths), part.steps] for part in parts]}
        resume = len(parts) == 1 and _kept(folder / _TRIAL, origin) == job and (folder / "last.pt").is_file()
        write_json(folder / _TRIAL, job)
        self.say(f"{name}, seed {seed}: rate {rate:g}, {' + '.join(str(part.steps) for part in parts)} steps")
        trained = self._train(route, parts, rate, seed, folder, resume)
        trial = self._judge(name, seed, rate, parts, trained, folder)
        write_json(folder / _RESULT, {"origin": origin, "trial": trial.model_dump(mode="json")})
        return trial

    def _plan(self, route: Route) -> list[Part]:
        settings = self.settings
        return plan(route, settings.widths, settings.fit.steps, self.large, self.clock, self._calibration(0))

    def _train(
        self, route: Route, parts: Sequence[Part], rate: float, seed: int, folder: Path, resume: bool = False
    ) -> _Trained:
        """Go a route: make and train one network after the other; the last one is trained in `folder` itself.

        With `resume` its training goes on from the checkpoint there.
        """
        calibration, data = self._calibration(seed), self._labels(route.teacher)
        network, result = start_of(route, self.large, seed), _Trained()
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            if number > 0 or route.fresh is None:
                start = time.perf_counter()
                network = BASELINES[route.rival](network.cpu(), part.widths, calibration, seed)
                result.made_in += time.perf_counter() - start
            result.network = network = network.to(self.device)
            result.loss_at_once = validation_loss(network, self.data, self.settings.fit.loss)
            changes: dict[str, object] = {"steps": part.steps, "learning_rate": rate}
            if not last:  # a constant rate until the network has its last widths
                changes |= {"schedule": "steps", "decay": 1.0, "average_share": 0.0}
            options = self.settings.fit.model_copy(update=changes)
            where = folder if last else folder / f"part-{number + 1}"
            try:
                done = fit(network, data, options, where, seed=seed, resume=resume, device=self.device, report=_silent)
            except NumericalError as error:
                self.say(f"{folder.name}: {str(error).splitlines()[0]}")
                return result
            result.seconds += done.seconds
        result.network, result.loss = network.cpu(), done.validation_loss
        return result

    def _rate(self, route: Route) -> float:
        """The best learning rate of a short scan, which is kept in `rates/<tuning>.json`."""
        losses = self._scan(route)
        best = min(losses, key=lambda rate: losses[rate])
        if not math.isfinite(losses[best]):
            raise NumericalError(f"{route.tuning}: the training diverges at all of the rates\nAdd smaller ones.")
        return best

    def _scan(self, route: Route) -> dict[float, float]:
        """Validation loss by learning rate; infinite where the training diverged."""
        settings = self.settings
        path = self.out / "rates" / f"{route.tuning}.json"
        origin = _digest(self.origin, route.tuning)
        kept = _kept(path, origin)
        if kept is None:
            share = settings.scan_steps / settings.fit.steps
            parts = [Part(part.widths, max(1, round(share * part.steps))) for part in self._plan(route)]
            found: dict[float, float] = {}
            waiting = list(settings.rates)
            while waiting:
                rate = waiting.pop(0)
                loss = self._train(route, parts, rate, 0, path.parent / route.tuning / f"{rate:g}").loss
                self.say(f"{route.tuning}: rate {rate:g}, {'diverged' if loss is None else f'loss {loss:.5f}'}")
                found[rate] = math.inf if loss is None else loss
                waiting = waiting or _beyond(found, len(settings.rates))
            kept = {"origin": origin, "losses": [[rate, _finite(loss)] for rate, loss in found.items()]}
            write_json(path, kept)
        return {rate: math.inf if loss is None else loss for rate, loss in kept["losses"]}

    def _judge(
        self, name: str, seed: int, rate: float, parts: Sequence[Part], trained: _Trained, folder: Path
    ) -> Trial:
        """Save a trained network as a model and measure it."""
        network = trained.network
        facts: dict[str, Any] = {
            "route": name,
            "seed": seed,
            "rate": rate,
            "modules": _modules(network),
            "weights": count(network, biases=False),
            "steps": sum(part.steps for part in parts),
            "seconds": trained.seconds,
            "made_in": trained.made_in,
            "loss_at_once": _finite(trained.loss_at_once),
            "loss": trained.loss,
        }
        if trained.loss is None:
            return Trial(**facts, delay_mean=None, delay_max=None, failed=None, microseconds=None, relative_cost=None)
        model = self.original.with_network(network, comparison=facts)
        _save(model, folder)
        found = validate_ignition(model, model.dt, self.settings.cases, _silent, self.cache)
        errors = 100.0 * found.delay_error
        timing = self._cost(model)
        trial = Trial(
            **facts,
            delay_mean=mean(errors),
            delay_max=largest(errors),
            failed=int(found.failed.sum()),
            microseconds=1e6 * timing.per_cell("route")[0],
            relative_cost=timing.ratio("route", "unreduced"),
        )
        self.say(f"{name}, seed {seed}: loss {trained.loss:.5f}, delay error {_percent(trial.delay_mean)}")
        return trial

    def _cost(self, model: Surrogate) -> Timing:
        with _one_thread():
            return take_turns({"unreduced": self.original, "route": model}, self._cells, model.dt, self.settings.turns)

    @functools.cached_property
    def _cells(self) -> Array:
        """Cells of a flame front, mostly reacting."""
        settings = self.settings
        return flame_cells(self.original.mechanism, settings.flame, settings.cells)["flame front"]

    def _calibration(self, seed: int) -> torch.Tensor:
        """Training inputs drawn at random, the same for the same seed."""
        x = self.data.x
        chosen = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
        return x[chosen[: self.settings.calibration_states].to(x.device)].cpu()

    def _labels(self, share: float) -> TrainingData:
        """The data with so large a share of the large network's answers; the last ones asked for are kept."""
        if self._taught[0] != share:
            teacher = copy.deepcopy(self.large.network).to(self.device)
            self._taught = (share, taught(self.data, teacher, share))
        return self._taught[1]

    def _training_of_the_large(self) -> tuple[int, float]:
        """Steps and seconds of the large network's training; zeros where no route needs them."""
        budgets = {ROUTES[name].budget for name in self.settings.routes}
        told = self.original.metadata
        steps = self.settings.large_steps or told.get("steps")
        seconds = self.settings.large_seconds or told.get("seconds")
        if (steps is None and "all steps" in budgets) or (seconds is None and "all time" in budgets):
            raise UsageError("the model does not tell how long it was trained; give large_steps and large_seconds")
        return int(steps or 0), float(seconds or 0.0)

    def _hash(self) -> str:
        """SHA-256 of what all trials are made from."""
        plain = self.settings.model_dump(mode="json", exclude=_NOT_IN_A_TRIAL)
        tensors = (self.data.x_val, self.data.y_val, *self.original.network.state_dict().values())
        digest = hashlib.sha256(_digest(plain, len(self.data.x), self.large.steps, self.large.seconds).encode())
        for tensor in tensors:
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def budget_table(self) -> Table:
        """The times that are compared, as steps and seconds of a network of the final widths."""
        settings, large = self.settings, self.large
        pace = self.clock.step(settings.widths)
        names = {route.budget: name for name, route in ROUTES.items() if name in settings.routes and not route.cuts}
        rows: list[tuple[Any, ...]] = [("training of the large network", large.steps, large.seconds)]
        for budget, name in names.items():
            (part,) = self._plan(ROUTES[name])
            rows.append((budget, part.steps, part.steps * pace))
        rows.append(("a reduction with refit", None, self.clock.reduction(settings.widths, self._calibration(0))))
        title = f"times, where a step of the small network takes {1e3 * pace:.3g} ms here"
        return Table(title, ("time", "steps", "seconds"), rows)

    def rate_table(self) -> Table:
        """Validation losses of the scans, one row per scan."""
        settings = self.settings
        routes = {ROUTES[n].tuning: ROUTES[n] for n in settings.routes if ROUTES[n].lacks() is None}
        scans = {tuning: self._scan(route) for tuning, route in routes.items()}
        rates = sorted({rate for losses in scans.values() for rate in losses})
        rows = []
        for tuning, losses in scans.items():
            best = self._rate(routes[tuning])
            edge = "at the end of the range" if best in (min(losses), max(losses)) else ""
            rows.append((tuning, best, *(losses.get(rate) for rate in rates), edge))
        columns = ("scan", "best", *(f"{rate:g}" for rate in rates), "remark")
        return Table("validation losses of the scanned learning rates", columns, rows)


class _Trained:
    """What a route's training left; `loss` is None where it diverged."""

    def __init__(self) -> None:
        self.network: nn.Sequential = nn.Sequential()
        self.seconds = self.made_in = 0.0
        self.loss_at_once = math.nan
        self.loss: float | None = None


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _save(model: Surrogate, folder: Path) -> None:
    """A model file, or for a network in factors, which no model file describes, a checkpoint of its weights."""
    if any(isinstance(module, nn.Identity) for module in model.network):
        write_checkpoint(folder / "network.pt", {"network": model.network.state_dict()})
    else:
        model.save(folder / "model.safetensors")


def _modules(network: nn.Sequential) -> str:
    """Widths of a network in words; `x` stands before the inner width of two factors."""
    text = str(network[0].in_features)
    for place, module in enumerate(network):
        if isinstance(module, nn.Linear):
            inner = place + 1 < len(network) and isinstance(network[place + 1], nn.Identity)
            text += f"{'x' if inner else '-'}{module.out_features}"
    return text


def _beyond(losses: Mapping[float, float], given: int) -> list[float]:
    """The rate to try next: half of the smallest or twice the largest, where that is the best; `given` came first."""
    if given == 1 or len(losses) >= given + _MOST_BEYOND:
        return []
    best = min(losses, key=lambda rate: losses[rate])
    return [0.5 * best] if best == min(losses) else [2.0 * best] if best == max(losses) else []


def _kept(path: Path, origin: str) -> dict[str, Any] | None:
    """What a file holds, if it was made from the same."""
    try:
        content = read_json(path)
        return dict(content) if content["origin"] == origin else None
    except (FileError, KeyError, TypeError):
        return None


def _digest(*content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _silent(line: str) -> None:
    """For what reports on its own: a line per trial is enough."""


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _percent(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g} %"
