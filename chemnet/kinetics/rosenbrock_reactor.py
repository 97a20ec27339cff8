"""The chemistry step `exact`: a Rosenbrock method on W cells side by side; CVODES takes what it gives up."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from chemnet.gas.closure import Closure
from chemnet.gas.mechanism import Mechanism
from chemnet.gas.state import Array, as_states, check_time_step
from chemnet.gas.status import Status
from chemnet.kinetics.cvodes import CvodesReactor
from chemnet.kinetics.mechanism_tables import tables_of
from chemnet.kinetics.rosenbrock import RODAS5P, Memory, Method, Results, integrate, new_memory, new_results
from chemnet.kinetics.step import StepResult, StepStats
from chemnet.runtime.compilation import announce_compilation
from chemnet.runtime.errors import UsageError

_ROWS_PER_THREAD = 64  # fewer are not worth another thread


class RosenbrockReactor:
    """Error-controlled steps at constant pressure and enthalpy, for any mechanism that `tables_of` covers.

    A row's result depends on nothing but the row: neither on its place, nor on the other rows, nor on the number of
    threads. Tolerances are of mass fractions and temperature: an error estimate of rtol |Y| + atol, and rtol T, in
    every internal step. Rows that CVODES takes have the status RETRIED.

    Raises UsageError for tolerances that are not positive and, naming the reaction, for a kind that is not covered.
    """

    def __init__(
        self,
        mechanism: Mechanism,
        rtol: float = 1e-4,
        atol: float = 1e-9,
        n_threads: int = 1,
        method: Method = RODAS5P,
    ) -> None:
        if not (np.isfinite([rtol, atol]).all() and rtol > 0.0 and atol > 0.0):
            raise UsageError(f"rtol = {rtol}, atol = {atol}: tolerances must be finite and positive")
        if n_threads < 1:
            raise UsageError(f"n_threads = {n_threads}: at least one thread is needed")
        self.mechanism = mechanism
        self.rtol, self.atol, self.n_threads = rtol, atol, n_threads
        self._method, self._tables = method, tables_of(mechanism)
        self._closure = Closure(mechanism)
        self._memories = [new_memory(self._tables, method) for _ in range(n_threads)]

    def advance(self, states: ArrayLike, dt: float | None = None) -> StepResult[Array]:
        """States (n, 2 + K) after dt [s], and a `Status` per row (n,); the input is not modified.
        `stats` holds `n_steps`, `raw_drift`, `handed_over` and `work`.

        Elements and enthalpy equal those of the input to round-off: the method keeps the one, every internal step
        restores the other, and rows with mass fractions below zero are closed (`closure.py`). Rows that are invalid,
        or that CVODES could not advance either, come back unchanged, with their status. Raises UsageError for a wrong
        shape or dt.
        """
        states = as_states(states, self.mechanism)
        dt = check_time_step(dt)
        announce_compilation(integrate, "the chemistry kernels", 12)
        results = new_results(states)
        self._integrate(states, dt, results)
        next_states, status, n_steps, raw_drift = results
        negative = np.flatnonzero((next_states[:, 2:] < 0.0).any(axis=1) & (status == Status.OK))
        closed = np.empty((negative.size, states.shape[1]))
        ok, _ = self._closure.close(states[negative], next_states[negative, 2:], closed)
        next_states[negative] = closed
        status[negative[~ok]] = Status.FAILED
        given_up = np.flatnonzero(status == Status.FAILED)
        work = n_steps.astype(np.float64)
        work[given_up] += self._hand_over(states, given_up, dt, next_states, status)
        return StepResult(next_states, status, StepStats(n_steps, raw_drift, handed_over=given_up.size, work=work))

    def _integrate(self, states: Array, dt: float, results: Results) -> None:
        """Advance all rows; each thread takes the next one that waits."""
        fixed = self._tables, self.mechanism.element_mass, self._method
        shared = states, np.zeros(1, np.int64), dt, self.rtol, self.atol, results

        def advance(memory: Memory) -> None:
            integrate(*fixed, memory, *shared)

        n_threads = min(self.n_threads, len(states) // _ROWS_PER_THREAD + 1)
        if n_threads == 1:
            advance(self._memories[0])
            return
        with ThreadPoolExecutor(n_threads) as pool:
            list(pool.map(advance, self._memories[:n_threads]))

    def _hand_over(
        self, states: Array, rows: NDArray[np.intp], dt: float, next_states: Array, status: NDArray[np.int8]
    ) -> Array:
        """Advance by CVODES what the integrator or the closure gave up; returns the work of these rows."""
        if not rows.size:
            return np.zeros(0)
        cvodes = CvodesReactor(self.mechanism, min(self.rtol, 1e-6), min(self.atol, 1e-10))
        taken = cvodes.advance(states[rows], dt)
        next_states[rows], status[rows] = taken
        status[rows[status[rows] == Status.OK]] = Status.RETRIED
        return np.asarray(taken.stats.work)


def integrator_of(
    kind: Literal["exact", "cvode"], mechanism: Mechanism, rtol: float | None = None, atol: float | None = None
) -> RosenbrockReactor | CvodesReactor:
    """The step `exact` or `cvode` on one thread, with its own tolerances where none are given."""
    given: dict[str, Any] = {name: x for name, x in (("rtol", rtol), ("atol", atol)) if x is not None}
    return CvodesReactor(mechanism, **given) if kind == "cvode" else RosenbrockReactor(mechanism, **given)
