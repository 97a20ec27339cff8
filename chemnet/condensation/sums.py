"""Several tensors that become one: value by value, one after the other, or one upon the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from torch import fx

from chemnet.condensation import operations as ops
from chemnet.condensation.graph import Indices, Layout, Signal, nameless
from chemnet.condensation.operations import arguments, name_of, shape_of
from chemnet.condensation.traced import Traced


def combine(traced: Traced, node: fx.Node, a: fx.Node, b: fx.Node) -> None:
    """Two tensors, value by value: what both have as channels has to be condensed alike."""
    first, second = traced.layouts.get(a), traced.layouts.get(b)
    shape, of_a, of_b = (shape_of(each) or () for each in (node, a, b))
    scales = node.target in ops.PRODUCTS
    keeps_factors = node.kwargs.get("rounding_mode") is None
    if first and second and traced.has_channels(a) and traced.has_channels(b):
        pair = _side_by_side(first, second, of_a, of_b, len(shape))
        if pair is not None:
            join(traced, node, pair, is_homogeneous=not scales)
            return
    if first and _is_for_all(traced, a, _unexpanded(b), shape):
        _spread(traced, node, first, second, len(of_a), is_homogeneous=scales and keeps_factors)
    elif second and _is_for_all(traced, b, _unexpanded(a), shape):
        multiplies = scales and node.target not in ops.DIVISIONS
        _spread(traced, node, second, first, len(of_b), is_homogeneous=multiplies)
    else:
        traced.unknown(node, f"{name_of(node)} combines it with something that is no layer's output")


def _side_by_side(
    first: Layout, second: Layout, of_a: Sequence[int], of_b: Sequence[int], dimensions: int
) -> tuple[Layout, Layout] | None:
    """Two layouts along the axes of both in the result; None where channels do not lie against channels."""
    sides = [(first, len(of_a)), (second, len(of_b))]
    axes = sorted({axis + dimensions - n for layout, n in sides for axis in layout.axes})
    found = []
    for (layout, n), shape in zip(sides, (of_a, of_b), strict=True):
        mine = [axis + dimensions - n for axis in layout.axes]
        if any(shape[axis - dimensions + n] != 1 for axis in axes if axis not in mine and axis >= dimensions - n):
            return None
        sizes = [layout.atoms.shape[mine.index(axis)] if axis in mine else 1 for axis in axes]
        order = np.argsort(mine)
        atoms, segments = (x.transpose(order).reshape(sizes) for x in (layout.atoms, layout.segments))
        found.append(Layout(tuple(axes), atoms, segments, layout.signals, axes.index(mine[layout.moving])))
    one, other = found
    if one.moving != other.moving or one.atoms.shape[one.moving] != other.atoms.shape[one.moving]:
        return None
    try:
        np.broadcast_shapes(one.atoms.shape, other.atoms.shape)
    except ValueError:
        return None
    return one, other


def join(traced: Traced, node: fx.Node, layouts: Sequence[Layout], *, is_homogeneous: bool) -> None:
    """Channels of tensors one to one."""
    result, *others = layouts
    for other in others:
        result = _joined(traced, node, result, other)
    traced.layouts[node] = result
    for space in traced.spaces.of(result):
        space.is_homogeneous &= is_homogeneous


def _joined(traced: Traced, node: fx.Node, first: Layout, second: Layout) -> Layout:
    a, b = np.broadcast_arrays(first.atoms, second.atoms)
    of_a, of_b = np.broadcast_arrays(first.segments, second.segments)
    is_named = (a >= 0) & (b >= 0)
    if (is_named != ((a >= 0) | (b >= 0))).any():
        traced.spaces.leave([first, second], f"{name_of(node)} combines it with something that is no layer's output")
    traced.unite(a, b)
    pairs, segments = np.unique(of_a * len(second.signals) + of_b, return_inverse=True)
    signals = [_both(first.signals[p // len(second.signals)], second.signals[p % len(second.signals)]) for p in pairs]
    return replace(first, atoms=np.where(is_named, a, -1), segments=segments.reshape(a.shape), signals=tuple(signals))


def _both(first: Signal | None, second: Signal | None) -> Signal | None:
    if first is None or second is None:
        return None
    blocks = tuple(dict.fromkeys((*first.blocks, *second.blocks)))
    return Signal(blocks, is_plain=False, is_mixed=first.is_mixed or second.is_mixed)


def _unexpanded(node: fx.Node) -> Sequence[int]:
    """The shape of a tensor, 1 along the axes along which it only has been expanded."""
    shape = shape_of(node) or ()
    before = shape_of(node.args[0]) if node.args else None
    if node.target in ops.EXPANSIONS and before is not None:
        return (1,) * (len(shape) - len(before)) + before
    return shape


def _is_for_all(traced: Traced, node: fx.Node, other: Sequence[int], result: Sequence[int]) -> bool:
    """Whether another tensor has the same values for all channels of a node's."""
    if not traced.has_channels(node):
        return False
    layout, own = traced.layouts[node], shape_of(node) or ()
    place = layout.moving_axis - len(own)  # tensors lie against each other from the last axis on
    is_one = len(other) < -place or other[place] == 1
    return is_one and all(result[axis - len(own)] == own[axis] for axis in layout.axes)


