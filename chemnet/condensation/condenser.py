"""Condense any network that torch.fx can trace: choose the channels that stay, merge the others into them.

What can be condensed are the spaces of `channels.py`, one after the other in the order of the data. Every reader of a
space gets a share matrix (`surgery.py`): without calibration inputs the published one, in which each channel stands in
for its group, times the ratio of their lengths (eq. 36); with them one that also mends, by least squares, what the
reader receives, and the statistics of the normalisations are estimated anew before anything else is measured.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import nn

from chemnet.condensation import similarity
from chemnet.condensation.calibration import moments, move_statistics, received
from chemnet.condensation.channel_vectors import Folded, alike, apart
from chemnet.condensation.channels import Channels
from chemnet.condensation.graph import Normalisation, Place, Space
from chemnet.condensation.published_rule import is_block, kernel_similarity, merge_as_published
from chemnet.condensation.selection import Reader, forward_selection, shares
from chemnet.condensation.surgery import Surgery
from chemnet.condensation.widths import Sizes
from chemnet.runtime.config import Config, parse
from chemnet.runtime.errors import NumericalError, UsageError

_NOTHING_LEFT = 1e-10  # of what a reader receives, squared: the representation is exact

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


class ChannelRule(Config):
    """Which channels stay, and what becomes of the others.

    * `choice`: `folded` groups by the similarity of folded rows (`channel_vectors.py`); `activations` by that of what
      channels do on the calibration inputs; `forward` takes the channels from which the readers' inputs can be
      represented best, one after the other, at a threshold until the cosine of those inputs and their representation
      reaches it;
      `published` groups depthwise kernels alone and merges by the equations of appendix A.3.
    * With `refit`, readers are mended by least squares, if there are calibration inputs; `ridge` is relative to the
      mean diagonal of the Gram matrix.
    * `round_to`: widths are rounded up to a multiple of it.
    """

    choice: Literal["folded", "activations", "forward", "published"] = "folded"
    refit: bool = True
    ridge: Annotated[float, Field(gt=0.0)] = 1e-3
    round_to: Annotated[int, Field(ge=1)] = 1


def condense(
    model: nn.Module,
    example_input: Any,
    *,
    threshold: float | None = None,
    ratio: float | None = None,
    layers: str | Sequence[str] | None = None,
    calibration: torch.Tensor | None = None,
    **rule: object,
) -> nn.Module:
    """A condensed copy of `model`, an ordinary module of the same class; the model itself is not changed.

    `example_input` is one input tensor, or a tuple of them. Give one of a similarity `threshold`, in (0, 1], and the
    `ratio` of parameters to be left, in (0, 1]: the largest network within it. `layers` are names of layers; without
    them all spaces are condensed that can be (`survey` tells which cannot and why). `calibration` (n, ...) are
    inputs, some hundred; `rule` are the fields of `ChannelRule`.

    At a threshold of 1 the outputs stay the same, whatever the activations. Raises UsageError for a model that cannot
    be traced, an example input of the wrong shape, a measure out of range, a layer that does not exist or cannot be
    condensed; NumericalError for weights or activations that are not finite.
    """
    options = parse(ChannelRule, rule, "condense")
    _check_measure(threshold, ratio, options, calibration)
    work = _Condensation(model, example_input, options, calibration)
    spaces = work.chosen(layers)
    widths = {} if ratio is None else work.widths(spaces, ratio)
    for space in spaces:
        work.cut(space, threshold, widths.get(space))
    return work.finished()


def _check_measure(
    threshold: float | None, ratio: float | None, rule: ChannelRule, calibration: torch.Tensor | None
) -> None:
    if (threshold is None) == (ratio is None):
        raise UsageError("give one of threshold and ratio")
    for name, value in (("threshold", threshold), ("ratio", ratio)):
        if value is not None and not 0.0 < value <= 1.0:
            raise UsageError(f"{name} {value}: expected a number in (0, 1]")
    if rule.choice == "forward" and not rule.refit:
        raise UsageError("choice forward drops channels that a refit makes up for: refit false belongs to the others")
    if calibration is None and rule.choice in ("forward", "activations"):
        raise UsageError(f"choice {rule.choice} needs calibration inputs")
    if calibration is not None and (not isinstance(calibration, torch.Tensor) or len(calibration) < 2):
        raise UsageError("calibration: expected a tensor of at least two inputs")


def _check_finite(model: nn.Module) -> None:
    for name, module in model.named_modules():
        tensors = dict(module.named_parameters(recurse=False))
        if isinstance(module, Normalisation):
            tensors.update(module.named_buffers(recurse=False))
        for key, tensor in tensors.items():
            if not torch.isfinite(tensor).all():
                raise NumericalError(f"{key} of {name or type(model).__name__} is not all finite")


class _Condensation:
    """A model in the course of being condensed."""

    def __init__(
        self, model: nn.Module, example_input: Any, rule: ChannelRule, calibration: torch.Tensor | None
    ) -> None:
        _check_finite(model)
        self.original, self.rule, self.calibration = model, rule, calibration
        self.result = copy.deepcopy(model)
        self.channels = Channels(self.result, example_input)
        self.surgery = Surgery(self.result, self.channels)
        self._is_stale = False  # statistics of the result are of before its last cut
        self._wanted: dict[Place, torch.Tensor] = {}  # what readers received before anything was cut
        self._seen: dict[Place, torch.Tensor] = {}  # what they receive now, as far as it is known

    def chosen(self, layers: str | Sequence[str] | None) -> list[Space]:
        """The spaces to condense, in the order of the data."""
        if layers is None:
            spaces = [space for space in self.channels.spaces if self._refusal(space) is None]
        else:
            layers = [layers] if isinstance(layers, str) else layers
            named = [self.channels.named(layer) for layer in layers]
            for layer, space in zip(layers, named, strict=True):
                if self._refusal(space):
                    raise UsageError(f"{layer} cannot be condensed: {self._refusal(space)}")
            spaces = [space for space in self.channels.spaces if space in named]
        if self.calibration is not None:
            places = [place for space in spaces for place in space.consumers]
            self._wanted = self._seen = received(self.original, self.channels, places, self.calibration)
            self._moments = moments(self.original, self.calibration)
        return spaces

    def _refusal(self, space: Space) -> str | None:
        if space.reason is None and self.rule.choice == "published" and not is_block(self.channels, space, self.result):
            return "the published rule is for a depthwise layer between two pointwise ones with BatchNorm"
        return space.reason

    def widths(self, spaces: Sequence[Space], ratio: float) -> dict[Space, int]:
        """Widths at which at most `ratio` of the parameters are left."""
        sizes = Sizes(self.result, self.channels)
        target = np.floor(ratio * sizes.total() + 1e-6)  # a ratio of whole numbers stands for them
        if self.rule.choice == "forward":
            curves = {space: self._selection(space, space.width)[1] for space in spaces}
            return sizes.cheapest(curves, target, self._rounded)
        matrices = {space: self._similarity(space) for space in spaces}
        return sizes.by_threshold(matrices, target, self._rounded)

    def _rounded(self, space: Space, width: int) -> int:
        """A width that groups of channels and `round_to` allow."""
        step = int(np.lcm(space.blocks, self.rule.round_to))
        return min(-(-max(width, 1) // step) * step, space.width)

    def cut(self, space: Space, threshold: float | None, width: int | None) -> None:
        """Condense one space to the groups at a threshold, or to a width."""
        if width == space.width:
            return
        if self.rule.choice == "forward":
            kept = self._selection(space, self._sufficient(space, threshold) if width is None else width)[0]
            main_of = np.full(space.width, similarity.NO_GROUP)
            main_of[kept] = kept
        else:
            main_of = self._grouping(space, self._similarity(space), threshold, width)
        kept = similarity.mains(main_of)
        if len(kept) == space.width:
            return
        if self.rule.choice == "published":
            self._move_statistics()  # for the last time in this block: the rule makes new ones of them
            merge_as_published(self.surgery, self.channels, space, main_of)
        elif self.calibration is None or not self.rule.refit:
            self.surgery.cut(space, kept, self._published_shares(space, main_of), {})
        else:
            self._refit(space, kept, self._published_shares(space, main_of))
        self._is_stale, self._seen = True, {}

    def finished(self) -> nn.Module:
        """The condensed model, its statistics estimated anew."""
        self._move_statistics()
        return self.result

    def _move_statistics(self) -> None:
        if self._is_stale and self.calibration is not None:
            move_statistics(self.surgery, self.original, self._moments, self.calibration)
        self._is_stale = False

    # -- which channels stay

    def _similarity(self, space: Space) -> Floats:
        if self.rule.choice == "published":
            return kernel_similarity(self.result, self.channels, space)
        if self.rule.choice == "folded":
            return Folded(self.result, self.channels, space).similarity()
        result, idle = np.ones((space.width, space.width)), np.ones(space.width, dtype=bool)
        for rows in self._received(space).values():
            np.minimum(result, alike(_float64(rows).T, True), out=result)
            idle &= ~rows.any(0).numpy()
        return apart(result, space.blocks, idle)

    def _grouping(
        self, space: Space, matrix: Floats, threshold: float | None, width: int | None
    ) -> similarity.Grouping:
        """Groups at a threshold or of a width; blocks of channels that are not mixed keep as many each."""
        blocks, m = space.blocks, space.width // space.blocks
        if width is None:
            assert threshold is not None
            ranges = [slice(start, start + m) for start in range(0, space.width, m)]
            counts = [similarity.n_groups(similarity.group(matrix[mine, mine], threshold)) for mine in ranges]
            width = self._rounded(space, blocks * max(counts))
            if blocks == 1 and width == counts[0]:
                return similarity.group(matrix, threshold)
        parts = []
        for start in range(0, space.width, m):
            part = matrix[start : start + m, start : start + m]
            found = similarity.group_to_width(part, width // blocks)[0]
            idle = np.flatnonzero(found == similarity.NO_GROUP)
            idle = idle[: max(width // blocks - similarity.n_groups(found), 0)]
            found[idle] = idle  # there have to be so many
            parts.append(np.where(found == similarity.NO_GROUP, similarity.NO_GROUP, found + start))
        return np.concatenate(parts)

    def _sufficient(self, space: Space, threshold: float | None) -> int:
        """The smallest width at which what the readers receive has this cosine with what they are to receive."""
        assert threshold is not None
        left = self._selection(space, space.width)[1]
        enough = np.flatnonzero(left <= max(1.0 - threshold**2, _NOTHING_LEFT))
        return self._rounded(space, int(enough[0]) if len(enough) else space.width)

    def _selection(self, space: Space, width: int) -> tuple[Indices, Floats]:
        """The channels that represent the readers' inputs best, and what is left of those after each (width + 1,)."""
        readers = [self._readers(space, place, rows) for place, rows in self._received(space).items()]
        m, per_block = space.width // space.blocks, width // space.blocks
        found = [forward_selection(block, per_block) for block in zip(*readers, strict=True)]
        kept = [number * m + order for number, (order, _) in enumerate(found)]
        taken = np.sum([1.0 - left for _, left in found], axis=0)
        return np.concatenate(kept), 1.0 - np.repeat(taken, space.blocks)[: width + 1]

    def _readers(self, space: Space, place: Place, rows: torch.Tensor) -> list[Reader]:
        """One reader as the blocks of channels see it, each with its own part of what it makes of them."""
        now, wanted = _float64(rows), _float64(self._wanted[place])
        if self.surgery.shifts(place):
            now, wanted = now - now.mean(0), wanted - wanted.mean(0)
        weights, m = self.surgery.weights(place), space.width // space.blocks
        blocks = [slice(start, start + m) for start in range(0, space.width, m)]
        grams = [wanted[:, mine].T @ wanted[:, mine] for mine in blocks]
        energy = sum(
            float(np.vdot(weights[mine], gram @ weights[mine])) for mine, gram in zip(blocks, grams, strict=True)
        )
        return [
            Reader(now[:, mine].T @ now[:, mine], now[:, mine].T @ wanted[:, mine] @ weights[mine], energy)
            for mine in blocks
        ]

    # -- what becomes of the others

    def _published_shares(self, space: Space, main_of: similarity.Grouping) -> dict[Place, Floats]:
        """Eq. 36 for every reader: a channel is its main one, times the ratio of their lengths."""
        kept = similarity.mains(main_of)
        grouped = np.flatnonzero(main_of != similarity.NO_GROUP)
        result = {}
        for place, lengths in self._lengths(space).items():
            mains = lengths[main_of[grouped]]
            ratios = np.divide(lengths[grouped], mains, out=np.ones_like(mains), where=mains > 0.0)
            share = result[place] = np.zeros((space.width, len(kept)))
            share[grouped, np.searchsorted(kept, main_of[grouped])] = ratios
        return result

    def _lengths(self, space: Space) -> dict[Place, Floats]:
        if self.rule.choice == "activations":
            return {place: np.linalg.norm(_float64(rows), axis=0) for place, rows in self._received(space).items()}
        folded = Folded(self.result, self.channels, space)
        return {place: folded.magnitudes(place) for place in space.consumers}

    def _refit(self, space: Space, kept: Indices, starts: Mapping[Place, Floats]) -> None:
        """Shares that bring what every reader receives closest to what it received before anything was cut."""
        fitted, shifts = {}, {}
        for place, rows in self._received(space).items():
            now, wanted = _float64(rows), _float64(self._wanted[place])
            means = now.mean(0), wanted.mean(0)
            if self.surgery.shifts(place):
                now, wanted = now - means[0], wanted - means[1]
            gram, cross = now.T @ now, now.T @ wanted
            fitted[place] = self._shares(space, gram, cross, kept, starts[place])
            if self.surgery.shifts(place):
                shifts[place] = means[1] - fitted[place] @ means[0][kept]
        self.surgery.cut(space, kept, fitted, shifts)

    def _shares(self, space: Space, gram: Floats, cross: Floats, kept: Indices, start: Floats) -> Floats:
        """Channels of different blocks do not stand in for each other."""
        m, k = space.width // space.blocks, len(kept) // space.blocks
        result = np.zeros_like(start)
        for b in range(space.blocks):
            rows, columns = slice(b * m, (b + 1) * m), slice(b * k, (b + 1) * k)
            block = start[rows, columns]
            chosen = kept[columns] - b * m
            result[rows, columns] = shares(gram[rows, rows], cross[rows, rows], chosen, block, self.rule.ridge)
        return result

    def _received(self, space: Space) -> dict[Place, torch.Tensor]:
        """What the readers of a space receive now."""
        if not self._seen.keys() >= set(space.consumers):
            assert self.calibration is not None
            self._move_statistics()
            self._seen = received(self.result, self.channels, space.consumers, self.calibration)
        return {place: self._seen[place] for place in space.consumers}


def _float64(rows: torch.Tensor) -> Floats:
    return rows.double().numpy()
