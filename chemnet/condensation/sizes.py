"""What the forward of a model reads of the sizes of tensors.

A number of channels that only says the shape of a tensor, as in `x.view(n, c, -1)`, is read again after a cut. What
else is made of it would be another thing then, so these channels are left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import fx

from chemnet.condensation import operations as ops
from chemnet.condensation.graph import Layout
from chemnet.condensation.operations import arguments, name_of, shape_of
from chemnet.condensation.recorded_sizes import sizes_in
from chemnet.condensation.traced import Traced


class Sizes:
    """The numbers in a graph that are sizes of tensors, or were computed from some."""

    def __init__(self, traced: Traced) -> None:
        self._traced = traced
        self._axes: dict[fx.Node, tuple[fx.Node, tuple[int, ...]]] = {}  # of whose tensor a node holds which sizes
        self._values: dict[fx.Node, Any] = {}
        self._widths: dict[fx.Node, frozenset[fx.Node]] = {}  # tensors whose number of channels is in a number
        self._said: list[tuple[fx.Node, Layout, str]] = []
        self._told: list[tuple[str, Layout, str]] = []  # the same of widths of modules

    def visit(self, node: fx.Node) -> bool:
        """Take up a node that is no tensor; whether it is a size, or a number made of sizes alone."""
        source = node.args[0] if node.args else None
        asked = node.args[1] if node.target is getattr else node.target
        if isinstance(source, fx.Node) and asked in ops.SHAPES and (shape := shape_of(source)) is not None:
            axes, (place,) = tuple(range(len(shape))), arguments(node, ("dim", None))
            if node.target == "size" and isinstance(place, int):
                self._take(node, source, (axes[place],), shape[place])
            else:
                self._take(node, source, axes, shape)
        elif isinstance(source, fx.Node) and source in self._axes and ops.is_getitem(node):
            whole, axes = self._axes[source]
            index = self._index(node.args[1])
            taken = axes[index]
            self._take(node, whole, taken if isinstance(taken, tuple) else (taken,), self._values[source][index])
        elif (
            node.target in ops.ARITHMETIC and node.all_input_nodes and self._values.keys() >= set(node.all_input_nodes)
        ):
            args, kwargs = self.filled(node.args), self.filled(node.kwargs)
            widths = frozenset[fx.Node]().union(*(self._widths[n] for n in node.all_input_nodes))
            self._note(node, widths, node.target(*args, **kwargs))
        else:
            return False
        return True

    def filled(self, given: Any, known: Mapping[fx.Node, Any] | None = None) -> Any:
        """Arguments with the values of the sizes in them, and of other nodes that are known."""
        values = {**self._values, **(known or {})}
        return fx.node.map_arg(given, lambda node: values.get(node, node))

    def _index(self, given: Any) -> Any:
        if isinstance(given, slice):
            return slice(*(self.filled(each) for each in (given.start, given.stop, given.step)))
        return self.filled(given)

    def say(self, node: fx.Node, given: Any, layout: Layout) -> None:
        """Numbers among the arguments of a node say how long the channels of a layout are."""
        for source in dict.fromkeys(s for n in _nodes(given) for s in self._widths.get(n, ())):
            self._said.append((source, layout, f"the forward reads its width ({source.name}, for {name_of(node)})"))
        for name in dict.fromkeys(name for size in sizes_in((given,)) for name in size.modules):
            self._told.append((name, layout, f"{name_of(node)} has the width of {name} where its channels are"))

    def settle(self) -> None:
        """Channels whose number says how long others are have to be the same, or both stay."""
        spaces = self._traced.spaces
        for source, layout, reason in self._said:
            known = self._traced.layouts[source]
            if set(spaces.of_atoms(known.atoms)) != set(spaces.of_atoms(layout.atoms)):
                spaces.leave([known, layout], reason)
        for name, layout, reason in self._told:
            atoms = [self._traced.rows[name]] if name in self._traced.rows else []
            atoms += [self._traced.inputs[name].atoms] if name in self._traced.inputs else []
            mine = set(spaces.of_atoms(layout.atoms))
            if atoms and all(set(spaces.of_atoms(each)) != mine for each in atoms):
                for number in mine.union(*(spaces.of_atoms(each) for each in atoms)):
                    spaces.every[number].leave_alone(reason)

    def _take(self, node: fx.Node, source: fx.Node, axes: tuple[int, ...], value: Any) -> None:
        self._axes[node] = source, axes
        layout = self._traced.layouts.get(source)
        is_width = layout is not None and layout.moving_axis in axes
        self._note(node, frozenset({source} if is_width else ()), value)

    def _note(self, node: fx.Node, widths: frozenset[fx.Node], value: Any) -> None:
        self._values[node], self._widths[node] = value, widths
        users = [user for user in node.users if not (ops.is_number(user) or ops.shapes_by(user, node))]
        if widths and (users or node.meta.get("read")):
            what = f", for {name_of(users[0])}" if users else ""
            layouts = [self._traced.layouts[source] for source in widths]
            self._traced.spaces.leave(layouts, f"the forward reads its width ({node.name}{what})")


def _nodes(given: Any) -> list[fx.Node]:
    found: list[fx.Node] = []

    def note(node: fx.Node) -> fx.Node:
        found.append(node)
        return node

    fx.node.map_arg(given, note)
    return found
