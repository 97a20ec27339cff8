"""The condenser of dense networks and the one of any network give the same, on the kinds of stages that ship."""

import warnings

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from chemnet.condensation.choices import Cosine
from chemnet.condensation.condenser import condense
from chemnet.condensation.dense import condense_layers
from chemnet.condensation.rules import Cut, Rule
from chemnet.surrogate.network import NetConfig, build, describe

STAGES = {
    "deep": ([(1, "width", 24), (2, "width", 20), (3, "width", 16)], {"choice": "forward", "merge": "refit"}),
    "paper": ([(1, "width", 30)], {"choice": "forward", "merge": "refit"}),
    "quick": ([(2, "width", 22)], {"choice": "cosine", "merge": "refit"}),
    "published": ([(1, "width", 28)], {"choice": "cosine", "merge": "paper"}),
    "thresholds": ([(1, "threshold", 0.9), (2, "threshold", 0.8)], {"choice": "cosine", "merge": "paper"}),
    "no bias": ([(1, "threshold", 0.9)], {"choice": "cosine", "merge": "refit", "include_bias": False}),
    "loss": ([(1, "loss_increase", 0.02), (3, "loss_increase", 0.01)], {"choice": "forward", "merge": "refit"}),
    "loss, rounded": ([(2, "loss_increase", 0.05)], {"choice": "cosine", "merge": "refit", "round_to": 8}),
    "qr": ([(1, "width", 24), (2, "width", 20)], {"choice": "qr", "merge": "refit"}),
    "mixed": ([(1, "threshold", 0.9), (2, "width", 30), (3, "loss_increase", 0.05)], {"merge": "refit"}),
}


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("name", STAGES)
def test_old_and_new_agree(name, activation, constant):
    cuts, rule = STAGES[name]
    network = build(NetConfig(widths=(12, 60, 50, 40, 12), activation=activation), 0).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for place in (0, 2, 4):  # some neurons that are alike, a little
            layer, half = network[place], network[place].out_features // 3
            noise = 0.15 * torch.randn(layer.weight[:half].shape, generator=generator, dtype=torch.float64)
            layer.weight[-half:] = 1.5 * layer.weight[:half] + noise * layer.weight.std()
            layer.bias[-half:] = 1.5 * layer.bias[:half]
            if constant and not (name == "mixed" and place):  # the old refit gave it weights of 1e-18, and a group
                layer.weight[3] = 0.0
                layer.bias[3] = 0.7
    x = torch.from_numpy(np.random.default_rng(2).normal(size=(500, 12)))
    target = network(x).detach() + 0.1

    def loss(other):
        with torch.no_grad():
            return float(((other(x) - target) ** 2).mean())

    old = condense_layers(network, [Cut(layer=n, **{kind: v}) for n, kind, v in cuts], Rule(**rule), x, loss)
    names = {"threshold": "threshold", "width": "widths", "loss_increase": "loss_increase"}
    measures = {}
    for n, kind, value in cuts:
        measures.setdefault(names[kind], {})[str(2 * (n - 1))] = value
    choice = rule.get("choice", "cosine")
    choice = Cosine(rule.get("include_bias", True)) if choice == "cosine" else choice
    options = {"merge": rule["merge"], "round_to": rule.get("round_to", 1), "calibration": x, "loss": loss}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        new = condense(network, x[:2], choice=choice, **measures, **options)
    assert describe(new).widths == describe(old).widths != describe(network).widths
    worst = 0.0
    for place in (0, 2, 4, 6):
        for key in ("weight", "bias"):
            a, b = (getattr(one[place], key).detach().numpy() for one in (old, new))
            worst = max(worst, float(np.abs(a - b).max() / np.abs(a).max()))
            assert_allclose(b, a, rtol=1e-12, atol=1e-12 * np.abs(a).max())
    print(f"{name}, {activation}, constant {constant}: {describe(new).widths}, {worst:.1e}")
