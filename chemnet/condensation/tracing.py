"""Tracing of the channels of every tensor through the graph of a model, by torch.fx.

An operation that is not known to keep channels apart ends them: what goes in is left alone, with the reason.
"""

from __future__ import annotations

import inspect
import math
import operator
import re
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from chemnet.condensation.graph import (
    Block,
    Layer,
    Layout,
    Normalisation,
    Segment,
    Signal,
    Space,
    Transposed,
    is_depthwise,
)
from chemnet.runtime.errors import UsageError


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """A model in use and without gradients; each of its modules gets its own mode back, frozen ones too."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


# ---- what functions and modules do to channels

_ACTIVATIONS = (
    *(nn.ReLU, nn.LeakyReLU, nn.ReLU6, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh),
    *(nn.Sigmoid, nn.Tanh, nn.ELU, nn.CELU, nn.SELU, nn.Softplus, nn.Softsign, nn.LogSigmoid),
    *(nn.Hardshrink, nn.Softshrink),
)
# What changes nothing in use, or keeps constants and sums: a normalisation behind it folds into the layer before it.
_PLAIN = (
    *(nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.Upsample, nn.UpsamplingBilinear2d),
    *(nn.UpsamplingNearest2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
)
_POOLS = (
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.ZeroPad2d, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
)
_ACTIVATION_FUNCTIONS = {
    *(F.relu, F.leaky_relu, F.relu6, F.gelu, F.silu, F.mish, F.hardswish, F.hardsigmoid, F.hardtanh, F.elu, F.celu),
    *(F.selu, F.softplus, torch.relu, torch.relu_, torch.sigmoid, torch.tanh, F.sigmoid, F.tanh),
    *(torch.sin, torch.cos),
    *("relu", "relu_", "sigmoid", "sigmoid_", "tanh", "tanh_"),
}
_PLAIN_FUNCTIONS = {
    *(F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.interpolate, F.upsample, torch.clone),
    *(F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d),
    *("contiguous", "clone", "detach", "to", "float", "double", "type_as"),
}
_POOL_FUNCTIONS = {
    *(F.avg_pool1d, F.avg_pool2d, F.avg_pool3d, F.max_pool1d, F.max_pool2d, F.max_pool3d),
    *(F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d),
    *(torch.max_pool1d, torch.max_pool2d, torch.max_pool3d),
}
_ADDITIONS = {operator.add, operator.iadd, operator.sub, operator.isub, torch.add, torch.sub, "add", "add_", "sub"}
_SCALINGS = {operator.mul, operator.imul, operator.truediv, operator.itruediv, torch.mul, torch.div, "mul", "div"}
_QUESTIONS = {"size", "dim", "numel", getattr}  # they read a shape, not the channels
_CONCATENATIONS = {torch.cat, torch.concat, torch.concatenate}
_FLATTENINGS = {torch.flatten, "flatten"}
_RESIZINGS = (nn.Upsample, nn.UpsamplingBilinear2d, nn.UpsamplingNearest2d, F.interpolate, F.upsample)
_RESHAPINGS = {torch.reshape, "view", "reshape"}
_MEANS = {torch.mean, torch.sum, torch.amax, "mean", "sum", "amax"}


class Tracer:
    """Follows the channels of every tensor through the graph of a model."""

    def __init__(self, model: nn.Module, example_input: Any) -> None:
        inputs = tuple(example_input) if isinstance(example_input, tuple | list) else (example_input,)
        self.modules = dict(model.named_modules())
        self.graph = _traced(model, inputs)
        self.spaces: list[Space] = []
        self._parent: list[int] = []
        self.layouts: dict[fx.Node, Layout] = {}
        self.inputs: dict[str, Layout] = {}
        self.followers: list[str] = []
        self.consumers: list[str] = []
        self.normalised: dict[str, str] = {}  # layer -> the BatchNorm that alone reads it
        self._shared = _shared(self.graph, self.modules)
        for node in self.graph.nodes:
            self._visit(node)

    def root(self, number: int) -> int:
        """The number of the space that has taken in this one."""
        while self._parent[number] != number:
            number = self._parent[number]
        return number

    # -- one node

    def _visit(self, node: fx.Node) -> None:
        shape = _shape(node)
        tensors = [self.layouts[n] for n in node.all_input_nodes if n in self.layouts]
        if node.op == "output":
            self._leave(tensors, "it is an output of the model")
        elif node.op in ("placeholder", "get_attr"):
            if shape is not None and len(shape) > 1:
                self.layouts[node] = Layout(1, (Segment(None, shape[1]),))
        elif shape is None:
            if node.target not in _QUESTIONS:
                self._leave(tensors, f"{_name(node)} reads its channels")
        elif node.op == "call_module":
            self._module(node, str(node.target), self.modules[str(node.target)], shape)
        else:
            self._function(node, node.target, shape)

    def _module(self, node: fx.Node, name: str, module: nn.Module, shape: Sequence[int]) -> None:
        source = node.args[0] if node.args else None
        layout = self.layouts.get(source) if isinstance(source, fx.Node) else None
        reason = self._objection(name, module, layout)
        if layout is None or reason:
            self._unknown(node, shape, reason or f"the input of {name} has no channels that are known")
        elif isinstance(module, Normalisation) or is_depthwise(module):
            self._follow(node, name, module, layout)
        elif isinstance(module, Layer):
            self._layer(node, name, module, layout, shape)
        elif isinstance(module, nn.Flatten):
            self._flatten(node, layout, shape, module.start_dim, module.end_dim)
        elif isinstance(module, _ACTIVATIONS) or (isinstance(module, nn.PReLU) and module.num_parameters == 1):
            self._activate(node, layout, module)
        elif isinstance(module, _PLAIN + _POOLS) and _keeps_apart(type(module), layout, _shape(source)):
            self._pass(node, layout, is_plain=isinstance(module, _PLAIN))
        else:
            self._unknown(node, shape, f"{name} ({type(module).__name__}) is not known to keep channels apart")

    def _objection(self, name: str, module: nn.Module, layout: Layout | None) -> str | None:
        """Why a module with weights has to be left as it is, if it has."""
        if name in self._shared:
            return f"{name} is used more than once, or shares its weights"
        if not isinstance(module, Layer | Normalisation) or layout is None:
            return None
        if not isinstance(module.weight, nn.Parameter | None):
            return f"the weights of {name} are computed"
        if isinstance(module, Normalisation) and module.running_mean is None:
            return f"{name} keeps no running statistics"
        if (isinstance(module, Normalisation) or is_depthwise(module)) and layout.axis != 1:
            return f"{name} reads another axis than that of the channels"
        return None

    def _function(self, node: fx.Node, target: Any, shape: Sequence[int]) -> None:
        source = node.args[0] if node.args else None
        layout = self.layouts.get(source) if isinstance(source, fx.Node) else None
        tensors = [n for n in node.all_input_nodes if n in self.layouts]
        if target in _CONCATENATIONS:
            self._concatenate(node, shape)
        elif layout is None:
            self._unknown(node, shape, f"{_name(node)} is not known to keep channels apart")
        elif target in _ACTIVATION_FUNCTIONS:
            self._activate(node, layout, _bound(node))
        elif target in _PLAIN_FUNCTIONS | _POOL_FUNCTIONS and _keeps_apart(target, layout, _shape(source)):
            self._pass(node, layout, is_plain=target in _PLAIN_FUNCTIONS)
        elif target in _ADDITIONS and len(tensors) == len(node.all_input_nodes) == 2:
            self._add(node, self.layouts[tensors[0]], self.layouts[tensors[1]], shape)
        elif self._is_scaling(node, target) or (target in _MEANS and self._is_spatial(node, source)):
            self._pass(node, layout, is_plain=False)
        elif target in _FLATTENINGS or self._is_flattening(node, target, source):
            axes = (1, -1) if target in _RESHAPINGS else _arguments(node, ("start_dim", 0), ("end_dim", -1))
            self._flatten(node, layout, shape, *axes)
        else:
            self._unknown(node, shape, f"{_name(node)} is not known to keep channels apart")

    # -- what happens to the channels

    def _layer(self, node: fx.Node, name: str, module: Layer, layout: Layout, shape: Sequence[int]) -> None:
        """A layer reads all channels and makes new ones."""
        is_linear = isinstance(module, nn.Linear)
        axis = len(shape) - 1 if is_linear else 1
        if layout.axis != axis and all(segment.space is None for segment in layout.segments):
            layout = Layout(axis, (Segment(None, _read_by(module)),))
        read = sum(segment.width * segment.repeats for segment in layout.segments)
        if layout.axis != axis or read != _read_by(module) or not (is_linear or len(shape) == _dimensions(module) + 2):
            self._unknown(node, shape, f"{name} reads another axis than that of the channels")
            return
        self.inputs[name] = layout
        self.consumers.append(name)
        number = self._new(Space(shape[axis], [name]))
        signal = Signal((Block(((name, 0),)),))
        self.layouts[node] = Layout(axis, (Segment(number, shape[axis], 1, signal),))
        if not is_linear and module.groups > 1:
            self._grouped(name, module, layout, number)

    def _grouped(self, name: str, module: Layer, layout: Layout, number: int) -> None:
        """Channels of different groups are never merged, and every group keeps as many."""
        per_group = module.in_channels // module.groups
        if isinstance(module, Transposed) or per_group == 1 or len(layout.segments) > 1:
            self._leave([layout], f"{name} reads it in groups that cannot be kept")
            self.spaces[number].leave_alone(f"{name} makes it in groups that cannot be kept")
            return
        segment = layout.segments[0]
        if segment.space is not None:
            self._divide(self.spaces[self.root(segment.space)], module.groups)
        self._divide(self.spaces[number], module.groups)

    def _divide(self, space: Space, groups: int) -> None:
        space.blocks = math.lcm(space.blocks, groups)
        if space.blocks == space.width:
            space.leave_alone(f"no two of its {space.width} channels belong to the same groups")

    def _follow(self, node: fx.Node, name: str, module: nn.Module, layout: Layout) -> None:
        """A normalisation or a depthwise convolution: channel by channel, with weights."""
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
                    signal = Signal((Block((*block.modules, (name, position)), block.before),))
                else:
                    signal = Signal((Block(((name, position),), signal),))
            segments.append(Segment(segment.space, segment.width, segment.repeats, signal))
        self.layouts[node] = Layout(layout.axis, tuple(segments))
        before = node.args[0]
        alone = isinstance(before, fx.Node) and before.op == "call_module" and len(before.users) == 1
        if alone and isinstance(module, Normalisation) and isinstance(self.modules[str(before.target)], Layer):
            self.normalised[str(before.target)] = name

    def _activate(self, node: fx.Node, layout: Layout, activation: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """An activation is remembered by the spaces that go through it."""
        for segment in layout.segments:
            if segment.space is not None:
                self.spaces[self.root(segment.space)].activations.append(activation)
        self._pass(node, layout, is_plain=False)

    def _pass(self, node: fx.Node, layout: Layout, is_plain: bool) -> None:
        """Every channel stays by itself, and a factor that all its values have is a factor of the result."""
        segments = [
            Segment(s.space, s.width, s.repeats, s.signal and Signal(s.signal.blocks, s.signal.is_plain and is_plain))
            for s in layout.segments
        ]
        self.layouts[node] = Layout(layout.axis, tuple(segments))

    def _flatten(self, node: fx.Node, layout: Layout, shape: Sequence[int], start: int, end: int) -> None:
        """(n, c, h, w) -> (n, c h w)."""
        source = _shape(node.args[0]) or ()
        if layout.axis != 1 or start != 1 or end not in (-1, len(source) - 1):
            self._unknown(node, shape, f"{_name(node)} flattens other axes than those from the channels on")
            return
        places = math.prod(source[2:])
        segments = tuple(Segment(s.space, s.width, s.repeats * places, s.signal) for s in layout.segments)
        self.layouts[node] = Layout(1, segments)

    def _concatenate(self, node: fx.Node, shape: Sequence[int]) -> None:
        parts = node.args[0] if node.args else node.kwargs.get("tensors")
        axis = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
        layouts = [self.layouts.get(part) for part in parts] if isinstance(parts, tuple | list) else [None]
        known = [layout for layout in layouts if layout is not None]
        position = axis + len(shape) if isinstance(axis, int) and axis < 0 else axis
        if len(known) < len(layouts) or any(layout.axis != position for layout in known):
            self._unknown(node, shape, f"{_name(node)} joins tensors along another axis than that of the channels")
            return
        self.layouts[node] = Layout(known[0].axis, tuple(s for layout in known for s in layout.segments))

    def _add(self, node: fx.Node, first: Layout, second: Layout, shape: Sequence[int]) -> None:
        """Both sides have to be condensed alike."""
        sides = [(s.width, s.repeats) for s in first.segments], [(s.width, s.repeats) for s in second.segments]
        shapes = {_shape(n) for n in node.all_input_nodes}
        if sides[0] != sides[1] or first.axis != second.axis or len(shapes) > 1:
            self._unknown(node, shape, f"{_name(node)} adds channels that do not lie alike")
            return
        segments = []
        for a, b in zip(first.segments, second.segments, strict=True):
            if a.space is None or b.space is None:
                self._leave([first, second], f"{_name(node)} adds it to something that is no layer's output")
                segments.append(Segment(None, a.width, a.repeats))
                continue
            self._unite(a.space, b.space)
            assert a.signal is not None and b.signal is not None
            blocks = tuple(dict.fromkeys((*a.signal.blocks, *b.signal.blocks)))
            segments.append(Segment(a.space, a.width, a.repeats, Signal(blocks, is_plain=False)))
        self.layouts[node] = Layout(first.axis, tuple(segments))

    def _unite(self, first: int, second: int) -> None:
        a, b = self.root(first), self.root(second)
        if a == b:
            return
        kept, other = self.spaces[a], self.spaces[b]
        kept.layers += other.layers
        kept.activations += other.activations
        if other.reason:
            kept.leave_alone(other.reason)
        self._parent[b] = a
        self._divide(kept, other.blocks)

    def _unknown(self, node: fx.Node, shape: Sequence[int], reason: str) -> None:
        """Nothing is known of the result; what goes in stays as it is, and so does a layer, which is listed."""
        self._leave([self.layouts[n] for n in node.all_input_nodes if n in self.layouts], reason)
        module = self.modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, Layer) and not any(space.layers == [node.target] for space in self.spaces):
            width = module.out_features if isinstance(module, nn.Linear) else module.out_channels
            self._new(Space(width, [str(node.target)], reason=reason))
        if len(shape) > 1:
            self.layouts[node] = Layout(1, (Segment(None, shape[1]),))

    def _leave(self, layouts: Iterable[Layout], reason: str) -> None:
        for layout in layouts:
            for segment in layout.segments:
                if segment.space is not None:
                    self.spaces[self.root(segment.space)].leave_alone(reason)

    def _new(self, space: Space) -> int:
        self.spaces.append(space)
        self._parent.append(len(self._parent))
        return len(self.spaces) - 1

    def _is_scaling(self, node: fx.Node, target: Any) -> bool:
        """Whether every value is multiplied by, or divided by, one number."""
        return target in _SCALINGS and len(node.args) == 2 and isinstance(node.args[1], int | float)

    def _is_spatial(self, node: fx.Node, source: Any) -> bool:
        """Whether a mean is taken over axes behind the channels and no others."""
        (axes,) = _arguments(node, ("dim", None))
        axes = (axes,) if isinstance(axes, int) else axes
        n = len(_shape(source) or ())
        if not isinstance(axes, tuple | list) or not axes or self.layouts[source].axis != 1:
            return False
        return all(axis % n > 1 for axis in axes)

    def _is_flattening(self, node: fx.Node, target: Any, source: Any) -> bool:
        """Whether a reshape is (n, ...) -> (n, -1), in whatever way n is written."""
        sizes = node.args[1:]
        if len(sizes) == 1 and isinstance(sizes[0], tuple | list):
            sizes = tuple(sizes[0])
        shape, result = _shape(source) or (), _shape(node) or ()
        return target in _RESHAPINGS and len(sizes) == 2 and sizes[1] == -1 and result[:1] == shape[:1]


def _read_by(layer: Layer) -> int:
    return layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels


def _dimensions(convolution: Layer) -> int:
    return len(convolution.kernel_size)


def _keeps_apart(operation: Any, layout: Layout, shape: Sequence[int] | None) -> bool:
    """Whether a pooling or the like works on axes behind that of the channels: `max_pool2d` on (n, c, h, w) does, on
    (c, h, w) it does not."""
    name = getattr(operation, "__name__", str(operation))
    dimensions = re.search(r"(?<!ropout)([123])d$", name)
    if operation in _RESIZINGS:
        return layout.axis == 1 and len(shape or ()) > 2
    return dimensions is None or (layout.axis == 1 and len(shape or ()) == int(dimensions[1]) + 2)


def _arguments(node: fx.Node, *options: tuple[str, Any]) -> list[Any]:
    """Arguments of a call after the tensor, by place or by name."""
    return [
        node.args[place] if len(node.args) > place else node.kwargs.get(name, default)
        for place, (name, default) in enumerate(options, start=1)
    ]


class _Shapes(fx.Interpreter):
    """Notes the shape of every tensor."""

    extra_traceback = False

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        n.meta["shape"] = tuple(result.shape) if isinstance(result, torch.Tensor) else None
        return result


def _traced(model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> fx.Graph:
    """The graph of a model in use, with the shape of every tensor. UsageError, saying where, if there is none."""
    with evaluating(model):
        try:
            graph = fx.Tracer().trace(model, _left_out(model, len(inputs)))
        except Exception as error:  # whatever the model's own code raises on symbolic values
            raise UsageError(
                f"cannot trace {type(model).__name__}: {_where(error)}\n{_first_line(error)}\n"
                "Condense the parts that can be traced, or put what cannot into a function marked by torch.fx.wrap"
            ) from None
        try:
            _Shapes(fx.GraphModule(model, graph)).run(*inputs)
        except Exception as error:
            shapes = ", ".join(str(tuple(getattr(x, "shape", ()))) for x in inputs)
            name = type(model).__name__
            raise UsageError(f"{name} does not take an example input of shape {shapes}\n{_first_line(error)}") from None
    return graph


def _left_out(model: nn.Module, count: int) -> dict[str, Any]:
    """Defaults of the arguments after the first `count`, with which the model is traced."""
    arguments = list(inspect.signature(model.forward).parameters.values())[count:]
    return {argument.name: argument.default for argument in arguments if argument.default is not argument.empty}


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _where(error: BaseException) -> str:
    """The line of the model's own code at which tracing failed."""
    every = traceback.extract_tb(error.__traceback__)
    torchs = str(Path(torch.__file__).parent)
    frame = next((f for f in reversed(every) if not f.filename.startswith(torchs)), every[-1])
    return f"line {frame.lineno} of {Path(frame.filename).name}, `{frame.line}`"


