"""Baselines on MobileNetV2: the share they are asked for, the given network untouched, exact where they can be."""

import copy
import importlib.util
from functools import cache, partial

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn

from chemnet.condensation.channels import Channels
from chemnet.condensation.surgery import Surgery
from chemnet.reduction.baselines import BASELINES, scratch
from chemnet.reduction.neuron_merging import neuron_merging
from chemnet.reduction.torch_pruning import lacks, torch_pruning_group_norm
from chemnet.runtime.errors import UsageError
from chemnet.vision.mobilenet import MobileNetV2
from chemnet.vision.networks import count

SHARES = {0.511: False, 0.115: True}  # and whether the network is in training mode
MISSING = {
    "scratch": 2e-4,
    "neuron-merging": 2e-4,
    "torch-pruning-magnitude": 1e-3,
    "torch-pruning-group-norm": 3e-3,
}
FEW_STEPS = {"steps": 20}  # of the 400, which take ten seconds
HIDDEN = [32, 96, 144, 144, *3 * [192], *4 * [384], *3 * [576], *3 * [960]]
HALF = [np.arange(width // 2) for width in [*HIDDEN, 1280]]


def large(training=False):
    """A network with BatchNorms that are not all alike."""
    return copy.deepcopy(drawn()).train(training)


@cache
def drawn():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = MobileNetV2(10, downsampling=32)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0.2, 0.3)
                nn.init.normal_(module.running_mean, 0.0, 0.3)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network


def images(n=2, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, 3, 32, 32)).astype(np.float32))


def output(network):
    with torch.no_grad():
        return network(images()).numpy()


def make(name, network, share, seed=0, **options):
    if name.startswith("torch-pruning"):
        pytest.importorskip("torch_pruning")
    if name == "torch-pruning-group-norm":
        options = {**FEW_STEPS, **options}
    return partial(BASELINES[name], **options)(network, share, images(), seed)


@cache
def made(name, share):
    """A network, its state before, and what a baseline makes of it."""
    network = large(training=SHARES[share])
    before = {key: value.clone() for key, value in network.state_dict().items()}
    return network, before, make(name, network, share)


def hidden(network):
    """Depthwise convolution, its BatchNorm, and the projection of each block."""
    return [(block.conv[-3][0], block.conv[-3][1], block.conv[-2]) for block in network.features[1:-1]]


def widths(network):
    return [convolution.out_channels for convolution, _, _ in hidden(network)]


every_baseline = pytest.mark.parametrize("name", sorted(MISSING))
both_shares = pytest.mark.parametrize("share", SHARES)


@every_baseline
@both_shares
def test_every_baseline_reaches_the_share_from_below_and_leaves_the_given_network_alone(name, share):
    network, before, small = made(name, share)
    assert share - MISSING[name] <= count(small) / count(network) <= share
    assert network.training is SHARES[share] is small.training
    assert count(network) == 2_236_682
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    mine = {parameter.data_ptr() for parameter in network.parameters()}
    assert not any(parameter.data_ptr() in mine for parameter in small.parameters())
    logits = small(images())
    assert logits.shape == (2, 10) and torch.isfinite(logits).all()
    gradients = torch.autograd.grad(logits.square().sum(), list(small.parameters()))
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


@every_baseline
@both_shares
def test_the_layers_of_the_small_network_say_what_they_are(name, share):
    for module in made(name, share)[2].modules():
        if isinstance(module, nn.Conv2d):
            inputs = module.in_channels // module.groups
            assert module.weight.shape[:2] == (module.out_channels, inputs)
            assert module.groups in (1, module.out_channels)
        elif isinstance(module, nn.BatchNorm2d):
            assert {len(one) for one in module.state_dict().values() if one.ndim} == {module.num_features}
        elif isinstance(module, nn.Linear):
            assert module.weight.shape == (module.out_features, module.in_features)


@every_baseline
def test_the_whole_share_changes_nothing_but_untrained_weights(name):
    network = large()
    same = make(name, network, 1.0)
    assert count(same) == count(network)
    if name != "scratch":
        assert_allclose(output(same), output(network), rtol=1e-6, atol=1e-6)


@every_baseline
@pytest.mark.parametrize("share", [0.0, -0.1, 1.01, float("nan")])
def test_a_share_that_is_none_is_refused(name, share):
    with pytest.raises(UsageError, match=r"choose one in \(0, 1\]"):
        make(name, large(), share)


@pytest.mark.parametrize(
    ("name", "share", "options"), [("scratch", 2e-3, {}), ("torch-pruning-group-norm", 0.02, {"steps": 5})]
)
def test_a_share_that_is_out_of_reach_is_refused(name, share, options):
    with pytest.raises(UsageError, match="ask for a larger share"):
        make(name, large(), share, **options)


