"""Scalar advection: a wave of argon carried once round a box of uniform density, and a step within its bounds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cfd_coupling import initial
from cfd_coupling.active_cells import all_cells
from cfd_coupling.convection import Convection
from cfd_coupling.fields import Floats, interior
from cfd_coupling.grid import Grid
from cfd_coupling.verification.scoreboard import Line, at_least, at_most
from cfd_coupling.verification.states import ATMOSPHERE, COMM, drm19, mixture, orders, rms

_LENGTH, _SPEED = 6.4e-2, 10.0  # [m, m/s]


def once_round(quick: bool) -> Iterator[Line]:
    """Order along x and y at a CFL number of 0.2, and what a step overshoots."""
    sizes = (16, 32, 64) if quick else (32, 64, 128)
    for axis, name in enumerate("xy"):
        errors = []
        for n in sizes:
            wave = 0.3 + 0.2 * np.sin(2.0 * np.pi * (np.arange(n) + 0.5) / n)
            errors.append(rms(_carried(n, axis, wave, 5 * n, _LENGTH / _SPEED / (5 * n)) - wave))
        yield at_least(f"scalar advection along {name}, order", float(orders(errors)[-1]), 1.85)
    n = 64
    step = (np.abs((np.arange(n) + 0.5) / n - 0.5) < 0.16).astype(float)
    carried = _carried(n, 0, step, 160, 4e-5)
    yield at_most("scalar advection, overshoot of a step", float(max(-carried.min(), carried.max() - 1.0)), 1e-4)


def _carried(n: int, axis: int, share: Floats, steps: int, dt: float) -> Floats:
    """Argon in carbon dioxide, `share` (n,) at the start, after `steps` steps along one axis; a row of it."""
    gas = drm19()
    nx, ny = (n, 6) if axis == 0 else (6, n)
    grid = Grid(nx, ny, _LENGTH * nx / n, _LENGTH * ny / n)
    weight = np.broadcast_to(share[None, :] if axis == 0 else share[:, None], (ny, nx))
    Y = mixture(gas, AR=1.0)[:, None, None] * weight + mixture(gas, CO2=1.0)[:, None, None] * (1.0 - weight)
    T = 8.0 / np.tensordot(1.0 / gas.weights, Y, axes=1)  # [K], of uniform density
    fields = initial.at_rest(grid, COMM, gas, T, Y, ATMOSPHERE)
    fields.velocity[axis] = _SPEED
    convection, sink = Convection(grid, COMM, gas.n_species), np.zeros(grid.shape)
    for _ in range(steps):
        convection.advance(fields, all_cells(grid), sink, dt, 1)
        COMM.update(fields.scalars)
        COMM.update(fields.rho)
    argon = interior(fields.Y[gas.mechanism.index("AR")])
    return argon[0].copy() if axis == 0 else argon[:, 0].copy()
