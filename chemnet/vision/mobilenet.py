"""MobileNetV2 with the key names of torchvision, so that weights are exchangeable.

Source: Sandler, Howard, Zhu, Zhmoginov, Chen, "MobileNetV2: Inverted Residuals and Linear Bottlenecks" (CVPR 2018),
table 2. The paper on condensation counts its layers from 1: layer 1 is the first convolution, layers 2 to 17 are the
blocks (its table 2 leaves out the block without expansion and begins with 96 channels), and layer 18 is the convolution
to 1280 channels.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from chemnet.runtime.errors import UsageError

Initialisation = Literal["default", "paper"]

# expansion, channels, repeats, stride of the first
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_LAST = 1280
_FULL_DOWNSAMPLING = 32


class MobileNetV2(nn.Module):
    """(n, 3, h, w) -> (n, num_classes) logits; 2,236,682 parameters for 10 classes, 3,504,872 for 1000.

    `downsampling` is the ratio of the sides of the image and of the last feature map: 32 as published, for large
    images; 16, 8 or 4, for CIFAR, leave out the first strides. Weights fit into any of them.
    `initialisation` is torchvision's, or the paper's Gaussian of eq. 20, of a small scale that makes channels condense.
    Raises UsageError for another downsampling.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        *,
        downsampling: int = _FULL_DOWNSAMPLING,
        dropout: float = 0.2,
        initialisation: Initialisation = "default",
    ) -> None:
        super().__init__()
        stem, strides = _strides(downsampling)
        width = 32
        features: list[nn.Module] = [_convolution(3, width, 3, stride=stem)]
        for (expansion, channels, repeats, _), stride in zip(_STAGES, strides, strict=True):
            for number in range(repeats):
                features.append(InvertedResidual(width, channels, stride if number == 0 else 1, expansion))
                width = channels
        features.append(_convolution(width, _LAST, 1))
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(_LAST, num_classes))
        _initialise(self, initialisation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (n, num_classes) of images (n, 3, h, w)."""
        return self.classifier(self.features(x).mean((2, 3)))


class InvertedResidual(nn.Module):
    """Block of pointwise expansion, depthwise filter and projection; with a skip where shapes allow.

    x -> 1x1, BN, ReLU6 -> 3x3 depthwise, BN, ReLU6 -> 1x1, BN -> + -> y
    |_________________________________________________________|
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = channels_in * expansion
        self.use_res_connect = stride == 1 and channels_in == channels_out
        expand = [] if expansion == 1 else [_convolution(channels_in, hidden, 1)]
        self.conv = nn.Sequential(
            *expand,
            _convolution(hidden, hidden, 3, stride=stride, groups=hidden),
            nn.Conv2d(hidden, channels_out, 1, bias=False),
            nn.BatchNorm2d(channels_out),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, channels_in, h, w) -> (n, channels_out, h / stride, w / stride)."""
        return x + self.conv(x) if self.use_res_connect else self.conv(x)


def hidden_layers(first: int = 2, last: int = 17) -> dict[str, str]:
    """Modules with the channels to condense, by the paper's names of the blocks (its layers `first` to `last`)."""
    return {f"layer {number}": f"features.{number}.conv.1.0" for number in range(first, last + 1)}


LAST_LAYER = {"layer 18": "features.18.0"}


def _strides(downsampling: int) -> tuple[int, list[int]]:
    """Stride of the stem and of each stage: the first ones are left out until the product is right."""
    strides = [2, *(stride for _, _, _, stride in _STAGES)]
    if downsampling not in (4, 8, 16, 32):
        raise UsageError(f"downsampling {downsampling}: choose 4, 8, 16 or 32")
    left_out = _FULL_DOWNSAMPLING // downsampling
    for place, stride in enumerate(strides):
        if stride == 2 and left_out > 1:
            strides[place], left_out = 1, left_out // 2
    return strides[0], strides[1:]


def _convolution(channels_in: int, channels_out: int, size: int, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, size, stride, size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU6(inplace=True),
    )


def _initialise(network: nn.Module, initialisation: Initialisation) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_in, fan_out = module.weight[0].numel(), module.out_channels * module.weight[0, 0].numel()
            small = 2.0 / (fan_in + fan_out // module.groups)
            if initialisation == "paper":
                nn.init.normal_(module.weight, std=small)
            else:
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
        elif isinstance(module, nn.Linear):
            small = 2.0 / (module.in_features + module.out_features)
            nn.init.normal_(module.weight, std=small if initialisation == "paper" else 0.01)
            nn.init.zeros_(module.bias)
