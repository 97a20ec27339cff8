"""Momentum without the new pressure: convection, the old pressure gradient and viscous stress."""

from __future__ import annotations

import numpy as np

from cfd_coupling.boundary import Edges
from cfd_coupling.fields import Fields, padded_zeros
from cfd_coupling.gas import Gas
from cfd_coupling.grid import Grid
from cfd_coupling.kernels.convection import mass_flux, momentum_stage
from cfd_coupling.kernels.transport import viscosity
from cfd_coupling.kernels.viscous import stress, viscous_stage
from cfd_coupling.parallel import Communicator
from cfd_coupling.rkl2 import coefficients, stage_count


class Momentum:
    """V(dt/2) M(dt) V(dt/2): viscous stress by RKL2 around convection and pressure by the midpoint rule."""

    def __init__(self, grid: Grid, comm: Communicator, gas: Gas, edges: Edges | None = None) -> None:
        self.grid, self.comm, self.gas, self.edges = grid, comm, gas, edges or Edges(grid, comm)
        self.mu, self.flux = padded_zeros(*grid.shape), np.zeros((2, *grid.shape))
        self._roots = 1.0 / np.sqrt(gas.weights)
        self.stress = np.zeros((3, *grid.shape))
        self.stages, self.rate = np.zeros((2, 2, *grid.shape)), np.zeros((2, *grid.shape))

    def advance(self, fields: Fields, dt: float, substeps: int) -> None:
        """Predict the velocity after dt [s], convection in `substeps` steps.

        Needs the ghosts of all fields and leaves those of the velocity up to date.
        """
        gas, grid = self.gas, self.grid
        viscosity(fields.T.ravel(), fields.scalars.ravel(), self._roots, gas.T_ref, gas.viscosity, self.mu.ravel())
        limit = self.comm.max(float((self.mu / fields.rho).max()))
        dt_explicit = 0.375 / (limit * (grid.dx**-2 + grid.dy**-2))  # the compressive mode sees 4/3 of mu
        self._viscous(fields, 0.5 * dt, dt_explicit)
        for _ in range(substeps):
            self._midpoint(fields, dt / substeps)
        self._viscous(fields, 0.5 * dt, dt_explicit)

    def _midpoint(self, fields: Fields, dt: float) -> None:
        """u_half = u + dt/2 f(u), u = u + dt f(u_half), with -grad p / rho inside f."""
        grid, half, start = self.grid, self.stages[0], fields.velocity
        for velocity, part, target in ((start, 0.5 * dt, half), (half, dt, start)):
            mass_flux(velocity, fields.rho, self.flux)
            momentum_stage(start, velocity, self.flux, fields.rho, fields.p, grid.dx, grid.dy, part, target)
            self.edges.velocity(target)

    def _viscous(self, fields: Fields, dt: float, dt_explicit: float) -> None:
        grid, (xx, yy, xy) = self.grid, self.stress
        self.stages[:] = fields.velocity
        value, target, spare = fields.velocity, *self.stages
        for stage, factors in enumerate(coefficients(stage_count(dt, dt_explicit))):
            stress(value, self.mu, grid.dx, grid.dy, xx, yy, xy)
            viscous_stage(
                xx,
                yy,
                xy,
                fields.rho,
                value,
                target,
                fields.velocity,
                self.rate,
                grid.dx,
                grid.dy,
                dt,
                factors,
                stage == 0,
            )
            self.edges.velocity(target)
            value, target, spare = target, spare, target
        fields.velocity[:] = value
