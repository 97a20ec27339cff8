"""Learned step before and after the network, for W cells side by side.

`prepare` judges a row and makes the network's inputs; `finish` turns the network's outputs into the next state. They
share what is costly, the roots Y^(1/8) and the enthalpy. Formulas are those of `transform.py` and `closure.py`; a row
whose closure needs more than the usual (a mass fraction that would turn negative, elements in nearly fixed proportion,
a temperature that does not settle) is closed by `closure.py` itself. No branch depends on another row, so that a row's
result depends on nothing but the row.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from chemnet.gas.closure import Closure, close_rows
from chemnet.gas.mechanism import Mechanism
from chemnet.gas.nasa import add_species, enthalpy_and_cp, no_species
from chemnet.gas.state import SUM_TOLERANCE, Array, is_valid
from chemnet.gas.status import Status
from chemnet.runtime.compilation import announce_compilation, cached_njit
from chemnet.runtime.simd import W, absolute, aligned, fma, kernel, load, maximum, select, splat, sqrt, store
from chemnet.surrogate.domain import Domain
from chemnet.surrogate.transform import LAMBDA, Transform

_OK, _FAILED, _INVALID, _OUTSIDE = int(Status.OK), int(Status.FAILED), int(Status.INVALID), int(Status.OUTSIDE)
_ROUND_OFF = 1e-15  # [kg/kg] of an element that may be missing after the closure
_SETTLED = 1e-8  # relative change of T in the last step of Newton's method, which converges quadratically
_NEWTON_STEPS = 3


class Tables(NamedTuple):
    """Tables of a model for the kernels; K species, m of them reactive, E elements, D directions of the domain."""

    mean: Array  # (2 + K)
    gain: Array  # (2 + K)
    scale: Array  # (2 + K) of the outputs, times 1/8 for mass fractions
    power: int  # of the label
    elements: Array  # (E, m) mass of each element in a kilogram of each reactive species
    reactive: NDArray[np.intp]  # (m,) their places in Y
    nasa: Array  # as of `Mechanism`
    low: Array  # (2 + K) smallest T, P and Y inside
    high: Array  # (2 + K) largest
    directions: Array  # (D, 1 + K) factors of h and Y in sums that are bounded
    bounds: Array  # (D, 2) smallest and largest of these sums inside
    T_max: float  # [K] of valid states


class Lanes(NamedTuple):
    """Working memory; flat arrays of vectors, of which the first two hold what `finish` needs of `prepare`."""

    roots: Array  # (blocks * K)
    enthalpy: Array  # (blocks)
    state: Array  # (2 + K)
    new: Array  # (m)
    weights: Array  # (m)
    rows: Array  # (E * m) combinations of elements
    factors: Array  # (E * E) how they were combined
    matrix: Array  # (E * E)
    missing: Array  # (E)
    hard: Array  # (1) 1 in lanes that are left to `closure.py`


class FusedStep:
    """Both halves of the step of one model, for up to `rows` rows at a time."""

    def __init__(self, transform: Transform, mechanism: Mechanism, domain: Domain, rows: int) -> None:
        closure = Closure(mechanism)
        scale = np.hstack([transform.output_scale[:2], LAMBDA * transform.output_scale[2:] ** transform.power])
        self._tables = Tables(
            *(transform.input_mean, transform.input_gain, scale, transform.power),
            *(closure.elements, closure.reactive, mechanism.nasa),
            *(domain.low, domain.high, domain.directions, domain.bounds),
            mechanism.T_max,
        )
        K, m, E = mechanism.n_species, len(closure.reactive), len(closure.elements)
        blocks = -(-rows // W)
        self._lanes = Lanes(*map(aligned, (blocks * K, blocks, 2 + K, m, m, E * m, E * E, E * E, E, 1)))

    def prepare(self, states: Array, inputs: NDArray[np.float32], status: NDArray[np.int8]) -> None:
        """Status (n,) OK, OUTSIDE or INVALID of the states (n, 2 + K), and inputs (n, 2 + K) of the network."""
        announce_compilation(prepare, "the kernels of the learned step", 6)
        prepare(self._tables, self._lanes, states, inputs, status)

    def finish(self, states: Array, outputs: NDArray[np.float32], next_states: Array, status: NDArray[np.int8]) -> None:
        """Next states (n, 2 + K) of the rows that were prepared last; those that are not OK are copied.

        Rows that cannot be closed become FAILED.
        """
        finish(self._tables, self._lanes, states, outputs, next_states, status)


@cached_njit(error_model="numpy", nogil=True, no_cfunc_wrapper=True)
def prepare(tables, lanes, states, inputs, status):
    """See `FusedStep.prepare`."""
    n, columns = states.shape
    for block in range((n + W - 1) // W):
        first = block * W
        used = min(W, n - first)
        _gather(states, first, used, lanes.state)
        inside = _prepare_block(tables, lanes, block)
        store(lanes.hard, 0, select(inside, splat(0.0), splat(1.0)))
        for lane in range(used):
            i = first + lane
            status[i] = _OK
            if lanes.hard[lane] != 0.0:
                status[i] = _OUTSIDE if is_valid(states[i], tables.T_max) else _INVALID
            for c in range(columns):
                inputs[i, c] = lanes.state[c * W + lane]


@kernel
def _gather(states, first, used, out):
    """W rows of states as vectors, one per column; the last row stands in for those that are missing."""
    for lane in range(W):
        i = first + min(lane, used - 1)
        for c in range(states.shape[1]):
            out[c * W + lane] = states[i, c]


@kernel
def _prepare_block(tables, lanes, block):
    """Roots and enthalpy of one block, its inputs in place of its state; True in lanes inside the domain."""
    K = tables.nasa.shape[0]
    T = load(lanes.state, 0)
    inside = _between(T, tables.low[0], tables.high[0])
    h, _ = _enthalpy(tables, lanes.state, 2, T)
    store(lanes.enthalpy, block, h)
    for d in range(tables.bounds.shape[0]):
        total = h * tables.directions[d, 0]
        for k in range(K):
            total = fma(tables.directions[d, 1 + k], load(lanes.state, 2 + k), total)
        inside = inside & _between(total, tables.bounds[d, 0], tables.bounds[d, 1])
    store(lanes.state, 0, (T - tables.mean[0]) * tables.gain[0])
    P = load(lanes.state, 1)
    inside = inside & _between(P, tables.low[1], tables.high[1])
    store(lanes.state, 1, (P - tables.mean[1]) * tables.gain[1])
    total = splat(0.0)
    for k in range(K):
        Y = load(lanes.state, 2 + k)
        total = total + Y
        inside = inside & _between(Y, tables.low[2 + k], tables.high[2 + k])
        root = sqrt(sqrt(sqrt(maximum(Y, 0.0))))
        store(lanes.roots, block * K + k, root)
        store(lanes.state, 2 + k, ((root - 1.0) * (1.0 / LAMBDA) - tables.mean[2 + k]) * tables.gain[2 + k])
    return inside & (absolute(total - 1.0) <= SUM_TOLERANCE)


@kernel
def _between(value, low, high):
    """True in lanes where low <= value <= high."""
    return (value >= low) & (value <= high)


@kernel
def _enthalpy(tables, Y, start, T):
    """Enthalpy [J/kg] and heat capacity [J/kg/K] at T [K] of the mixture whose mass fractions begin at Y[start]."""
    mixed = no_species()
    for k in range(tables.nasa.shape[0]):
        mixed = add_species(mixed, load(Y, start + k), tables.nasa[k], T)
    return enthalpy_and_cp(mixed, T, tables.nasa)


@cached_njit(error_model="numpy", nogil=True, no_cfunc_wrapper=True)
def finish(tables, lanes, states, outputs, next_states, status):
    """See `FusedStep.finish`."""
    n, columns = states.shape
    m = tables.reactive.size
    for block in range((n + W - 1) // W):
        first = block * W
        used = min(W, n - first)
        _gather(states, first, used, lanes.state)
        for j in range(m):
            c = 2 + tables.reactive[j]
            for lane in range(W):
                lanes.new[j * W + lane] = outputs[first + min(lane, used - 1), c]
        _finish_block(tables, lanes, block)
        for lane in range(used):
            i = first + lane
            if status[i] == _OK and lanes.hard[lane] == 0.0:
                for c in range(columns):
                    next_states[i, c] = lanes.state[c * W + lane]
            elif status[i] == _OK:
                status[i] = _close_alone(tables, lanes, block, lane, states[i : i + 1], outputs[i], next_states, i)
            else:
                for c in range(columns):
                    next_states[i, c] = states[i, c]


@kernel
def _finish_block(tables, lanes, block):
    """The next state of a block in place of its state, from the outputs in `lanes.new`."""
    K, m = tables.nasa.shape[0], tables.reactive.size
    for j in range(m):
        k = tables.reactive[j]
        root = _next_root(tables, load(lanes.new, j), load(lanes.roots, block * K + k), k)
        second = root * root
        fourth = second * second
        new = fourth * fourth
        store(lanes.new, j, new)
        store(lanes.weights, j, new * fourth * second)  # Y^(14/8)
    _project(tables, lanes)
    hard = splat(0.0)
    for e in range(tables.elements.shape[0]):
        hard = select(absolute(_missing(tables, lanes, e)) <= _ROUND_OFF, hard, 1.0)
    for j in range(m):
        c = 2 + tables.reactive[j]
        new = load(lanes.new, j)
        hard = select(new >= 0.0, hard, 1.0)
        store(lanes.state, c, new)
    T, h, last = load(lanes.state, 0), load(lanes.enthalpy, block), splat(0.0)
    for _ in range(_NEWTON_STEPS):
        value, cp = _enthalpy(tables, lanes.state, 2, T)
        last = (h - value) / cp
        T = T + last
    hard = select(absolute(last) <= T * _SETTLED, hard, 1.0)
    store(lanes.state, 0, T)
    store(lanes.hard, 0, hard)


@kernel
def _next_root(tables, output, root, k):
    """Y^(1/8) after the step, from the network's output and Y^(1/8) before it."""
    change = output * tables.scale[2 + k]
    for _ in range(1, tables.power):
        change = change * absolute(output)
    return maximum(0.0, root + change)


