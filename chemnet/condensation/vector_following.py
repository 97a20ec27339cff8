"""Products and sums of channels with vectors that the model holds: every number belongs to a channel and goes with it.

What is made of vectors value by value, as the scale of a frozen normalisation is of its statistics, follows as they do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from chemnet.condensation import layers, sums
from chemnet.condensation import operations as ops
from chemnet.condensation.graph import Layout
from chemnet.condensation.operations import name_of, shape_of
from chemnet.condensation.traced import Traced
from chemnet.condensation.vectors import Vector

_VALUE_BY_VALUE = ops.ADDITIONS | ops.PRODUCTS | ops.WITH_NUMBERS | ops.CASTS
_VALUE_BY_VALUE |= ops.HOMOGENEOUS_FUNCTIONS | ops.VALUE_BY_VALUE_FUNCTIONS
_RESHAPED = {torch.reshape, "view", "reshape", "unsqueeze", "squeeze", "detach", "contiguous", "clone"}
_REPEATED = {"expand", "repeat"}


def follow(traced: Traced, node: fx.Node) -> bool:
    """Take a product or a sum for one of channels with vectors; whether it is one."""
    first, second = node.args
    for x, other in ((first, second), (second, first)):
        if isinstance(x, fx.Node) and isinstance(other, fx.Node) and traced.has_channels(x):
            layout, names = traced.layouts[x], _against(traced, x, other)
            if names and shape_of(node) == shape_of(x):
                scales = node.target in ops.PRODUCTS and (x is first or node.target not in ops.DIVISIONS)
                _follow(traced, node, layout, names, is_homogeneous=scales)
                return True
    return False


def follow_product_and_sum(traced: Traced, node: fx.Node) -> bool:
    """Take addcmul for a product of channels with vectors to which others are added; whether it is one."""
    if node.target not in ops.PRODUCTS_AND_SUMS or len(node.args) < 3:
        return False
    added, *factors = node.args[:3]
    for x, other in (factors, factors[::-1]):
        if traced.has_channels(x) and shape_of(node) == shape_of(x):
            vectors = [_against(traced, x, other), _against(traced, x, added)]
            if all(vectors):
                _follow(traced, node, traced.layouts[x], [*vectors[0], *vectors[1]], is_homogeneous=False)
                return True
    return False


def settle(traced: Traced, graph: fx.Graph) -> None:
    """Channels stay whose vectors are used in any other way, too."""
    for node in graph.nodes:
        name = str(node.target)
        if node.op == "get_attr" and name in traced.inputs and not _goes_with_channels(traced, node):
            traced.spaces.leave([traced.inputs[name]], f"{name} is used in other ways than with its channels")


def concatenate(traced: Traced, node: fx.Node) -> bool:
    """Take tensors with channels, and vectors for more places, for one after the other; whether they are."""
    parts = node.args[0] if node.args else node.kwargs.get("tensors")
    axis = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
    if not isinstance(parts, tuple | list) or not isinstance(axis, int):
        return False
    known = [traced.layouts[part] for part in parts if traced.has_channels(part)]
    others = [part for part in parts if not traced.has_channels(part)]
    dimensions = len(shape_of(node) or ())
    if not known or not others or known[0].axis != dimensions - 1 or axis % dimensions == dimensions - 1:
        return False
    held = [_along_last(traced, other, known[0].atoms.size) for other in others]
    alike = all(layout.axes == known[0].axes and layout.atoms.shape == known[0].atoms.shape for layout in known)
    if not alike or not all(held):
        return False
    sums.join(traced, node, known, is_homogeneous=True)
    names = list(dict.fromkeys(name for each in held for name in each or ()))
    _follow(traced, node, traced.layouts[node], names, is_homogeneous=False)
    return True


def _against(traced: Traced, x: fx.Node, other: fx.Node) -> list[str]:
    """The vectors of which a tensor is made that lies along the channels of another; none if it is not."""
    layout, own, shape = traced.layouts[x], shape_of(x) or (), shape_of(other) or ()
    if layout.axis is None or layout.atoms.size < 2:
        return []
    count, place = layout.atoms.size, layout.axis - len(own)
    if len(shape) < -place or shape[place] != count:
        return []
    found = _held(traced, other, count) if math.prod(shape) == count else None
    if found is None and place == -1:
        found = _along_last(traced, other, count)
    return list(dict.fromkeys(found or ()))


def _held(traced: Traced, node: fx.Node, count: int) -> list[str] | None:
    """The vectors of which a node is made value by value; None if it is made of anything else."""
    shape = shape_of(node)
    if shape is None:
        return []  # a size
    if math.prod(shape) not in (1, count) or max(shape, default=1) not in (1, count):
        return None
    return _made_of(traced, node, count, _RESHAPED, _held)


def _along_last(traced: Traced, node: fx.Node, count: int) -> list[str] | None:
    """The same of vectors for several places, with the channels last."""
    shape = shape_of(node)
    if shape is None:
        return []  # a size
    if math.prod(shape) > 1 and shape[-1] != count:
        return None
    is_whole = not ops.is_getitem(node) or _takes_all_of_the_last(node.args[1], len(shape_of(node.args[0]) or ()))
    return _made_of(traced, node, count, _RESHAPED | _REPEATED, _along_last) if is_whole else None


def _made_of(
    traced: Traced, node: fx.Node, count: int, rearranging: set[Any], of: Callable[..., list[str] | None]
) -> list[str] | None:
    if node.op == "get_attr":
        module = traced.modules.get(str(node.target))
        if math.prod(shape_of(node) or ()) == 1:
            return []
        is_long = isinstance(module, Vector) and module.tensor.shape[module.axis] == count
        return [str(node.target)] if is_long else None
    if node.target not in _VALUE_BY_VALUE | rearranging and not ops.is_getitem(node):
        return None
    found = [of(traced, source, count) for source in node.all_input_nodes]
    return None if any(each is None for each in found) else [name for each in found if each for name in each]


def _takes_all_of_the_last(index: Any, dimensions: int) -> bool:
    """Whether what stands in square brackets leaves the last axis as it is."""
    entries = list(index) if isinstance(index, tuple) else [index]
    if not all(each is None or each is Ellipsis or isinstance(each, int | slice) for each in entries):
        return False
    if Ellipsis in entries or sum(each is not None for each in entries) == dimensions:
        return entries[-1] in (slice(None), Ellipsis)
    return True


def _follow(traced: Traced, node: fx.Node, layout: Layout, names: list[str], *, is_homogeneous: bool) -> None:
    for space in traced.spaces.of(layout):
        space.is_homogeneous &= is_homogeneous
    result = layout
    for name in names:
        known = traced.inputs.setdefault(name, layout)
        if known.atoms.shape != layout.atoms.shape or (known.atoms != layout.atoms).any():
            traced.spaces.leave([known, layout], f"{name_of(node)} takes {name} for channels of several layers")
        if name not in traced.followers:
            traced.followers.append(name)
        signals = [layers.followed(traced.modules[name], name, result, place) for place in range(len(result.signals))]
        result = replace(result, signals=tuple(signals))
    traced.layouts[node] = result
    traced.with_vectors.add(node)


def _goes_with_channels(traced: Traced, node: fx.Node) -> bool:
    """Whether all that is made of a vector is multiplied with, or added to, its channels."""
    vector = traced.modules[str(node.target)]
    assert isinstance(vector, Vector)
    count, waiting = vector.tensor.shape[vector.axis], [node]
    while waiting:
        for user in set(waiting.pop().users) - traced.with_vectors:
            if shape_of(user) is None or not (_held(traced, user, count) or _along_last(traced, user, count)):
                return False
            waiting.append(user)
    return True
