"""The spaces of a model and how its modules read them, at the widths that they have now."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from torch import nn

from chemnet.condensation.graph import Indices, Place, Segment, Space
from chemnet.condensation.numbering import Numbering
from chemnet.condensation.tracing import Tracer
from chemnet.runtime.errors import UsageError
from chemnet.runtime.tables import Table


class Channels:
    """The spaces of a model, and how its modules read them. The model itself is not changed."""

    def __init__(self, model: nn.Module, example_input: Any) -> None:
        traced = Tracer(model, example_input).traced
        numbering = Numbering(traced.spaces, traced.rows, traced.inputs)
        self.spaces = [traced.spaces.every[root] for root in numbering.roots]
        self.normalised, self.statistics = traced.normalised, traced.statistics
        self.rows = {layer: numbering.made(layer) for layer in traced.rows}
        self.columns = {name: numbering.read(name) for name in traced.inputs}
        self.inputs: dict[str, tuple[Segment, ...]] = {}
        for name, layout in traced.inputs.items():
            roots = [numbering.space_of(name, segment) for segment in range(len(layout.signals))]
            numbers = [None if root is None else numbering.roots.index(root) for root in roots]
            self.inputs[name] = tuple(map(Segment, numbers, layout.signals))
        for kind in ("followers", "consumers", "together"):
            for name in getattr(traced, kind):
                self._attach(name, kind)
        for name, width in traced.not_run.items():
            for space in self.spaces:
                if space.width == width:
                    space.leave_alone(f"the forward goes by the values of a tensor, and {name} may read it then")
        for space in self.spaces:
            if not space.consumers:
                space.leave_alone("no layer reads its channels")

    def _attach(self, module: str, kind: str) -> None:
        for position, segment in enumerate(self.inputs[module]):
            if segment.space is not None:
                getattr(self.spaces[segment.space], kind).append(Place(module, position))

    def columns_of(self, place: Place) -> Indices:
        """Columns (m, r) of the input of a module that each channel of a space lies in; -1 for none."""
        space = self._of(self.inputs[place.module][place.segment])
        return self.columns[place.module].table(place.segment, space.width)

    def rows_of(self, layer: str) -> Indices:
        """Rows (m, r) of a layer that make each channel of a space; -1 for none."""
        return self.rows[layer].table(0, self.made_by(layer).width)

    def made_by(self, layer: str) -> Space:
        """The space of the channels that a layer makes."""
        return next(space for space in self.spaces if layer in space.layers)

    def read(self, module: str, widths: Mapping[Space, Any]) -> Any:
        """Columns of a module's input, at these widths of some spaces, numbers or arrays."""
        columns, result = self.columns[module], 0
        for number, segment in enumerate(self.inputs[module]):
            count = columns.count_of(number)
            if segment.space is not None and (space := self._of(segment)) in widths:
                count = count * widths[space] // space.width
            result = result + count
        return result

    def made(self, layer: str, widths: Mapping[Space, Any]) -> Any:
        """Rows of a layer, at these widths of some spaces, numbers or arrays."""
        space, count = self.made_by(layer), self.rows[layer].count
        return count * widths[space] // space.width if space in widths else count

    def _of(self, segment: Segment) -> Space:
        assert segment.space is not None
        return self.spaces[segment.space]

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
    Raises UsageError for a model that cannot be traced or does not take the input.
    """
    return Channels(model, example_input).table()
