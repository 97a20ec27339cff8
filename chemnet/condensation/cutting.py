"""Cuts of the spaces of a model, one after the other in the order of the data.

A choice (`choices.py`) says which channels of a space stay. Every reader of the space then gets a share matrix
(`surgery.py`): the published one, in which each channel stands in for its group, times the ratio of their lengths
(eq. 10, 36); or one that also fits the reader's input by least squares on calibration inputs. Targets are the inputs
before anything was cut, so that later layers correct the errors of earlier cuts. Statistics of normalisations are
estimated anew before anything else is measured. Channels that are constant go into the biases of their readers.
"""

from __future__ import annotations

import bisect
import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from chemnet.condensation import similarity
from chemnet.condensation.calibration import Moments, moments, move_statistics, output_change, received
from chemnet.condensation.capture import duplicate
from chemnet.condensation.channels import Channels
from chemnet.condensation.choices import Alike, Ranked, Sample, View
from chemnet.condensation.graph import Floats, Indices, Normalisation, Place, Space
from chemnet.condensation.groups import even, grouped, prepared, published_share
from chemnet.condensation.inputs import Inputs, drawn
from chemnet.condensation.method import Method
from chemnet.condensation.prediction import received_after
from chemnet.condensation.selection import shares
from chemnet.condensation.surgery import Cut, Surgery
from chemnet.condensation.widths import Sizes
from chemnet.runtime.errors import ChemnetError, NumericalError, UsageError

Loss = Callable[[Any], float]

_NOTHING_LEFT = 1e-10  # of what a reader receives, squared: the representation is exact
_SAME = 1e-6  # relative change of the outputs that rounding may cause
_PROBES = 256
_DRAWN_ROWS = 1024


def _check_finite(model: nn.Module) -> None:
    for name, module in model.named_modules():
        tensors = dict(module.named_parameters(recurse=False))
        if isinstance(module, Normalisation):
            tensors.update(module.named_buffers(recurse=False))
        for key, tensor in tensors.items():
            if not torch.isfinite(tensor).all():
                raise NumericalError(f"{key} of {name or type(model).__name__} is not all finite")


