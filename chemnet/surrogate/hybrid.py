"""Hybrid of a model and integrators: the decision which step computes a row."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from chemnet.gas.mechanism import Mechanism, MechanismLike
from chemnet.gas.solution_array import SolutionArray
from chemnet.gas.state import Array, as_states
from chemnet.gas.status import Status
from chemnet.kinetics import ChemistryStep, CvodesReactor, RosenbrockReactor, StepResult, StepStats, integrator_of
from chemnet.kinetics.exponential import WIDEST, CalmTolerances
from chemnet.kinetics.heating import Heating
from chemnet.kinetics.step import takes_solution_arrays
from chemnet.runtime.errors import UsageError
from chemnet.surrogate.model import CalmFirst, Surrogate

_SLOW_TOLERANCES = (1e-2, 1e-7)  # for slow gas that is not calm: one step of order 5 takes it to within 1e-5 K
CALM = CalmTolerances(0.1, 1e-6, change=0.03, largest=30.0)  # errors of T are then a fifth of those of a good network
_MOST_SPECIES = 30  # a step for calm gas of more of them costs more than a network does: 15 us for the 53 of GRI-3.0
# In internal steps of the exact integrator:
_WORK = 0.5  # of the network; what it refuses costs it less, but not nothing
_WORK_OF_CALM = 0.3  # of the step for calm gas

_ORDERS: dict[CalmFirst, str] = {
    "never": "the network is asked first",
    "usual": "calm gas goes to one exponential step first",
    "widest": "nearly all gas goes to one exponential step first",
}

Outside = Literal["exact", "cvode", "freeze", "error"]


class HybridStep:
    """A chemistry step by a model and by integrators, which take the rows that the model refuses.

    * calm rows, which one exponential step of the integrator advances, never come to the network, where that step is
      the cheaper one (`takes_calm_gas_first`) or the model says so (`calm_first`), unless `calm_limit` is zero; as
      calm counts gas for which that step is much better than a network, or, with `widest`, nearly all
    * where the network is the cheaper one, and with `widest`, its answers are checked: those that do not agree with the
      heating at both ends of the step (`Heating.agrees`) count as slow
    * slow rows, colder than `cold_limit` [K] or calmer than `calm_limit` (default: the limits of the model), go to
      `integrator` (default: the exact step at loose tolerances, enough for slow gas)
    * rows that the model leaves, because they are outside its domain or failed, are up to `outside`: a step, `exact` or
      `cvode` takes them, `freeze` leaves them as they are, with status OK, and `error` with the model's status

    Invalid rows come back unchanged. `n_threads` compute the network and the integrators that are made here (default:
    as `runtime/threads.py` says). Raises UsageError for limits that are negative, an unknown `outside`, or where the
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
        n_threads: int | None = None,
    ) -> None:
        if n_threads is not None:
            model = model.with_threads(n_threads)
        self.model, self.mechanism, self.dt = model.with_limits(cold_limit, calm_limit), model.mechanism, model.dt
        widest = model.calm_first == "widest"
        self.integrator = integrator or slow_step(model.mechanism, WIDEST if widest else CALM, n_threads)
        self._heating = _heating_of(model.mechanism) if checks_heating(model) else None
        self.outside_step, self._freeze = _outside_step(outside, model.mechanism, n_threads), outside == "freeze"

    @classmethod
    def load(
        cls, path_or_name: str | Path, mechanism: MechanismLike | None = None, engine: str | None = None, **options: Any
    ) -> HybridStep:
        """The step of a model file, run folder or shipped name (`Surrogate.load`), with the options of `HybridStep`."""
        return cls(Surrogate.load(path_or_name, mechanism, engine), **options)

    @overload
    def advance(self, states: SolutionArray, dt: float | None = None) -> StepResult[SolutionArray]: ...
    @overload
    def advance(self, states: ArrayLike, dt: float | None = None) -> StepResult[Array]: ...
    @takes_solution_arrays
    def advance(self, states: Any, dt: float | None = None) -> StepResult[Any]:
        """States (n, 2 + K) after the model's dt [s] at constant pressure and enthalpy, and a `Status` per row (n,).

        A `SolutionArray` of Cantera, of any shape, gives a new one, and statuses of its shape. The input is not
        modified. Elements and enthalpy equal those of the input to round-off. A row's result is bitwise the same in any
        company. `stats` holds the rows that are `slow` and `left`, how many were `handed_over` to CVODES, and the
        `work`. Raises UsageError for a wrong shape or a dt that the model was not made for.
        """
        states = as_states(states, self.mechanism)
        dt = self.dt if dt is None else dt
        next_states, calm = self._advance_calm(states, dt)
        status, asked = np.full(len(states), Status.OK, np.int8), np.flatnonzero(~calm)
        next_states[asked], status[asked] = self._ask(states.take(asked, axis=0), dt)
        chosen, handed_over, work = [], 0, np.where(calm, _WORK_OF_CALM, _WORK)
        for step, refused in ((self.integrator, [Status.SLOW]), (self.outside_step, [Status.OUTSIDE, Status.FAILED])):
            rows = np.isin(status, refused)
            chosen.append(rows)
            if step is not None and rows.any():
                taken = step.advance(states[rows], dt)
                next_states[rows], status[rows] = taken
                handed_over += taken.stats.handed_over
                work[rows] += 1.0 if taken.stats.work is None else taken.stats.work
        slow, left = chosen
        if self._freeze:
            status[left] = Status.OK
        return StepResult(
            next_states, status, StepStats(slow=slow | calm, left=left, handed_over=handed_over, work=work)
        )

    def _ask(self, states: Array, dt: float) -> tuple[Array, NDArray[np.int8]]:
        """The model's answers, slow where they do not agree with the heating at both ends of the step."""
        next_states, status = self.model.advance(states, dt)
        if self._heating is not None:
            answered = np.flatnonzero(status == Status.OK)
            old, new = states[answered], next_states[answered]
            wrong = answered[~self._heating.agrees(old, new, dt)]
            next_states[wrong], status[wrong] = states[wrong], Status.SLOW
        return next_states, status

    def _advance_calm(self, states: Array, dt: float) -> tuple[Array, NDArray[np.bool_]]:
        """States after dt of the rows that the integrator advances by one step for calm gas, and which they are."""
        first = order_of(self.model) != "never"
        if first and self.model.calm_limit > 0.0 and isinstance(self.integrator, RosenbrockReactor):
            return self.integrator.advance_calm(states, dt)
        return states.copy(), np.zeros(len(states), np.bool_)


