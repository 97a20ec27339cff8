"""Division of a budget over the layers by what the outputs lose."""

import itertools

import numpy as np
import pytest
import torch
from net_zoo import randomised
from numpy.testing import assert_allclose
from torch import nn
from torch.overrides import TorchFunctionMode

from chemnet.condensation.called_layers import Hooks
from chemnet.condensation.condenser import condense
from chemnet.condensation.inputs import Inputs
from chemnet.condensation.sensitivity import Sensitivity, by_width, measured, tried


class Branches(nn.Module):
    """Two branches of the same widths, of which the second hardly reaches the output."""

    def __init__(self):
        super().__init__()
        self.a, self.b = (nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 3)) for _ in range(2))

    def forward(self, x):
        return self.a(x) + 0.02 * self.b(x)


class Residual(nn.Module):
    """A stream that four blocks and the output read, and add to."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 12), nn.Linear(12, 3)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(12, 12), nn.Tanh(), nn.Linear(12, 12)) for _ in range(2))

    def forward(self, x):
        y = self.first(x)
        for block in self.blocks:
            y = y + block(y)
        return self.last(y)


def inputs(n=300):
    return torch.randn(n, 4, generator=torch.Generator().manual_seed(3))


def lost(model, smaller, x):
    with torch.no_grad():
        before, after = model(x), smaller(x)
    return float((after - before).square().sum() / (before - before.mean(0)).square().sum())


def size(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("made", "layers"), [(Branches, ("a.0", "b.0")), (Residual, ("first", "blocks.0.0", "blocks.1.0"))]
)
def test_few_divisions_of_a_budget_change_the_outputs_less(made, layers):
    model, x = randomised(made()).eval(), inputs()
    widths = [range(width, 0, -4) for width in (model.get_submodule(layer).out_features for layer in layers)]
    how = {"choice": "forward", "calibration": x}
    found = condense(model, x[:1], ratio=0.6, **how)
    losses = []
    for chosen in itertools.product(*widths):
        other = condense(model, x[:1], widths=dict(zip(layers, chosen, strict=True)), **how)
        if size(other) <= 0.6 * size(model):
            losses.append(lost(model, other, x))
    assert size(found) <= 0.6 * size(model)
    assert len(losses) > 5
    assert np.mean(np.array(losses) < lost(model, found, x)) <= 0.1


def test_the_change_is_that_of_the_outputs_about_their_means():
    model = nn.Linear(4, 3).eval()
    sensitivity = Sensitivity(model, Inputs.of(inputs(), model))
    halved = [(model, lambda module, x: 0.5 * x)]
    with torch.no_grad():
        varying = model(inputs()) - model(inputs()).mean(0)
        change = 0.5 * inputs() @ model.weight.T
    expected = float(change.square().sum() / varying.square().sum())
    assert_allclose(sensitivity.change(Hooks(halved)), expected, rtol=1e-4, atol=0)
    assert sensitivity.change(Hooks()) == 0.0


def test_a_few_widths_are_tried_until_the_outputs_are_lost():
    assert tried(64, lambda width: width) == [48, 32, 16, 8, 4]
    assert tried(20, lambda width: -(-width // 8) * 8) == [16, 8]
    assert tried(1, lambda width: width) == []
    changes = {48: 0.1, 32: 0.7, 16: 1.5}
    assert measured(changes, changes.get) == {48: 0.1, 32: 0.7}


def test_between_two_widths_the_change_follows_what_the_readers_lack():
    left = np.array([1.0, 0.5, 0.4, 0.2, 0.0])
    curve = by_width(left, {3: 0.1, 2: 0.5})
    assert_allclose(curve, [1.25, 0.625, 0.5, 0.1, 0.0], rtol=1e-12, atol=0)
    assert not by_width(left, {}).any()


class Products(TorchFunctionMode):
    """Number of products by the weights of layers."""

    count = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.count += func.__name__ == "linear"
        return func(*args, **kwargs or {})


def test_what_no_later_cut_touches_is_computed_once_and_the_changes_are_the_same():
    layers = [layer for width in (4, 8, 8, 8) for layer in (nn.Linear(width, 8), nn.Tanh())]
    net = randomised(nn.Sequential(*layers, nn.Linear(8, 2))).eval()
    once, anew = (Sensitivity(net, Inputs.of(inputs(), net)) for _ in range(2))
    resumed, whole = Products(), Products()
    for place in (2, 4, 6):
        touched = [weight for layer in net[place - 2 :] for weight in layer.parameters()]
        for share in (0.9, 0.5):
            hooks = Hooks(before=[(net[place], lambda module, x, share=share: share * x)])
            with resumed:
                change = once.change(hooks, touched)
            with whole:
                assert change == anew.change(hooks)
    assert whole.count == 3 * 2 * 5
    assert resumed.count == (5 + 5) + (5 + 4) + (4 + 3)
