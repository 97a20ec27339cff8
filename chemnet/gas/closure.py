"""Closure of a raw prediction of mass fractions: elements, positivity, temperature.

Both the exact and the learned step end here, so that elements and enthalpy hold to round-off whatever made the
prediction. Inert species keep their mass fractions; the others are moved by the smallest change, in the norm weighted
with 1/Y^1.75, that restores the element masses:

    Y += W E^T (E W E^T)^-1 (E Y_old - E Y),   W = diag(Y^1.75),   E the element masses per kilogram of species

which is least squares in the space of the transformed mass fractions Y^(1/8) (`transform.py`), where networks predict.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from chemnet.gas.mechanism import MechanismLike, as_mechanism
from chemnet.gas.state import Array
from chemnet.gas.thermo import SAFE_FASTMATH, enthalpy_and_cp, temperature_from_enthalpy
from chemnet.runtime.compilation import cached_njit

_CLOSED = 2e-16  # [kg/kg] a residual this small is round-off
_MAX_RESIDUAL = 1e-13  # [kg/kg] beyond it the row counts as failed


class Closure:
    """The closure of one mechanism, for many rows.

    `close(states, Y_raw, next_states)` fills `next_states` (n, 2 + K) from the states before the step (n, 2 + K) and
    the raw mass fractions after it (n, K), at constant pressure and enthalpy. It returns `ok` (n,) False where no valid
    state was found (the row then is the input state) and `drift` (n,), the largest element error of Y_raw [kg/kg].
    """

    def __init__(self, mechanism: MechanismLike) -> None:
        mechanism = as_mechanism(mechanism)
        reactive = np.flatnonzero(~mechanism.inert)
        present = mechanism.element_mass[:, reactive].any(axis=1)
        self.elements = np.ascontiguousarray(mechanism.element_mass[present][:, reactive])
        self.reactive = reactive
        self._nasa = mechanism.nasa

    def close(self, states: Array, Y_raw: Array, next_states: Array) -> tuple[NDArray[np.bool_], Array]:
        """See the class."""
        ok, drift = np.empty(len(states), np.bool_), np.empty(len(states))
        close_rows(states, Y_raw, self.elements, self.reactive, self._nasa, next_states, ok, drift)
        return ok, drift


@cached_njit()
def close_rows(states, Y_raw, E, reactive, nasa, next_states, ok, drift):
    """Rows of `Closure.close`; E (elements, m) holds the m reactive species, `reactive` (m,) their places in Y."""
    m = reactive.size
    old, new, weights = np.empty(m), np.empty(m), np.empty(m)
    missing = np.empty(E.shape[0])
    rows, matrix = np.empty_like(E), np.empty((E.shape[0], E.shape[0]))
    for i in range(states.shape[0]):
        for j in range(m):
            old[j] = states[i, 2 + reactive[j]]
            new[j] = Y_raw[i, reactive[j]]
        drift[i] = _missing(E, old, new, missing)
        _clip(old, new)
        _project(E, old, new, weights, rows, matrix, missing)
        if _clip(old, new):
            _project(E, old, new, weights, rows, matrix, missing)
            _shorten(old, new)
        _copy(states[i], next_states[i])
        h = enthalpy_and_cp(states[i, 0], states[i, 2:], nasa)[0]
        for j in range(m):
            next_states[i, 2 + reactive[j]] = new[j]
        next_states[i, 0] = temperature_from_enthalpy(h, next_states[i, 2:], states[i, 0], nasa)
        ok[i] = _missing(E, old, new, missing) <= _MAX_RESIDUAL and next_states[i, 0] > 0.0
        if not ok[i]:
            _copy(states[i], next_states[i])


@cached_njit()
def _copy(values, out):
    """out = values; as an assignment of slices it would bring seconds of compilation, for messages about shapes."""
    for j in range(values.size):
        out[j] = values[j]


@cached_njit()
def _clip(old, new):
    """Set what has turned negative to zero; True if anything was. NaN stays, and the temperature finds it."""
    clipped = False
    for j in range(new.size):
        floor = min(0.0, old[j])
        if new[j] < floor:
            new[j] = floor
            clipped = True
    return clipped


@cached_njit(fastmath=SAFE_FASTMATH)
def _missing(E, old, new, missing):
    """Element masses that the step has lost, E (old - new), into `missing`; returns the largest of them [kg/kg]."""
    largest = 0.0
    for e in range(E.shape[0]):
        total = 0.0
        for j in range(new.size):
            total += E[e, j] * (old[j] - new[j])
        missing[e] = total
        largest = max(largest, abs(total))
    return largest


@cached_njit(fastmath=SAFE_FASTMATH)
def _project(E, old, new, weights, rows, matrix, missing):
    """Add the weighted least change of `new` that restores the elements, refined once against round-off."""
    for j in range(new.size):
        root = math.sqrt(max(new[j], 0.0))
        weights[j] = new[j] * root * math.sqrt(root)
    for _ in range(2):
        if _missing(E, old, new, missing) <= _CLOSED:
            return
        rank = _reduce(E, weights, rows, missing)
        _solve(rows, rank, weights, matrix, missing)
        for e in range(rank):
            for j in range(new.size):
                new[j] += weights[j] * rows[e, j] * missing[e]


@cached_njit(fastmath=SAFE_FASTMATH)
def _reduce(E, weights, rows, missing):
    """Combine the element rows so that each but the first leaves out the heaviest species of the rows before it.

    Early in an ignition nearly all carbon and hydrogen is in the fuel. E W E^T of C and H is then singular but for
    traces, and what the traces have to carry would be lost in round-off; combinations such as H - 4 C, which the
    fuel does not contain, keep it. Returns the rank: rows beyond it belong to elements that are absent or dependent.
    """
    n, m = E.shape
    _copy(E.ravel(), rows.ravel())
    for p in range(n):
        heaviest, row, column = 0.0, p, 0
        for e in range(p, n):
            for j in range(m):
                size = rows[e, j] * rows[e, j] * weights[j]
                if size > heaviest:
                    heaviest, row, column = size, e, j
        if heaviest == 0.0:
            return p
        for j in range(m):
            rows[p, j], rows[row, j] = rows[row, j], rows[p, j]
        missing[p], missing[row] = missing[row], missing[p]
        for e in range(p + 1, n):
            factor = rows[e, column] / rows[p, column]
            for j in range(m):
                rows[e, j] -= factor * rows[p, j]
            rows[e, column] = 0.0
            missing[e] -= factor * missing[p]
    return n


@cached_njit(fastmath=SAFE_FASTMATH)
def _solve(rows, rank, weights, L, b):
    """Solve (rows W rows^T) x = b for the first `rank` rows, in place, by Cholesky's L L^T."""
    for e in range(rank):
        for f in range(e + 1):
            total = 0.0
            for j in range(weights.size):
                total += rows[e, j] * weights[j] * rows[f, j]
            for g in range(f):
                total -= L[e, g] * L[f, g]
            L[e, f] = math.sqrt(total) if e == f else total / L[f, f]
    for e in range(rank):
        for f in range(e):
            b[e] -= L[e, f] * b[f]
        b[e] /= L[e, e]
    for e in range(rank - 1, -1, -1):
        for f in range(e + 1, rank):
            b[e] -= L[f, e] * b[f]
        b[e] /= L[e, e]


@cached_njit()
def _shorten(old, new):
    """Go back along the line to `old`, which has the same elements, until no species is negative."""
    share = 1.0
    for j in range(new.size):
        floor = min(0.0, old[j])
        if new[j] < floor:
            share = min(share, (old[j] - floor) / (old[j] - new[j]))
    if share < 1.0:
        for j in range(new.size):
            new[j] = max(old[j] + share * (new[j] - old[j]), min(0.0, old[j]))
