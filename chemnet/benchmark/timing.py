"""Fair timing: steps take turns on the same cells, so that a machine that slows down or speeds up meanwhile does so
for all of them, and medians are compared. Measured is the whole call of `advance`, checks and closure included."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TypeVar

import numpy as np

from chemnet.gas.state import Array
from chemnet.gas.status import Status
from chemnet.kinetics.step import ChemistryStep
from chemnet.runtime.errors import UsageError
from chemnet.runtime.processes import available_cores, ordered_map
from chemnet.runtime.tables import Table

_SHORTEST_TURN = 0.05  # [s] a turn repeats its call until it has lasted this long

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Timing:
    """Seconds per call of each turn, by name of the step, over the same `cells`.

    `refused`: cells that were offered as well and that the step which was asked first refused, or, where none was, the
    most that any step refused of `cells`. `integrated`: the most that any step integrated in the place of its network.
    """

    cells: int
    refused: int
    seconds: Mapping[str, list[float]]
    integrated: int = 0

    def per_cell(self, name: str) -> tuple[float, float, float]:
        """Median, minimum and maximum over the turns [s]."""
        values = np.array(self.seconds[name]) / self.cells
        return float(np.median(values)), float(values.min()), float(values.max())

    def spread(self, name: str) -> tuple[float, float]:
        """Cheapest and dearest turn [us]."""
        _, low, high = self.per_cell(name)
        return 1e6 * low, 1e6 * high

    def ratio(self, slow: str, fast: str) -> float:
        """How many times cheaper `fast` is, of the medians."""
        return self.per_cell(slow)[0] / self.per_cell(fast)[0]


def take_turns(
    steps: Mapping[str, ChemistryStep], states: Array, dt: float, turns: int, asked: str | None = None
) -> Timing:
    """Seconds of `advance(states, dt)` of each step, in turns, after one call each that is not counted.

    What the step named `asked` refuses is left out for all: to refuse costs little, and would count as fast. Raises
    UsageError where it refuses everything.
    """
    left_out = integrated = refused = 0
    if asked is not None:
        taken = steps[asked].advance(states, dt).status < Status.FAILED
        states, left_out = states[taken], int((~taken).sum())
        if not taken.any():
            raise UsageError(
                f"the {asked} refuses all {left_out} cells: they are outside its domain, and there is nothing to time\n"
                "Name a gas that it was made for: --fuel, --oxidizer, --pressure, --phi."
            )
    for step in steps.values():
        result = step.advance(states, dt)
        refused = max(refused, int((result.status >= Status.FAILED).sum()) if asked is None else left_out)
        integrated = max(integrated, result.stats.integrated)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(turns):
        for name, step in steps.items():
            seconds[name].append(seconds_per_call(partial(step.advance, states, dt)))
    return Timing(len(states), refused, seconds, integrated)


def seconds_per_call(call: Callable[[], object]) -> float:
    """Wall seconds of one call, from as many as fill a turn."""
    calls, start = 0, time.perf_counter()
    while calls == 0 or time.perf_counter() - start < _SHORTEST_TURN:
        call()
        calls += 1
    return (time.perf_counter() - start) / calls


def in_fresh_process(function: Callable[[Task], Result], task: Task) -> Result:
    """Result of `function(task)` in a process of its own with one thread per library."""
    (result,) = ordered_map(function, [task], n_workers=2)  # with one worker it would run in this process
    return result


def machine_table() -> Table:
    """The machine and the versions that the figures belong to."""
    packages = ("cantera", "torch", "numba", "numpy")
    rows = [
        ("processor", processor()),
        ("usable cores", available_cores()),
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
