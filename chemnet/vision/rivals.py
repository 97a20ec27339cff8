"""Ways to a smaller MobileNetV2 that condensation is compared with.

Each is a function `(network, share, example, seed)` that gives a new network with at most `share` of the parameters of
the given one, which it leaves as it is; a new one is one function and one line of `RIVALS`. `example` (n, 3, h, w) are
inputs, `seed` is for those that draw at random. All of them are one shot: nothing is trained here.

Each turns one knob until the share is reached, as closely as whole channels allow. So much of the parameters of
`MobileNetV2(10)`, 2.2 million, is missing then:

| | at 0.511 | at 0.115 | at any share, at most |
|---|---|---|---|
| scratch, neuron-merging | 0.001 % | 0.02 % | 0.1 % |
| torch-pruning-magnitude | 0.05 % | 0.04 % | 1 %, where all layers lose a channel at once |
| torch-pruning-group-norm | 0.01 % | 0.04 % | 0.3 %, one channel of the blocks that end in 160; by the weights |

Raises UsageError for a share that is not in (0, 1], or that a way cannot go down to.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from chemnet.condensation import similarity
from chemnet.runtime.errors import UsageError
from chemnet.vision.mobilenet import InvertedResidual, MobileNetV2, count

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Make = Callable[[MobileNetV2, float, torch.Tensor, int], MobileNetV2]
T = TypeVar("T")

_WEIGHT, _THRESHOLD = 0.85, 0.1  # of Neuron Merging in its authors' runs of VGG-16 and ResNet-56 on CIFAR-10
_STEPS, _LARGEST_CUT = 400, 0.8  # of a global ranking by Torch-Pruning
_HALVINGS, _FEW_HALVINGS = 24, 11
_PACKAGE = "torch-pruning"
_NEEDS = {f"{_PACKAGE}-magnitude": _PACKAGE, f"{_PACKAGE}-group-norm": _PACKAGE}  # not required of everyone


def lacks(name: str) -> str | None:
    """What has to be installed before this rival can be tried; None if nothing has."""
    package = _NEEDS.get(name)
    return package if package and importlib.util.find_spec(package.replace("-", "_")) is None else None


def torch_pruning_magnitude(network: MobileNetV2, share: float, example: torch.Tensor, seed: int) -> MobileNetV2:
    """The package Torch-Pruning with its defaults: every layer loses the same ratio of its channels, which is bisected.

    The channels that go are those of the smallest l2 norm (squared, averaged over all layers that the dependency graph
    couples with them; of a depthwise layer the package, 1.6, counts the BatchNorm only). The inputs and outputs of the
    blocks are narrowed too, of the classifier only the inputs.
    Source: Fang, Ma, Song, Mi, Wang, "DepGraph: Towards Any Structural Pruning", CVPR 2023.
    Raises UsageError where the package is not installed.
    """
    tp = _torch_pruning()
    budget = _budget(network, share)

    def make(kept: float) -> MobileNetV2:
        result = copy.deepcopy(network)
        importance = tp.importance.MagnitudeImportance(p=2)
        options = {"importance": importance, "pruning_ratio": 1.0 - kept, "ignored_layers": [result.classifier[-1]]}
        with torch.enable_grad():
            tp.pruner.MagnitudePruner(result, _one(example, network), **options).step()
        return result.train(network.training)

    return _largest(make, count, budget, _FEW_HALVINGS)


def torch_pruning_group_norm(
    network: MobileNetV2,
    share: float,
    example: torch.Tensor,
    seed: int,
    *,
    largest_cut: float = _LARGEST_CUT,
    steps: int = _STEPS,
) -> MobileNetV2:
    """Torch-Pruning as its authors prune a trained network without sparse training: by group norms, over all layers.

    The options are those of `group_norm` in their scripts: l2 norms of coupled weights, relative to the mean of their
    group; one ranking of all channels of all layers (`global_pruning`); a ratio that grows in 400 small steps, with new
    norms after each, until the network is small enough. The step that reaches the share ends with the channel that
    does. Fewer steps are faster and give nearly the same widths.

    `largest_cut` is the ratio of its channels that a layer may lose (the package checks it between steps): without it
    some layers end with a single channel. For MobileNetV2 the authors take 0.7; with that a share of 0.115 is reached
    only when all layers are at the limit, and by leaps, thus 0.8 here.
    Source and exceptions: as for `torch_pruning_magnitude`.
    """
    tp = _torch_pruning()
    budget = _budget(network, share)
    result = copy.deepcopy(network)
    options = {"pruning_ratio": 1.0, "iterative_steps": steps, "max_pruning_ratio": largest_cut, "global_pruning": True}
    with torch.enable_grad():
        pruner = tp.pruner.GroupNormPruner(
            result,
            _one(example, network),
            tp.importance.GroupMagnitudeImportance(p=2),
            ignored_layers=[result.classifier[-1]],
            **options,
        )
    surplus = count(result) - budget
    for _ in range(steps):
        for group in pruner.step(interactive=True) if surplus > 0 else ():
            surplus = _prune(group, pruner.DG, surplus)
    if surplus > 0:
        raise _out_of_reach(budget)
    return result.train(network.training)


def neuron_merging(
    network: MobileNetV2,
    share: float,
    example: torch.Tensor,
    seed: int,
    *,
    weight: float = _WEIGHT,
    threshold: float = _THRESHOLD,
) -> MobileNetV2:
    """The filters of largest l1 norm stay; each other one is decomposed onto the kept one that is most like it.

    Filters are alike by the cosine of their weights and by their BatchNorms. For parallel filters w_n = s w_m, s > 0,
    BatchNorm gives y_n = S y_m + B. The kept m has the lowest score

        weight (1 - cosine) + (1 - weight) |B| / S,        |B| / S scaled to [0, 1] over the kept ones

    and gets S times the outgoing weights of n, unless the cosine is below `threshold`. The same share of the channels
    stays in every block and of the 1280 before the classifier; it is bisected.

    The paper treats no depthwise layers, no ReLU6 and no limits of S. Decided here: the filters of a block are its
    3 x 3 depthwise ones, which the projection follows, so that two of them count as parallel though their inputs, the
    expanded channels, differ; the expansion's rows of dropped channels go with them (in the block without expansion,
    the rows of the stem). ReLU6 passes S on only below its 6. S <= 0, which no ReLU passes on, and an S or |B| / S that
    is not finite (gamma = 0) rule a pair out. S is s (gamma_n / sigma_n) (sigma_m / gamma_m), exact for parallel
    filters; the authors' program has the two ratios the wrong way round, and the variance in place of sigma.
    Source: Kim, Kim, Park, Jeon, "Neuron Merging: Compensating for Pruned Neurons", NeurIPS 2020, algorithms 1 and 3.
    """
    layers = _layers(network)
    filters = [_Filters.of(layer) for layer in layers]
    kept = [
        np.sort(np.argsort(-np.abs(one.weights).sum(axis=1), kind="stable")[:width])
        for one, width in zip(filters, _widths(network, share), strict=True)
    ]
    result = copy.deepcopy(network)
    for layer, one, chosen in zip(_layers(result), filters, kept, strict=True):
        outgoing = layer.following.weight.data
        merged = _numpy(outgoing.flatten(1)) @ _shares(one, chosen, weight, threshold)
        outgoing[:, chosen] = torch.from_numpy(merged).to(outgoing).reshape(len(outgoing), -1, *outgoing.shape[2:])
    return narrowed(result, kept)


def scratch(network: MobileNetV2, share: float, example: torch.Tensor, seed: int) -> MobileNetV2:
    """An untrained network: every hidden width times one factor, which is bisected; block outputs as they are."""
    result = narrowed(network, [np.arange(width) for width in _widths(network, share)])
    start_anew(result, seed)
    return result


def start_anew(network: nn.Module, seed: int) -> None:
    """Give a network, in place, the weights that a new one of its widths begins with."""
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


RIVALS: dict[str, Make] = {
    "scratch": scratch,
    "neuron-merging": neuron_merging,
    "torch-pruning-magnitude": torch_pruning_magnitude,
    "torch-pruning-group-norm": torch_pruning_group_norm,
}


def narrowed(network: MobileNetV2, kept: Sequence[Indices]) -> MobileNetV2:
    """A new network with these channels only: of the 17 blocks' hidden layers, then of the layer before the classifier.

    A channel goes with all that leads into it and out of it; nothing makes up for it.
    """
    result = copy.deepcopy(network)
    for layer, chosen in zip(_layers(result), kept, strict=True):
        index = torch.from_numpy(np.asarray(chosen)).to(layer.following.weight.device)
        for convolution, norm in layer.leading:
            _keep_outputs(convolution, norm, index)
        _keep_inputs(layer.following, index)
    return result


class _Layer(NamedTuple):
    """Channels that can go: `leading` are the convolutions, each with its BatchNorm, whose outputs they are."""

    leading: Sequence[tuple[nn.Conv2d, nn.BatchNorm2d]]
    following: nn.Conv2d | nn.Linear

    @property
    def width(self) -> int:
        return len(self.leading[0][0].weight)

    def price(self) -> int:
        """Parameters that go with one channel."""
        return sum(w.weight[0].numel() + 2 for w, _ in self.leading) + len(self.following.weight)


def _layers(network: MobileNetV2) -> list[_Layer]:
    """The hidden layers of the blocks and the layer before the classifier."""
    stem, *blocks, last = network.features
    before = (stem[0], stem[1])  # what the block without expansion filters are the channels of the stem
    layers = []
    for block in blocks:
        assert isinstance(block, InvertedResidual)
        *convolutions, project, _ = block.conv
        pairs = [(one[0], one[1]) for one in convolutions]
        layers.append(_Layer(pairs if len(pairs) == 2 else [before, *pairs], project))
    return [*layers, _Layer([(last[0], last[1])], network.classifier[-1])]


def _keep_outputs(convolution: nn.Conv2d, norm: nn.BatchNorm2d, index: torch.Tensor) -> None:
    convolution.weight = _rows(convolution.weight, index)
    convolution.out_channels = norm.num_features = len(index)
    if convolution.groups > 1:
        convolution.in_channels = convolution.groups = len(index)
    norm.weight, norm.bias = _rows(norm.weight, index), _rows(norm.bias, index)
    norm.running_mean, norm.running_var = norm.running_mean[index], norm.running_var[index]


def _keep_inputs(layer: nn.Conv2d | nn.Linear, index: torch.Tensor) -> None:
    layer.weight = nn.Parameter(layer.weight.detach()[:, index], requires_grad=layer.weight.requires_grad)
    setattr(layer, "in_features" if isinstance(layer, nn.Linear) else "in_channels", len(index))


def _rows(parameter: nn.Parameter, index: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(parameter.detach()[index], requires_grad=parameter.requires_grad)


# ---- how much stays


def _budget(network: MobileNetV2, share: float) -> int:
    """The largest number of parameters that is not above the share."""
    if not 0.0 < share <= 1.0:
        raise UsageError(f"share {share} of the parameters: choose one in (0, 1]")
    return int(share * count(network) + 1e-6)


def _widths(network: MobileNetV2, share: float) -> list[int]:
    """The largest widths of `_layers` in proportion to the given ones with which the share is not exceeded."""
    layers = _layers(network)
    fixed = count(network) - sum(layer.width * layer.price() for layer in layers)

    def make(kept: float) -> list[int]:
        return [max(1, round(kept * layer.width)) for layer in layers]

    def size(widths: list[int]) -> int:
        return fixed + sum(width * layer.price() for width, layer in zip(widths, layers, strict=True))

    return _largest(make, size, _budget(network, share), _HALVINGS)


def _largest(make: Callable[[float], T], size: Callable[[T], int], budget: int, halvings: int) -> T:
    """What `make` gives at the largest number in (0, 1] at which its size is within the budget."""
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
    return UsageError(f"{budget} parameters are too few for this way to a smaller network: ask for a larger share")


# ---- Torch-Pruning


def _torch_pruning() -> Any:
    if lacks(f"{_PACKAGE}-magnitude"):
        raise UsageError(f"this needs a package that is not installed: pip install {_PACKAGE}")
    return importlib.import_module("torch_pruning")


def _one(example: torch.Tensor, network: MobileNetV2) -> torch.Tensor:
    return example[:1].to(network.classifier[-1].weight)


def _prune(group: Any, graph: Any, surplus: int) -> int:
    """Prune as many channels of a group as it takes to be rid of `surplus` parameters, or all in it; what is left."""
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


@dataclass(frozen=True)
class _Filters:
    """The filters of a layer (m, d) and of the BatchNorm behind it gamma, beta, mean and sigma, (m,) each."""

    weights: Floats
    gamma: Floats
    beta: Floats
    mean: Floats
    sigma: Floats

    @classmethod
    def of(cls, layer: _Layer) -> _Filters:
        convolution, norm = layer.leading[-1]
        sigma = np.sqrt(_numpy(norm.running_var) + norm.eps)
        vectors = _numpy(convolution.weight.flatten(1))
        return cls(vectors, _numpy(norm.weight), _numpy(norm.bias), _numpy(norm.running_mean), sigma)


def _shares(filters: _Filters, kept: Indices, weight: float, threshold: float) -> Floats:
    """Which kept filter stands in for which, and how strongly: (m, k)."""
    cosine = similarity.cosine_similarity(filters.weights)[:, kept]
    scale, distance = _scale_and_distance(filters, kept)
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


def _scale_and_distance(filters: _Filters, kept: Indices) -> tuple[Floats, Floats]:
    """S and |B| / S of y_n = S y_m + B for every filter n and every kept filter m, (m, k) each."""
    norms = np.linalg.norm(filters.weights, axis=1)
    slope = filters.gamma / filters.sigma
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = norms[:, None] / norms[kept]
        scale = ratio * slope[:, None] / slope[kept]
        origin = filters.mean[kept] - filters.beta[kept] / slope[kept]  # the x_m of y_m = 0
        offset = slope[:, None] * (ratio * origin - filters.mean[:, None]) + filters.beta[:, None]
        return scale, np.abs(offset) / scale


def _numpy(tensor: torch.Tensor) -> Floats:
    array: Floats = tensor.detach().to("cpu", torch.float64).numpy()
    return array
