"""Heating of states by chemistry: dT/dt, and whether a step agrees with it at both of its ends."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from chemnet.gas.mechanism import Mechanism
from chemnet.gas.state import Array
from chemnet.kinetics.mechanism_tables import tables_of
from chemnet.kinetics.rates import new_lanes, right_hand_side, set_state
from chemnet.runtime.compilation import cached_njit
from chemnet.runtime.simd import W, aligned

SHARE, LEAST = 0.1, 0.5  # of the heating, and [K]: difference that a step may have


class Heating:
    """dT/dt by chemistry at constant pressure and enthalpy, for many states at once.

    Not to be shared by threads. Raises UsageError for a mechanism that the exact step does not cover.
    """

    def __init__(self, mechanism: Mechanism) -> None:
        self._tables = tables_of(mechanism)
        self._lanes, self._y = new_lanes(self._tables), aligned(len(self._tables.reactive) + 1)

    def of(self, states: Array) -> Array:
        """dT/dt [K/s] of `states` (n, 2 + K)."""
        rates = np.empty(len(states))
        _heating(self._tables, self._lanes, self._y, states, rates)
        return rates

    def agrees(self, states: Array, next_states: Array, dt: float) -> NDArray[np.bool_]:
        """Whether the change of T in a step of dt [s] is the mean heating at its ends (trapezoidal rule), within a
        tenth of the larger of both and half a kelvin (n,).

        Radicals that are wrong heat wrongly: a step that is off by more than its own curvature does not agree.
        """
        change = next_states[:, 0] - states[:, 0]
        heated = 0.5 * dt * (self.of(states) + self.of(next_states))
        return np.abs(change - heated) <= LEAST + SHARE * np.maximum(np.abs(change), np.abs(heated))


@cached_njit(error_model="numpy", nogil=True, _nrt=False, no_cfunc_wrapper=True)
def _heating(tables, lanes, y, states, rates):
    """dT/dt of W states at a time; the last ones fill the lanes that are left."""
    n, m = states.shape[0], tables.reactive.size
    for first in range(0, n, W):
        for lane in range(W):
            set_state(tables, lanes, y, states[min(first + lane, n - 1)], lane)
        right_hand_side(tables, lanes, y)
        for lane in range(min(W, n - first)):
            rates[first + lane] = lanes.f[m * W + lane]
