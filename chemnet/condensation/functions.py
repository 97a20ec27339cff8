"""What functions and modules without weights do to the channels of one tensor."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from chemnet.condensation import operations as ops
from chemnet.condensation import shapes, sums
from chemnet.condensation.graph import Layout, has_one_slope
from chemnet.condensation.operations import arguments, name_of, shape_of
from chemnet.condensation.sizes import Sizes
from chemnet.condensation.traced import Traced


def call_module(traced: Traced, sizes: Sizes, node: fx.Node, name: str, module: nn.Module, source: fx.Node) -> None:
    """A module without weights of its own."""
    layout, kind, shape = traced.layouts[source], type(module), shape_of(source) or ()
    if kind in ops.HOMOGENEOUS | ops.VALUE_BY_VALUE or has_one_slope(module):
        traced.activate(node, layout, kind.__name__, kind not in ops.VALUE_BY_VALUE)
    elif kind in ops.PLAIN | ops.POOLS and ops.keeps_apart(kind, layout, shape):
        traced.pass_on(node, layout, is_plain=kind in ops.PLAIN)
    elif kind is nn.Flatten:
        shapes.rearrange(traced, sizes, node, source, "flatten", module)
    elif kind is nn.PixelUnshuffle:
        shapes.rearrange(traced, sizes, node, source, "pixel_unshuffle", module)
    elif kind is nn.ChannelShuffle:
        _shuffle(traced, sizes, node, source, module.groups)
    elif kind is nn.PixelShuffle:
        _shuffle_pixels(traced, node, layout, module.upscale_factor, len(shape))
    elif kind in (nn.Softmax, nn.LogSoftmax) and isinstance(module.dim, int):
        _normalise_along(traced, node, layout, [module.dim], len(shape))
    elif kind is nn.GLU:
        _gate(traced, node, layout, module.dim, len(shape))
    else:
        traced.unknown(node, f"{name} ({kind.__name__}) is not known to keep channels apart")


def call(traced: Traced, sizes: Sizes, node: fx.Node, source: fx.Node) -> None:
    """A function of one tensor."""
    target: Any = node.target
    layout, with_a_number = traced.layouts[source], ops.with_a_number(node)
    if with_a_number == "scale":
        traced.pass_on(node, layout, is_plain=False)
    elif with_a_number or target in ops.HOMOGENEOUS_FUNCTIONS | ops.VALUE_BY_VALUE_FUNCTIONS:
        traced.activate(node, layout, name_of(node), target in ops.HOMOGENEOUS_FUNCTIONS)
    elif source is not (node.args[0] if node.args else None) or ops.is_random(node):
        traced.unknown(node, f"{name_of(node)} is not known to keep channels apart")
    elif target in ops.PLAIN_FUNCTIONS | ops.POOL_FUNCTIONS and ops.keeps_apart(target, layout, shape_of(source)):
        traced.pass_on(node, layout, is_plain=target in ops.PLAIN_FUNCTIONS)
    elif ops.pads_places(node, layout):
        traced.pass_on(node, layout, is_plain=False)
    elif ops.rearrangement(node):
        _rearrange(traced, sizes, node, source)
    else:
        _over_axes(traced, node, layout, target, len(shape_of(source) or ()))


def _over_axes(traced: Traced, node: fx.Node, layout: Layout, target: Any, dimensions: int) -> None:
    """Means, normalisations and gates along axes."""
    if target in ops.STATISTICS and _is_over_channels(traced, node, layout, dimensions):
        traced.take_statistic(node, layout)
    elif target in ops.NORMS:
        _, axes, keepdim = arguments(node, ("p", 2), ("dim", None), ("keepdim", False))
        _reduce(traced, node, layout, axes, dimensions, keepdim=bool(keepdim))
    elif target in ops.MEANS:
        axes, keepdim = arguments(node, ("dim", None), ("keepdim", False))
        _reduce(traced, node, layout, axes, dimensions, keepdim=bool(keepdim))
    elif target in ops.SOFTMAXES:
        _normalise_along(traced, node, layout, arguments(node, ("dim", None))[0], dimensions)
    elif target is F.normalize:
        _normalise_along(traced, node, layout, arguments(node, ("p", 2.0), ("dim", 1))[1], dimensions)
    elif target in ops.GATES:
        _gate(traced, node, layout, arguments(node, ("dim", -1))[0], dimensions)
    elif target is F.pixel_shuffle:
        _shuffle_pixels(traced, node, layout, arguments(node, ("upscale_factor", None))[0], dimensions)
    else:
        traced.unknown(node, f"{name_of(node)} is not known to keep channels apart")


def _rearrange(traced: Traced, sizes: Sizes, node: fx.Node, source: fx.Node) -> None:
    kind = ops.rearrangement(node) or ""
    if kind == "channel_shuffle":
        _shuffle(traced, sizes, node, source, arguments(node, ("groups", None))[0])
        return

    def run(labels: torch.Tensor) -> Any:
        args, kwargs = (sizes.filled(given, {source: labels}) for given in (node.args, node.kwargs))
        if kind == "view":
            return torch.Tensor.reshape(*args, **kwargs)
        function = getattr(torch.Tensor, node.target) if isinstance(node.target, str) else node.target
        return function(*args, **kwargs) if callable(function) else function.__get__(*args)

    shapes.rearrange(traced, sizes, node, source, kind, run)


def _shuffle(traced: Traced, sizes: Sizes, node: fx.Node, source: fx.Node, groups: Any) -> None:
    layout = traced.layouts[source]
    if layout.axis != 1 or not isinstance(groups, int):
        traced.unknown(node, f"{name_of(node)} reads another axis than that of the channels")
        return
    shapes.part(traced, layout, layout.atoms.size // groups, node)
    shapes.rearrange(
        traced, sizes, node, source, "channel_shuffle", lambda labels: shapes.shuffled(layout, labels, groups)
    )


def _shuffle_pixels(traced: Traced, node: fx.Node, layout: Layout, factor: Any, dimensions: int) -> None:
    reason = shapes.shuffle_pixels(traced, node, layout, factor, dimensions)
    if reason is not None:
        traced.unknown(node, reason)


def _axes(given: Any, dimensions: int) -> list[int] | None:
    """Axes as they are given, counted from the first; None where they are not all given."""
    given = [given] if isinstance(given, int) else given
    if not isinstance(given, tuple | list) or not given or not all(isinstance(axis, int) for axis in given):
        return None
    return [axis % dimensions for axis in given]


def _is_over_channels(traced: Traced, node: fx.Node, layout: Layout, dimensions: int) -> bool:
    axes = _axes(arguments(node, ("dim", None))[0], dimensions)
    return axes is not None and layout.axis in axes and traced.has_channels(node.args[0])


def _reduce(traced: Traced, node: fx.Node, layout: Layout, given: Any, dimensions: int, *, keepdim: bool) -> None:
    """A mean, a sum or a maximum over other axes than that of the channels."""
    axes = _axes(given, dimensions)
    if axes is None or not shapes.along(traced, node, layout, axes, is_homogeneous=True):
        traced.unknown(node, f"{name_of(node)} is not known to keep channels apart")
        return
    left = shapes.without(traced.layouts[node], axes, keepdim=keepdim)
    traced.pass_on(node, left, is_plain=False)


def _normalise_along(traced: Traced, node: fx.Node, layout: Layout, given: Any, dimensions: int) -> None:
    """A softmax or the like along other axes than that of the channels, in which no factor is one."""
    axes = _axes(given, dimensions)
    if axes is None or not shapes.along(traced, node, layout, axes, is_homogeneous=False):
        traced.unknown(node, f"{name_of(node)} is not known to keep channels apart")
        return
    traced.activate(node, traced.layouts[node], name_of(node), False)


def _gate(traced: Traced, node: fx.Node, layout: Layout, axis: Any, dimensions: int) -> None:
    """One half of the channels times a function of the other."""
    length = layout.atoms.shape[layout.moving]
    if not isinstance(axis, int) or axis % dimensions != layout.moving_axis or length % 2:
        traced.unknown(node, f"{name_of(node)} is not known to keep channels apart")
        return
    shapes.part(traced, layout, length // 2, node)
    sums.join(traced, node, shapes.halves(layout), is_homogeneous=False)
