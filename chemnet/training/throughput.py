"""Throughput of the training loop beside a bare one with the same network, optimiser and batches.

The loop also reports, validates, averages weights and writes checkpoints. Both train on the same random numbers, in
turns, in one process of one thread.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from chemnet.benchmark.timing import in_fresh_process, machine_table
from chemnet.runtime.tables import Table
from chemnet.surrogate.network import build
from chemnet.training.batches import TrainingData
from chemnet.training.config import TrainConfig, load_config
from chemnet.training.loop import fit
from chemnet.training.options import FitOptions
from chemnet.training.steps import bare_steps

_ROWS, _VALIDATION_ROWS = 200_000, 30_000


@dataclass(frozen=True)
class TrainingTask:
    """Config to measure, over the steps between two of its reports, and number of turns."""

    config: str = "small"
    turns: int = 3


def bench_training(task: TrainingTask) -> list[Table]:
    """Tables of the machine and of both loops' samples per second. Raises what loading the config raises."""
    config = load_config(task.config)
    return [machine_table(), _table(config, task, in_fresh_process(measure, task))]


def measure(task: TrainingTask) -> dict[str, list[float]]:
    """Samples per second of each turn, by name of the loop."""
    config = load_config(task.config)
    options = config.fit.model_copy(update={"steps": config.fit.report_every}).on("cpu")
    data = _random_data(config)
    loops: dict[str, Callable[[], None]] = {
        "bare": lambda: bare_steps(build(config.network), data, options),
        "chemnet": lambda: _fit(config, data, options),
    }
    samples = sum(options.batch_at(step) for step in range(options.steps))
    bare_steps(build(config.network), data, options.model_copy(update={"steps": 10}))  # warm-up, not timed
    found: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(task.turns):
        for name, loop in loops.items():
            start = time.perf_counter()
            loop()
            found[name].append(samples / (time.perf_counter() - start))
    return found


def _fit(config: TrainConfig, data: TrainingData, options: FitOptions) -> None:
    with tempfile.TemporaryDirectory() as folder:
        fit(build(config.network), data, options, folder, report=lambda line: None)


def _random_data(config: TrainConfig) -> TrainingData:
    generator = torch.Generator().manual_seed(0)
    widths = config.network.widths

    def draw(rows: int, columns: int) -> torch.Tensor:
        return torch.randn(rows, columns, generator=generator)

    x, y, x_val, y_val = (draw(n, m) for n in (_ROWS, _VALIDATION_ROWS) for m in (widths[0], widths[-1]))
    return TrainingData(x, y, x_val, y_val, torch.arange(1, widths[-1]))


def _table(config: TrainConfig, task: TrainingTask, found: dict[str, list[float]]) -> Table:
    median = {name: float(np.median(rates)) for name, rates in found.items()}
    rows = [
        (name, median[name], f"{min(rates):.0f} - {max(rates):.0f}", 100.0 * median[name] / median["bare"])
        for name, rates in found.items()
    ]
    columns = ("loop", "samples/s", "from - to", "share of the bare loop [%]")
    widths = "-".join(map(str, config.network.widths))
    title = f"training of {config.name}, {widths}, {config.fit.optimizer}, {config.fit.report_every} steps, one thread"
    return Table(f"{title}, medians of {task.turns} turns", columns, rows)
