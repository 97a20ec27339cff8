"""The shape of every chemistry step, exact or learned: `advance(states, dt)` gives a `StepResult`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from chemnet.gas.mechanism import Mechanism
from chemnet.gas.solution_array import array_of, is_solution_array, states_of
from chemnet.gas.state import Array

States = TypeVar("States")
Advance = TypeVar("Advance", bound=Callable[..., Any])
Rows = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class StepStats:
    """What happened in one call on n rows; a step reports what it knows.

    * `n_steps` (n,): internal steps that the exact integrator tried
    * `calm` (n,): rows that one exponential step of the exact integrator advanced
    * `raw_drift` (n,): largest element error before the closure [kg/kg]
    * `handed_over`: number of rows that the exact integrator gave up and CVODES took
    * `slow` (n,): rows that are too cold or too calm for a network, and were integrated
    * `left` (n,): rows that a model left because they are outside its domain or failed
    * `work` (n,): what the rows cost, in internal steps of the exact integrator (some 3 us each); to share rows out
    """

    n_steps: NDArray[np.int32] | None = None
    calm: Rows | np.bool_ = np.False_
    raw_drift: Array | None = None
    handed_over: int = 0
    slow: Rows | np.bool_ = np.False_
    left: Rows | np.bool_ = np.False_
    work: Array | None = None

    @property
    def integrated(self) -> int:
        """Number of `slow` rows."""
        return int(np.count_nonzero(self.slow))


class StepResult(tuple[States, NDArray[np.int8]]):
    """States after a step, a `Status` per row, and `stats`; unpacks as `states, status`."""

    stats: StepStats

    def __new__(cls, states: States, status: NDArray[np.int8], stats: StepStats | None = None) -> StepResult[States]:
        result = super().__new__(cls, (states, status))  # type: ignore[type-var]
        result.stats = stats or StepStats()
        return result

    def __getnewargs__(self) -> tuple[Any, ...]:  # for pickle, which restores `stats` by itself
        return tuple(self)

    @property
    def states(self) -> States:
        """States after the step, (n, 2 + K)."""
        return self[0]

    @property
    def status(self) -> NDArray[np.int8]:
        """A `Status` per row, (n,)."""
        return self[1]


class ChemistryStep(Protocol):
    """Chemistry at constant pressure and enthalpy, each row on its own."""

    mechanism: Mechanism

    def advance(self, states: ArrayLike, dt: float | None = None) -> StepResult[Array]:
        """States (n, 2 + K) after dt [s], by default the step's own; a step of any dt has none and asks for it."""
        ...


def takes_solution_arrays(advance: Advance) -> Advance:
    """The method `advance` of a step, which takes a `SolutionArray` of Cantera as well, of any shape.

    Such an array gives a new one, and statuses of its shape.
    """

    @functools.wraps(advance)
    def advance_either(self: ChemistryStep, states: Any, dt: float | None = None) -> StepResult[Any]:
        if not is_solution_array(states):
            return cast(StepResult[Any], advance(self, states, dt))
        after, status = result = advance(self, states_of(states, self.mechanism), dt)
        return StepResult(array_of(after, states), status.reshape(states.shape), result.stats)

    return cast(Advance, advance_either)
