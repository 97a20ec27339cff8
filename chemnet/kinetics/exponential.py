"""Exponential Rosenbrock step for calm gas: two right-hand sides where a step of `rosenbrock.py` takes eight.

With J = f'(y) and g = f(y_1) - f(y) - J (y_1 - y), a step of h from y to y_new is

    y_1 = y + h phi_1(hJ) f(y),     y_new = y_1 + 2 h phi_3(hJ) g

(exprb32: M. Hochbruck, A. Ostermann, Acta Numerica 19 (2010) 209). y_1 solves the linearised equations and is of order
2, y_new of order 3. Powers of S = (1 - gamma h J)^-1 stand for phi_k, so that one factorisation serves all of a step
(S. P. Norsett, SIAM J. Numer. Anal. 15 (1978) 1008). With v_0 = gamma h f(y), v_k = S v_(k-1),

    y_1 = y + sum_k b_k v_k,     h J (y_1 - y) = sum_k b_k (v_k - v_(k-1)) / gamma,

and 2 h phi_3 g likewise. The error of y_1 is estimated by y_new - y_1, that of phi_1 by weights b_k of one order less.
A row takes one such step over the whole of dt, or none: it is calm if h f changes it little and the estimates are
within the tolerance. What decides is the row alone, so that its result is the same in any company.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from chemnet.kinetics.jacobian import jacobian, padded
from chemnet.kinetics.lu import solve
from chemnet.kinetics.rates import right_hand_side, set_state
from chemnet.kinetics.rosenbrock import (
    factorise_shifted,
    growth,
    mixture_enthalpy,
    next_valid_row,
    restore_enthalpy,
    tolerance,
    write_row,
)
from chemnet.runtime.compilation import cached_njit
from chemnet.runtime.simd import W, absolute, fma, kernel, load, maximum, select, splat, store, take_number

_SAFETY = 0.1  # largest estimate of an error, in tolerances
_LARGEST_LINEAR_CHANGE = 0.1  # y_1 - y; an error of some 0.01 rtol at most is not worth another right-hand side
_FASTEST_GROWTH = 1.3  # of the rates, as `growth` has it: some e^0.6-fold, where phi_1 is good to 4e-4
_ENOUGH = W // 2  # lanes that are worth a step; with fewer the others are filled anew


class CalmTolerances(NamedTuple):
    """Which rows are calm: an estimate is at most a tenth of rtol |Y| + atol, plus the share `change` of the change.

    A step is tried where |h f| <= `largest` sqrt(rtol) (|Y| + atol/rtol): g, and with it the error, is at least
    quadratic in it, and gas beyond it hardly ever passes the estimates.
    """

    rtol: float
    atol: float
    change: float = 0.0
    largest: float = 3.0


CALM_TOLERANCES = CalmTolerances(1e-4, 1e-9)  # looser ones would add up over the many steps of a flow
WIDEST = CalmTolerances(1.0, 1e-5, change=0.1, largest=100.0)  # nearly all gas of a flow; a baseline, not a choice


class ExponentialMethod(NamedTuple):
    """An exponential Rosenbrock method in the form above, by s powers of S, and r for 2 phi_3."""

    gamma: float
    b: NDArray[np.float64]  # (s,)
    e: NDArray[np.float64]  # (s,) b less the weights of the approximation of lower order
    d: NDArray[np.float64]  # (r,) 2 phi_3 = gamma sum_k d_k S^k


_B = [
    1.0,
    0.9627543860296632,
    1.9665529714755603,
    -6.928101214281773,
    28.458454088444892,
    -40.24693381817792,
    24.22161905459248,
    -5.4343454680829,
]
_LOWER = [
    1.0,
    1.0647916134851925,
    0.24136261458665412,
    2.8497905734231868,
    3.021203124025258,
    -6.881186494092654,
    2.704038568572363,
    0.0,
]
EXPRB32 = ExponentialMethod(gamma=0.25, b=np.array(_B), e=np.subtract(_B, _LOWER), d=np.array([1.0, 1 / 3]))
"""Weights with gamma z sum_k b_k S^k = e^z - 1 + O(z^5), or O(z^4) for those of lower order, S = 1/(1 - gamma z).
b_1 = 1 damps what is infinitely stiff; the freedom that is left minimises the largest error for z < 0: 5e-4 and 2e-3.
Stable within 89 degrees of the negative axis."""


@cached_njit(error_model="numpy", nogil=True, _nrt=False, no_cfunc_wrapper=True)
def advance_calm(tables, element_mass, method, memory, states, waiting, dt, tolerances, results, rest, n_rest):
    """Advance the calm rows of `states` (n, 2 + K) by dt [s] into `results`, beginning with row waiting[0].

    Rows that are not calm are added to `rest` (n,), which has n_rest[0] of them. Threads may share the work: each takes
    the row that `waiting` (1,) names next. `element_mass` (E, K) [kg/kg].
    """
    lanes, work, steps, row_of, _ = memory
    for lane in range(W):
        row_of[lane] = -1
    while _fill_empty_lanes(tables, lanes, steps, row_of, states, waiting, results) > 0:
        volume, cp = right_hand_side(tables, lanes, steps.y)
        _screen(tables, lanes, steps, dt, tolerances)
        staying = _dismiss(steps, row_of, results, rest, n_rest)
        if staying == 0 or (staying < _ENOUGH and waiting[0] < states.shape[0]):
            continue
        store(steps.enthalpy, 0, mixture_enthalpy(tables, lanes, steps))
        jacobian(tables, lanes, work, steps.y, volume, cp)
        _solve_linearised(tables, method, lanes, work, steps, volume, dt, tolerances)
        if _any_changing(steps, row_of):
            right_hand_side(tables, lanes, steps.stage)
            _correct(tables, method, lanes, work, steps, dt, tolerances)
        _dismiss(steps, row_of, results, rest, n_rest)
        restore_enthalpy(tables, lanes, steps)
        for j in range(tables.reactive.size + 1):
            store(steps.y, j, load(steps.stage, j))
        _write(tables, steps, row_of, states, element_mass, results)


@kernel
def _fill_empty_lanes(tables, lanes, steps, row_of, states, waiting, results):
    """Put the next valid rows into the empty lanes; returns how many lanes hold one."""
    occupied = 0
    for lane in range(W):
        if row_of[lane] < 0:
            row_of[lane] = next_valid_row(states, waiting, tables.T_max, results)
            if row_of[lane] >= 0:
                set_state(tables, lanes, steps.y, states[row_of[lane]], lane)
        occupied += row_of[lane] >= 0
    return occupied


@kernel
def _dismiss(steps, row_of, results, rest, n_rest):
    """Move rows whose error is too large, or not a number, to the rest; returns how many stay in their lanes."""
    staying = 0
    for lane in range(W):
        if row_of[lane] >= 0 and not steps.excess[lane] <= 0.0:
            rest[take_number(n_rest)] = row_of[lane]
            results.speed[row_of[lane]] = steps.speed[lane]
            row_of[lane] = -1
        staying += row_of[lane] >= 0
    return staying


@kernel
def _any_changing(steps, row_of):
    """Whether a lane holds gas that changes too much for the linearised equations."""
    changing = 0
    for lane in range(W):
        changing += row_of[lane] >= 0 and steps.changing[lane] > 0.0
    return changing > 0


@kernel
def _write(tables, steps, row_of, states, element_mass, results):
    """Take the results out of the lanes, which are empty then."""
    for lane in range(W):
        i = row_of[lane]
        if i >= 0:
            write_row(tables, steps, lane, states, i, True, element_mass, results)
            results.n_steps[i], results.calm[i], row_of[lane] = 1, True, -1


@kernel
def _screen(tables, lanes, steps, dt, tolerances):
    """The largest change by h f, relative to |y| + atol/rtol, into `steps.speed`; checks that it is one of calm gas."""
    rtol, atol, _, largest = tolerances
    speed, total = splat(0.0), splat(0.0)
    for j in range(tables.reactive.size + 1):
        f, y = load(lanes.f, j), load(steps.y, j)
        speed = maximum(dt * absolute(f) / tolerance(tables, y, y, j, 1.0, atol / rtol), speed)
        total = total + f
    speed = speed + (total - total)  # a maximum forgets NaN, a sum does not
    store(steps.speed, 0, speed)
    store(steps.excess, 0, speed - largest * np.sqrt(rtol))


@kernel
def _solve_linearised(tables, method, lanes, work, steps, volume, dt, tolerances):
    """y_1 into `steps.stage` and f(y) + J (y_1 - y) into the first n of `steps.u`; checks the error of phi_1."""
    rtol, atol, share, _ = tolerances
    size, s = tables.reactive.size + 1, method.b.size
    n, inverse = padded(size), 1.0 / (method.gamma * dt)
    for j in range(size):
        store(steps.u, j, -load(lanes.f, j))
    grown = factorise_shifted(tables, work, splat(inverse))
    _solve_powers(tables, work, steps.u, n, s, inverse)
    linear = _LARGEST_LINEAR_CHANGE * np.sqrt(rtol)
    excess, changing, total = load(steps.excess, 0), splat(-1.0), splat(0.0)
    rates, changes = splat(0.0), splat(0.0)
    for j in range(size):
        f, y = load(lanes.f, j), load(steps.y, j)
        before, change, slope, error = f * (method.gamma * dt), splat(0.0), splat(0.0), splat(0.0)
        for k in range(s):
            v = load(steps.u, k * n + j)
            change, slope = fma(method.b[k], v, change), fma(method.b[k], v - before, slope)
            error = fma(method.e[k], v, error)
            before = v
        store(steps.stage, j, y + change)
        after = fma(inverse, slope, f)
        store(steps.u, j, after)
        if j < size - 1:
            rates, changes = rates + absolute(after), changes + absolute(change)
        allowed = tolerance(tables, y, y + change, j, _SAFETY * rtol, _SAFETY * atol)
        allowed = fma(share, absolute(change), allowed)
        excess = maximum(absolute(error) - allowed, excess)
        changing = maximum(absolute(change) - tolerance(tables, y, y, j, linear, linear * atol / rtol), changing)
        total = total + change
    grown = maximum(grown, growth(tables, lanes, dt * rates, changes, dt * volume))
    store(steps.excess, 0, maximum(grown - _FASTEST_GROWTH, excess) + (total - total))
    store(steps.changing, 0, changing)


@kernel
def _correct(tables, method, lanes, work, steps, dt, tolerances):
    """Add 2 h phi_3 g to y_1 in `steps.stage` where the state changes enough; checks the error of y_1, which it is."""
    rtol, atol, share, _ = tolerances
    size = tables.reactive.size + 1
    n = padded(size)
    for j in range(size):
        store(steps.u, j, load(steps.u, j) - load(lanes.f, j))
    _solve_powers(tables, work, steps.u, n, method.d.size, 1.0 / (method.gamma * dt))
    changes = load(steps.changing, 0) > 0.0
    excess, total = load(steps.excess, 0), splat(0.0)
    for j in range(size):
        correction = splat(0.0)
        for k in range(method.d.size):
            correction = fma(method.d[k], load(steps.u, k * n + j), correction)
        correction = select(changes, correction, splat(0.0))
        after = select(changes, load(steps.stage, j) + correction, load(steps.stage, j))
        allowed = tolerance(tables, load(steps.y, j), after, j, _SAFETY * rtol, _SAFETY * atol)
        allowed = fma(share, absolute(after - load(steps.y, j)), allowed)
        excess = maximum(absolute(correction) - allowed, excess)
        total = total + correction
        store(steps.stage, j, after)
    store(steps.excess, 0, excess + (total - total))


@kernel
def _solve_powers(tables, work, u, n, count, inverse):
    """Overwrite -g, the first of u, and what follows, with gamma h S^k g, k = 1..count; `inverse` = 1/(gamma h)."""
    solve(tables.layout, work.matrix, u)
    for k in range(1, count):
        for j in range(tables.reactive.size + 1):
            store(u, k * n + j, load(u, (k - 1) * n + j) * -inverse)
        solve(tables.layout, work.matrix, u[k * n * W :])
