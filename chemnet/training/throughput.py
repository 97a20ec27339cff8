"""Throughput of the training loop beside a bare one with the same network, optimiser and batches.

The loop also reports, validates, averages weights and writes checkpoints. Both train on the same random numbers, in
turns, in one process, on a CPU of one thread. A weight and sample costs six operations: a multiplication and an
addition in the forward pass, and twice as many backward.
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
from chemnet.surrogate.network import build, count
from chemnet.training.batches import TrainingData
from chemnet.training.config import TrainConfig, load_config
from chemnet.training.loop import fit
from chemnet.training.options import FitOptions, Precision
from chemnet.training.steps import bare_steps

_ROWS, _VALIDATION_ROWS = 200_000, 30_000
_PER_WEIGHT = 6.0  # operations of a training for a weight and a sample


@dataclass(frozen=True)
class TrainingTask:
    """Config to measure, over the steps between two of its reports, number of turns, device, and, if it is not to be
    the config's, the size of all batches and the precision."""

    config: str = "small"
    turns: int = 3
    device: str = "cpu"
    batch: int | None = None
    precision: Precision | None = None

    def options(self, config: TrainConfig) -> FitOptions:
        """Options of the training that is measured."""
        changes: dict[str, object] = {"steps": config.fit.report_every}
        if self.batch is not None:
            changes |= {"batch_size": self.batch, "batch_growth": 1.0}
        if self.precision is not None:
            changes["precision"] = self.precision
        return config.fit.model_copy(update=changes).on(self.device)


def bench_training(task: TrainingTask) -> list[Table]:
    """Tables of the machine and of both loops' samples per second. Raises what loading the config raises."""
    config = load_config(task.config)
    return [machine_table(), _table(config, task, in_fresh_process(measure, task))]


def measure(task: TrainingTask) -> dict[str, list[float]]:
    """Samples per second of each turn, by name of the loop."""
    config = load_config(task.config)
    options, device = task.options(config), task.device
    data = _random_data(config).to(device)
    loops: dict[str, Callable[[], None]] = {
        "bare": lambda: bare_steps(build(config.network).to(device), data, options),
        "chemnet": lambda: _fit(config, data, options, device),
    }
    samples = sum(options.batch_at(step) for step in range(options.steps))
    warm_up = options.model_copy(update={"steps": 10})  # not timed
    bare_steps(build(config.network).to(device), data, warm_up)
    found: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(task.turns):
        for name, loop in loops.items():
            start = time.perf_counter()
            loop()
            if device == "cuda":
                torch.cuda.synchronize()
            found[name].append(samples / (time.perf_counter() - start))
    return found


def _fit(config: TrainConfig, data: TrainingData, options: FitOptions, device: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        fit(build(config.network), data, options, folder, device=device, report=lambda line: None)


def _random_data(config: TrainConfig) -> TrainingData:
    generator = torch.Generator().manual_seed(0)
    widths = config.network.widths

    def draw(rows: int, columns: int) -> torch.Tensor:
        return torch.randn(rows, columns, generator=generator)

    x, y, x_val, y_val = (draw(n, m) for n in (_ROWS, _VALIDATION_ROWS) for m in (widths[0], widths[-1]))
    return TrainingData(x, y, x_val, y_val, torch.arange(1, widths[-1]))


def _table(config: TrainConfig, task: TrainingTask, found: dict[str, list[float]]) -> Table:
    median = {name: float(np.median(rates)) for name, rates in found.items()}
    operations = _PER_WEIGHT * count(build(config.network), biases=False)
    rows = []
    for name, rates in found.items():
        share, speed = 100.0 * median[name] / median["bare"], 1e-12 * operations * median[name]
        rows.append((name, median[name], f"{min(rates):.0f} - {max(rates):.0f}", share, speed))
    columns = ("loop", "samples/s", "from - to", "share of the bare loop [%]", "TFLOP/s")
    widths, options = "-".join(map(str, config.network.widths)), task.options(config)
    where = "one thread" if task.device == "cpu" else torch.cuda.get_device_name()
    how = f"{options.optimizer}, {options.precision}, {options.steps} steps, {where}"
    title = f"training of {config.name}, {widths}, {how}"
    return Table(f"{title}, medians of {task.turns} turns", columns, rows)
