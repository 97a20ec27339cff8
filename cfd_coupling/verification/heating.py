"""Heating of a closed box: p0 and T of hot gas that ignites, against Cantera's reactor of constant volume."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cfd_coupling import initial
from cfd_coupling.chemistry import build_chemistry
from cfd_coupling.config import ChemistryConfig
from cfd_coupling.fields import interior
from cfd_coupling.grid import Grid
from cfd_coupling.verification.scoreboard import Line, at_least, at_most, reported
from cfd_coupling.verification.states import ATMOSPHERE, COMM, advance, drm19, methane_air, orders
from chemnet.gas.canonical import constant_volume_end

_TEMPERATURE = 2000.0  # [K]
_IGNITING, _BURNT = 4e-5, 2e-4  # [s], ends while heat is released fast, and close to equilibrium


def closed_box(quick: bool) -> Iterator[Line]:
    """The rise of p0 and of T close to equilibrium, relative to that of the reactor, and the order while it ignites."""
    dt = 2e-6 if quick else 1e-6
    in_p0, in_T = _errors(_BURNT, dt)
    yield at_most(f"closed heating, dt {dt:g} s, error of the rise of p0", in_p0, 1e-3)
    yield at_most(f"closed heating, dt {dt:g} s, error of the rise of T", in_T, 1e-3)
    errors = [_errors(_IGNITING, part * dt)[0] for part in (1.0, 0.5, 0.25)]
    yield reported(f"closed heating, dt {dt:g} s, error of p0 in mid-ignition", errors[0])
    yield at_least("closed heating, order of p0 in time", float(orders(errors)[-1]), 0.9)


def _errors(end: float, dt: float) -> tuple[float, float]:
    """Errors of the rises of p0 and T after `end` [s], relative to those of the reactor."""
    gas, grid = drm19(), Grid(3, 3, 1e-3, 1e-3)
    Y = methane_air(gas)
    T, P = constant_volume_end(gas.mechanism.gas(), np.hstack([_TEMPERATURE, ATMOSPHERE, Y]), end)
    fields = initial.at_rest(grid, COMM, gas, np.full((3, 3), _TEMPERATURE), Y, ATMOSPHERE)
    chemistry = build_chemistry(ChemistryConfig(kind="exact", rtol=1e-8, atol=1e-12), gas.mechanism, dt)
    advance(fields, grid, round(end / dt), dt, chemistry)
    hot = float(interior(fields.T).mean())
    return abs(fields.p0 - P) / (P - ATMOSPHERE), abs(hot - T) / (T - _TEMPERATURE)
