"""Channels as vectors, with their normalisations folded in, and how alike they are.

The vector of a channel is its row of weights with its bias, as a BatchNorm behind it makes them in use (eq. 50)::

    s = gamma / sqrt(variance + eps)        row -> s row        bias -> s (bias - mean) + beta

Where channels are added up, as in a skip connection, their rows are joined. Behind a nonlinearity a depthwise filter
or a normalisation begins a new *stage*: its row is the filter times the length of the vector before it, and its bias.
Two channels are one up to a factor where the vectors of every stage are parallel, so the similarity of two channels is
the smallest of their stages'. The factor is the ratio of the lengths in the last stage.

That holds for activations that are positively homogeneous (ReLU). Where one is not (ReLU6, GELU), only equal vectors
give equal channels, and the cosine is multiplied by the ratio of the geometric mean of the two squared lengths to the
arithmetic one, which is 1 for equal lengths only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from chemnet.condensation import similarity
from chemnet.condensation.channels import Channels
from chemnet.condensation.graph import Block, Normalisation, Place, Signal, Space, Transposed
from chemnet.runtime.errors import NumericalError

Floats = NDArray[np.float64]
Activation = Callable[[torch.Tensor], torch.Tensor]
_APART = -1.0  # the similarity of channels that must not be merged


class Folded:
    """The vectors of the channels of one space of a model, as its weights are now."""

    def __init__(self, model: nn.Module, channels: Channels, space: Space) -> None:
        self._modules = dict(model.named_modules())
        self._channels, self._space = channels, space
        self._rows: dict[Signal, Floats] = {}

    def similarity(self) -> Floats:
        """Similarity of every two channels (m, m), -1 to 1. A channel that is always zero has 0 on the diagonal; of
        groups that must not be mixed, the channels are apart."""
        result = np.ones((self._space.width, self._space.width))
        for signal in self._signals():
            np.minimum(result, alike(self.vectors(signal), self.is_homogeneous), out=result)
        return apart(result, self._space.blocks, self.idle())

    def magnitudes(self, place: Place) -> Floats:
        """Lengths of the channels' last vectors where a module reads them (m,); the factors between like channels."""
        signal = self._channels.inputs[place.module][place.segment].signal
        assert signal is not None
        lengths: Floats = np.linalg.norm(self.vectors(signal), axis=1)
        return lengths

    def idle(self) -> NDArray[np.bool_]:
        """Channels that are zero wherever they are read (m,)."""
        if not _keeps_zero(self._space):
            return np.zeros(self._space.width, dtype=bool)
        lengths = np.array([self.magnitudes(place) for place in self._space.consumers])
        return np.all(lengths == 0.0, axis=0)

    @cached_property
    def is_homogeneous(self) -> bool:
        """Whether all activations of the space are positively homogeneous."""
        probe = torch.linspace(-8.0, 8.0, 33)
        return all(_scales(function, probe) for function in self._space.activations)

    def vectors(self, signal: Signal) -> Floats:
        """The vectors (m, d) of a signal."""
        if signal not in self._rows:
            self._rows[signal] = np.column_stack([self._block(block) for block in signal.blocks])
        return self._rows[signal]

    def _signals(self) -> list[Signal]:
        """Those whose vectors have to be parallel: at every reader and before every stage, save parts of others."""
        waiting = [self._channels.inputs[p.module][p.segment].signal for p in self._space.consumers]
        every: dict[tuple[Block, ...], Signal] = {}
        while waiting:
            signal = waiting.pop()
            if signal is not None and signal.blocks not in every:
                every[signal.blocks] = signal
                waiting += [block.before for block in signal.blocks]
        parts = [set(blocks) for blocks in every]
        return [signal for blocks, signal in every.items() if not any(set(blocks) < other for other in parts)]

    def _block(self, block: Block) -> Floats:
        """Weights and bias (m, d + 1) of a block."""
        (first, position), *norms = block.modules
        module = self._modules[first]
        if block.before is None:
            rows = _numpy(module.weight.transpose(0, 1) if isinstance(module, Transposed) else module.weight)
            rows, bias = rows.reshape(len(rows), -1), _bias(module, len(rows))
        else:
            if isinstance(module, Normalisation):
                rows, bias = scale_and_shift(module)
            else:
                rows, bias = _numpy(module.weight), _bias(module, module.out_channels)
            rows, bias = self._mine(rows, first, position), self._mine(bias, first, position)
            rows = rows * np.linalg.norm(self.vectors(block.before), axis=1)[:, None]
        bias = bias.reshape(len(rows), -1)
        for name, place in norms:
            scale, shift = (self._mine(column, name, place) for column in scale_and_shift(self._modules[name]))
            rows, bias = rows * scale, bias * scale + shift
        result = np.column_stack([rows, bias])
        if not np.isfinite(result).all():
            raise NumericalError(f"the weights of {first} are not all finite")
        return result

    def _mine(self, values: Floats, module: str, segment: int) -> Floats:
        """What a module has for each channel of its input, as rows (m, d) of the channels of one segment."""
        place = Place(module, segment)
        start, count = self._channels.offset(place), self._space.width * self._channels.repeats(place)
        return values[start : start + count].reshape(self._space.width, -1)


def scale_and_shift(norm: nn.Module) -> tuple[Floats, Floats]:
    """What a BatchNorm in use multiplies each channel by, and then adds to it (m,)."""
    scale = 1.0 / np.sqrt(_numpy(norm.running_var) + norm.eps)
    if norm.weight is not None:
        scale = scale * _numpy(norm.weight)
    shift = -_numpy(norm.running_mean) * scale
    return scale, shift if norm.bias is None else shift + _numpy(norm.bias)


def apart(matrix: Floats, blocks: int, idle: NDArray[np.bool_]) -> Floats:
    """The same similarities, but none of channels of different blocks, and 0 of those that are zero wherever read."""
    block = np.arange(len(matrix)) // (len(matrix) // blocks)
    matrix = np.where(block[:, None] == block, matrix, _APART)
    matrix[idle] = matrix[:, idle] = 0.0
    return matrix


def alike(vectors: Floats, is_homogeneous: bool) -> Floats:
    """Similarity of the rows (m, m); two of zeros are the same."""
    result = similarity.cosine_similarity(vectors)
    lengths = np.linalg.norm(vectors, axis=1)
    zero = lengths == 0.0
    if not is_homogeneous:
        squares = lengths**2
        means = 0.5 * (squares[:, None] + squares)
        result = result * np.outer(lengths, lengths) / np.where(means > 0.0, means, 1.0)
    result[np.ix_(zero, zero)] = 1.0
    return result


def _keeps_zero(space: Space) -> bool:
    """Whether all activations of a space are 0 at 0."""
    zero = torch.zeros(1)
    return all(float(_value(function, zero).abs().max()) == 0.0 for function in space.activations)


def _scales(function: Activation, probe: torch.Tensor) -> bool:
    return torch.allclose(_value(function, 3.0 * probe), 3.0 * _value(function, probe), rtol=1e-4, atol=1e-5)


def _value(function: Activation, x: torch.Tensor) -> torch.Tensor:
    """An activation of x, which stays as it is, of whatever type and place the activation wants."""
    weight = next(function.parameters(), x) if isinstance(function, nn.Module) else x
    with torch.no_grad():
        return function(x.to(weight, copy=True))


def _bias(module: nn.Module, count: int) -> Floats:
    return np.zeros(count) if module.bias is None else _numpy(module.bias)


def _numpy(tensor: torch.Tensor) -> Floats:
    return tensor.detach().to("cpu", torch.float64).numpy()
