"""Convection of density, species and enthalpy with the mass flux of the projected velocity."""

from __future__ import annotations

import numpy as np

from cfd_coupling.active_cells import ActiveCells, Integers
from cfd_coupling.fields import Fields, Floats, padded_zeros
from cfd_coupling.grid import Grid
from cfd_coupling.kernels.convection import carry_density, convection_stage, mass_flux
from cfd_coupling.kernels.state import copy_segments
from cfd_coupling.parallel import Communicator
from chemnet.runtime.simd import W, aligned

REACH = 6  # cells that one step of two stages looks out


class Convection:
    """SSP-RK2 with WENO5 face values; the density is carried by the same fluxes."""

    def __init__(self, grid: Grid, comm: Communicator, n_species: int) -> None:
        self.grid, self.comm = grid, comm
        self.flux = padded_zeros(2, *grid.shape)
        self.stage = padded_zeros(n_species + 1, *grid.shape)
        self.columns = (grid.shape[1] // W + 3) * W
        self._work = aligned((3 * (n_species + 2) + 5) * self.columns // W + 1)
        self._work[-W:] = np.arange(W)
        self.rho = padded_zeros(*grid.shape)

    def advance(self, fields: Fields, active: ActiveCells, sink: Floats, dt: float, substeps: int) -> ActiveCells:
        """Carry everything for dt [s] in `substeps` steps; returns the cells whose scalars may have changed.

        `active`: the cells that are not uniform. sink [1/s]: gas taken away at its local composition (zero in a
        closed box). Needs the ghosts of velocity, rho and scalars; leaves those of rho and scalars out of date.
        """
        mass_flux(fields.velocity, fields.rho, self.flux)
        around = active.widened(REACH * substeps)
        for substep in range(substeps):
            if substep:
                self.comm.update(fields.scalars)
            self._substep(fields, around, sink, dt / substeps)
        return around

    def _substep(self, fields: Fields, around: ActiveCells, sink: Floats, dt: float) -> None:
        grid, blocks = self.grid, around.blocks()
        before, after = fields.rho, self.rho
        carry_density(before, self.flux, sink, grid.dx, grid.dy, dt, after)
        first, last = fields.scalars, self.stage
        copy_segments(around.segments(margin=3), first, last)
        self._stage(blocks, first, first, before, after, dt, 1.0, last)
        self.comm.update(last)
        self._stage(blocks, last, first, before, after, dt, 0.5, first)
        fields.rho, self.rho = after, before

    def _stage(
        self,
        blocks: Integers,
        y: Floats,
        y0: Floats,
        before: Floats,
        after: Floats,
        dt: float,
        weight: float,
        out: Floats,
    ) -> None:
        grid, (rows, width) = self.grid, self.grid.shape
        arrays = (y.ravel(), y0.ravel(), self.flux.ravel(), before.ravel(), after.ravel())
        sizes = (rows, width, len(y), self.columns)
        convection_stage(blocks, *arrays, *sizes, self._work, grid.dx, grid.dy, dt, weight, out.ravel())
