"""Folding: channels with like weights become one with the mean of their weights, and its readers add up what they had.

Sources: D. Wang, Sikic, Thiele, Saukh, "Forget the Data and Fine-Tuning! Just Fold the Network to Compress" (ICLR
2025), which groups by k-means; Chen, Zhou, Yan, "Going Beyond Neural Network Feature Similarity: The Network Feature
Complexity and Its Interpretation Using Category Theory" (ICLR 2024), whose iterative feature merging joins the nearest
two channels until few enough are left. Written from the papers' descriptions, not from their programs.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from scipy.cluster.hierarchy import cut_tree, linkage
from torch import nn

from chemnet.condensation import similarity
from chemnet.condensation.channel_vectors import scale_and_shift
from chemnet.condensation.choices import View
from chemnet.condensation.graph import Floats, Indices, Layer, Normalisation, Signal, Space, Transposed, as_float64
from chemnet.condensation.similarity import Grouping
from chemnet.condensation.surgery import Surgery
from chemnet.reduction.narrowing import Narrowing, Target
from chemnet.runtime.errors import UsageError

_ROUNDS = 100  # of k-means, at most
_BATCH = 128  # inputs of one call, by whose own statistics they are normalised


def folding(network: nn.Module, target: Target, calibration: torch.Tensor, seed: int) -> nn.Module:
    """Model folding: groups by k-means of the weights and biases, BatchNorms folded in.

    A merged channel has the mean of its group's weights, as their BatchNorms scale them, and of their biases; its gamma
    is the mean of their sizes. The mean of unlike channels varies less than they do, which the paper repairs by
    statistics of BatchNorms estimated anew (`normalised_anew`).
    """
    narrowing = Narrowing(network, target, calibration)
    return narrowing.merged(lambda view, width: k_means(stacked(view), width, seed), fold)


def iterative_merging(network: nn.Module, target: Target, calibration: torch.Tensor, seed: int) -> nn.Module:
    """Iterative feature merging: the two channels, or groups of them, with the nearest means are joined, and again."""
    return Narrowing(network, target, calibration).merged(lambda view, width: nearest(stacked(view), width), fold)


def normalised_anew(network: nn.Module, inputs: torch.Tensor) -> nn.Module:
    """Copy of a network whose BatchNorms have the statistics of these inputs (n, ...), if it has BatchNorms.

    The statistics of a layer are those behind the layers before it as they normalise a batch by itself.
    """
    result = copy.deepcopy(network)
    with torch.no_grad():
        torch.optim.swa_utils.update_bn(inputs.chunk(-(-len(inputs) // _BATCH)), result)
    return result.train(network.training)


def k_means(vectors: Floats, count: int, seed: int) -> Grouping:
    """Main channel of the group of each of the vectors (m, d): `count` groups by Lloyd's algorithm from k-means++."""
    rng = np.random.default_rng(seed)
    centres = vectors[_spread(vectors, count, rng)]
    labels = np.full(len(vectors), -1)
    for _ in range(_ROUNDS):
        distances = _squared_distances(vectors, centres)
        found = distances.argmin(axis=1)
        _fill(found, distances)
        if np.array_equal(found, labels):
            break
        labels = found
        centres = np.array([vectors[labels == group].mean(axis=0) for group in range(count)])
    return _mains(labels)


def nearest(vectors: Floats, count: int) -> Grouping:
    """Main channel of the group of each of the vectors (m, d): the groups with the nearest means are joined first."""
    if count == len(vectors):
        return np.arange(count)
    return _mains(cut_tree(linkage(vectors, "centroid"), n_clusters=count).ravel())


def _spread(vectors: Floats, count: int, rng: np.random.Generator) -> Indices:
    """Places of `count` vectors, each drawn with the square of its distance from those before (k-means++)."""
    chosen = [int(rng.integers(len(vectors)))]
    left = _squared_distances(vectors, vectors[chosen]).ravel()
    while len(chosen) < count:
        left[chosen] = 0.0
        if left.sum() > 0.0:
            chosen.append(int(rng.choice(len(vectors), p=left / left.sum())))
        else:  # only copies of these are left
            chosen.append(int(np.setdiff1d(np.arange(len(vectors)), chosen)[0]))
        left = np.minimum(left, _squared_distances(vectors, vectors[chosen[-1:]]).ravel())
    return np.array(chosen)


def _squared_distances(vectors: Floats, centres: Floats) -> Floats:
    """Squared distances (m, k)."""
    squares = np.square(vectors).sum(axis=1)[:, None] + np.square(centres).sum(axis=1)
    result: Floats = np.maximum(squares - 2.0 * vectors @ centres.T, 0.0)
    return result


