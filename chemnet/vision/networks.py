"""Networks of the configs by name: how each is built, and the layers inside of its blocks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

from torch import nn

from chemnet.runtime.errors import UsageError
from chemnet.vision import mobilenet, resnet, vgg, vit
from chemnet.vision.mobilenet import Initialisation, MobileNetV2
from chemnet.vision.resnet import ResNet
from chemnet.vision.vgg import VGG
from chemnet.vision.vit import VisionTransformer

NetworkName = Literal["mobilenet_v2", "resnet20", "resnet56", "vgg8", "vit"]

FIXED_DOWNSAMPLING = {"resnet20": 4, "resnet56": 4, "vgg8": 8, "vit": 4}  # of the networks for images of 32 x 32

_OTHERS: dict[str, Callable[..., nn.Module]] = {
    "resnet20": partial(ResNet, depth=20),
    "resnet56": partial(ResNet, depth=56),
    "vgg8": VGG,
    "vit": VisionTransformer,
}


def build(
    name: str, classes: int, *, downsampling: int, dropout: float = 0.0, initialisation: Initialisation = "default"
) -> nn.Module:
    """The untrained network of a name. Raises UsageError for what the network does not have."""
    if name == "mobilenet_v2":
        return MobileNetV2(classes, downsampling=downsampling, dropout=dropout, initialisation=initialisation)
    if name not in _OTHERS:
        raise UsageError(f"no network {name}: choose mobilenet_v2, {', '.join(_OTHERS)}")
    if downsampling != FIXED_DOWNSAMPLING[name] or initialisation != "default":
        raise UsageError(f"{name} has downsampling {FIXED_DOWNSAMPLING[name]} and initialisation default, no others")
    return _OTHERS[name](classes, dropout=dropout)


def hidden_layers(network: nn.Module) -> dict[str, str]:
    """Modules with the channels inside of the blocks, by their names in tables; of MobileNetV2 its last layer,
    too, and of a plain network all convolutions."""
    if isinstance(network, ResNet):
        return resnet.hidden_layers(network)
    if isinstance(network, VGG):
        return vgg.hidden_layers(network)
    if isinstance(network, VisionTransformer):
        return vit.hidden_layers(network)
    return {**mobilenet.hidden_layers(), **mobilenet.LAST_LAYER}


def count(network: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in network.parameters())
