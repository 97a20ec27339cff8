"""Small turbulent flames that no training sees, in the flow solver: single steps on their states, and their runs
repeated by the model.

The solver is not known here: the caller passes in its functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from chemnet.gas.state import Array
from chemnet.kinetics.step import ChemistryStep
from chemnet.runtime.errors import NumericalError
from chemnet.runtime.tables import Table
from chemnet.validation.flame_scales import METHANE, FlameScales
from chemnet.validation.flow_steps import CHECK, FlowStates
from chemnet.validation.metrics import Figure
from chemnet.validation.references import ATOL, RTOL, cached_arrays, reference_step
from chemnet.validation.rollouts import Report

Arrays = dict[str, Array]

RUN_RTOL, RUN_ATOL = 1e-6, 1e-12  # of the exact integrator in a run: the flow's own errors are far larger
_T_L2, _T_P999, _LEFT = "T, relative L2 [%]", "T, p99.9 [K]", "cells left to the exact step [%]"
_RELATIVE = {"burnt area [%]": "burnt_area", "heat released [%]": "heat", "fuel burnt [%]": "fuel", "p0 [%]": "p0"}
DIFFERENCES = (_T_L2, _T_P999, *_RELATIVE)
TARGETS = {_T_L2: 0.2, _T_P999: 15.0, "burnt area [%]": 0.15, "heat released [%]": 0.25, "p0 [%]": 0.02}


@dataclass(frozen=True)
class FlowSolver:
    """Functions of the flow solver.

    * `burn`: arrays of the run of a small box with changes of its case, as of `cfd_coupling.small_box.burn_box`
    * `temperature_difference`: relative L2 norm [-] and p99.9 [K] of one field of T less another
    * `identity`: what its results depend on beside the changes
    """

    burn: Callable[[Sequence[str]], Arrays]
    temperature_difference: Callable[[Array, Array], tuple[float, float]]
    identity: str


@dataclass(frozen=True)
class Box:
    """A small flame: its name, seed of its turbulence, equivalence ratio, cells each way, radius of its kernels [m of
    methane's] and their centres [of the box]; all lengths, times and velocities in the `scales` of the gas, for steps
    of `dt` [s]."""

    name: str
    seed: int
    phi: float
    cells: int
    radius: float
    centres: tuple[tuple[float, float], ...] = ((0.5, 0.5),)
    scales: FlameScales = METHANE
    dt: float = 1e-6

    @property
    def end_time(self) -> float:
        """The time that it burns for [s]."""
        return self.scales.time(_END_TIME, _END_TIME, self.dt) * _END_TIME

    @property
    def changes(self) -> list[str]:
        """The changes of the case."""
        scales = self.scales
        length = self.cells * _CELL * scales.length
        return [
            f"seed={self.seed}",
            f"mixture.phi={self.phi}",
            *(f"grid.n{axis}={self.cells}" for axis in "xy"),
            *(f"grid.length_{axis}={length}" for axis in "xy"),
            f"initial.kernel_radius={self.radius * scales.length}",
            f"initial.kernel_centres={[list(centre) for centre in self.centres]}",
            f"initial.integral_length={_INTEGRAL_LENGTH * scales.length}",
            f"initial.rms_velocity={_RMS_VELOCITY * scales.turbulence(_RMS_VELOCITY, _CELL, self.dt)}",
            f"initial.kernel_temperature={scales.kernel_temperature}",
            f"mixture.pressure={scales.pressure}",
            f"mixture.temperature={scales.temperature}",
            f"end_time={self.end_time}",
        ]


# Of a flame of methane; smaller kernels than these go out.
_CELL, _END_TIME = 2.9296875e-5, 3e-4  # [m], [s]
_INTEGRAL_LENGTH, _RMS_VELOCITY = 8e-4, 1.5  # [m], [m/s]: wrinkles that fit into the box
_RADIUS, _RADIUS_OF_RICH = 3.2e-4, 4.2e-4  # [m]


def boxes_of(scales: FlameScales, dt: float) -> tuple[Box, ...]:
    """The boxes of a gas, for steps of dt [s]; the first are those to choose where there is no time for all.

    Training sets take other seeds: flames that they draw from, the case's 1 or others from 1000 on.
    """
    middle = scales.middle_phi
    others = [
        Box(f"phi {phi:g}", 11 if phi < middle else 13, phi, 128, _RADIUS if phi < middle else _RADIUS_OF_RICH)
        for phi in scales.phis
        if phi != middle
    ]
    two = Box(f"phi {middle:g}, two kernels", 14, middle, 192, _RADIUS, ((0.35, 0.4), (0.65, 0.62)))
    boxes = (Box(f"phi {middle:g}", 12, middle, 128, _RADIUS), *others, two)
    return tuple(replace(box, scales=scales, dt=dt) for box in boxes)


BOXES = boxes_of(METHANE, 1e-6)


@dataclass(frozen=True, eq=False)
class Repeated:
    """The run of a box repeated by a model: its differences from the exact one by their names, and the share of the
    cells that the model left to the exact step [%], at each snapshot (n,); None where it failed, and why."""

    box: str
    differences: Mapping[str, Array] | None
    failure: str = ""

    def at_end(self, name: str) -> float | None:
        """A difference at the last snapshot."""
        return None if self.differences is None else float(self.differences[name][-1])

    def largest(self, name: str) -> float | None:
        """The largest size of a difference at any snapshot."""
        return None if self.differences is None else float(np.abs(self.differences[name]).max())


def references(
    step: ChemistryStep,
    dt: float,
    gas: Sequence[str],
    solver: FlowSolver,
    report: Report = print,
    cache: Path | None = None,
    boxes: Sequence[Box] = BOXES,
) -> tuple[dict[str, Arrays], list[Repeated]]:
    """The exact run of each box by its name, with the exact `next_states` of its `states` after dt [s]; and the boxes
    that cannot be judged, because the exact run fails: a fuel much faster than methane burns a box up.

    `gas` are changes of the case that name mechanism, fuel and dt. They are kept in `cache`. Raises UsageError as
    `burn` does.
    """
    found, failed = {}, []
    for box in boxes:
        try:
            found[box.name] = _reference(step, dt, [*gas, *box.changes], solver, report, cache)
        except NumericalError as error:
            failed.append(Repeated(box.name, None, f"exact run: {_first_line(error)}"))
    return found, failed


def _reference(
    step: ChemistryStep, dt: float, changes: Sequence[str], solver: FlowSolver, report: Report, cache: Path | None
) -> Arrays:
    exact = [*changes, "chemistry.kind=exact", f"chemistry.rtol={RUN_RTOL}", f"chemistry.atol={RUN_ATOL}"]

    def compute() -> Arrays:
        report(f"exact run of a small flame: {' '.join(changes)}")
        run = solver.burn(exact)
        return {**run, "next_states": reference_step(step.mechanism).advance(run["states"], dt).states}

    key = {"solver": solver.identity, "mechanism": step.mechanism.sha256, "case": exact, "step": [RTOL, ATOL]}
    return cached_arrays(cache, CHECK, key, compute)


def states_of(exact: Mapping[str, Arrays]) -> FlowStates:
    """The states of all references."""
    boxes = [np.full(len(run["states"]), name) for name, run in exact.items()]
    states, after = (np.concatenate([run[name] for run in exact.values()]) for name in ("states", "next_states"))
    return FlowStates(states, after, np.concatenate(boxes))


def repeat(
    chemistry: Sequence[str],
    exact: Mapping[str, Arrays],
    gas: Sequence[str],
    solver: FlowSolver,
    report: Report = print,
    boxes: Sequence[Box] = BOXES,
) -> list[Repeated]:
    """The runs of the boxes by the chemistry of some changes of the case, beside the exact ones that there are."""
    found = []
    for box in (box for box in boxes if box.name in exact):
        report(f"small flame by the model: {box.name}")
        try:
            run = solver.burn([*gas, *box.changes, *chemistry])
            found.append(Repeated(box.name, _differences(run, exact[box.name], solver)))
        except NumericalError as error:
            found.append(Repeated(box.name, None, _first_line(error)))
    return found


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


def _differences(run: Arrays, exact: Arrays, solver: FlowSolver) -> Arrays:
    """Differences of a run from the exact one, signed where they are not norms, at each snapshot (n,)."""
    of_T = [solver.temperature_difference(T, T_exact) for T, T_exact in zip(run["T"], exact["T"], strict=True)]
    relative, p999 = np.array(of_T).T
    others = {name: 100.0 * (run[q] / exact[q] - 1.0) for name, q in _RELATIVE.items()}
    return {_T_L2: 100.0 * relative, _T_P999: p999, **others, _LEFT: 100.0 * run["left"]}


def run_table(runs: Sequence[Repeated]) -> Table:
    """Two rows per box: at the end, and the largest of all snapshots."""
    columns: tuple[str, ...] = (*DIFFERENCES, _LEFT)
    rows = []
    for run in runs:
        outcome = run.failure or "burns"
        rows.append((run.box, "end", *map(run.at_end, columns), outcome))
        rows.append((run.box, "largest", *map(run.largest, columns), outcome))
    return Table("small flames repeated, differences from the exact run", ("box", "at", *columns, "outcome"), rows)


def figures(runs: Sequence[Repeated]) -> list[Figure]:
    """The differences at the end, of the worst box each; None where a run failed."""
    found: list[Figure] = [Figure(CHECK, "runs that fail", sum(run.differences is None for run in runs), 0)]
    for name in DIFFERENCES:
        sizes = [None if (value := run.at_end(name)) is None else abs(value) for run in runs]
        known = [size for size in sizes if size is not None]
        worst = max(known) if len(known) == len(runs) else None
        found.append(Figure(CHECK, f"run, worst box: {name}", worst, TARGETS.get(name)))
    return found