def _spread(
    traced: Traced, node: fx.Node, layout: Layout, other: Layout | None, dimensions: int, *, is_homogeneous: bool
) -> None:
    """The same factor or summand for all channels, as of a mask of one channel, which stays one."""
    if other is not None:
        traced.spaces.leave([other], f"{name_of(node)} applies it to all channels of another")
    for space in traced.spaces.of(layout):
        space.is_homogeneous &= is_homogeneous
    more = len(shape_of(node) or ()) - dimensions
    moved = replace(layout, axes=tuple(axis + more for axis in layout.axes))
    traced.pass_on(node, moved, is_plain=False, is_mixed=True)


# ---- one after the other


def concatenate(traced: Traced, node: fx.Node) -> None:
    """Tensors one after the other, along the channels or along another axis."""
    axis = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
    layouts = _of_all(traced, node)
    if layouts is None:
        traced.unknown(node, f"{name_of(node)} joins tensors along another axis than that of the channels")
        return
    axis = _place(axis, len(shape_of(node) or ()))
    first = layouts[0]
    if all(layout.moving_axis == axis for layout in layouts):
        traced.layouts[node] = _stacked(layouts, lambda arrays: np.concatenate(arrays, first.moving), first.axes)
    elif axis not in first.axes and len({layout.atoms.shape for layout in layouts}) == 1:
        join(traced, node, layouts, is_homogeneous=True)
    else:
        traced.unknown(node, f"{name_of(node)} joins tensors along another axis than that of the channels")


def stack(traced: Traced, node: fx.Node) -> None:
    """Tensors upon each other, along an axis of their own."""
    (axis,) = arguments(node, ("dim", 0))
    dimensions = len(shape_of(node) or ())
    layouts, axis = _of_all(traced, node), _place(axis, dimensions)
    if axis is None or layouts is None or len({layout.atoms.shape for layout in layouts}) > 1:
        traced.unknown(node, f"{name_of(node)} joins it with something that is no layer's output")
        return
    place = sum(each < axis for each in layouts[0].axes)
    axes = [each + (each >= axis) for each in layouts[0].axes]
    stacked = _stacked(layouts, lambda arrays: np.stack(arrays, place), (*axes[:place], axis, *axes[place:]))
    traced.layouts[node] = replace(stacked, moving=stacked.moving + (place <= stacked.moving))


def _of_all(traced: Traced, node: fx.Node) -> list[Layout] | None:
    """The layouts of the parts along the same axes; those without channels of layers lie as the others do."""
    given = node.args[0] if node.args else node.kwargs.get("tensors")
    if isinstance(given, fx.Node):
        layouts: list[Layout | None] = [*traced.parts.get(given, ())] or [None]
        shapes: list[tuple[int, ...] | None] = [None] * len(layouts)
    elif isinstance(given, tuple | list):
        layouts, shapes = [traced.layout(part) for part in given], [shape_of(part) for part in given]
    else:
        return None
    if any(layout is None for layout in layouts):
        return None
    known = [layout for layout in layouts if layout is not None]
    named = next((layout for layout in known if (layout.atoms >= 0).any()), known[0])
    result = []
    for layout, shape in zip(known, shapes, strict=True):
        if layout.axes != named.axes and (layout.atoms < 0).all() and len(named.axes) == 1 and shape is not None:
            layout = nameless(named.axes[0], shape[named.axes[0]])
        result.append(layout)
    return result if len({(layout.axes, layout.moving) for layout in result}) == 1 else None


def _place(axis: object, dimensions: int) -> int | None:
    return axis % dimensions if isinstance(axis, int) else None


def _stacked(layouts: Sequence[Layout], put: Callable[[Sequence[Indices]], Indices], axes: Sequence[int]) -> Layout:
    starts = np.cumsum([0, *(len(layout.signals) for layout in layouts)])
    segments = [layout.segments + start for layout, start in zip(layouts, starts[:-1], strict=True)]
    signals = tuple(signal for layout in layouts for signal in layout.signals)
    atoms: Indices = put([layout.atoms for layout in layouts])
    return Layout(tuple(axes), atoms, put(segments), signals, layouts[0].moving)
