"""What is known of the graph of a model while it is traced: where channels lie, and what is done to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import fx, nn

from chemnet.condensation.channel_statistics import Statistic
from chemnet.condensation.graph import Block, Indices, Layer, Layout, Signal, Space, nameless
from chemnet.condensation.operations import name_of, shape_of
from chemnet.condensation.spaces import Spaces


class Traced:
    """The layouts of tensors by node, those of the inputs of modules by name, and the spaces so far; `shared` are the
    modules that are used more than once, `not_run` the widths that layers beside the way of the example read."""

    def __init__(self, modules: dict[str, nn.Module], shared: set[str], not_run: Mapping[str, int]) -> None:
        self.modules, self.shared, self.not_run = modules, shared, not_run
        self.spaces = Spaces()
        self.layouts: dict[fx.Node, Layout] = {}
        self.parts: dict[fx.Node, list[Layout]] = {}  # of nodes that are several tensors
        self.rows: dict[str, Indices] = {}  # atoms that layers make
        self.inputs: dict[str, Layout] = {}
        self.followers: list[str] = []
        self.consumers: list[str] = []
        self.together: list[str] = []  # followers that normalise several channels together
        self.statistics: dict[str, Statistic] = {}  # of the followers, those that are functions
        self.with_vectors: set[fx.Node] = set()  # products and sums of channels with vectors
        self.normalised: dict[str, str] = {}  # layer -> the BatchNorm that alone reads it

    def layout(self, node: Any) -> Layout | None:
        """The layout of an argument that is a tensor with channels; None for anything else."""
        return self.layouts.get(node) if isinstance(node, fx.Node) else None

    def has_channels(self, node: Any) -> bool:
        """Whether some of a tensor's channels are those of a layer."""
        layout = self.layout(node)
        return layout is not None and bool((layout.atoms >= 0).any())

    def make(self, node: fx.Node, name: str, axis: int, width: int) -> Indices:
        """New channels of a layer along an axis of a node's tensor."""
        atoms = self.rows[name] = self.spaces.new(Space(width, [name]))
        signal = Signal((Block(((name, 0),)),))
        self.layouts[node] = Layout((axis,), atoms, np.zeros(width, dtype=np.int64), (signal,))
        return atoms

    def pass_on(self, node: fx.Node, layout: Layout, *, is_plain: bool, is_mixed: bool = False) -> None:
        """Every channel stays by itself, and a factor that all its values have is a factor of the result."""
        self.layouts[node] = passed(layout, is_plain=is_plain, is_mixed=is_mixed)

    def activate(self, node: fx.Node, layout: Layout, activation: str, is_homogeneous: bool) -> None:
        """Value by value; the spaces remember by what."""
        for space in self.spaces.of(layout):
            space.activations.append(activation)
            space.is_homogeneous &= is_homogeneous
        self.pass_on(node, layout, is_plain=False)

    def take_statistic(self, node: fx.Node, layout: Layout) -> None:
        """A function over the channels: what it gives is that of those that stay, and no factor is one in it."""
        name, (function, ordinal) = name_of(node), node.meta["call"]
        for space in self.spaces.of(layout):
            space.is_homogeneous = False
        self.statistics[name] = Statistic(function, ordinal, layout.moving_axis, layout.atoms.size)
        self.inputs[name] = layout
        self.followers.append(name)
        self.together.append(name)
        self.forget(node)

    def unite(self, atoms: Indices, others: Indices) -> None:
        """Make one channel of the atoms at the same place of two arrays, where both are those of a layer."""
        both = (atoms >= 0) & (others >= 0)
        if (both & (atoms != others)).any():
            self.spaces.unite(atoms[both], others[both])

    def unknown(self, node: fx.Node, reason: str) -> None:
        """Nothing is known of the result; what goes in stays as it is, and so does a layer, which is listed."""
        self.spaces.leave([self.layouts[n] for n in node.all_input_nodes if n in self.layouts], reason)
        for source in node.all_input_nodes:
            self.spaces.leave(self.parts.get(source, ()), reason)
        module = self.modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, Layer) and not any(space.layers == [node.target] for space in self.spaces.every):
            width = module.out_features if isinstance(module, nn.Linear) else module.out_channels
            self.spaces.new(Space(width, [str(node.target)], reason=reason))
        self.forget(node)

    def forget(self, node: fx.Node) -> None:
        """A tensor of channels that are no layer's."""
        shape = shape_of(node)
        if shape is not None and len(shape) > 1:
            self.layouts[node] = nameless(1, shape[1])


def passed(layout: Layout, *, is_plain: bool, is_mixed: bool = False) -> Layout:
    """A layout of what was made of its channels, each by itself."""
    signals = tuple(s and Signal(s.blocks, s.is_plain and is_plain, s.is_mixed or is_mixed) for s in layout.signals)
    return replace(layout, signals=signals)


def taken(layout: Layout, axes: Sequence[int], places: Indices, moving: int) -> Layout:
    """The layout of columns at some places of a flattened one, along other axes."""
    atoms, segments = layout.atoms.ravel()[places], layout.segments.ravel()[places]
    left, numbers = np.unique(segments, return_inverse=True)
    return Layout(tuple(axes), atoms, numbers.reshape(atoms.shape), tuple(layout.signals[s] for s in left), moving)
