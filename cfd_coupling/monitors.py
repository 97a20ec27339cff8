"""Monitors of a run: each sees every step and gives its columns of history.csv when a row is due.

The loop does not know what its monitors measure. A monitor has two calls: `see(fields, report)` after each step
(local and cheap) and `row(fields)` (every rank calls it; sums over ranks happen here). Columns, SI throughout:

step, time, dt [s]; cfl (largest since the last row), substeps, iterations and residual of the projection;
p0 [Pa]; T_min, T_max [K]; kinetic_energy [J/m]; mass, mass_<element> [kg/m]; energy [J/m], the sum of rho h - p0;
drift_<each of these three>, relative to the start; heat_release [W/m], consumption_speed [m/s] (means since the last
row); burnt_area [m2]; cells_<kind> and, among them, cells_retried, cells_integrated and cells_moved (to another rank)
in the last step; seconds_<part> on the slowest rank, since the second step.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cfd_coupling.chemistry import KINDS
from cfd_coupling.config import BURNT_TEMPERATURE, ConsumptionConfig
from cfd_coupling.fields import Fields, interior
from cfd_coupling.grid import Grid
from cfd_coupling.parallel import Communicator
from cfd_coupling.stepping import PARTS, StepReport
from chemnet.gas.mechanism import Mechanism
from chemnet.gas.thermo import species_enthalpies
from chemnet.runtime.errors import NumericalError

REFERENCE_TEMPERATURE = 298.15  # [K], of the enthalpies of formation
_AMONG_THEM = ("retried", "integrated", "moved")  # counts of the ChemistryReport beside those per kind

Row = dict[str, float]


class Monitor(Protocol):
    """Sees every step, and gives its columns when a row is due."""

    def see(self, fields: Fields, report: StepReport) -> None: ...

    def row(self, fields: Fields) -> Row: ...


class Clock:
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


class Condition:
    """Extremes of T and the kinetic energy; a value that is not finite stops the run in the step that made it."""

    def __init__(self, grid: Grid, comm: Communicator) -> None:
        self.comm = comm
        self.cell = grid.dx * grid.dy

    def see(self, fields: Fields, report: StepReport) -> None:
        total = sum(float(interior(q).sum()) for q in (fields.T, fields.rho, fields.u, fields.v))
        if not np.isfinite(total + fields.p0):
            raise NumericalError(
                f"T, rho or the velocity is not finite after step {fields.step}, t = {fields.time:.3e} s.\n"
                "Use a smaller dt; the last snapshot shows the state before."
            )

    def row(self, fields: Fields) -> Row:
        T, rho = interior(fields.T), interior(fields.rho)
        square = (interior(fields.velocity) ** 2).sum(axis=0)
        return {
            "T_min": -self.comm.max(-float(T.min())),
            "T_max": self.comm.max(float(T.max())),
            "kinetic_energy": 0.5 * self.cell * self.comm.sum(float((rho * square).sum())),
        }


class Conserved:
    """Mass, element masses and energy of the box [per metre of depth], and how far each drifted since the start.

    A closed box keeps sum of (rho h - p0) dV: at low Mach number the enthalpy gains what the pressure work adds.
    """

    def __init__(self, grid: Grid, comm: Communicator, mechanism: Mechanism) -> None:
        self.comm, self.ny = comm, grid.ny
        self.cell = grid.dx * grid.dy
        self.mechanism = mechanism
        self.names = ("mass", *(f"mass_{name}" for name in mechanism.element_names), "energy")
        self.start: NDArray[np.float64] | None = None

    def see(self, fields: Fields, report: StepReport) -> None:
        pass

    def row(self, fields: Fields) -> Row:
        totals = self.totals(fields)
        if self.start is None:
            self.start = totals
        scale = np.where(self.start == 0.0, 1.0, np.abs(self.start))
        drift = (totals - self.start) / scale
        row = dict(zip(self.names, totals.tolist(), strict=True))
        return row | {f"drift_{name}": value for name, value in zip(self.names, drift.tolist(), strict=True)}

    def totals(self, fields: Fields) -> NDArray[np.float64]:
        """Mass, mass of each element, energy, in the order of `names`."""
        rho, Y, h = interior(fields.rho), interior(fields.Y), interior(fields.h)
        mass = rho.sum(axis=-1)
        species = np.einsum("kji,ji->kj", Y, rho)
        energy = (rho * h - fields.p0).sum(axis=-1)
        mass, *species, energy = self.comm.sum_rows(np.stack([mass, *species, energy]), self.ny)
        return self.cell * np.array([mass, *(self.mechanism.element_mass @ np.array(species)), energy])


class Combustion:
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
    ) -> None:
        self.grid, self.comm, self.dt = grid, comm, dt
        self.consumption = consumption
        self.fuel = mechanism.index(consumption.fuel) if consumption else 0
        self.formation = np.empty(mechanism.n_species)
        species_enthalpies(REFERENCE_TEMPERATURE, mechanism.nasa, self.formation)
        self.unburnt_fuel: float | None = None
        self._restart()

    def _restart(self) -> None:
        self.made = np.zeros_like(self.formation)
        self.steps = 0

    def see(self, fields: Fields, report: StepReport) -> None:
        self.made += report.chemistry.produced
        self.steps += 1

    def row(self, fields: Fields) -> Row:
        cell = self.grid.dx * self.grid.dy
        duration = max(self.steps, 1) * self.dt
        heat = -self.comm.sum(float(self.formation @ self.made)) * cell / duration
        burnt = self.comm.sum(float((interior(fields.T) > BURNT_TEMPERATURE).sum())) * cell
        row = {"heat_release": heat, "burnt_area": burnt}
        if self.consumption is not None:
            rate = -self.comm.sum(float(self.made[self.fuel])) * cell / duration
            row["consumption_speed"] = rate / self._unburnt_fuel_per_speed(fields, self.consumption.fronts)
        self._restart()
        return row

    def _unburnt_fuel_per_speed(self, fields: Fields, fronts: int) -> float:
        """Fuel [kg/s/m per m/s] that fronts moving into the initial unburnt gas would burn."""
        if self.unburnt_fuel is None:
            dense = interior(fields.rho) * interior(fields.Y[self.fuel])
            self.unburnt_fuel = self.comm.max(float(dense.max()))
        return fronts * self.grid.length_y * self.unburnt_fuel


class Work:
    """Cells per kind of chemistry in the last step, and seconds per part of the step since the start.

    The first step is not timed: it compiles the kernels where they are not in the cache yet.
    """

    def __init__(self, comm: Communicator) -> None:
        self.comm = comm
        self.cells = dict.fromkeys((*KINDS, *_AMONG_THEM), 0)
        self.seconds: Row = dict.fromkeys(PARTS, 0.0)

    def see(self, fields: Fields, report: StepReport) -> None:
        chemistry = report.chemistry
        self.cells = {**chemistry.cells, **{name: getattr(chemistry, name) for name in _AMONG_THEM}}
        if fields.step == 1:
            return
        for part, seconds in report.seconds.items():
            self.seconds[part] += seconds

    def row(self, fields: Fields) -> Row:
        cells = {f"cells_{kind}": self.comm.sum(float(n)) for kind, n in self.cells.items()}
        parts = {f"seconds_{part}": self.comm.max(seconds) for part, seconds in self.seconds.items()}
        return cells | parts


class History:
    """history.csv: one row from all monitors every `every` steps, written by rank 0 and flushed to the file."""

    def __init__(self, path: Path, comm: Communicator, monitors: Sequence[Monitor], every: int) -> None:
        self.path, self.comm, self.monitors, self.every = path, comm, monitors, every
        self.columns: list[str] = []

    def see(self, fields: Fields, report: StepReport, due: bool = False) -> None:
        """Show one step to the monitors, and write a row when one is due."""
        for monitor in self.monitors:
            monitor.see(fields, report)
        if due or fields.step % self.every == 0:
            self.write(fields)

    def write(self, fields: Fields) -> Row:
        """Write a row now (every rank calls it) and return it."""
        row: Row = {}
        for monitor in self.monitors:
            row.update(monitor.row(fields))
        if self.comm.rank == 0:
            self._append(row)
        return row

    def _append(self, row: Row) -> None:
        text = io.StringIO()
        if not self.columns:
            self.columns = list(row)
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        if not self.path.exists():
            writer.writeheader()
        writer.writerow({name: format(value, ".17g") for name, value in row.items()})
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text.getvalue())
