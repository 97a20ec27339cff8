"""Row of a state array: `[T, P, Y_1 .. Y_K]`, T in K, P in Pa, mass fractions; float64."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from chemnet.gas.mechanism import Mechanism
from chemnet.gas.thermo import SAFE_FASTMATH, enthalpy_and_cp
from chemnet.runtime.compilation import cached_njit
from chemnet.runtime.errors import UsageError

T_MIN, T_MAX = 200.0, 3500.0  # [K]; a mechanism may allow more, `Mechanism.T_max`
COLDEST, HOTTEST = 100.0, 10000.0  # [K] a step that ends beyond them has failed
SUM_TOLERANCE = 1e-3
NEGATIVE_TOLERANCE = 1e-6
GAS_CONSTANT = 8314.46261815324  # [J/kmol/K]
ONE_ATM = 101325.0  # [Pa]

Array = NDArray[np.float64]


def as_states(states: ArrayLike, mechanism: Mechanism) -> Array:
    """`states` as a contiguous float64 array (n, 2 + K). Raises UsageError for another shape.

    A copy is made only where the type or the layout demands it.
    """
    array = np.ascontiguousarray(states, dtype=np.float64)
    columns = mechanism.n_species + 2
    if array.ndim != 2 or array.shape[1] != columns:
        raise UsageError(
            f"states have shape {array.shape}; {mechanism.name} needs (n, {columns}): "
            f"T [K], P [Pa] and {mechanism.n_species} mass fractions"
        )
    return array


def check_time_step(dt: float | None) -> float:
    """The time step dt [s]. Raises UsageError unless it is given, finite and positive."""
    if dt is None or not (np.isfinite(dt) and dt > 0.0):
        raise UsageError(f"dt = {dt} s: the time step must be finite and positive")
    return dt


def valid_rows(states: Array, T_max: float = T_MAX) -> NDArray[np.bool_]:
    """(n,) True where a row is finite, 200 K <= T <= T_max, P > 0, Y >= -1e-6, and sum of Y within 1e-3 of 1."""
    return _valid_rows(states, T_max)


@cached_njit()
def _valid_rows(states, T_max):
    valid = np.empty(states.shape[0], np.bool_)
    for i in range(states.shape[0]):
        valid[i] = is_valid(states[i], T_max)
    return valid


@cached_njit()
def is_valid(state, T_max):
    """Validity of one row, as in `valid_rows`; NaN fails every comparison, and infinity one of them."""
    T, P = state[0], state[1]
    lowest, total = 0.0, 0.0
    for k in range(2, state.size):
        lowest = min(lowest, state[k])
        total += state[k]
    within = T_MIN <= T <= T_max and 0.0 < P < np.inf
    return within and lowest >= -NEGATIVE_TOLERANCE and abs(total - 1.0) <= SUM_TOLERANCE


def elements(states: Array, mechanism: Mechanism) -> Array:
    """Element mass per kilogram of mixture (n, E) [kg/kg]."""
    return states[:, 2:] @ mechanism.element_mass.T


def equivalence_ratios(states: Array, mechanism: Mechanism) -> Array:
    """Local equivalence ratio (n,): the oxygen that burns C and H to CO2 and H2O over the oxygen there is, by atoms.

    Infinite where there is no oxygen, and nan where there is neither.
    """
    moles = (states[:, 2:] / mechanism.molecular_weights) @ mechanism.atoms.T
    of = dict(zip(mechanism.element_names, moles.T, strict=True))
    none = np.zeros(len(states))
    with np.errstate(divide="ignore", invalid="ignore"):
        return (2.0 * of.get("C", none) + 0.5 * of.get("H", none)) / of.get("O", none)


def densities(states: Array, mechanism: Mechanism) -> Array:
    """Density (n,) [kg/m3]."""
    moles = (states[:, 2:] / mechanism.molecular_weights).sum(axis=1)  # [kmol/kg]
    return states[:, 1] / (GAS_CONSTANT * states[:, 0] * moles)


@cached_njit(fastmath=SAFE_FASTMATH)
def largest_element_change(state, next_state, element_mass):
    """Largest change of an element's mass per kilogram from one row to the other [kg/kg]."""
    largest = 0.0
    for e in range(element_mass.shape[0]):
        change = 0.0
        for k in range(element_mass.shape[1]):
            change += element_mass[e, k] * (next_state[2 + k] - state[2 + k])
        largest = max(largest, abs(change))
    return largest


def enthalpy(states: Array, mechanism: Mechanism) -> Array:
    """Specific enthalpy (n,) [J/kg], heat of formation included."""
    return _enthalpy_and_cp(states, mechanism.nasa)[0]


def heat_capacity(states: Array, mechanism: Mechanism) -> Array:
    """Specific heat capacity at constant pressure (n,) [J/kg/K]."""
    return _enthalpy_and_cp(states, mechanism.nasa)[1]


@cached_njit()
def _enthalpy_and_cp(states, nasa):
    h = np.empty(states.shape[0])
    cp = np.empty(states.shape[0])
    for i in range(states.shape[0]):
        h[i], cp[i] = enthalpy_and_cp(states[i, 0], states[i, 2:], nasa)
    return h, cp
