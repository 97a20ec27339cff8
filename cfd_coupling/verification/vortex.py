"""The Taylor-Green vortex in a uniform stream: order in space and, at constant density, in time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cfd_coupling import initial
from cfd_coupling.fields import Fields, Floats, interior
from cfd_coupling.grid import Grid
from cfd_coupling.verification.scoreboard import Line, at_least, at_most
from cfd_coupling.verification.states import ATMOSPHERE, COMM, advance, drm19, methane_air, orders, rms

LENGTH, VELOCITY, STREAM, END = 1e-3, 1.0, (2.0, -1.0), 1e-4  # [m, m/s, m/s, s]


def space(quick: bool) -> Iterator[Line]:
    """Errors of both components against the exact solution, and what the projection leaves."""
    sizes = (16, 32, 64) if quick else (32, 64, 128)
    for stream, words in (((0.0, 0.0), "at rest"), (STREAM, "in a stream")):
        errors, residual = [], 0.0
        for n in sizes:
            fields, grid = vortex(n, stream)
            reports = advance(fields, grid, n, END / n)
            difference = interior(fields.velocity) - exact(grid, END, stream)
            errors.append([rms(component) for component in difference])
            residual = max(residual, *(report.residual for report in reports))
        found = orders(errors)
        for axis, name in enumerate("uv"):
            yield at_least(f"Taylor-Green {words}, order of {name} in space", float(found[-1, axis]), 1.85)
        yield at_most(f"Taylor-Green {words}, error of the finest over U", max(errors[-1]) / VELOCITY, 1e-3)
        yield at_most(f"Taylor-Green {words}, largest dt |div u|", residual, 1e-11)


def time(quick: bool) -> Iterator[Line]:
    """Errors of 4, 8 and 16 steps on one grid against 128 steps."""
    n = 32 if quick else 64
    dt = 0.4 * LENGTH / n / (abs(STREAM[0]) + abs(STREAM[1]) + 2.0 * VELOCITY)
    end, results = 16 * dt, {}
    for steps in (16, 32, 64, 256):
        fields, grid = vortex(n, STREAM)
        advance(fields, grid, steps, end / steps, cfl_limit=1.0)
        results[steps] = interior(fields.velocity).copy()
    errors = [rms(results[steps] - results[256]) for steps in (16, 32, 64)]
    yield at_least("constant density, order of u and v in time", float(orders(errors)[0]), 1.85)


def vortex(n: int, stream: tuple[float, float]) -> tuple[Fields, Grid]:
    """The vortex on n x n cells, carried by a stream [m/s]."""
    gas, grid = drm19(), Grid(n, n, LENGTH, LENGTH)
    Y = methane_air(gas)
    fields = initial.taylor_green(grid, COMM, gas, Y=Y, temperature=300.0, pressure=ATMOSPHERE, velocity=VELOCITY)
    fields.velocity += np.array(stream)[:, None, None]
    return fields, grid


def exact(grid: Grid, end: float, stream: tuple[float, float]) -> Floats:
    """The exact velocity (2, ny, nx) [m/s] after `end` [s], moved by the stream."""
    gas, a = drm19(), 2.0 * np.pi / grid.length_x
    nu = initial.kinematic_viscosity(gas, methane_air(gas), 300.0, ATMOSPHERE)
    x, y = grid.x[None, :] - stream[0] * end, grid.y[:, None] - stream[1] * end
    decayed = VELOCITY * np.exp(-2.0 * nu * a * a * end)
    u = np.cos(a * (x - 0.5 * grid.dx)) * np.sin(a * y)
    v = -np.sin(a * x) * np.cos(a * (y - 0.5 * grid.dy))
    return np.asarray(decayed * np.array([u, v]) + np.array(stream)[:, None, None])