@kernel
def _missing(tables, lanes, e):
    """Mass of element e that the step has lost [kg/kg]."""
    total = splat(0.0)
    for j in range(tables.reactive.size):
        change = load(lanes.state, 2 + tables.reactive[j]) - load(lanes.new, j)
        total = fma(tables.elements[e, j], change, total)
    return total


@kernel
def _project(tables, lanes):
    """Add the weighted least change of `lanes.new` that restores the elements, refined once against round-off."""
    n, m = tables.elements.shape
    _reduce(tables, lanes)
    _factorise(lanes, n, m)
    for _ in range(2):
        for e in range(n):
            store(lanes.missing, e, _missing(tables, lanes, e))
        _solve(lanes, n)
        for j in range(m):
            total = splat(0.0)
            for e in range(n):
                total = fma(load(lanes.rows, e * m + j), load(lanes.missing, e), total)
            store(lanes.new, j, fma(load(lanes.weights, j), total, load(lanes.new, j)))


@kernel
def _reduce(tables, lanes):
    """Combine the element rows so that each leaves out the heaviest species of the rows before it; see `closure.py`.

    `lanes.factors` keeps how. A row without species (an absent element) is left out of the others.
    """
    n, m = tables.elements.shape
    for e in range(n):
        for j in range(m):
            store(lanes.rows, e * m + j, splat(tables.elements[e, j]))
    for p in range(n - 1):
        heaviest = splat(0.0)
        for j in range(m):
            row = load(lanes.rows, p * m + j)
            heaviest = maximum(row * row * load(lanes.weights, j), heaviest)
        for e in range(p + 1, n):
            factor = splat(0.0)
            for j in range(m):
                row = load(lanes.rows, p * m + j)
                pivot = (row * row * load(lanes.weights, j) >= heaviest) & (heaviest > 0.0)
                factor = select(pivot, load(lanes.rows, e * m + j) / row, factor)
            store(lanes.factors, e * n + p, factor)
            for j in range(m):
                row = load(lanes.rows, p * m + j)
                reduced = fma(-factor, row, load(lanes.rows, e * m + j))
                pivot = (row * row * load(lanes.weights, j) >= heaviest) & (heaviest > 0.0)
                store(lanes.rows, e * m + j, select(pivot, 0.0, reduced))