class Condensation:
    """A model in the course of being condensed; layers in `left_alone` are, with the reason."""

    def __init__(
        self,
        model: nn.Module,
        example: Inputs,
        method: Method,
        calibration: Inputs | None,
        loss: Loss | None,
        *,
        may_add_biases: bool,
        left_alone: Mapping[str, str],
    ) -> None:
        _check_finite(model)
        self.original, self.method, self.calibration, self.loss = model, method, calibration, loss
        self.result, self.example = duplicate(model), example
        self.channels = Channels(self.result, example)
        for space in self.channels.spaces:
            for layer in left_alone.keys() & set(space.layers):
                space.leave_alone(left_alone[layer])
        self.surgery = Surgery(self.result, self.channels)
        self.channels_before = copy.deepcopy(self.channels)
        self.cuts: list[Cut] = []
        self.is_exact = True  # whether only what is equal has been merged
        self._may_add_biases = may_add_biases
        self._spaces: list[Space] = []
        self._is_stale = False  # statistics of the result are of before its last cut
        self._warns = False
        self._kept_together: list[str] = []  # why copies stay, where statistics of several channels would change
        self._is_at_one = False  # whether only what is equal is asked for
        self._moments: Moments | None = None
        self._wanted: dict[Place, torch.Tensor] = {}  # what readers received before anything was cut
        self._active: dict[Place, torch.Tensor] | None = None  # the same, on drawn inputs
        self._sampled: tuple[Space, dict[Place, Sample]] | None = None

    # -- spaces and widths

    def take(self, measures: Mapping[str, Any], layers: str | Sequence[str] | None) -> None:
        """Condense the requested spaces, in the order of the data."""
        named = [layer for each in measures.values() if isinstance(each, Mapping) for layer in each]
        threshold, *others = [measures["threshold"], *(v for k, v in measures.items() if k != "threshold")]
        every = threshold.values() if isinstance(threshold, Mapping) else [threshold]
        self._is_at_one = all(each == 1.0 for each in every) and all(each is None for each in others)
        self._spaces = self.chosen(named or layers)
        if self.method.merge == "refit":
            self._receive()
        asked: dict[Space, list[tuple[str, Any]]] = {space: [] for space in self._spaces}
        for name, value in measures.items():
            if isinstance(value, Mapping):
                for layer, number in value.items():
                    asked[self.channels.named(layer)].append((name, number))
            elif value is not None:
                widths = self._by_ratio(value) if name == "ratio" else {}
                for space in self._spaces:
                    asked[space].append(("widths", widths[space]) if widths else (name, value))
        for space, given in asked.items():
            if len(given) > 1:
                raise UsageError(f"layer {space.layers[0]} is named more than once, or with layers that it is tied to")
            if given[0][0] == "widths":
                self._check_width(space, given[0][1])
        for space in self._spaces:
            self._cut(space, **dict(asked[space]))

    def chosen(self, layers: str | Sequence[str] | None) -> list[Space]:
        """The spaces to condense, in the order of the data."""
        if layers is None:
            return [space for space in self.channels.spaces if self._refusal(space) is None]
        layers = [layers] if isinstance(layers, str) else layers
        named = [self.channels.named(layer) for layer in layers]
        for layer, space in zip(layers, named, strict=True):
            if self._refusal(space):
                raise UsageError(f"{layer} cannot be condensed: {self._refusal(space)}")
        return [space for space in self.channels.spaces if space in named]

    def _refusal(self, space: Space) -> str | None:
        if space.reason:
            return space.reason
        if space.together and not self._is_at_one and self.method.merge != "refit":
            name = space.together[0].module
            return f"{name} normalises its channels together: below a threshold of 1 that takes calibration inputs"
        objection = getattr(self.method.choice, "objection", None)
        return objection(self._view(space)) if objection else None

    def _check_width(self, space: Space, width: int) -> None:
        if width > space.width:
            raise UsageError(f"layer {space.layers[0]}: width {width} of {space.width} neurons")
        if self._rounded(space, width) != width:
            step = np.lcm(space.blocks, self.method.round_to)
            raise UsageError(f"layer {space.layers[0]}: width {width} is no multiple of {step}")

    def _rounded(self, space: Space, width: int) -> int:
        """A width that groups of channels and `round_to` allow."""
        step = int(np.lcm(space.blocks, self.method.round_to))
        return min(-(-max(width, 1) // step) * step, space.width)

    def _by_ratio(self, ratio: float) -> dict[Space, int]:
        """Widths at which at most `ratio` of the parameters are left."""
        sizes = Sizes(self.result, self.channels)
        target = np.floor(ratio * sizes.total() + 1e-6)  # a ratio of whole numbers stands for them
        matrices, curves = dict[Space, Floats](), dict[Space, Floats]()
        for space in self._spaces:
            view, found = self._found(space)
            if isinstance(found, Ranked):
                curves[space] = self._left(found)
            else:
                matrices[space] = prepared(view, found)
        if curves:
            return sizes.cheapest(curves, target, self._rounded)
        return sizes.by_threshold(matrices, target, self._rounded)

    def _left(self, found: Ranked) -> Floats:
        if found.left is None:
            raise UsageError(f"choice {self.method.name} needs widths or a loss_increase")
        return found.left()

    # -- one space

    def _view(self, space: Space) -> View:
        is_estimated = self.calibration is not None

        def takes_up(place: Place) -> bool:
            return self.surgery.shifts(place, is_estimated=is_estimated, may_add=self._may_add_biases)

        active = partial(self._activity, space)
        return View(self.surgery, space, self.example, lambda: self._samples(space), takes_up, active)

    def _found(self, space: Space) -> tuple[View, Alike | Ranked]:
        view = self._view(space)
        found = self.method.choice(view)
        if isinstance(found, Ranked) and self.method.merge == "paper":
            raise UsageError(
                f"choice {self.method.name} makes no groups to merge by the paper's rule; use merge: refit"
            )
        return view, found

    def _cut(
        self,
        space: Space,
        threshold: float | None = None,
        widths: int | None = None,
        loss_increase: float | None = None,
    ) -> None:
        """Condense one space to the groups at a threshold, to a width, or to the smallest that the loss permits."""
        if widths == space.width:
            return
        view, found = self._found(space)
        if loss_increase is not None:
            widths = self._by_loss(view, found, loss_increase)
        main_of = self._grouping(view, found, threshold, widths)
        if space.together and threshold == 1.0 and isinstance(found, Alike):
            main_of = self._even(space, main_of)
        if similarity.n_groups(main_of) == space.width:
            return
        self.is_exact &= threshold == 1.0 and isinstance(found, Alike) and found.is_exact and found.merge is None
        cut = self._merged(view, found, main_of, is_exact=self.is_exact)
        cut.apply(self.surgery, space)
        self.cuts.append(cut)
        if isinstance(found, Alike) and self.method.merge == "paper":
            self._warns |= not found.is_exact
        self._is_stale, self._sampled = True, None
        for place in space.consumers:
            self._wanted.pop(place, None)

    def _by_loss(self, view: View, found: Alike | Ranked, increase: float) -> int:
        """The smallest width at which the loss is at most a share larger than before the cut."""
        assert self.loss is not None
        self._move_statistics()
        loss, limit, width = self.loss, (1.0 + increase) * self.loss(self.result), view.width
        if isinstance(found, Ranked):
            found.first(width)  # once for all: the channels of every smaller width are the first of these

        def is_enough(width: int) -> bool:
            main_of = self._grouping(view, found, None, width)
            surgery, space = copy.deepcopy((self.surgery, view.space))
            self._merged(view, found, main_of).apply(surgery, space)
            if self.calibration is not None:
                self._move(surgery)
            return loss(surgery.model) <= limit

        widths = sorted({self._rounded(view.space, each) for each in range(1, width)})
        return [*widths, width][bisect.bisect_left(widths, True, key=is_enough)]

    def _grouping(
        self, view: View, found: Alike | Ranked, threshold: float | None, width: int | None
    ) -> similarity.Grouping:
        """Groups at a threshold or of a width; blocks of channels that are not mixed keep as many each."""
        space = view.space
        if isinstance(found, Ranked):
            kept = found.first(self._sufficient(space, found, threshold) if width is None else width)
            main_of = np.full(space.width, similarity.NO_GROUP)
            main_of[kept] = kept
            return main_of
        return grouped(space, prepared(view, found), threshold, width, self._rounded)

    def _sufficient(self, space: Space, found: Ranked, threshold: float | None) -> int:
        """The smallest width at which the readers' inputs have this cosine with the target."""
        assert threshold is not None
        enough = np.flatnonzero(self._left(found) <= max(1.0 - threshold**2, _NOTHING_LEFT))
        return self._rounded(space, int(enough[0]) if len(enough) else space.width)

    def _even(self, space: Space, main_of: similarity.Grouping) -> similarity.Grouping:
        """Groups with which what is normalised together keeps its statistics."""
        columns = self.channels.columns
        is_mixed = any(columns[p.module].count_of(p.segment) < columns[p.module].count for p in space.together)
        result = even(space, main_of, 1 if is_mixed else space.width, self._rounded)
        if similarity.n_groups(main_of) < similarity.n_groups(result) == space.width:
            name = space.together[0].module
            self._kept_together.append(
                f"{space.layers[0]}: {name} normalises its channels together, and not all have as many copies"
            )
        return result

    # -- merges

    def _merged(
        self, view: View, found: Alike | Ranked, main_of: similarity.Grouping, *, is_exact: bool = False
    ) -> Cut:
        """The cut of a space to groups, to be made in one surgery or another; where it is exact, there is no refit."""
        kept, space = similarity.mains(main_of), view.space
        number = self.channels.spaces.index(space)
        if isinstance(found, Alike) and found.merge is not None:
            merge = found.merge
            self._move_statistics()  # for the last time in this space: the rule makes new ones of them
            return Cut(number, kept, lambda surgery, space: merge(surgery, space, main_of))
        if callable(self.method.merge):
            given = dict.fromkeys(space.consumers, self.method.merge(view, kept))
            shifts = dict[Place, Floats]()
        else:
            given = {place: published_share(found, main_of, place) for place in space.consumers}
            goes = ~np.isin(np.arange(view.width), kept)
            shifts = {place: np.where(goes, np.nan_to_num(values), 0.0) for place, values in view.constant.items()}
            if self.method.merge == "refit" and not is_exact:
                self._refit(view, kept, given, shifts)
        by_place = [(given[place], shifts.get(place)) for place in space.consumers]

        def apply(surgery: Surgery, space: Space) -> None:
            every = zip(space.consumers, by_place, strict=True)
            of_place = {place: (share, shift) for place, (share, shift) in every}
            some = {place: shift for place, (_, shift) in of_place.items() if shift is not None}
            surgery.cut(space, kept, {place: share for place, (share, _) in of_place.items()}, some)

        return Cut(number, kept, apply, by_place)

    def _refit(self, view: View, kept: Indices, given: dict[Place, Floats], shifts: dict[Place, Floats]) -> None:
        """Shares with which the input of every reader is closest to its input before anything was cut."""
        for place, sample in view.samples().items():
            if view.space.together:
                assert self.calibration is not None
                now = received_after(self.surgery, view.space, kept, place, given, shifts, self.calibration)
                sample = Sample(now, self._wanted[place], self.surgery.shifts(place))
            gram, cross = sample.products
            if shifts[place].any() and not self.surgery.shifts(place):
                cross = np.where(shifts[place] != 0.0, 0.0, cross)  # a bias that the reader is given takes these up
            given[place] = self._shares(view.space, gram, cross, kept, given[place])
            if self.surgery.shifts(place):
                now, wanted = sample.means
                shifts[place] = wanted - given[place] @ now[kept]

    def _shares(self, space: Space, gram: Floats, cross: Floats, kept: Indices, start: Floats) -> Floats:
        """Fitted shares (m, k); channels of different blocks do not stand in for each other."""
        m, k = space.width // space.blocks, len(kept) // space.blocks
        result = np.zeros_like(start)
        for b in range(space.blocks):
            rows, columns = slice(b * m, (b + 1) * m), slice(b * k, (b + 1) * k)
            block = start[rows, columns]
            chosen = kept[columns] - b * m
            result[rows, columns] = shares(gram[rows, rows], cross[rows, rows], chosen, block, self.method.ridge)
        return result

    # -- calibration

    def _samples(self, space: Space) -> dict[Place, Sample]:
        """Inputs of the readers of a space, now and before anything was cut."""
        if self.calibration is None:
            raise UsageError(f"choice {self.method.name} needs calibration inputs")
        if self._sampled is None or self._sampled[0] is not space:
            if not self._wanted.keys() >= set(space.consumers):
                self._receive()
            now = self._wanted
            if self.cuts:
                self._move_statistics()
                now = received(self.result, self.channels, space.consumers, self.calibration)
            samples = {p: Sample(now[p], self._wanted[p], self.surgery.shifts(p)) for p in space.consumers}
            self._sampled = space, samples
        return self._sampled[1]

    def _receive(self) -> None:
        """Sample the inputs of the readers of all spaces before anything is cut."""
        assert self.calibration is not None
        places = [place for space in self._spaces for place in space.consumers]
        self._wanted = received(self.original, self.channels_before, places, self.calibration)

    def _activity(self, space: Space) -> dict[Place, torch.Tensor]:
        """What the readers of a space received before anything was cut; nothing where no inputs can be drawn."""
        if self.calibration is not None:
            if not self._wanted.keys() >= set(space.consumers):
                self._receive()
            return {place: self._wanted[place] for place in space.consumers}
        if self._active is None:
            self._active = self._draw()
        return {place: self._active[place] for place in space.consumers if place in self._active}

    def _draw(self) -> dict[Place, torch.Tensor]:
        places = [place for space in self._spaces for place in space.consumers]
        for inputs in (drawn(self.example, self.original, self.example.room(_PROBES)), self.example):
            try:
                return received(self.original, self.channels_before, places, inputs, _DRAWN_ROWS)
            except ChemnetError:
                continue
        return {}

    def _move_statistics(self) -> None:
        if self._is_stale and self.calibration is not None:
            self._move(self.surgery)
        self._is_stale = False

    def _move(self, surgery: Surgery) -> None:
        assert self.calibration is not None
        if self._moments is None:
            self._moments = moments(self.original, self.calibration)
        move_statistics(surgery, self.original, self._moments, self.calibration)

    def finished(self) -> nn.Module:
        """The condensed model, its statistics estimated anew."""
        self._move_statistics()
        return self.result

    def warn(self) -> None:
        """A warning where merging could not be exact, with the change it made."""
        if self._kept_together:
            warnings.warn("copies were left alone:\n" + "\n".join(self._kept_together), stacklevel=3)
        if not self._warns:
            return
        x, on = self.calibration, "the calibration inputs"
        if x is None:
            x, on = drawn(self.example, self.original, _PROBES), "inputs drawn in the scale of the example"
        change = output_change(self.original, self.result, x)
        if change > _SAME:
            warnings.warn(
                f"merging by the paper's rule is exact for activations like ReLU only; here it changed the outputs by "
                f"{100 * change:.2g} % on {on}. Merge refit corrects most of it.",
                stacklevel=3,
            )