def _fill(labels: Indices, distances: Floats) -> None:
    """Give every empty group, in place, the vector farthest from its centre in a group of several."""
    own = np.take_along_axis(distances, labels[:, None], axis=1).ravel()
    for group in np.setdiff1d(np.arange(distances.shape[1]), labels):
        sizes = np.bincount(labels, minlength=distances.shape[1])
        own[sizes[labels] == 1] = -1.0
        farthest = int(own.argmax())
        labels[farthest], own[farthest] = group, -1.0


def _mains(labels: Indices) -> Grouping:
    """The first channel of the group of each channel (m,)."""
    _, first, group = np.unique(labels, return_index=True, return_inverse=True)
    return first[group]


def stacked(view: View) -> Floats:
    """Vectors (m, d) of what makes the channels: the weights and bias of every stage, BatchNorms folded in."""
    return np.column_stack([view.folded.vectors(signal) for signal in _stages(view.surgery, view.space)])


def fold(surgery: Surgery, space: Space, main_of: Grouping) -> None:
    """Merge the groups of a hidden layer, in place: means of what makes the channels, sums of what reads them.

    Raises UsageError for channels that are not made by one layer and filters behind it, with a BatchNorm each or none.
    """
    kept = similarity.mains(main_of)
    members = (main_of[:, None] == kept).astype(float)
    means = members / members.sum(axis=0)
    for signal in _stages(surgery, space):
        names = [name for name, _ in signal.blocks[0].modules]
        weights, *norms = [surgery.model.get_submodule(name) for name in names]
        _take_means(weights, norms[0] if norms else None, means, kept)
        surgery.rewritten |= set(names[1:])
    surgery.cut(space, kept, dict.fromkeys(space.consumers, members), {})


def _stages(surgery: Surgery, space: Space) -> list[Signal]:
    """Signals behind the layer that makes the channels of a space and behind each of the filters that follow it."""
    place = space.consumers[0]
    signal = surgery.channels.inputs[place.module][place.segment].signal
    stages: list[Signal] = []
    while signal is not None and len(signal.blocks) == 1:
        stages.insert(0, signal)
        signal = signal.blocks[0].before
    kinds = [[surgery.model.get_submodule(name) for name, _ in stage.blocks[0].modules] for stage in stages]
    known = sum(map(len, kinds)) == len(space.layers) + len(space.followers) and space.blocks == 1
    if signal is not None or not known or not all(map(_is_simple, kinds)):
        raise UsageError(f"folding cannot take {space.layers[0]}: expected one layer, with a BatchNorm or none")
    return stages


def _is_simple(modules: list[nn.Module]) -> bool:
    first, *others = modules
    is_layer = isinstance(first, Layer) and not isinstance(first, Transposed)
    return is_layer and len(others) <= 1 and all(isinstance(module, Normalisation) for module in others)


def _take_means(weights: nn.Module, norm: nn.Module | None, means: Floats, kept: Indices) -> None:
    """Give the main channel of each group the means of its group, by the shares `means` (m, k)."""
    rows = as_float64(weights.weight)
    scale, shift = (np.ones(len(rows)), np.zeros(len(rows))) if norm is None else scale_and_shift(norm)
    scaled = scale.reshape(-1, *(1,) * (rows.ndim - 1)) * rows
    _set(weights.weight, np.tensordot(means.T, scaled, axes=1), kept)
    if weights.bias is not None:
        _set(weights.bias, means.T @ (scale * as_float64(weights.bias)), kept)
    if norm is None:
        return
    # the rows hold the scales now: in use the BatchNorm only adds the mean shift
    sizes = means.T @ (np.abs(scale) * np.sqrt(as_float64(norm.running_var) + norm.eps))
    variance = np.maximum(sizes**2 - norm.eps, 0.0)
    offset = np.zeros(len(kept)) if norm.bias is None else means.T @ as_float64(norm.bias)
    _set(norm.running_mean, offset - means.T @ shift, kept)
    _set(norm.running_var, variance if norm.weight is not None else np.full(len(kept), 1.0 - norm.eps), kept)
    if norm.weight is not None:
        _set(norm.weight, np.sqrt(variance + norm.eps), kept)
    if norm.bias is not None:
        _set(norm.bias, offset, kept)


def _set(tensor: torch.Tensor, values: Floats, places: Indices) -> None:
    with torch.no_grad():
        tensor[torch.from_numpy(places)] = torch.from_numpy(values).to(tensor)
