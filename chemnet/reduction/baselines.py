"""Baselines: methods that make a small network of a trained one, for comparison with condensation.

Each is a function `(network, target, calibration, seed)` that gives a new network and leaves the given one as it is; a
new one is one function and one line of `BASELINES`. The `target` is a sequence of hidden widths, which the new network
has exactly, or a share in (0, 1] of the parameters, which it does not exceed. `calibration` (n, ...) are inputs of the
network, `seed` is for those that draw at random. Nothing is trained here.

The hidden layers are those that go through an activation and can be condensed: of a fully connected network all, of
MobileNetV2 those inside of the blocks and the one before the classifier, but not the outputs of blocks. A share becomes
widths by one factor for all hidden layers, which is bisected as closely as whole channels allow. Of the 2.2 million
parameters of `MobileNetV2(10)` this leaves unused:

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
import importlib
import itertools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from chemnet.condensation import similarity
from chemnet.condensation.channels import Channels
from chemnet.condensation.choices import Ranked, View
from chemnet.condensation.condenser import condense
from chemnet.condensation.graph import Floats, Indices, Normalisation, as_float64
from chemnet.condensation.surgery import Surgery
from chemnet.condensation.widths import Sizes
from chemnet.runtime.errors import UsageError
from chemnet.runtime.lazy import installed
from chemnet.surrogate.network import NetConfig, build, describe, linear

Target = Sequence[int] | float
Baseline = Callable[[Any, Target, torch.Tensor, int], Any]
Choose = Callable[[View, int], tuple[Indices, Floats]]
T = TypeVar("T")

_STEPS, _LARGEST_CUT = 400, 0.8  # of a global ranking by Torch-Pruning
_HALVINGS, _FEW_HALVINGS = 24, 11
_PACKAGE = "torch-pruning"


def lacks(name: str) -> str | None:
    """The package that has to be installed before this baseline can be tried; None if none has."""
    is_missing = name.startswith(_PACKAGE) and not installed(_PACKAGE.replace("-", "_"))
    return _PACKAGE if is_missing else None


def unreduced(network: nn.Module, target: Target, calibration: torch.Tensor, seed: int) -> nn.Module:
    """Copy of the large network, whatever the target."""
    return copy.deepcopy(network)


def scratch(network: nn.Module, target: Target, calibration: torch.Tensor, seed: int) -> nn.Module:
    """An untrained network of the hidden widths, with the same activation and the usual initialisation."""
    trained = _Trained(network, target, calibration)
    if isinstance(network, nn.Sequential):
        large = describe(network)
        widths = (large.widths[0], *trained.widths.values(), large.widths[-1])
        config = NetConfig(widths=widths, activation=large.activation, initialisation="default")
        return build(config, seed).to(trained.weight)
    result = trained.reduced(lambda view, width: _alone(np.arange(width), view))
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
        measure = {"widths": _Trained(network, target, calibration).widths}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a merge that is not exact
        return condense(network, calibration[:1], choice=choice, merge=merge, calibration=calibration, **measure)


def magnitude(network: nn.Module, target: Target, calibration: torch.Tensor, seed: int) -> nn.Module:
    """The neurons with the largest product of the norms of incoming and outgoing weights; the others are dropped."""

    def choose(view: View, width: int) -> tuple[Indices, Floats]:
        saliency = np.linalg.norm(view.vectors(), axis=1) * np.linalg.norm(view.weights(), axis=1)
        return _alone(_largest(saliency, width), view)

    return _Trained(network, target, calibration).reduced(choose)


def random(network: nn.Module, target: Target, calibration: torch.Tensor, seed: int) -> nn.Module:
    """Neurons drawn at random, then a refit."""
    rng = np.random.default_rng(seed)

    def choose(view: View, width: int) -> tuple[Indices, Floats]:
        return _alone(np.sort(rng.choice(view.width, width, replace=False)), view)

    return _Trained(network, target, calibration).reduced(choose, refit=True)


def neuron_merging(
    network: nn.Module,
    target: Target,
    calibration: torch.Tensor,
    seed: int,
    *,
    norm: int | None = None,
    weight: float = 0.85,
    threshold: float | None = None,
) -> nn.Module:
    """The neurons of largest norm stay; each other one is decomposed onto the kept one that is most like it.

    Without a BatchNorm a neuron's vector is its weights and its bias, and the kept one with the largest cosine gets the
    outgoing weights times the ratio of the l2 norms. Filters in front of a BatchNorm are alike by the cosine of their
    weights and by their BatchNorms. For parallel filters w_n = s w_m, s > 0, BatchNorm gives y_n = S y_m + B. The kept
    m has the lowest score

        weight (1 - cosine) + (1 - weight) |B| / S,        |B| / S scaled to [0, 1] over the kept ones

    and gets S times the outgoing weights of n. Where the cosine is below `threshold` the weights are dropped. Defaults
    are those of the authors' runs: on fully connected layers the l2 `norm` and a threshold of 0.45, of VGG-16 and
    ResNet-56 on CIFAR-10 the l1 norm and 0.1.

    The paper treats no depthwise layers, no ReLU6 and no limits of S. Decided here: the filters of a block are its
    3 x 3 depthwise ones, which the projection follows, so that two of them count as parallel though their inputs, the
    expanded channels, differ; the expansion's rows of dropped channels go with them (in the block without expansion,
    the rows of the stem). ReLU6 passes S on only below its 6. S <= 0, which no ReLU passes on, and an S or |B| / S that
    is not finite (gamma = 0) rule a pair out. S is s (gamma_n / sigma_n) (sigma_m / gamma_m), exact for parallel
    filters; the authors' program has the two ratios the wrong way round, and the variance in place of sigma.
    Source: Kim, Kim, Park, Jeon, "Neuron Merging: Compensating for Pruned Neurons", NeurIPS 2020, algorithms 1 to 3.
    """

    def choose(view: View, width: int) -> tuple[Indices, Floats]:
        filters = _Filters.of(view)
        if filters is None:
            vectors = view.vectors()
            kept = _largest(np.linalg.norm(vectors, ord=norm or 2, axis=1), width)
            return kept, _decomposed(vectors, kept, 0.45 if threshold is None else threshold)
        kept = _largest(np.linalg.norm(filters.weights, ord=norm or 1, axis=1), width)
        return kept, filters.decomposed(kept, weight, 0.1 if threshold is None else threshold)

    return _Trained(network, target, calibration).reduced(choose)


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
        budget = _budget(network, target)

        def make(kept: float) -> nn.Module:
            result = copy.deepcopy(network)
            options = {"pruning_ratio": 1.0 - kept, "ignored_layers": [_last_linear(result)]}
            with torch.enable_grad():
                importance = tp.importance.MagnitudeImportance(p=2)
                tp.pruner.MagnitudePruner(result, example[:1], importance=importance, **options).step()
            return result.train(network.training)

        return _largest_within(make, _count, budget, _FEW_HALVINGS)
    widths = _Trained(network, target, calibration).widths
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
    budget = _budget(network, target)
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
    surplus = _count(result) - budget
    for _ in range(steps):
        for group in pruner.step(interactive=True) if surplus > 0 else ():
            surplus = _prune(group, pruner.DG, surplus)
    if surplus > 0:
        raise _out_of_reach(budget)
    return result.train(network.training)


def svd(network: nn.Sequential, target: Target, calibration: torch.Tensor, seed: int) -> nn.Sequential:
    """All neurons stay; matrices become products of two thin ones by truncated singular value decomposition.

    There are as many weights, without biases, as at the hidden widths of the target, or a few less. They go to the
    singular values with the largest share of their matrix (squared) per weight. A matrix (m, n) at rank r is
    Linear(n, r), Identity, Linear(r, m); one whose rank would need no fewer weights than it has stays whole.
    Raises UsageError where the weights do not suffice for rank 1.
    """
    layers = [module for module in network if type(module) is nn.Linear]
    widths = _Trained(network, target, calibration).widths.values()
    budget = sum(a * b for a, b in itertools.pairwise([layers[0].in_features, *widths, layers[-1].out_features]))
    factors = [np.linalg.svd(as_float64(layer.weight), full_matrices=False) for layer in layers]
    ranks = iter(_ranks([values for _, values, _ in factors], [layer.weight.shape for layer in layers], budget))
    decomposed = iter(factors)
    modules: list[nn.Module] = []
    for module in network:
        if type(module) is not nn.Linear:
            modules.append(copy.deepcopy(module))
        else:
            modules += _thin(module, next(ranks), *next(decomposed))
    return nn.Sequential(*modules)


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
    "svd": svd,
}


class _Trained:
    """A trained network, and the `widths` of its hidden layers that a target means, by the name of the layer."""

    def __init__(self, network: nn.Module, target: Target, calibration: torch.Tensor) -> None:
        self.weight = next(network.parameters())
        self._network, self._calibration = network, calibration.to(self.weight)
        self._channels = Channels(network, self._calibration[:2])
        self._hidden = [space for space in self._channels.spaces if space.activations and space.reason is None]
        full = [space.width for space in self._hidden]
        widths = self._within(target) if isinstance(target, int | float) else target
        if len(widths) != len(full) or not all(1 <= w <= m for w, m in zip(widths, full, strict=True)):
            raise UsageError(f"hidden widths {list(widths)} do not fit into a network of {full}")
        self.widths = {space.layers[0]: width for space, width in zip(self._hidden, widths, strict=True)}

    def _within(self, share: float) -> list[int]:
        """The largest widths in proportion to the given ones with which the share is not exceeded."""
        sizes = Sizes(self._network, self._channels)

        def make(kept: float) -> list[int]:
            return [max(1, round(kept * space.width)) for space in self._hidden]

        def size(widths: list[int]) -> float:
            return sizes.total(dict(zip(self._hidden, widths, strict=True)))

        return _largest_within(make, size, _budget(self._network, share), _HALVINGS)

    def reduced(self, choose: Choose, *, refit: bool = False) -> nn.Module:
        """The network with the channels that `choose` keeps of each hidden layer, and with its shares; or refitted."""
        surgery = Surgery(self._network, self._channels)
        found = {}
        for space, (layer, width) in zip(self._hidden, self.widths.items(), strict=True):
            found[layer] = choose(View(surgery, space, None, dict, lambda place: False), width)
        return condense(
            self._network,
            self._calibration[:2],
            widths=self.widths,
            choice=lambda view: Ranked(lambda count: found[view.layer][0]),
            merge="refit" if refit else lambda view, kept: found[view.layer][1],
            calibration=self._calibration if refit else None,
        )


def _alone(kept: Indices, view: View) -> tuple[Indices, Floats]:
    """These channels with their own outgoing weights and nothing of the others'."""
    return kept, np.eye(view.width)[:, kept]


