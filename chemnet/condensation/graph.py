"""Description of the channels of a network: spaces, segments of tensors, and the weights that make the channels.

A *space* is a set of channels that can only be condensed alike: the outputs of one layer, and with them those of every
layer that is added to it, as in a skip connection. Normalisations, activations and depthwise convolutions treat each
channel of a space by itself and *follow* it; other layers *consume* it::

    conv -> BatchNorm -> ReLU -> conv          layers: conv          followers: BatchNorm          consumers: conv

Tensors are described by segments: after a concatenation the channels of several spaces lie one after the other, after a
flattening each channel lies in as many columns as it had places. A `Signal` remembers by which weights the channels of
a segment were made; `channel_vectors.py` makes vectors of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

Floats: TypeAlias = NDArray[np.float64]
Convolution: TypeAlias = nn.Conv1d | nn.Conv2d | nn.Conv3d
Transposed: TypeAlias = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
Normalisation: TypeAlias = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
Instance: TypeAlias = nn.InstanceNorm1d | nn.InstanceNorm2d | nn.InstanceNorm3d
Follower: TypeAlias = Normalisation | Instance | nn.PReLU  # besides depthwise convolutions
Layer: TypeAlias = Convolution | Transposed | nn.Linear


@dataclass(eq=False)
class Space:
    """Channels that are condensed together: `width` of them, made by `layers`; None as `reason` if they can be."""

    width: int
    layers: list[str]
    blocks: int = 1  # of equal width, which are not mixed
    reason: str | None = None
    followers: list[Place] = field(default_factory=list)
    consumers: list[Place] = field(default_factory=list)
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


@dataclass(frozen=True)
class Segment:
    """Channels of a tensor that belong to one space (None: to none), each in `repeats` neighbouring columns."""

    space: int | None
    width: int
    repeats: int = 1
    signal: Signal | None = None


@dataclass(frozen=True)
class Layout:
    """The segments along the channel axis of a tensor."""

    axis: int
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class Place:
    """Where a module reads a space: its name, and the segment of its input."""

    module: str
    segment: int


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
