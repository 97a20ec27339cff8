"""The spaces of a model and how its modules read them, at the widths that they have now."""

from __future__ import annotations

import difflib
from typing import Any

from torch import nn

from chemnet.condensation.graph import Place, Segment, Space
from chemnet.condensation.tracing import Tracer
from chemnet.runtime.errors import UsageError
from chemnet.runtime.tables import Table


class Channels:
    """The spaces of a model, and how its modules read them. The model itself is not changed."""

    def __init__(self, model: nn.Module, example_input: Any) -> None:
        tracer = Tracer(model, example_input)
        self.inputs = {name: layout.segments for name, layout in tracer.inputs.items()}
        self.normalised = tracer.normalised
        names: dict[int, int] = {}
        self.spaces: list[Space] = []
        every = tracer.spaces
        for number in range(len(every.every)):
            root = every.root(number)
            if root not in names:
                names[root] = len(self.spaces)
                self.spaces.append(every.every[root])
        self._number = {number: names[every.root(number)] for number in range(len(every.every))}
        for name in tracer.followers:
            self._attach(name, "followers")
        for name in tracer.consumers:
            self._attach(name, "consumers")
        for name, width in tracer.not_run.items():
            for space in self.spaces:
                if space.width == width:
                    space.leave_alone(f"the forward goes by the values of a tensor, and {name} may read it then")
        for space in self.spaces:
            if not space.consumers:
                space.leave_alone("no layer reads its channels")

    def _attach(self, module: str, kind: str) -> None:
        for position, segment in enumerate(self.inputs[module]):
            if segment.space is not None:
                getattr(self.space_of(segment), kind).append(Place(module, position))

    def space_of(self, segment: Segment) -> Space:
        """The space of a segment that has one."""
        assert segment.space is not None
        return self.spaces[self._number[segment.space]]

    def width_of(self, segment: Segment) -> int:
        """Channels that a segment has now."""
        return segment.width if segment.space is None else self.space_of(segment).width

    def offset(self, place: Place) -> int:
        """The first column of a segment in the input of a module, now."""
        before = self.inputs[place.module][: place.segment]
        return sum(self.width_of(segment) * segment.repeats for segment in before)

    def repeats(self, place: Place) -> int:
        """Columns of each channel in the input of a module."""
        return self.inputs[place.module][place.segment].repeats

    def named(self, layer: str) -> Space:
        """The space that a layer makes or follows. UsageError, naming the nearest ones, where there is none."""
        for space in self.spaces:
            if layer in space.layers or any(layer == place.module for place in space.followers):
                return space
        known = [name for space in self.spaces for name in (*space.layers, *(p.module for p in space.followers))]
        near = difflib.get_close_matches(layer, known, n=3, cutoff=0.0)
        raise UsageError(f"no layer {layer!r} with channels to condense; the nearest are {', '.join(near) or 'none'}")

    def table(self) -> Table:
        """State of every space: that it can be condensed, or the reason why not."""
        rows = [(", ".join(space.layers), space.width, space.reason or "can be condensed") for space in self.spaces]
        return Table("channels", ("layers", "channels", "state"), rows)


def survey(model: nn.Module, example_input: Any) -> Table:
    """Table of the layers that `condense` can make smaller, and for the others of the reason why it cannot.

    `example_input` is what `condense` takes.
    Raises UsageError for a model that does not run on the input or cannot be copied.
    """
    return Channels(model, example_input).table()
