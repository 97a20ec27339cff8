"""Ways to a small network out of a trained large one: condensation, and what it has to be compared with.

Each is a function `(network, widths, calibration, seed)` that gives a new network with exactly these hidden widths and
leaves the given one as it is; a new one is one function and one line of `RIVALS`. `network` is one that
`network.build` could have made, `calibration` (n, m_in) are inputs of it, `seed` is for those that draw at random.

Most of them keep some neurons of each layer and give their outgoing weights a share of the others'. Layer by layer::

    W'_l = (W_l S_{l-1})[kept_l]        S_l (m, k): which kept neuron stands in for which, and how strongly

Neurons are chosen in the network as it was trained; a refit then brings each layer of the small network closest to
what the large one gives there.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from chemnet.condensation import dense, selection, similarity
from chemnet.condensation.rules import Cut, Rule
from chemnet.runtime.config import parse
from chemnet.runtime.errors import UsageError
from chemnet.surrogate.network import NetConfig, build, describe, linear

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Make = Callable[[nn.Sequential, Sequence[int], torch.Tensor, int], nn.Sequential]

_RIDGE = 1e-3  # of a refit, relative to the mean diagonal of the Gram matrix
_LARGER_RIDGES = tuple(10.0**power for power in range(-3, 5))
_MERGING_THRESHOLD = 0.45  # of Neuron Merging in its authors' runs on fully connected layers
_NEEDS = {"torch-pruning": "torch_pruning"}  # packages that are not required of everyone


def lacks(name: str) -> str | None:
    """What has to be installed before this rival can be tried; None if nothing has."""
    package = _NEEDS.get(name)
    return name if package and importlib.util.find_spec(package) is None else None


def unreduced(network: nn.Sequential, widths: Sequence[int], calibration: torch.Tensor, seed: int) -> nn.Sequential:
    """The large network itself; the widths are not for it."""
    return copy.deepcopy(network)


def scratch(network: nn.Sequential, widths: Sequence[int], calibration: torch.Tensor, seed: int) -> nn.Sequential:
    """An untrained network of these widths with the same activation, initialised as is usual."""
    _check(network, widths)
    large = describe(network)
    ends = large.widths[0], large.widths[-1]
    config = NetConfig(widths=(ends[0], *widths, ends[1]), activation=large.activation, initialisation="default")
    return build(config, seed).to(network[0].weight)


def condensation(
    network: nn.Sequential,
    widths: Sequence[int],
    calibration: torch.Tensor,
    seed: int,
    *,
    choice: str = "cosine",
    merge: str = "refit",
) -> nn.Sequential:
    """Condensation by one of the choices of neurons and merges of `cuts.Rule`."""
    _check(network, widths)
    cuts = [Cut(layer=layer, width=width) for layer, width in enumerate(widths, start=1)]
    return dense.condense_layers(network, cuts, parse(Rule, {"choice": choice, "merge": merge}, "rule"), calibration)


def magnitude(network: nn.Sequential, widths: Sequence[int], calibration: torch.Tensor, seed: int) -> nn.Sequential:
    """The neurons with the largest product of the norms of incoming and outgoing weights; the others are dropped."""
    return _reduced(network, widths, calibration, lambda layer, width: _alone(_largest(layer.saliency(), width), layer))


def random(network: nn.Sequential, widths: Sequence[int], calibration: torch.Tensor, seed: int) -> nn.Sequential:
    """Neurons drawn at random, then a refit: what a refit is worth without any choice."""
    rng = np.random.default_rng(seed)

    def choose(layer: _Layer, width: int) -> _Kept:
        return _alone(np.sort(rng.choice(layer.width, width, replace=False)), layer)

    return _reduced(network, widths, calibration, choose, _refit)


def neuron_merging(
    network: nn.Sequential,
    widths: Sequence[int],
    calibration: torch.Tensor,
    seed: int,
    *,
    norm: int = 2,
    threshold: float = _MERGING_THRESHOLD,
) -> nn.Sequential:
    """The neurons of largest l1 or l2 `norm` stay; each other one is decomposed onto the kept one most similar to it.

    The kept neuron's outgoing weights receive those of the other times the ratio of their l2 norms, where their cosine
    similarity is at least `threshold`; otherwise they are dropped. A neuron's vector is its weights and its bias.
    Source: Kim, Kim, Park, Jeon, "Neuron Merging: Compensating for Pruned Neurons", NeurIPS 2020, algorithms 1 and 2
    without batch normalisation.
    """

    def choose(layer: _Layer, width: int) -> _Kept:
        kept = _largest(np.linalg.norm(layer.vectors, ord=norm, axis=1), width)
        likeness = similarity.cosine_similarity(layer.vectors)[:, kept]
        nearest = likeness.argmax(axis=1)
        norms = np.linalg.norm(layer.vectors, axis=1)
        result = _alone(kept, layer)
        merged = np.setdiff1d(np.flatnonzero((likeness.max(axis=1) >= threshold) & (norms > 0.0)), kept)
        result.share[merged, nearest[merged]] = norms[merged] / norms[kept[nearest[merged]]]
        return result

    return _reduced(network, widths, calibration, choose)


def torch_pruning(network: nn.Sequential, widths: Sequence[int], calibration: torch.Tensor, seed: int) -> nn.Sequential:
    """The package Torch-Pruning (1.4 or newer): its dependency graph, and its magnitude importance of coupled weights.

    Source: Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023.
    Raises UsageError where the package is not installed.
    """
    if lacks("torch-pruning"):
        raise UsageError("this needs a package that is not installed: pip install torch-pruning")
    tp = importlib.import_module("torch_pruning")
    _check(network, widths)
    result = copy.deepcopy(network)
    graph = tp.DependencyGraph().build_dependency(result, example_inputs=calibration[:2].to(result[0].weight))
    importance = tp.importance.MagnitudeImportance(p=2)
    for layer, width in zip(_linears(result)[:-1], widths, strict=True):
        every = graph.get_pruning_group(layer, tp.prune_linear_out_channels, idxs=list(range(layer.out_features)))
        dropped = importance(every).argsort()[: layer.out_features - width].tolist()
        if dropped:
            graph.get_pruning_group(layer, tp.prune_linear_out_channels, idxs=dropped).prune()
    return result


def svd(network: nn.Sequential, widths: Sequence[int], calibration: torch.Tensor, seed: int) -> nn.Sequential:
    """All neurons stay; matrices become products of two thin ones by truncated singular value decomposition.

    There are as many weights, without biases, as at the given widths, or a few less. They go to the singular values
    with the largest share of their matrix (squared) per weight. A matrix (m, n) at rank r is Linear(n, r), Identity,
    Linear(r, m); one whose rank would need no fewer weights than it has stays whole.
    Raises UsageError where the weights do not suffice for rank 1.
    """
    _check(network, widths)
    ends = network[0].in_features, _linears(network)[-1].out_features
    sizes = [ends[0], *widths, ends[1]]
    budget = sum(a * b for a, b in itertools.pairwise(sizes))
    factors = [np.linalg.svd(_numpy(layer.weight), full_matrices=False) for layer in _linears(network)]
    ranks = iter(_ranks([values for _, values, _ in factors], [_shape(layer) for layer in _linears(network)], budget))
    decomposed = iter(factors)
    modules: list[nn.Module] = []
    for module in network:
        if type(module) is not nn.Linear:
            modules.append(copy.deepcopy(module))
        else:
            modules += _thin(module, next(ranks), *next(decomposed))
    return nn.Sequential(*modules)


def by_groups(
    network: nn.Sequential,
    widths: Sequence[int],
    calibration: torch.Tensor,
    seed: int,
    *,
    likeness: str = "weights",
    bound: float | None = None,
) -> nn.Sequential:
    """Condensation by another `likeness` of neurons, or with a refit whose row norms are bounded.

    Neurons are alike by their `weights` (as published), by their `activations` on the calibration states, or by both:
    the mean of the two similarities. With `bound` the refit's ridge is the smallest power of ten, from 1e-3 on, at
    which no row of a layer has a norm above `bound` times the largest before the refit.
    """

    def choose(layer: _Layer, width: int) -> _Kept:
        return layer.grouped(likeness, width)

    return _reduced(network, widths, calibration, choose, _refit if bound is None else partial(_bounded_refit, bound))


RIVALS: dict[str, Make] = {
    "unreduced": unreduced,
    "scratch": scratch,
    "condensation": condensation,
    "condensation-paper": partial(condensation, merge="paper"),
    "condensation-activations": partial(by_groups, likeness="activations"),
    "condensation-both": partial(by_groups, likeness="both"),
    "condensation-bounded": partial(by_groups, bound=2.0),
    "qr": partial(condensation, choice="qr"),
    "forward": partial(condensation, choice="forward"),
    "random": random,
    "magnitude": magnitude,
    "torch-pruning": torch_pruning,
    "neuron-merging": neuron_merging,
    "svd": svd,
}


@dataclass(frozen=True)
class _Kept:
    """What stays of a layer of m neurons: `neurons` (k,), ascending, and their `share` (m, k) of outgoing weights."""

    neurons: Indices
    share: Floats


class _Layer:
    """One hidden layer of a trained network: `vectors` (m, d + 1) are its weights with its biases."""

    def __init__(self, network: nn.Sequential, number: int, calibration: torch.Tensor) -> None:
        here, following = _linears(network)[number : number + 2]
        self.vectors = np.column_stack([_numpy(here.weight), _numpy(here.bias)])
        self.outgoing = _numpy(following.weight)
        self.width = len(self.vectors)
        self._before = network[: _positions(network)[number + 1]]
        self._calibration = calibration

    def saliency(self) -> Floats:
        """|v_k| |u_k| of each neuron (m,)."""
        product: Floats = np.linalg.norm(self.vectors, axis=1) * np.linalg.norm(self.outgoing, axis=0)
        return product

    def activations(self) -> Floats:
        """Activations on the calibration states (n, m) about their means, which the next bias takes up."""
        values = _run(self._before, self._calibration)
        return values - values.mean(axis=0)

    def grouped(self, likeness: str, width: int) -> _Kept:
        """Groups of like neurons, each led by its main one."""
        rows = self.activations().T if likeness != "weights" else self.vectors
        matrix = similarity.cosine_similarity(rows)
        if likeness == "both":
            matrix = 0.5 * (matrix + similarity.cosine_similarity(self.vectors))
        main_of, _ = similarity.group_to_width(matrix, width)
        mains = similarity.mains(main_of)
        idle = np.flatnonzero(main_of == similarity.NO_GROUP)[: width - len(mains)]
        kept = np.sort(np.concatenate([mains, idle]))
        result = _alone(kept, self)
        norms = np.linalg.norm(rows, axis=1)
        members = np.flatnonzero(main_of != similarity.NO_GROUP)
        result.share[members, np.searchsorted(kept, main_of[members])] = norms[members] / norms[main_of[members]]
        return result


Choose = Callable[[_Layer, int], _Kept]
Refit = Callable[[Floats, Floats, Floats, Floats], tuple[Floats, Floats]]


def _reduced(
    network: nn.Sequential, widths: Sequence[int], calibration: torch.Tensor, choose: Choose, refit: Refit | None = None
) -> nn.Sequential:
    """The network with the neurons that `choose` takes of each layer, its later layers refitted where asked for."""
    _check(network, widths)
    kept = [choose(_Layer(network, i, calibration), width) for i, width in enumerate(widths)]
    inputs, outputs = network[0].in_features, _linears(network)[-1].out_features
    shares = [np.eye(inputs), *(one.share for one in kept)]
    rows = [*(one.neurons for one in kept), np.arange(outputs)]
    result = copy.deepcopy(network)
    for place, layer, share, chosen in zip(_positions(network), _linears(network), shares, rows, strict=True):
        weight, bias = (_numpy(layer.weight) @ share)[chosen], _numpy(layer.bias)[chosen]
        if refit is not None and place > 0:
            target = _run(network[: place + 1], calibration)[:, chosen]
            weight, bias = refit(_run(result[:place], calibration), target, weight, bias)
        result[place] = _linear(weight, bias, layer.weight)
    return result


def _refit(
    activations: Floats, target: Floats, weight: Floats, bias: Floats, ridge: float = _RIDGE
) -> tuple[Floats, Floats]:
    fitted, offset = selection.refit(activations, target, weight, bias, ridge)
    assert offset is not None
    return fitted, offset


def _bounded_refit(
    bound: float, activations: Floats, target: Floats, weight: Floats, bias: Floats
) -> tuple[Floats, Floats]:
    """A refit at the smallest ridge at which the row norms stay within `bound`; without any, no refit."""
    largest = bound * np.linalg.norm(weight, axis=1).max()
    for ridge in _LARGER_RIDGES:
        fitted, offset = _refit(activations, target, weight, bias, ridge)
        if np.linalg.norm(fitted, axis=1).max() <= largest:
            return fitted, offset
    return weight, bias


def _largest(scores: Floats, width: int) -> Indices:
    """Places of the `width` largest scores, ascending; the lower place wins a tie."""
    return np.sort(np.argsort(-scores, kind="stable")[:width])


def _alone(neurons: Indices, layer: _Layer) -> _Kept:
    """These neurons with their own outgoing weights and nothing of the others'."""
    share = np.zeros((layer.width, len(neurons)))
    share[neurons, np.arange(len(neurons))] = 1.0
    return _Kept(neurons, share)


