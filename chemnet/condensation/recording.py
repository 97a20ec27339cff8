"""Recorder of the functions that a model calls while it runs on an example, as a graph of torch.fx.

Whatever runs is recorded: control flow takes the way that it takes on the example. Layers of torch.nn are one node
each, code of the model's own is followed function by function. Tensors are known by what they are, not by their names,
so that a statement that works in place is seen: what comes later reads its result.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import torch
from torch import fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from chemnet.condensation.called_layers import Layers, calls, is_of_layers, place_of_input
from chemnet.condensation.graph import Follower, Layer
from chemnet.condensation.inputs import Inputs, leaves, parts
from chemnet.condensation.matrices import Matrix
from chemnet.condensation.operations import is_harmless
from chemnet.condensation.recorded_sizes import Size, Watch, plain, replaced, sizes_in
from chemnet.condensation.vectors import parts_of

# What a forward can read of a module to know its width.
_WIDTHS = ("in_features", "out_features", "in_channels", "out_channels", "num_features", "num_parameters")
_SIZES = {"shape", "size", "__len__", "numel", "nelement"}
# What may be given the width of a module to say which shape a tensor has.
_SHAPING = {
    "view",
    "reshape",
    "expand",
    "flatten",
    "unflatten",
    "split",
    "chunk",
    "narrow",
    "__getitem__",
    "interpolate",
}
_OF_A_KIND = {"to", "type_as"}  # may be given another tensor for its type alone, as may all that is called new_
# Operators whose tensor stands on the right, and others that have a function of their own.
_SWAPPED = {
    **dict.fromkeys(("__rsub__",), operator.sub),
    **dict.fromkeys(("__rdiv__", "__rtruediv__"), operator.truediv),
    **dict.fromkeys(("__rpow__",), operator.pow),
    **dict.fromkeys(("__rfloordiv__",), operator.floordiv),
    **dict.fromkeys(("__rmatmul__",), operator.matmul),
}
_OPERATORS = {
    "__getitem__": operator.getitem,
    "__setitem__": operator.setitem,
    "__floordiv__": operator.floordiv,
}
_CONTAINERS = (
    *(nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.Transformer),
    *(nn.TransformerEncoder, nn.TransformerEncoderLayer, nn.TransformerDecoder, nn.TransformerDecoderLayer),
)
_METHODS = {method for name in dir(torch.Tensor) if callable(method := getattr(torch.Tensor, name))}


class Recorder(TorchFunctionMode):
    """What a model calls, as `graph`; `read_widths` are the modules whose widths its code made numbers of."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._watch = Watch()
        self.graph = self._watch.graph
        self._model = model
        self._known = WeakTensorKeyDictionary()  # tensor -> its node
        self._named = {id(module): name for name, module in model.named_modules()}
        self._stored = {id(x): name for name, x in [*model.named_parameters(), *model.named_buffers()]}
        self._layers = Layers(model)
        self._calls = Counter[str]()  # of functions in the forward, by name
        self._call = "", 0
        self._count = 0

    @property
    def read_widths(self) -> frozenset[str]:
        """Modules whose widths were made numbers of."""
        return frozenset(self._watch.read)

    def record(self, inputs: Inputs) -> None:
        """Run the model, which is changed: numbers of channels become sizes."""
        for name, x in _labelled(inputs):
            self._place(self.graph.create_node("placeholder", name, name=name), x)
        for name, module in self._model.named_modules():
            for key in _WIDTHS:
                if isinstance(module, Layer | Follower) and type(vars(module).get(key)) is int:
                    setattr(module, key, Size(vars(module)[key], self._watch, modules=frozenset({name})))
        for name, part in parts_of(self._model).items():
            for key in part.widths() if isinstance(part, Matrix) else ():
                known = vars(part.owner)[key]
                names = known.modules if isinstance(known, Size) else frozenset()
                setattr(part.owner, key, Size(plain(known), self._watch, modules=names | {name}))
        self._calls.clear()
        with _calls_of_modules(self._called), self:
            self._watch.is_on = True
            try:
                result = inputs(self._model)
            finally:
                self._watch.is_on = False
        self.graph.create_node("output", "output", (tuple(self._node_of(x) for x in leaves(result)),))
        self._finish()

    # -- calls

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """A function or method of torch."""
        kwargs, name = kwargs or {}, _name_of(func)
        self._calls[called := getattr(func, "__name__", "")] += 1
        if not self._watch.is_on:
            return func(*args, **kwargs)
        self._call = called, self._calls[called]
        if name in _SIZES and isinstance(args[0], torch.Tensor):
            return self._sizes(func(*plain(args), **plain(kwargs)), name, args[0], (*args[1:], *kwargs.values()))
        if is_harmless(name):
            return func(*args, **kwargs)
        for size in sizes_in((args, kwargs)):
            if size.modules and name not in _SHAPING:
                size.note()
        call = self._layer(name, args, kwargs) or _call(func, name, args, kwargs)
        return self._recorded(lambda: func(*plain(args), **plain(kwargs)), *call)

    def _layer(self, name: str, args: Any, kwargs: Any) -> tuple[Any, ...] | None:
        """A function that is called with the weights of a layer as a call of that layer, with an objection to it where
        they are computed of them; None if it is none."""
        place = place_of_input(name)
        x = args[place : place + 1] or (kwargs.get("input"),)
        module = None if kwargs.get("training") else self._layers.called(name, args, kwargs)
        if module is not None:
            return "call_module", self._layers.name(module), x, {}, None
        weights = [each for each in leaves((args[1:], kwargs)) if each is not x[0]]
        if not is_of_layers(name) or any(self._depends(each) for each in weights):
            return None
        owners = {name.rpartition(".")[0] for each in weights for name in self._stored_in(each)}
        layers = [owner for owner in owners if calls(name, self._model.get_submodule(owner))]
        if len(layers) == 1:
            return "call_module", layers[0], x, {}, f"{layers[0]} is called with weights that are not its own"
        return None

    def _depends(self, x: torch.Tensor) -> bool:
        """Whether a tensor depends on the inputs of the model."""
        return any(node.op == "placeholder" for node in self._sources(x))

    def _stored_in(self, x: torch.Tensor) -> list[str]:
        """Names of the parameters and buffers of which a tensor is made."""
        if x not in self._known:
            return [self._stored[id(x)]] if id(x) in self._stored else []
        return [str(node.target) for node in self._sources(x) if node.op == "get_attr"]

    def _sources(self, x: torch.Tensor) -> set[fx.Node]:
        """The nodes of which a tensor is made, with its own."""
        waiting = [self._known[x]] if x in self._known else []
        found = set(waiting)
        while waiting:
            new = set(waiting.pop().all_input_nodes) - found
            found |= new
            waiting += new
        return found

    def _called(self, call: Callable[..., Any], module: nn.Module, args: Any, kwargs: Any) -> Any:
        """A module: a layer of torch.nn as one node, any other by what it calls."""
        name = self._named.get(id(module))
        if not self._watch.is_on or name is None or not _is_leaf(module):
            return call(module, *args, **kwargs)
        given, named = (args, kwargs) if args else (tuple(kwargs.values()), {})
        return self._recorded(lambda: call(module, *plain(args), **plain(kwargs)), "call_module", name, given, named)

    def _recorded(
        self, run: Callable[[], Any], kind: str, target: Any, args: Any, kwargs: Any, objection: str | None = None
    ) -> Any:
        """The result of a call, which becomes a node."""
        given = leaves((args, kwargs))
        versions = [_version(x) for x in given]
        self._watch.is_on = False
        try:
            result = run()
        finally:
            self._watch.is_on = True
        changed = [x for x, old in zip(given, versions, strict=True) if _version(x) != old]
        is_input = not changed and isinstance(result, torch.Tensor) and any(x is result for x in given)
        if is_input and result not in self._known:
            return result  # a weight, as it is
        if given or leaves(result):
            node = self.graph.create_node(kind, target, self._nodes(args), self._nodes(kwargs))
            node.meta["is input"] = is_input
            node.meta["objection"], node.meta["call"] = objection, self._call
            self._make(node, changed[0] if target is operator.setitem and changed else result, changed)
        return result

    def _make(self, node: fx.Node, result: Any, changed: list[torch.Tensor]) -> None:
        """Note what a node gives, and which tensors with other names it changes."""
        storages = {_storage(x) for x in changed}
        mine = leaves(result)
        node.meta["hidden"] = [
            other
            for x, other in (list(self._known.items()) if changed else ())
            if _storage(x) in storages and not any(x is each for each in mine)
        ]
        if isinstance(result, torch.Tensor):
            self._place(node, result)
            return
        _describe(node, None)
        self._take_apart(node, result)

    def _take_apart(self, node: fx.Node, value: Any) -> None:
        """Nodes for the tensors of a result that has several."""
        for key, each in parts(value):
            if leaves(each):
                item = self.graph.create_node("call_function", operator.getitem, (node, key))
                item.meta["is input"] = False
                if isinstance(each, torch.Tensor):
                    self._place(item, each)
                else:
                    _describe(item, None)
                    self._take_apart(item, each)

    # -- tensors and sizes

    def _place(self, node: fx.Node, x: torch.Tensor) -> None:
        _describe(node, x)
        self._known[x] = node

    def _node_of(self, x: torch.Tensor) -> fx.Node:
        """The node of a tensor; a new one for parameters, buffers and constants."""
        node = self._known.get(x)
        if node is None:
            name = self._stored.get(id(x))
            if name is None:
                name, self._count = f"_constant{self._count}", self._count + 1
            node = self.graph.create_node("get_attr", name)
            self._place(node, x)
        return node

    def _nodes(self, value: Any) -> Any:
        """A value with nodes in the place of tensors and sizes."""
        if isinstance(value, torch.Tensor):
            return self._node_of(value)
        if isinstance(value, Mapping):
            return {key: self._nodes(each) for key, each in value.items()}
        if isinstance(value, tuple | list):
            made = [self._nodes(each) for each in value]
            return made if isinstance(value, list) else tuple(made)
        if isinstance(value, Size) and value.watch is not self._watch:
            return plain(value)  # of a recording before, kept by the model's own code
        return replaced(value, _as_argument)

    def _sizes(self, result: Any, name: str, x: torch.Tensor, asked: tuple[Any, ...]) -> Any:
        """Sizes of a tensor, which remember that they are."""
        watch, of = self._watch, self._known.get(x)
        stored = self._stored.get(id(x))
        if stored is not None:
            width = partial(Size, watch=watch, modules=frozenset({stored.rpartition(".")[0]}))
            if isinstance(result, torch.Size):  # behind the channels lie the places of a filter
                return torch.Size([*map(width, result[:2]), *result[2:]])
            return result if asked and asked[0] % x.ndim > 1 else width(result)
        if of is None:
            return result
        if not isinstance(result, torch.Size):
            target, given = ("size", (0,)) if name == "__len__" else (name, asked)
            return Size(result, watch, partial(self._number, "call_method", target, (of, *given)))
        whole = cache(partial(self._number, "call_function", getattr, (of, "shape")))
        return torch.Size(Size(n, watch, partial(self._item, whole, axis)) for axis, n in enumerate(result))

    def _item(self, whole: Callable[[], fx.Node], axis: int) -> fx.Node:
        return self._number("call_function", operator.getitem, (whole(), axis))

    def _number(self, kind: str, target: Any, args: tuple[Any, ...]) -> fx.Node:
        node = self.graph.create_node(kind, target, self._nodes(args))
        _describe(node, None)
        return node

    def _finish(self) -> None:
        """Keep of what was noted only what matters later."""
        place = {node: number for number, node in enumerate(self.graph.nodes)}
        for node in self.graph.nodes:
            hidden = node.meta.get("hidden", [])
            node.meta["hidden"] = [old for old in hidden if any(place[user] > place[node] for user in old.users)]


