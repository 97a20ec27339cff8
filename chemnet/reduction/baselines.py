"""Baselines: methods that make a small network of a trained one, for comparison with condensation.

Each is a function `(network, target, calibration, seed)` that gives a new network and leaves the given one as it is; a
new one is one function and one line of `BASELINES`. The `target` is a sequence of hidden widths, which the new network
has exactly, or a share in (0, 1] of the parameters, which it does not exceed. `calibration` (n, ...) are inputs of the
network, `seed` is for those that draw at random. Nothing is trained here.

The hidden layers are those of `narrowing.py`. Of the 2.2 million parameters of `MobileNetV2(10)` this leaves unused:

| | at 0.511 | at 0.115 | at any share, at most |
|---|---|---|---|
| scratch, neuron-merging | 0.001 % | 0.02 % | 0.1 % |
| torch-pruning-magnitude | 0.05 % | 0.04 % | 1 %, where all layers lose a channel at once |
| torch-pruning-group-norm | 0.01 % | 0.04 % | 0.3 %, one channel of the blocks that end in 160; by the weights |

Baselines that keep channels choose them, and the share (m, k) that each kept one has of the others' outgoing weights,
in the network as it was trained; `condense` does the rest.

Raises UsageError for a target that does not fit the network or that a baseline cannot reach.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from chemnet.condensation.choices import View
from chemnet.condensation.condenser import condense
from chemnet.condensation.graph import Floats, Indices
from chemnet.reduction.folding import folding, iterative_merging
from chemnet.reduction.narrowing import Narrowing, Target, alone, largest
from chemnet.reduction.neuron_merging import neuron_merging
from chemnet.reduction.thin_matrices import svd
from chemnet.reduction.torch_pruning import torch_pruning, torch_pruning_group_norm
from chemnet.surrogate.network import NetConfig, build, describe

Baseline = Callable[[Any, Target, torch.Tensor, int], Any]


def unreduced(network: nn.Module, target: Target, calibration: torch.Tensor, seed: int) -> nn.Module:
    """Copy of the large network, whatever the target."""
    return copy.deepcopy(network)


def scratch(network: nn.Module, target: Target, calibration: torch.Tensor, seed: int) -> nn.Module:
    """An untrained network of the hidden widths, with the same activation and the usual initialisation."""
    trained = Narrowing(network, target, calibration)
    if isinstance(network, nn.Sequential):
        large = describe(network)
        widths = (large.widths[0], *trained.widths.values(), large.widths[-1])
        config = NetConfig(widths=widths, activation=large.activation, initialisation="default")
        return build(config, seed).to(trained.weight)
    result = trained.reduced(lambda view, width: alone(np.arange(width), view))
    start_anew(result, seed)
    return result


def start_anew(network: nn.Module, seed: int) -> None:
    """Give a network of images, in place, the weights that a new one of its widths begins with."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            weight = nn.init.kaiming_normal_(torch.empty(module.weight.shape), mode="fan_out", generator=generator)
            module.weight.data.copy_(weight)
        elif isinstance(module, nn.Linear):
            module.weight.data.copy_(torch.empty(module.weight.shape).normal_(0.0, 0.01, generator=generator))
            module.bias.data.zero_()
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()


def condensation(
    network: nn.Module,
    target: Target,
    calibration: torch.Tensor,
    seed: int,
    *,
    choice: str = "cosine",
    merge: str = "refit",
) -> nn.Module:
    """Condensation by one of the choices and merges of `condense`, to hidden widths or to a share of all channels."""
    calibration = calibration.to(next(network.parameters()))
    measure: dict[str, Any] = {"ratio": target}
    if not isinstance(target, int | float):
        measure = {"widths": Narrowing(network, target, calibration).widths}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a merge that is not exact
        return condense(network, calibration[:1], choice=choice, merge=merge, calibration=calibration, **measure)


def magnitude(network: nn.Module, target: Target, calibration: torch.Tensor, seed: int) -> nn.Module:
    """The neurons with the largest product of the norms of incoming and outgoing weights; the others are dropped."""

    def choose(view: View, width: int) -> tuple[Indices, Floats]:
        saliency = np.linalg.norm(view.vectors(), axis=1) * np.linalg.norm(view.weights(), axis=1)
        return alone(largest(saliency, width), view)

    return Narrowing(network, target, calibration).reduced(choose)


def grail(network: nn.Module, target: Target, calibration: torch.Tensor, seed: int) -> nn.Module:
    """The channels with the largest weights, then a refit with a ridge of 1e-3 of the mean diagonal: GRAIL.

    Its compensation is the refit of `condense`, found independently: the readers take over from the channels that went
    what a regression on the kept ones says. Of its choices of channels this is the one by the l2 norm; not done are
    Wanda's and the compensation of a folded network.
    Source: Tang, Wang, Thiele, Saukh, "GRAIL: Post-hoc Compensation by Linear Reconstruction for Compressed Networks",
    PMLR 328 (2026); written from the paper, not from its program.
    """

    def choose(view: View, width: int) -> tuple[Indices, Floats]:
        return alone(largest(np.linalg.norm(view.vectors(), axis=1), width), view)

    return Narrowing(network, target, calibration).reduced(choose, refit=True)


def random(network: nn.Module, target: Target, calibration: torch.Tensor, seed: int) -> nn.Module:
    """Neurons drawn at random, then a refit."""
    rng = np.random.default_rng(seed)

    def choose(view: View, width: int) -> tuple[Indices, Floats]:
        return alone(np.sort(rng.choice(view.width, width, replace=False)), view)

    return Narrowing(network, target, calibration).reduced(choose, refit=True)


BASELINES: dict[str, Baseline] = {
    "unreduced": unreduced,
    "scratch": scratch,
    "condensation": condensation,
    "condensation-paper": partial(condensation, merge="paper"),
    "qr": partial(condensation, choice="qr"),
    "forward": partial(condensation, choice="forward"),
    "random": random,
    "magnitude": magnitude,
    "torch-pruning": torch_pruning,
    "torch-pruning-magnitude": torch_pruning,
    "torch-pruning-group-norm": torch_pruning_group_norm,
    "neuron-merging": neuron_merging,
    "folding": folding,
    "iterative-merging": iterative_merging,
    "grail": grail,
    "svd": svd,
}
