"""The chemistry step `cvode`, by Cantera's CVODES: the reference that every other step is measured against."""

from __future__ import annotations

import time
from contextlib import suppress
from functools import partial
from typing import Any

import cantera as ct
import numpy as np
from numpy.typing import ArrayLike, NDArray

from chemnet.gas.canonical import new_reactor
from chemnet.gas.closure import Closure
from chemnet.gas.conditions import Conditions, check_conditions, with_temperature
from chemnet.gas.mechanism import Mechanism, MechanismLike, as_mechanism
from chemnet.gas.state import COLDEST, HOTTEST, NEGATIVE_TOLERANCE, Array, as_states, check_time_step, valid_rows
from chemnet.gas.status import Status
from chemnet.kinetics.step import StepResult, StepStats, takes_solution_arrays
from chemnet.runtime.processes import ordered_map

_SECONDS_PER_WORK = 3e-6  # about one internal step of the exact integrator
_RETRY_STEPS = 100
_ROWS_PER_TASK = 500


class CvodesReactor:
    """Cantera's CVODES with a fresh integrator per row, so that a row's result depends on nothing but the row.

    `rtol`, `atol` are those of CVODES (mass fractions); `n_workers` processes share the rows. Raises UsageError for
    conditions that do not exist.
    """

    def __init__(
        self,
        mechanism: MechanismLike,
        rtol: float = 1e-6,
        atol: float = 1e-10,
        n_workers: int = 1,
        conditions: Conditions = "constant pressure",
    ) -> None:
        check_conditions(conditions)
        self.mechanism, self.conditions = as_mechanism(mechanism), conditions
        self.rtol, self.atol, self.n_workers = rtol, atol, n_workers
        self._closure = Closure(self.mechanism)
        self._gas = self.mechanism.gas()

    def __getstate__(self) -> dict[str, Any]:
        """Everything but Cantera's object, which is made anew where it is unpickled."""
        return {key: value for key, value in vars(self).items() if key != "_gas"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._gas = self.mechanism.gas()

    @takes_solution_arrays
    def advance(self, states: ArrayLike, dt: float | None = None) -> StepResult[Array]:
        """States (n, 2 + K) after dt [s], a `Status` per row (n,), `raw_drift` and `work` (by the
        processor's time); the input is not modified.

        A `SolutionArray` of Cantera gives a new one, and statuses of its shape.

        The integrator's mass fractions are closed (`closure.py`): elements and enthalpy (at constant volume the energy)
        equal those of the input to round-off. A row that fails is tried once more with a maximum internal step of
        dt/100. Rows that are invalid or fail twice come back unchanged, with their status. Raises UsageError for a
        wrong shape or dt.
        """
        states = as_states(states, self.mechanism)
        dt = check_time_step(dt)
        status = np.where(valid_rows(states, self.mechanism.T_max), Status.OK, Status.INVALID).astype(np.int8)
        results = states.copy(), status, np.zeros(len(states)), np.zeros(len(states))
        rows = np.flatnonzero(status == Status.OK)
        self._take_step(states, rows, dt, None, results)
        failed = rows[status[rows] == Status.FAILED]
        self._take_step(states, failed, dt, dt / _RETRY_STEPS, results)
        status[failed[status[failed] == Status.OK]] = Status.RETRIED
        return StepResult(results[0], status, StepStats(raw_drift=results[2], work=results[3]))

    def _take_step(
        self,
        states: Array,
        rows: NDArray[np.intp],
        dt: float,
        max_step: float | None,
        results: tuple[Array, NDArray[np.int8], Array, Array],
    ) -> None:
        """Integrate and close the given rows; next states, status, element error and work are written in place."""
        if rows.size == 0:
            return
        next_states, status, raw_drift, work = results
        Y_raw, seconds = self._integrate(states[rows], dt, max_step)
        work[rows] += seconds / _SECONDS_PER_WORK
        closed = np.empty((rows.size, states.shape[1]))
        ok, raw_drift[rows] = self._closure.close(states[rows], Y_raw, closed)
        if self.conditions != "constant pressure":
            closed = with_temperature(states[rows], closed, self.mechanism, self.conditions)
        ok &= (Y_raw.min(axis=1) >= -NEGATIVE_TOLERANCE) & (closed[:, 0] >= COLDEST) & (closed[:, 0] <= HOTTEST)
        next_states[rows] = np.where(ok[:, None], closed, states[rows])
        status[rows] = np.where(ok, Status.OK, Status.FAILED)

    def _integrate(self, states: Array, dt: float, max_step: float | None) -> tuple[Array, Array]:
        if self.n_workers == 1:
            return integrate(self._gas, states, dt, self.rtol, self.atol, max_step, self.conditions)
        task = partial(
            _integrate_in_worker,
            mechanism=self.mechanism,
            settings=(dt, self.rtol, self.atol, max_step, self.conditions),
        )
        parts = np.array_split(states, max(1, len(states) // _ROWS_PER_TASK))
        Y, seconds = zip(*ordered_map(task, parts, self.n_workers), strict=True)
        return np.concatenate(Y), np.concatenate(seconds)


def integrate(
    gas: ct.Solution,
    states: Array,
    dt: float,
    rtol: float,
    atol: float,
    max_step: float | None = None,
    conditions: Conditions = "constant pressure",
) -> tuple[Array, Array]:
    """Mass fractions (n, K) after dt [s] as CVODES returns them, NaN in a row where it gives up, and the processor's
    time for each row [s].
    """
    Y, seconds = np.full((len(states), gas.n_species), np.nan), np.zeros(len(states))
    for i, state in enumerate(states):
        start = time.thread_time()
        reactor = new_reactor(gas, state, conditions)
        network = ct.ReactorNet([reactor])
        network.rtol, network.atol = rtol, atol
        if max_step is not None:
            network.max_time_step = max_step
        with suppress(ct.CanteraError):
            network.advance(dt)
            Y[i] = gas.Y
        seconds[i] = time.thread_time() - start
    return Y, seconds


def _integrate_in_worker(
    states: Array, mechanism: Mechanism, settings: tuple[float, float, float, float | None, Conditions]
) -> tuple[Array, Array]:
    return integrate(mechanism.gas(), states, *settings)
