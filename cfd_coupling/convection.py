"""Convection of density, species and enthalpy with the mass flux of the projected velocity."""

from __future__ import annotations

import numpy as np

from cfd_coupling.active_cells import ActiveCells
from cfd_coupling.fields import Fields, Floats
from cfd_coupling.grid import Grid
from cfd_coupling.kernels.convection import carry_density, convection_stage, mass_flux
from cfd_coupling.kernels.state import copy_segments
from cfd_coupling.parallel import Communicator

REACH = 6  # cells that one step of two stages looks out


class Convection:
    """SSP-RK2 with WENO5 face values; the density is carried by the same fluxes."""

    def __init__(self, grid: Grid, comm: Communicator, n_species: int) -> None:
        self.grid, self.comm = grid, comm
        self.flux = np.zeros((2, *grid.shape))
        self.stage = np.zeros((n_species + 1, *grid.shape))
        self.rho = np.zeros(grid.shape)

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
        grid, flux, blocks = self.grid, self.flux, around.blocks()
        before, after = fields.rho, self.rho
        carry_density(before, flux, sink, grid.dx, grid.dy, dt, after)
        first, last = fields.scalars, self.stage
        copy_segments(around.segments(margin=3), first, last)
        convection_stage(blocks, first, first, flux, before, after, grid.dx, grid.dy, dt, 1.0, last)
        self.comm.update(last)
        convection_stage(blocks, last, first, flux, before, after, grid.dx, grid.dy, dt, 0.5, first)
        fields.rho, self.rho = after, before
