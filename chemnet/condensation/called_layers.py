"""Layers as the functions of torch that they call with their weights.

A class derived from a layer of torch.nn may do anything around that function: pad its input, or apply an activation to
its result. What the layer reads, and what it gives, is known at the function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from chemnet.condensation.graph import Normalisation

Before = Callable[[nn.Module, tuple[Any, ...]], Any]
After = Callable[[nn.Module, tuple[Any, ...], torch.Tensor], Any]

# Of functions, by their names: the classes of layers that call them, and the tensors of these in their order.
_WEIGHTS = ("weight", "bias")
_FUNCTIONS: dict[str, tuple[type, tuple[str, ...]]] = {
    "linear": (nn.Linear, _WEIGHTS),
    **{f"conv{n}d": (getattr(nn, f"Conv{n}d"), _WEIGHTS) for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": (getattr(nn, f"ConvTranspose{n}d"), _WEIGHTS) for n in (1, 2, 3)},
    "batch_norm": (nn.modules.batchnorm._BatchNorm, ("running_mean", "running_var", *_WEIGHTS)),
    "prelu": (nn.PReLU, ("weight",)),
    "layer_norm": (nn.LayerNorm, _WEIGHTS),
    "group_norm": (nn.GroupNorm, _WEIGHTS),
}
_OPTIONS = {"layer_norm": 1, "group_norm": 1}  # arguments between the input and the tensors
_GROUPS = {**{f"conv{n}d": 6 for n in (1, 2, 3)}, **{f"conv_transpose{n}d": 6 for n in (1, 2, 3)}}


def is_of_torch(module: nn.Module) -> bool:
    """Whether the class of a module is one of torch.nn itself."""
    return type(module).__module__.startswith("torch.nn.")


def layer_called(name: str, args: Sequence[Any], kwargs: dict[str, Any], modules: Sequence[nn.Module]) -> Any:
    """The innermost of the modules that run whose layer a call of a function with its weights is; None if none is."""
    if name not in _FUNCTIONS:
        return None
    kind, keys = _FUNCTIONS[name]
    first = 1 + _OPTIONS.get(name, 0)
    given = {key: _argument(args, kwargs, place, key) for place, key in enumerate(keys, start=first)}
    for module in reversed(modules):
        if isinstance(module, kind) and all(given[key] is getattr(module, key, None) for key in keys):
            return module if given[keys[0]] is not None and _has_options(module, name, args, kwargs) else None
    return None


def layer_computed(name: str, modules: Sequence[nn.Module]) -> Any:
    """The innermost module that runs, if it is a layer that calls a function with other weights than its own."""
    kind = _FUNCTIONS.get(name, (None, ()))[0]
    return modules[-1] if kind is not None and modules and isinstance(modules[-1], kind) else None


def _argument(args: Sequence[Any], kwargs: dict[str, Any], place: int, name: str) -> Any:
    return args[place] if len(args) > place else kwargs.get(name)


def _has_options(module: nn.Module, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """Whether a function is called as the layer would."""
    if name in _GROUPS:
        return (_argument(args, kwargs, _GROUPS[name], "groups") or 1) == getattr(module, "groups", 1)
    if isinstance(module, Normalisation):
        return not _argument(args, kwargs, 5, "training") and _argument(args, kwargs, 7, "eps") == module.eps
    return True


# ---- what is done before and after


def at_input(module: nn.Module, function: Before) -> RemovableHandle | _Around:
    """Call a function with a module and the inputs of its layer; the inputs that it returns, if any, are taken
    instead."""
    if is_of_torch(module):
        return module.register_forward_pre_hook(function)
    return _Around(module, function, None)


def at_result(module: nn.Module, function: After) -> RemovableHandle | _Around:
    """Call a function with a module, the inputs and the result of its layer; what it returns is taken instead."""
    if is_of_torch(module):
        return module.register_forward_hook(function)
    return _Around(module, None, function)


class _Around:
    """A forward that watches for the function of the layer; to be removed last first."""

    def __init__(self, module: nn.Module, first: Before | None, then: After | None) -> None:
        self._module, self._old = module, vars(module).get("forward")
        forward = module.forward

        def instead(*args: Any, **kwargs: Any) -> Any:
            with _Watched(module, first, then):
                return forward(*args, **kwargs)

        module.forward = instead

    def remove(self) -> None:
        """Put the forward back."""
        del self._module.forward
        if self._old is not None:
            self._module.forward = self._old


class _Watched(TorchFunctionMode):
    def __init__(self, module: nn.Module, first: Before | None, then: After | None) -> None:
        super().__init__()
        self._module, self._before, self._after = module, first, then

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if layer_called(name, args, kwargs, [self._module]) is None:
            return func(*args, **kwargs)
        x, rest = (args[0], args[1:]) if args else (kwargs.pop("input"), ())
        if self._before is not None:
            x = (self._before(self._module, (x,)) or (x,))[0]
        result = func(x, *rest, **kwargs)
        if self._after is not None:
            result = self._after(self._module, (x,), result)
        return result
