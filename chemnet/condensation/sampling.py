"""What the readers of a model receive on calibration inputs, before anything was cut and now."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TypeVar

import torch
from torch import nn

from chemnet.condensation.calibration import Moments, correcting, measuring, normalisations, received, run
from chemnet.condensation.channels import Channels
from chemnet.condensation.choices import Sample
from chemnet.condensation.graph import Floats, Indices, Place, Space
from chemnet.condensation.inputs import Inputs, drawn
from chemnet.condensation.prediction import received_after
from chemnet.condensation.resuming import Resuming, Unfollowed
from chemnet.condensation.surgery import Surgery
from chemnet.runtime.errors import ChemnetError, UsageError

Result = TypeVar("Result")

PROBES = 256
_DRAWN_ROWS = 1024


class Sampling:
    """Samples of the readers of `spaces`, which are cut one after the other; without calibration inputs, of drawn ones.

    Statistics of normalisations are estimated anew before anything that follows them is sampled.
    """

    def __init__(self, original: nn.Module, channels: Channels, example: Inputs, calibration: Inputs | None) -> None:
        self.calibration, self.spaces = calibration, list[Space]()
        self._original, self._channels, self._example = original, channels, example
        self._is_cut = self._is_stale = False  # whether statistics are of before the last cut
        self._moments: Moments | None = None
        self._resuming: Resuming | None = Resuming()  # None once the model cannot be resumed
        self._next = self._reached = 0  # which of the spaces is cut next, and was when the model was last resumed
        self._wanted: dict[Place, torch.Tensor] = {}  # what readers received before anything was cut
        self._active: dict[Place, torch.Tensor] | None = None  # the same, on drawn inputs
        self._sampled: tuple[Space, dict[Place, Sample]] | None = None

    def samples(self, space: Space, surgery: Surgery, choice: str) -> dict[Place, Sample]:
        """Inputs of the readers of a space, now and before anything was cut. UsageError, naming the choice, without
        calibration inputs."""
        if self.calibration is None:
            raise UsageError(f"choice {choice} needs calibration inputs")
        if self._sampled is None or self._sampled[0] is not space:
            self._want(space)
            now = self._now(space, surgery) if self._is_cut else self._wanted
            samples = {p: Sample(now[p], self._wanted[p], surgery.shifts(p)) for p in space.consumers}
            self._sampled = space, samples
        return self._sampled[1]

    def activity(self, space: Space) -> dict[Place, torch.Tensor]:
        """What the readers of a space received before anything was cut; nothing where no inputs can be drawn."""
        if self.calibration is not None:
            self._want(space)
            return {place: self._wanted[place] for place in space.consumers}
        if self._active is None:
            self._active = self._draw()
        return {place: self._active[place] for place in space.consumers if place in self._active}

    def receive(self) -> None:
        """Sample the inputs of the readers of all spaces before anything is cut."""
        assert self.calibration is not None
        places = [place for space in self.spaces for place in space.consumers]
        is_whole = self._moments is None and bool(normalisations(self._original))
        with measuring(self._original) as found:
            self._wanted = received(self._original, self._channels, places, self.calibration, is_whole=is_whole)
        if is_whole and places:
            self._moments = found

    def has_cut(self, space: Space) -> None:
        """Note the cut of a space."""
        self._is_cut = self._is_stale = True
        self._next = self.spaces.index(space) + 1

    def let_go(self, space: Space) -> None:
        """Forget the samples of a space that has been cut, or stays as it is."""
        self._sampled = None
        for place in space.consumers:
            self._wanted.pop(place, None)

    def move_statistics(self, surgery: Surgery, *, is_trial: bool = False) -> None:
        """Estimate statistics anew, if there are any and they are not; of a trial always."""
        if self.calibration is not None and (self._is_stale or is_trial) and normalisations(surgery.model):
            context, every = partial(self._correcting, surgery), partial(run, surgery.model, self.calibration)
            if is_trial:
                with context():
                    every()
            else:
                self._resumed(surgery, every, context)
        self._is_stale &= is_trial

    def after(
        self,
        surgery: Surgery,
        space: Space,
        kept: Indices,
        readers: Sequence[Place],
        shares: Mapping[Place, Floats],
        shifts: Mapping[Place, Floats],
    ) -> dict[Place, torch.Tensor]:
        """Samples (n, m) of what readers will get of a space after a cut, as in `prediction.received_after`."""
        assert self.calibration is not None
        self._next = self.spaces.index(space)
        sample = partial(received_after, surgery, space, kept, readers, shares, shifts, self.calibration)
        # values that running statistics have made are not those of the last forward, in which they were estimated anew;
        # statistics that functions take are known by the number of their call, and so by all calls
        if normalisations(surgery.model) or surgery.channels.statistics:
            return sample()
        return self._resumed(surgery, sample, nullcontext)

    def _resumed(
        self, surgery: Surgery, make: Callable[..., Result], context: Callable[[], AbstractContextManager[None]]
    ) -> Result:
        """What is made in a context, if possible `resuming` the model where it was cut last."""
        if self._resuming is not None:
            if self._next < self._reached:
                self._resuming = Resuming()
            self._reached = self._next
            norms = normalisations(surgery.model).values()
            moving = [x for norm in norms for x in (norm.running_mean, norm.running_var)]
            self._resuming.begin(surgery.touched(self.spaces[self._next :]), moving)
            try:
                with context():
                    return make(resuming=self._resuming)
            except Unfollowed:
                self._resuming = None
        with context():
            return make()

    def _correcting(self, surgery: Surgery) -> AbstractContextManager[None]:
        assert self.calibration is not None
        if self._moments is None:
            with measuring(self._original) as self._moments:
                if normalisations(self._original):
                    run(self._original, self.calibration)
        return correcting(surgery, self._original, self._moments)

    def _now(self, space: Space, surgery: Surgery) -> dict[Place, torch.Tensor]:
        """Inputs of the readers of a space now; what comes behind them need not be run."""
        assert self.calibration is not None
        self._next = self.spaces.index(space)
        sample = partial(received, surgery.model, surgery.channels, space.consumers, self.calibration)
        return self._resumed(surgery, sample, partial(self._correcting, surgery)) if self._is_stale else sample()

    def _want(self, space: Space) -> None:
        if not self._wanted.keys() >= set(space.consumers):
            self.receive()

    def _draw(self) -> dict[Place, torch.Tensor]:
        places = [place for space in self.spaces for place in space.consumers]
        for inputs in (drawn(self._example, self._original, self._example.room(PROBES)), self._example):
            try:
                return received(self._original, self._channels, places, inputs, _DRAWN_ROWS)
            except ChemnetError:
                continue
        return {}
