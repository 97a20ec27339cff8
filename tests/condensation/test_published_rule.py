"""The published rule for depthwise blocks: exact where the algebra is, and its equations hold as they are solved."""

import copy

import numpy as np
import pytest
import torch
from net_zoo import Inverted, Net, images, mobilenet, randomised, widened
from numpy.testing import assert_allclose
from torch import nn

from chemnet.condensation.channels import Channels, survey
from chemnet.condensation.condenser import condense
from chemnet.condensation.published_rule import _Group, is_block
from chemnet.runtime.errors import UsageError

PUBLISHED = {"choice": "published"}


def block(activation=nn.ReLU, hidden=6):
    model = nn.Sequential(Inverted(4, hidden, 5, activation), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3))
    reads = {f"0.conv.{name}": [("a", 1)] for name in ("0.1", "1.0", "1.1", "2")}
    return Net(randomised(model, seed=1), images(4, channels=4), {"0.conv.0.0": "a"}, reads)


def parts(model):
    conv = model[0].conv
    return conv[0][0], conv[0][1], conv[1][0], conv[1][1], conv[2]


def output(model, x):
    with torch.no_grad():
        return model(x).numpy()


def scale_and_shift(norm):
    scale = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
    return scale.numpy(), (norm.bias.detach().double() - norm.running_mean.double() * scale).numpy()


def values(model):
    """alpha (k, i), eps, zeta, v (k, 9), mu, nu (k,), b (o, k) of the docstring, in use."""
    expand, first, filters, second, project = parts(model)
    alpha, v, b = (layer.weight.detach().double().numpy() for layer in (expand, filters, project))
    v = v.reshape(len(v), -1)
    return alpha[:, :, 0, 0], *scale_and_shift(first), v, *scale_and_shift(second), b[:, :, 0, 0]


