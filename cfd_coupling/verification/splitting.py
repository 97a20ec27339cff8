"""Order in time: of diffusion and chemistry alone, by traces in a gas at rest, and of the whole scheme."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import numpy as np

from cfd_coupling import initial
from cfd_coupling.chemistry import ChemistryReport
from cfd_coupling.config import FlowConfig
from cfd_coupling.fields import Fields, Floats, interior
from cfd_coupling.gas import Gas
from cfd_coupling.grid import GHOSTS, Grid
from cfd_coupling.verification.scoreboard import Line, at_least, reported
from cfd_coupling.verification.states import (
    ATMOSPHERE,
    COMM,
    HotConversion,
    advance,
    conversion,
    drm19,
    kernel,
    methane_air,
    orders,
    rms,
)

TRACE = 1e-6  # mass fraction: too little to change density or temperature
FIRST_ORDER = ("lie",)  # splittings that claim no more
_LENGTH, _END, _RATE = 1e-3, 4e-4, 5e3  # [m, s, 1/s]


class TraceReaction:
    """d(Y)/dt = -k(x) Y^2 / TRACE of CH4 that burns to CO2 and H2O: exact in each cell, and not linear."""

    def __init__(self, gas: Gas, grid: Grid) -> None:
        self.change, self.fuel = conversion(gas), gas.mechanism.index("CH4")
        self.rate = _RATE * (1.0 + 0.9 * np.cos(2.0 * np.pi * grid.x / grid.length_x))[None, :]

    def apply(self, fields: Fields, dt: float) -> ChemistryReport:
        """React for dt [s]."""
        Y = interior(fields.Y)
        fuel = Y[self.fuel]
        burnt = fuel - fuel / (1.0 + self.rate * dt * fuel / TRACE)
        Y += burnt * (self.change / -self.change[self.fuel])[:, None, None]
        return ChemistryReport.of_no_reaction(fields)


def diffusion_and_chemistry(quick: bool) -> Iterator[Line]:
    """Errors of 4, 8, 16 steps against 128, for each splitting; even numbers of steps, for those that alternate."""
    n = 16 if quick else 32
    for splitting in get_args(FlowConfig.model_fields["splitting"].annotation):
        reference = _traces(n, 128, splitting)
        errors = [rms(_traces(n, steps, splitting) - reference) for steps in (4, 8, 16)]
        first = splitting in FIRST_ORDER
        name = f"order of the splitting {splitting}{' (first order by design)' * first}"
        yield at_least(name, float(orders(errors)[-1]), 0.9 if first else 1.8)


def _traces(n: int, steps: int, splitting: str) -> Floats:
    """CH4 over TRACE after `steps` steps to _END."""
    gas, grid = drm19(), Grid(n, n, _LENGTH, _LENGTH)
    air = methane_air(gas)
    air[gas.mechanism.index("CH4")] = 0.0
    air /= air.sum()
    wave = np.sin(2.0 * np.pi * grid.x[None, :] / _LENGTH) * np.sin(2.0 * np.pi * grid.y[:, None] / _LENGTH)
    Y = air[:, None, None] * (1.0 - TRACE * (1.5 + wave))
    Y[gas.mechanism.index("CH4")] = TRACE * (1.5 + wave)
    fields = initial.at_rest(grid, COMM, gas, np.full((n, n), 300.0), Y, ATMOSPHERE)
    options = {"splitting": splitting, "skip_uniform": False}
    advance(fields, grid, steps, _END / steps, TraceReaction(gas, grid), **options)
    return fields.Y[gas.mechanism.index("CH4"), GHOSTS:-GHOSTS, GHOSTS:-GHOSTS] / TRACE


def whole_scheme(quick: bool) -> Iterator[Line]:
    """A burning kernel at dt, dt/2, dt/4 against dt/16."""
    grid = Grid(32, 32, 1.5e-3, 1.5e-3)
    ladder = (8, 16, 32, 128) if quick else (8, 16, 32, 64, 512)
    results = []
    for steps in ladder:
        fields = kernel(grid, kernel_edge_cells=4.0)
        advance(fields, grid, steps, 1.6e-5 / steps, HotConversion(drm19(), rate=1e4, above=0.0))
        results.append({name: interior(getattr(fields, name)).copy() for name in ("T", "u", "v", "rho")})
    for name in results[0]:
        errors = [rms(result[name] - results[-1][name]) for result in results[:-1]]
        yield reported(f"variable density, whole scheme, order of {name} in time", float(orders(errors)[-1]))
