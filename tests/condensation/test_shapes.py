"""Channels that are put elsewhere: parts, views, permutations and shuffles are condensed through exactly, with blocks
that keep as many each, and what is of a fixed size is left alone."""

import copy

import pytest
import torch
from net_zoo import images, randomised
from numpy.testing import assert_allclose
from torch import nn
from torch.nn import functional as F

from chemnet.condensation import condense, resize, survey
from chemnet.condensation.channels import Channels


def output(model, x):
    with torch.no_grad():
        return model(x)


def states(model, example):
    return {layer: state for layers, _, state in survey(model, example).rows for layer in layers.split(", ")}


class Net(nn.Module):
    """A first and a last layer around something in the middle."""

    def __init__(self, function, first, last, **middle):
        super().__init__()
        self.first, self.last, self.function = first, last, function
        for name, layer in middle.items():
            self.add_module(name, layer)

    def forward(self, x):
        return self.last(self.function(self, self.first(x)))


def conv(width):
    return nn.Conv2d(3, width, 3, padding=1)


def halves(net, x):
    left, right = x.chunk(2, 1)
    return torch.cat([right, F.relu(left)], 1)


def c2f(net, x):
    left, right = x.split(x.shape[1] // 2, 1)
    return torch.cat([left, right, right + net.inner(F.silu(right))], 1)


def sliced(net, x):
    half = x.size(1) // 2
    return torch.cat([x[:, half:] * 2.0, x[:, :half]], 1)


def narrowed(net, x):
    half = x.size(1) // 2
    return x.narrow(1, 0, half) + x.narrow(1, half, half)


def shuffled(net, x):
    n, c, h, w = x.size(0), x.size(1), x.size(2), x.size(3)
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, -1, h, w)


def ghost(net, x):
    return torch.cat([x, net.cheap(F.relu(x))], 1)


def tokens(net, x):
    n, c, h, w = x.size(0), x.size(1), x.size(2), x.size(3)
    y = x.view(n, c, h * w).transpose(1, 2)
    return y.permute(0, 2, 1).unflatten(2, (h, w))


def selected(net, x):
    """The sum of two branches, weighted by a softmax over them for every channel."""
    both = torch.stack([x, F.relu(x)], 1)
    if both.shape[1] != 2:
        raise ValueError("expected two branches")
    weights = net.inner(x.mean((2, 3), keepdim=True))
    weights = weights.view(weights.size(0), 2, -1, 1, 1).softmax(1)
    return (both * weights).sum(1)


def halves_multiplied(net, x):
    left, right = x.chunk(2, -1)
    return F.silu(left) * right


EVEN = {0: 1, 2: 3, 4: 5, 6: 7}  # copies in both halves of eight channels
UNLIKE = {0: 1, 1: 2, 4: 6, 5: 7}  # the first half keeps its first and last, the second its first two
LINEAR = {"first": nn.Linear(5, 8)}

