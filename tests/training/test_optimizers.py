"""Muon in float32: an update has singular values near one, and torch's own optimiser goes the same way."""

import pytest
import torch
from torch import nn

from chemnet.training import optimizers as module
from chemnet.training.optimizers import Float32Muon, muon, orthogonalised

COEFFICIENTS = (3.4445, -4.775, 2.0315)


@pytest.mark.parametrize("shape", [(40, 17), (17, 40), (30, 30)])
def test_singular_values_come_near_one_and_directions_stay(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    found = left.T @ orthogonalised(matrix, COEFFICIENTS, 5, 1e-7) @ right.T
    values = torch.diagonal(found)
    assert values.min() > 0.6 and values.max() < 1.3  # the quintic iteration oscillates about one
    torch.testing.assert_close(found, torch.diag(values), rtol=0, atol=1e-12)


def test_torchs_own_optimiser_goes_the_same_way_but_for_its_eight_bits():
    start = torch.randn(24, 12, generator=torch.Generator().manual_seed(2))
    ways = []
    for make in (Float32Muon, torch.optim.Muon):
        matrix = nn.Parameter(start.clone())
        optimizer = make([matrix], lr=1e-2, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
        for _ in range(5):
            optimizer.zero_grad()
            (matrix**4).sum().backward()
            optimizer.step()
        ways.append(matrix.detach() - start)
    assert ways[1].abs().mean() > 5e-3
    torch.testing.assert_close(ways[0], ways[1], rtol=0, atol=1e-3)


@pytest.mark.parametrize("has_instructions", [True, False])
def test_the_processor_decides(monkeypatch, has_instructions):
    monkeypatch.setattr(module, "has_bf16_instructions", lambda: has_instructions)
    optimizer = muon([nn.Parameter(torch.ones(3, 2))], lr=0.1)
    assert isinstance(optimizer, Float32Muon) is not has_instructions
    assert optimizer.param_groups[0]["lr"] == 0.1
