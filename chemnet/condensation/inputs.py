"""Arguments with which a model is called, and inputs drawn like those of an example."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from chemnet.runtime.errors import UsageError

Tensors = Callable[[torch.Tensor], torch.Tensor]

_BATCH = 4  # rows from which on their spread tells the scale of every entry
_NUMBERS = 2**19
_PARTS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Inputs:
    """Arguments of one call, by place and by name, with tensors among them or in their tuples, lists and mappings."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @classmethod
    def of(cls, given: Any, model: nn.Module) -> Inputs:
        """A tensor; a tuple or list of arguments; or a mapping of names to arguments, which is itself the argument of a
        model that has no parameters of these names."""
        if isinstance(given, Inputs):
            return given
        if isinstance(given, Mapping) and _takes_by_name(model, given):
            return cls((), dict(given))
        return cls(tuple(given) if isinstance(given, tuple | list) else (given,), {})

    def __call__(self, model: Callable[..., Any]) -> Any:
        """What a model makes of them."""
        return model(*self.args, **self.kwargs)

    def map(self, function: Tensors) -> Inputs:
        """The same arguments with a function of every tensor in its place."""
        return Inputs(mapped(function, self.args), mapped(function, dict(self.kwargs)))

    @property
    def tensors(self) -> list[torch.Tensor]:
        """All tensors, in their order."""
        return leaves((self.args, dict(self.kwargs)))

    @property
    def count(self) -> int:
        """Number of inputs: the length of the first tensor; 0 where there is none."""
        return next((len(x) for x in self.tensors if x.ndim), 0)

    def rows(self, chosen: torch.Tensor | slice) -> Inputs:
        """Some of the inputs; a tensor of another length belongs to all of them."""
        count = self.count
        return self.map(lambda x: x[chosen] if x.ndim and len(x) == count else x)

    def some(self, most: int) -> Inputs:
        """The first inputs: at most `most`, and no more than there is `room` for."""
        return self.rows(slice(0, self.room(most)))

    def room(self, most: int, numbers: int = _NUMBERS) -> int:
        """Number of inputs, at most `most` and at least two, of about so many numbers in all."""
        of_each = max(sum(x.numel() for x in self.tensors) // max(self.count, 1), 1)
        return min(most, max(numbers // of_each, 2))

    def blocks(self, size: int) -> Iterator[Inputs]:
        """The inputs in blocks of at most `size`, all of about the same size."""
        count = self.count
        for part in torch.arange(count).tensor_split(-(-count // size)):
            yield self.rows(slice(int(part[0]), int(part[-1]) + 1))

    def like(self, model: nn.Module) -> Inputs:
        """On the device of the model's weights, floating-point numbers in their type."""
        weight = next(model.parameters(), torch.empty(0))
        return self.map(lambda x: x.to(weight.device, weight.dtype if x.is_floating_point() else x.dtype))

    @property
    def shapes(self) -> str:
        """The shapes of the tensors, for messages."""
        return ", ".join(str(tuple(x.shape)) for x in self.tensors)


def _takes_by_name(model: nn.Module, given: Mapping[Any, Any]) -> bool:
    """Whether the forward of a model has these names, or takes any."""
    signature = inspect.signature(model.forward)
    if given.keys() <= signature.parameters.keys():
        return True
    try:
        signature.bind(**given)
    except TypeError:
        return False
    return True


def mapped(function: Tensors, value: Any) -> Any:
    """A value with a function of each of its tensors in the place of it."""
    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return {key: mapped(function, each) for key, each in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(mapped(function, each) for each in value))
    if isinstance(value, tuple | list):
        return type(value)(mapped(function, each) for each in value)
    return value


def leaves(value: Any) -> list[torch.Tensor]:
    """The tensors of a value, in their order: of tuples, lists, mappings and data classes, one in another."""
    if isinstance(value, torch.Tensor):
        return [value]
    return [x for _, part in parts(value) for x in leaves(part)]


def parts(value: Any) -> list[tuple[Any, Any]]:
    """What a value consists of, each with its key, place or name."""
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, tuple | list):
        return list(enumerate(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(each.name, getattr(value, each.name)) for each in dataclasses.fields(value)]
    return []


def calibration_inputs(given: Any, example: Inputs, model: nn.Module) -> Inputs:
    """Calibration inputs as the arguments of one call. UsageError unless there are as many tensors as in the example,
    the first of at least two inputs."""
    inputs = Inputs.of(given, model)
    if inputs.count < 2:
        raise UsageError("calibration: expected a tensor of at least two inputs, or several as in the example")
    if len(inputs.tensors) != len(example.tensors):
        raise UsageError(
            f"calibration: {len(inputs.tensors)} tensors of shapes {inputs.shapes}, where the example input has "
            f"{len(example.tensors)}\nGive as many, in the same order"
        )
    return inputs


def drawn(example: Inputs, model: nn.Module, count: int, seed: int = 0) -> Inputs:
    """Inputs drawn at random in the scale of an example.

    Every number is one of the example's, taken from a random one of its inputs, plus a normally distributed part: as
    large as the spread of this entry over the inputs, if there are four or more, otherwise as its own size. Where that
    says nothing, as in an example of zeros, it is the size at which the weights of a first layer, a Linear layer or a
    convolution, add as much as its biases, or 1. Whole numbers and flags are taken as they are.
    """
    generator = torch.Generator().manual_seed(seed)
    first = next((module for module in model.modules() if isinstance(module, _PARTS)), None)
    chosen = torch.randint(max(example.count, 1), (count,), generator=generator)
    scale = 1.0 if first is None else _balance(first)
    fixed = example.count

    def draw(x: torch.Tensor) -> torch.Tensor:
        return _varied(x, chosen, scale, generator) if x.ndim and len(x) == fixed else x

    return example.map(draw)


def _balance(layer: nn.Module) -> float:
    """Size of the inputs of a layer at which its weights add as much as its biases; 1 without biases."""
    bias, weight = getattr(layer, "bias", None), layer.weight.detach().double()
    if not isinstance(bias, torch.Tensor) or not bias.detach().any() or not weight.any():
        return 1.0
    sums = weight.flatten(1).square().sum(1).mean().sqrt()
    return float(bias.detach().double().square().mean().sqrt() / sums)


def _varied(x: torch.Tensor, chosen: torch.Tensor, scale: float, generator: torch.Generator) -> torch.Tensor:
    rows = x[chosen.to(x.device)]
    if not x.is_floating_point() or not x.numel():
        return rows
    values = x.detach().double()
    size = values.std(0).expand_as(values) if len(x) >= _BATCH else values.abs()
    overall = values.square().mean().sqrt()
    size = torch.where(size > 0.0, size, overall if overall > 0.0 else torch.full_like(overall, scale))
    noise = torch.randn(rows.shape, generator=generator, dtype=torch.float64).to(x.device)
    return (rows.double() + noise * size[chosen.to(x.device)]).to(x.dtype)
