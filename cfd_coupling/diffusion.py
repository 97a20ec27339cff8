"""Diffusion of species and enthalpy over a part of the time step."""

from __future__ import annotations

import numpy as np

from cfd_coupling.active_cells import ActiveCells, Integers
from cfd_coupling.fields import Fields, Floats
from cfd_coupling.gas import Gas
from cfd_coupling.grid import Grid
from cfd_coupling.kernels.diffusion import diffusion_stage
from cfd_coupling.kernels.state import copy_segments
from cfd_coupling.kernels.transport import transport
from cfd_coupling.parallel import Communicator
from cfd_coupling.rkl2 import Coefficients, coefficients, stage_count

_FIRST_REACH = 12  # cells around the active ones that are prepared for; widened when the stages reach further


class Diffusion:
    """Owns the coefficients and the stage arrays: about 5 (K + 1) fields beside the state."""

    def __init__(self, grid: Grid, comm: Communicator, gas: Gas) -> None:
        self.grid, self.comm, self.gas = grid, comm, gas
        species, scalars = (gas.n_species, *grid.shape), (gas.n_species + 1, *grid.shape)
        self.rho_D, self.h_k, self.lam_cp = np.zeros(species), np.zeros(species), np.zeros(grid.shape)
        self.rate, self.stages = np.zeros(scalars), (np.zeros(scalars), np.zeros(scalars))
        self.stage_count = 0

    def advance(self, fields: Fields, active: ActiveCells, dt: float) -> ActiveCells:
        """Diffuse for dt [s] at fixed rho; returns the cells whose species and enthalpy may have changed.

        `active`: the cells that are not uniform. Needs T and one layer of ghosts of scalars, T and rho; leaves T and
        the ghosts of scalars out of date. Coefficients are those at the start of dt; the number of stages follows
        from them each time (`stage_count`).
        """
        if not active.tiles.any():
            return active
        around = self._prepare(fields, active, dt)
        blocks, shell = around.blocks(), around.segments(margin=1)
        value, target, spare = fields.scalars, *self.stages
        copy_segments(shell, value, target)
        copy_segments(shell, value, spare)
        for stage, factors in enumerate(coefficients(self.stage_count)):
            self._stage(blocks, value, target, fields, dt, factors, first=stage == 0)
            value, target, spare = target, spare, target
        copy_segments(around.segments(), value, fields.scalars)
        return around

    def _prepare(self, fields: Fields, active: ActiveCells, dt: float) -> ActiveCells:
        """Coefficients in all cells that the stages of dt will reach, and those cells."""
        reach = _FIRST_REACH
        while True:
            around = active.widened(reach)
            self.stage_count = stage_count(dt, self._explicit_limit(self._coefficients(fields, around)))
            if self.stage_count < reach:
                return around
            reach = self.stage_count + 1

    def _coefficients(self, fields: Fields, around: ActiveCells) -> float:
        """Fill the coefficients around the active cells; returns the largest diffusivity [m2/s] on any rank."""
        gas = self.gas
        largest = transport(
            around.segments(margin=1),
            fields.T,
            fields.scalars,
            fields.rho,
            fields.p0,
            gas.weights,
            gas.nasa,
            gas.T_ref,
            gas.conductivity,
            gas.basis,
            gas.pairs,
            self.rho_D,
            self.lam_cp,
            self.h_k,
        )
        return self.comm.max(largest)

    def _explicit_limit(self, diffusivity: float) -> float:
        return 0.5 / (diffusivity * (self.grid.dx**-2 + self.grid.dy**-2))

    def _stage(
        self,
        blocks: Integers,
        value: Floats,
        target: Floats,
        fields: Fields,
        dt: float,
        factors: Coefficients,
        first: bool,
    ) -> None:
        grid = self.grid
        diffusion_stage(
            blocks,
            value,
            target,
            fields.scalars,
            self.rate,
            fields.rho,
            self.rho_D,
            self.lam_cp,
            self.h_k,
            self.gas.weights,
            grid.dx,
            grid.dy,
            dt,
            factors,
            first,
        )
        self.comm.update(target, width=1)
