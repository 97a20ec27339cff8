"""Equation of state: temperature, thermodynamic pressure, and the divergence that the velocity must have.

Q = rho / rho_EOS - 1 collects all expansion since density was last carried; div u = Q / dt lets it out. In a closed
box the mean of Q goes into p0 (and dp / rho into h, so that the sum of rho h - p0 stays what it was); in an open one
p0 stays and either an outflow or, in the periodic box, a frame at the edge takes the excess gas away:
div u = Q / dt - g w.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cfd_coupling.active_cells import ActiveCells, all_cells
from cfd_coupling.fields import Fields, Floats, interior
from cfd_coupling.gas import Gas
from cfd_coupling.grid import GHOSTS, Grid
from cfd_coupling.kernels.state import add_enthalpy, compressibility, density_excess, temperatures
from cfd_coupling.parallel import Communicator
from chemnet.gas.state import GAS_CONSTANT
from chemnet.runtime.errors import NumericalError
from chemnet.runtime.simd import W

FRAME_CELLS = 8  # width of the sink at an open edge


class Expansion:
    """Owns Q and the sink; `box` is `closed` or `open`, `ends` whether the box has walls or streams in y."""

    def __init__(self, grid: Grid, comm: Communicator, gas: Gas, box: str, ends: bool = False) -> None:
        self.grid, self.comm, self.gas, self.box, self.ends = grid, comm, gas, box, ends
        self.frame = frame_weights(grid)
        self.excess, self.sink, self.rho_R = np.zeros(grid.shape), np.zeros(grid.shape), np.zeros(grid.shape)
        self._sums = np.zeros(grid.ny_local)
        self._specific = GAS_CONSTANT / gas.weights
        self._work = np.concatenate([np.zeros(W), np.arange(W)])
        self._everywhere = all_cells(grid).segments()
        self._cells = grid.nx * grid.ny

    def update_temperature(self, fields: Fields, cells: ActiveCells | None = None) -> None:
        """T from h in the interior, or in some cells of it. Raises NumericalError naming the first cell without one."""
        segments = self._everywhere if cells is None else cells.segments()
        width, scalars = self.grid.shape[1], fields.scalars.ravel()
        if temperatures(segments, scalars, self.gas.nasa, fields.T.ravel(), width, self._work):
            self._report_failure(fields)

    def target(self, fields: Fields, dt: float) -> Floats:
        """div u [1/s] (ny_local, nx) for the coming projection, closes p0 (closed) or sets `sink` (open).

        Of zero mean unless the box is open and has ends.

        Needs T in the interior and changes h, T and p0 in a closed box, ghosts not included.
        """
        gas = self.gas
        compressibility(
            fields.scalars.ravel(),
            fields.rho.ravel(),
            fields.T.ravel(),
            fields.p0,
            self._specific,
            gas.nasa,
            self.rho_R.ravel(),
            self._sums,
            self.grid.shape[1],
            self._work,
        )
        compressible = self._mean_of_sums()
        mean = self._mean_excess(fields)
        if self.box == "open" and self.ends:
            return interior(self.excess) / dt
        if self.box == "open":
            return self._let_out(mean, dt)
        dp = mean * fields.p0 / compressible
        fields.p0 += dp
        add_enthalpy(fields.h, fields.rho, dp)
        self.update_temperature(fields)
        mean = self._mean_excess(fields)
        return (interior(self.excess) - mean) / dt

    def _let_out(self, mean: float, dt: float) -> Floats:
        frame_mean = float(self.comm.sum_rows(interior(self.frame).sum(axis=1), self.grid.ny)) / self._cells
        np.multiply(self.frame, mean / (dt * frame_mean), out=self.sink)
        return interior(self.excess) / dt - interior(self.sink)

    def _mean_excess(self, fields: Fields) -> float:
        """Fill Q; returns its mean over the box."""
        density_excess(self.rho_R, fields.T, fields.p0, self.excess, self._sums)
        return self._mean_of_sums()

    def _mean_of_sums(self) -> float:
        return float(self.comm.sum_rows(self._sums, self.grid.ny)) / self._cells

    def _report_failure(self, fields: Fields) -> None:
        j, i = np.argwhere(~np.isfinite(interior(fields.T)))[0]
        Y = interior(fields.Y)[:, j, i]
        names, k = self.gas.mechanism.species_names, int(np.argmax(np.where(np.isfinite(Y), np.abs(Y), np.inf)))
        raise NumericalError(
            f"no temperature for h = {interior(fields.h)[j, i]:.6g} J/kg in cell (row {j + self.grid.j_start}, "
            f"column {i}), step {self.comm.step}, rank {self.comm.rank};\n"
            f"its largest species is Y({names[k]}) = {Y[k]:.6g}. Use a smaller dt or a finer grid."
        )


def frame_weights(grid: Grid) -> Floats:
    """Weights w of the sink at the edges of an open box, with ghosts: 1 at the edge, 0 from FRAME_CELLS inwards.

    A direction with fewer than 4 FRAME_CELLS cells has no open edge: it is the homogeneous one of a plane flame.
    """
    x = _edge_weight(np.arange(-GHOSTS, grid.nx + GHOSTS) % grid.nx, grid.nx)
    y = _edge_weight(np.arange(grid.j_start - GHOSTS, grid.j_stop + GHOSTS) % grid.ny, grid.ny)
    return 1.0 - (1.0 - y[:, None]) * (1.0 - x[None, :])


def _edge_weight(index: NDArray[np.int64], n: int) -> Floats:
    if n < 4 * FRAME_CELLS:
        return np.zeros(len(index))
    distance = np.minimum(index, n - 1 - index) / FRAME_CELLS
    return np.where(distance < 1.0, np.cos(0.5 * np.pi * distance) ** 2, 0.0)
