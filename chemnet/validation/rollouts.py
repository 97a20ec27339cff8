"""Roll-outs of a chemistry step on its own last states, and the ignition delays of their histories."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chemnet.gas.state import Array, elements, enthalpy, heat_capacity
from chemnet.kinetics.step import ChemistryStep

REPORT_EVERY = 10.0  # [s]
IGNITION_RISE = 400.0  # [K] a smaller rise over the whole roll-out is no ignition

Report = Callable[[str], None]


@dataclass(frozen=True)
class RollOut:
    """Trajectories of n cases: `temperature` (n, most steps + 1) [K], which keeps its last value where a case has
    ended before the others, and what happened on the way, each (n,)."""

    temperature: Array
    worst_status: NDArray[np.integer]
    element_drift: Array  # [kg/kg]
    enthalpy_drift: Array  # relative to cp T
    seconds: float


def roll_out(
    model: ChemistryStep, states: Array, dt: float, steps: int | NDArray[np.integer], report: Report = print
) -> RollOut:
    """Advance all rows together by `dt` [s], each step from the model's own last states; `steps` in all or per row.

    Every ten seconds or so `report` is given a line with the time still needed.
    """
    model.advance(states[:1], dt)  # the first call may compile, which is not timed
    start = last = time.perf_counter()
    mechanism = model.mechanism
    lengths = np.broadcast_to(np.asarray(steps), len(states))
    order = np.argsort(-lengths, kind="stable")  # the longest first: those under way are always the first rows
    current = states[order]
    longest = int(lengths.max())
    under_way = np.searchsorted(-lengths[order], -np.arange(longest + 1), side="right")  # by number of steps
    temperature = np.empty((len(states), longest + 1))
    temperature[:, 0] = current[:, 0]
    worst = np.zeros(len(states), dtype=np.int64)
    drift = np.zeros(len(states))
    totals = elements(current, mechanism)
    for step in range(1, longest + 1):
        n = under_way[step]
        current[:n], status = model.advance(current[:n], dt)
        worst[:n] = np.maximum(worst[:n], status)
        temperature[:, step] = current[:, 0]
        drift[:n] = np.maximum(drift[:n], np.abs(elements(current[:n], mechanism) - totals[:n]).max(axis=1))
        if time.perf_counter() - last > REPORT_EVERY:
            last = time.perf_counter()
            left = (last - start) / under_way[1 : step + 1].sum() * under_way[step + 1 :].sum()
            report(f"step {step} of {longest}, {left:.0f} s left")
    heat = heat_capacity(current, mechanism) * current[:, 0]
    enthalpy_drift = np.abs(enthalpy(current, mechanism) - enthalpy(states[order], mechanism)) / heat
    back = np.argsort(order)
    seconds = time.perf_counter() - start
    return RollOut(temperature[back], worst[back], drift[back], enthalpy_drift[back], seconds)


def ignition_delay(temperature: Array, dt: float, ignition_rise: float = IGNITION_RISE) -> Array:
    """Time of steepest temperature rise (n,) [s] of histories (n, steps + 1) sampled every dt [s].

    The slopes lie half way between the samples; a parabola through the largest slope and its neighbours
    places the maximum between them. nan where T rises by less than `ignition_rise` [K], is not finite, or is
    steepest at an end.
    """
    delay = np.full(len(temperature), np.nan)
    for i, history in enumerate(temperature):
        if not np.isfinite(history).all() or history.max() - history[0] < ignition_rise:
            continue
        slope = np.diff(history)
        k = int(np.argmax(slope))
        if 0 < k < len(slope) - 1:
            left, middle, right = slope[k - 1 : k + 2]
            delay[i] = dt * (k + 0.5 + 0.5 * (left - right) / (left - 2.0 * middle + right))
    return delay
