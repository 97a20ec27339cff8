"""Plain convolutional network for images of 32 x 32, in the manner of VGG with BatchNorms.

Source: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition" (ICLR 2015); few
layers, early pooling and a maximum over the last map as in Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU"
(2024), which learns most per multiply-add.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

_WIDTHS = (32, 64, 64, 256, 256, 256, 256)
_POOLED = (1, 3, 5)  # layers behind which the sides of the map are halved


class VGG(nn.Module):
    """(n, 3, h, w) -> (n, num_classes) logits; for 10 classes 1,978,026 parameters.

    3 -> 32 -> 64 | 64 -> 256 | 256 -> 256 | 256 -> maximum -> Linear: convolutions of 3 x 3, each with BatchNorm and
    ReLU, and at each bar a pooling of 2 x 2, so that the last map has sides of h / 8 and w / 8. Weights begin by
    Kaiming's normal distribution (fan-out).
    """

    def __init__(self, num_classes: int = 10, *, dropout: float = 0.0) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for number, (channels_in, channels_out) in enumerate(pairwise((3, *_WIDTHS))):
            layers += [nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False), nn.BatchNorm2d(channels_out)]
            layers += [nn.ReLU(inplace=True), *([nn.MaxPool2d(2)] if number in _POOLED else [])]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(_WIDTHS[-1], num_classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (n, num_classes) of images (n, 3, h, w)."""
        return self.classifier(self.features(x).amax((2, 3)))


def hidden_layers(network: VGG) -> dict[str, str]:
    """Modules with the channels of all convolutions, by the number of the layer from 1."""
    names = [name for name, module in network.features.named_children() if isinstance(module, nn.Conv2d)]
    return {f"layer {number}": f"features.{name}" for number, name in enumerate(names, start=1)}
