"""The verdict on a model: passed, passed with limits, or use the exact step; from the figures of its checks alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from chemnet.gas.status import Status
from chemnet.runtime.tables import Table

Word = Literal["passed", "passed with limits", "use the exact step"]
PASSED: Word = "passed"
LIMITED: Word = "passed with limits"
EXACT: Word = "use the exact step"

MEAN_DELAY, MAX_DELAY = 0.5, 2.0  # [%]
END_T, FLAME_SPEED = 5.0, 1.0  # [K], [%]
FLOW = {"runs that fail": 0.0, "run, worst box: T, relative L2 [%]": 0.5, "run, worst box: burnt area [%]": 0.5}
GAIN = 1.0  # times the cost of the exact step in a flame front; a model that is dearer is of no use
_LOST = 50.0  # [%] error of a delay; no step can tell that its gas began outside a limit, so this is none
_LEAST_LEFT = 0.4  # of the cases; limits that leave less are no use
_SPEED = "flame speed error"
_CELLS = {"flame front": "a cell of a flame front", "ignition": "a cell of an ignition"}  # of the check `cost`
_AXES = {"T0": ("T0", "K", 1.0), "phi": ("phi", "", 1.0), "P": ("P", "atm", 1.0)}

Figures = Mapping[str, Mapping[str, "float | None"]]  # by check and name


@dataclass(frozen=True)
class Target:
    """A figure beside its target, which it must not exceed (`lower`: not fall below); None where there is none."""

    check: str
    name: str
    value: float | None
    target: float
    lower: bool = False

    @property
    def met(self) -> bool:
        """Whether the target is met."""
        if self.value is None:
            return False
        return self.value >= self.target if self.lower else self.value <= self.target


@dataclass(frozen=True)
class Verdict:
    """The verdict, the ranges or uses that it is limited to, what it says about costs, and the figures behind it."""

    word: Word
    limits: Sequence[str]
    reasons: Sequence[str]
    targets: Sequence[Target] = field(default_factory=tuple)

    def line(self) -> str:
        """The verdict in one line."""
        text = f"{self.word}: {'; '.join(self.limits)}" if self.limits else self.word
        return "; ".join([text, *self.reasons])

    def table(self) -> Table:
        """The targets."""
        rows = [
            (t.check, t.name, t.value, f">= {t.target:g}" if t.lower else t.target, "yes" if t.met else "no")
            for t in self.targets
        ]
        return Table(f"verdict: {self.line()}", ("check", "figure", "value", "target", "met"), rows)


def judge(
    figures: Figures,
    cases: Mapping[str, NDArray[Any]],
    missing: Mapping[str, str] | None = None,
    summary: Sequence[Mapping[str, Any]] = (),
) -> Verdict:
    """The verdict on the figures of the checks that were made.

    `cases` are the ignitions as of `columns_of`; `missing` says of checks that could not be made why. Targets that
    `summary` (rows `check, figure, value, target, met` of a validation) has beside those of a make, and that are
    missed, are told.

    A model whose ignitions miss a target passes within the widest range of T0, phi or pressure in which they meet it,
    if that holds two fifths of the cases and no delay outside it is off by more than half; others that it misses, or
    that could not be made, are limits as well. One that costs more than the exact step is of no use.
    """
    targets = _targets(figures)
    limits = list((missing or {}).values())
    reasons = []
    missed = [t for t in targets if not t.met]
    if any(t.check == "ignition" for t in missed):
        within, lost = _range_that_passes(cases), _lost(cases)
        reasons += [_shown(t) for t in missed if t.check == "ignition"]
        if lost:
            reasons.insert(0, f"{lost} of {len(cases['error'])} ignitions are off by more than half")
        if within is None or lost:
            return Verdict(EXACT, (), reasons, targets)
        limits.insert(0, within)
    for target in missed:
        if target.check == "cost":
            return Verdict(
                EXACT, (), [f"the model costs {1.0 / (target.value or 1.0):.2g} times the exact step"], targets
            )
        if target.check not in ("ignition", "flow"):
            limits.append(_shown(target))
    turbulent = [_shown(target) for target in missed if target.check == "flow"]
    if turbulent:
        limits.append(f"not for turbulent flames ({', '.join(turbulent)})")
    reasons += [*_gains(figures), *_missed_beside(targets, summary)]
    return Verdict(LIMITED if limits else PASSED, limits, reasons, targets)


def passes(check: str, figures: Mapping[str, float | None]) -> bool:
    """Whether the figures of one check, by name, meet their targets."""
    return all(target.met for target in _targets({check: figures}) if target.check == check)


def columns_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, NDArray[Any]]:
    """Columns (n,) of the rows of `ignition.case_table`: `T0` [K], `phi`, `P` [atm], `error` of the delay [%] and `end`
    error of T [K], nan where there is none, and whether the case `failed`."""
    names = {"T0": "T0 [K]", "phi": "phi", "P": "P [atm]", "error": "error [%]", "end": "end T error [K]"}
    columns = {name: np.array([row[column] for row in rows], np.float64) for name, column in names.items()}
    broken = [Status[row["status"].upper()] >= Status.FAILED for row in rows]
    lost = [row["reference [us]"] is not None and row["model [us]"] is None for row in rows]
    return {**columns, "failed": np.array(broken, np.bool_) | np.array(lost, np.bool_)}


def _targets(figures: Figures) -> list[Target]:
    """The figures that have a target."""
    found = []
    for name, target in (
        ("failed cases", 0.0),
        ("ignition delay error, mean [%]", MEAN_DELAY),
        ("ignition delay error, max [%]", MAX_DELAY),
        ("end temperature error, max [K]", END_T),
    ):
        found.append(Target("ignition", name, figures.get("ignition", {}).get(name), target))
    if "cold" in figures:
        found.append(Target("cold", "mixtures that fail", figures["cold"].get("mixtures that fail"), 0.0))
    if "flow" in figures:
        found += [Target("flow", name, figures["flow"].get(name), target) for name, target in FLOW.items()]
    speeds = {name: value for name, value in figures.get("flames", {}).items() if name.startswith(_SPEED)}
    found += [Target("flames", name, value, FLAME_SPEED) for name, value in speeds.items()]
    found += [
        Target("cost", gain, figures["cost"][gain], GAIN, lower=True)
        for gain in (f"{cells}: exact / model" for cells in _CELLS)
        if gain in figures.get("cost", {})
    ]
    return found


def _gains(figures: Figures) -> list[str]:
    """What a step of the model costs beside the others, in words; nothing where it was not measured."""
    costs = figures.get("cost", {})
    cells = next((name for name in _CELLS if costs.get(f"{name}: exact / model") is not None), None)
    if cells is None:
        return []
    cvodes, exact = (costs[f"{cells}: {name} / model"] for name in ("CVODES", "exact"))
    text = f"{_CELLS[cells]} costs 1/{cvodes:.3g} of CVODES and 1/{exact:.2g} of the exact step"
    integrated = costs.get(f"{cells}: integrated by the model [%]")
    return [text if integrated is None else f"{text}, {integrated:.3g} % of them are integrated, not predicted"]


def _missed_beside(targets: Sequence[Target], summary: Sequence[Mapping[str, Any]]) -> list[str]:
    """Figures of a validation that miss a target and are not among these."""
    own = {(target.check, target.name) for target in targets}
    rows = [row for row in summary if row["met"] in (False, "no") and (row["check"], row["figure"]) not in own]
    return [
        f"{row['check']}: {row['figure']} is {_number(row['value'])}, usual is {_bound(row['target'])}" for row in rows
    ]


def _number(value: float | None) -> str:
    return "missing" if value is None else f"{value:.3g}"


def _bound(target: float | str) -> str:
    """A target as a summary shows it: a number for an upper bound, or `>= number`."""
    return target if isinstance(target, str) else f"<= {target:g}"


def _shown(target: Target) -> str:
    bound = f"{'>=' if target.lower else '<='} {target.target:g}"
    return f"{target.check}: {target.name} is {_number(target.value)}, not {bound}"


def _lost(cases: Mapping[str, NDArray[Any]]) -> int:
    """Number of ignitions whose delays say nothing any more."""
    return int(np.count_nonzero(cases["error"] > _LOST)) if cases else 0


def _range_that_passes(cases: Mapping[str, NDArray[Any]]) -> str | None:
    """The widest part of the range of T0, phi or P that meets the targets of ignitions; None if it is small."""
    if not cases:
        return None
    best, text = 0.0, None
    for name, (axis, unit, scale) in _AXES.items():
        levels = np.unique(cases[name])
        for i in range(len(levels)):
            for j in range(i, len(levels)):
                inside = (cases[name] >= levels[i]) & (cases[name] <= levels[j])
                share = float(inside.mean())
                if share > best and share < 1.0 and _pass(cases, inside):
                    shown = f"{axis} {levels[i] * scale:.4g} to {levels[j] * scale:.4g} {unit}".strip()
                    best, text = share, f"only for {shown}"
    return text if best >= _LEAST_LEFT else None


def _pass(cases: Mapping[str, NDArray[Any]], inside: NDArray[np.bool_]) -> bool:
    """Whether some of the ignitions meet their targets."""
    errors = cases["error"][inside]
    known = errors[np.isfinite(errors)]
    if not known.size or cases["failed"][inside].any() or (cases["end"][inside] > END_T).any():
        return False
    return bool(known.mean() <= MEAN_DELAY and known.max() <= MAX_DELAY)
