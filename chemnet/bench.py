"""What a step of chemistry costs: a model beside CVODES, on the same cells of a flame, one core, in one run.

Measured is the whole call of `advance`: checks, transform, network and closure. The two take turns, so that a
machine that slows down or speeds up meanwhile does so for both, and medians are compared.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path

import numpy as np

from chemnet import sources
from chemnet.config import Config
from chemnet.mechanism import Mechanism
from chemnet.reactor import ChemistryStep, CvodesReactor
from chemnet.state import Array
from chemnet.status import Status
from chemnet.surrogate import Surrogate, find_model
from chemnet.tables import Table
from chemnet.workers import available_cores, ordered_map

COLD = 500.0  # [K] a flow solver leaves colder cells alone
_SHORTEST_TURN = 0.05  # [s] a turn repeats its call until it has lasted this long
_SEED = 1


class FlameCells(Config):
    """The free flame whose cells are advanced; `fuel` as mole fractions."""

    phi: float = 1.0
    T: float = 300.0  # [K] of the unburnt gas
    P: float = 101325.0  # [Pa]
    fuel: dict[str, float] = {"CH4": 1.0}


@dataclass(frozen=True)
class Timing:
    """Seconds per call of each turn, by name of the step, over the same `cells`."""

    cells: int
    refused: int
    seconds: Mapping[str, list[float]]

    def per_cell(self, name: str) -> tuple[float, float, float]:
        """Median, minimum and maximum over the turns [s]."""
        values = np.array(self.seconds[name]) / self.cells
        return float(np.median(values)), float(values.min()), float(values.max())


@dataclass(frozen=True)
class BenchTask:
    """What is measured: the model by name or path, how many cells, how many turns each."""

    model: str
    cells: int = 1000
    turns: int = 7
    flame: FlameCells = FlameCells()


def bench(task: BenchTask) -> list[Table]:
    """Tables of the machine and of the costs, measured in a fresh process that has one thread.

    Raises what loading the model and solving the flame raise.
    """
    find_model(task.model)  # a wrong name is told at once
    (timings,) = ordered_map(measure, [task], n_workers=2)  # with one worker it would run in this process
    return [machine_table(), cost_table(task, timings)]


def measure(task: BenchTask) -> dict[str, Timing]:
    """Costs by kind of cells."""
    model = Surrogate.load(task.model)
    steps: dict[str, ChemistryStep] = {"CVODES": CvodesReactor(model.mechanism), "model": model}
    kinds = flame_cells(model.mechanism, task.flame, task.cells)
    return {kind: take_turns(steps, states, model.dt, task.turns) for kind, states in kinds.items()}


def flame_cells(mechanism: Mechanism, flame: FlameCells, n: int) -> dict[str, Array]:
    """n states hotter than 500 K of a free flame (n, 2 + K), spread evenly over its refined grid, and in space.

    The first are mostly reacting, as at the front of a flow solver; the second mostly burnt.
    """
    ((grid, states),) = sources.flames(mechanism, [flame.phi], flame.P, flame.T, flame.fuel, sources.AIR)
    hot = states[:, 0] > COLD
    grid, states = grid[hot], states[hot]
    index = np.arange(len(grid))
    positions = {
        "flame front": np.linspace(0.0, index[-1], n),
        "front and burnt gas": np.interp(np.linspace(grid[0], grid[-1], n), grid, index),
    }
    return {
        kind: np.column_stack([np.interp(at, index, column) for column in states.T]) for kind, at in positions.items()
    }


def take_turns(steps: Mapping[str, ChemistryStep], states: Array, dt: float, turns: int) -> Timing:
    """Seconds of `advance(states, dt)` of each step, in turns, after one call each that is not counted."""
    refused = 0
    for step in steps.values():
        refused = max(refused, int((step.advance(states, dt)[1] >= Status.FAILED).sum()))
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(turns):
        for name, step in steps.items():
            seconds[name].append(seconds_per_call(partial(step.advance, states, dt)))
    return Timing(len(states), refused, seconds)


def seconds_per_call(call: Callable[[], object]) -> float:
    """Wall seconds of one call, from as many as fill a turn."""
    calls, start = 0, time.perf_counter()
    while calls == 0 or time.perf_counter() - start < _SHORTEST_TURN:
        call()
        calls += 1
    return (time.perf_counter() - start) / calls


def cost_table(task: BenchTask, timings: Mapping[str, Timing]) -> Table:
    """One row per kind of cells."""
    rows = []
    for kind, timing in timings.items():
        exact, model = timing.per_cell("CVODES"), timing.per_cell("model")
        spread = [f"{1e6 * low:.3g} - {1e6 * high:.3g}" for _, low, high in (exact, model)]
        rows.append(
            (
                kind,
                timing.cells,
                timing.refused,
                1e6 * exact[0],
                spread[0],
                1e6 * model[0],
                spread[1],
                exact[0] / model[0],
            )
        )
    columns = (
        "cells",
        "number",
        "refused",
        "CVODES [us]",
        "from - to",
        "model [us]",
        "from - to ",
        "ratio",
    )
    title = f"one step of {task.model} against CVODES, per cell, one thread, medians of {task.turns} turns"
    return Table(title, columns, rows)


def machine_table() -> Table:
    """The machine and the versions that the figures belong to."""
    packages = ("cantera", "torch", "numba", "numpy")
    rows = [
        ("processor", processor()),
        ("usable cores", str(available_cores())),
        ("Python", platform.python_version()),
        *((name, metadata.version(name)) for name in packages),
    ]
    return Table("machine", ("part", "value"), rows)


def processor() -> str:
    """Model name of the CPU."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text(encoding="utf-8").splitlines() if facts.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
