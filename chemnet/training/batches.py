"""Batches of states: pairs of inputs and labels, their loss, and the validation loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn

_VALIDATION_BLOCK = 8192


@dataclass(frozen=True)
class TrainingData:
    """Float32 inputs x (n, m) and labels y (n, m_out), for training and validation.

    The loss is taken over the output columns `active`; the others are never trained.
    """

    x: torch.Tensor
    y: torch.Tensor
    x_val: torch.Tensor
    y_val: torch.Tensor
    active: torch.Tensor

    def to(self, device: str) -> TrainingData:
        """The same data on a device."""
        return TrainingData(*(getattr(self, name).to(device) for name in ("x", "y", "x_val", "y_val", "active")))


def few(data: TrainingData, rows: int | None) -> TrainingData:
    """The same data with no more than `rows` of its rows to train on, drawn at random, always the same ones; all are
    left to validate with."""
    if rows is None or rows >= len(data.x):
        return data
    chosen = torch.randperm(len(data.x), generator=torch.Generator().manual_seed(0))[:rows].to(data.x.device)
    return replace(data, x=data.x[chosen], y=data.y[chosen])


def validation_loss(network: nn.Module, data: TrainingData, loss: str = "l1") -> float:
    """Mean loss over the validation rows and active columns, in float32."""
    total = 0.0
    with torch.no_grad():
        for start in range(0, len(data.x_val), _VALIDATION_BLOCK):
            rows = slice(start, start + _VALIDATION_BLOCK)
            total += loss_of(loss)(
                network(data.x_val[rows])[:, data.active], data.y_val[rows][:, data.active]
            ).item() * (len(data.x_val[rows]))
    return total / max(len(data.x_val), 1)


def loss_of(name: str) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The mean loss of this name, l1 or mse, of outputs and labels."""
    return {"l1": nn.functional.l1_loss, "mse": nn.functional.mse_loss}[name]
