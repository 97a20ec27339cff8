"""Parameters and buffers of one number per channel that a model's own code multiplies with, or adds: the scale of a
layer, a frozen normalisation. Each follows its channels as a normalisation does, under its full name."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from chemnet.condensation.matrices import matrices_of


class Vector(nn.Module):
    """The tensor `key` of a module, which is as long along one axis as there are channels: the only one that is longer
    than 1, or else the last, as of an embedding of positions."""

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
        shape = self.tensor.shape
        return max(range(len(shape)), key=shape.__getitem__) if is_vector(self.tensor) else len(shape) - 1

    @property
    def weight(self) -> torch.Tensor:
        """The numbers of the channels (m,) or (m, places)."""
        return self.tensor.flatten() if is_vector(self.tensor) else self.tensor.movedim(-1, 0).flatten(1)

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """The tensor, if it is a parameter."""
        yield from (each for each in (self.tensor,) if isinstance(each, nn.Parameter))


def is_vector(x: torch.Tensor) -> bool:
    """Whether a tensor is longer than 1 along one axis alone."""
    return sum(size > 1 for size in x.shape) == 1


def is_table(x: torch.Tensor) -> bool:
    """Whether a tensor may hold a vector for each of several places."""
    return x.ndim in (2, 3) and x.shape[-1] > 1 and x.is_floating_point()


def are_narrowed(given: torch.Tensor, tensor: torch.Tensor) -> bool:
    """Whether one tensor is another with other numbers of channels."""
    if is_vector(tensor) and given.ndim == tensor.ndim:
        return all(now == 1 for now, size in zip(given.shape, tensor.shape, strict=True) if size == 1)
    return is_table(given) and is_table(tensor) and given.shape[:-1] == tensor.shape[:-1]


def parts_of(model: nn.Module) -> dict[str, nn.Module]:
    """The modules of a model, and the vectors and matrices that its own classes hold, by their names."""
    found = dict(model.named_modules())
    for name, module in list(found.items()):
        if type(module).__module__.startswith("torch.nn."):
            continue
        for key, x in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            if is_vector(x) or is_table(x):
                found[f"{name}.{key}" if name else key] = Vector(module, key)
        found |= matrices_of(name, module)
    return found