def _largest(scores: Floats, width: int) -> Indices:
    """Places of the `width` largest scores, ascending; the lower place wins a tie."""
    return np.sort(np.argsort(-scores, kind="stable")[:width])


# ---- how much stays


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _budget(network: nn.Module, share: Target) -> int:
    """The largest number of parameters that is not above the share."""
    if not isinstance(share, int | float) or not 0.0 < share <= 1.0:
        raise UsageError(f"share {share} of the parameters: choose one in (0, 1]")
    return int(share * _count(network) + 1e-6)


def _largest_within(make: Callable[[float], T], size: Callable[[T], float], budget: int, halvings: int) -> T:
    """Result of `make` at the largest number in (0, 1] at which its size is within the budget."""
    best = make(1.0)
    if size(best) <= budget:
        return best
    found: T | None = None
    low, high = 0.0, 1.0
    for _ in range(halvings):
        middle = 0.5 * (low + high)
        result = make(middle)
        if size(result) <= budget:
            found, low = result, middle
        else:
            high = middle
    if found is None:
        raise _out_of_reach(budget)
    return found


def _out_of_reach(budget: int) -> UsageError:
    return UsageError(f"{budget} parameters are too few for this baseline: ask for a larger share")


# ---- Torch-Pruning


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


# ---- Neuron Merging


