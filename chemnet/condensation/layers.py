"""What modules with weights do to channels: layers read them all and make new ones, others follow them one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import fx, nn

from chemnet.condensation import operations as ops
from chemnet.condensation.graph import (
    Block,
    Follower,
    Indices,
    Instance,
    Layer,
    Layout,
    Normalisation,
    Signal,
    Together,
    Transposed,
    has_one_slope,
    is_depthwise,
    is_each_alone,
    nameless,
    read_by,
)
from chemnet.condensation.operations import shape_of
from chemnet.condensation.traced import Traced


def follows(module: nn.Module) -> bool:
    """Whether a module has weights for each channel by itself."""
    return (isinstance(module, Follower) and not has_one_slope(module)) or is_depthwise(module)


def channel_axis(module: nn.Module, dimensions: int) -> int:
    """The axis of the channels in the input of a module that follows them."""
    is_last = isinstance(module, nn.LayerNorm | nn.RMSNorm)
    return dimensions - len(module.normalized_shape) if is_last else 1


def objection(traced: Traced, name: str, module: nn.Module, layout: Layout | None, dimensions: int) -> str | None:
    """Why a module has to be left as it is, if it has."""
    if name in traced.shared and not has_one_slope(module):
        return f"{name} is used more than once, or shares its weights"
    if reason := ops.strangeness(name, module):
        return reason
    if isinstance(module, Normalisation) and module.running_mean is None:
        return f"{name} keeps no running statistics"
    if isinstance(module, Instance) and module.running_mean is not None:
        return f"{name} keeps running statistics, as torch does not for instances elsewhere"
    if isinstance(module, Together) and module.weight is None:
        return f"{name} has no weights by which its width would be known again"
    if layout is not None and follows(module) and layout.axis != channel_axis(module, dimensions):
        return f"{name} reads another axis than that of the channels"
    return None


def look_up(traced: Traced, node: fx.Node, name: str, module: nn.Embedding) -> None:
    """A table of vectors makes channels and reads none."""
    if module.max_norm is not None:
        traced.unknown(node, f"{name} scales its vectors to a length")
        return
    traced.make(node, name, len(shape_of(node) or ()) - 1, module.embedding_dim)


def read(traced: Traced, node: fx.Node, name: str, module: Layer, layout: Layout) -> None:
    """A layer reads all channels and makes new ones."""
    shape, is_linear = shape_of(node) or (), isinstance(module, nn.Linear)
    axis = len(shape) - 1 if is_linear else 1
    if layout.axis != axis and not traced.spaces.of(layout):
        layout = nameless(axis, read_by(module))
    fits = is_linear or len(shape) == len(module.kernel_size) + 2
    if layout.axis != axis or layout.atoms.size != read_by(module) or not fits:
        traced.unknown(node, f"{name} reads another axis than that of the channels")
        return
    traced.inputs[name] = layout
    traced.consumers.append(name)
    atoms = traced.make(node, name, axis, shape[axis])
    if not is_linear and module.groups > 1:
        _group(traced, name, module, layout, atoms)


def _group(traced: Traced, name: str, module: Layer, layout: Layout, atoms: Indices) -> None:
    """Channels of different groups are never merged, and every group keeps as many."""
    if isinstance(module, Transposed) or module.in_channels == module.groups:
        traced.spaces.leave([layout], f"{name} reads it in groups that cannot be kept")
        traced.spaces.leave([replace(layout, atoms=atoms)], f"{name} makes it in groups that cannot be kept")
        return
    traced.spaces.part(layout.atoms.reshape(module.groups, -1), f"{name} reads it in groups that cannot be kept")
    traced.spaces.part(atoms.reshape(module.groups, -1), f"{name} makes it in groups that cannot be kept")


def follow(traced: Traced, node: fx.Node, name: str, module: nn.Module, layout: Layout) -> None:
    """A normalisation, a PReLU or a depthwise convolution: with weights for each channel."""
    if isinstance(module, Instance | Together):
        for space in traced.spaces.of(layout):
            space.is_homogeneous = False  # a factor is normalised away
    if isinstance(module, Together) and not is_each_alone(module):
        traced.together.append(name)
        if isinstance(module, nn.GroupNorm):
            reason = f"{name} normalises it in groups that would not keep as many"
            traced.spaces.part(layout.atoms.reshape(module.num_groups, -1), reason)
    traced.inputs[name] = layout
    traced.followers.append(name)
    signals = tuple(followed(module, name, layout, segment) for segment in range(len(layout.signals)))
    traced.layouts[node] = replace(layout, signals=signals)
    before = node.args[0]
    alone = isinstance(before, fx.Node) and before.op == "call_module" and len(before.users) == 1
    if alone and isinstance(module, Normalisation) and isinstance(traced.modules[str(before.target)], Layer):
        traced.normalised[str(before.target)] = name


def followed(module: nn.Module, name: str, layout: Layout, segment: int) -> Signal | None:
    """What follows a signal; a normalisation folds into the layer before it."""
    signal = layout.signals[segment]
    if signal is None:
        return None
    # one place of a channel may be normalised unlike another, once they lie in columns of their own
    atoms = layout.atoms[layout.segments == segment]
    folds = isinstance(module, Normalisation) and signal.is_plain and len(np.unique(atoms)) == len(atoms)
    if folds and len(signal.blocks) == 1:
        block = signal.blocks[0]
        blocks = (Block((*block.modules, (name, segment)), block.before),)
    else:
        blocks = (Block(((name, segment),), signal),)
    return Signal(blocks, is_mixed=signal.is_mixed or isinstance(module, Together))
