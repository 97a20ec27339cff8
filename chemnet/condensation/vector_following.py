"""Products and sums of channels with vectors that the model holds: every number belongs to a channel and goes with it.

What is made of vectors value by value, as the scale of a frozen normalisation is of its statistics, follows as they do.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import fx

from chemnet.condensation import layers
from chemnet.condensation import operations as ops
from chemnet.condensation.graph import Layout
from chemnet.condensation.operations import name_of, shape_of
from chemnet.condensation.traced import Traced
from chemnet.condensation.vectors import Vector

_VALUE_BY_VALUE = ops.ADDITIONS | ops.PRODUCTS | ops.WITH_NUMBERS | ops.CASTS
_VALUE_BY_VALUE |= ops.HOMOGENEOUS_FUNCTIONS | ops.VALUE_BY_VALUE_FUNCTIONS
_RESHAPED = {torch.reshape, "view", "reshape", "unsqueeze", "squeeze", "detach", "contiguous", "clone"}


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


def settle(traced: Traced, graph: fx.Graph) -> None:
    """Channels stay whose vectors are used in any other way, too."""
    for node in graph.nodes:
        name = str(node.target)
        if node.op == "get_attr" and name in traced.inputs and not _goes_with_channels(traced, node):
            traced.spaces.leave([traced.inputs[name]], f"{name} is used in other ways than with its channels")


def _against(traced: Traced, x: fx.Node, other: fx.Node) -> list[str]:
    """The vectors of which a tensor is made that lies along the channels of another; none if it is not."""
    layout, own, shape = traced.layouts[x], shape_of(x) or (), shape_of(other) or ()
    if layout.axis is None or layout.atoms.size < 2:
        return []
    place = layout.axis - len(own)
    if len(shape) < -place or shape[place] != layout.atoms.size or math.prod(shape) != layout.atoms.size:
        return []
    return list(dict.fromkeys(_held(traced, other, layout.atoms.size) or ()))


def _held(traced: Traced, node: fx.Node, count: int) -> list[str] | None:
    """The vectors of which a node is made value by value; None if it is made of anything else."""
    shape = shape_of(node)
    if shape is None:
        return []  # a size
    if node.op == "get_attr" and math.prod(shape) == 1:
        return []
    if math.prod(shape) not in (1, count) or max(shape, default=1) not in (1, count):
        return None
    if node.op == "get_attr":
        return [str(node.target)] if isinstance(traced.modules.get(str(node.target)), Vector) else None
    if node.target not in _VALUE_BY_VALUE | _RESHAPED and not ops.is_getitem(node):
        return None
    found = [_held(traced, source, count) for source in node.all_input_nodes]
    return None if any(each is None for each in found) else [name for each in found if each for name in each]


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
    count = math.prod(shape_of(node) or ())
    return all(
        user in traced.with_vectors
        or (shape_of(user) is not None and _held(traced, user, count) is not None and _goes_with_channels(traced, user))
        for user in node.users
    )
