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
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import nn

from chemnet.condensation import similarity
from chemnet.condensation.calibration import output_change
from chemnet.condensation.capture import duplicate
from chemnet.condensation.channels import Channels
from chemnet.condensation.choices import Alike, Ranked, Sample, View
from chemnet.condensation.graph import Floats, Indices, Normalisation, Place, Space
from chemnet.condensation.groups import even, grouped, prepared, published_share
from chemnet.condensation.inputs import Inputs, drawn
from chemnet.condensation.limits import Limits
from chemnet.condensation.method import Method
from chemnet.condensation.prediction import in_place
from chemnet.condensation.progress import steps
from chemnet.condensation.sampling import PROBES, Sampling
from chemnet.condensation.selection import shares
from chemnet.condensation.sensitivity import TIE, Sensitivity, by_width, measured, tried
from chemnet.condensation.surgery import Cut, Surgery
from chemnet.condensation.widths import OutOfReach, Sizes
from chemnet.runtime.errors import NumericalError, UsageError

Loss = Callable[[Any], float]

_NOTHING_LEFT = 1e-10  # of what a reader receives, squared: the representation is exact
_ROUNDING = 1e-12  # relative, of a share of the budget: a ratio of whole numbers stands for them
_SAME = 1e-6  # relative change of the outputs that rounding may cause


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
        self._limits = Limits(self.channels, method.round_to, method.least)
        self.cuts: list[Cut] = []
        self.similarity: dict[Space, float] = {}  # of the channels that were merged, the smallest
        self.left: dict[Space, float] = {}  # share of what readers receive that the channels that stay do not explain
        self.change: dict[Space, float] = {}  # of the outputs, squared and relative, as expected of each cut alone
        self.is_exact = True  # whether only what is equal has been merged
        self._may_add_biases = may_add_biases
        self.sampling = Sampling(model, self.channels_before, example, calibration)
        self._warns = False
        self._kept_together: list[str] = []  # why copies stay, where statistics of several channels would change
        self._is_at_one = False  # whether only what is equal is asked for

    # -- spaces and widths

    def take(self, measures: Mapping[str, Any], layers: str | Sequence[str] | None) -> None:
        """Condense the requested spaces, in the order of the data."""
        named = [layer for each in measures.values() if isinstance(each, Mapping) for layer in each]
        threshold, *others = [measures["threshold"], *(v for k, v in measures.items() if k != "threshold")]
        every = threshold.values() if isinstance(threshold, Mapping) else [threshold]
        self._is_at_one = all(each == 1.0 for each in every) and all(each is None for each in others)
        spaces = self.sampling.spaces = self.chosen(named or layers)
        if self.method.merge == "refit":
            self.sampling.receive()
        asked: dict[Space, list[tuple[str, Any]]] = {space: [] for space in spaces}
        for name, value in measures.items():
            if isinstance(value, Mapping):
                for layer, number in value.items():
                    asked[self.channels.named(layer)].append((name, number))
            elif value is not None:
                widths = self._within(spaces, value, layers) if name == "ratio" else {}
                for space in spaces:
                    asked[space].append(("widths", widths[space]) if widths else (name, value))
        for space, given in asked.items():
            if len(given) > 1:
                raise UsageError(f"layer {space.layers[0]} is named more than once, or with layers that it is tied to")
            if given[0][0] == "widths":
                self._limits.check(space, given[0][1])
        for space in steps(spaces, self.method.report, lambda space: f"cutting {space.layers[0]}"):
            self._cut(space, **dict(asked[space]))
            self.sampling.let_go(space)

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

    def _within(self, spaces: Sequence[Space], ratio: float, layers: object) -> dict[Space, int]:
        """Widths at which at most `ratio` of the budget is left. UsageError, naming what keeps most, where there are
        none."""
        try:
            return self._by_ratio(spaces, ratio)
        except OutOfReach as error:
            refusals = {space: self._refusal(space) for space in self.channels.spaces} if layers is None else {}
            budget = self.method.budget(self.original, self.channels_before, self.example)
            held = Sizes(self.result, self.channels, budget).held(
                {space: why for space, why in refusals.items() if why}
            )
            raise UsageError("\n".join([str(error), *held])) from None

    def _by_ratio(self, spaces: Sequence[Space], ratio: float) -> dict[Space, int]:
        """Widths at which at most `ratio` of the budget is left."""
        budget = self.method.budget(self.original, self.channels_before, self.example)
        sizes, target = Sizes(self.result, self.channels, budget), ratio * budget.whole * (1.0 + _ROUNDING)
        matrices, lacks, changes = dict[Space, Floats](), dict[Space, Floats](), dict[Space, Floats]()
        for space in steps(spaces, self.method.report, lambda space: f"looking at {space.layers[0]}"):
            view, found = self._found(space)
            if isinstance(found, Ranked):
                lacks[space] = self._left(found)
                changes[space] = self._change(view, found, lacks[space])
            else:
                matrices[space] = prepared(view, found)
        if not lacks:
            return sizes.measured(lambda aim: sizes.by_threshold(matrices, aim, self._limits.rounded), target)
        curves = {space: changes[space] + TIE * left for space, left in lacks.items()}
        widths = sizes.measured(lambda aim: sizes.cheapest(curves, aim, self._limits.rounded), target)
        self.left |= {space: float(lacks[space][width]) for space, width in widths.items()}
        self.change |= {space: float(changes[space][width]) for space, width in widths.items()}
        return widths

    @cached_property
    def _sensitivity(self) -> Sensitivity:
        """That of the outputs before anything is cut."""
        assert self.calibration is not None
        return Sensitivity(self.result, self.calibration)

    def _change(self, view: View, found: Ranked, left: Floats) -> Floats:
        """Change of the outputs by number of channels (m + 1,), when this space is cut alone."""
        space, every = view.space, self.sampling.spaces
        touched = self.surgery.touched(every[every.index(space) :])

        def change(width: int) -> float:
            cut = self._merged(view, found, self._grouping(view, found, None, width), is_trial=True)
            assert cut.by_place is not None
            made = dict(zip(space.consumers, cut.by_place, strict=True))
            return self._sensitivity.change(in_place(self.surgery, space, cut.kept, made), touched)

        return by_width(left, measured(tried(space.width, partial(self._limits.rounded, space)), change))

    def _left(self, found: Ranked) -> Floats:
        if found.left is None:
            raise UsageError(f"choice {self.method.name} needs widths or a loss_increase")
        return found.left()

    # -- one space

    def _view(self, space: Space) -> View:
        is_estimated = self.calibration is not None

        def takes_up(place: Place) -> bool:
            return self.surgery.shifts(place, is_estimated=is_estimated, may_add=self._may_add_biases)

        samples = partial(self.sampling.samples, space, self.surgery, self.method.name)
        return View(self.surgery, space, self.example, samples, takes_up, partial(self.sampling.activity, space))

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
        self.sampling.has_cut(space)

    def _by_loss(self, view: View, found: Alike | Ranked, increase: float) -> int:
        """The smallest width at which the loss is at most a share larger than before the cut."""
        assert self.loss is not None
        self.sampling.move_statistics(self.surgery)
        loss, limit, width = self.loss, (1.0 + increase) * self.loss(self.result), view.width
        if isinstance(found, Ranked):
            found.first(width)  # once for all: the channels of every smaller width are the first of these

        def is_enough(width: int) -> bool:
            main_of = self._grouping(view, found, None, width)
            surgery, space = copy.deepcopy((self.surgery, view.space))
            self._merged(view, found, main_of).apply(surgery, space)
            self.sampling.move_statistics(surgery, is_trial=True)
            return loss(surgery.model) <= limit

        widths = sorted({self._limits.rounded(view.space, each) for each in range(1, width)})
        return [*widths, width][bisect.bisect_left(widths, True, key=is_enough)]

    def _grouping(
        self, view: View, found: Alike | Ranked, threshold: float | None, width: int | None
    ) -> similarity.Grouping:
        """Groups at a threshold or of a width; blocks of channels that are not mixed keep as many each."""
        space = view.space
        if isinstance(found, Ranked):
            if width is None:
                width = self._sufficient(space, found, threshold)
            kept = found.first(width)
            main_of = np.full(space.width, similarity.NO_GROUP)
            main_of[kept] = kept
            return main_of
        matrix = prepared(view, found)
        main_of = grouped(space, matrix, threshold, width, self._limits.rounded)
        members = np.flatnonzero((main_of != similarity.NO_GROUP) & (main_of != np.arange(space.width)))
        self.similarity[space] = float(matrix[members, main_of[members]].min(initial=1.0))
        return main_of

    def _sufficient(self, space: Space, found: Ranked, threshold: float | None) -> int:
        """The smallest width at which the readers' inputs have this cosine with the target."""
        assert threshold is not None
        left = self._left(found)
        enough = np.flatnonzero(left <= max(1.0 - threshold**2, _NOTHING_LEFT))
        width = self._limits.rounded(space, int(enough[0]) if len(enough) else space.width)
        self.left[space] = float(left[width])
        return width

    def _even(self, space: Space, main_of: similarity.Grouping) -> similarity.Grouping:
        """Groups with which what is normalised together keeps its statistics."""
        columns = self.channels.columns
        is_mixed = any(columns[p.module].count_of(p.segment) < columns[p.module].count for p in space.together)
        result = even(space, main_of, 1 if is_mixed else space.width, self._limits.rounded)
        if similarity.n_groups(main_of) < similarity.n_groups(result) == space.width:
            name = space.together[0].module
            self._kept_together.append(
                f"{space.layers[0]}: {name} normalises its channels together, and not all have as many copies"
            )
        return result

    # -- merges

    def _merged(
        self,
        view: View,
        found: Alike | Ranked,
        main_of: similarity.Grouping,
        *,
        is_exact: bool = False,
        is_trial: bool = False,
    ) -> Cut:
        """The cut of a space to groups, to be made in one surgery or another; where it is exact, there is no refit."""
        kept, space = similarity.mains(main_of), view.space
        number = self.channels.spaces.index(space)
        if isinstance(found, Alike) and found.merge is not None:
            merge = found.merge
            self.sampling.move_statistics(self.surgery)  # for the last time: the rule makes new ones of them
            return Cut(number, kept, lambda surgery, space: merge(surgery, space, main_of))
        if callable(self.method.merge):
            given = dict.fromkeys(space.consumers, self.method.merge(view, kept))
            shifts = dict[Place, Floats]()
        else:
            given = {place: published_share(found, main_of, place) for place in space.consumers}
            goes = ~np.isin(np.arange(view.width), kept)
            shifts = {place: np.where(goes, np.nan_to_num(values), 0.0) for place, values in view.constant.items()}
            if self.method.merge == "refit" and not is_exact:
                self._refit(view, kept, given, shifts, at_once=is_trial)
        by_place = [(given[place], shifts.get(place)) for place in space.consumers]

        def apply(surgery: Surgery, space: Space) -> None:
            every = zip(space.consumers, by_place, strict=True)
            of_place = {place: (share, shift) for place, (share, shift) in every}
            some = {place: shift for place, (_, shift) in of_place.items() if shift is not None}
            surgery.cut(space, kept, {place: share for place, (share, _) in of_place.items()}, some)

        return Cut(number, kept, apply, by_place)

    def _refit(
        self, view: View, kept: Indices, given: dict[Place, Floats], shifts: dict[Place, Floats], *, at_once: bool
    ) -> None:
        """Shares with which the input of every reader is closest to its input before anything was cut.

        Of channels that are normalised together, readers get what those before them leave, or, all `at_once`, would get
        with those as they were.
        """
        samples, after = view.samples(), dict[Place, torch.Tensor]()
        for place, sample in samples.items():
            if view.space.together:
                if place not in after:
                    readers = list(samples) if at_once else [place]
                    after = self.sampling.after(self.surgery, view.space, kept, readers, given, shifts)
                sample = Sample(after[place], sample.wanted, self.surgery.shifts(place))
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

    def finished(self) -> nn.Module:
        """The condensed model, its statistics estimated anew."""
        self.sampling.move_statistics(self.surgery)
        return self.result

    def warn(self) -> None:
        """A warning where merging could not be exact, with the change it made."""
        if self._kept_together:
            warnings.warn("copies were left alone:\n" + "\n".join(self._kept_together), stacklevel=3)
        if not self._warns:
            return
        x, on = self.calibration, "the calibration inputs"
        if x is None:
            x, on = drawn(self.example, self.original, PROBES), "inputs drawn in the scale of the example"
        change = output_change(self.original, self.result, x)
        if change > _SAME:
            warnings.warn(
                f"merging by the paper's rule is exact for activations like ReLU only; here it changed the outputs by "
                f"{100 * change:.2g} % on {on}. Merge refit corrects most of it.",
                stacklevel=3,
            )
