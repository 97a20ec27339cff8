"""Cost and errors of several exact steps on the same cells, the errors against CVODES at 1e-10/1e-16."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from chemnet.benchmark.timing import Timing, take_turns
from chemnet.gas.mechanism import Mechanism
from chemnet.gas.state import Array
from chemnet.gas.status import Status
from chemnet.kinetics import ChemistryStep, CvodesReactor

REFERENCE = (1e-10, 1e-16)  # rtol, atol of the CVODES that is the truth here
TRACE = (1e-12, 1e-6)  # mass fractions of what counts as a trace
_PERCENTILE = 0.99


@dataclass(frozen=True)
class Judged:
    """Errors of one step, 99th percentiles, None where there is nothing to judge; and what it did.

    * `temperature` [K], over the cells
    * `mass_fraction`, the largest absolute error of any species in a cell, over the cells
    * `trace`, relative, over all pairs of a cell and a species with 1e-12 < Y < 1e-6
    * `n_steps`, the mean internal steps of a cell; None for a step that does not count them
    * `handed_over`, `refused`: the number of cells that it gave to CVODES, and that it refused, which are in no error
    """

    temperature: float | None
    mass_fraction: float | None
    trace: float | None
    n_steps: float | None = None
    handed_over: int = 0
    refused: int = 0


@dataclass(frozen=True)
class Comparison:
    """Cost and errors of several steps on the same cells, by name."""

    timing: Timing
    judged: Mapping[str, Judged]


def compare(steps: Mapping[str, ChemistryStep], states: Array, dt: float, turns: int) -> Comparison:
    """Cost and errors of every step on `states` (n, 2 + K) over dt [s]."""
    truth = Truth(next(iter(steps.values())).mechanism, states, dt)
    judged = {name: truth.judge(step) for name, step in steps.items()}
    return Comparison(take_turns(steps, states, dt, turns), judged)


class Truth:
    """The reference states of some cells after dt; `known` (n,) False where even the reference gives up."""

    def __init__(self, mechanism: Mechanism, states: Array, dt: float) -> None:
        self._states, self._dt = states, dt
        self.next_states, status = CvodesReactor(mechanism, *REFERENCE).advance(states, dt)
        self.known = status < Status.FAILED

    def judge(self, step: ChemistryStep) -> Judged:
        """Errors and record of one call."""
        result = step.advance(self._states, self._dt)
        taken = result.status < Status.FAILED
        both = taken & self.known
        counted = result.stats.n_steps
        n_steps = float(counted[both].mean()) if counted is not None and both.any() else None
        found = errors(self.next_states[both], result.states[both])
        handed_over, refused = result.stats.handed_over, int((~taken).sum())
        return replace(found, n_steps=n_steps, handed_over=handed_over, refused=refused)


def errors(truth: Array, states: Array) -> Judged:
    """Errors of `states` (n, 2 + K)."""
    T_error = np.abs(states[:, 0] - truth[:, 0])
    Y_error = np.abs(states[:, 2:] - truth[:, 2:]).max(axis=1)
    return Judged(percentile(T_error), percentile(Y_error), percentile(trace_errors(truth, states)[0]))


def trace_errors(truth: Array, states: Array) -> tuple[Array, NDArray[np.intp]]:
    """Relative errors (m,) of all mass fractions that are traces in `truth`, and the species (m,) of each."""
    Y = truth[:, 2:]
    low, high = TRACE
    rows, species = np.nonzero((low < Y) & (high > Y))
    exact = Y[rows, species]
    return np.abs(states[rows, 2 + species] - exact) / exact, species


def percentile(values: Array) -> float | None:
    """The 99th percentile; None of no values."""
    return float(np.quantile(values, _PERCENTILE)) if values.size else None
