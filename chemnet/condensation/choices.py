"""Choices of the channels that stay: those that `condense` knows, and the interface of one of your own.

A choice is a function of a `View` of one space. It returns one of two things:

* `Alike`: how similar every two channels are. Similar ones become a group, which its main channel stands for.
* `Ranked`: the channels in the order in which they are chosen. The others go, and a refit makes up for them.

A choice may have a method `objection(view)`: why it cannot take a space, or None.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from chemnet.condensation import similarity
from chemnet.condensation.calibration import constants
from chemnet.condensation.channel_vectors import Folded, alike, smallest
from chemnet.condensation.graph import Floats, Indices, Place, Space, as_float64
from chemnet.condensation.published_rule import is_block, kernel_similarity, merge_as_published
from chemnet.condensation.selection import Reader, forward_selection, spanning_columns
from chemnet.condensation.similarity import Grouping
from chemnet.condensation.surgery import Surgery

Flags = NDArray[np.bool_]

_AT_ONCE = 2048  # rows that are made double at a time
_SOME = 1024  # rows of activations that a similarity is measured on, about
_LEAST_VARYING = 1e-6  # share of the squares of a channel that is not its mean, taken for the least
_ROUNDING = 16.0 * similarity.ROUNDING  # of values that several layers have computed in float32


class Sample:
    """Calibration sample of one reader: the channels (n, m) that it receives `now`, and that it received before
    anything was cut, about their means where it takes up constants."""

    def __init__(self, now: torch.Tensor, wanted: torch.Tensor, is_centred: bool) -> None:
        self._now, self.wanted, self._is_centred = now, wanted, is_centred

    @property
    def now(self) -> Floats:
        """What the reader receives now (n, m)."""
        return as_float64(self._now)

    @cached_property
    def means(self) -> tuple[Floats, Floats]:
        """Means now and before (m,), zeros where constants are not taken up."""
        if not self._is_centred:
            return np.zeros(self._now.shape[1]), np.zeros(self.wanted.shape[1])
        return _mean(self._now), _mean(self.wanted)

    @cached_property
    def products(self) -> tuple[Floats, Floats]:
        """Gram matrix of the channels now, and their products with those before (m, m)."""
        now, before = self.means
        gram = _products(self._now, now, self._now, now)
        return gram, gram if self.wanted is self._now else _products(self._now, now, self.wanted, before)

    @cached_property
    def gram_before(self) -> Floats:
        """Gram matrix of the channels before anything was cut (m, m)."""
        mean = self.means[1]
        return self.products[0] if self.wanted is self._now else _products(self.wanted, mean, self.wanted, mean)


def _mean(rows: torch.Tensor) -> Floats:
    """Mean (m,) of rows (n, m)."""
    total: Floats = sum((as_float64(some).sum(0) for some in rows.split(_AT_ONCE)), np.zeros(rows.shape[1]))
    return total / len(rows)


def _products(rows: torch.Tensor, mean: Floats, others: torch.Tensor, other: Floats) -> Floats:
    """Products (m, m) of rows (n, m) about their mean with others about theirs, some at a time."""
    result = np.zeros((rows.shape[1], others.shape[1]))
    for one, two in zip(rows.split(_AT_ONCE), others.split(_AT_ONCE), strict=True):
        some = as_float64(one) - mean
        result += some.T @ (some if others is rows else as_float64(two) - other)
    return result


class View:
    """One space as seen by a choice: the channels of a layer, and of those that can only be condensed with it.

    `samples()` are what its readers receive on the calibration inputs, `activity()` (n, m) what they received before
    anything was cut: on the calibration inputs, or on inputs drawn in the scale of the example.
    """

    def __init__(
        self,
        surgery: Surgery,
        space: Space,
        example_input: Any,
        samples: Callable[[], Mapping[Place, Sample]],
        takes_up: Callable[[Place], bool],
        activity: Callable[[], Mapping[Place, torch.Tensor]] = dict,
    ) -> None:
        self.surgery, self.space, self.samples, self.activity = surgery, space, samples, activity
        self._example, self._takes_up = example_input, takes_up

    @property
    def layer(self) -> str:
        """Name of the first layer that makes the channels."""
        return self.space.layers[0]

    @property
    def width(self) -> int:
        """Number of channels m."""
        return self.space.width

    @cached_property
    def folded(self) -> Folded:
        """The channels as vectors, normalisations folded in."""
        return Folded(self.surgery.model, self.surgery.channels, self.space)

    def vectors(self) -> Floats:
        """Weights and biases (m, d) by which the first reader's channels are made."""
        place = self.space.consumers[0]
        signal = self.surgery.channels.inputs[place.module][place.segment].signal
        assert signal is not None
        return self.folded.vectors(signal)

    def weights(self) -> Floats:
        """Weights of all readers for each channel (m, q)."""
        return np.column_stack([self.surgery.weights(place) for place in self.space.consumers])

    @cached_property
    def constant(self) -> dict[Place, Floats]:
        """Values (m,) by reader of the `idle` channels; nan for the others."""
        values = {place: np.zeros(self.width) for place in self.space.consumers}
        varying = self.folded.varying()
        if not varying.all():
            values = constants(self.surgery.model, self.surgery.channels, self.space.consumers, self._example)
            for place, each in values.items():
                varying |= np.isnan(each) | ((each != 0.0) & (not self._takes_up(place)))
        return {place: np.where(varying, np.nan, each) for place, each in values.items()}

    @property
    def idle(self) -> Flags:
        """Channels (m,) that are constant wherever they are read, which every reader takes up in its bias."""
        idle: Flags = ~np.isnan(next(iter(self.constant.values())))
        return idle

    def readers(self) -> list[list[Reader]]:
        """Products for the forward selection, by block of channels, then by reader."""
        m = self.width // self.space.blocks
        result: list[list[Reader]] = [[] for _ in range(self.space.blocks)]
        for place, sample in self.samples().items():
            (gram, cross), before, weights = sample.products, sample.gram_before, self.surgery.weights(place)
            blocks = [slice(start, start + m) for start in range(0, self.width, m)]
            energy = sum(float(np.vdot(weights[b], before[b, b] @ weights[b])) for b in blocks)
            for found, mine in zip(result, blocks, strict=True):
                found.append(Reader(gram[mine, mine], cross[mine, mine] @ weights[mine], energy))
        return result


