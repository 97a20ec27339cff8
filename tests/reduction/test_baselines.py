"""Baselines on fully connected networks: exact where they can be, the widths asked for, never more weights."""

import importlib.util

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn

from chemnet.reduction.baselines import BASELINES
from chemnet.reduction.neuron_merging import neuron_merging
from chemnet.reduction.torch_pruning import lacks
from chemnet.runtime.errors import UsageError
from chemnet.surrogate.network import NetConfig, build, count, describe

WIDTHS = (9, 7)
DENSE = sorted(set(BASELINES) - {"torch-pruning-magnitude", "torch-pruning-group-norm"})
KEEPS = sorted(set(DENSE) - {"unreduced", "svd"})


def large(activation="relu", widths=(5, 16, 14, 3), seed=0):
    return build(NetConfig(widths=widths, activation=activation), seed).double()


def inputs(n=200, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, 5)))


def output(network, x):
    with torch.no_grad():
        return network(x).numpy()


def make(name, network, widths=WIDTHS, seed=0):
    if lacks(name):
        pytest.skip(f"{name} is not installed")
    return BASELINES[name](network, widths, inputs(seed=5), seed)


def with_parallel_neurons(scales=(0.25, 0.5)):
    """A ReLU network whose hidden layers repeat their first neurons at smaller scales; and how many are left."""
    network = large()
    for layer, width in ((network[0], WIDTHS[0]), (network[2], WIDTHS[1])):
        with torch.no_grad():
            for i in range(width, layer.out_features):
                scale = scales[i % len(scales)]
                layer.weight[i] = scale * layer.weight[i - width]
                layer.bias[i] = scale * layer.bias[i - width]
    return network


@pytest.mark.parametrize("name", KEEPS)
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_every_baseline_gives_the_widths_asked_for_and_leaves_the_large_network_alone(name, activation):
    network = large(activation)
    before = [parameter.clone() for parameter in network.parameters()]
    small = make(name, network)
    assert describe(small).widths == (5, *WIDTHS, 3)
    assert describe(small).activation == activation
    assert {parameter.dtype for parameter in small.parameters()} == {torch.float64}
    assert all(parameter.requires_grad for parameter in small.parameters())
    assert all(torch.equal(*pair) for pair in zip(before, network.parameters(), strict=True))


@pytest.mark.parametrize("name", sorted(set(DENSE) - {"scratch"}))
def test_at_full_width_nothing_is_lost(name):
    network = large("gelu")
    small = make(name, network, (16, 14))
    assert_allclose(output(small, inputs()), output(network, inputs()), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", DENSE)
def test_the_same_seed_gives_the_same_network(name):
    first, second = (make(name, large("gelu"), seed=3) for _ in range(2))
    assert all(torch.equal(*pair) for pair in zip(first.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize("name", ["random", "scratch"])
def test_another_seed_gives_another_network(name):
    first, second = (make(name, large("gelu"), seed=seed) for seed in (0, 1))
    assert not torch.equal(first[0].weight, second[0].weight)


@pytest.mark.parametrize("name", ["condensation", "condensation-paper", "neuron-merging"])
def test_parallel_relu_neurons_are_merged_exactly(name):
    network = with_parallel_neurons()
    small = make(name, network)
    assert_allclose(output(small, inputs()), output(network, inputs()), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["magnitude", "random"])
def test_dropping_neurons_is_not_exact_for_parallel_ones_without_a_refit(name):
    network = with_parallel_neurons()
    difference = np.abs(output(make(name, network), inputs()) - output(network, inputs())).max()
    assert difference > 1e-3


def test_magnitude_keeps_the_largest_products_of_incoming_and_outgoing_norms():
    network = large()
    with torch.no_grad():
        network[0].weight[:, :] = torch.eye(16, 5)[:, :] + 1.0
        network[0].bias.zero_()
        network[2].weight[:, [1, 4, 6]] *= 100.0
    small = BASELINES["magnitude"](network, (3, 14), inputs(), 0)
    assert torch.equal(small[0].weight, network[0].weight[[1, 4, 6]])
    assert torch.equal(small[2].weight, network[2].weight[:, [1, 4, 6]])


def test_neuron_merging_scales_by_the_ratio_of_norms_and_drops_below_the_threshold():
    network = large(widths=(5, 3, 1))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[3.0, 0, 0, 0, 0], [0, 0.5, 0, 0, 0], [0.6, 0.8, 0, 0, 0]]))
        network[0].bias.copy_(torch.tensor([4.0, 0.0, 0.0]))
        network[2].weight.copy_(torch.tensor([[2.0, 7.0, 3.0]]))
    kept = neuron_merging(network, (2,), inputs(), 0, threshold=0.75)
    assert torch.equal(kept[0].weight, network[0].weight[[0, 2]])
    assert_allclose(kept[2].weight.tolist(), [[2.0, 3.0 + 0.5 * 7.0]], rtol=1e-7, atol=0)  # cosine 0.8 to the third
    dropped = neuron_merging(network, (2,), inputs(), 0, threshold=0.85)
    assert dropped[2].weight.tolist() == [[2.0, 3.0]]