def _decomposed(vectors: Floats, kept: Indices, threshold: float) -> Floats:
    """Share (m, k) of each kept neuron, by the cosine of the vectors (m, d)."""
    cosine = similarity.cosine_similarity(vectors)[:, kept]
    nearest, norms = cosine.argmax(axis=1), np.linalg.norm(vectors, axis=1)
    share: Floats = np.eye(len(vectors))[:, kept]
    merged = np.setdiff1d(np.flatnonzero((cosine.max(axis=1) >= threshold) & (norms > 0.0)), kept)
    share[merged, nearest[merged]] = norms[merged] / norms[kept[nearest[merged]]]
    return share


@dataclass(frozen=True)
class _Filters:
    """The filters of a layer (m, d) and of the BatchNorm behind it gamma, beta, mean and sigma, (m,) each."""

    weights: Floats
    gamma: Floats
    beta: Floats
    mean: Floats
    sigma: Floats

    @classmethod
    def of(cls, view: View) -> _Filters | None:
        """The last filters of a space in front of its reader; None without a BatchNorm behind them."""
        place = view.space.consumers[0]
        signal = view.surgery.channels.inputs[place.module][place.segment].signal
        modules = [view.surgery.model.get_submodule(name) for name, _ in signal.blocks[0].modules] if signal else []
        if signal is None or len(signal.blocks) > 1 or len(modules) > 2 or isinstance(modules[0], Normalisation):
            raise UsageError(f"neuron merging cannot take {view.layer}: expected one layer, with a BatchNorm or none")
        if len(modules) == 1:
            return None
        filters, norm = modules
        gamma, beta, mean = (as_float64(column) for column in (norm.weight, norm.bias, norm.running_mean))
        sigma = np.sqrt(as_float64(norm.running_var) + norm.eps)
        return cls(as_float64(filters.weight.flatten(1)), gamma, beta, mean, sigma)

    def decomposed(self, kept: Indices, weight: float, threshold: float) -> Floats:
        """Share (m, k) of each kept filter."""
        cosine = similarity.cosine_similarity(self.weights)[:, kept]
        scale, distance = self._scale_and_distance(kept)
        possible = (scale > 0.0) & np.isfinite(scale) & np.isfinite(distance)
        lowest = np.where(possible, distance, np.inf).min(axis=1, keepdims=True)
        range_ = np.where(possible, distance, -np.inf).max(axis=1, keepdims=True) - lowest
        with np.errstate(invalid="ignore"):
            relative = (distance - lowest) / np.where(range_ > 0.0, range_, 1.0)
            score = np.where(possible, weight * (1.0 - cosine) + (1.0 - weight) * relative, np.inf)
        every = np.arange(len(cosine))
        nearest = score.argmin(axis=1)
        merged = np.isfinite(score[every, nearest]) & (cosine[every, nearest] >= threshold)
        result = np.zeros_like(cosine)
        result[merged, nearest[merged]] = scale[merged, nearest[merged]]
        result[kept] = np.eye(len(kept))
        return result

    def _scale_and_distance(self, kept: Indices) -> tuple[Floats, Floats]:
        """S and |B| / S of y_n = S y_m + B for every filter n and every kept filter m, (m, k) each."""
        norms = np.linalg.norm(self.weights, axis=1)
        slope = self.gamma / self.sigma
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = norms[:, None] / norms[kept]
            scale = ratio * slope[:, None] / slope[kept]
            origin = self.mean[kept] - self.beta[kept] / slope[kept]  # the x_m of y_m = 0
            offset = slope[:, None] * (ratio * origin - self.mean[:, None]) + self.beta[:, None]
            return scale, np.abs(offset) / scale


