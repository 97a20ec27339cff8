"""What a reacting gas is held at: pressure, volume or temperature."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from chemnet.gas.mechanism import Mechanism
from chemnet.gas.state import GAS_CONSTANT, Array, enthalpy, heat_capacity
from chemnet.runtime.errors import UsageError

Conditions = Literal["constant pressure", "constant volume", "given temperature"]
"""At constant pressure the enthalpy stays, at constant volume the energy; a given temperature and its pressure stay."""

_NEWTON_STEPS = 5


def check_conditions(conditions: str) -> None:
    """Raise UsageError for conditions that are not among `Conditions`."""
    if conditions not in get_args(Conditions):
        raise UsageError(f"conditions = {conditions!r}: choose one of {', '.join(get_args(Conditions))}")


def with_temperature(before: Array, after: Array, mechanism: Mechanism, conditions: Conditions) -> Array:
    """Rows (n, 2 + K) of the composition of `after`, T and P of which are what the conditions keep of `before`."""
    rows = after.copy()
    rows[:, :2] = before[:, :2]
    if conditions == "given temperature":
        return rows
    moles, moles_before = (r[:, 2:] @ (1.0 / mechanism.molecular_weights) for r in (after, before))
    by_volume = GAS_CONSTANT if conditions == "constant volume" else 0.0
    kept = enthalpy(before, mechanism) - by_volume * moles_before * before[:, 0]
    rows[:, 0] = after[:, 0]
    for _ in range(_NEWTON_STEPS):
        excess = enthalpy(rows, mechanism) - by_volume * moles * rows[:, 0] - kept
        rows[:, 0] -= excess / (heat_capacity(rows, mechanism) - by_volume * moles)
    if conditions == "constant volume":
        rows[:, 1] *= moles * rows[:, 0] / (moles_before * before[:, 0])
    return np.asarray(rows)
