"""Tracing of the channels of every tensor through the graph of a model.

An operation that is not known to keep channels apart ends them: what goes in is left alone, with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx, nn

from chemnet.condensation import operations as ops
from chemnet.condensation.capture import captured
from chemnet.condensation.graph import (
    Block,
    Follower,
    Instance,
    Layer,
    Layout,
    Normalisation,
    Segment,
    Signal,
    Space,
    Transposed,
    has_one_slope,
    is_depthwise,
    read_by,
)
from chemnet.condensation.inputs import Inputs
from chemnet.condensation.operations import arguments, name_of, shape_of
from chemnet.condensation.spaces import Spaces, divide


class Tracer:
    """Follows the channels of every tensor through the graph of a model."""

    def __init__(self, model: nn.Module, example_input: Any) -> None:
        capture = captured(model, Inputs.of(example_input, model))
        self.modules = dict(model.named_modules())
        self.spaces, self.not_run = Spaces(), capture.not_run
        self.layouts: dict[fx.Node, Layout] = {}
        self.inputs: dict[str, Layout] = {}
        self.followers: list[str] = []
        self.consumers: list[str] = []
        self.normalised: dict[str, str] = {}  # layer -> the BatchNorm that alone reads it
        self._shared = _shared(capture.graph, model)
        self._axes: dict[fx.Node, tuple[fx.Node, tuple[int, ...]]] = {}  # of whose tensor a node holds which sizes
        for node in capture.graph.nodes:
            self._visit(node)
        for name in sorted(capture.read_widths & self.inputs.keys()):
            made = [space for space in self.spaces.every if name in space.layers]
            for space in (*made, *self.spaces.of(self.inputs[name])):
                space.leave_alone(f"the forward reads the width of {name}")

    # -- one node

    def _visit(self, node: fx.Node) -> None:
        shape = shape_of(node)
        tensors = [self.layouts[n] for n in node.all_input_nodes if n in self.layouts]
        if node.meta.get("hidden"):
            changed = [self.layouts[n] for n in node.meta["hidden"] if n in self.layouts]
            self.spaces.leave([*tensors, *changed], f"{name_of(node)} changes it in place under another name")
        if node.op == "output":
            self.spaces.leave(tensors, "it is an output of the model")
        elif node.op in ("placeholder", "get_attr"):
            self._nameless(node, shape)
        elif shape is None:
            self._question(node, tensors)
        elif node.op == "call_module":
            self._module(node, str(node.target), self.modules[str(node.target)], shape)
        else:
            self._function(node, node.target, shape)

    def _question(self, node: fx.Node, tensors: Sequence[Layout]) -> None:
        """What is no tensor: sizes may be read, but for the number of channels, and nothing else."""
        source = node.args[0] if node.args else None
        asked = node.args[1] if node.target is getattr else node.target
        if isinstance(source, fx.Node) and asked in ops.SHAPES:
            axes = tuple(range(len(shape_of(source) or ())))
            if node.target == "size" and isinstance(place := arguments(node, ("dim", None))[0], int):
                axes = (axes[place],)
            self._sizes(node, source, axes)
        elif isinstance(source, fx.Node) and source in self._axes and ops.is_getitem(node):
            whole, axes = self._axes[source]
            taken = axes[node.args[1]] if isinstance(node.args[1], int | slice) else axes
            self._sizes(node, whole, taken if isinstance(taken, tuple) else (taken,))
        elif node.op == "call_module" and isinstance(module := self.modules[str(node.target)], nn.RNNBase):
            reason = f"{node.target} ({type(module).__name__}) feeds its channels back into its own gates"
            self.spaces.new(Space(module.hidden_size, [str(node.target)], reason=reason))
            self.spaces.leave(tensors, f"{node.target} ({type(module).__name__}) reads it")
        elif asked not in ops.HARMLESS:
            self.spaces.leave(tensors, f"{name_of(node)} reads its channels")

    def _sizes(self, node: fx.Node, source: fx.Node, axes: tuple[int, ...]) -> None:
        """Sizes of a tensor: what a forward makes of the number of channels would be another thing after a cut."""
        self._axes[node] = source, axes
        layout = self.layouts.get(source)
        users = [user for user in node.users if not ops.is_getitem(user)]
        if layout is not None and layout.axis in axes and (users or node.meta.get("read")):
            what = f", for {name_of(users[0])}" if users else ""
            self.spaces.leave([layout], f"the forward reads its width ({node.name}{what})")

    def _module(self, node: fx.Node, name: str, module: nn.Module, shape: Sequence[int]) -> None:
        source = node.args[0] if node.args else None
        layout = self.layouts.get(source) if isinstance(source, fx.Node) else None
        reason, kind = node.meta.get("objection") or self._objection(name, module, layout), type(module)
        if layout is None or reason:
            self._unknown(node, shape, reason or f"the input of {name} has no channels that are known")
        elif is_depthwise(module) or (isinstance(module, Follower) and not has_one_slope(module)):
            self._follow(node, name, module, layout)
        elif isinstance(module, Layer):
            self._layer(node, name, module, layout, shape)
        elif kind is nn.Flatten:
            self._flatten(node, layout, shape, module.start_dim, module.end_dim)
        elif kind in ops.HOMOGENEOUS | ops.VALUE_BY_VALUE or has_one_slope(module):
            self._activate(node, layout, kind.__name__, kind not in ops.VALUE_BY_VALUE)
        elif kind in ops.PLAIN | ops.POOLS and ops.keeps_apart(kind, layout, shape_of(source)):
            self._pass(node, layout, is_plain=kind in ops.PLAIN)
        else:
            self._unknown(node, shape, f"{name} ({kind.__name__}) is not known to keep channels apart")

    def _objection(self, name: str, module: nn.Module, layout: Layout | None) -> str | None:
        """Why a module has to be left as it is, if it has."""
        if name in self._shared and not has_one_slope(module):
            return f"{name} is used more than once, or shares its weights"
        if reason := ops.strangeness(name, module):
            return reason
        if isinstance(module, Normalisation) and module.running_mean is None:
            return f"{name} keeps no running statistics"
        if isinstance(module, Instance) and module.running_mean is not None:
            return f"{name} keeps running statistics, as torch does not for instances elsewhere"
        follows = (isinstance(module, Follower) and not has_one_slope(module)) or is_depthwise(module)
        if layout is not None and follows and layout.axis != 1:
            return f"{name} reads another axis than that of the channels"
        return None

    def _function(self, node: fx.Node, target: Any, shape: Sequence[int]) -> None:
        tensors = [n for n in node.all_input_nodes if shape_of(n) is not None]
        if target in ops.CONCATENATIONS:
            self._concatenate(node, shape)
        elif target in ops.ADDITIONS | ops.PRODUCTS and len(node.args) == 2 and set(node.args) == set(tensors):
            self._combine(node, node.args[0], node.args[1], shape)
        elif node.meta["is input"] and len(tensors) == 1 and tensors[0] in self.layouts:
            self._pass(node, self.layouts[tensors[0]], is_plain=True)
        elif target in ops.CASTS and node.args[0] in self.layouts:
            self._cast(node, self.layouts[node.args[0]])
        elif len(tensors) == 1 and tensors[0] in self.layouts:
            self._of_one(node, target, tensors[0], shape)
        else:
            self._unknown(node, shape, f"{name_of(node)} is not known to keep channels apart")

    def _of_one(self, node: fx.Node, target: Any, source: fx.Node, shape: Sequence[int]) -> None:
        """A function of one tensor."""
        layout, with_a_number = self.layouts[source], ops.with_a_number(node)
        if with_a_number == "scale":
            self._pass(node, layout, is_plain=False)
        elif with_a_number or target in ops.HOMOGENEOUS_FUNCTIONS | ops.VALUE_BY_VALUE_FUNCTIONS:
            self._activate(node, layout, name_of(node), target in ops.HOMOGENEOUS_FUNCTIONS)
        elif source is not (node.args[0] if node.args else None) or ops.is_random(node):
            self._unknown(node, shape, f"{name_of(node)} is not known to keep channels apart")
        elif target in ops.PLAIN_FUNCTIONS | ops.POOL_FUNCTIONS and ops.keeps_apart(target, layout, shape_of(source)):
            self._pass(node, layout, is_plain=target in ops.PLAIN_FUNCTIONS)
        elif self._is_spatial(node, source) if target in ops.MEANS else ops.pads_places(node, layout):
            self._pass(node, layout, is_plain=False)
        elif target in ops.FLATTENINGS or self._is_flattening(node, target, source):
            axes = (1, -1) if target in ops.RESHAPINGS else arguments(node, ("start_dim", 0), ("end_dim", -1))
            self._flatten(node, layout, shape, *axes)
        else:
            self._unknown(node, shape, f"{name_of(node)} is not known to keep channels apart")

    # -- what happens to the channels

    def _nameless(self, node: fx.Node, shape: Sequence[int] | None) -> None:
        """A tensor of channels that are no layer's."""
        if shape is not None and len(shape) > 1:
            self.layouts[node] = Layout(1, (Segment(None, shape[1]),))

    def _layer(self, node: fx.Node, name: str, module: Layer, layout: Layout, shape: Sequence[int]) -> None:
        """A layer reads all channels and makes new ones."""
        is_linear = isinstance(module, nn.Linear)
        axis = len(shape) - 1 if is_linear else 1
        if layout.axis != axis and not self.spaces.of(layout):
            layout = Layout(axis, (Segment(None, read_by(module)),))
        read = sum(segment.width * segment.repeats for segment in layout.segments)
        if layout.axis != axis or read != read_by(module) or not (is_linear or len(shape) == _dimensions(module) + 2):
            self._unknown(node, shape, f"{name} reads another axis than that of the channels")
            return
        self.inputs[name] = layout
        self.consumers.append(name)
        number = self.spaces.new(Space(shape[axis], [name]))
        signal = Signal((Block(((name, 0),)),))
        self.layouts[node] = Layout(axis, (Segment(number, shape[axis], 1, signal),))
        if not is_linear and module.groups > 1:
            self._grouped(name, module, layout, number)

    def _grouped(self, name: str, module: Layer, layout: Layout, number: int) -> None:
        """Channels of different groups are never merged, and every group keeps as many."""
        per_group = module.in_channels // module.groups
        if isinstance(module, Transposed) or per_group == 1 or len(layout.segments) > 1:
            self.spaces.leave([layout], f"{name} reads it in groups that cannot be kept")
            self.spaces.every[number].leave_alone(f"{name} makes it in groups that cannot be kept")
            return
        for space in (*self.spaces.of(layout), self.spaces.every[number]):
            divide(space, module.groups)

    def _follow(self, node: fx.Node, name: str, module: nn.Module, layout: Layout) -> None:
        """A normalisation, a PReLU or a depthwise convolution: channel by channel, with weights."""
        if isinstance(module, Instance):
            for space in self.spaces.of(layout):
                space.is_homogeneous = False  # a factor is normalised away
        self.inputs[name] = layout
        self.followers.append(name)
        segments = []
        for position, segment in enumerate(layout.segments):
            signal = segment.signal
            if signal is not None:
                # one place of a channel may be normalised unlike another, once they lie in columns of their own
                folds = isinstance(module, Normalisation) and signal.is_plain and segment.repeats == 1
                if folds and len(signal.blocks) == 1:
                    block = signal.blocks[0]
                    blocks = (Block((*block.modules, (name, position)), block.before),)
                else:
                    blocks = (Block(((name, position),), signal),)
                signal = Signal(blocks, is_mixed=signal.is_mixed)
            segments.append(replace(segment, signal=signal))
        self.layouts[node] = Layout(layout.axis, tuple(segments))
        before = node.args[0]
        alone = isinstance(before, fx.Node) and before.op == "call_module" and len(before.users) == 1
        if alone and isinstance(module, Normalisation) and isinstance(self.modules[str(before.target)], Layer):
            self.normalised[str(before.target)] = name

    def _activate(self, node: fx.Node, layout: Layout, activation: str, is_homogeneous: bool) -> None:
        """Value by value; the spaces remember by what."""
        for space in self.spaces.of(layout):
            space.activations.append(activation)
            space.is_homogeneous &= is_homogeneous
        self._pass(node, layout, is_plain=False)

    def _pass(self, node: fx.Node, layout: Layout, *, is_plain: bool, is_mixed: bool = False) -> None:
        """Every channel stays by itself, and a factor that all its values have is a factor of the result."""
        self.layouts[node] = Layout(layout.axis, tuple(_passed(s, is_plain, is_mixed) for s in layout.segments))

    def _cast(self, node: fx.Node, layout: Layout) -> None:
        """A conversion of the type; one that rounds is no matter of a factor."""
        source = node.args[0]
        if ops.is_narrower(node.meta["dtype"], source.meta["dtype"]):
            self._activate(node, layout, name_of(node), False)
        else:
            self._pass(node, layout, is_plain=True)

    def _flatten(self, node: fx.Node, layout: Layout, shape: Sequence[int], start: int, end: int) -> None:
        """(n, c, h, w) -> (n, c h w)."""
        source = shape_of(node.args[0]) or ()
        if layout.axis != 1 or start != 1 or end not in (-1, len(source) - 1):
            self._unknown(node, shape, f"{name_of(node)} flattens other axes than those from the channels on")
            return
        places = math.prod(source[2:])
        self.layouts[node] = Layout(1, tuple(replace(s, repeats=s.repeats * places) for s in layout.segments))

    def _concatenate(self, node: fx.Node, shape: Sequence[int]) -> None:
        parts = node.args[0] if node.args else node.kwargs.get("tensors")
        axis = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
        layouts = [self.layouts.get(part) for part in parts] if isinstance(parts, tuple | list) else [None]
        known = [layout for layout in layouts if layout is not None]
        position = axis + len(shape) if isinstance(axis, int) and axis < 0 else axis
        if len(known) < len(layouts) or any(layout.axis != position for layout in known):
            self._unknown(node, shape, f"{name_of(node)} joins tensors along another axis than that of the channels")
            return
        self.layouts[node] = Layout(known[0].axis, tuple(s for layout in known for s in layout.segments))

    def _combine(self, node: fx.Node, a: fx.Node, b: fx.Node, shape: Sequence[int]) -> None:
        """Two tensors, value by value: what both have as channels has to be condensed alike."""
        first, second = self.layouts.get(a), self.layouts.get(b)
        shapes = [shape_of(a) or (), shape_of(b) or ()]
        scales = node.target in ops.PRODUCTS
        keeps_factors = node.kwargs.get("rounding_mode") is None
        if first and second and self.spaces.of(first) and self.spaces.of(second) and _lie_alike(first, second, shapes):
            moved = replace(first, axis=first.axis - len(shapes[0]) + len(shape))
            self._join(node, moved, second, is_homogeneous=not scales)
        elif first and self._is_for_all(first, shapes[0], shapes[1], shape):
            self._spread(node, first, second, shape, shapes[0], is_homogeneous=scales and keeps_factors)
        elif second and self._is_for_all(second, shapes[1], shapes[0], shape):
            multiplies = scales and node.target not in ops.DIVISIONS
            self._spread(node, second, first, shape, shapes[1], is_homogeneous=multiplies)
        else:
            self._unknown(node, shape, f"{name_of(node)} combines it with something that is no layer's output")

    def _is_for_all(self, layout: Layout, own: Sequence[int], other: Sequence[int], result: Sequence[int]) -> bool:
        """Whether the other tensor has the same values for all channels of this one."""
        place = layout.axis - len(own)  # tensors lie against each other from the last axis on
        is_one = len(other) < -place or other[place] == 1
        return bool(self.spaces.of(layout)) and is_one and result[place] == own[place]

    def _spread(
        self,
        node: fx.Node,
        layout: Layout,
        other: Layout | None,
        shape: Sequence[int],
        own: Sequence[int],
        *,
        is_homogeneous: bool,
    ) -> None:
        """The same factor or summand for all channels, as of a mask of one channel, which stays one."""
        if other is not None:
            self.spaces.leave([other], f"{name_of(node)} applies it to all channels of another")
        for space in self.spaces.of(layout):
            space.is_homogeneous &= is_homogeneous
        moved = replace(layout, axis=layout.axis - len(own) + len(shape))
        self._pass(node, moved, is_plain=False, is_mixed=True)

    def _join(self, node: fx.Node, first: Layout, second: Layout, *, is_homogeneous: bool) -> None:
        """Channels of both sides one to one."""
        segments = []
        for a, b in zip(first.segments, second.segments, strict=True):
            if a.space is None or b.space is None:
                reason = f"{name_of(node)} combines it with something that is no layer's output"
                self.spaces.leave([first, second], reason)
                segments.append(Segment(None, a.width, a.repeats))
                continue
            self.spaces.unite(a.space, b.space)
            assert a.signal is not None and b.signal is not None
            blocks = tuple(dict.fromkeys((*a.signal.blocks, *b.signal.blocks)))
            signal = Signal(blocks, is_plain=False, is_mixed=a.signal.is_mixed or b.signal.is_mixed)
            segments.append(replace(a, signal=signal))
        self.layouts[node] = Layout(first.axis, tuple(segments))
        for space in self.spaces.of(self.layouts[node]):
            space.is_homogeneous &= is_homogeneous

    def _unknown(self, node: fx.Node, shape: Sequence[int], reason: str) -> None:
        """Nothing is known of the result; what goes in stays as it is, and so does a layer, which is listed."""
        self.spaces.leave([self.layouts[n] for n in node.all_input_nodes if n in self.layouts], reason)
        module = self.modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, Layer) and not any(space.layers == [node.target] for space in self.spaces.every):
            width = module.out_features if isinstance(module, nn.Linear) else module.out_channels
            self.spaces.new(Space(width, [str(node.target)], reason=reason))
        self._nameless(node, shape)

    def _is_spatial(self, node: fx.Node, source: Any) -> bool:
        """Whether a mean is taken over axes behind the channels and no others."""
        (axes,) = arguments(node, ("dim", None))
        axes = (axes,) if isinstance(axes, int) else axes
        n = len(shape_of(source) or ())
        if not isinstance(axes, tuple | list) or not axes or self.layouts[source].axis != 1:
            return False
        return all(axis % n > 1 for axis in axes)

    def _is_flattening(self, node: fx.Node, target: Any, source: Any) -> bool:
        """Whether a reshape is (n, ...) -> (n, -1), in whatever way n is written."""
        sizes = node.args[1:]
        if len(sizes) == 1 and isinstance(sizes[0], tuple | list):
            sizes = tuple(sizes[0])
        shape, result = shape_of(source) or (), shape_of(node) or ()
        return target in ops.RESHAPINGS and len(sizes) == 2 and sizes[1] == -1 and result[:1] == shape[:1]


