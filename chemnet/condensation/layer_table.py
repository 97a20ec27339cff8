"""Table of what each layer gave in a condensation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import nn

from chemnet.condensation.budgets import Budget, MultiplyAdds, Parameters
from chemnet.condensation.capture import evaluating
from chemnet.condensation.cutting import Condensation
from chemnet.condensation.graph import Space
from chemnet.condensation.latency import Latency, latencies
from chemnet.condensation.widths import Sizes
from chemnet.runtime.tables import Table

_REST, _WHOLE, _MEASURED = "all else", "the network", "the network, measured"


def layer_table(work: Condensation, budget: Budget | None) -> Table:
    """Table of the layers of a condensed model: channels, parameters, multiply-adds and, where it was the budget,
    latency [ms] before and after, of the layers and of what follows them channel by channel.

    The similarity is that of the channels that were merged, the smallest, or, of a ranking, the cosine of what the
    readers receive and of what they received. The change of the outputs, where a ratio was divided by it, is what was
    expected of the cut of this space alone: root mean square, relative to their deviation over the inputs. The latency
    of the network is predicted, and measured in a last row.
    """
    model, channels = work.original, work.channels_before
    spaces, now = channels.spaces, work.channels.spaces
    widths = {space: after.width for space, after in zip(spaces, now, strict=True)}
    columns: dict[str, list[Any]] = {
        "layers": [", ".join(space.layers) for space in spaces] + [_REST, _WHOLE],
        "channels": [space.width for space in spaces] + [None, None],
        "channels left": [*widths.values(), None, None],
    }
    multiply_adds = MultiplyAdds(model, work.example)
    budgets: dict[str, Budget] = {"parameters": Parameters(model, channels), "multiply-adds": multiply_adds}
    if isinstance(budget, Latency):
        budgets["ms"] = budget
    owned = _owned(spaces)
    for name, each in budgets.items():
        sizes = Sizes(model, channels, each)
        for key, given in ((name, None), (f"{name} left", widths)):
            parts = [sum(sizes.of(module, given) for module in modules) for modules in owned]
            total = sizes.total(given)
            columns[key] = [_in_unit(value, name) for value in (*parts, total - sum(parts), total)]
    columns["similarity"] = [_similarity(work, after) for after in now] + [None, None]
    columns["change of outputs"] = [_change(work, after) for after in now] + [None, None]
    columns["state"] = [_state(work, *pair) for pair in zip(spaces, now, strict=True)] + ["", ""]
    if isinstance(budget, Latency):
        before, left = _measured(work)
        columns = {name: [*column, None] for name, column in columns.items()}
        columns["layers"][-1], columns["state"][-1] = _MEASURED, ""
        columns["ms"][-1], columns["ms left"][-1] = 1e3 * before, 1e3 * left
    return Table.of("what each layer gave", columns)


def _owned(spaces: list[Space]) -> list[list[str]]:
    """Modules of each space: its layers and what follows them, of several spaces that of the first."""
    seen = set[str]()
    owned = []
    for space in spaces:
        names = dict.fromkeys((*space.layers, *(place.module for place in space.followers)))
        owned.append([name for name in names if name not in seen])
        seen |= names.keys()
    return owned


def _in_unit(value: float, name: str) -> float:
    return 1e3 * value if name == "ms" else round(value)


def _similarity(work: Condensation, space: Space) -> float | None:
    """At which a space was cut, if it is known."""
    if space in work.left:
        return math.sqrt(max(1.0 - work.left[space], 0.0))
    return work.similarity.get(space)


def _change(work: Condensation, space: Space) -> float | None:
    """Of the outputs, if it is known."""
    return math.sqrt(work.change[space]) if space in work.change else None


def _state(work: Condensation, before: Space, now: Space) -> str:
    if now.width < before.width:
        return "condensed"
    return before.reason or ("as it was" if now in work.sampling.spaces else "not asked for")


def _measured(work: Condensation) -> tuple[float, float]:
    """Latency [s] of the original and of the result, by turns."""
    example = work.example.like(work.original)

    def call(model: nn.Module) -> Callable[[], object]:
        return lambda: example(model)

    device = next(work.original.parameters()).device.type
    with evaluating(work.original), evaluating(work.result):
        found = latencies({"before": call(work.original), "after": call(work.result)}, device=device)
    return found["before"], found["after"]
