"""Sizes that a model's own code reads while it is recorded: numbers that are nodes of the graph, too.

The size of a tensor, and what is computed of it, is an ordinary whole number that remembers its node, so that the
graph shows what becomes of it. A width that is read of a module, or of its weights, remembers the module. Both note
where they become a number of which nothing is known any more: in a comparison, a fraction, a conversion. Python asks a
fraction on the left alone, `0.5 * n`: that is for the check of the result to see.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from torch import fx


class Watch:
    """The graph that is being recorded, while it is; `read` are the names of modules whose width was made a number."""

    def __init__(self) -> None:
        self.graph = fx.Graph()
        self.is_on = False
        self.read: set[str] = set()


class Size(int):
    """A whole number that remembers its node (None for that of a module), and of which modules it is a width."""

    watch: Watch
    modules: frozenset[str]
    _node: fx.Node | Callable[[], fx.Node] | None

    def __new__(
        cls,
        value: int,
        watch: Watch,
        node: fx.Node | Callable[[], fx.Node] | None = None,
        modules: frozenset[str] = frozenset(),
    ) -> Size:
        """A size; `node` may be a function that makes it once it is needed."""
        self = super().__new__(cls, value)
        self.watch, self._node, self.modules = watch, node, modules
        return self

    @property
    def node(self) -> fx.Node | None:
        """The node of the number, if it is that of a tensor."""
        if self._node is not None and not isinstance(self._node, fx.Node):
            self._node = self._node()
        return self._node

    @property
    def is_remainder(self) -> bool:
        """Whether it says only whether a size can be divided: a network that then stops, or pads, is checked for it."""
        return self.node is not None and self.node.target is operator.mod

    def note(self) -> None:
        """Something is made of the number that is not followed."""
        if self.watch.is_on:
            self.watch.read |= self.modules
            if self.node is not None:
                self.node.meta["read"] = True

    def __float__(self) -> float:
        self.note()
        return float(plain(self))

    def __int__(self) -> int:
        self.note()
        return int(plain(self))

    def __reduce__(self) -> tuple[type[int], tuple[int]]:
        return int, (plain(self),)

    __hash__ = int.__hash__


def plain(value: Any) -> Any:
    """A value with ordinary numbers in the place of sizes."""
    return replaced(value, lambda size: int.__int__(size))


def replaced(value: Any, function: Callable[[Size], Any]) -> Any:
    """A value with a function of each size in its tuples, lists, mappings and slices."""
    if isinstance(value, Size):
        return function(value)
    if isinstance(value, slice):
        return slice(*(replaced(each, function) for each in (value.start, value.stop, value.step)))
    if type(value) in (tuple, list):
        return type(value)(replaced(each, function) for each in value)
    if isinstance(value, tuple) and any(isinstance(each, Size) for each in value):
        return tuple(replaced(each, function) for each in value)  # a shape
    if type(value) is dict:
        return {key: replaced(each, function) for key, each in value.items()}
    return value


def sizes_in(value: Any) -> list[Size]:
    """The sizes in a value, in their order."""
    if isinstance(value, Size):
        return [value]
    if isinstance(value, slice):
        return sizes_in((value.start, value.stop, value.step))
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple | list) else ()
    return [size for part in parts for size in sizes_in(part)]


def _computed(operation: Callable[..., Any], *given: Any) -> Any:
    """The result of an operation of sizes and numbers."""
    result, sizes = operation(*map(plain, given)), sizes_in(given)
    watch = sizes[0].watch
    if not watch.is_on:
        return result
    if type(result) is not int:
        for size in sizes:
            size.note()
        return result
    modules = frozenset[str]().union(*(size.modules for size in sizes))
    nodes = replaced(given, lambda size: plain(size) if size.node is None else size.node)
    known = any(isinstance(each, fx.Node) for each in nodes)
    node = watch.graph.create_node("call_function", operation, nodes) if known else None
    return Size(result, watch, node, modules)


def _arithmetic(operation: Callable[[Any, Any], Any], *, is_swapped: bool = False) -> Callable[[Size, Any], Any]:
    def method(self: Size, other: Any) -> Any:
        if not isinstance(other, int | float):
            return NotImplemented
        return _computed(operation, *((other, self) if is_swapped else (self, other)))

    return method


def _of_itself(operation: Callable[[Any], int]) -> Callable[[Size], Any]:
    return lambda self: _computed(operation, self)


def _comparison(operation: Callable[[Any, Any], bool]) -> Callable[[Size, Any], Any]:
    def method(self: Size, other: Any) -> Any:
        if not isinstance(other, int | float):
            return NotImplemented
        if not (isinstance(other, Size) or self.is_remainder):
            self.note()
        return operation(plain(self), plain(other))

    return method


for _name in ("add", "sub", "mul", "floordiv", "mod", "truediv", "pow", "lshift", "rshift"):
    setattr(Size, f"__{_name}__", _arithmetic(getattr(operator, _name)))
    setattr(Size, f"__r{_name}__", _arithmetic(getattr(operator, _name), is_swapped=True))
for _name in ("neg", "pos", "abs"):
    setattr(Size, f"__{_name}__", _of_itself(getattr(operator, _name)))
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(Size, f"__{_name}__", _comparison(getattr(operator, _name)))
