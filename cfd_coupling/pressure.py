"""The pressure equation: projection of the velocity onto a given divergence, with variable density."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from cfd_coupling.fields import Fields, Floats, interior
from cfd_coupling.grid import Grid, slab_bounds
from cfd_coupling.kernels.pressure import (
    correct_velocity,
    descend,
    divergence,
    face_coefficients,
    minus_laplacian,
    row_products,
    turn,
)
from cfd_coupling.parallel import Communicator
from chemnet.runtime.errors import NumericalError

_MAX_ITERATIONS = 200


class ConstantPoisson:
    """Solves -laplacian(q) = f, periodic, five-point, by FFT: rows here, one transpose each way for the columns.

    In single precision: it only preconditions, and costs half. The mean of q is zero, that of f is ignored.
    """

    def __init__(self, grid: Grid, comm: Communicator) -> None:
        self.grid, self.comm = grid, comm
        modes_x = np.arange(grid.nx // 2 + 1)
        cuts = slab_bounds(len(modes_x), comm.size)
        along_x = (2.0 * np.sin(np.pi * modes_x / grid.nx) / grid.dx) ** 2
        along_y = (2.0 * np.sin(np.pi * np.arange(grid.ny) / grid.ny) / grid.dy) ** 2
        symbol = along_y[:, None] + along_x[None, cuts[comm.rank] : cuts[comm.rank + 1]]
        inverse = np.divide(1.0, symbol, out=np.zeros_like(symbol), where=symbol > 0.0)
        self.inverse = inverse.astype(np.float32)

    def solve(self, f: NDArray[np.floating]) -> NDArray[np.float32]:
        """q (ny_local, nx) for f of that shape; the same for any number of ranks."""
        rows = scipy.fft.rfft(f.astype(np.float32, copy=False), axis=1)
        columns = scipy.fft.fft(self.comm.to_columns(rows, self.grid.ny), axis=0, overwrite_x=True)
        columns *= self.inverse
        columns = scipy.fft.ifft(columns, axis=0, overwrite_x=True)
        rows = self.comm.to_rows(columns, self.grid.nx // 2 + 1)
        return scipy.fft.irfft(rows, n=self.grid.nx, axis=1, overwrite_x=True)


@dataclass(frozen=True)
class ProjectionReport:
    """Iterations of conjugate gradients, and the largest dt |div u - target| that is left."""

    iterations: int
    residual: float


class Projection:
    """u = u* - dt grad(phi) / rho with div u = target, p += phi.

    div(grad(phi) / rho) = (div u* - target) / dt by conjugate gradients, preconditioned with
    L^-1 div(rho grad) L^-1, L the Laplacian: in one dimension that is the inverse itself (the idea of the BFBt
    preconditioner of Elman 1999, SIAM J. Sci. Comput. 20). With a flame of density ratio 7 it takes 11 iterations
    where sqrt(rho) L^-1 sqrt(rho) takes 28.
    """

    def __init__(self, grid: Grid, comm: Communicator, tolerance: float) -> None:
        """tolerance: of dt |div u - target|."""
        self.grid, self.comm, self.tolerance = grid, comm, tolerance
        self.laplacian = ConstantPoisson(grid, comm)
        self.rho, self.inverse_rho = np.zeros((2, *grid.shape)), np.zeros((2, *grid.shape))
        self.phi, self.direction, self.smooth = np.zeros(grid.shape), np.zeros(grid.shape), np.zeros(grid.shape)
        plane = (grid.ny_local, grid.nx)
        self.applied, self.single = np.zeros(plane), np.zeros(plane, dtype=np.float32)
        self.sums = np.zeros(grid.ny_local)

    def project(self, fields: Fields, target: Floats, dt: float) -> ProjectionReport:
        """Give the velocity the divergence `target` (ny_local, nx) [1/s], whose mean must vanish, and update p.

        Needs the ghosts of velocity and rho; leaves those of velocity and p up to date. Raises NumericalError when
        the iteration does not converge.
        """
        grid = self.grid
        face_coefficients(fields.rho, self.rho, self.inverse_rho)
        residual = self._excess(fields, target) / -dt
        residual -= float(self.comm.sum_rows(residual.sum(axis=1), grid.ny)) / (grid.nx * grid.ny)
        iterations = self._solve(residual, 0.5 * self.tolerance / dt**2)
        self.comm.update(self.phi, width=1)
        correct_velocity(fields.velocity, self.phi, self.inverse_rho, grid.dx, grid.dy, dt)
        self.comm.update(fields.velocity)
        fields.p += self.phi
        self.comm.update(fields.p, width=1)
        left = self.comm.max(float(np.abs(self._excess(fields, target)).max()))
        return ProjectionReport(iterations, dt * left)

    def _excess(self, fields: Fields, target: Floats) -> Floats:
        """div u - target."""
        excess = np.empty_like(target)
        divergence(fields.velocity, self.grid.dx, self.grid.dy, excess)
        return excess - target

    def _solve(self, residual: Floats, tolerance: float) -> int:
        """Solve -div(grad(phi) / rho) = residual into self.phi; returns the iterations. `residual` is used up."""
        self.phi[:] = 0.0
        self.direction[:] = 0.0
        if self.comm.max(float(np.abs(residual).max())) <= tolerance:
            return 0
        self.single[:] = residual
        before = 1.0
        for iteration in range(1, _MAX_ITERATIONS + 1):
            preconditioned = self._precondition()
            row_products(preconditioned, residual, self.sums)
            now = self._total()
            turn(self.direction, preconditioned, now / before)
            self.comm.update(self.direction, width=1)
            minus_laplacian(self.direction, self.inverse_rho, self.grid.dx, self.grid.dy, self.applied, self.sums)
            alpha = now / self._total()
            if not np.isfinite(alpha):
                break
            largest = descend(alpha, self.direction, self.applied, self.phi, residual, self.single)
            before = now
            if self.comm.max(largest) <= tolerance:
                return iteration
        raise NumericalError(
            f"the pressure equation did not converge after {iteration} iterations, step {self.comm.step};\n"
            "the state has become unphysical: use a smaller dt."
        )

    def _precondition(self) -> NDArray[np.float32]:
        """L^-1 div(rho grad) L^-1 of the residual."""
        grid = self.grid
        interior(self.smooth)[:] = self.laplacian.solve(self.single)
        self.comm.update(self.smooth, width=1)
        minus_laplacian(self.smooth, self.rho, grid.dx, grid.dy, self.applied, self.sums)
        return self.laplacian.solve(self.applied)

    def _total(self) -> float:
        return float(self.comm.sum_rows(self.sums, self.grid.ny))