def test_neuron_merging_chooses_by_the_norm_that_is_asked_for():
    network = large(widths=(5, 2, 1))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[3.0, 0, 0, 0, 0], [1.0, 1.0, 1.0, 1.0, 1.0]]))
        network[0].bias.zero_()
    first, second = (neuron_merging(network, (1,), inputs(), 0, norm=norm) for norm in (2, 1))
    assert torch.equal(first[0].weight, network[0].weight[:1])
    assert torch.equal(second[0].weight, network[0].weight[1:])


@pytest.mark.parametrize("widths", [(6, 6), (9, 7), (12, 11), (16, 13)])
def test_svd_has_no_more_weights_than_the_widths_and_no_room_for_another_rank(widths):
    small = make("svd", large("gelu"), widths)
    sizes = (5, *widths, 3)
    budget = sum(a * b for a, b in zip(sizes[:-1], sizes[1:], strict=True))
    assert budget - max(16 + 14, 16 + 5, 14 + 3) < count(small, biases=False) <= budget


def test_svd_of_matrices_of_low_rank_is_exact():
    network = large("gelu", (5, 40, 40, 3))
    with torch.no_grad():
        network[2].weight.copy_(network[2].weight[:, :3] @ network[2].weight[:3])
    small = make("svd", network, (20, 20))
    kinds = [type(module) for module in small]
    assert kinds == [nn.Linear, nn.GELU, nn.Linear, nn.Identity, nn.Linear, nn.GELU, nn.Linear]
    assert_allclose(output(small, inputs()), output(network, inputs()), rtol=0, atol=1e-12)


def test_svd_refuses_a_size_below_rank_one():
    with pytest.raises(UsageError, match="too few for matrices of rank 1"):
        make("svd", large("gelu"), (1, 1))


@pytest.mark.parametrize("name", sorted(set(KEEPS) - {"qr"}))
@pytest.mark.parametrize("share", [0.7, 0.3])
def test_a_share_of_the_parameters_is_kept_and_used_up(name, share):
    network = large("gelu", (5, 40, 30, 3))
    left = count(make(name, network, share), biases=True) / count(network, biases=True)
    assert share - 0.06 < left <= share


def test_silent_neurons_do_not_make_the_network_narrower_than_asked():
    network = large()
    with torch.no_grad():
        network[0].bias[:12] = -1e3
    assert describe(make("condensation", network)).widths == (5, *WIDTHS, 3)


@pytest.mark.parametrize("name", KEEPS)
@pytest.mark.parametrize("widths", [(4,), (17, 4), (4, 0), (4, 4, 4)])
def test_widths_that_do_not_fit_are_refused(name, widths):
    with pytest.raises(UsageError, match="do not fit into a network of"):
        make(name, large(), widths)


@pytest.mark.skipif(importlib.util.find_spec("torch_pruning") is not None, reason="torch-pruning is installed")
def test_a_baseline_whose_package_is_missing_says_so():
    assert lacks("torch-pruning") == "torch-pruning" and lacks("qr") is None
    with pytest.raises(UsageError, match="pip install torch-pruning"):
        BASELINES["torch-pruning"](large(), WIDTHS, inputs(), 0)
