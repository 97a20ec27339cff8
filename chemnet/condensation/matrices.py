"""Matrices that a model's own classes hold and multiply with: layers that are no module of torch.nn, as a Linear layer
of one's own, or one whose weights are stored the other way round."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

# Where an owner keeps the numbers of its channels.
_MADE = ("out_features", "out_channels", "nf")
_READ = ("in_features", "in_channels", "nx")


class Matrix(nn.Linear):
    """The tensor `key` of a module as a Linear layer, with the module's bias or without, of shape (out, in) or, where
    it `is_transposed`, (in, out). What is set here is set there; two are equal that stand for the same."""

    def __init__(self, owner: nn.Module, key: str, *, bias: str | None, is_transposed: bool) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(owner=owner, key=key, bias_key=bias, is_transposed=is_transposed)  # no part of it

    @property
    def tensor(self) -> torch.Tensor:
        """The matrix as the module holds it now."""
        found: torch.Tensor = getattr(self.owner, self.key)
        return found

    @property
    def weight(self) -> torch.Tensor:  # type: ignore[override]
        """The weights (out, in)."""
        return self.tensor.T if self.is_transposed else self.tensor

    @property
    def bias(self) -> torch.Tensor | None:  # type: ignore[override]
        """The biases (out,), if there are any."""
        return None if self.bias_key is None else getattr(self.owner, self.bias_key)

    @property
    def out_features(self) -> int:  # type: ignore[override]
        """Number of channels that are made."""
        return len(self.weight)

    @property
    def in_features(self) -> int:  # type: ignore[override]
        """Number of channels that are read."""
        return int(self.weight.shape[1])

    def widths(self) -> Iterator[str]:
        """Names of the numbers by which the owner knows its widths."""
        for names, width in ((_MADE, self.out_features), (_READ, self.in_features)):
            yield from (name for name in names if vars(self.owner).get(name) == width)

    def __setattr__(self, name: str, value: Any) -> None:
        """Weights and widths are those of the owner."""
        if name == "weight":
            self._put(self.key, value.T.contiguous() if self.is_transposed else value)
        elif name == "bias" and self.bias_key is not None:
            self._put(self.bias_key, value)
        elif name in ("out_features", "in_features"):
            for each in _MADE if name == "out_features" else _READ:
                if isinstance(vars(self.owner).get(each), int):
                    setattr(self.owner, each, value)
        else:
            super().__setattr__(name, value)

    def _put(self, key: str, value: torch.Tensor) -> None:
        old = getattr(self.owner, key)
        value = value.detach()
        setattr(self.owner, key, nn.Parameter(value, old.requires_grad) if isinstance(old, nn.Parameter) else value)

    def _identity(self) -> tuple[Any, ...]:
        return id(self.owner), self.key, self.bias_key, self.is_transposed

    def __eq__(self, other: object) -> bool:
        """Whether another one stands for the same."""
        return isinstance(other, Matrix) and self._identity() == other._identity()

    def __hash__(self) -> int:
        """By what it stands for."""
        return hash(self._identity())


def matrices_of(name: str, owner: nn.Module) -> dict[str, Matrix]:
    """The matrices of a module of a class of the model's own, in every way in which they may be layers, by name."""
    found = dict[str, Matrix]()
    if isinstance(owner, nn.Linear | nn.Embedding | nn.modules.conv._ConvNd):
        return found
    tensors = dict([*owner.named_parameters(recurse=False), *owner.named_buffers(recurse=False)])
    for key, x in tensors.items():
        if x.ndim == 2 and x.is_floating_point():
            bias = key.replace("weight", "bias") if "weight" in key else None
            for is_transposed, suffix in ((False, "linear"), (True, "linear.T")):
                path = f"{name}.{key}" if name else key
                if bias in tensors and tensors[bias].shape == x.shape[1 if is_transposed else 0 :][:1]:
                    found[f"{path}.{suffix}"] = Matrix(owner, key, bias=bias, is_transposed=is_transposed)
                plain = suffix.replace("linear", "matrix")
                found[f"{path}.{plain}"] = Matrix(owner, key, bias=None, is_transposed=is_transposed)
    return found


def redescribed(owner: nn.Module, key: str, before: torch.Size) -> None:
    """Set the numbers by which a module knows the widths of a matrix, of which it has been given another one."""
    now = getattr(owner, key).shape
    is_transposed = "nf" in vars(owner) or vars(owner).get("in_features") == before[0] != before[1]
    for names, axis in ((_MADE, int(is_transposed)), (_READ, 1 - int(is_transposed))):
        for name in names:
            if vars(owner).get(name) == before[axis]:
                setattr(owner, name, now[axis])
