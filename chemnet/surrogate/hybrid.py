"""Hybrid of a model and integrators: the decision which step computes a row."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args, overload

import numpy as np
from numpy.typing import ArrayLike

from chemnet.gas.mechanism import Mechanism
from chemnet.gas.solution_array import SolutionArray, array_of, is_solution_array, states_of
from chemnet.gas.state import Array, as_states
from chemnet.gas.status import Status
from chemnet.kinetics import ChemistryStep, CvodesReactor, RosenbrockReactor, StepResult, StepStats, integrator_of
from chemnet.runtime.errors import UsageError
from chemnet.surrogate.model import Surrogate

_SLOW_TOLERANCES = (1e-2, 1e-7)  # for slow gas that is not calm: one step of order 5 takes it to within 1e-5 K
_WORK = 0.5  # of the network, in internal steps of the exact integrator; what it refuses costs it less, but not nothing

Outside = Literal["exact", "cvode", "freeze", "error"]


class HybridStep:
    """A chemistry step by a model and by integrators, which take the rows that the model refuses.

    * slow rows, colder than `cold_limit` [K] or calmer than `calm_limit` (default: the limits of the model), go to
      `integrator` (default: the exact step at loose tolerances, enough for slow gas)
    * rows that the model leaves, because they are outside its domain or failed, are up to `outside`: a step, `exact` or
      `cvode` takes them, `freeze` leaves them as they are, with status OK, and `error` with the model's status

    Invalid rows come back unchanged. Raises UsageError for limits that are negative, an unknown `outside`, or where the
    exact step does not cover the mechanism.
    """

    def __init__(
        self,
        model: Surrogate,
        integrator: ChemistryStep | None = None,
        *,
        cold_limit: float | None = None,
        calm_limit: float | None = None,
        outside: Outside | ChemistryStep = "exact",
    ) -> None:
        self.model, self.mechanism, self.dt = model.with_limits(cold_limit, calm_limit), model.mechanism, model.dt
        self.integrator = integrator or _slow_step(model.mechanism)
        self.outside_step, self._freeze = _outside_step(outside, model.mechanism), outside == "freeze"

    @classmethod
    def load(
        cls, path_or_name: str | Path, mechanism: Mechanism | None = None, engine: str | None = None, **options: Any
    ) -> HybridStep:
        """The step of a model file, run folder or shipped name (`Surrogate.load`), with the options of `HybridStep`."""
        return cls(Surrogate.load(path_or_name, mechanism, engine), **options)

    @overload
    def advance(self, states: SolutionArray, dt: float | None = None) -> StepResult[SolutionArray]: ...
    @overload
    def advance(self, states: ArrayLike, dt: float | None = None) -> StepResult[Array]: ...
    def advance(self, states: Any, dt: float | None = None) -> StepResult[Any]:
        """States (n, 2 + K) after the model's dt [s] at constant pressure and enthalpy, and a `Status` per row (n,).

        A `SolutionArray` of Cantera, of any shape, gives a new one, and statuses of its shape. The input is not
        modified. Elements and enthalpy equal those of the input to round-off. A row's result is bitwise the same in any
        company. `stats` holds the rows that are `slow` and `left`, how many were `handed_over` to CVODES, and the
        `work`. Raises UsageError for a wrong shape or a dt that the model was not made for.
        """
        if is_solution_array(states):
            result = self.advance(states_of(states, self.mechanism), dt)
            return StepResult(array_of(result.states, states), result.status.reshape(states.shape), result.stats)
        states = as_states(states, self.mechanism)
        next_states, status = self.model.advance(states, dt)
        chosen, handed_over, work = [], 0, np.full(len(states), _WORK)
        for step, refused in ((self.integrator, [Status.SLOW]), (self.outside_step, [Status.OUTSIDE, Status.FAILED])):
            rows = np.isin(status, refused)
            chosen.append(rows)
            if step is not None and rows.any():
                taken = step.advance(states[rows], self.dt if dt is None else dt)
                next_states[rows], status[rows] = taken
                handed_over += taken.stats.handed_over
                work[rows] += 1.0 if taken.stats.work is None else taken.stats.work
        slow, left = chosen
        if self._freeze:
            status[left] = Status.OK
        return StepResult(next_states, status, StepStats(slow=slow, left=left, handed_over=handed_over, work=work))


def _slow_step(mechanism: Mechanism) -> ChemistryStep:
    """The exact step at loose tolerances; CVODES for a mechanism that it does not cover."""
    try:
        return RosenbrockReactor(mechanism, *_SLOW_TOLERANCES)
    except UsageError:
        return CvodesReactor(mechanism)


def _outside_step(outside: Outside | ChemistryStep, mechanism: Mechanism) -> ChemistryStep | None:
    """The step that takes the rows that a model leaves, if any does."""
    if not isinstance(outside, str):
        return outside
    if outside not in get_args(Outside):
        raise UsageError(f"outside = {outside}: there are {', '.join(get_args(Outside))}")
    return integrator_of(outside, mechanism) if outside in ("exact", "cvode") else None
