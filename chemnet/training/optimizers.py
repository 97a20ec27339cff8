"""Optimisers of a training, among them Muon for processors without bfloat16 instructions.

torch's Muon orthogonalises its updates in bfloat16. On processors that emulate it the training of a small network takes
several times as long; there the updates are computed in float32.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from chemnet.surrogate.inference import has_bf16_instructions
from chemnet.training.options import Phase

_MOMENTUM = 0.9  # of SGD


def optimizers_for(network: nn.Module, phase: Phase, rate: float) -> list[torch.optim.Optimizer]:
    """Optimisers of a phase at a learning rate: one for all parameters, or Muon for matrices and AdamW for others."""
    decay, other_decay = phase.weight_decay, phase.weight_decay if phase.decay_biases else 0.0
    parameters = list(network.parameters())
    if phase.optimizer == "muon":
        others = [p for p in parameters if p.ndim != 2]
        return [
            muon([p for p in parameters if p.ndim == 2], lr=rate, weight_decay=decay),
            torch.optim.AdamW(others, rate, weight_decay=other_decay, fused=True),
        ]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": other_decay},
    ]
    if phase.optimizer == "sgd":
        return [torch.optim.SGD(groups, rate, momentum=_MOMENTUM, nesterov=phase.nesterov)]
    make = torch.optim.Adam if phase.optimizer == "adam" else torch.optim.AdamW
    return [make(groups, rate, fused=True)]


def muon(matrices: Iterable[nn.Parameter], **options: Any) -> torch.optim.Muon:
    """Muon for 2-D parameters, in bfloat16 where their device has instructions for it; options are torch's."""
    matrices = list(matrices)
    on_gpu = any(matrix.is_cuda for matrix in matrices)
    make = torch.optim.Muon if on_gpu or has_bf16_instructions() else Float32Muon
    return make(matrices, adjust_lr_fn="match_rms_adamw", **options)


class Float32Muon(torch.optim.Muon):
    """torch.optim.Muon, its updates orthogonalised in float32; options and state are the same."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of all matrices."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(matrix.grad)
                mean = state["momentum_buffer"].lerp_(matrix.grad, 1.0 - group["momentum"])
                update = matrix.grad.lerp(mean, group["momentum"]) if group["nesterov"] else mean
                update = orthogonalised(update, group["ns_coefficients"], group["ns_steps"], group["eps"])
                matrix.mul_(1.0 - group["lr"] * group["weight_decay"])
                # Liu et al., "Muon is Scalable for LLM Training" (2025): the size of AdamW's updates
                matrix.add_(update, alpha=-0.2 * group["lr"] * math.sqrt(max(matrix.shape)))


def orthogonalised(
    matrix: torch.Tensor, coefficients: tuple[float, float, float], steps: int, eps: float
) -> torch.Tensor:
    """The matrix (a, b) with its singular values brought near to one by Newton-Schulz steps (K. Jordan, 2024)."""
    a, b, c = coefficients
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    wide = wide / wide.norm().clamp(min=eps)
    for _ in range(steps):
        gram = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return wide if wide.shape == matrix.shape else wide.T
