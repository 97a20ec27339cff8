"""Vectors of channels, with their normalisations folded in, and their similarity.

The vector of a channel is its row of weights with its bias, as a BatchNorm behind it makes them in use (eq. 50)::

    s = gamma / sqrt(variance + eps)        row -> s row        bias -> s (bias - mean) + beta

Where channels are added up, as in a skip connection, their rows are joined. Behind a nonlinearity a depthwise filter
or a normalisation begins a new *stage*: its row is the filter times the length of the vector before it, and its bias.
Two channels are one up to a factor where the vectors of every stage are parallel, so the similarity of two channels is
the smallest of their stages'. The factor is the ratio of the lengths in the last stage.

That holds for activations that are positively homogeneous (ReLU). Where one is not (ReLU6, GELU), only equal vectors
give equal channels, and the cosine is multiplied by the ratio of the geometric mean of the two squared lengths to the
arithmetic one, which is 1 for equal lengths only. A similarity is 1 for what is equal to the rounding of the weights'
type, and below 1 for everything else.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from chemnet.condensation import similarity
from chemnet.condensation.channels import Channels
from chemnet.condensation.columns import gathered
from chemnet.condensation.graph import (
    Block,
    Floats,
    Indices,
    Instance,
    Normalisation,
    Place,
    Signal,
    Space,
    Together,
    Transposed,
    as_float64,
)
from chemnet.condensation.vectors import Vector, parts_of
from chemnet.runtime.errors import NumericalError


class Folded:
    """The vectors of the channels of one space of a model, as its weights are now."""

    def __init__(self, model: nn.Module, channels: Channels, space: Space) -> None:
        self._modules = parts_of(model)
        self._channels, self._space = channels, space
        self._parts: dict[Signal, list[tuple[Floats, Floats]]] = {}

    def similarity(self, *, include_bias: bool = True, assume_homogeneous: bool = False) -> Floats:
        """Similarity of every two channels (m, m) [-], -1 to 1; the cosine alone where activations are assumed to be
        homogeneous."""
        homogeneous = assume_homogeneous or self.is_homogeneous
        return smallest(
            alike(self.vectors(signal, include_bias), homogeneous, self._rounding) for signal in self._signals()
        )

    def magnitudes(self, place: Place, include_bias: bool = True) -> Floats:
        """Lengths of the channels' last vectors where a module reads them (m,); the factors between like channels."""
        lengths: Floats = np.linalg.norm(self.vectors(self._signal(place), include_bias), axis=1)
        return lengths

    def varying(self) -> NDArray[np.bool_]:
        """Channels (m,) that depend on the inputs of the model wherever they are read, judged by the weights alone."""
        result: NDArray[np.bool_] = np.any([self._varies(self._signal(p)) for p in self._space.consumers], axis=0)
        return result

    @property
    def is_homogeneous(self) -> bool:
        """Whether all activations of the space are positively homogeneous."""
        return self._space.is_homogeneous

    @property
    def _rounding(self) -> float:
        """Relative differences of copies that rounding makes."""
        return rounding(self._modules[self._space.layers[0]].weight.dtype)

    def vectors(self, signal: Signal, include_bias: bool = True) -> Floats:
        """The vectors (m, d) of a signal."""
        parts = self._weights(signal)
        return np.column_stack([part for pair in parts for part in (pair if include_bias else pair[:1])])

    def _weights(self, signal: Signal) -> list[tuple[Floats, Floats]]:
        if signal not in self._parts:
            self._parts[signal] = [self._block(block) for block in signal.blocks]
        return self._parts[signal]

    def _varies(self, signal: Signal) -> NDArray[np.bool_]:
        """Channels of a signal with weights, on inputs that vary themselves, or mixed with others (m,)."""
        if signal.is_mixed:
            return np.ones(self._space.width, dtype=np.bool_)
        found = [
            rows.any(axis=1) & (True if block.before is None else self._varies(block.before))
            for block, (rows, _) in zip(signal.blocks, self._weights(signal), strict=True)
        ]
        return np.any(found, axis=0)

    def _signal(self, place: Place) -> Signal:
        signal = self._channels.inputs[place.module][place.segment].signal
        assert signal is not None
        return signal

    def _signals(self) -> list[Signal]:
        """Signals whose vectors have to be parallel: at every reader and before every stage, no parts of others."""
        waiting = [self._channels.inputs[p.module][p.segment].signal for p in self._space.consumers]
        every: dict[tuple[Block, ...], Signal] = {}
        while waiting:
            signal = waiting.pop()
            if signal is not None and signal.blocks not in every:
                every[signal.blocks] = signal
                waiting += [block.before for block in signal.blocks]
        parts = [set(blocks) for blocks in every]
        return [signal for blocks, signal in every.items() if not any(set(blocks) < other for other in parts)]

    def _block(self, block: Block) -> tuple[Floats, Floats]:
        """Weights (m, d) and bias (m, 1 or more) of a block."""
        (first, position), *norms = block.modules
        module = self._modules[first]
        if block.before is None:
            weight = as_float64(
                module.weight.transpose(0, 1) if isinstance(module, Transposed | nn.Embedding) else module.weight
            )
            table = self._channels.rows_of(first)
            rows, bias = (_by_channel(x, table) for x in (weight.reshape(len(weight), -1), _bias(module, len(weight))))
        else:
            table = self._channels.columns_of(Place(first, position))
            rows, bias = (_by_channel(values, table) for values in _followed(module))
            rows = rows * np.linalg.norm(self.vectors(block.before), axis=1)[:, None, None]
        for norm in norms:
            columns = self._channels.columns_of(Place(*norm))
            scale, shift = (_by_channel(values, columns) for values in scale_and_shift(self._modules[norm[0]]))
            rows, bias = _times(rows, scale), _times(bias, scale) + _times(np.ones_like(bias), shift)
        rows, bias = (values.reshape(self._space.width, -1) for values in (rows, bias))
        if not (np.isfinite(rows).all() and np.isfinite(bias).all()):
            raise NumericalError(f"the weights of {first} are not all finite")
        return rows, bias


