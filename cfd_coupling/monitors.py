"""Monitors of a run: each sees every step and gives its columns of history.csv when a row is due.

The loop does not know what its monitors measure. A monitor has two calls: `see(fields, report)` after each step
(local and cheap) and `row(fields)` (every rank calls it; sums over ranks happen here). Columns, SI throughout:

step, time, dt [s]; cfl (largest since the last row), substeps, iterations and residual of the projection;
p0 [Pa]; T_min, T_max [K]; kinetic_energy [J/m]; mass, mass_<element> [kg/m]; energy [J/m], the sum of rho h - p0;
drift_<each of these three that the box keeps>, relative to the start; with an inflow mass_entering and mass_leaving
[kg/s/m]; heat_release [W/m], consumption_speed [m/s] (means since the last
row); burnt_area [m2]; cells_<kind> and, among them, cells_retried, cells_integrated and cells_moved (to another rank)
in the last step; seconds_<part> on the slowest rank, without the first step of each process. Every column but
cells_moved and these goes on over a stop as if there had been none.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from cfd_coupling.burnt_area import burnt_rows
from cfd_coupling.chemistry import KINDS, formation_enthalpies
from cfd_coupling.config import ConsumptionConfig
from cfd_coupling.fields import Fields, interior
from cfd_coupling.grid import GHOSTS, Grid
from cfd_coupling.parallel import Communicator
from cfd_coupling.stepping import PARTS, StepReport
from chemnet.gas.mechanism import Mechanism
from chemnet.runtime.errors import NumericalError
from chemnet.runtime.files import append_text

_AMONG_THEM = ("retried", "integrated", "moved")  # counts of the ChemistryReport beside those per kind

Row = dict[str, float]
State = dict[str, Any]  # plain data

_UNITS = {
    "time": "s", "dt": "s", "p0": "Pa", "T_min": "K", "T_max": "K", "kinetic_energy": "J/m", "energy": "J/m",
    "mass": "kg/m", "mass_entering": "kg/s/m", "mass_leaving": "kg/s/m",
    "heat_release": "W/m", "consumption_speed": "m/s", "burnt_area": "m2",
}  # fmt: skip


def unit(column: str) -> str:
    """Unit of a column of history.csv; 1 for counts and ratios."""
    kind = column.partition("_")[0]
    return _UNITS.get(column) or {"mass": "kg/m", "seconds": "s"}.get(kind, "1")


class Monitor:
    """Sees every step, and gives its columns when a row is due; its state travels in checkpoints."""

    def see(self, fields: Fields, report: StepReport) -> None:
        """Take note of a step."""

    def row(self, fields: Fields) -> Row:
        """The columns at this step; every rank calls it."""
        raise NotImplementedError

    def state(self) -> State:
        """What the coming rows depend on, as plain data that is right on rank 0; every rank calls it."""
        return {}

    def restore(self, state: State) -> None:
        """Return to a state, the same one on every rank."""


class Clock(Monitor):
    """Step, time and the state of the solver."""

    def __init__(self, comm: Communicator, dt: float) -> None:
        self.comm, self.dt = comm, dt
        self.worst: Row = {}

    def see(self, fields: Fields, report: StepReport) -> None:
        now = {
            "cfl": report.cfl,
            "substeps": report.substeps,
            "iterations": report.iterations,
            "residual": report.residual,
        }
        self.worst = {name: max(value, self.worst.get(name, 0.0)) for name, value in now.items()}

    def row(self, fields: Fields) -> Row:
        worst, self.worst = self.worst or dict.fromkeys(("cfl", "substeps", "iterations", "residual"), 0.0), {}
        return {"step": fields.step, "time": fields.time, "dt": self.dt, **worst, "p0": fields.p0}

    def state(self) -> State:
        return {"worst": self.worst}

    def restore(self, state: State) -> None:
        self.worst = dict(state["worst"])


class Condition(Monitor):
    """Extremes of T and the kinetic energy; a value that is not finite stops the run in the step that made it."""

    def __init__(self, grid: Grid, comm: Communicator) -> None:
        self.comm, self.grid = comm, grid
        self.cell = grid.dx * grid.dy

    def see(self, fields: Fields, report: StepReport) -> None:
        for name in ("T", "rho", "u", "v", "p"):
            q = interior(getattr(fields, name))
            if not np.isfinite(q.sum()):
                j, i = np.argwhere(~np.isfinite(q))[0]
                self._fail(fields, f"{name} in cell (row {j + self.grid.j_start}, column {i})")
        if not np.isfinite(fields.p0):
            self._fail(fields, "p0")

    def _fail(self, fields: Fields, what: str) -> NoReturn:
        raise NumericalError(
            f"{what} is not finite after step {fields.step}, t = {fields.time:.3e} s, rank {self.comm.rank}.\n"
            "Use a smaller dt; the last snapshot and the last checkpoint show the state before."
        )

    def row(self, fields: Fields) -> Row:
        T, rho = interior(fields.T), interior(fields.rho)
        square = (interior(fields.velocity) ** 2).sum(axis=0)
        energy = self.comm.sum_rows((rho * square).sum(axis=-1), self.grid.ny)
        return {
            "T_min": -self.comm.max(-float(T.min())),
            "T_max": self.comm.max(float(T.max())),
            "kinetic_energy": 0.5 * self.cell * float(energy),
        }


class Conserved(Monitor):
    """Mass, element masses and energy of the box [per metre of depth], and how far each drifted since the start.

    A closed box keeps sum of (rho h - p0) dV: at low Mach number the enthalpy gains what the pressure work adds. Walls
    of given temperature take or give heat: then the box is not `isolated` and its energy has no drift.
    """

    def __init__(self, grid: Grid, comm: Communicator, mechanism: Mechanism, isolated: bool = True) -> None:
        self.comm, self.ny = comm, grid.ny
        self.cell = grid.dx * grid.dy
        self.mechanism = mechanism
        self.names = ("mass", *(f"mass_{name}" for name in mechanism.element_names), "energy")
        self.kept = self.names if isolated else self.names[:-1]
        self.start: NDArray[np.float64] | None = None

    def row(self, fields: Fields) -> Row:
        totals = self.totals(fields)
        if self.start is None:
            self.start = totals
        scale = np.where(self.start == 0.0, 1.0, np.abs(self.start))
        drift = (totals - self.start) / scale
        row = dict(zip(self.names, totals.tolist(), strict=True))
        return row | {f"drift_{name}": value for name, value in zip(self.kept, drift.tolist(), strict=False)}

    def state(self) -> State:
        return {"start": None if self.start is None else self.start.tolist()}

    def restore(self, state: State) -> None:
        self.start = None if state["start"] is None else np.array(state["start"])

    def totals(self, fields: Fields) -> NDArray[np.float64]:
        """Mass, mass of each element, energy, in the order of `names`."""
        rho, Y, h = interior(fields.rho), interior(fields.Y), interior(fields.h)
        mass = rho.sum(axis=-1)
        species = np.einsum("kji,ji->kj", Y, rho)
        energy = (rho * h - fields.p0).sum(axis=-1)
        mass, *species, energy = self.comm.sum_rows(np.stack([mass, *species, energy]), self.ny)
        return self.cell * np.array([mass, *(self.mechanism.element_mass @ np.array(species)), energy])


class Throughflow(Conserved):
    """Mass that enters and leaves per second (means since the last row), and what the box holds.

    drift_mass is what the mass of the box differs by from that at the start plus what entered less what left.
    """

    def __init__(self, grid: Grid, comm: Communicator, mechanism: Mechanism, dt: float) -> None:
        super().__init__(grid, comm, mechanism)
        self.dt, self.kept = dt, ("mass",)
        self.gained = 0.0
        self._restart()

    def _restart(self) -> None:
        self.through, self.steps = np.zeros(2), 0

    def see(self, fields: Fields, report: StepReport) -> None:
        self.through += report.entering, report.leaving
        self.steps += 1
        self.gained += self.dt * (report.entering - report.leaving)

    def row(self, fields: Fields) -> Row:
        row = super().row(fields)
        assert self.start is not None
        row["drift_mass"] -= self.gained / float(self.start[0])
        entering, leaving = (self.through / max(self.steps, 1)).tolist()
        self._restart()
        return row | {"mass_entering": entering, "mass_leaving": leaving}

    def state(self) -> State:
        return super().state() | {"gained": self.gained, "through": self.through.tolist(), "steps": self.steps}

    def restore(self, state: State) -> None:
        super().restore(state)
        self.gained, self.through, self.steps = state["gained"], np.array(state["through"]), state["steps"]


class Combustion(Monitor):
    """Heat release, burnt area and, where the case asks, the fuel consumption speed.

    Rates are means over the steps since the last row: heat release = - sum h_k(298.15 K) * (mass of k made per
    second). Consumption speed of n planar fronts of height L: fuel burnt per second / (n L (rho Y_fuel) unburnt).
    """

    def __init__(
        self,
        grid: Grid,
        comm: Communicator,
        mechanism: Mechanism,
        dt: float,
        consumption: ConsumptionConfig | None = None,
        ends: bool = False,
    ) -> None:
        """ends: whether the box has walls or streams in y."""
        self.grid, self.comm, self.dt, self.ends = grid, comm, dt, ends
        self.consumption = consumption
        self.fuel = mechanism.index(consumption.fuel) if consumption else 0
        self.weights = [-formation_enthalpies(mechanism)]
        if consumption:
            self.weights.append(np.eye(mechanism.n_species)[self.fuel])
        self.unburnt_fuel: float | None = None
        self._restart()

    def _restart(self) -> None:
        self.made = np.zeros(len(self.weights))  # heat [J/m3] and fuel [kg/m3], summed over cells and steps
        self.steps = 0

    def see(self, fields: Fields, report: StepReport) -> None:
        rows = [report.chemistry.weighed(weights).sum(axis=1) for weights in self.weights]
        self.made += self.comm.sum_rows(np.stack(rows), self.grid.ny)
        self.steps += 1

    def row(self, fields: Fields) -> Row:
        cell = self.grid.dx * self.grid.dy
        per_second = cell / (max(self.steps, 1) * self.dt)
        row = {"heat_release": float(self.made[0]) * per_second, "burnt_area": self._burnt_cells(fields) * cell}
        if self.consumption is not None:
            speed = self._unburnt_fuel_per_speed(fields, self.consumption)
            row["consumption_speed"] = -float(self.made[1]) * per_second / speed
        self._restart()
        return row

    def state(self) -> State:
        return {"made": self.made.tolist(), "steps": self.steps, "unburnt_fuel": self.unburnt_fuel}

    def restore(self, state: State) -> None:
        self.made, self.steps = np.array(state["made"]), state["steps"]
        self.unburnt_fuel = state["unburnt_fuel"]

    def _burnt_cells(self, fields: Fields) -> float:
        """Burnt area in cells, by the contour of T."""
        T, grid = fields.T.copy(), self.grid
        self.comm.update(T, width=1)
        near = T[GHOSTS : T.shape[0] - GHOSTS + 1, GHOSTS : T.shape[1] - GHOSTS + 1]
        rows = burnt_rows(near, self.ends and grid.j_start == 0, self.ends and grid.j_stop == grid.ny)
        return float(self.comm.sum_rows(rows, grid.ny))

    def _unburnt_fuel_per_speed(self, fields: Fields, consumption: ConsumptionConfig) -> float:
        """Fuel [kg/s/m per m/s] that fronts moving into the initial unburnt gas would burn."""
        if self.unburnt_fuel is None:
            dense = interior(fields.rho) * interior(fields.Y[self.fuel])
            self.unburnt_fuel = self.comm.max(float(dense.max()))
        width = self.grid.length_y if consumption.normal == "x" else self.grid.length_x
        return consumption.fronts * width * self.unburnt_fuel


class Work(Monitor):
    """Cells per kind of chemistry in the last step, and seconds per part of the step since the start.

    The first step of a process is not timed: it compiles the kernels where they are not in the cache yet.
    """

    def __init__(self, comm: Communicator) -> None:
        self.comm = comm
        self.cells = dict.fromkeys((*KINDS, *_AMONG_THEM), 0)
        self.seconds: Row = dict.fromkeys(PARTS, 0.0)
        self.warm = False

    def see(self, fields: Fields, report: StepReport) -> None:
        chemistry = report.chemistry
        self.cells = {**chemistry.cells, **{name: getattr(chemistry, name) for name in _AMONG_THEM}}
        if not self.warm:
            self.warm = True
            return
        for part, seconds in report.seconds.items():
            self.seconds[part] += seconds

    def row(self, fields: Fields) -> Row:
        cells = {f"cells_{kind}": self.comm.sum(float(n)) for kind, n in self.cells.items()}
        return cells | {f"seconds_{part}": seconds for part, seconds in self._slowest().items()}

    def _slowest(self) -> Row:
        """Seconds of each part on the rank that spent most on it."""
        return {part: self.comm.max(seconds) for part, seconds in self.seconds.items()}

    def state(self) -> State:
        return {"seconds": self._slowest()}

    def restore(self, state: State) -> None:
        self.seconds |= state["seconds"]


class History:
    """history.csv: one row from all monitors every `every` steps, written by rank 0 and flushed to the file."""

    def __init__(self, path: Path, comm: Communicator, monitors: Sequence[Monitor], every: int) -> None:
        self.path, self.comm, self.monitors, self.every = path, comm, monitors, every
        self.last: Row = {}

    def see(self, fields: Fields, report: StepReport) -> None:
        """Show one step to the monitors, and write a row when one is due."""
        for monitor in self.monitors:
            monitor.see(fields, report)
        if self.is_due(fields.step):
            self.write(fields)

    def is_due(self, step: int) -> bool:
        """Whether a row is written at a step."""
        return step % self.every == 0

    def write(self, fields: Fields) -> Row:
        """Write a row now (every rank calls it) and return it."""
        row: Row = {}
        for monitor in self.monitors:
            row.update(monitor.row(fields))
        self.last = row
        if self.comm.rank == 0:
            self._append(row)
        return row

    def state(self) -> dict[str, State]:
        """States of all monitors by their names; every rank calls it."""
        return {type(monitor).__name__: monitor.state() for monitor in self.monitors}

    def restore(self, states: Mapping[str, State]) -> None:
        """Return to the states of all monitors."""
        for monitor in self.monitors:
            monitor.restore(states[type(monitor).__name__])

    def _append(self, row: Row) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, list(row), lineterminator="\n")
        if not self.path.exists():
            writer.writeheader()
        writer.writerow({name: format(value, ".17g") for name, value in row.items()})
        append_text(self.path, text.getvalue())