# function, layers, the copies in `first`, rows that are left in it
CASES = {
    "chunk": (halves, {}, EVEN, 4),
    "unequal copies of a chunk": (halves, {}, {0: 1, 2: 3, 4: 5}, 6),
    "split": (lambda net, x: torch.cat(x.split(x.size(1) // 2, 1), 1), {}, EVEN, 4),
    "tensor_split": (lambda net, x: torch.cat(torch.tensor_split(x, 2, 1), 1), {}, EVEN, 4),
    "c2f": (c2f, {"inner": nn.Conv2d(4, 4, 3, padding=1), "last": nn.Conv2d(12, 2, 1)}, {0: 1, 4: 5}, 6),
    "slices": (sliced, {}, EVEN, 4),
    "narrow": (narrowed, {"last": nn.Conv2d(4, 2, 1)}, {0: 1, 4: 5}, 6),
    "a product of halves": (halves_multiplied, {**LINEAR, "last": nn.Linear(4, 2)}, {0: 1, 4: 5}, 6),
    "a product of halves, of which one has no copies": (
        halves_multiplied,
        {**LINEAR, "last": nn.Linear(4, 2)},
        {0: 1},
        8,
    ),
    "glu": (lambda net, x: F.glu(x, 1), {"last": nn.Conv2d(4, 2, 1)}, {0: 1, 4: 5}, 6),
    "glu as a module": (
        lambda net, x: net.gate(x),
        {**LINEAR, "gate": nn.GLU(), "last": nn.Linear(4, 2)},
        {0: 1, 4: 5, 2: 3, 6: 7},
        4,
    ),
    "shuffle": (shuffled, {}, UNLIKE, 4),
    "shuffle as a module": (lambda net, x: net.shuffle(x), {"shuffle": nn.ChannelShuffle(2)}, UNLIKE, 4),
    "shuffle in front of a grouped convolution": (
        lambda net, x: net.grouped(F.gelu(shuffled(net, x))),
        {"first": conv(16), "grouped": nn.Conv2d(16, 8, 1, groups=4), "last": nn.Conv2d(8, 2, 1)},
        {k: k + 1 for k in range(0, 16, 2)},
        8,
    ),
    "pixel shuffle": (
        lambda net, x: F.pixel_shuffle(x, 2),
        {"last": nn.Conv2d(2, 2, 1)},
        dict(zip(range(4), range(4, 8), strict=True)),
        4,
    ),
    "pixel shuffle as a module, normalised": (
        lambda net, x: net.norm(net.shuffle(x)),
        {"shuffle": nn.PixelShuffle(2), "norm": nn.BatchNorm2d(2), "last": nn.Conv2d(2, 2, 1)},
        dict(zip(range(4), range(4, 8), strict=True)),
        4,
    ),
    "pixel unshuffle": (lambda net, x: F.pixel_unshuffle(x, 2), {"last": nn.Conv2d(32, 2, 1)}, {0: 1}, 7),
    "pixel unshuffle as a module": (
        lambda net, x: net.unshuffle(x),
        {"unshuffle": nn.PixelUnshuffle(2), "last": nn.Conv2d(32, 2, 1)},
        {0: 1},
        7,
    ),
    "ghost": (ghost, {"cheap": nn.Conv2d(8, 8, 3, padding=1, groups=8), "last": nn.Conv2d(16, 2, 1)}, {0: 1}, 7),
    "tokens and back": (tokens, {}, {0: 1, 2: 3}, 6),
    "tokens to a linear layer": (
        lambda net, x: F.gelu(x).flatten(2).transpose(1, 2),
        {"last": nn.Linear(8, 2)},
        {0: 1, 2: 3},
        6,
    ),
    "channels last": (lambda net, x: x.permute(0, 2, 3, 1), {"last": nn.Linear(8, 2)}, {0: 1}, 7),
    "movedim": (lambda net, x: torch.movedim(x, 1, -1).movedim(-1, 1), {}, {0: 1}, 7),
    "other axes": (lambda net, x: x.permute(0, 1, 3, 2).roll(1, 2).flip(3), {}, {0: 1}, 7),
    "flip": (lambda net, x: x.flip(1), {}, {0: 1}, 7),
    "squeeze and unsqueeze": (
        lambda net, x: x.mean((2, 3), keepdim=True).squeeze(-1).squeeze(-1).unsqueeze(2)[..., None],
        {},
        {0: 1},
        7,
    ),
    "expand": (lambda net, x: x.mean((2, 3), keepdim=True).expand(-1, -1, 8, 8), {}, {0: 1}, 7),
    "repeat": (lambda net, x: x.repeat(1, 2, 1, 1), {"last": nn.Conv2d(16, 2, 1)}, {0: 1}, 7),
    "along the height": (lambda net, x: torch.cat([x, F.relu(x)], 2), {}, {0: 1}, 7),
    "heads": (
        lambda net, x: F.gelu(x.view(x.size(0), x.size(1), 2, -1).transpose(1, 2)).transpose(1, 2).flatten(2),
        {**LINEAR, "last": nn.Linear(8, 2)},
        EVEN,
        4,
    ),
    "whole heads": (
        lambda net, x: F.gelu(x.unflatten(-1, (-1, 2)).transpose(1, 2)).transpose(1, 2).flatten(2),
        {**LINEAR, "last": nn.Linear(8, 2)},
        {0: 2, 1: 3},
        6,
    ),
    "places of a decoder": (
        lambda net, x: x.view(x.size(0), -1, 2, 2),
        {"first": nn.Linear(5, 12), "last": nn.ConvTranspose2d(3, 2, 2)},
        dict(zip(range(4), range(4, 8), strict=True)),
        8,
    ),
    "unbind of two axes": (
        lambda net, x: F.relu(sum_of(x.view(x.size(0), x.size(1), 2, -1).unbind(2))),
        {**LINEAR, "last": nn.Linear(4, 2)},
        {0: 1, 4: 5},
        6,
    ),
    "selected branches": (selected, {"inner": nn.Conv2d(8, 16, 1)}, {0: 1}, 7),
}


def sum_of(parts):
    return parts[0] * 0.5 + parts[1]


def planted(name):
    function, layers, copies, left = CASES[name]
    layers = copy.deepcopy(layers)
    first, last = layers.pop("first", conv(8)), layers.pop("last", nn.Conv2d(8, 2, 1))
    torch.manual_seed(0)
    net = randomised(Net(function, first, last, **layers))
    with torch.no_grad():
        for old, new in copies.items():
            first.weight[new], first.bias[new] = first.weight[old], first.bias[old]
            if hasattr(net, "norm"):
                net.norm.load_state_dict(
                    {k: v[:1].repeat(2) if v.ndim else v for k, v in net.norm.state_dict().items()}
                )
            if hasattr(net, "cheap"):
                net.cheap.weight[new], net.cheap.bias[new] = net.cheap.weight[old], net.cheap.bias[old]
            if name == "c2f" and old >= 4:
                net.inner.weight[new - 4], net.inner.bias[new - 4] = net.inner.weight[old - 4], net.inner.bias[old - 4]
            if name == "selected branches":
                for start in (0, 8):
                    net.inner.weight[start + new], net.inner.bias[start + new] = (
                        net.inner.weight[start + old],
                        net.inner.bias[start + old],
                    )
    if isinstance(first, nn.Conv2d):
        return net, images(4), left
    dimensions = (4, 5) if name == "places of a decoder" else (4, 6, 5)
    return net, torch.randn(*dimensions, generator=torch.Generator().manual_seed(2)), left


@pytest.mark.parametrize("name", CASES)
def test_planted_copies_go_and_the_outputs_stay(name):
    net, x, left = planted(name)
    assert states(net, x)["first"] == "can be condensed"
    reduced = condense(net, x, threshold=1.0)
    assert len(reduced.first.weight) == left
    for scale in (1.0, 2.0):
        assert_allclose(output(reduced, scale * x), output(net, scale * x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_half_of_the_channels_go_and_the_network_trains_and_is_built_again(name):
    net, x, _ = planted(name)
    space = Channels(net, x).named("first")
    calibration = torch.randn(40, *x.shape[1:], generator=torch.Generator().manual_seed(3))
    step = space.blocks
    width = max(space.width // 2 // step, 1) * step
    reduced = condense(net, x, widths={"first": width}, calibration=calibration)
    assert len(reduced.first.weight) * space.width == len(net.first.weight) * width
    reduced.train()(x).square().mean().backward()
    assert all(parameter.grad is not None for parameter in reduced.parameters())
    rebuilt = resize(copy.deepcopy(net), reduced.state_dict())
    assert_allclose(output(rebuilt.eval(), x), output(reduced.eval(), x), rtol=1e-6, atol=1e-7)


FIXED = {
    "a part of a fixed size": (lambda net, x: torch.cat(x.split(4, 1), 1), "split"),
    "all channels but one": (lambda net, x: torch.cat([x[:, :-1], x[:, :1]], 1), "getitem"),
    "one channel": (lambda net, x: x * x[:, 0:1], "getitem"),
    "every second channel": (lambda net, x: torch.cat([x[:, ::2], x[:, 1::2]], 1), "getitem"),
    "a rolled channel": (lambda net, x: x.roll(1, 1), "roll"),
    "a view of a fixed size": (lambda net, x: x.view(-1, 2, 4, 8, 8).flatten(1, 2), "view"),
    "a softmax over channels": (lambda net, x: x.softmax(1), "softmax"),
    "a sum over half of the axes": (lambda net, x: x - x.sum((1, 2), keepdim=True), "sum"),
    "the width of another tensor": (lambda net, x: x.view(-1, net.inner(x).size(1), 8, 8), "reads its width"),
    "a tensor given by name": (lambda net, x: torch.cat(torch.chunk(input=x, chunks=2, dim=1), 1), "chunk"),
    "a shape given by name": (lambda net, x: torch.flatten(input=x, start_dim=2).view_as(x), "flatten"),
    "a width as a number": (lambda net, x: x * (x.size(1) / 2.0), "reads its width"),
}


@pytest.mark.parametrize("name", FIXED)
def test_what_is_of_a_fixed_size_is_left_alone_with_the_reason(name):
    function, reason = FIXED[name]
    torch.manual_seed(0)
    net = randomised(Net(function, conv(8), nn.Conv2d(8, 2, 1), inner=nn.Conv2d(8, 8, 1)))
    with torch.no_grad():
        for layer in (net.first, net.inner):
            layer.weight[1::2], layer.bias[1::2] = layer.weight[::2], layer.bias[::2]
    assert reason in states(net, images(3))["first"]
    reduced = condense(net, images(3), threshold=1.0)
    assert reduced.first.out_channels == 8
    assert_allclose(output(reduced, images(3)), output(net, images(3)), rtol=1e-5, atol=1e-5)


def test_parts_of_several_layers_that_would_not_keep_as_many_are_left_alone():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right = nn.Linear(5, 4), nn.Linear(5, 4)
            self.last, self.other = nn.Linear(4, 2), nn.Linear(4, 2)

        def forward(self, x):
            a, b = torch.cat([self.left(x), self.right(x)], -1).chunk(2, -1)
            return self.last(a) + self.other(b)

    found = states(randomised(Two()), torch.randn(4, 5))
    assert "chunk" in found["left"] and "would not keep as many" in found["right"]


@pytest.mark.parametrize("of", ["own", "other"])
def test_a_view_of_the_width_of_a_layer_goes_with_that_layer_alone(of):
    class Viewed(nn.Module):
        def __init__(self):
            super().__init__()
            self.own, self.other, self.last = nn.Linear(5, 8), nn.Linear(5, 8), nn.Linear(8, 2)
            self.head = nn.Linear(8, 2)

        def forward(self, x):
            width = getattr(self, of).out_features
            return self.last(self.own(x).reshape(-1, width)) + self.head(self.other(x))

    torch.manual_seed(0)
    model, x = randomised(Viewed()), torch.randn(6, 5)
    with torch.no_grad():
        for layer in (model.own, model.other):
            layer.weight[4:], layer.bias[4:] = layer.weight[:4], layer.bias[:4]
    found = {layers: state for layers, _, state in survey(model, x).rows}
    reduced = condense(model, x, threshold=1.0)
    if of == "own":
        assert found["own"] == found["other"] == "can be condensed"
        assert reduced.own.out_features == reduced.other.out_features == 4
    else:
        assert found["own"] == found["other"] and "has the width of other" in found["own"]
        assert reduced.own.out_features == reduced.other.out_features == 8
    assert_allclose(model(x).detach(), reduced(x).detach(), rtol=1e-5, atol=1e-5)
