"""Planar flames in the flow solver: the speed by a model beside the exact one, on the same grid.

The solver is not known here: the caller passes in the function that burns a flame.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from chemnet.gas.canonical import AIR
from chemnet.runtime.errors import NumericalError
from chemnet.runtime.tables import Table
from chemnet.validation.flame_scales import FlameScales
from chemnet.validation.metrics import Figure
from chemnet.validation.references import ATOL, RTOL, cached
from chemnet.validation.rollouts import Report

CHECK = "flames"
TARGETS = {0.7: 0.5, 1.0: 0.3, 1.3: 0.5}  # [%] by equivalence ratio
SPEED, LEFT = "speed", "left"
_CELLS_PER_THICKNESS, _TRAVEL = 14.0, 0.8  # as the case has them for methane

# Burns the planar flame of a mechanism with changes of its case, and gives its `speed` [m/s] and the share of the cells
# meant for the model that it `left` to the exact step.
Burn = Callable[[Sequence[str]], dict[str, float]]


@dataclass(frozen=True)
class FlameSpeeds:
    """Speeds of one flame [m/s], None for a model that breaks the flame off, the share of the cells that the model
    left to the exact step [%], and why the flame broke off."""

    phi: float
    exact: float
    model: float | None
    left: float | None
    failure: str = ""

    @property
    def error(self) -> float | None:
        """Relative error of the speed [%], with its sign."""
        return None if self.model is None else 100.0 * (self.model / self.exact - 1.0)


def validate_flames(
    chemistry: Sequence[str],
    gas: Sequence[str],
    burn: Burn,
    key: Mapping[str, Any],
    report: Report = print,
    cache: Path | None = None,
    phis: Sequence[float] = tuple(TARGETS),
) -> list[FlameSpeeds]:
    """Burn a flame at each equivalence ratio exactly and by a model.

    `chemistry` and `gas` are changes of the case that name the model and the mixture; `key` is what the exact speeds,
    which are kept in `cache`, depend on besides. Raises what `burn` raises for the exact flame.
    """
    exact = ("chemistry.kind=exact", f"chemistry.rtol={RTOL}", f"chemistry.atol={ATOL}")
    found = []
    for phi in phis:
        case = (*gas, f"mixture.phi={phi}")
        changes = [*case, *exact]
        report(f"flame at phi {phi:g}: the exact one first, where it is not kept yet, then that of the model")
        speed = cached(cache, "flame", {**key, "case": changes}, partial(burn, changes))[SPEED]
        try:
            of_model = burn([*case, *chemistry])
            found.append(FlameSpeeds(phi, speed, of_model[SPEED], 100.0 * of_model[LEFT]))
        except NumericalError as error:
            found.append(FlameSpeeds(phi, speed, None, None, str(error).splitlines()[0]))
    return found


def changes_of_gas(
    mechanism: str, fuel: Mapping[str, float], dt: float, oxidizer: Mapping[str, float] = AIR
) -> list[str]:
    """The changes of the free flame's case for a mechanism, its fuel and oxidizer, and a time step [s]."""
    main = max(fuel, key=lambda name: fuel[name])
    return [
        f"mechanism={json.dumps(mechanism)}",
        f"mixture.fuel={json.dumps(dict(fuel))}",
        f"mixture.oxidizer={json.dumps(dict(oxidizer))}",
        f"consumption_speed.fuel={main}",
        f"dt={dt}",
    ]


def box_of(scales: FlameScales, dt: float) -> list[str]:
    """Changes of the free flame's case, so that its cells and its time fit the flame of a gas and steps of dt [s].

    Its cells are a fourteenth of the thickness, as those of methane in the case, and it burns for the time in which a
    flame moves by four fifths of its thickness, within a hundred and 5,000 steps.
    """
    cell = scales.thickness / _CELLS_PER_THICKNESS
    end = min(max(_TRAVEL * scales.thickness / scales.speed, 100.0 * dt), 5_000.0 * dt)
    lengths = {"grid.length_x": 512 * cell, "grid.length_y": 3 * cell, "initial.burnt_width": 100 * cell}
    values = {
        **lengths,
        "end_time": end,
        "mixture.pressure": scales.pressure,
        "mixture.temperature": scales.temperature,
    }
    return [f"{key}={value:.6g}" for key, value in values.items()]


def flame_table(speeds: Sequence[FlameSpeeds]) -> Table:
    """One row per flame."""
    rows = [(s.phi, s.exact, s.model, s.error, s.left, s.failure or "burns") for s in speeds]
    columns = ("phi", "exact [m/s]", "model [m/s]", "error [%]", "cells left to the exact step [%]", "outcome")
    return Table("laminar flame speed in the flow solver", columns, rows)


def figures(speeds: Sequence[FlameSpeeds]) -> list[Figure]:
    """The speed errors."""
    sizes = [None if s.error is None else abs(s.error) for s in speeds]
    names = [f"flame speed error at phi {s.phi:g} [%]" for s in speeds]
    return [Figure(CHECK, name, x, TARGETS.get(s.phi)) for name, x, s in zip(names, sizes, speeds, strict=True)]
