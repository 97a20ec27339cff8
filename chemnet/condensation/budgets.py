"""Budgets of a network: what its layers need at given widths, in parameters or in multiply-adds."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from chemnet.condensation.called_layers import Watched
from chemnet.condensation.capture import evaluating
from chemnet.condensation.channels import Channels
from chemnet.condensation.graph import Follower, Layer, Transposed, is_depthwise
from chemnet.condensation.inputs import Inputs
from chemnet.condensation.vectors import parts_of

Numbers = NDArray[np.int64] | int
Costs = NDArray[np.float64] | float


class Budget(Protocol):
    """What is to be saved: `whole` is what the model needs, in a unit that messages call `unit`."""

    unit: str
    whole: float

    def of(self, name: str, read: Numbers, made: Numbers) -> Any:
        """What a layer, or a module that follows one, needs if it reads and makes these numbers of channels."""

    def measured(self, widths: Mapping[int, int]) -> float | None:
        """What the model needs at the widths of some spaces, by their numbers; None where `of` counts and is exact."""


class _Counted:
    """A budget that is counted."""

    def measured(self, widths: Mapping[int, int]) -> None:
        """Nothing is measured."""


class Parameters(_Counted):
    """Number of parameters."""

    unit = "parameters"

    def __init__(self, model: nn.Module, channels: Channels) -> None:
        self._modules, self._columns = parts_of(model) | channels.statistics, channels.columns
        self.whole = float(sum(p.numel() for p in model.parameters()))

    @classmethod
    def of_call(cls, model: nn.Module, channels: Channels, example: Inputs) -> Parameters:
        """Those of a model, whatever it is called with."""
        return cls(model, channels)

    def of(self, name: str, read: Numbers, made: Numbers) -> Any:
        """Parameters of a module."""
        module = self._modules[name]
        if isinstance(module, Follower):
            return read * sum(p.numel() for p in module.parameters(recurse=False)) // self._columns[name].count
        return weights(module, read, made) + made * (getattr(module, "bias", None) is not None)


class MultiplyAdds(_Counted):
    """Number of multiply-adds of a call on an example."""

    unit = "multiply-adds"

    @classmethod
    def of_call(cls, model: nn.Module, channels: Channels, example: Inputs) -> MultiplyAdds:
        """Those of a model called with an example."""
        return cls(model, example)

    def __init__(self, model: nn.Module, example: Inputs) -> None:
        self._modules = parts_of(model)
        layers = [name for name, module in self._modules.items() if isinstance(module, Layer)]
        self._places: dict[str, int] = dict.fromkeys(layers, 0)

        def watch(name: str, module: nn.Module, x: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
            self._places[name] += _places(module, x, output)
            return output

        with Watched(model, after=[(self._modules[name], partial(watch, name)) for name in layers]):
            self.whole = float(multiply_adds(model, example))

    def of(self, name: str, read: Numbers, made: Numbers) -> Any:
        """Multiply-adds of a module, of those that are counted: normalisations count nothing."""
        places = self._places.get(name, 0)
        return places * weights(self._modules[name], read, made) if places else 0


def multiply_adds(model: nn.Module, example_input: Any) -> int:
    """Multiply-adds of the convolutions and matrix products of a call on an example, which `condense` would take."""
    with FlopCounterMode(display=False) as counter, evaluating(model):
        Inputs.of(example_input, model).map(torch.clone)(model)
    return int(counter.get_total_flops()) // 2


def weights(module: nn.Module, read: Numbers, made: Numbers) -> Any:
    """Weights of a layer that reads and makes these numbers of channels."""
    if isinstance(module, nn.Embedding):
        return made * module.num_embeddings
    if is_depthwise(module):
        return read * module.weight[0].numel()
    groups = 1 if isinstance(module, nn.Linear) else module.groups
    return made * (read // groups * module.weight[0, 0].numel())


def _places(module: nn.Module, given: torch.Tensor, output: torch.Tensor) -> int:
    """How often each weight of a layer is used in a call."""
    if isinstance(module, Transposed):
        return given.numel() // module.in_channels
    return output.numel() // (module.out_features if isinstance(module, nn.Linear) else module.out_channels)
