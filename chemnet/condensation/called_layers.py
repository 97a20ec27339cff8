"""Layers as the functions of torch that are called with their weights.

A class derived from a layer of torch.nn may do anything around that function: pad its input, or apply an activation to
its result; and a forward may call it with the weights of a layer without calling the layer. What the layer reads, and
what it gives, is known at the function.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from chemnet.condensation.channel_statistics import Statistic
from chemnet.condensation.graph import Indices, Normalisation
from chemnet.condensation.matrices import Matrix
from chemnet.condensation.vectors import parts_of

# Given a module and what its layer reads: what it is to read instead, or None; with its result: the result instead.
Before: TypeAlias = Callable[[nn.Module, torch.Tensor], torch.Tensor | None]
After: TypeAlias = Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor]

# Of functions, by their names: the classes of layers that call them, and the tensors of these in their order.
_WEIGHTS = ("weight", "bias")
_FUNCTIONS: dict[str, tuple[type, tuple[str, ...]]] = {
    "linear": (nn.Linear, _WEIGHTS),
    **{f"conv{n}d": (getattr(nn, f"Conv{n}d"), _WEIGHTS) for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": (getattr(nn, f"ConvTranspose{n}d"), _WEIGHTS) for n in (1, 2, 3)},
    "batch_norm": (nn.modules.batchnorm._BatchNorm, ("running_mean", "running_var", *_WEIGHTS)),
    "embedding": (nn.Embedding, ("weight",)),
    "prelu": (nn.PReLU, ("weight",)),
    "layer_norm": (nn.LayerNorm, _WEIGHTS),
    "group_norm": (nn.GroupNorm, _WEIGHTS),
    "rms_norm": (nn.RMSNorm, ("weight",)),
}
# Of functions with a matrix: the places of the input, of the matrix and of the bias.
_PRODUCTS: dict[str, tuple[int, int, int | None]] = {
    "linear": (0, 1, 2),
    "addmm": (1, 2, 0),
    **dict.fromkeys(("matmul", "__matmul__", "mm"), (0, 1, None)),
}
_OPTIONS = {"layer_norm": 1, "group_norm": 1, "rms_norm": 1}  # arguments between the input and the tensors
_GROUPS = {**{f"conv{n}d": 6 for n in (1, 2, 3)}, **{f"conv_transpose{n}d": 6 for n in (1, 2, 3)}}


class Layers:
    """The layers of a model, known by their weights."""

    def __init__(self, model: nn.Module) -> None:
        self._of: dict[int, nn.Module] = {}
        self._matrices: dict[tuple[int, int, bool], Matrix] = {}  # by matrix, bias, and whether it is transposed
        self._names: dict[nn.Module, str] = {}
        for name, module in parts_of(model).items():
            self._names[module] = name
            if isinstance(module, Matrix):
                self._matrices[id(module.tensor), id(module.bias), module.is_transposed] = module
                continue
            for kind, keys in _FUNCTIONS.values():
                if isinstance(module, kind) and getattr(module, keys[0]) is not None:
                    self._of.setdefault(id(getattr(module, keys[0])), module)

    def knows(self, module: nn.Module) -> bool:
        """Whether a layer has weights by which it is known."""
        return isinstance(module, Matrix) or any(each is module for each in self._of.values())

    def name(self, module: nn.Module) -> str:
        """The name of a layer."""
        return self._names[module]

    def called(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> nn.Module | None:
        """The layer that a call of a function with its weights is; None for any other call."""
        matrix = self._product(name, args, kwargs)
        if matrix is not None or name not in _FUNCTIONS:
            return matrix
        kind, keys = _FUNCTIONS[name]
        first = 1 + _OPTIONS.get(name, 0)
        given = {key: _argument(args, kwargs, place, key) for place, key in enumerate(keys, start=first)}
        module = self._of.get(id(given[keys[0]]))
        if not isinstance(module, kind) or not all(given[key] is getattr(module, key, None) for key in keys):
            return None
        return module if _has_options(module, name, args, kwargs) else None

    def _product(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Matrix | None:
        """The matrix of a model's own class with which a function multiplies."""
        if name not in _PRODUCTS or (kwargs and name != "linear"):
            return None
        _, weight, bias = _PRODUCTS[name]
        added = None if bias is None else _argument(args, kwargs, bias, "bias")
        key = id(_argument(args, kwargs, weight, "weight")), id(added), name != "linear"
        return self._matrices.get(key)


