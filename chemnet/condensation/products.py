"""Products of matrices and attention: what is summed over mixes its channels, and what is carried along does not.

In attention the channels of the values are carried to the result, each by itself; those of queries and keys are summed
over. Channels of a head stay in that head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import fx

from chemnet.condensation.graph import Layout
from chemnet.condensation.operations import name_of, shape_of
from chemnet.condensation.traced import Traced


def multiply(traced: Traced, node: fx.Node) -> None:
    """A product of two matrices, or of many: columns of the right one and rows of the left one are carried."""
    given: list[Any] = [*node.args, *node.kwargs.values(), None]
    for source, carried, summed in ((given[1], -1, -2), (given[0], -2, -1)):
        layout, n = traced.layout(source), len(shape_of(source) or ())
        if layout is None or not traced.has_channels(source) or n < 2:
            continue
        if layout.moving_axis == n + carried and n + summed not in layout.axes:
            _carry(traced, node, source, layout, [axis - n for axis in layout.axes])
            return
    traced.unknown(node, f"{name_of(node)} takes sums over its channels")


def sum_products(traced: Traced, node: fx.Node) -> None:
    """einsum: axes of one operand that are in the result are carried."""
    equation, *operands = node.args or ("",)
    operands = list(operands[0]) if len(operands) == 1 and isinstance(operands[0], tuple | list) else operands
    terms, _, result = str(equation).replace(" ", "").partition("->")
    of_operands = terms.split(",")
    for source, letters in zip(operands, of_operands, strict=False):
        layout = traced.layout(source)
        if layout is None or not traced.has_channels(source) or "." in terms or len(of_operands) != len(operands):
            continue
        mine = [letters[axis] for axis in layout.axes]
        elsewhere = "".join(of_operands).replace(letters, "", 1)
        if all(letter in result for letter in mine) and mine[layout.moving] not in elsewhere:
            axes = [result.index(letter) for letter in mine]
            order = np.argsort(axes)
            moved = replace(
                layout,
                atoms=layout.atoms.transpose(order),
                segments=layout.segments.transpose(order),
                moving=int(np.flatnonzero(order == layout.moving)[0]),
            )
            _carry(traced, node, source, moved, [axes[place] - len(result) for place in order])
            return
    traced.unknown(node, f"{name_of(node)} takes sums over its channels")


def attend(traced: Traced, node: fx.Node) -> None:
    """Attention: the channels of the values are carried; a head of values may be that of several queries."""
    given = dict(zip(("query", "key", "value"), node.args, strict=False)) | dict(node.kwargs)
    source, query = given.get("value"), shape_of(given.get("query")) or ()
    layout, n = traced.layout(source), len(shape_of(source) or ())
    if layout is None or not traced.has_channels(source) or layout.moving_axis != n - 1 or n - 2 in layout.axes:
        traced.unknown(node, f"{name_of(node)} takes sums over its channels")
        return
    if n - 3 in layout.axes and query[-3] != (shape_of(source) or ())[-3]:
        place = layout.axes.index(n - 3)
        times = query[-3] // layout.atoms.shape[place]
        atoms, segments = (np.repeat(x, times, axis=place) for x in (layout.atoms, layout.segments))
        layout = replace(layout, atoms=atoms, segments=segments)
    _carry(traced, node, source, layout, [axis - n for axis in layout.axes])


def _carry(traced: Traced, node: fx.Node, source: Any, layout: Layout, places: Sequence[int]) -> None:
    """Channels along axes of the result, counted from its last; what they are multiplied by stays as it is."""
    others = [traced.layouts[n] for n in node.all_input_nodes if n is not source and n in traced.layouts]
    traced.spaces.leave(others, f"{name_of(node)} takes sums over its channels")
    shape = shape_of(node) or ()
    if any(shape[place] != size for place, size in zip(places, layout.atoms.shape, strict=True)):
        traced.unknown(node, f"{name_of(node)} takes sums over its channels")
        return
    moved = replace(layout, axes=tuple(len(shape) + place for place in places))
    traced.pass_on(node, moved, is_plain=False, is_mixed=True)
