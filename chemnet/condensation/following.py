"""Tracer of torch.fx that knows the sizes which an example has, for a forward that asks for them.

Every node is computed on the example as it is recorded, so that `if h % stride: ...`, `len(x)`, `range(x.shape[1])` and
the like have an answer. Numbers that come out of a tensor's values have none: what a network does then depends on data.
A node whose value was asked for notes that as `read` in its `meta`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import fx, nn

from chemnet.condensation.inputs import leaves
from chemnet.condensation.operations import HARMLESS, SHAPES

_NUMBERS = (bool, int, float)


class _Unknown:
    """The value of what cannot be computed, or depends on data."""


class Following(fx.Tracer):
    """Tracer that follows an example; `given` are the values of the arguments by name."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        super().__init__()
        self._given, self._values = given, dict[fx.Node, Any]()
        self._computes = False

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """A symbol that knows its size."""
        return _Sized(node, self)

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **options: Any) -> Any:
        """A symbol, whose value is computed."""
        proxy = super().create_proxy(kind, target, args, kwargs, *rest, **options)
        self._values[proxy.node] = self._value(proxy.node)
        return proxy

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """A module in the graph; while values are computed, the module itself."""
        return forward(*args, **kwargs) if self._computes else super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: Any) -> Any:
        """An attribute of a module; while values are computed, as it is."""
        return attr_val if self._computes else super().getattr(attr, attr_val, parameter_proxy_cache)

    def to_bool(self, obj: fx.Proxy) -> bool:
        """The answer to a question about sizes."""
        return bool(self.read(obj)) if self.knows(obj, *_NUMBERS) else super().to_bool(obj)

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        """The items of sizes and of several tensors."""
        if self.knows(obj, tuple, list):
            return iter([obj[place] for place in range(len(self._values[obj.node]))])
        return super().iter(obj)

    def knows(self, obj: fx.Proxy, *kinds: type) -> bool:
        """Whether a symbol has a value of some kinds."""
        return isinstance(self._values.get(obj.node), kinds)

    def read(self, obj: fx.Proxy) -> Any:
        """The value of a symbol. TypeError where it has none that may be asked for."""
        value = self._values.get(obj.node)
        if not isinstance(value, (*_NUMBERS, tuple, list, torch.Tensor)) or isinstance(value, _Unknown):
            raise TypeError(f"{obj.node.name} depends on the values of a tensor")
        obj.node.meta["read"] = True
        return value

    def _value(self, node: fx.Node) -> Any:
        if node.op == "placeholder":
            return self._given.get(str(node.target), _Unknown())
        known = {n: self._attribute(n) if n.op == "get_attr" else self._values[n] for n in node.all_input_nodes}
        if any(isinstance(value, _Unknown) for value in known.values()):
            return _Unknown()
        args, kwargs = (fx.node.map_arg(each, known.__getitem__) for each in (node.args, node.kwargs))
        self._computes = True
        try:
            with torch.no_grad():
                value = self._computed(node, args, kwargs)
        finally:
            self._computes = False
        asked = args[1] if node.target is getattr else node.target
        depends = not leaves(value) and leaves([*args, kwargs]) and asked not in SHAPES | HARMLESS | {"numel"}
        return _Unknown() if depends else value

    def _attribute(self, node: fx.Node) -> Any:
        path, _, name = str(node.target).rpartition(".")
        module = self.root.get_submodule(path)
        stores = (module._parameters, module._buffers, vars(module))
        return next((store[name] for store in stores if name in store), _Unknown())

    def _computed(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        if node.op == "get_attr":
            return self._attribute(node)
        if node.op == "call_module":
            return self.root.get_submodule(str(node.target))(*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        return node.target(*args, **kwargs) if callable(node.target) else _Unknown()


class _Sized(fx.Proxy):
    """A symbol that is taken for a number, or has a length, where the tracer knows it."""

    tracer: Following

    def __len__(self) -> int:
        return len(self.tracer.read(self))

    def __index__(self) -> int:
        return self._number().__index__()

    def __int__(self) -> int:
        return int(self._number())

    def __float__(self) -> float:
        return float(self._number())

    def _number(self) -> Any:
        value = self.tracer.read(self)
        if not isinstance(value, _NUMBERS):
            raise TypeError(f"{self.node.name} depends on the values of a tensor")
        return value