def place_of_input(name: str) -> int:
    """Which argument of a function with weights is what it reads."""
    return _PRODUCTS[name][0] if name in _PRODUCTS else 0


def is_of_layers(name: str) -> bool:
    """Whether a function is one that layers call with their weights."""
    return name in _FUNCTIONS


def calls(name: str, module: nn.Module) -> bool:
    """Whether a module is a layer that calls this function, or derived from one."""
    return name in _FUNCTIONS and isinstance(module, _FUNCTIONS[name][0])


def _argument(args: Sequence[Any], kwargs: Mapping[str, Any], place: int, name: str) -> Any:
    return args[place] if len(args) > place else kwargs.get(name)


def _has_options(module: nn.Module, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether a function is called as the layer would."""
    if name in _GROUPS:
        return bool((_argument(args, kwargs, _GROUPS[name], "groups") or 1) == getattr(module, "groups", 1))
    if isinstance(module, Normalisation):
        return bool(_argument(args, kwargs, 7, "eps") == module.eps)
    return True


def _first(function: Before, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
    instead = function(module, inputs[0])
    return None if instead is None else (instead, *inputs[1:])


def _then(function: After, module: nn.Module, inputs: tuple[Any, ...], result: torch.Tensor) -> torch.Tensor:
    return function(module, inputs[0], result)


class Watched(TorchFunctionMode):
    """Context in which functions are called `before` layers of a model, with what they read, and `after` them, and
    statistics are taken `over` some channels alone."""

    def __init__(
        self,
        model: nn.Module,
        before: Sequence[tuple[nn.Module, Before]] = (),
        after: Sequence[tuple[nn.Module, After]] = (),
        over: Sequence[tuple[Statistic, Indices]] = (),
    ) -> None:
        super().__init__()
        self._model, self._calls = model, Counter[str]()
        self._over = {statistic.call: (statistic.axis, torch.from_numpy(left)) for statistic, left in over}
        self._layers, self._before, self._after = Layers(model), before, after
        self._hooks: list[RemovableHandle] = []

    def __enter__(self) -> Watched:
        """Watch; layers without weights at their calls."""
        for module, first in self._before:
            if not self._layers.knows(module):
                self._hooks.append(module.register_forward_pre_hook(partial(_first, first)))
        for module, then in self._after:
            if not self._layers.knows(module):
                self._hooks.append(module.register_forward_hook(partial(_then, then)))
        if self._over:  # calls are counted from the beginning of a forward
            self._calls.clear()
            self._hooks.append(self._model.register_forward_pre_hook(lambda *_: self._calls.clear()))
        super().__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        """Stop watching."""
        super().__exit__(*raised)
        while self._hooks:
            self._hooks.pop().remove()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """A function of torch, perhaps that of a layer."""
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        self._calls[name] += 1
        if (call := (name, self._calls[name])) in self._over:
            axis, left = self._over[call]
            return func(args[0].index_select(axis, left.to(args[0].device)), *args[1:], **kwargs)
        module = self._layers.called(name, args, kwargs)
        if module is None:
            return func(*args, **kwargs)
        given, place = list(args) or [kwargs.pop("input")], place_of_input(name)
        for each, first in self._before:
            if each == module:
                instead = first(module, given[place])
                given[place] = given[place] if instead is None else instead
        x = given[place]
        result = func(*given, **kwargs)
        for each, then in self._after:
            if each == module:
                result = then(module, x, result)
        return result


@dataclass(frozen=True)
class Hooks:
    """What `Watched` is given: functions to be called before and after layers, and the channels over which statistics
    are taken."""

    before: list[tuple[nn.Module, Before]] = field(default_factory=list)
    after: list[tuple[nn.Module, After]] = field(default_factory=list)
    over: list[tuple[Statistic, Indices]] = field(default_factory=list)

    def watching(self, model: nn.Module) -> Watched:
        """A context in which they are called for a model."""
        return Watched(model, self.before, self.after, self.over)
