"""Tensors whose numbers are only put elsewhere: views, permutations, parts.

The operation itself is run on the numbers of the channels in the place of their values, which shows where they come to
lie. After a cut it has to do the same with fewer, so sizes along the channels have to be read or left open (-1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import fx

from chemnet.condensation import operations as ops
from chemnet.condensation import sums
from chemnet.condensation.graph import Indices, Layout
from chemnet.condensation.operations import arguments, name_of, shape_of
from chemnet.condensation.sizes import Sizes
from chemnet.condensation.traced import Traced, taken

_MOST = 30_000_000  # numbers of a tensor that are followed
_OPEN = -1


def rearrange(traced: Traced, sizes: Sizes, node: fx.Node, source: fx.Node, kind: str, run: Callable[..., Any]) -> None:
    """A function or module that puts the numbers of one tensor elsewhere, into one or several."""
    layout = traced.layouts[source]
    labels = _labels(layout, shape_of(source) or ())
    try:
        results = None if labels is None else run(labels)
    except Exception:  # whatever an operation says to whole numbers
        results = None
    parts = list(results) if isinstance(results, tuple | list) else [results]
    found = [None if part is None else _read_off(layout, part) for part in parts]
    made = [each for each in found if each is not None]
    if len(made) < len(found):
        traced.unknown(node, f"{name_of(node)} is not known to keep channels apart")
        return
    reason = _cut(traced, sizes, node, kind, layout, made) or _laid(traced, sizes, node, kind, layout, made)
    if reason is not None:
        traced.unknown(node, reason)
    elif isinstance(results, torch.Tensor):
        traced.layouts[node] = made[0].layout
    else:
        traced.parts[node] = [each.layout for each in made]


class _Found:
    """Where channels lie in a result: its layout, their places (...) along the moving axis of the layout before, and
    the axes of the result along which these vary."""

    def __init__(self, layout: Layout, coordinates: Indices, varying: list[int]) -> None:
        self.layout, self.coordinates, self.varying = layout, coordinates, varying


def _labels(layout: Layout, shape: Sequence[int]) -> torch.Tensor | None:
    """Numbers of the columns of a layout, in the shape of its tensor."""
    if math.prod(shape) > _MOST or 0 in shape:
        return None
    sizes = [1] * len(shape)
    for axis, size in zip(layout.axes, layout.atoms.shape, strict=True):
        sizes[axis] = size
    return torch.arange(layout.atoms.size, dtype=torch.int32).reshape(sizes).expand(*shape)


def _read_off(layout: Layout, labels: torch.Tensor) -> _Found | None:
    """The layout of numbers that have been put elsewhere; None where they vary along no axis."""
    axes = [axis for axis in range(labels.ndim) if _varies(labels, axis)]
    places = labels[tuple(slice(None) if axis in axes else 0 for axis in range(labels.ndim))].numpy().astype(np.int64)
    coordinates = np.asarray(np.unravel_index(places, layout.atoms.shape)[layout.moving])
    varying = [axis for place, axis in enumerate(axes) if _varies(coordinates, place)]
    if not varying:
        return None
    return _Found(taken(layout, axes, places, axes.index(varying[0])), coordinates, varying)


def _varies(labels: Any, axis: int) -> bool:
    first = labels[(slice(None),) * axis + (slice(0, 1),)]
    return bool((labels != first).any())


# ---- parts of the channels


def _cut(traced: Traced, sizes: Sizes, node: fx.Node, kind: str, layout: Layout, found: Sequence[_Found]) -> str | None:
    """Parts of the channels have to be equal, and to be so after a cut; otherwise the reason."""
    length = layout.atoms.shape[layout.moving]
    every = [np.unique(each.coordinates) for each in found]
    if all(len(each) == length for each in every):
        return None
    bounds = [(int(each[0]), int(each[-1]) + 1) for each in every]
    if any(stop - start != len(each) for (start, stop), each in zip(bounds, every, strict=True)):
        return f"{name_of(node)} takes some of its channels"
    given = _given_bounds(node, kind, layout, shape_of(node.args[0]) or ())
    if given is None or not all(ops.is_open(value) or value == 0 for value in given):
        return f"{name_of(node)} takes a fixed number of its channels"
    sizes.say(node, given, layout)
    part(traced, layout, math.gcd(length, *(each for pair in bounds for each in pair)), node)
    return None


def part(traced: Traced, layout: Layout, size: int, node: fx.Node) -> None:
    """Channels are taken apart in pieces of a size, of which each keeps as many."""
    moved = np.moveaxis(layout.atoms, layout.moving, 0)
    if len(moved) > size:
        reason = f"{name_of(node)} splits it into parts that would not keep as many"
        traced.spaces.part(moved.reshape(len(moved) // size, -1), reason)


def _given_bounds(node: fx.Node, kind: str, layout: Layout, shape: Sequence[int]) -> list[Any] | None:
    """The numbers that say where channels are taken apart; None where it is one of them that is taken."""
    if kind in ("chunk", "tensor_split"):
        (sections,) = arguments(node, ("chunks" if kind == "chunk" else "indices_or_sections", None))
        return [] if isinstance(sections, int) else None
    if kind in ("split", "split_with_sizes"):
        (size,) = arguments(node, ("split_size_or_sections" if node.op == "call_function" else "split_size", None))
        return list(size) if isinstance(size, tuple | list) else [size]
    if kind == "narrow":
        return list(arguments(node, ("dim", 0), ("start", None), ("length", None))[1:])
    if kind == "getitem":
        index = _index_of(node.args[1], layout.moving_axis, len(shape))
        if isinstance(index, slice) and index.step in (None, 1):
            return [bound for bound in (index.start, index.stop) if bound is not None]
    return None


def _index_of(index: Any, axis: int, dimensions: int) -> Any:
    """What is said of an axis in square brackets."""
    entries = list(index) if isinstance(index, tuple) else [index]
    taken = sum(entry is not None and entry is not Ellipsis for entry in entries)
    place = 0
    for entry in entries:
        if entry is None:
            continue
        count = dimensions - taken if entry is Ellipsis else 1
        if place <= axis < place + count:
            return slice(None) if entry is Ellipsis else entry
        place += count
    return slice(None)


# ---- channels along other axes


def _laid(traced: Traced, sizes: Sizes, node: fx.Node, kind: str, layout: Layout, found: list[_Found]) -> str | None:
    """Channels that come to lie along several axes are blocks of as many each, or so many rows of one channel,
    whichever sizes are fixed; the reason where all are."""
    for each in found:
        given = _given_sizes(sizes, node, kind, len(shape_of(node) or ()))
        free = [axis for axis in each.varying if given is None or ops.is_open(given[axis])]
        if not free or (len(each.varying) > 1 and given is None):
            return f"{name_of(node)} has a fixed size where its channels are"
        inferred = [axis for axis in free if given is not None and given[axis] in (None, _OPEN)]
        moving = (inferred or free)[-1]
        if given is not None:
            sizes.say(node, given[moving], layout)
        each.layout = replace(each.layout, moving=each.layout.axes.index(moving))
        if kind == "roll" and (np.diff(each.coordinates, axis=each.layout.moving) < 0).any():
            return f"{name_of(node)} is not known to keep channels apart"
        if len(each.varying) > 1:
            _blocks(traced, each, moving, node)
    return None


def _given_sizes(sizes: Sizes, node: fx.Node, kind: str, dimensions: int) -> list[Any] | None:
    """Sizes of the result as they are given; None where nothing is said of them, or by the operation itself."""
    if kind in ("view", "reshape", "expand"):
        return _listed(sizes, node.args[1:] or tuple(node.kwargs.values()))
    if kind == "unflatten":
        axis, inner = arguments(node, ("dim", None), ("sizes", None))
        inner = _listed(sizes, (inner,))
        axis %= dimensions - len(inner) + 1
        return [None] * axis + inner + [None] * (dimensions - axis - len(inner))
    return None


def _listed(sizes: Sizes, given: Sequence[Any]) -> list[Any]:
    """Sizes that are given one by one, or as one shape, which may have been read."""
    if len(given) == 1 and isinstance(given[0], tuple | list):
        given = given[0]
    if len(given) == 1 and isinstance(value := sizes.filled(given[0]), tuple | list):
        return [given[0]] * len(value)
    return list(given)


def _blocks(traced: Traced, found: _Found, moving: int, node: fx.Node) -> None:
    """Faster axes than the moving one hold places of one channel, slower ones blocks."""
    layout = found.layout
    fast = [axis for axis in found.varying if axis > moving]
    for axis in fast:
        place = layout.axes.index(axis)
        traced.unite(np.broadcast_to(layout.atoms.take([0], place), layout.atoms.shape), layout.atoms)
        if (layout.segments == layout.segments.take([0], place)).all():
            layout = without(layout, [axis], keepdim=True)
    slow = [layout.axes.index(axis) for axis in found.varying if axis < moving]
    if slow:
        moved = np.moveaxis(layout.atoms, slow, range(len(slow)))
        count = math.prod(moved.shape[: len(slow)])
        reason = f"{name_of(node)} splits it into parts that would not keep as many"
        traced.spaces.part(moved.reshape(count, -1), reason)
    found.layout = layout


# ---- axes along which channels do not move


def along(traced: Traced, node: fx.Node, layout: Layout, axes: Sequence[int], *, is_homogeneous: bool) -> bool:
    """Join the channels of a layout that lie against each other along fixed axes; false where an axis is that of the
    channels. The node's layout is still that of its input."""
    if layout.moving_axis in axes:
        return False
    traced.layouts[node] = layout
    for axis in axes:
        if axis in layout.axes:
            known = traced.layouts[node]
            place = known.axes.index(axis)
            slices = [_slice(known, place, number) for number in range(known.atoms.shape[place])]
            sums.join(traced, node, slices, is_homogeneous=is_homogeneous)
            joined = traced.layouts[node]
            segments = np.broadcast_to(joined.segments, known.atoms.shape)
            traced.layouts[node] = replace(known, segments=segments, signals=joined.signals)
    return True


