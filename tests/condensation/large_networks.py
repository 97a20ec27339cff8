"""Processor time and memory that `condense` takes for a large network of torchvision, on one core.

    python tests/condensation/large_networks.py [--images 256] [--side 224] [--ratio 0.5] [NAME]

The weights are untrained, but their singular values fall off, so that layers have something to spare, and the
BatchNorms have the statistics of some of the images, which are smooth noise.
"""

import argparse
import resource
import time

import torch
from strangers_zoo import built
from torch import nn

from chemnet.condensation import condense

FALL = -0.8  # power with which the singular values fall off
MOST = 512  # rows that are taken together


def images(count: int, side: int) -> torch.Tensor:
    """Smooth images with some noise."""
    generator = torch.Generator().manual_seed(1)
    x = nn.functional.interpolate(torch.randn(count, 3, side // 8, side // 8, generator=generator), scale_factor=8.0)
    return x.add_(torch.randn(x.shape, generator=generator), alpha=0.3)


def let_fall_off(layer: nn.Module) -> None:
    """Mix the rows of a layer so that their singular values fall off, at the scale of an initialisation for ReLU."""
    weight = layer.weight.flatten(1)
    k = min(len(weight), MOST)
    basis = torch.linalg.qr(torch.randn(k, k))[0]
    mixing = (basis * torch.arange(1, k + 1.0) ** FALL) @ basis.T
    for start in range(0, len(weight) - k + 1, k):
        weight[start : start + k] = mixing @ weight[start : start + k]
    weight *= (2.0 * weight.shape[1]) ** 0.5 / weight.shape[1] / weight.std()


def prepared(model: nn.Module, x: torch.Tensor) -> nn.Module:
    """A model with such weights, and statistics of images."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear) and len(module.weight) >= 64:
                let_fall_off(module)
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None
        model.train()(x)
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", default="resnet50")
    for option, default in (("images", 256), ("side", 224)):
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("--ratio", type=float, default=0.5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x = images(given.images, given.side)
    model = prepared(built(f"tv.{given.name}")[0], x[:8])
    start = time.process_time()
    with torch.no_grad():
        for image in x.split(4):
            model(image)
    forward = time.process_time() - start
    start = time.process_time()
    condense(model, x[:2], ratio=given.ratio, choice="forward", calibration=x)
    whole = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{given.name}, {len(x)} images: {whole:.0f} s of processor time, {whole / forward:.1f} times a forward of all"
    )
    print(f"{peak:.1f} GiB at most")


if __name__ == "__main__":
    main()
