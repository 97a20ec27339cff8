"""Decay of turbulence at constant density: the energy lost against the viscous dissipation of the velocity."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cfd_coupling import initial
from cfd_coupling.chemistry import Frozen
from cfd_coupling.config import FlowConfig
from cfd_coupling.fields import Fields, interior
from cfd_coupling.grid import Grid
from cfd_coupling.stepping import Stepper
from cfd_coupling.verification.scoreboard import Line, at_least, at_most
from cfd_coupling.verification.states import ATMOSPHERE, COMM, drm19, kernel, methane_air, orders


def decay(quick: bool) -> Iterator[Line]:
    """|dE + integral of the dissipation| over |dE| on two grids: dE/dt = -nu integral of (curl u)^2, exactly."""
    sizes = (32, 64) if quick else (64, 128)
    errors, lost = zip(*(_imbalance(n) for n in sizes), strict=True)
    yield at_most(f"decay of turbulence on {sizes[-1]}^2, energy lost against dissipation", errors[-1], 0.01)
    yield at_least("decay of turbulence, order of that balance", float(orders(list(errors))[0]), 1.85)
    yield at_least("decay of turbulence, share of the energy that is lost", lost[-1], 0.2)


def _imbalance(n: int) -> tuple[float, float]:
    """Relative imbalance, and the share of the energy that is lost, of n x n cells in 1 mm for 0.1 ms."""
    gas, grid, dt = drm19(), Grid(n, n, 1e-3, 1e-3), 1e-4 / n
    nu = initial.kinematic_viscosity(gas, methane_air(gas), 300.0, ATMOSPHERE)
    fields = kernel(grid, kernel_temperature=300.0, rms_velocity=1.0)
    stepper = Stepper(grid, COMM, gas, Frozen(), FlowConfig())
    energies, rates = [_energy(fields)], [nu * _enstrophy(fields, grid)]
    for _ in range(n):
        stepper.step(fields, dt)
        energies.append(_energy(fields))
        rates.append(nu * _enstrophy(fields, grid))
    lost = energies[0] - energies[-1]
    return abs(lost - float(np.trapezoid(rates, dx=dt))) / lost, lost / energies[0]


def _energy(fields: Fields) -> float:
    """Mean kinetic energy [m2/s2]."""
    return 0.5 * float(np.mean((interior(fields.velocity) ** 2).sum(axis=0)))


def _enstrophy(fields: Fields, grid: Grid) -> float:
    """Mean square of the vorticity [1/s2], by Fourier modes of the face velocities: exact for what they carry."""
    n = grid.nx
    k = 2.0 * np.pi * np.fft.fftfreq(n, grid.dx)
    half = np.exp(0.5j * k * grid.dx)
    u, v = np.fft.fft2(interior(fields.u)) * half[None, :], np.fft.fft2(interior(fields.v)) * half[:, None]
    vorticity = np.fft.ifft2(1j * k[None, :] * v - 1j * k[:, None] * u)
    return float(np.mean(np.abs(vorticity) ** 2))