@dataclass(frozen=True)
class Alike:
    """Similarities of every two channels (m, m) [-] and their lengths (m,) at a reader.

    A merged channel counts as its main one times the ratio of their lengths (eq. 36), unless `merge` does the merging.
    `idle` (m,) are channels that may go besides those of `View.idle`. Where merging is not exact even at a similarity
    of 1, `is_exact` is false, and `condense` warns.
    """

    similarity: Floats
    lengths: Callable[[Place], Floats]
    idle: Flags | None = None
    is_exact: bool = True
    merge: Callable[[Surgery, Space, Grouping], None] | None = None


@dataclass(frozen=True)
class Ranked:
    """`first(count)`: the channels that stay at a width; `left()` (m + 1,): the share of what the readers receive that
    no channel explains, one, two, ... Without it there is only a choice by widths or a loss."""

    first: Callable[[int], Indices]
    left: Callable[[], Floats] | None = None


class Choice(Protocol):
    """Which channels of a space stay."""

    def __call__(self, view: View, /) -> Alike | Ranked:
        """Similarity of the channels, or their order."""


@dataclass(frozen=True)
class Cosine:
    """By the cosine of weights and biases, as published (eq. 9), whatever the activations; or of the weights alone."""

    include_bias: bool = True

    def __call__(self, view: View) -> Alike:
        """Cosines of the vectors."""
        folded, include_bias = view.folded, self.include_bias
        matrix = folded.similarity(include_bias=include_bias, assume_homogeneous=True)
        return Alike(matrix, lambda place: folded.magnitudes(place, include_bias), is_exact=folded.is_homogeneous)


def folded(view: View) -> Alike:
    """By what neurons do: the smaller of the cosine of weights and biases, reduced by unequal lengths where the
    activation is not homogeneous, and of the similarity of the activations. Equal weights make equal neurons."""
    by_weights = view.folded.similarity()
    by_doing = [_doing_alike(as_float64(_some(rows)), view.space.is_homogeneous) for rows in view.activity().values()]
    matrix = smallest([by_weights, *by_doing])
    return Alike(np.where(by_weights == 1.0, 1.0, matrix), view.folded.magnitudes)


