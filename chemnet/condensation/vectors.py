"""Parameters and buffers of one number per channel that a model's own code multiplies with, or adds: the scale of a
layer, a frozen normalisation. Each follows its channels as a normalisation does, under its full name."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn


class Vector(nn.Module):
    """The tensor `key` of a module, which is as long along one axis as there are channels, and 1 along the others."""

    def __init__(self, owner: nn.Module, key: str) -> None:
        super().__init__()
        self.__dict__.update(owner=owner, key=key)  # the owner is no part of it

    @property
    def tensor(self) -> torch.Tensor:
        """The tensor as the module holds it now."""
        found: torch.Tensor = getattr(self.owner, self.key)
        return found

    @property
    def axis(self) -> int:
        """The axis of the channels."""
        return max(range(self.tensor.ndim), key=lambda axis: self.tensor.shape[axis])

    @property
    def weight(self) -> torch.Tensor:
        """The numbers (m,)."""
        return self.tensor.flatten()

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """The tensor, if it is a parameter."""
        yield from (each for each in (self.tensor,) if isinstance(each, nn.Parameter))


def is_vector(x: torch.Tensor) -> bool:
    """Whether a tensor is longer than 1 along one axis alone."""
    return sum(size > 1 for size in x.shape) == 1


def parts_of(model: nn.Module) -> dict[str, nn.Module]:
    """The modules of a model, and the vectors that its own classes hold, by their names."""
    found = dict(model.named_modules())
    for name, module in list(found.items()):
        if type(module).__module__.startswith("torch.nn."):
            continue
        for key, x in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            if is_vector(x):
                found[f"{name}.{key}" if name else key] = Vector(module, key)
    return found
