"""The network: its description is in step with its layers, its initialisation has the law that it names."""

import math

import pytest
import torch
from torch import nn

from chemnet.runtime.errors import UsageError
from chemnet.surrogate.network import NetConfig, build, count, describe, standard_deviation

PUBLISHED = (23, 3200, 1600, 800, 400, 23)


def test_the_published_network_has_6802800_weights_without_biases():
    network = build(NetConfig(widths=PUBLISHED, activation="relu", initialisation="paper"), seed=0)
    assert count(network, biases=False) == 6_802_800
    assert count(network, biases=True) == 6_802_800 + sum(PUBLISHED[1:])


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "tanh"])
def test_the_description_is_read_off_the_layers(activation):
    config = NetConfig(widths=(5, 7, 3, 2), activation=activation, initialisation="mean")
    network = build(config, seed=3)
    assert describe(network) == config.model_copy(update={"initialisation": None})
    network[2], network[4] = nn.Linear(7, 4), nn.Linear(4, 2)
    assert describe(network).widths == (5, 7, 4, 2)


@pytest.mark.parametrize(
    "modules",
    [
        [nn.Linear(2, 3), nn.Linear(3, 2)],
        [nn.Linear(2, 3), nn.ReLU()],
        [nn.Linear(2, 3), nn.ReLU(), nn.Linear(4, 2)],
        [nn.Linear(2, 3, bias=False), nn.ReLU(), nn.Linear(3, 2)],
        [nn.Linear(2, 3), nn.ELU(), nn.Linear(3, 2)],
        [nn.Linear(2, 3), nn.GELU(approximate="tanh"), nn.Linear(3, 2)],
        [nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 3), nn.GELU(), nn.Linear(3, 2)],
    ],
)
def test_a_network_that_build_cannot_make_is_not_described(modules):
    with pytest.raises(UsageError, match="not a chemnet network"):
        describe(nn.Sequential(*modules))


def test_the_same_seed_gives_the_same_weights_and_no_global_generator_moves():
    config = NetConfig(widths=(4, 6, 2))
    before = torch.random.get_rng_state()
    first, second, other = build(config, seed=1), build(config, seed=1), build(config, seed=2)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first[0].weight, second[0].weight)
    assert not torch.equal(first[0].weight, other[0].weight)


@pytest.mark.parametrize("initialisation", ["paper", "default", "mean"])
def test_weights_and_biases_are_drawn_with_the_named_standard_deviation(initialisation):
    network = build(NetConfig(widths=(40, 2000, 3), initialisation=initialisation), seed=5)
    expected = standard_deviation(40, 2000, initialisation)
    weights, biases = network[0].weight, network[0].bias
    # relative sampling error of a normal standard deviation: 1/sqrt(2 n)
    assert weights.std().item() == pytest.approx(expected, rel=4 / math.sqrt(2 * 80_000), abs=0)
    assert biases.std().item() == pytest.approx(expected, rel=4 / math.sqrt(2 * 2000), abs=0)


def test_default_is_the_law_of_pytorch_and_paper_is_equation_19():
    assert standard_deviation(100, 50, "default") == pytest.approx(0.1 / math.sqrt(3), rel=1e-15, abs=0)
    assert standard_deviation(23, 3200, "paper") == pytest.approx(2 / 3223, rel=1e-15, abs=0)
    bound = build(NetConfig(widths=(100, 50)), seed=0)[0].weight.abs().max().item()
    assert 0.099 < bound <= 0.1


def test_no_initialisation_leaves_zeros_for_weights_that_are_loaded():
    network = build(NetConfig(widths=(3, 4, 2), initialisation=None))
    assert all(not parameter.any() for parameter in network.parameters())
