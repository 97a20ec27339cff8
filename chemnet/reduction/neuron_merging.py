"""Neuron Merging: dropped neurons are decomposed onto the kept ones that are most like them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from chemnet.condensation import similarity
from chemnet.condensation.choices import View
from chemnet.condensation.graph import Floats, Indices, Normalisation, as_float64
from chemnet.reduction.narrowing import Narrowing, Target, largest
from chemnet.runtime.errors import UsageError


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
            kept = largest(np.linalg.norm(vectors, ord=norm or 2, axis=1), width)
            return kept, _decomposed(vectors, kept, 0.45 if threshold is None else threshold)
        kept = largest(np.linalg.norm(filters.weights, ord=norm or 1, axis=1), width)
        return kept, filters.decomposed(kept, weight, 0.1 if threshold is None else threshold)

    return Narrowing(network, target, calibration).reduced(choose)


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
