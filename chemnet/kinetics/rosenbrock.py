"""Rosenbrock methods: W cells side by side, each with its own time, step and error; a lane that is done is refilled.

With W = I/(gamma h) - J a step from y to y_new solves, for stages i = 1..s,

    W u_i = f(y + sum_j a_ij u_j) + sum_j (c_ij/h) u_j,     y_new = y + sum_j m_j u_j,   error = sum_j e_j u_j

(E. Hairer, G. Wanner, Solving Ordinary Differential Equations II, 1996, IV.7). No branch depends on a lane, so that
a cell's result depends on nothing but the cell.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from chemnet.gas.nasa import add_species, enthalpy_and_cp, no_species
from chemnet.gas.state import COLDEST, HOTTEST, NEGATIVE_TOLERANCE, is_valid, largest_element_change
from chemnet.gas.status import Status
from chemnet.kinetics.jacobian import JacobianLanes, jacobian, new_jacobian_lanes, padded
from chemnet.kinetics.lu import add_to_diagonal, factorise, product, solve
from chemnet.kinetics.mechanism_tables import Tables
from chemnet.kinetics.rates import Lanes, heat_content, new_lanes, right_hand_side, set_state
from chemnet.runtime.compilation import cached_njit
from chemnet.runtime.simd import (
    W,
    absolute,
    aligned,
    exp,
    fma,
    kernel,
    load,
    log,
    maximum,
    minimum,
    select,
    splat,
    sqrt,
    store,
    take_number,
)

_SAFETY, _LARGEST_CUT, _LARGEST_GROWTH = 0.9, 0.1, 6.0
_OK, _INVALID, _FAILED = int(Status.OK), int(Status.INVALID), int(Status.FAILED)
_MAX_STEPS, _SMALLEST_STEP = 5000, 1e-28
_SHORTEST_FIRST_STEP = 1e-10  # of dt: where a rate is singular, as with orders below 1, its derivative says nothing
_MOST_EQUAL_PARTS = 1e9
_FASTEST_GROWTH = 2.2  # of the rates in a step, as `growth` has it: some sevenfold
_LOWEST_PIVOT, _ROUND_OFF = 0.5, 1e-13  # of 1/(gamma h), and of an entry; see `factorise_shifted`
_NOISE = 2e-14  # of a rate of progress: round-off of T is multiplied by Ea/RT
_ROUND = 6755399441055744.0  # 1.5 * 2**52: adding and subtracting it rounds to a whole number


class Method(NamedTuple):
    """A Rosenbrock method of s stages in the form above; `order` is that of y_new, its error estimate is one less."""

    order: int
    gamma: float
    a: NDArray[np.float64]  # (s, s)
    c: NDArray[np.float64]  # (s, s)
    m: NDArray[np.float64]  # (s,)
    e: NDArray[np.float64]  # (s,)


def _lower(rows: list[list[float]]) -> NDArray[np.float64]:
    """Rows of a strictly lower triangle as a square matrix."""
    square = np.zeros((len(rows), len(rows)))
    for i, row in enumerate(rows):
        square[i, : len(row)] = row
    return square


_RODAS5P_M = [-7.502846399306121, 2.561846144803919, -11.627539656261098, -0.18268767659942256, 0.030198172008377946]
RODAS5P = Method(
    order=5,
    gamma=0.21193756319429014,
    a=_lower(
        [
            [],
            [3.0],
            [2.849394379747939, 0.45842242204463923],
            [-6.954028509809101, 2.489845061869568, -10.358996098473584],
            [2.8029986275628964, 0.5072464736228206, -0.3988312541770524, -0.04721187230404641],
            _RODAS5P_M,
            [*_RODAS5P_M, 1.0],
            [*_RODAS5P_M, 1.0, 1.0],
        ]
    ),
    c=_lower(
        [
            [],
            [-14.155112264123755],
            [-17.97296035885952, -2.859693295451294],
            [147.12150275711716, -1.41221402718213, 71.68940251302358],
            [165.43517024871676, -0.4592823456491126, 42.90938336958603, -5.961986721573306],
            [24.854864614690072, -3.0009227002832186, 47.4931110020768, 5.5814197821558125, -0.6610691825249471],
            [
                30.91273214028599,
                -3.1208243349937974,
                77.79954646070892,
                34.28646028294783,
                -19.097331116725623,
                -28.087943162872662,
            ],
            [
                37.80277123390563,
                -3.2571969029072276,
                112.26918849496327,
                66.9347231244047,
                -40.06618937091002,
                -54.66780262877968,
                -9.48861652309627,
            ],
        ]
    ),
    m=np.array([*_RODAS5P_M, 1.0, 1.0, 1.0]),
    e=np.array([0.0] * 7 + [1.0]),
)
"""G. Steinebach, BIT Numerical Mathematics 63 (2023) 27: order 5, eight stages, stiffly accurate, L-stable."""


class StepLanes(NamedTuple):
    """Working memory of one thread for the steps; n = `padded(m + 1)`; s stages of either method."""

    y: NDArray[np.float64]  # (n)
    stage: NDArray[np.float64]  # (n) argument of f, then the new state
    u: NDArray[np.float64]  # (s n) stages
    left: NDArray[np.float64]  # (1) time still to go [s]
    step: NDArray[np.float64]  # (1) next step [s]; 0 before the first
    limit: NDArray[np.float64]  # (1) how much the step may grow: not at all after a rejection
    enthalpy: NDArray[np.float64]  # (1) h/R [kmol K/kg] of the cell
    growth: NDArray[np.float64]  # (1) of the rates in the step, see `growth`; infinite where a pivot says no
    speed: NDArray[np.float64]  # (1) largest |h f| over |y| + atol/rtol of the step for calm gas
    excess: NDArray[np.float64]  # (1) of a calm step's error over its tolerance: not above zero if it is good
    changing: NDArray[np.float64]  # (1) above zero if the state changes too much for its linearised equations


class Memory(NamedTuple):
    """All working memory of one thread."""

    lanes: Lanes
    work: JacobianLanes
    steps: StepLanes
    row: NDArray[np.int64]  # (W,) which row a lane works on, -1 for none
    tried: NDArray[np.int64]  # (W,) steps that it has tried


def new_memory(tables: Tables, stages: int) -> Memory:
    """Memory for one thread, for methods of so many stages."""
    n = padded(len(tables.reactive) + 1)
    steps = StepLanes(*map(aligned, (n, n, stages * n, 1, 1, 1, 1, 1, 1, 1, 1)))
    return Memory(new_lanes(tables), new_jacobian_lanes(tables), steps, np.empty(W, np.int64), np.empty(W, np.int64))


class Results(NamedTuple):
    """Of n rows; those that are not OK are copied."""

    next_states: NDArray[np.float64]  # (n, 2 + K)
    status: NDArray[np.int8]  # (n,) OK, INVALID or FAILED, see `Status`
    n_steps: NDArray[np.int32]  # (n,) steps tried
    calm: NDArray[np.bool_]  # (n,) whether one step for calm gas was enough (`exponential.py`)
    speed: NDArray[np.float64]  # (n,) the same as in `StepLanes` of rows that are not calm
    negative: NDArray[np.bool_]  # (n,) whether a mass fraction is below zero
    drift: NDArray[np.float64]  # (n,) largest change of an element's mass [kg/kg]


def new_results(states: NDArray[np.float64]) -> Results:
    """Arrays for the results of `states` (n, 2 + K)."""
    n = len(states)
    calm, negative = np.zeros((2, n), np.bool_)
    speed, drift = np.zeros((2, n))
    return Results(np.empty_like(states), np.empty(n, np.int8), np.zeros(n, np.int32), calm, speed, negative, drift)


@cached_njit(error_model="numpy", nogil=True, _nrt=False, no_cfunc_wrapper=True)
def integrate(tables, element_mass, method, memory, states, rows, waiting, dt, rtol, atol, results):
    """Advance the valid `rows` (r,) of `states` (n, 2 + K) by dt [s] into `results`, beginning with rows[waiting[0]].

    Threads may share the work: each takes the row that `waiting` (1,) names next. `element_mass` (E, K) [kg/kg].
    """
    lanes, work, steps, row_of, tried = memory
    active, used = 0, -1
    for lane in range(W):
        tried[lane] = 0
        row_of[lane] = _refill(tables, lanes, steps, lane, states, rows, waiting, dt)
        active += row_of[lane] >= 0
        used = max(used, row_of[lane])
    for lane in range(W):  # a lane that stays idle repeats a valid row
        if row_of[lane] < 0 and used >= 0:
            _fill(tables, lanes, steps, states[used], lane, dt)
    while active > 0:
        _take_step(tables, method, lanes, work, steps, rtol, atol)
        for lane in range(W):
            i = row_of[lane]
            if i < 0:
                continue
            tried[lane] += 1
            done = steps.left[lane] == 0.0
            if done or tried[lane] == _MAX_STEPS or not steps.step[lane] > dt * _SMALLEST_STEP:
                write_row(tables, steps, lane, states, i, done, element_mass, results)
                results.n_steps[i] = tried[lane]
                tried[lane] = 0
                row_of[lane] = _refill(tables, lanes, steps, lane, states, rows, waiting, dt)
                active -= row_of[lane] < 0


@kernel
def _refill(tables, lanes, steps, lane, states, rows, waiting, dt):
    """Put the next row into a lane; returns its number, -1 if there is none."""
    next_one = take_number(waiting)
    if next_one >= rows.size:
        return -1
    _fill(tables, lanes, steps, states[rows[next_one]], lane, dt)
    return rows[next_one]


@kernel
def next_valid_row(states, waiting, T_max, results):
    """The number of the next valid row, -1 if there is none; those that are not are copied."""
    i = take_number(waiting)
    while i < states.shape[0]:
        if is_valid(states[i], T_max):
            return i
        results.status[i] = _INVALID
        for k in range(states.shape[1]):
            results.next_states[i, k] = states[i, k]
        i = take_number(waiting)
    return -1


@kernel
def _fill(tables, lanes, steps, state, lane, dt):
    """Put a state into a lane."""
    set_state(tables, lanes, steps.y, state, lane)
    steps.left[lane], steps.step[lane], steps.limit[lane] = dt, 0.0, _LARGEST_GROWTH


@kernel
def write_row(tables, steps, lane, states, i, done, element_mass, results):
    """Take the result of row i out of a lane; inert species keep their mass fractions to the bit.

    A row that is not done, or whose result is no state of a gas, has failed, and is copied.
    """
    next_state, lowest = results.next_states[i], 0.0
    for k in range(next_state.size):
        next_state[k] = states[i, k]
    if done:
        m = tables.reactive.size
        next_state[0] = steps.y[m * W + lane]
        for j in range(m):
            k = tables.reactive[j]
            next_state[2 + k] = steps.y[j * W + lane] * tables.species[k, 15]
            lowest = min(lowest, next_state[2 + k])
    good = done and COLDEST <= next_state[0] <= HOTTEST and lowest >= -NEGATIVE_TOLERANCE
    if not good:
        for k in range(next_state.size):
            next_state[k] = states[i, k]
    if good and tables.held.volume == 1.0:
        next_state[1] *= _moles_times_T(tables, next_state) / _moles_times_T(tables, states[i])
    results.negative[i] = good and lowest < 0.0
    results.status[i] = _OK if good else _FAILED
    results.drift[i] = largest_element_change(states[i], next_state, element_mass)


@kernel
def _moles_times_T(tables, state):
    """T sum_k Y_k/W_k [K kmol/kg] of a row."""
    moles = 0.0
    for k in range(tables.species.shape[0]):
        moles += state[2 + k] / tables.species[k, 15]
    return moles * state[0]


@kernel
def _take_step(tables, method, lanes, work, steps, rtol, atol):
    """Try one step in every lane."""
    size = tables.reactive.size + 1
    n = padded(size)
    inverse_h, volume = splat(0.0), splat(0.0)
    for i in range(method.m.size):
        _combine(steps.stage, steps.y, steps.u, method.a[i], i, n, size)
        volume, cp = right_hand_side(tables, lanes, steps.stage)
        if i == 0:
            jacobian(tables, lanes, work, steps.stage, volume, cp)
            _choose_first_steps(tables, lanes, work, steps, rtol, atol)
            inverse_h = 1.0 / load(steps.step, 0)
            store(steps.growth, 0, factorise_shifted(tables, work, inverse_h * (1.0 / method.gamma)))
        stage = steps.u[i * n * W :]
        for j in range(size):
            known = splat(0.0)
            for q in range(i):
                known = fma(method.c[i, q], load(steps.u, q * n + j), known)
            store(stage, j, -fma(known, inverse_h, load(lanes.f, j)))
        solve(tables.layout, work.matrix, stage)
    _combine(steps.stage, steps.y, steps.u, method.m, method.m.size, n, size)
    grown = _growth_in_step(tables, method, lanes, steps, load(steps.step, 0), volume)
    store(steps.growth, 0, maximum(load(steps.growth, 0), grown))
    restore_enthalpy(tables, lanes, steps)
    _accept_or_reject(tables, method, steps, rtol, atol)


@kernel
def factorise_shifted(tables, work, shift):
    """Factors of J - shift; returns zero where the pivots say that no mode grows as fast as `shift` [1/s], else inf.

    A step with h such that 1/(gamma h) is less than the rate of a growing mode carries it to where its rate is zero,
    which an error estimate takes for calm: an explosion is jumped over. Then shift - J has a negative pivot. Where
    nothing grows no pivot is below `shift`: near equilibrium reactions are symmetric up to scales (Onsager), and far
    from it the matrix is one of Metzler's. What a species' own entry adds does not count: where it is positive, the
    species reacts with one that an error has made negative.
    """
    layout, m = tables.layout, tables.reactive.size
    for j in range(m):
        store(work.own, j, load(work.matrix, layout.diagonal[j]))
    store(work.own, m, 0.0)
    add_to_diagonal(layout, work.matrix, -1.0, shift)
    factorise(layout, work.matrix)
    least, total = splat(1.0), splat(0.0)
    for j in range(m + 1):
        own = load(work.own, j)
        allowance = fma(_ROUND_OFF, absolute(own), maximum(0.0, own))
        pivot = (allowance - 1.0 / load(work.matrix, layout.diagonal[j])) / shift
        least, total = minimum(least, pivot), total + pivot
    return select(least + (total - total) >= _LOWEST_PIVOT, splat(0.0), splat(np.inf))


@kernel
def growth(tables, lanes, rates, changes, volume):
    """The sum of |h f| at the end of a step over that of |changes| of the amounts, as far as it is no round-off.

    If all of them grow as e^(z t/h) it is z/(1 - e^-z). Rates of progress nearly cancel in equilibrium, and what is
    left of them is noise; `volume` is the specific volume times h.
    """
    gross = splat(0.0)
    for r in range(tables.order.shape[1]):
        gross = gross + absolute(load(lanes.progress, r))
    return maximum(0.0, fma(-_NOISE * volume, gross, rates)) / maximum(changes, 1e-300)


@kernel
def _growth_in_step(tables, method, lanes, steps, h, volume):
    """`growth` in a step whose last argument is the new state but for the estimate of its error.

    Where 1/(gamma h) is close to the rate of growth this estimate is most of the change.
    """
    m = tables.reactive.size
    n, rates, changes = padded(m + 1), splat(0.0), splat(0.0)
    for j in range(m):
        change, error = splat(0.0), splat(0.0)
        for q in range(method.m.size):
            u = load(steps.u, q * n + j)
            change, error = fma(method.m[q], u, change), fma(method.e[q], u, error)
        changes = changes + absolute(change)
        rates = rates + fma(_FASTEST_GROWTH, absolute(error), h * absolute(load(lanes.f, j)))
    return growth(tables, lanes, rates, changes, h * volume)


@kernel
def _combine(out, y, u, factors, stages, n, size):
    """y + sum_j factors_j u_j over the first stages."""
    for j in range(size):
        total = load(y, j)
        for q in range(stages):
            total = fma(factors[q], load(u, q * n + j), total)
        store(out, j, total)


@kernel
def _choose_first_steps(tables, lanes, work, steps, rtol, atol):
    """For lanes that hold a new cell: a step over which neither f nor J f changes the state much."""
    new = 0
    for lane in range(W):
        new += steps.step[lane] == 0.0
    if new == 0:
        return
    m = tables.reactive.size
    product(tables.layout, work.matrix, lanes.f, steps.u)
    speed, turn = splat(0.0), splat(0.0)
    for k in range(m + 1):
        size = absolute(load(steps.y, k))
        if k < m:
            size = size + atol / rtol / tables.species[tables.reactive[k], 15]
        speed = maximum(absolute(load(lanes.f, k)) / size, speed)
        turn = maximum(absolute(load(steps.u, k)) / size, turn)
    left, step = load(steps.left, 0), load(steps.step, 0)
    first = rtol ** (1 / 6) / maximum(maximum(speed, sqrt(turn)), 1e-300)
    store(steps.enthalpy, 0, select(step > 0.0, load(steps.enthalpy, 0), mixture_enthalpy(tables, lanes, steps)))
    first = maximum(first, left * _SHORTEST_FIRST_STEP)
    store(steps.step, 0, select(step > 0.0, step, _even(first, left)))


@kernel
def mixture_enthalpy(tables, lanes, steps):
    """h/R [kmol K/kg] of the state whose right-hand side has just been evaluated."""
    total, T = splat(0.0), load(steps.y, tables.reactive.size)
    for k in range(tables.species.shape[0]):
        total = fma(heat_content(tables, lanes, k) * T, load(lanes.amounts, k), total)
    return total


@kernel
def restore_enthalpy(tables, lanes, steps):
    """Set the temperature of the new state to what its enthalpy says, by two steps of Newton's method."""
    m = tables.reactive.size
    for _ in range(2):
        T = load(steps.stage, m)
        mixed, total = no_species(), splat(0.0)
        for k in range(tables.species.shape[0]):
            j = tables.place[k]
            amount = load(steps.stage, j) if j >= 0 else load(lanes.amounts, k)
            mixed, total = add_species(mixed, amount, tables.species[k], T), total + amount
        h, cp = enthalpy_and_cp(mixed, T, tables.species)
        h, cp = fma(-tables.held.volume * T, total, h), fma(-tables.held.volume, total, cp)
        store(steps.stage, m, fma(tables.held.heating, (load(steps.enthalpy, 0) - h) / cp, T))


