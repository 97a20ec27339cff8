"""Products of matrices and attention: what is summed over mixes its channels, and what is carried along does not.

In attention the channels of the values are carried to the result, each by itself; those of queries and keys are summed
over. Channels of a head stay in that head. Where the forward leaves the number of heads open, and not their size, a
head is one channel of queries, keys and values: each is multiplied by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import fx

from chemnet.condensation import sums
from chemnet.condensation.graph import Layout
from chemnet.condensation.operations import name_of, shape_of
from chemnet.condensation.traced import Traced


def multiply(traced: Traced, node: fx.Node) -> None:
    """A product of two matrices, or of many: columns of the right one and rows of the left one are carried."""
    given: list[Any] = [*node.args, *node.kwargs.values(), None]
    if _by_itself(traced, node, _batches(node)):
        return
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
    if "." not in terms and len(of_operands) == len(operands):
        lie = [[result.index(x) if x in result else None for x in letters] for letters in of_operands]
        if _by_itself(traced, node, list(zip(operands, lie, strict=True))):
            return
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
    if _by_itself(traced, node, _batches(node)):
        return
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


def _batches(node: fx.Node) -> list[tuple[fx.Node, Sequence[int | None]]]:
    """The operands of a product of matrices, with the axes of the result along which their own axes lie; none for those
    of the matrices."""
    dimensions, result = len(shape_of(node) or ()), list[tuple[fx.Node, Sequence[int | None]]]()
    for source in node.all_input_nodes:
        n = len(shape_of(source) or ())
        result.append((source, [axis - n + dimensions if axis < n - 2 else None for axis in range(n)]))
    return result


def _by_itself(traced: Traced, node: fx.Node, operands: Sequence[tuple[Any, Sequence[int | None]]]) -> bool:
    """Take a product for one of channels along an axis of the result, as of heads, of which each is multiplied by
    itself: they are joined, of fewer operands each with several; whether it is one."""
    shape = shape_of(node) or ()
    known = [(traced.layouts[source], axes) for source, axes in operands if traced.has_channels(source)]
    places = {None if layout.axis is None else axes[layout.axis] for layout, axes in known}
    if len(places) != 1 or None in places:
        return False
    (place,) = (each for each in places if each is not None)
    for source, axes in operands:
        sizes = [size for size, axis in zip(shape_of(source) or (), axes, strict=True) if axis == place]
        if not traced.has_channels(source) and any(size != 1 for size in sizes):
            return False
    if any(shape[place] % layout.atoms.size for layout, _ in known):
        return False
    moved = []
    for layout, _ in known:
        atoms, segments = (np.repeat(x, shape[place] // len(x)) for x in (layout.atoms, layout.segments))
        moved.append(replace(layout, axes=(place,), atoms=atoms, segments=segments))
    sums.join(traced, node, moved, is_homogeneous=False)
    traced.pass_on(node, traced.layouts[node], is_plain=False, is_mixed=True)
    return True


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
