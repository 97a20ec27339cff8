"""Batches of a training: rows, loss and validation measure, for states here, for images in `vision.training`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Protocol, Self

import torch
from torch import nn

from chemnet.training.changes import change_loss
from chemnet.training.options import FitOptions

_VALIDATION_BLOCK = 8192


class Batches(Protocol):
    """Rows to train on and to validate with; `measure` names the validation figure. All randomness comes from the
    generator that is passed in."""

    measure: ClassVar[str]
    larger_is_better: ClassVar[bool]

    def __len__(self) -> int:
        """Number of rows to train on."""

    def to(self, device: str) -> Self:
        """Copy on a device."""

    def batch(self, rows: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and labels of some rows (n,)."""

    def loss(self, outputs: torch.Tensor, labels: torch.Tensor, options: FitOptions) -> torch.Tensor:
        """Mean loss of outputs in float32."""

    def validate(self, network: nn.Module, options: FitOptions) -> float:
        """Measure of a network on the validation rows."""


@dataclass(frozen=True)
class TrainingData:
    """Float32 inputs x (n, m) and labels y (n, m_out), for training and validation.

    The loss is taken over the output columns `active`; the others are never trained. `changes` (n, 2 K) are the weights
    of errors in the changes of mass fractions, for the option `change_loss` (`changes.py`).
    """

    x: torch.Tensor
    y: torch.Tensor
    x_val: torch.Tensor
    y_val: torch.Tensor
    active: torch.Tensor
    changes: torch.Tensor | None = None
    measure: ClassVar[str] = "validation_loss"
    larger_is_better: ClassVar[bool] = False

    def __len__(self) -> int:
        return len(self.x)

    def to(self, device: str) -> TrainingData:
        """Copy on a device."""
        tensors = (getattr(self, field.name) for field in fields(self))
        return TrainingData(*(None if tensor is None else tensor.to(device) for tensor in tensors))

    def where(self, rows: torch.Tensor) -> TrainingData:
        """Data with some of the training rows, by their numbers or a mask; the validation rows stay."""
        changes = None if self.changes is None else self.changes[rows]
        return replace(self, x=self.x[rows], y=self.y[rows], changes=changes)

    def batch(self, rows: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and labels of some rows (n,); the labels are followed by the weights of changes, if there are any."""
        labels = self.y[rows]
        return self.x[rows], labels if self.changes is None else torch.cat([labels, self.changes[rows]], dim=1)

    def loss(self, outputs: torch.Tensor, labels: torch.Tensor, options: FitOptions) -> torch.Tensor:
        """Mean loss over the active columns, and the errors of changes where they count."""
        loss = loss_of(options.loss)(outputs[:, self.active], labels[:, self.active])
        if self.changes is None or options.change_loss == 0.0:
            return loss
        width = outputs.shape[1]
        return loss + options.change_loss * change_loss(outputs, labels[:, :width], labels[:, width:])

    def validate(self, network: nn.Module, options: FitOptions) -> float:
        """Validation loss."""
        return validation_loss(network, self, options.loss)


def few(data: TrainingData, rows: int | None) -> TrainingData:
    """Data with at most `rows` training rows, drawn at random, always the same ones; the validation rows stay."""
    if rows is None or rows >= len(data):
        return data
    return data.where(torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[:rows].to(data.x.device))


def validation_loss(network: nn.Module, data: TrainingData, loss: str = "l1") -> float:
    """Mean loss over the validation rows and active columns, in float32."""
    total = 0.0
    with torch.no_grad():
        for x, y in zip(data.x_val.split(_VALIDATION_BLOCK), data.y_val.split(_VALIDATION_BLOCK), strict=True):
            total += loss_of(loss)(network(x)[:, data.active], y[:, data.active]).item() * len(x)
    return total / max(len(data.x_val), 1)


def loss_of(name: str) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Mean loss `l1` or `mse` of outputs and labels."""
    return {"l1": nn.functional.l1_loss, "mse": nn.functional.mse_loss}[name]