def _some(rows: torch.Tensor) -> torch.Tensor:
    return rows[:: -(-len(rows) // _SOME)]


def _doing_alike(rows: Floats, is_homogeneous: bool) -> Floats:
    """Similarity of what channels (n, m) do (m, m) [-]: 1 less half of the squared difference of two, at the same
    length if a factor is no matter, relative to how much they vary; what is constant in both counts nothing."""
    cosine, squares = alike(rows.T, is_homogeneous), np.square(rows).sum(axis=0)
    varying = np.square(rows - rows.mean(axis=0)).sum(axis=0)
    share = np.divide(
        squares, np.maximum(varying, _LEAST_VARYING * squares), out=np.ones_like(squares), where=squares > 0
    )
    difference = (1.0 - cosine) * np.sqrt(np.outer(share, share))
    return np.maximum(1.0 - difference, -1.0)


def activations(view: View) -> Alike:
    """By the cosine of the activations on the calibration inputs."""
    rows = {place: sample.now for place, sample in view.samples().items()}
    idle: Flags = np.all([~each.any(axis=0) for each in rows.values()], axis=0)
    matrix = smallest(_acting_alike(each) for each in rows.values())
    return Alike(matrix, lambda place: np.linalg.norm(rows[place], axis=0), idle)


def _acting_alike(rows: Floats) -> Floats:
    """Cosines of what channels (n, m) do, of which two that are always zero do the same."""
    matrix = similarity.cosine_similarity(rows.T, _ROUNDING, by_column=False)
    zero = ~rows.any(axis=0)
    matrix[np.ix_(zero, zero)] = 1.0
    return matrix


def qr(view: View) -> Ranked:
    """By a pivoted QR factorisation of the activations on the calibration inputs about their means."""
    rows = np.vstack([each - each.mean(axis=0) for each in (sample.now for sample in view.samples().values())])
    return Ranked(_ByBlock(view, lambda block, mine, count: (spanning_columns(rows[:, mine], count), None)).first)


def forward(view: View) -> Ranked:
    """By forward selection: each channel is the one that best improves the representation of the readers' inputs."""
    readers = view.readers()

    def select(block: int, mine: Indices, count: int) -> tuple[Indices, Floats]:
        local = mine - block * (view.width // view.space.blocks)
        chosen = [Reader(r.gram[np.ix_(local, local)], r.products[local], r.energy) for r in readers[block]]
        return forward_selection(chosen if len(local) < len(readers[block][0].gram) else readers[block], count)

    ranking = _ByBlock(view, select)
    return Ranked(ranking.first, ranking.left)


class _ByBlock:
    """A ranking of the channels that are not idle, in every block of channels that are not mixed by itself.

    `select(block, channels, count)` gives the first `count` of some channels, as places among them, and what is left.
    """

    def __init__(self, view: View, select: Callable[[int, Indices, int], tuple[Indices, Floats | None]]) -> None:
        self._view, self._select = view, select
        self._found: list[tuple[Indices, Floats]] = []

    def first(self, count: int) -> Indices:
        """The first channels, as many of every block; idle ones come last."""
        per_block = count // self._view.space.blocks
        if not self._found or len(self._found[0][0]) < per_block:
            self._found = [self._block(block, per_block) for block in range(self._view.space.blocks)]
        return np.concatenate([order[:per_block] for order, _ in self._found])

    def left(self) -> Floats:
        """Share that is left unexplained, by number of channels (m + 1,)."""
        self.first(self._view.width)
        taken = np.sum([1.0 - left for _, left in self._found], axis=0)
        curve: Floats = 1.0 - np.repeat(taken, self._view.space.blocks)[: self._view.width + 1]
        return curve

    def _block(self, block: int, count: int) -> tuple[Indices, Floats]:
        m = self._view.width // self._view.space.blocks
        mine = np.arange(block * m, (block + 1) * m)
        varying, idle = mine[~self._view.idle[mine]], mine[self._view.idle[mine]]
        wanted = min(count, len(varying))
        order, left = self._select(block, varying, wanted) if wanted else (varying[:0], None)
        left = np.zeros(wanted + 1) if left is None else left
        every = np.concatenate([varying[order], idle[: count - wanted]])
        return every, np.pad(left, (0, len(every) - wanted), mode="edge")


class Published:
    """Depthwise filters alone, merged by the equations of appendix A.3 (`published_rule.py`), for comparison."""

    def __call__(self, view: View) -> Alike:
        """Cosines of the depthwise filters."""
        matrix = kernel_similarity(view.surgery.model, view.surgery.channels, view.space)
        return Alike(matrix, view.folded.magnitudes, merge=merge_as_published)

    def objection(self, view: View) -> str | None:
        """Reason to refuse a space, None for the hidden layer of a block."""
        if is_block(view.surgery.channels, view.space, view.surgery.model):
            return None
        return "the published rule is for a depthwise layer between two pointwise ones with BatchNorm"


CHOICES: dict[str, Choice] = {
    "cosine": Cosine(),
    "folded": folded,
    "activations": activations,
    "qr": qr,
    "forward": forward,
    "published": Published(),
}