def _ranks(values: Sequence[Floats], shapes: Sequence[tuple[int, int]], budget: int) -> list[int]:
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


def _cost(shape: tuple[int, int], rank: int) -> int:
    """Weights of a matrix at a rank: of its two factors, or of itself where it has no more."""
    return min(rank * sum(shape), shape[0] * shape[1])


def _thin(layer: nn.Linear, rank: int, left: Floats, values: Floats, right: Floats) -> list[nn.Module]:
    if _cost(_shape(layer), rank) == layer.weight.numel():
        return [copy.deepcopy(layer)]
    root = np.sqrt(values[:rank])
    first = _linear(root[:, None] * right[:rank], np.zeros(rank), layer.weight)
    return [first, nn.Identity(), _linear(left[:, :rank] * root, _numpy(layer.bias), layer.weight)]


def _shape(layer: nn.Linear) -> tuple[int, int]:
    return layer.out_features, layer.in_features


def _check(network: nn.Sequential, widths: Sequence[int]) -> None:
    """UsageError unless the network is one of chemnet's and at least as wide as `widths` everywhere."""
    large = describe(network).widths[1:-1]
    if len(widths) != len(large) or not all(1 <= w <= m for w, m in zip(widths, large, strict=True)):
        raise UsageError(f"hidden widths {list(widths)} do not fit into a network of {list(large)}")


def _linears(network: nn.Sequential) -> list[nn.Linear]:
    return [network[place] for place in _positions(network)]


def _positions(network: nn.Sequential) -> list[int]:
    return [place for place, module in enumerate(network) if type(module) is nn.Linear]


def _linear(weight: Floats, bias: Floats, like: torch.Tensor) -> nn.Linear:
    layer = linear(weight.shape[1], weight.shape[0], like=like)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
        layer.bias.copy_(torch.from_numpy(bias))
    return layer


def _run(part: nn.Sequential, inputs: torch.Tensor) -> Floats:
    weight = next(part.parameters(), inputs)
    with torch.inference_mode():
        return _numpy(part(inputs.to(weight)))


def _numpy(tensor: torch.Tensor) -> Floats:
    array: Floats = tensor.detach().to("cpu", torch.float64).numpy()
    return array