def _shape(node: Any) -> tuple[int, ...] | None:
    """The shape of a node's tensor; None where it is no single tensor."""
    return node.meta.get("shape") if isinstance(node, fx.Node) else None


def _name(node: fx.Node) -> str:
    """Name of an operation in messages."""
    target = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    return f"{target} ({node.name})"


def _bound(node: fx.Node) -> Callable[[torch.Tensor], torch.Tensor]:
    """The function of a node as a function of its tensor alone."""
    target, rest, options = node.target, node.args[1:], dict(node.kwargs)
    options.pop("inplace", None)

    def call(x: torch.Tensor) -> torch.Tensor:
        return getattr(x, target)(*rest, **options) if isinstance(target, str) else target(x, *rest, **options)

    return call


def _shared(graph: fx.Graph, modules: Mapping[str, nn.Module]) -> set[str]:
    """Modules that are called more than once or share their weights."""
    calls = [str(node.target) for node in graph.nodes if node.op == "call_module"]
    fetched = {str(node.target).rpartition(".")[0] for node in graph.nodes if node.op == "get_attr"}
    owners: dict[int, set[str]] = {}
    for name in set(calls):
        for parameter in modules[name].parameters():
            owners.setdefault(parameter.data_ptr() if parameter.numel() else id(parameter), set()).add(name)
    weighted = {name for name in calls if modules[name].state_dict()}
    return {name for name in weighted if calls.count(name) > 1 or name in fetched} | {
        name for names in owners.values() if len(names) > 1 for name in names
    }