def _slice(layout: Layout, place: int, number: int) -> Layout:
    return replace(layout, atoms=layout.atoms.take([number], place), segments=layout.segments.take([number], place))


def without(layout: Layout, axes: Sequence[int], *, keepdim: bool) -> Layout:
    """A layout after a reduction over axes along which all is one."""
    left = [place for place, axis in enumerate(layout.axes) if axis not in axes]
    index = tuple(slice(None) if place in left else 0 for place in range(len(layout.axes)))
    new = [layout.axes[place] - (0 if keepdim else sum(a < layout.axes[place] for a in axes)) for place in left]
    return replace(
        layout,
        axes=tuple(new),
        atoms=layout.atoms[index],
        segments=layout.segments[index],
        moving=left.index(layout.moving),
    )


def halves(layout: Layout) -> list[Layout]:
    """The first and the second half of the channels."""
    places = np.arange(layout.atoms.size).reshape(layout.atoms.shape)
    return [taken(layout, layout.axes, half, layout.moving) for half in np.split(places, 2, layout.moving)]


def shuffle_pixels(traced: Traced, node: fx.Node, layout: Layout, factor: int, dimensions: int) -> str | None:
    """PixelShuffle: factor * factor channels of one place become one channel of as many places."""
    if layout.axis != dimensions - 3 or layout.atoms.size % factor**2:
        return f"{name_of(node)} reads another axis than that of the channels"
    atoms, segments = (x.reshape(-1, factor**2) for x in (layout.atoms, layout.segments))
    if (segments != segments[:, :1]).any():
        return f"{name_of(node)} puts several of its channels into one"
    traced.unite(np.broadcast_to(atoms[:, :1], atoms.shape), atoms)
    traced.layouts[node] = replace(layout, atoms=atoms[:, 0], segments=segments[:, 0])
    return None


def shuffled(layout: Layout, labels: torch.Tensor, groups: int) -> torch.Tensor:
    """Labels after a ChannelShuffle."""
    return labels.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)
