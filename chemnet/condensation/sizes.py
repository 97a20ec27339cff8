"""Sizes that remember of what they are, so that it is known which widths a forward makes a number of.

A size that only shapes a tensor, `x.view(n, c, -1)`, does no harm: after a cut the forward reads it again. One that is
compared with a number, divided by, or given to another operation makes another thing of the network after a cut.
Python asks a fraction on the left alone, `0.5 * n`: that is seen by the check of the result, if not here.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

# What may be given sizes of tensors without making numbers of them, by the names of functions and methods.
SHAPING = {
    *("view", "reshape", "expand", "flatten", "unflatten", "repeat", "tile", "broadcast_to", "permute", "transpose"),
    *("split", "split_with_sizes", "tensor_split", "chunk", "narrow", "unbind", "unsqueeze", "squeeze", "interpolate"),
    *("pad", "__getitem__", "select", "movedim", "swapaxes", "layer_norm", "rms_norm", "as_strided", "resize"),
}


class Origin:
    """One width: of an axis of a tensor, or of a module. `reader` is what made a number of it, None if nothing did."""

    def __init__(self, listens: Callable[[], bool]) -> None:
        self.reader: str | None = None
        self._listens = listens

    def note(self, reader: str) -> None:
        """Remember the first reader, as long as the model's own code is watched."""
        if self.reader is None and self._listens():
            self.reader = reader


class Size(int):
    """A number of which it is known of which widths it is made."""

    origins: tuple[Origin, ...]

    def __new__(cls, value: int, origins: tuple[Origin, ...]) -> Size:
        """A number made of widths."""
        self = super().__new__(cls, value)
        self.origins = origins
        return self

    def note(self, reader: str) -> None:
        """A reader of all widths of which it is made."""
        for origin in self.origins:
            origin.note(reader)

    def __float__(self) -> float:
        self.note("a number with a fraction")
        return int.__float__(self)

    def __int__(self) -> int:
        self.note("a number")
        return int.__int__(self)

    def __reduce__(self) -> tuple[type[int], tuple[int]]:
        return int, (int.__int__(self),)

    __hash__ = int.__hash__


def plain(value: Any) -> Any:
    """A value, or what is in its tuples, lists, mappings and slices, with ordinary numbers in the place of sizes."""
    if isinstance(value, Size):
        return int.__int__(value)
    if isinstance(value, slice):
        return slice(plain(value.start), plain(value.stop), plain(value.step))
    if type(value) in (tuple, list):
        return type(value)(map(plain, value))
    if isinstance(value, tuple) and any(isinstance(each, Size) for each in value):
        return tuple(map(plain, value))  # a shape
    if type(value) is dict:
        return {key: plain(each) for key, each in value.items()}
    return value


def sizes_in(value: Any) -> list[Size]:
    """The sizes in a value, in their order."""
    if isinstance(value, Size):
        return [value]
    if isinstance(value, slice):
        return sizes_in((value.start, value.stop, value.step))
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple | list) else ()
    return [size for part in parts for size in sizes_in(part)]


def _arithmetic(operation: Callable[[Any, Any], Any], *, is_swapped: bool = False) -> Callable[[Size, Any], Any]:
    def method(self: Size, other: Any) -> Any:
        if not isinstance(other, int | float):
            return NotImplemented
        pair = (plain(other), plain(self)) if is_swapped else (plain(self), plain(other))
        result = operation(*pair)
        if type(result) is int:
            return Size(result, (*self.origins, *(other.origins if isinstance(other, Size) else ())))
        for size in sizes_in((self, other)):
            size.note("a number with a fraction")
        return result

    return method


def _of_itself(operation: Callable[[Any], int]) -> Callable[[Size], Size]:
    return lambda self: Size(operation(plain(self)), self.origins)


def _comparison(operation: Callable[[Any, Any], bool]) -> Callable[[Size, Any], Any]:
    def method(self: Size, other: Any) -> Any:
        if not isinstance(other, int | float):
            return NotImplemented
        if not isinstance(other, Size):
            self.note("a comparison")
        return operation(plain(self), plain(other))

    return method


for _name in ("add", "sub", "mul", "floordiv", "mod", "truediv", "pow", "lshift", "rshift"):
    setattr(Size, f"__{_name}__", _arithmetic(getattr(operator, _name)))
    setattr(Size, f"__r{_name}__", _arithmetic(getattr(operator, _name), is_swapped=True))
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(Size, f"__{_name}__", _comparison(getattr(operator, _name)))
for _name in ("neg", "pos", "abs"):
    setattr(Size, f"__{_name}__", _of_itself(getattr(operator, _name)))
