"""Costs of classifiers: multiply-adds, counted, and latency, measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from chemnet.condensation import budgets
from chemnet.condensation.latency import latencies
from chemnet.runtime.malloc import keep_freed_memory
from chemnet.runtime.tables import Table
from chemnet.runtime.torch_threads import torch_threads
from chemnet.vision.networks import count
from chemnet.vision.training import outputs_of

_SIDE = 32


def multiply_adds(network: nn.Module, side: int = _SIDE) -> int:
    """Multiply-adds of the convolutions and matrix products for one image (3, side, side)."""
    return budgets.multiply_adds(network, torch.zeros(1, 3, side, side))


def bench(networks: Mapping[str, nn.Module], batches: Sequence[int] = (1, 128), turns: int = 7) -> Table:
    """Parameters, multiply-adds and latency of networks on one core, beside the first of them.

    The networks take turns, so that disturbances hit all of them; the median of the processor's time counts. `saved` is
    the saved share of the first one's time over the saved share of its multiply-adds.
    """
    keep_freed_memory()
    with torch_threads(1):
        seconds = {batch: _seconds(networks, batch, turns) for batch in batches}
    costs = {name: multiply_adds(network) for name, network in networks.items()}
    first = next(iter(networks))
    rows = []
    for name, network in networks.items():
        row: list[object] = [name, count(network), 1e-6 * costs[name], 100.0 * costs[name] / costs[first]]
        for batch in batches:
            left = seconds[batch][name] / seconds[batch][first]
            saved = 1.0 - costs[name] / costs[first]
            row += [1e3 * seconds[batch][name], 100.0 * left, (1.0 - left) / saved if saved > 0.0 else float("nan")]
        rows.append(row)
    columns = ["network", "parameters", "multiply-adds [M]", "multiply-adds [%]"]
    for batch in batches:
        columns += [f"batch {batch} [ms]", f"batch {batch} [%]", f"batch {batch} saved"]
    return Table("latency on one core", columns, rows)


def _seconds(networks: Mapping[str, nn.Module], batch: int, turns: int) -> dict[str, float]:
    """Median time [s] of a call with `batch` images, by name of the network."""
    inputs = torch.rand(batch, 3, _SIDE, _SIDE).contiguous(memory_format=torch.channels_last)
    calls: dict[str, Callable[[], object]] = {
        name: lambda network=network: outputs_of(network, inputs)  # type: ignore[misc]
        for name, network in networks.items()
    }
    return latencies(calls, turns)
