"""Transform between states and a network's inputs and outputs: Box-Cox mass fractions, signed-root labels.

Mass fractions span twelve decades. The Box-Cox transform b = (Y^lambda - 1) / lambda brings them to one; lambda = 1/8
is a power of two, so that Y^lambda is three square roots and its inverse three squares. Inputs are [T, P, b(Y)],
centred and scaled to unit variance. Outputs are changes over dt, of T and of b(Y), passed through sign(d) sqrt(|d|):
a step changes slow species a million times less than fast ones, and the root brings both within the reach of one loss.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator

from chemnet.gas.mechanism import Mechanism
from chemnet.gas.state import Array
from chemnet.gas.thermo import SAFE_FASTMATH
from chemnet.runtime.compilation import cached_njit

# What a network learns of a change d: sign(d) |d|^(1/power), by name. A new label is a new entry, and nothing else.
LABELS = {"signed_root": 2, "signed_cube_root": 3, "difference": 1}

LAMBDA = 0.125
_CONSTANT = 1e-9  # a column that varies less than this, against its mean, carries nothing
_TRACE = 1e-20  # [kg/kg] a species that never exceeds it is absent: what there is of it is round-off of a solver


def check_label(name: str) -> str:
    """`name` itself. Raises ValueError when there is no such label."""
    if name not in LABELS:
        raise ValueError(f"no label {name}; there are {', '.join(LABELS)}")
    return name


Label = Annotated[str, AfterValidator(check_label)]


Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Transform:
    """Numbers that turn rows of states into inputs of a network and its outputs into mass fractions; K species.

    * `input_mean`, `input_gain` (2 + K,): inputs are (values - mean) gain; a gain of zero mutes a constant column
    * `output_scale` (2 + K,): labels are divided by it; it is zero where nothing ever changes (P, inert species), and
      those columns take no part in training and prediction
    """

    label: Label
    input_mean: Array
    input_gain: Array
    output_scale: Array

    @property
    def power(self) -> int:
        """A change is sign(v) |v|^power of the network's answer v, unscaled."""
        return LABELS[self.label]

    @property
    def active(self) -> NDArray[np.intp]:
        """Columns of the output that the network has to predict."""
        return np.flatnonzero(self.output_scale)

    def inputs(self, states: Array) -> NDArray[np.float32]:
        """Inputs (n, 2 + K) of the network for states (n, 2 + K)."""
        result = np.empty(states.shape, np.float32)
        input_rows(states, self.input_mean, self.input_gain, result)
        return result

    def labels(self, states: Array, next_states: Array) -> NDArray[np.float32]:
        """Labels of the network (n, 2 + K), zero in the columns that are not active."""
        scale = np.where(self.output_scale > 0.0, self.output_scale, 1.0)
        change = np.where(self.output_scale > 0.0, _change(states, next_states, self.label) / scale, 0.0)
        return change.astype(np.float32)

    def as_dict(self) -> dict[str, Any]:
        """Plain data that `from_dict` reads back without loss."""
        return {
            "label": self.label,
            "input_mean": self.input_mean.tolist(),
            "input_gain": self.input_gain.tolist(),
            "output_scale": self.output_scale.tolist(),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Transform:
        """The transform that `as_dict` described. Raises ValueError for what no transform can be."""
        arrays = {key: np.array(data[key], float) for key in ("input_mean", "input_gain", "output_scale")}
        if len({array.shape for array in arrays.values()}) != 1:
            raise ValueError("columns of different number")
        if not all(array.ndim == 1 and np.isfinite(array).all() for array in arrays.values()):
            raise ValueError("a transform whose numbers are not finite")
        return cls(label=check_label(data["label"]), **arrays)


def fit_transform(states: Array, next_states: Array, mechanism: Mechanism, label: Label = "signed_root") -> Transform:
    """The transform with the means and deviations of these pairs of states (n, 2 + K)."""
    fit = TransformFit(mechanism, label)
    x, y = (np.empty(states.shape, np.float32) for _ in range(2))
    fit.add(states, next_states, x, y)
    return fit.finish(x, y)


class TransformFit:
    """Fits a transform to pairs that come in blocks and turns them into inputs and labels, all in one pass.

    A block's values are kept as float32, less a typical value, until means and deviations
    are known after the last block.
    With a `transform` that is given nothing is fitted.
    """

    def __init__(self, mechanism: Mechanism, label: Label = "signed_root", transform: Transform | None = None) -> None:
        self._given, self._label, self._mechanism = transform, label, mechanism
        self._typical: Array = np.zeros(0)
        self._values, self._changes = _Moments(), _Moments()
        self._largest = np.full(mechanism.n_species, -np.inf)

    def add(self, states: Array, next_states: Array, x: Floats, y: Floats, counts: bool = True) -> None:
        """Write what is known of the inputs x and labels y (n, 2 + K) of pairs; only those that `counts` are fitted."""
        if self._given:
            x[...], y[...] = self._given.inputs(states), self._given.labels(states, next_states)
            return
        if len(states) == 0:
            return
        values, change = np.hstack([states[:, :2], box_cox(states[:, 2:])]), _change(states, next_states, self._label)
        if self._typical.size == 0:
            self._typical = values.mean(axis=0)
        if counts:
            self._values.add(values)
            self._changes.add(change)
            self._largest = np.maximum(self._largest, values[:, 2:].max(axis=0))
        x[...], y[...] = values - self._typical, change

    def finish(self, x: Floats, y: Floats) -> Transform:
        """The transform; x and y (n, 2 + K), all that `add` has written, become inputs and labels in place."""
        if self._given:
            return self._given
        mean, deviation = self._values.mean, self._values.deviation()
        varies = deviation > _CONSTANT * np.maximum(np.abs(mean), 1.0)
        varies[2:] &= self._largest > box_cox(np.array(_TRACE))
        scale = self._changes.deviation()
        scale[1] = 0.0
        scale[2:][self._mechanism.inert] = 0.0
        gain = np.where(varies, 1.0 / np.where(varies, deviation, 1.0), 0.0)
        x -= (mean - self._typical).astype(np.float32)
        x *= gain.astype(np.float32)
        y *= np.where(scale > 0.0, 1.0 / np.where(scale > 0.0, scale, 1.0), 0.0).astype(np.float32)
        return Transform(self._label, mean, gain, scale)


class _Moments:
    """Mean and deviation of columns, from blocks of rows."""

    def __init__(self) -> None:
        self.n, self.mean, self._squares = 0, np.zeros(0), np.zeros(0)

    def add(self, values: Array) -> None:
        """Chan's update: the squares about the common mean are those about each mean and of their distance."""
        n, mean = len(values), values.mean(axis=0)
        squares = ((values - mean) ** 2).sum(axis=0)
        if self.n == 0:
            self.n, self.mean, self._squares = n, mean, squares
            return
        total, distance = self.n + n, mean - self.mean
        self._squares = self._squares + squares + distance**2 * (self.n * n / total)
        self.mean = self.mean + distance * (n / total)
        self.n = total

    def deviation(self) -> Array:
        return np.sqrt(self._squares / self.n)


def box_cox(Y: Array) -> Array:
    """(Y^lambda - 1) / lambda; negative mass fractions count as zero."""
    return (np.sqrt(np.sqrt(np.sqrt(np.maximum(Y, 0.0)))) - 1.0) / LAMBDA


def _change(states: Array, next_states: Array, label: Label) -> Array:
    """Change of [T, P, b(Y)] in the space of the label, not yet scaled."""
    change = np.empty_like(states)
    change[:, :2] = next_states[:, :2] - states[:, :2]
    change[:, 2:] = box_cox(next_states[:, 2:]) - box_cox(states[:, 2:])
    return np.sign(change) * np.abs(change) ** (1.0 / LABELS[label])


@cached_njit(fastmath=SAFE_FASTMATH)
def input_rows(states, mean, gain, inputs):
    """Inputs (n, 2 + K) float32 of states (n, 2 + K); means and gains as in `Transform`."""
    for i in range(states.shape[0]):
        for c in range(2):
            inputs[i, c] = (states[i, c] - mean[c]) * gain[c]
        for c in range(2, states.shape[1]):
            root = math.sqrt(math.sqrt(math.sqrt(max(states[i, c], 0.0))))
            inputs[i, c] = ((root - 1.0) / LAMBDA - mean[c]) * gain[c]