@kernel
def _even(step, left):
    """The largest step not above `step` that divides the time left into equal parts."""
    parts = minimum(_MOST_EQUAL_PARTS, left / step)
    equal = left / maximum(1.0, ((parts + 0.499999) + _ROUND) - _ROUND)
    return select(step * _MOST_EQUAL_PARTS >= left, equal, step)


@kernel
def tolerance(tables, before, after, j, rtol, atol):
    """Error that is allowed of unknown j, an amount [kmol/kg] or, last, T [K], between its values at both ends."""
    allowed = maximum(absolute(before), absolute(after)) * rtol
    if j < tables.reactive.size:
        allowed = allowed + atol / tables.species[tables.reactive[j], 15]
    return allowed


@kernel
def _accept_or_reject(tables, method, steps, rtol, atol):
    """Move the lanes on whose error is within the tolerance; choose the next step of all."""
    m = tables.reactive.size
    n = padded(m + 1)
    error, sum_of_all = splat(1e-10), splat(0.0)
    for j in range(m + 1):
        difference = splat(0.0)
        for q in range(method.e.size):
            difference = fma(method.e[q], load(steps.u, q * n + j), difference)
        size = tolerance(tables, load(steps.y, j), load(steps.stage, j), j, rtol, atol)
        error = maximum(error, absolute(difference) / size)
        sum_of_all = sum_of_all + difference
    error = error + (sum_of_all - sum_of_all)  # a maximum forgets NaN, a sum does not
    step, left, limit = load(steps.step, 0), load(steps.left, 0), load(steps.limit, 0)
    T, growth = load(steps.stage, m), load(steps.growth, 0)
    error = select(T >= COLDEST, select(T <= HOTTEST, error, splat(np.inf)), splat(np.inf))
    good = (error <= 1.0) & (growth <= _FASTEST_GROWTH)
    change = maximum(_LARGEST_CUT, minimum(limit, _SAFETY * exp(log(error) * (-1.0 / method.order))))
    change = select(error < 1e30, change, splat(_LARGEST_CUT))
    change = maximum(_LARGEST_CUT, minimum(change, 0.75 / maximum(growth - 1.0, 0.125)))
    left = select(good, left - step, left)
    for j in range(m + 1):
        store(steps.y, j, select(good, load(steps.stage, j), load(steps.y, j)))
    store(steps.left, 0, left)
    store(steps.limit, 0, select(good, splat(_LARGEST_GROWTH), splat(1.0)))
    store(steps.step, 0, select(left > 0.0, _even(step * change, left), step))
