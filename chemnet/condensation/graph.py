"""Description of the channels of a network: spaces, segments of tensors, and the weights that make the channels.

A *space* is a set of channels that can only be condensed alike: the outputs of one layer, and with them those of every
layer that is added to it, as in a skip connection. Normalisations, activations and depthwise convolutions treat each
channel of a space by itself and *follow* it; other layers *consume* it::

    conv -> BatchNorm -> ReLU -> conv          layers: conv          followers: BatchNorm          consumers: conv

Every output of a layer is an *atom*. Atoms that can only be condensed alike, as those on both sides of a sum, or those
that a PixelShuffle puts into one place, are one *channel*; a layer may have several rows for a channel, and a reader
several columns, as after a flattening. A `Layout` says which atom lies where along the axes of a tensor, and a `Signal`
by which weights what lies there was made; `channel_vectors.py` makes vectors of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from chemnet.condensation.channel_statistics import Statistic
from chemnet.condensation.vectors import Vector

Floats: TypeAlias = NDArray[np.float64]
Indices: TypeAlias = NDArray[np.int64]
Convolution: TypeAlias = nn.Conv1d | nn.Conv2d | nn.Conv3d
Transposed: TypeAlias = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
Normalisation: TypeAlias = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
Instance: TypeAlias = nn.InstanceNorm1d | nn.InstanceNorm2d | nn.InstanceNorm3d
Together: TypeAlias = nn.LayerNorm | nn.RMSNorm | nn.GroupNorm | Statistic  # over several channels at a time
Follower: TypeAlias = Normalisation | Instance | Together | nn.PReLU | Vector  # besides depthwise convolutions
Layer: TypeAlias = Convolution | Transposed | nn.Linear


@dataclass(eq=False)
class Space:
    """Channels that are condensed together: `width` of them, made by `layers`; None as `reason` if they can be."""

    width: int
    layers: list[str]
    blocks: int = 1  # of equal width, one after the other, which are not mixed and keep as many each
    reason: str | None = None
    followers: list[Place] = field(default_factory=list)
    consumers: list[Place] = field(default_factory=list)
    together: list[Place] = field(default_factory=list)  # of the followers, those that normalise channels together
    activations: list[str] = field(default_factory=list)  # names of what changes them value by value
    is_homogeneous: bool = True  # a positive factor of a channel stays one through all of these

    def leave_alone(self, reason: str) -> None:
        """Mark the space as one that cannot be condensed; the first reason stands."""
        self.reason = self.reason or reason


@dataclass(frozen=True, eq=False)
class Block:
    """Weights that make each channel: of a layer, or, behind a nonlinearity, of modules that follow it channel by
    channel; the first module may be succeeded by normalisations that fold into it."""

    modules: tuple[tuple[str, int], ...]  # a name, and which segment of its input
    before: Signal | None = None


@dataclass(frozen=True)
class Signal:
    """How the channels of a segment were made: the blocks that are added up, or otherwise combined; whether they still
    are as made, and whether something else has been added or multiplied, so that no channel is constant for certain."""

    blocks: tuple[Block, ...]
    is_plain: bool = True
    is_mixed: bool = False


@dataclass(frozen=True, eq=False)
class Layout:
    """The channels along the `axes` of a tensor: `atoms` of layers, -1 for those of none, and the number of the segment
    that each belongs to, whose `signals` say how it was made, both of the sizes of these axes.

    At the place `moving` among the axes is the one that is as long as there are channels; the others stay as they are,
    as the number of heads does where channels are split into heads.
    """

    axes: tuple[int, ...]
    atoms: Indices
    segments: Indices
    signals: tuple[Signal | None, ...]
    moving: int = 0

    @property
    def axis(self) -> int | None:
        """The only axis along which channels lie; None if there are several."""
        return self.axes[0] if len(self.axes) == 1 else None

    @property
    def moving_axis(self) -> int:
        """The axis of the tensor that is as long as there are channels."""
        return self.axes[self.moving]


def nameless(axis: int, width: int) -> Layout:
    """Channels along an axis that are no layer's."""
    return Layout((axis,), np.full(width, -1), np.zeros(width, dtype=np.int64), (None,))


@dataclass(frozen=True)
class Segment:
    """Columns of a module's input that belong to one space (None: to none) and were made alike."""

    space: int | None
    signal: Signal | None = None


@dataclass(frozen=True)
class Place:
    """Where a module reads a space: its name, and the segment of its input."""

    module: str
    segment: int


def is_each_alone(norm: nn.Module) -> bool:
    """Whether a normalisation over groups has every channel in a group of its own."""
    return isinstance(norm, nn.GroupNorm) and norm.num_groups == norm.num_channels


def has_one_slope(module: nn.Module) -> bool:
    """Whether a PReLU has the same slope for all channels."""
    return type(module) is nn.PReLU and module.num_parameters == 1


def is_depthwise(module: nn.Module) -> bool:
    """Whether a convolution filters every channel by itself."""
    return isinstance(module, Convolution) and 1 < module.groups == module.in_channels == module.out_channels


def read_by(layer: Layer) -> int:
    """Number of channels that a layer reads."""
    return int(layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels)


def as_float64(tensor: torch.Tensor) -> Floats:
    """The numbers of a tensor as a float64 array on the CPU, shared with it where they are so already."""
    array: Floats = tensor.detach().to("cpu", torch.float64).numpy()
    return array
