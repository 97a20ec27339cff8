"""The package Torch-Pruning: its dependency graph and its importances, as its authors use them."""

from __future__ import annotations

import copy
import importlib
from typing import Any

import torch
from torch import nn

from chemnet.reduction.narrowing import Narrowing, Target, budget_of, count, largest_within, out_of_reach
from chemnet.runtime.errors import UsageError
from chemnet.runtime.lazy import installed

_STEPS, _LARGEST_CUT = 400, 0.8  # of a global ranking by Torch-Pruning
_FEW_HALVINGS = 11
_PACKAGE = "torch-pruning"


def lacks(name: str) -> str | None:
    """The package that has to be installed before this baseline can be tried; None if none has."""
    is_missing = name.startswith(_PACKAGE) and not installed(_PACKAGE.replace("-", "_"))
    return _PACKAGE if is_missing else None


def torch_pruning(network: nn.Module, target: Target, calibration: torch.Tensor, seed: int) -> nn.Module:
    """The package Torch-Pruning (1.4 or newer): its dependency graph, and its magnitude importance of coupled weights.

    To a share with its defaults: every layer but the last loses the same ratio of its channels, which is bisected; the
    inputs and outputs of blocks are narrowed too. The channels that go are those of the smallest l2 norm (squared,
    averaged over all layers that the dependency graph couples with them; of a depthwise layer the package, 1.6, counts
    the BatchNorm only).
    Source: Fang, Ma, Song, Mi, Wang, "DepGraph: Towards Any Structural Pruning", CVPR 2023.
    Raises UsageError where the package is not installed.
    """
    tp = _torch_pruning()
    example = calibration[:2].to(next(network.parameters()))
    if isinstance(target, int | float):
        budget = budget_of(network, target)

        def make(kept: float) -> nn.Module:
            result = copy.deepcopy(network)
            options = {"pruning_ratio": 1.0 - kept, "ignored_layers": [_last_linear(result)]}
            with torch.enable_grad():
                importance = tp.importance.MagnitudeImportance(p=2)
                tp.pruner.MagnitudePruner(result, example[:1], importance=importance, **options).step()
            return result.train(network.training)

        return largest_within(make, count, budget, _FEW_HALVINGS)
    widths = Narrowing(network, target, calibration).widths
    result = copy.deepcopy(network)
    graph = tp.DependencyGraph().build_dependency(result, example_inputs=example)
    importance = tp.importance.MagnitudeImportance(p=2)
    for name, width in widths.items():
        layer = result.get_submodule(name)
        every = graph.get_pruning_group(layer, tp.prune_linear_out_channels, idxs=list(range(len(layer.weight))))
        dropped = importance(every).argsort()[: len(layer.weight) - width].tolist()
        if dropped:
            graph.get_pruning_group(layer, tp.prune_linear_out_channels, idxs=dropped).prune()
    return result


def torch_pruning_group_norm(
    network: nn.Module,
    target: Target,
    calibration: torch.Tensor,
    seed: int,
    *,
    largest_cut: float = _LARGEST_CUT,
    steps: int = _STEPS,
) -> nn.Module:
    """Torch-Pruning as its authors prune a trained network without sparse training: by group norms, over all layers.

    The options are those of `group_norm` in their scripts: l2 norms of coupled weights, relative to the mean of their
    group; one ranking of all channels of all layers (`global_pruning`); a ratio that grows in 400 small steps, with new
    norms after each, until the network is small enough. The step that reaches the share ends with the channel that
    does. Fewer steps are faster and give nearly the same widths.

    `largest_cut` is the ratio of its channels that a layer may lose (the package checks it between steps): without it
    some layers end with a single channel. For MobileNetV2 the authors take 0.7; with that a share of 0.115 is reached
    only when all layers are at the limit, and by leaps, thus 0.8 here.
    Source and exceptions: as for `torch_pruning`; this one takes a share only.
    """
    tp = _torch_pruning()
    budget = budget_of(network, target)
    result = copy.deepcopy(network)
    options = {"pruning_ratio": 1.0, "iterative_steps": steps, "max_pruning_ratio": largest_cut, "global_pruning": True}
    with torch.enable_grad():
        pruner = tp.pruner.GroupNormPruner(
            result,
            calibration[:1].to(next(network.parameters())),
            tp.importance.GroupMagnitudeImportance(p=2),
            ignored_layers=[_last_linear(result)],
            **options,
        )
    surplus = count(result) - budget
    for _ in range(steps):
        for group in pruner.step(interactive=True) if surplus > 0 else ():
            surplus = _prune(group, pruner.DG, surplus)
    if surplus > 0:
        raise out_of_reach(budget)
    return result.train(network.training)


def _torch_pruning() -> Any:
    if lacks(_PACKAGE):
        raise UsageError(f"this needs a package that is not installed: pip install {_PACKAGE}")
    return importlib.import_module("torch_pruning")


def _last_linear(network: nn.Module) -> nn.Module:
    return [module for module in network.modules() if isinstance(module, nn.Linear)][-1]


def _prune(group: Any, graph: Any, surplus: int) -> int:
    """Prune channels of a group until `surplus` parameters are gone, or all of it; the surplus that is left."""
    channels = list(group[0].idxs)
    if surplus <= 0 or not channels:
        return surplus
    price = 0
    for dependency, _ in group:
        weight = getattr(dependency.layer, "weight", None)
        if weight is not None and graph.is_out_channel_pruning_fn(dependency.handler):
            price += sum(parameter.numel() for parameter in dependency.layer.parameters()) // len(weight)
        elif weight is not None:
            price += weight.numel() // weight.shape[1]
    needed = -(-surplus // price)
    if needed < len(channels):
        group.prune(idxs=channels[:needed])
    else:
        group.prune()
    return surplus - price * min(needed, len(channels))