def _dimensions(convolution: Layer) -> int:
    return len(convolution.kernel_size)


def _passed(segment: Segment, is_plain: bool, is_mixed: bool) -> Segment:
    signal = segment.signal
    if signal is None:
        return segment
    return replace(segment, signal=Signal(signal.blocks, signal.is_plain and is_plain, signal.is_mixed or is_mixed))


def _lie_alike(first: Layout, second: Layout, shapes: Sequence[Sequence[int]]) -> bool:
    """Whether the channels of two tensors lie at the same axis, as many and in as many places."""
    sides = [[(s.width, s.repeats) for s in layout.segments] for layout in (first, second)]
    return sides[0] == sides[1] and first.axis - len(shapes[0]) == second.axis - len(shapes[1])


def _shared(graph: fx.Graph, model: nn.Module) -> set[str]:
    """Modules that are called more than once, or whose tensors are also those of another module or are read alone."""
    calls = [str(node.target) for node in graph.nodes if node.op == "call_module"]
    fetched = {str(node.target).rpartition(".")[0] for node in graph.nodes if node.op == "get_attr"}
    owners: dict[int, set[str]] = {}
    modules = dict(model.named_modules())
    for name, module in modules.items():
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            owners.setdefault(_storage(tensor), set()).add(name)
    weighted = {name for name in calls if modules[name].state_dict()}
    return {name for name in weighted if calls.count(name) > 1 or name in fetched} | {
        name for names in owners.values() if len(names) > 1 for name in names
    }


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr() if tensor.numel() else id(tensor)
