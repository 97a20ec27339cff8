"""Batches of training data."""

import torch

from chemnet.training.batches import TrainingData, few


def test_few_rows_are_the_same_pairs_every_time_and_validation_keeps_all():
    x, y = torch.rand(300, 3), torch.rand(300, 2)
    data = TrainingData(x, y, x[:100], y[:100], torch.arange(2))
    first, second = few(data, 50), few(data, 50)
    assert torch.equal(first.x, second.x) and len(first.x) == len(first.y) == 50
    places = [int((data.x == row).all(dim=1).nonzero()[0, 0]) for row in first.x]
    assert len(set(places)) == 50 and torch.equal(data.y[places], first.y)
    assert first.x_val is data.x_val and few(data, None) is data and few(data, 300) is data
