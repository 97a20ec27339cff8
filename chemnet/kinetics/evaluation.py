"""Right-hand side and Jacobian of states, as the integrator sees them: for inspection and for tests."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from chemnet.gas.conditions import Conditions
from chemnet.gas.mechanism import MechanismLike, as_mechanism
from chemnet.gas.state import Array, as_states
from chemnet.kinetics.jacobian import jacobian, new_jacobian_lanes
from chemnet.kinetics.lu import product
from chemnet.kinetics.mechanism_tables import held_at, tables_of
from chemnet.kinetics.rates import new_lanes, right_hand_side, set_state
from chemnet.runtime.compilation import cached_njit
from chemnet.runtime.errors import NumericalError
from chemnet.runtime.simd import W, aligned, store


class Evaluation(NamedTuple):
    """Of n states of a mechanism with m reactive species, which `species` (m,) lists by their place in Y, in any order.

    With amounts n_k = Y_k/W_k [kmol/kg]: `rates` (n, m + 1) are dn_k/dt [kmol/kg/s] and, last, dT/dt [K/s];
    `jacobian` (n, m + 1, m + 1) their derivatives with respect to (n_1..n_m, T).
    """

    species: NDArray[np.int32]
    rates: Array
    jacobian: Array


def evaluate(mechanism: MechanismLike, states: ArrayLike, conditions: Conditions = "constant pressure") -> Evaluation:
    """Rates and Jacobian of `states` (n, 2 + K).

    Net production rates in kmol/m3/s are `rates[:, :-1]` times the density. The sum of Y need not be 1: amounts are
    independent. Raises UsageError for a wrong shape or a reaction that is not covered, NumericalError for a row that
    is not finite or has T or P <= 0.
    """
    mechanism = as_mechanism(mechanism)
    states = as_states(states, mechanism)
    wrong = np.flatnonzero(~(np.isfinite(states).all(axis=1) & (states[:, :2] > 0.0).all(axis=1)))
    if wrong.size:
        raise NumericalError(f"row {wrong[0]} of the states is not finite or not positive ({wrong.size} rows in all)")
    tables = tables_of(mechanism)._replace(held=held_at(conditions))
    size = len(tables.reactive) + 1
    rates, matrices = np.empty((len(states), size)), np.empty((len(states), size, size))
    lanes, work = new_lanes(tables), new_jacobian_lanes(tables)
    _evaluate(tables, lanes, work, *(aligned(size) for _ in range(3)), states, rates, matrices)
    return Evaluation(tables.reactive, rates, matrices)


@cached_njit(error_model="numpy", _nrt=False, no_cfunc_wrapper=True)
def _evaluate(tables, lanes, work, y, unit, column, states, rates, matrices):
    m = tables.reactive.size
    for first in range(0, states.shape[0], W):
        for lane in range(W):
            set_state(tables, lanes, y, states[min(first + lane, states.shape[0] - 1)], lane)
        volume, cp = right_hand_side(tables, lanes, y)
        jacobian(tables, lanes, work, y, volume, cp)
        for j in range(m + 1):
            for k in range(m + 1):
                store(unit, k, 1.0 if k == j else 0.0)
            product(tables.layout, work.matrix, unit, column)
            for lane in range(min(W, states.shape[0] - first)):
                rates[first + lane, j] = lanes.f[j * W + lane]
                for k in range(m + 1):
                    matrices[first + lane, k, j] = column[k * W + lane]
