"""Diffusion of species and enthalpy over a part of the time step."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cfd_coupling.active_cells import ActiveCells, Integers
from cfd_coupling.fields import Fields, Floats
from cfd_coupling.gas import Gas
from cfd_coupling.grid import GHOSTS, Grid
from cfd_coupling.kernels.diffusion import N_WORK, diffusion_stages
from cfd_coupling.kernels.rows import pack, unpack
from cfd_coupling.kernels.transport import transport
from cfd_coupling.parallel import Communicator
from cfd_coupling.rkl2 import coefficients, stage_count
from cfd_coupling.rows import Rows
from chemnet.runtime.simd import W, aligned

_FIRST_REACH = 12  # cells around the active ones that are prepared for; widened when the stages reach further


class Diffusion:
    """Owns the coefficients and the stage arrays: about 5 (K + 1) fields beside the state.

    Coefficients are kept in float32, which changes fluxes by less than 1e-6 of themselves and not what they conserve:
    a stage is bound by the memory it reads.
    """

    def __init__(self, grid: Grid, comm: Communicator, gas: Gas) -> None:
        self.grid, self.comm, self.gas = grid, comm, gas
        K = gas.n_species
        self.half, self.lam_cp = Rows(grid, 2 * K, single=True), Rows(grid, 1)
        self.start, self.rate, self.stages = (
            Rows(grid, K + 1),
            Rows(grid, K + 1),
            (Rows(grid, K + 1), Rows(grid, K + 1)),
        )
        self.columns = self.start.array.shape[2]
        self.inverse_weights = 1.0 / gas.weights
        self._stage_work = aligned(GHOSTS * (N_WORK + K) * self.columns // W + 1)
        self._cell_work = aligned(2 * K + 2)
        self._cell_work[-W:] = np.arange(W)
        self.stage_count = 0

    def advance(self, fields: Fields, active: ActiveCells, dt: float) -> ActiveCells:
        """Diffuse for dt [s] at fixed rho; returns the cells whose species and enthalpy may have changed.

        `active`: the cells that are not uniform. Needs T and the ghosts of scalars, T and rho; leaves T and
        the ghosts of scalars out of date. Coefficients are those at the start of dt; the number of stages follows
        from them each time (`stage_count`).
        """
        if not active.tiles.any():
            return active
        around = self._prepare(fields, active, dt)
        shell, sweep_rows = around.shell(), around.rows()
        for stages in self.stages:
            pack(shell, fields.scalars, stages.array)
        factors = np.array(coefficients(self.stage_count))
        for done in range(0, self.stage_count, GHOSTS):
            self._sweep(sweep_rows, fields, dt, factors[done : done + GHOSTS], done)
        unpack(around.segments(), self.stages[1 - self.stage_count % 2].array, fields.scalars)
        return around

    def _prepare(self, fields: Fields, active: ActiveCells, dt: float) -> ActiveCells:
        """Scalars and coefficients in all cells that the stages of dt will reach, and those cells."""
        reach = _FIRST_REACH
        while True:
            around = active.widened(reach)
            segments = around.segments(margin=1, outside=GHOSTS)
            pack(segments, fields.scalars, self.start.array)
            self.stage_count = stage_count(dt, self._explicit_limit(self._coefficients(fields, segments)))
            if self.stage_count < reach:
                return around
            reach = self.stage_count + 1

    def _coefficients(self, fields: Fields, segments: Integers) -> float:
        """Fill the coefficients in the cells of `segments`; returns the largest diffusivity [m2/s] on any rank."""
        gas = self.gas
        largest = transport(
            segments,
            fields.T.ravel(),
            self.start.flat,
            fields.rho.ravel(),
            self.grid.shape[1],
            self.columns,
            fields.p0,
            gas.weights,
            self.inverse_weights,
            gas.nasa,
            gas.T_ref,
            gas.conductivity,
            gas.basis,
            gas.pairs,
            self.half.flat,
            self.lam_cp.flat,
            self._cell_work,
        )
        return self.comm.max(largest)

    def _explicit_limit(self, diffusivity: float) -> float:
        return 0.5 / (diffusivity * (self.grid.dx**-2 + self.grid.dy**-2))

    def _sweep(
        self,
        sweep_rows: tuple[Integers, Integers, NDArray[np.bool_]],
        fields: Fields,
        dt: float,
        factors: Floats,
        done: int,
    ) -> None:
        """As many stages as `factors` (n, 4) has rows, after `done` ones."""
        grid, (odd, even) = self.grid, self.stages
        if done:
            for stages in self.stages:
                self.comm.update(stages.fields)
        diffusion_stages(
            *sweep_rows,
            self.start.flat,
            odd.flat,
            even.flat,
            self.rate.flat,
            fields.rho.ravel(),
            grid.shape[1],
            self.half.flat,
            self.lam_cp.flat,
            self.inverse_weights,
            self.columns,
            self._stage_work,
            grid.dx,
            grid.dy,
            dt,
            factors,
            done + 1,
        )
