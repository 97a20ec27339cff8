"""What the trials of a comparison came to: the record of one, the table and the picture of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chemnet.reduction.routes import ROUTES
from chemnet.runtime.config import Config, parse
from chemnet.runtime.errors import UsageError
from chemnet.runtime.files import read_json
from chemnet.runtime.tables import Table

RESULTS = "comparison.json"
_SPREADS = ("validation loss", "delay error, mean [%]", "delay error, max [%]")


class Trial(Config):
    """What one training of one route came to.

    `loss_at_once` is that of the small network before its (last) training, `made_in` the seconds of making it, `steps`
    and `seconds` those of its training. Delay errors [%] are over the cases in which the network ignites, `failed` the
    number of others that should. `microseconds` per cell of the whole step; `relative_cost` to the unreduced model's in
    the same turns. Without figures the training diverged.
    """

    route: str
    seed: int
    rate: float
    modules: str
    weights: int
    steps: int
    seconds: float
    made_in: float
    loss_at_once: float | None
    loss: float | None
    delay_mean: float | None
    delay_max: float | None
    failed: int | None
    microseconds: float | None
    relative_cost: float | None


def draw_pareto(folders: Sequence[Path], path: Path) -> None:
    """Draw weights and cost against ignition-delay error of all trials of one or several comparisons (their folders).

    Raises FileError for a folder without results, UsageError where there is no trial to draw.
    """
    from chemnet.runtime import plots

    points: dict[str, list[tuple[float, ...]]] = {}
    for folder in folders:
        for entry in read_json(folder / RESULTS)["trials"]:
            trial = parse(Trial, entry, str(folder / RESULTS))
            if trial.delay_mean is not None and trial.microseconds is not None:
                figures = (trial.weights, trial.microseconds, trial.delay_mean, trial.failed or 0)
                points.setdefault(trial.route, []).append(figures)
    if not points:
        raise UsageError(f"{', '.join(map(str, folders))}: no trial with a network that ignites")
    names = ("weights", "microseconds", "error", "failed")
    columns = {route: dict(zip(names, np.array(rows, dtype=float).T, strict=True)) for route, rows in points.items()}
    plots.pareto(path, columns)


def result_table(
    routes: Sequence[str], widths: Sequence[int], trials: Mapping[str, Sequence[Trial]], full: int
) -> Table:
    """One row per route to hidden `widths`: means over its seeds, with the smallest and the largest figure.

    A route without trials lacks a package, and its row says which. `full` are the weights of the large network.
    """
    rows = []
    for name in routes:
        if name in trials:
            rows.append(_row(name, trials[name], full))
        else:
            remark = f"skipped: pip install {ROUTES[name].lacks()}"
            rows.append((name, ROUTES[name].budget, *(None for _ in _COLUMNS[3:]), remark))
    seeds = max((len(each) for each in trials.values()), default=0)
    title = f"routes to hidden widths {'-'.join(map(str, widths))}, means over the trainings with {seeds} seeds"
    return Table(title, _COLUMNS, rows)


_COLUMNS = (
    *("route", "time", "rate", "weights", "weights [%]", "steps", "seconds", "loss at once"),
    *(column for name in _SPREADS for column in (name, f"{name}, from - to")),
    *("failed cases", "cost [us]", "cost / unreduced", "remark"),
)


def _row(name: str, trials: Sequence[Trial], full: int) -> tuple[Any, ...]:
    first = trials[0]
    spreads = [_with_spread([getattr(t, key) for t in trials]) for key in ("loss", "delay_mean", "delay_max")]
    diverged = sum(trial.loss is None for trial in trials)
    return (
        *(name, ROUTES[name].budget, first.rate, first.weights, 100.0 * first.weights / full, first.steps),
        _mean([trial.made_in + trial.seconds for trial in trials]),
        _mean([trial.loss_at_once for trial in trials]),
        *(figure for pair in spreads for figure in pair),
        _mean([trial.failed for trial in trials]),
        _mean([trial.microseconds for trial in trials]),
        _mean([trial.relative_cost for trial in trials]),
        f"{diverged} of {len(trials)} diverged" if diverged else "",
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _with_spread(values: Sequence[float | None]) -> tuple[float | None, str]:
    """Mean, and smallest and largest in words."""
    known = [value for value in values if value is not None]
    return _mean(known), f"{min(known):.4g} - {max(known):.4g}" if known else "-"
