"""The chemistry step `exact`: Rosenbrock methods on W cells side by side; CVODES takes what they give up."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from chemnet.gas.closure import Closure
from chemnet.gas.conditions import Conditions, with_temperature
from chemnet.gas.mechanism import MechanismLike, as_mechanism
from chemnet.gas.state import Array, as_states, check_time_step
from chemnet.gas.status import Status
from chemnet.kinetics.cvodes import CvodesReactor
from chemnet.kinetics.exponential import CALM_TOLERANCES, EXPRB32, CalmTolerances, advance_calm
from chemnet.kinetics.mechanism_tables import held_at, tables_of
from chemnet.kinetics.rosenbrock import RODAS5P, Memory, Method, Results, integrate, new_memory, new_results
from chemnet.kinetics.step import StepResult, StepStats, takes_solution_arrays
from chemnet.runtime.compilation import announce_compilation
from chemnet.runtime.errors import UsageError
from chemnet.runtime.threads import chosen_threads

_WORK_OF_CALM = 0.5  # of the step for calm gas, in internal steps of order 5
_HANDED_OVER = 1e-8, 1e-20  # tolerances of CVODES, which with 1e-10 misses explosions that begin with less
_ROWS_PER_THREAD = 64  # fewer are not worth another thread


class RosenbrockReactor:
    """Error-controlled steps of any mechanism that `tables_of` covers, by default at constant pressure and enthalpy.

    A row's result depends on nothing but the row: neither on its place, nor on the other rows, nor on the number of
    threads. Tolerances are of mass fractions and temperature: an error estimate of `rtol |Y| + atol`, and `rtol T`, in
    every internal step. Calm rows take one step of order 3 (`exponential.py`), whose estimates are a tenth of that or
    less, others steps of `method`. `calm` says which rows these are; by default the same tolerances hold, or 1e-4 and
    1e-9 where these are tighter. Rows that CVODES takes have the status RETRIED.

    `conditions` are those of `gas/conditions.py`: at constant volume the pressure changes and the energy stays.
    `n_threads` share the rows, by default one (`runtime/threads.py`).

    Raises UsageError for tolerances that are not positive, for other conditions and, naming the reaction, for a kind
    that is not covered.
    """

    def __init__(
        self,
        mechanism: MechanismLike,
        rtol: float = 1e-4,
        atol: float = 1e-9,
        n_threads: int | None = None,
        method: Method = RODAS5P,
        calm: CalmTolerances | None = None,
        conditions: Conditions = "constant pressure",
    ) -> None:
        tightest = CalmTolerances(min(rtol, CALM_TOLERANCES.rtol), min(atol, CALM_TOLERANCES.atol))
        self.calm_tolerances = calm or tightest
        for pair in ((rtol, atol), self.calm_tolerances[:2]):
            _check_tolerances(*pair)
        n_threads = chosen_threads(n_threads) or 1
        self.mechanism = as_mechanism(mechanism)
        self.rtol, self.atol, self.n_threads = rtol, atol, n_threads
        self.conditions = conditions
        self._method, self._tables = method, tables_of(self.mechanism)._replace(held=held_at(conditions))
        self._closure = Closure(self.mechanism)
        stages = max(len(method.m), len(EXPRB32.b))
        self._memories = [new_memory(self._tables, stages) for _ in range(n_threads)]

    @takes_solution_arrays
    def advance(self, states: ArrayLike, dt: float | None = None) -> StepResult[Array]:
        """States (n, 2 + K) after dt [s], and a `Status` per row (n,); the input is not modified.
        `stats` holds `n_steps`, `calm`, `raw_drift`, `handed_over` and `work`.

        A `SolutionArray` of Cantera gives a new one, and statuses of its shape.

        Elements and enthalpy (or energy) equal those of the input to round-off: the method keeps the one, every
        internal step restores the other, and rows with mass fractions below zero are closed (`closure.py`). Rows that
        are invalid, or that CVODES could not advance either, come back unchanged, with their status. Raises UsageError
        for a wrong shape or dt.
        """
        states = as_states(states, self.mechanism)
        dt = check_time_step(dt)
        results, rest = self._advance_calm(states, dt)
        self._integrate_rest(states, rest, dt, results)
        self._close_negative(states, results)
        next_states, status, n_steps, calm = results[:4]
        given_up = np.flatnonzero(status == Status.FAILED)
        work = np.where(calm, _WORK_OF_CALM, n_steps)
        work[given_up] += self._hand_over(states, given_up, dt, next_states, status)
        stats = StepStats(n_steps, calm, results.drift, handed_over=given_up.size, work=work)
        return StepResult(next_states, status, stats)

    def advance_calm(self, states: ArrayLike, dt: float) -> tuple[Array, NDArray[np.bool_]]:
        """States (n, 2 + K) after dt [s] of the rows that are calm, and which rows these are (n,).

        They are what `advance` gives; rows that are not calm, or invalid, come back unchanged. Raises UsageError for a
        wrong shape or dt.
        """
        states = as_states(states, self.mechanism)
        results, _ = self._advance_calm(states, check_time_step(dt))
        self._close_negative(states, results)
        calm = results.calm & (results.status == Status.OK)  # not of all rows is there a status yet
        results.next_states[~calm] = states[~calm]
        return results.next_states, calm

    def _advance_calm(self, states: Array, dt: float) -> tuple[Results, NDArray[np.int64]]:
        """Results where one exponential step is enough, and the numbers of the valid rows that are left."""
        announce_compilation(advance_calm, "the chemistry kernels", 20)
        results = new_results(states)
        fixed = self._tables, self.mechanism.element_mass
        rest, n_rest = np.empty(len(states), np.int64), np.zeros(1, np.int64)
        shared = states, np.zeros(1, np.int64), dt, self.calm_tolerances, results, rest, n_rest
        self._share(len(states), lambda memory: advance_calm(*fixed, EXPRB32, memory, *shared))
        return results, rest[: n_rest[0]]

    def _integrate_rest(self, states: Array, rows: NDArray[np.int64], dt: float, results: Results) -> None:
        """Advance the rows that are not calm by steps with error control."""
        fixed = self._tables, self.mechanism.element_mass
        longest_first = rows[np.argsort(-results.speed[rows])]  # so that hardly a lane idles at the end
        left = states, longest_first, np.zeros(1, np.int64), dt, self.rtol, self.atol, results
        self._share(rows.size, lambda memory: integrate(*fixed, self._method, memory, *left))

    def _close_negative(self, states: Array, results: Results) -> None:
        """Close the rows with mass fractions below zero; where that is not possible they have failed."""
        negative = np.flatnonzero(results.negative)
        closed = np.empty((negative.size, states.shape[1]))
        ok, _ = self._closure.close(states[negative], results.next_states[negative, 2:], closed)
        if self.conditions != "constant pressure":
            closed = with_temperature(states[negative], closed, self.mechanism, self.conditions)
        results.next_states[negative] = closed
        results.status[negative[~ok]] = Status.FAILED

    def _share(self, n_rows: int, advance: Callable[[Memory], None]) -> None:
        """Call `advance` in as many threads as so many rows are worth; each takes the next row that waits."""
        if n_rows == 0:
            return
        n_threads = min(self.n_threads, n_rows // _ROWS_PER_THREAD + 1)
        if n_threads == 1:
            advance(self._memories[0])
            return
        with ThreadPoolExecutor(n_threads) as pool:
            list(pool.map(advance, self._memories[:n_threads]))

    @cached_property
    def _cvodes(self) -> CvodesReactor:
        """What takes the rows that are given up; made for the first of them."""
        rtol, atol = (min(pair) for pair in zip((self.rtol, self.atol), _HANDED_OVER, strict=True))
        return CvodesReactor(self.mechanism, rtol, atol, conditions=self.conditions)

    def _hand_over(
        self, states: Array, rows: NDArray[np.intp], dt: float, next_states: Array, status: NDArray[np.int8]
    ) -> Array:
        """Advance by CVODES what the integrator or the closure gave up; returns the work of these rows."""
        if not rows.size:
            return np.zeros(0)
        taken = self._cvodes.advance(states[rows], dt)
        next_states[rows], status[rows] = taken
        status[rows[status[rows] == Status.OK]] = Status.RETRIED
        return np.asarray(taken.stats.work)


def _check_tolerances(rtol: float, atol: float) -> None:
    """Raise UsageError unless tolerances are finite and positive."""
    if not (np.isfinite([rtol, atol]).all() and rtol > 0.0 and atol > 0.0):
        raise UsageError(f"rtol = {rtol}, atol = {atol}: tolerances must be finite and positive")


def integrator_of(
    kind: Literal["exact", "cvode"],
    mechanism: MechanismLike,
    rtol: float | None = None,
    atol: float | None = None,
    n_threads: int | None = None,
) -> RosenbrockReactor | CvodesReactor:
    """The step `exact`, or `cvode` on one thread, with its own tolerances where none are given."""
    given: dict[str, Any] = {name: x for name, x in (("rtol", rtol), ("atol", atol)) if x is not None}
    if kind == "cvode":
        return CvodesReactor(mechanism, **given)
    return RosenbrockReactor(mechanism, **given, n_threads=n_threads)
