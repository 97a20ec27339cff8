"""Folding: groups against brute force, copies without a trace, means and sums, statistics of BatchNorms."""

import copy
import itertools

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

from chemnet.condensation import Ranked, condense
from chemnet.reduction.baselines import BASELINES, grail
from chemnet.reduction.folding import folding, iterative_merging, k_means, nearest, normalised_anew
from chemnet.runtime.errors import UsageError
from chemnet.vision.networks import FIXED_DOWNSAMPLING, build

both = pytest.mark.parametrize("merge", [folding, iterative_merging])


def convolutional(seed=0):
    """Convolution, BatchNorm, ReLU, depthwise filters with a BatchNorm, ReLU, convolution; in float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(
            *(nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU()),
            *(nn.Conv2d(12, 12, 3, padding=1, groups=12, bias=False), nn.BatchNorm2d(12), nn.ReLU()),
            nn.Conv2d(12, 4, 1),
        ).double()
        for norm in (network[1], network[4]):
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
            nn.init.normal_(norm.running_mean)
            nn.init.uniform_(norm.running_var, 0.5, 2.0)
    return network.eval()


def images(n=8, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, 3, 6, 6)))


def output(network, x):
    with torch.no_grad():
        return network(x).numpy()


def with_copies():
    """A network of which the second half of the channels repeats the first."""
    network = convolutional()
    with torch.no_grad():
        for module in list(network)[:-1]:
            for tensor in (*module.parameters(), *module.buffers()):
                if tensor.ndim:
                    tensor[6:] = tensor[:6]
    return network


@both
def test_copies_are_folded_without_a_trace(merge):
    network = with_copies()
    small = merge(network, [6], images(), 0)
    assert [small[0].out_channels, small[3].groups, small[6].in_channels] == [6, 6, 6]
    assert_allclose(output(small, images()), output(network, images()), rtol=1e-10, atol=1e-10)


@both
def test_layers_in_a_row_and_behind_a_flattening_are_folded_together(merge):
    """Copies in three hidden layers, each of which reads another one."""
    torch.manual_seed(0)
    first, second, third = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3), nn.Linear(6 * 4, 10)
    layers = (first, nn.ReLU(), second, nn.ReLU(), nn.Flatten(), third, nn.ReLU(), nn.Linear(10, 2))
    network = nn.Sequential(*layers).double()
    with torch.no_grad():
        for layer in (first, second, third):
            half = len(layer.weight) // 2
            layer.weight[half:], layer.bias[half:] = layer.weight[:half], layer.bias[:half]
    small = merge(network, [4, 3, 5], images(), 0)
    assert [small[place].weight.shape[:2] for place in (0, 2, 5, 7)] == [(4, 3), (3, 4), (5, 12), (2, 5)]
    assert_allclose(output(small, images()), output(network, images()), rtol=1e-10, atol=1e-10)


@both
def test_what_only_the_batchnorm_scales_differently_is_a_copy(merge):
    """Twice the weights under twice the deviation make the same channel."""
    network = with_copies()
    with torch.no_grad():
        for tensor in (network[0].weight, network[0].bias, network[1].running_mean):
            tensor[6:] *= 2.0
        network[1].running_var[6:] = 4.0 * network[1].running_var[6:] + 3.0 * network[1].eps
    small = merge(network, [6], images(), 0)
    assert_allclose(output(small, images()), output(network, images()), rtol=1e-10, atol=1e-10)


@both
def test_a_folded_channel_is_the_mean_of_its_group_before_the_activation_and_its_readers_add_up(merge):
    network = convolutional()
    small = merge(network, [5], images(), 0)
    large = copy.deepcopy(network)
    with torch.no_grad():
        before, after = (net[1](net[0](images())) for net in (large, small))
    groups = [find_group(before, after[:, channel]) for channel in range(5)]
    assert sorted(itertools.chain(*groups)) == list(range(12))
    for channel, group in enumerate(groups):
        filters = [
            network[4].weight[k] / (network[4].running_var[k] + 1e-5).sqrt() * network[3].weight[k] for k in group
        ]
        mine = small[4].weight[channel] / (small[4].running_var[channel] + 1e-5).sqrt() * small[3].weight[channel]
        torch.testing.assert_close(mine, torch.stack(filters).mean(0), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(small[6].weight[:, channel], network[6].weight[:, list(group)].sum(1))
        torch.testing.assert_close(small[4].bias[channel], network[4].bias[list(group)].mean())
        torch.testing.assert_close(small[4].weight[channel], network[4].weight[list(group)].abs().mean())


def filters(network):
    """Depthwise filters as their BatchNorm scales them."""
    convolution, norm = network[3], network[4]
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return scale[:, None, None, None] * convolution.weight


def find_group(before, channel):
    """Channels whose mean a channel is, by trying all groups."""
    for size in range(1, 9):
        for group in itertools.combinations(range(12), size):
            if torch.allclose(before[:, list(group)].mean(1), channel, rtol=1e-9, atol=1e-9):
                return group
    raise AssertionError("no mean of channels")


def test_k_means_finds_clusters_that_are_apart_and_never_an_empty_one():
    rng = np.random.default_rng(0)
    centres = 10.0 * rng.normal(size=(7, 4))
    truth = np.concatenate([np.arange(7), rng.integers(0, 7, 40)])
    vectors = centres[truth] + 1e-3 * rng.normal(size=(47, 4))
    for seed in range(3):
        main_of = k_means(vectors, 7, seed)
        assert_array_equal(main_of, [np.flatnonzero(truth == group)[0] for group in truth])
    for count in (1, 5, 47):
        assert len(np.unique(k_means(vectors, count, 0))) == count
    assert len(np.unique(k_means(np.ones((6, 2)), 4, 0))) == 4


def test_no_single_move_makes_the_groups_of_k_means_better():
    vectors = np.random.default_rng(1).normal(size=(30, 3))
    main_of = k_means(vectors, 6, 0)
    centres = {main: vectors[main_of == main].mean(0) for main in np.unique(main_of)}
    for vector, main in zip(vectors, main_of, strict=True):
        assert main == min(centres, key=lambda other: np.square(vector - centres[other]).sum())


def test_iterative_merging_joins_the_nearest_means_one_pair_after_the_other():
    vectors = np.random.default_rng(2).normal(size=(12, 3))
    groups = [[k] for k in range(12)]
    for count in range(11, 0, -1):
        pairs = itertools.combinations(range(len(groups)), 2)
        distance = {(a, b): np.linalg.norm(vectors[groups[a]].mean(0) - vectors[groups[b]].mean(0)) for a, b in pairs}
        a, b = min(distance, key=distance.get)
        groups = [*(group for place, group in enumerate(groups) if place not in (a, b)), groups[a] + groups[b]]
        expected = {min(group): sorted(group) for group in groups}
        main_of = nearest(vectors, count)
        assert {main: np.flatnonzero(main_of == main).tolist() for main in np.unique(main_of)} == expected


def test_statistics_anew_are_those_of_the_inputs_layer_by_layer():
    network, x = convolutional(), images(64)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    repaired = normalised_anew(network, x)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not repaired.training
    with torch.no_grad():
        seen = network[0](x)
        torch.testing.assert_close(repaired[1].running_mean, seen.mean((0, 2, 3)))
        torch.testing.assert_close(repaired[1].running_var, seen.var((0, 2, 3)))
        behind = network[3](network[2](repaired[1](seen)))
        torch.testing.assert_close(repaired[4].running_mean, behind.mean((0, 2, 3)), rtol=1e-2, atol=1e-3)
    again = normalised_anew(repaired, x)
    assert_allclose(output(again, x), output(repaired, x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["resnet20", "vgg8", "vit", "mobilenet_v2"])
@pytest.mark.parametrize("method", ["folding", "iterative-merging", "grail", "magnitude"])
def test_rivals_reach_a_share_of_networks_of_images_from_below(name, method):
    if (name, method) == ("mobilenet_v2", "iterative-merging"):
        pytest.skip("takes long and is what folding is but for the groups")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build(name, 10, downsampling=FIXED_DOWNSAMPLING.get(name, 32)).eval()
    x = images(4).float().repeat(1, 1, 6, 6)[..., :32, :32].contiguous()
    small = BASELINES[method](network, 0.6, x, 0)
    share = sum(p.numel() for p in small.parameters()) / sum(p.numel() for p in network.parameters())
    assert 0.57 < share <= 0.6
    assert np.isfinite(output(small, x)).all()
    if name == "resnet20":
        assert [block.conv2.out_channels for block in small.layer2] == [32, 32, 32]


def test_grail_is_the_refit_of_the_channels_with_the_largest_weights():
    """The refit of `condense` for these channels, written out: W' = W G[:, kept] (G[kept, kept] + ridge I)^-1."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 10), nn.Tanh(), nn.Linear(10, 2)).double()
    x = torch.randn(300, 3, dtype=torch.float64)
    small = grail(network, [6], x, 0)
    rows = torch.cat([network[0].weight, network[0].bias[:, None]], 1)
    kept = rows.norm(dim=1).argsort(descending=True)[:6].sort().values
    torch.testing.assert_close(small[0].weight, network[0].weight[kept])
    same = condense(network, x[:1], widths={"0": 6}, choice=by_largest, merge="refit", calibration=x)
    assert_allclose(output(small, x), output(same, x), rtol=1e-9, atol=1e-12)


def by_largest(view):
    return Ranked(lambda count: np.sort(np.argsort(-np.linalg.norm(view.vectors(), axis=1))[:count]))


def test_channels_that_are_not_of_one_layer_and_batchnorms_are_refused():
    network = nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.InstanceNorm2d(8, affine=True), nn.ReLU(), nn.Conv2d(8, 2, 1)
    ).double()
    with pytest.raises(UsageError, match="folding cannot take 0: expected one layer"):
        folding(network, [4], images(), 0)