@contextmanager
def _calls_of_modules(called: Callable[..., Any]) -> Iterator[None]:
    """Every call of a module goes through `called`, which is given the call itself, the module and the arguments."""
    call = nn.Module.__call__

    def instead(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return called(call, self, args, kwargs)

    nn.Module.__call__ = instead
    try:
        yield
    finally:
        nn.Module.__call__ = call


def _is_leaf(module: nn.Module) -> bool:
    """Whether a module is one of torch.nn itself, with its weights as they are or parametrised."""
    return type(module).__module__.startswith("torch.nn.") and not isinstance(module, _CONTAINERS)


def _name_of(func: Any) -> str:
    """Name of a function, a method or a property."""
    name = str(getattr(func, "__name__", func))
    if name == "__get__":
        return str(getattr(func.__self__, "__name__", name))
    return name


def _call(func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, Any, Any, Any]:
    """A call as in a graph: operators by their functions, methods by their names."""
    if name.startswith("new_"):
        return "call_function", func, (), {}
    if name in _OF_A_KIND:
        return "call_method", name, args[:1], {}
    if name in _SWAPPED:
        return "call_function", _SWAPPED[name], args[::-1], {}
    if name in _OPERATORS:
        return "call_function", _OPERATORS[name], args, kwargs
    is_method = func in _METHODS or getattr(func, "__name__", "") == "__get__"
    return ("call_method", name, args, kwargs) if is_method else ("call_function", func, args, kwargs)


def _as_argument(size: Size) -> Any:
    """A size among the arguments of a node: the node that it is; that of a module stays what it is."""
    if size.node is None:
        return size if size.modules else plain(size)
    return size.node


def _labelled(inputs: Inputs) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of the arguments with names for them."""
    for name, value in [*((f"input_{k}", x) for k, x in enumerate(inputs.args)), *inputs.kwargs.items()]:
        for place, x in enumerate(leaves(value)):
            yield (str(name) if isinstance(value, torch.Tensor) else f"{name}_{place}"), x


def _describe(node: fx.Node, x: torch.Tensor | None) -> None:
    node.meta["shape"] = None if x is None else tuple(x.shape)
    node.meta["dtype"] = None if x is None else x.dtype


def _version(x: torch.Tensor) -> int:
    """How often a tensor has been changed in place, as far as torch counts it."""
    return 0 if x.is_inference() else x._version


def _storage(x: torch.Tensor) -> int:
    """Where the numbers of a tensor lie."""
    return id(x) if x.layout != torch.strided else x.untyped_storage()._cdata
