"""Residual networks for images of 32 x 32, with torchvision's names of weights.

Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition" (CVPR 2016), section 4.2. Where the width
doubles, the shortcut is a convolution of 1 x 1 with a BatchNorm (the paper's option B), not padding with zeros (A).
"""

from __future__ import annotations

import torch
from torch import nn

from chemnet.runtime.errors import UsageError

_WIDTHS = (16, 32, 64)


class ResNet(nn.Module):
    """(n, 3, h, w) -> (n, num_classes) logits; for 10 classes 272,474 parameters at depth 20, 855,770 at 56.

    The depth is that of the longest path in layers with weights, 6 n + 2 for n blocks in each of three stages; the last
    feature map has sides of h / 4 and w / 4. Weights begin by Kaiming's normal distribution (fan-out).
    Raises UsageError for another depth.
    """

    def __init__(self, num_classes: int = 10, *, depth: int = 20, dropout: float = 0.0) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 2, 6)
        if blocks < 1 or rest:
            raise UsageError(f"a residual network of depth {depth}: choose 6 n + 2, such as 20, 32, 44 or 56")
        self.conv1 = nn.Conv2d(3, _WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(_WIDTHS[0])
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _stage(_WIDTHS[0], _WIDTHS[0], blocks, 1)
        self.layer2 = _stage(_WIDTHS[0], _WIDTHS[1], blocks, 2)
        self.layer3 = _stage(_WIDTHS[1], _WIDTHS[2], blocks, 2)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(_WIDTHS[2], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (n, num_classes) of images (n, 3, h, w)."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(self.dropout(x.mean((2, 3))))


class BasicBlock(nn.Module):
    """Block of two convolutions with a shortcut around them.

    x -> 3x3, BN, ReLU -> 3x3, BN -> + -> ReLU -> y
    |_________ (1x1, BN) ____________|
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels_in != channels_out:
            shortcut = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(channels_out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, channels_in, h, w) -> (n, channels_out, h / stride, w / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + shortcut)


def hidden_layers(network: ResNet) -> dict[str, str]:
    """Modules with the channels inside of the blocks, by the number of the block from 1."""
    blocks = [name for name, module in network.named_modules() if isinstance(module, BasicBlock)]
    return {f"block {number}": f"{name}.conv1" for number, name in enumerate(blocks, start=1)}


def _stage(channels_in: int, channels_out: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(channels_in, channels_out, stride)
    return nn.Sequential(first, *(BasicBlock(channels_out, channels_out, 1) for _ in range(blocks - 1)))