def takes_calm_gas_first(mechanism: Mechanism) -> bool:
    """Whether hybrid steps try the integrator's step for calm gas before they ask a network: it is the cheaper one."""
    return mechanism.n_species <= _MOST_SPECIES


def order_of(model: Surrogate) -> CalmFirst:
    """Which gas goes to the integrator before the network is asked, in the hybrid steps of a model."""
    return model.calm_first or ("usual" if takes_calm_gas_first(model.mechanism) else "never")


def order_in_words(model: Surrogate) -> str:
    """What the hybrid steps of a model ask first."""
    return _ORDERS[order_of(model)]


def checks_heating(model: Surrogate) -> bool:
    """Whether the hybrid steps of a model check its answers by the heating at both ends."""
    return model.calm_first == "widest" or not takes_calm_gas_first(model.mechanism)


def slow_step(mechanism: Mechanism, calm: CalmTolerances = CALM, n_threads: int | None = None) -> ChemistryStep:
    """The exact step at loose tolerances; CVODES for a mechanism that it does not cover."""
    try:
        return RosenbrockReactor(mechanism, *_SLOW_TOLERANCES, n_threads, calm=calm)
    except UsageError:
        return CvodesReactor(mechanism)


def _heating_of(mechanism: Mechanism) -> Heating | None:
    """The heating by a mechanism; None where the exact step does not cover it."""
    try:
        return Heating(mechanism)
    except UsageError:
        return None


def _outside_step(
    outside: Outside | ChemistryStep, mechanism: Mechanism, n_threads: int | None
) -> ChemistryStep | None:
    """The step that takes the rows that a model leaves, if any does."""
    if not isinstance(outside, str):
        return outside
    if outside not in get_args(Outside):
        raise UsageError(f"outside = {outside}: there are {', '.join(get_args(Outside))}")
    return integrator_of(outside, mechanism, n_threads=n_threads) if outside in ("exact", "cvode") else None