@kernel
def _factorise(lanes, n, m):
    """Cholesky's L L^T of rows W rows^T, with the inverse of its diagonal; 0 there drops an element that is absent."""
    for e in range(n):
        for f in range(e + 1):
            total = splat(0.0)
            for j in range(m):
                product = load(lanes.rows, e * m + j) * load(lanes.weights, j)
                total = fma(product, load(lanes.rows, f * m + j), total)
            for g in range(f):
                total = fma(-load(lanes.matrix, e * n + g), load(lanes.matrix, f * n + g), total)
            if e == f:
                total = select(total > 0.0, 1.0 / sqrt(total), splat(0.0))
            else:
                total = total * load(lanes.matrix, f * n + f)
            store(lanes.matrix, e * n + f, total)


@kernel
def _solve(lanes, n):
    """Combine `lanes.missing` as the rows were, and solve for the multipliers of the rows, in place."""
    for p in range(n - 1):
        for e in range(p + 1, n):
            known = load(lanes.missing, e)
            store(lanes.missing, e, fma(-load(lanes.factors, e * n + p), load(lanes.missing, p), known))
    for e in range(n):
        total = load(lanes.missing, e)
        for f in range(e):
            total = fma(-load(lanes.matrix, e * n + f), load(lanes.missing, f), total)
        store(lanes.missing, e, total * load(lanes.matrix, e * n + e))
    for back in range(n):
        e = n - 1 - back
        total = load(lanes.missing, e)
        for f in range(e + 1, n):
            total = fma(-load(lanes.matrix, f * n + e), load(lanes.missing, f), total)
        store(lanes.missing, e, total * load(lanes.matrix, e * n + e))


@cached_njit()
def _close_alone(tables, lanes, block, lane, state, output, next_states, i):
    """Close one row by `closure.py`; returns its status."""
    K = tables.nasa.shape[0]
    Y_raw = np.empty((1, K))
    for k in range(K):
        change = output[2 + k] * tables.scale[2 + k]
        for _ in range(1, tables.power):
            change *= abs(output[2 + k])
        root = max(lanes.roots[(block * K + k) * W + lane] + change, 0.0)
        fourth = root * root
        fourth *= fourth
        Y_raw[0, k] = fourth * fourth
    ok, drift = np.empty(1, np.bool_), np.empty(1)
    closed = next_states[i : i + 1]
    close_rows(state, Y_raw, tables.elements, tables.reactive, tables.nasa, closed, ok, drift)
    return _OK if ok[0] else _FAILED