def _by_channel(values: Floats, table: Indices) -> Floats:
    """Values of a module (n,) or (n, d) as (m, r, d) of the channels in r of its rows or columns; zeros for none."""
    result: Floats = gathered(torch.from_numpy(values.reshape(len(values), -1)), table).numpy()
    return result


def _times(values: Floats, factors: Floats) -> Floats:
    """Values (m, r, d) times the factors (m, r, 1) of the same rows, or each by each where there are other rows."""
    if factors.shape[1] in (1, values.shape[1]):
        return values * factors
    return (values[:, None] * factors[:, :, None]).reshape(len(values), -1, values.shape[2])


def _followed(module: nn.Module) -> tuple[Floats, Floats]:
    """Weights (n, d) and biases (n,) of a module that follows its n channels one by one."""
    if isinstance(module, Normalisation):
        return scale_and_shift(module)
    if isinstance(module, Instance | Together):
        return _affine(module)
    weight = as_float64(module.weight)
    if isinstance(module, Vector):  # in whatever way it is used, it has to be the same
        largest = max(np.abs(weight).max(), np.finfo(float).tiny)
        return np.column_stack([np.ones(len(weight)), weight / largest]), np.zeros(len(weight))
    if isinstance(module, nn.PReLU):
        return np.column_stack([np.ones_like(weight), weight]), np.zeros(len(weight))
    return weight.reshape(len(weight), -1), _bias(module, len(weight))


def scale_and_shift(norm: nn.Module) -> tuple[Floats, Floats]:
    """Factor and offset of each channel in a BatchNorm in evaluation mode (m,)."""
    scale = 1.0 / np.sqrt(as_float64(norm.running_var) + norm.eps)
    if norm.weight is not None:
        scale = scale * as_float64(norm.weight)
    shift = -as_float64(norm.running_mean) * scale
    return scale, shift if norm.bias is None else shift + as_float64(norm.bias)


def _affine(norm: nn.Module) -> tuple[Floats, Floats]:
    """Factors (n,) or (n, d) and offsets of the channels behind a normalisation by the statistics of its input."""
    if norm.weight is None:
        return np.ones(norm.num_features), np.zeros(norm.num_features)
    weight, bias = norm.weight.flatten(1) if norm.weight.ndim > 1 else norm.weight, getattr(norm, "bias", None)
    return as_float64(weight), np.zeros(len(weight)) if bias is None else as_float64(bias).reshape(len(weight), -1)


def smallest(matrices: Iterable[Floats]) -> Floats:
    """Smallest entries of square matrices (m, m)."""
    return reduce(np.minimum, matrices)


def alike(vectors: Floats, is_homogeneous: bool, rounding: float = similarity.ROUNDING) -> Floats:
    """Similarity of the rows (m, m), 1 where they are equal to `rounding`; two of zeros are the same."""
    result = similarity.cosine_similarity(vectors, rounding)
    lengths = np.linalg.norm(vectors, axis=1)
    zero = lengths == 0.0
    if not is_homogeneous:
        squares = lengths**2
        means = 0.5 * (squares[:, None] + squares)
        result = result * np.outer(lengths, lengths) / np.where(means > 0.0, means, 1.0)
        result = similarity.with_copies(result, vectors, rounding)
    if zero.any():
        result[np.ix_(zero, zero)] = 1.0
    return result


def rounding(dtype: torch.dtype) -> float:
    """Differences between copies that rounding makes, relative to what is typical."""
    return similarity.ROUNDING * torch.finfo(dtype).eps / torch.finfo(torch.float32).eps


def _bias(module: nn.Module, count: int) -> Floats:
    bias = getattr(module, "bias", None)
    return np.zeros(count) if bias is None else as_float64(bias)


def layer_vectors(layer: nn.Linear, include_bias: bool = True) -> Floats:
    """Weights of the neurons of a layer, with their biases unless left out (m, d [+ 1]); zeros for those without
    weights, whose output is constant."""
    rows = as_float64(layer.weight)
    vectors = np.column_stack([rows, _bias(layer, len(rows))]) if include_bias else rows.copy()
    vectors[~rows.any(axis=1)] = 0.0
    return vectors
