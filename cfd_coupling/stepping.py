"""The time step: chemistry, diffusion, pressure, momentum, projection, convection.

C(dt) D(dt)              Lie; Strang is D(dt/2) C(dt) D(dt/2). Chemistry is called once, with the full dt
p0, Q                    what has expanded: closed box p0(t), open box a sink at the edge
V(dt/2) M(dt) V(dt/2)    momentum with the old pressure gradient
P                        projection onto div u = Q / dt
A(dt)                    density, species and enthalpy carried by the projected velocity
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

from cfd_coupling.active_cells import ActiveCells, all_cells, find_active
from cfd_coupling.boundary import Edges
from cfd_coupling.config import FlowConfig
from cfd_coupling.convection import Convection
from cfd_coupling.diffusion import Diffusion
from cfd_coupling.expansion import Expansion
from cfd_coupling.fields import Fields
from cfd_coupling.gas import Gas
from cfd_coupling.grid import GHOSTS, Grid
from cfd_coupling.kernels.convection import largest_cfl
from cfd_coupling.kernels.state import first_bad_cell
from cfd_coupling.momentum import Momentum
from cfd_coupling.parallel import Communicator
from cfd_coupling.pressure import Projection
from chemnet.runtime.errors import NumericalError

if TYPE_CHECKING:
    from cfd_coupling.chemistry import Chemistry, ChemistryReport

_LARGEST_CFL = 1.0

Part = Literal["chemistry", "waiting", "diffusion", "state", "momentum", "projection", "advection"]
PARTS: tuple[Part, ...] = get_args(Part)


@dataclass
class StepReport:
    """Report of one step.

    chemistry: the report of the chemistry. cfl: largest dt (|u|/dx + |v|/dy) of the step, before division into
    `substeps`. stages: of diffusion, in its last part. iterations, residual: of the projection, the latter the
    largest dt |div u - Q/dt|. entering, leaving: mass through the ends of the box in y [kg/s/m]. seconds: wall time of
    each part on this rank; `waiting` is for the slowest chemistry.
    """

    chemistry: ChemistryReport
    cfl: float = 0.0
    substeps: int = 1
    stages: int = 0
    iterations: int = 0
    residual: float = 0.0
    entering: float = 0.0
    leaving: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)


class Stepper:
    """Owns the parts of the time step and their work arrays."""

    def __init__(
        self,
        grid: Grid,
        comm: Communicator,
        gas: Gas,
        chemistry: Chemistry,
        options: FlowConfig,
        edges: Edges | None = None,
    ) -> None:
        """edges: what bounds the box; periodic both ways where it is not given."""
        self.grid, self.comm, self.gas, self.chemistry, self.options = grid, comm, gas, chemistry, options
        self.edges = edges = edges or Edges(grid, comm)
        self.diffusion = Diffusion(grid, comm, gas, edges)
        self.expansion = Expansion(grid, comm, gas, options.box, edges.closed)
        self.momentum = Momentum(grid, comm, gas, edges)
        self.projection = Projection(grid, comm, options.projection_tolerance, edges)
        self.convection = Convection(grid, comm, gas.n_species, edges)
        self._changed = all_cells(grid)

    def step(self, fields: Fields, dt: float) -> StepReport:
        """Advance `fields` by dt [s] in place.

        Raises NumericalError, naming cell and step, when the CFL number exceeds 1, the projection does not converge,
        chemistry returned what is no number or a cell has no temperature; under MPI on the rank that holds the cell,
        which must abort the job.
        """
        self.comm.step = fields.step + 1
        seconds: dict[str, float] = {}
        with _timed(seconds, "diffusion"):
            self.edges.fill(fields)
            self._changed = all_cells(self.grid)
        chemistry = self._react_and_diffuse(fields, dt, seconds)
        seconds["chemistry"] -= chemistry.ahead + chemistry.waiting
        seconds["diffusion"] += chemistry.ahead
        seconds["waiting"] += chemistry.waiting
        report = StepReport(chemistry, stages=self.diffusion.stage_count, seconds=seconds)
        with _timed(seconds, "state"):
            target = self.expansion.target(fields, dt)
            self._update_ghosts(fields)
        with _timed(seconds, "momentum"):
            self.momentum.advance(fields, dt, self._substeps(fields, dt, report))
        with _timed(seconds, "projection"):
            projection = self.projection.project(fields, target, dt)
            report.iterations, report.residual = projection.iterations, projection.residual
        with _timed(seconds, "advection"):
            self._carry(fields, dt, report)
        fields.time += dt
        fields.step += 1
        return report

    def _react_and_diffuse(self, fields: Fields, dt: float, seconds: dict[str, float]) -> ChemistryReport:
        strang = self.options.splitting == "strang"
        if strang:
            with _timed(seconds, "diffusion"):
                self._diffuse(fields, 0.5 * dt)
        with _timed(seconds, "chemistry"):
            report = self.chemistry.apply(fields, dt)
            self._check_finite(fields)
        with _timed(seconds, "waiting"):
            self.comm.barrier()
        with _timed(seconds, "diffusion"):
            self._update_ghosts(fields)
            self._diffuse(fields, 0.5 * dt if strang else dt)
        return report

    def _check_finite(self, fields: Fields) -> None:
        k, j, i = first_bad_cell(fields.scalars, fields.T)
        if k >= 0:
            names = (*self.gas.mechanism.species_names, "h", "T")
            raise NumericalError(
                f"{names[k]} is no number in cell {self._cell(j, i)}, step {self.comm.step}, rank {self.comm.rank}, "
                "after chemistry;\nuse another model, or chemistry.kind=cvode."
            )

    def _cell(self, j: int, i: int) -> str:
        return f"(row {j - GHOSTS + self.grid.j_start}, column {i - GHOSTS})"

    def _diffuse(self, fields: Fields, dt: float) -> None:
        self._changed = self.diffusion.advance(fields, self._active(fields), dt)
        self.expansion.update_temperature(fields, self._changed)

    def _carry(self, fields: Fields, dt: float, report: StepReport) -> None:
        substeps = self._substeps(fields, dt, report)
        changed = self.convection.advance(fields, self._active(fields), self.expansion.sink, dt, substeps)
        self.expansion.update_temperature(fields, changed)
        report.entering, report.leaving = self.edges.through(self.convection.flux)

    def _active(self, fields: Fields) -> ActiveCells:
        """Cells that are not uniform; a step begins with all cells, later only what has changed can be."""
        if not self.options.skip_uniform:
            return all_cells(self.grid)
        return find_active(fields, self.grid, self.comm, self._changed, self.edges.closed)

    def _update_ghosts(self, fields: Fields) -> None:
        self.edges.scalars(fields.scalars)
        self.edges.temperature(fields.T)

    def _substeps(self, fields: Fields, dt: float, report: StepReport) -> int:
        """Sub-steps for the velocity at hand, noted in the report together with the CFL number.

        Sub-steps keep momentum and scalars stable, but not the coupling of density and divergence: Q is let out
        where it was, not where convection carries it, which amplifies an error of density by the CFL number.
        """
        here, j, i = largest_cfl(fields.velocity, self.grid.dx, self.grid.dy, dt)
        if not here <= _LARGEST_CFL:
            raise NumericalError(
                f"CFL number {here:.3g} in cell {self._cell(j, i)}, step {self.comm.step}, rank {self.comm.rank}, "
                f"above {_LARGEST_CFL:g};\nuse a smaller dt or a coarser grid."
            )
        cfl = self.comm.max(here)
        substeps = max(1, math.ceil(cfl / self.options.cfl_limit))
        report.cfl, report.substeps = max(report.cfl, cfl), max(report.substeps, substeps)
        return substeps


@contextmanager
def _timed(seconds: dict[str, float], part: Part) -> Iterator[None]:
    """Add the wall time of the block to seconds[part]."""
    start = time.perf_counter()
    yield
    seconds[part] = seconds.get(part, 0.0) + time.perf_counter() - start