# ---- SVD


def _ranks(values: Sequence[Floats], shapes: Sequence[Sequence[int]], budget: int) -> list[int]:
    """Rank of each matrix, at least 1, such that all of them together have at most `budget` weights."""
    ranks = [1] * len(values)
    left = budget - sum(_cost(shape, 1) for shape in shapes)
    if left < 0:
        raise UsageError(f"{budget} weights are too few for matrices of rank 1: ask for larger widths")
    worth = [
        (-(value**2) / (singular @ singular) / sum(shape), i)
        for i, (singular, shape) in enumerate(zip(values, shapes, strict=True))
        for value in singular[1:]
    ]
    for _, i in sorted(worth):
        price = _cost(shapes[i], ranks[i] + 1) - _cost(shapes[i], ranks[i])
        if price <= left:
            ranks[i], left = ranks[i] + 1, left - price
    return ranks


def _cost(shape: Sequence[int], rank: int) -> int:
    """Weights of a matrix at a rank: of its two factors, or of itself where it has no more."""
    return min(rank * sum(shape), shape[0] * shape[1])


def _thin(layer: nn.Linear, rank: int, left: Floats, values: Floats, right: Floats) -> list[nn.Module]:
    if _cost(layer.weight.shape, rank) == layer.weight.numel():
        return [copy.deepcopy(layer)]
    root = np.sqrt(values[:rank])
    first = _linear(root[:, None] * right[:rank], np.zeros(rank), layer.weight)
    return [first, nn.Identity(), _linear(left[:, :rank] * root, as_float64(layer.bias), layer.weight)]


def _linear(weight: Floats, bias: Floats, like: torch.Tensor) -> nn.Linear:
    layer = linear(weight.shape[1], weight.shape[0], like=like)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
        layer.bias.copy_(torch.from_numpy(bias))
    return layer