# ---- narrowing


def narrowed(network, kept):
    """A copy with these channels only, of the blocks' hidden layers and the layer before the classifier."""
    result = copy.deepcopy(network)
    channels = Channels(result, images())
    surgery = Surgery(result, channels)
    for space, chosen in zip([space for space in channels.spaces if space.activations], kept, strict=True):
        surgery.cut(space, chosen, dict.fromkeys(space.consumers, np.eye(space.width)[:, chosen]), {})
    return result


@pytest.mark.parametrize("order", [1, -1])
def test_channels_that_nothing_listens_to_can_go_without_a_trace_in_any_order(order):
    network = large()
    with torch.no_grad():
        for (_, _, project), kept in zip(hidden(network), HALF, strict=False):
            project.weight[:, len(kept) :] = 0.0
        network.classifier[-1].weight[:, 640:] = 0.0
    small = narrowed(network, [kept[::order].copy() for kept in HALF])
    assert widths(small) == [width // 2 for width in HIDDEN]
    assert torch.equal(hidden(small)[3][0].weight, hidden(network)[3][0].weight[HALF[3][::order].copy()])
    assert_allclose(output(small), output(network), rtol=1e-4, atol=1e-5)


# ---- neuron merging


def with_duplicates(scale=0.02):
    """A network in which the second half of every hidden layer repeats the first with filters of the smallest norms."""
    network = large()
    stem, *blocks, last = network.features
    with torch.no_grad():
        repeat(stem[0], stem[1], 1.0)
        for block in blocks:
            for one in list(block.conv)[:-3]:
                repeat(one[0], one[1], 1.0)
            repeat(block.conv[-3][0], block.conv[-3][1], scale)
        repeat(last[0], last[1], scale)
    return network


def repeat(convolution, norm, scale):
    """The second half of the filters becomes `scale` times the first, and the BatchNorm takes the scale back."""
    half = len(convolution.weight) // 2
    convolution.weight[half:] = scale * convolution.weight[:half]
    norm.bias[half:] = norm.bias[:half]
    norm.running_mean[half:] = scale * norm.running_mean[:half]
    sigma = (norm.running_var + norm.eps).sqrt()
    norm.weight[half:] = norm.weight[:half] / scale * sigma[half:] / sigma[:half]


def test_neuron_merging_of_duplicates_is_exact():
    network = with_duplicates()
    share = count(narrowed(network, HALF)) / count(network)
    small = neuron_merging(network, share, images(), 0)
    assert widths(small) == [width // 2 for width in HIDDEN] and small.classifier[-1].in_features == 640
    assert_allclose(output(small), output(network), rtol=1e-4, atol=1e-4)
    pruned = neuron_merging(network, share, images(), 0, threshold=1.1)
    assert np.abs(output(pruned) - output(network)).max() > 1e-2 * np.abs(output(network)).max()


def published_choice(network, block, kept, weight):
    """Algorithm 3, pair by pair: of each dropped filter n the kept one, the cosine, and S of y_n = S y_m + B."""
    convolution, norm, _ = hidden(copy.deepcopy(network).eval().double())[block]
    filters = convolution.weight.detach().flatten(1).numpy()
    with torch.no_grad():
        at_0, at_1 = (norm(torch.full((1, len(filters), 1, 1), x).double()).flatten().numpy() for x in (0.0, 1.0))
    slope = at_1 - at_0
    lengths = np.linalg.norm(filters, axis=1)
    found = {}
    for n in sorted(set(range(len(filters))) - set(kept)):
        cosines = np.array([filters[n] @ filters[m] / lengths[n] / lengths[m] for m in kept])
        scales = np.array([lengths[n] / lengths[m] * slope[n] / slope[m] for m in kept])  # y_n at x_n = s x_m
        bias = np.array([abs(at_0[n] - scale * at_0[m]) / scale for scale, m in zip(scales, kept, strict=True)])
        bias = (bias - bias.min()) / (bias.max() - bias.min())
        best = int(np.argmin(weight * (1 - cosines) + (1 - weight) * bias))
        found[n] = kept[best], cosines[best], scales[best]
    return found


@pytest.mark.parametrize("weight", [0.85, 0.3])
def test_neuron_merging_decomposes_as_the_published_algorithm_does(weight):
    network, block, threshold = large(), 1, 0.5
    small = neuron_merging(network, 0.5, images(), 0, weight=weight, threshold=threshold)
    convolution, _, project = hidden(network)[block]
    width = widths(small)[block]
    norms = convolution.weight.detach().abs().sum((1, 2, 3)).numpy()
    kept = sorted(np.argsort(norms)[-width:].tolist())
    assert torch.equal(hidden(small)[block][0].weight, convolution.weight[kept])
    outgoing = project.weight.detach().double().flatten(1).numpy()
    expected = outgoing[:, kept].copy()
    found = published_choice(network, block, kept, weight)
    for n, (m, cosine, scale) in found.items():
        if cosine >= threshold:
            expected[:, kept.index(m)] += scale * outgoing[:, n]
    assert {cosine >= threshold for _, cosine, _ in found.values()} == {True, False}
    assert_allclose(hidden(small)[block][2].weight.detach().flatten(1).numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("gamma", [-1.0, 0.0])
def test_a_channel_that_no_kept_one_can_stand_in_for_is_dropped(gamma):
    network = with_duplicates()
    for convolution, norm, _ in hidden(network):
        half = len(convolution.weight) // 2
        norm.weight.data[half:] = gamma * norm.weight.data[:half]
    share = count(narrowed(network, HALF)) / count(network)
    small = neuron_merging(network, share, images(), 0)
    for (_, _, before), (_, _, after), kept in zip(hidden(network), hidden(small), HALF, strict=False):
        assert torch.equal(after.weight, before.weight[:, kept])


def test_a_kept_channel_without_a_slope_takes_in_no_other_and_bars_none():
    network = with_duplicates()
    for _, norm, project in hidden(network):
        norm.weight.data[0] = 0.0
        project.weight.data[:, norm.num_features // 2] = 0.0  # its duplicate is of no use
    share = count(narrowed(network, HALF)) / count(network)
    small = neuron_merging(network, share, images(), 0)
    assert_allclose(output(small), output(network), rtol=1e-4, atol=1e-4)


# ---- scratch


def test_scratch_draws_by_its_seed_alone():
    state = torch.get_rng_state()
    first, again, other = (scratch(large(), 0.115, images(), seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["features.3.conv.1.0.weight"], other["features.3.conv.1.0.weight"])


@pytest.mark.parametrize("kind", ["a fresh network", 1.0, 0.3])
def test_scratch_starts_as_a_fresh_network_of_its_widths_does(kind):
    network = drawn() if kind == "a fresh network" else scratch(large(), kind, images(), 7)
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 2000:
            fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
            assert_allclose(float(module.weight.detach().std()), (2.0 / fan_out) ** 0.5, rtol=0.1, atol=0)
        elif isinstance(module, nn.Linear):
            assert_allclose(float(module.weight.detach().std()), 0.01, rtol=0.1, atol=0)
            assert not module.bias.any()
        elif isinstance(module, nn.BatchNorm2d) and kind != "a fresh network":
            fresh = nn.BatchNorm2d(module.num_features).state_dict()
            assert all(torch.equal(value, fresh[key]) for key, value in module.state_dict().items())


@both_shares
def test_scratch_narrows_hidden_layers_by_one_factor_and_leaves_the_outputs_of_blocks(share):
    network, _, small = made("scratch", share)
    factor = small.classifier[-1].in_features / 1280
    assert_allclose(widths(small), factor * np.array(HIDDEN), rtol=0, atol=1.0)
    outputs = [[block.conv[-1].num_features for block in one.features[1:-1]] for one in (network, small)]
    assert outputs[0] == outputs[1]


# ---- Torch-Pruning


@both_shares
def test_magnitude_takes_the_same_ratio_of_every_layer(share):
    _, _, small = made("torch-pruning-magnitude", share)
    factor = small.classifier[-1].in_features / 1280
    assert_allclose(widths(small), factor * np.array(HIDDEN), rtol=0, atol=1.0)
    assert small.features[-2].conv[-1].num_features == pytest.approx(320 * factor, rel=0, abs=1.0)


@both_shares
def test_group_norm_ranks_over_all_layers_and_lets_none_vanish(share):
    _, _, small = made("torch-pruning-group-norm", share)
    kept = np.array(widths(small)) / HIDDEN
    assert kept.max() - kept.min() > 0.05
    assert kept.min() > 0.1


@pytest.mark.slow
def test_group_norm_reaches_the_share_in_its_many_steps():
    pytest.importorskip("torch_pruning")
    network = large()
    small = torch_pruning_group_norm(network, 0.115, images(), 0)
    assert 0.115 - MISSING["torch-pruning-group-norm"] <= count(small) / count(network) <= 0.115


@pytest.mark.parametrize("name", ["torch-pruning-magnitude", "torch-pruning-group-norm"])
def test_a_baseline_whose_package_is_missing_says_so(name, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert lacks(name) == "torch-pruning" and lacks("scratch") is None
    with pytest.raises(UsageError, match="pip install torch-pruning"):
        BASELINES[name](large(), 0.5, images(), 0)
