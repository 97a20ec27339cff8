"""Truncated singular value decomposition: all neurons stay, matrices become products of two thin ones."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from chemnet.condensation.graph import Floats, as_float64
from chemnet.reduction.narrowing import Narrowing, Target
from chemnet.runtime.errors import UsageError
from chemnet.surrogate.network import linear


def svd(network: nn.Sequential, target: Target, calibration: torch.Tensor, seed: int) -> nn.Sequential:
    """All neurons stay; matrices become products of two thin ones by truncated singular value decomposition.

    There are as many weights, without biases, as at the hidden widths of the target, or a few less. They go to the
    singular values with the largest share of their matrix (squared) per weight. A matrix (m, n) at rank r is
    Linear(n, r), Identity, Linear(r, m); one whose rank would need no fewer weights than it has stays whole.
    Raises UsageError where the weights do not suffice for rank 1.
    """
    layers = [module for module in network if type(module) is nn.Linear]
    widths = Narrowing(network, target, calibration).widths.values()
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