def test_copies_go_and_the_output_stays_under_relu():
    net = block()
    wide = widened(net, copies=1.5).eval()
    for calibration in (None, images(20, channels=4)):
        reduced = condense(wide, net.example, threshold=1.0, calibration=calibration, **PUBLISHED)
        assert parts(reduced)[0].out_channels == parts(reduced)[2].groups == 6
        assert_allclose(output(reduced, net.example), output(wide, net.example), rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def one_copy():
    """A block with one copy of one channel, the condensed block, and the depthwise filters of both as rows."""
    net = block()
    wide = widened(net, copies=0.0, seed=3).eval()
    reduced = condense(wide, net.example, threshold=1.0, **PUBLISHED)
    return wide, reduced, *(parts(model)[2].weight.flatten(1) for model in (wide, reduced))


def test_statistics_of_two_copies_are_those_of_their_sum(one_copy):
    """Two identical channels: what reaches the second BatchNorm doubles, its variance is four times that of one."""
    wide, reduced, rows, filters = one_copy
    twice = [k for k in range(7) if sum(torch.equal(rows[k], row) for row in rows) == 2]
    merged = next(k for k in range(6) if torch.equal(filters[k], rows[twice[0]]))
    assert len(twice) == 2
    for index, factor in ((1, 1.0), (3, 2.0)):
        old, new = parts(wide)[index], parts(reduced)[index]
        assert_allclose(new.running_mean[merged], factor * old.running_mean[twice[0]], rtol=1e-6, atol=1e-7)
        assert_allclose(new.running_var[merged], factor**2 * old.running_var[twice[0]], rtol=1e-6, atol=0)


def test_channels_that_are_alone_keep_their_weights_and_statistics(one_copy):
    wide, reduced, rows, filters = one_copy
    same = {k: j for k in range(6) for j in range(7) if torch.equal(filters[k], rows[j])}
    alone = {k: j for k, j in same.items() if sum(torch.equal(rows[j], row) for row in rows) == 1}
    assert len(alone) == 5
    new, old = list(alone), list(alone.values())
    for index in (1, 3):
        for key in ("running_mean", "running_var", "weight", "bias"):
            got, expected = (getattr(parts(model)[index], key).detach() for model in (reduced, wide))
            assert_allclose(got[new], expected[old], rtol=1e-4, atol=1e-5)
    got, expected = (parts(model)[4].weight.detach() for model in (reduced, wide))
    assert_allclose(got[:, new], expected[:, old], rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def group():
    """A random group of three channels, and what they become."""
    model = block(hidden=5).model.double()
    members, ratios = np.array([0, 2, 3]), np.array([1.0, 0.4, 1.7])
    expand, first, _, second, project = parts(model)
    merged = _Group(members, ratios).merge(expand, first, second, project)
    return model, members, ratios, merged


def least(known, right):
    """By numpy: x of known[i] x[j] = right[i, j]."""
    return np.linalg.lstsq(known[:, None], right, rcond=None)[0][0]


def test_the_equations_hold_as_they_are_solved_one_after_the_other(group):
    model, k, r, (alpha, eps, zeta, mu, nu, b, _, _) = group
    a0, e0, z0, _, m0, n0, b0 = values(model)
    a0, e0, z0, m0, n0, b0 = a0[k], e0[k], z0[k], m0[k], n0[k], b0[:, k]
    outputs, inputs = len(b0), a0.shape[1]
    assert_allclose(b, sum(r[i] * b0[:, i] for i in range(3)), rtol=1e-12, atol=1e-14)
    right = sum(r[i] * np.outer(b0[:, i], a0[i]) for i in range(3))
    assert right.shape == (outputs, inputs)
    assert_allclose(alpha, least(b, right), rtol=1e-10, atol=1e-12)
    right = sum(r[i] * e0[i] * a0[i] for i in range(3))
    assert_allclose(eps, least(alpha, right[:, None])[0], rtol=1e-10, atol=1e-12)
    assert_allclose(zeta, sum(r[i] * z0[i] for i in range(3)), rtol=1e-12, atol=1e-14)
    right = sum(r[i] * m0[i] * e0[i] * np.outer(b0[:, i], a0[i]) for i in range(3))
    assert_allclose(mu, least(np.outer(b, eps * alpha).ravel(), right.reshape(-1, 1))[0], rtol=1e-10, atol=1e-12)
    right = sum(n0[i] * b0[:, i] for i in range(3))
    assert_allclose(nu, least(b, right[:, None])[0], rtol=1e-10, atol=1e-12)


def test_the_statistics_of_a_group_are_of_what_reaches_its_normalisations(group):
    """alpha' is the sum of r eps / eps' alpha, so far as the equations hold; behind the filter the group adds up."""
    model, k, r, (_, eps, *_, means, deviations) = group
    _, first, _, second, _ = parts(model)
    weights = r * values(model)[1][k] / eps
    mean, deviation = first.running_mean.numpy()[k], first.running_var.sqrt().numpy()[k]
    assert_allclose(means[0], np.sum(weights * mean), rtol=1e-12, atol=0)
    assert_allclose(deviations[0], np.sum(np.abs(weights) * deviation), rtol=1e-12, atol=0)
    assert_allclose(means[1], second.running_mean.numpy()[k].sum(), rtol=1e-12, atol=0)
    assert_allclose(deviations[1], second.running_var.sqrt().numpy()[k].sum(), rtol=1e-12, atol=0)


def test_the_network_computes_with_what_the_equations_give():
    """In use the merged block is y -> eps' alpha' x + zeta' and so on, whatever statistics it was given."""
    net = block(hidden=8)
    model = copy.deepcopy(net.model)
    with torch.no_grad():  # filters that are alike, other weights that are not
        filters = parts(model)[2].weight
        filters[1], filters[5] = 2.0 * filters[0], 0.5 * filters[3]
    reduced = condense(model, net.example, threshold=0.999999, **PUBLISHED)
    got = values(reduced)
    for n, members in enumerate(([0, 1], [2], [3, 5], [4], [6], [7])):
        expand, first, filters, second, project = parts(model)
        norms = filters.weight.detach().double().flatten(1).norm(dim=1).numpy()[members]
        expected = _Group(np.array(members), norms / norms[0]).merge(expand, first, second, project)
        alpha, eps, zeta, mu, nu, b = expected[:6]
        for now, then in zip((*got[:3], *got[4:6]), (alpha, eps, zeta, mu, nu), strict=True):
            assert_allclose(now[n], then, rtol=1e-4, atol=1e-5)
        assert_allclose(got[6][:, n], b, rtol=1e-5, atol=1e-6)


def test_filters_alone_make_the_groups_and_so_unlike_channels_are_merged():
    net = block(nn.ReLU6)
    with torch.no_grad():
        filters = parts(net.model)[2].weight
        filters[1] = 3.0 * filters[0]
    published = condense(net.model, net.example, threshold=1.0, **PUBLISHED)
    folded = condense(net.model, net.example, threshold=1.0)
    assert (parts(published)[2].groups, parts(folded)[2].groups) == (5, 6)
    assert np.abs(output(published, net.example) - output(net.model, net.example)).max() > 1e-3
    assert np.isfinite(output(published, net.example)).all()


def test_a_filter_of_zeros_that_has_to_stay_does_no_harm():
    net = block()
    with torch.no_grad():
        parts(net.model)[2].weight[1:] = 0.0
    reduced = condense(net.model, net.example, threshold=1.0, round_to=4, **PUBLISHED)
    assert parts(reduced)[2].groups == 4
    assert all(torch.isfinite(tensor).all() for tensor in reduced.state_dict().values())


def test_the_rule_takes_the_hidden_layers_of_blocks_and_no_others():
    net = mobilenet()
    channels = Channels(net.model, net.example)
    found = {tuple(space.layers) for space in channels.spaces if is_block(channels, space, net.model)}
    assert found == {("1.conv.0.0",), ("2.conv.0.0",)}
    reduced = condense(net.model, net.example, threshold=0.3, **PUBLISHED)
    assert survey(reduced, net.example).rows[0] == survey(net.model, net.example).rows[0]
    for layer in ("0.0", "3.0", "1.conv.2"):
        with pytest.raises(UsageError, match="the published rule is for a depthwise layer between two pointwise ones"):
            condense(net.model, net.example, threshold=0.3, layers=[layer], **PUBLISHED)


def test_blocks_with_biases_or_without_affine_parameters_are_refused():
    for change in ("expand", "filter", "affine"):
        model = block().model
        conv = model[0].conv
        if change == "expand":
            conv[0][0] = nn.Conv2d(4, 6, 1)
        elif change == "filter":
            conv[1][0] = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        else:
            conv[1][1] = nn.BatchNorm2d(6, affine=False)
        with pytest.raises(UsageError, match="the published rule"):
            condense(model.eval(), images(2, channels=4), threshold=0.5, layers="0.conv.0.0", **PUBLISHED)


def test_a_ratio_is_kept():
    net = block(hidden=40)
    full = sum(parameter.numel() for parameter in net.model.parameters())
    reduced = condense(net.model, net.example, ratio=0.6, **PUBLISHED)
    left = sum(parameter.numel() for parameter in reduced.parameters())
    assert 0.57 * full < left <= 0.6 * full
