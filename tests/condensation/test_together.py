"""Normalisations of several channels together: copies in equal numbers go and change no statistics; below a threshold
of 1 the readers are fitted to what the channels that stay give when they are normalised without the others."""

import copy

import numpy as np
import pytest
import torch
from net_zoo import images, randomised
from numpy.testing import assert_allclose
from torch import nn
from torch.nn import functional as F

from chemnet.condensation import condense, resize, survey
from chemnet.runtime.errors import UsageError


def output(model, x):
    with torch.no_grad():
        return model(x)


def tokens(n, seed=1):
    return torch.randn(n, 6, 5, generator=torch.Generator().manual_seed(seed))


def varied(model):
    """Affine parameters of all kinds of normalisation that differ."""
    randomised(model)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(
                module, nn.LayerNorm | nn.RMSNorm | nn.GroupNorm | OwnRootMeanSquare | OwnLayerNorm | Response
            ):
                for parameter in module.parameters():
                    parameter.copy_(0.5 + torch.rand(parameter.shape, generator=generator))
    return model


class Perceptron(nn.Module):
    def __init__(self, norm, width=8):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(5, width), norm, nn.Linear(width, 2)

    def forward(self, x):
        return self.last(F.gelu(self.norm(self.first(x))))


class Convolutional(nn.Module):
    def __init__(self, norm, width=8):
        super().__init__()
        self.first, self.norm, self.last = nn.Conv2d(3, width, 3, padding=1), norm, nn.Conv2d(width, 2, 1)

    def forward(self, x):
        return self.last(F.silu(self.norm(self.first(x))))


class ChannelsLast(Convolutional):
    """As in ConvNeXt: over the channels of an image, which are moved to the last axis and back."""

    def forward(self, x):
        y = self.norm(self.first(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.last(F.silu(y))


class OwnRootMeanSquare(nn.Module):
    """By functions of tensors, as language models have it."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return self.weight * (x.float() * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)).to(x.dtype)


class OwnLayerNorm(nn.Module):
    """By functions of tensors, over the channels of an image."""

    def __init__(self, width):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x):
        centred = x - x.mean(1, keepdim=True)
        x = centred / (centred.pow(2).mean(dim=1, keepdim=True) + 1e-6).sqrt()
        return x * self.weight[:, None, None] + self.bias.view(1, -1, 1, 1)


class Response(nn.Module):
    """As in the second ConvNeXt: every channel by its norm, relative to the mean norm of all."""

    def __init__(self, width):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x):
        size = x.norm(p=2, dim=(2, 3), keepdim=True)
        relative = size / (size.mean(dim=1, keepdim=True) + 1e-6)
        weight, bias = (each.view(1, -1, 1, 1) for each in (self.weight, self.bias))
        return x + torch.addcmul(bias, weight, x * relative)


class Trunk(nn.Module):
    """Blocks with a skip around them, which a normalisation begins."""

    def __init__(self, width=8, blocks=2):
        super().__init__()
        self.embed, self.head, self.norm = nn.Linear(5, width), nn.Linear(width, 2), nn.LayerNorm(width)
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(blocks)])
        self.ups = nn.ModuleList([nn.Linear(width, 12) for _ in range(blocks)])
        self.downs = nn.ModuleList([nn.Linear(12, width) for _ in range(blocks)])

    def forward(self, x):
        x = self.embed(x)
        for norm, up, down in zip(self.norms, self.ups, self.downs, strict=True):
            x = x + down(F.gelu(up(norm(x))))
        return self.head(self.norm(x))


NETS = {
    "layer norm": (lambda: Perceptron(nn.LayerNorm(8)), tokens, 1),
    "root mean square": (lambda: Perceptron(nn.RMSNorm(8)), tokens, 1),
    "group norm of one group": (lambda: Convolutional(nn.GroupNorm(1, 8)), images, 1),
    "group norm": (lambda: Convolutional(nn.GroupNorm(2, 8)), images, 2),
    "over channels and places": (lambda: Convolutional(nn.LayerNorm([8, 8, 8])), images, 1),
    "channels last": (lambda: ChannelsLast(nn.LayerNorm(8)), images, 1),
    "own root mean square": (lambda: Perceptron(OwnRootMeanSquare(8)), tokens, 1),
    "own layer norm": (lambda: Convolutional(OwnLayerNorm(8)), images, 1),
    "response": (lambda: Convolutional(Response(8)), images, 1),
    "trunk": (Trunk, tokens, 1),
}


def makers(net):
    """Layers of the space of the first one, and what follows it."""
    if isinstance(net, Trunk):
        return [net.embed, *net.downs, net.norm, *net.norms]
    return [net.first, net.norm]


def first(net):
    return "embed" if isinstance(net, Trunk) else "first"


def planted(net, copies):
    with torch.no_grad():
        for module in makers(net):
            for tensor in module.parameters():
                for old, new in copies.items():
                    tensor[new] = tensor[old]
    return net


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("calibrated", [False, True])
def test_copies_in_equal_numbers_go_and_the_outputs_stay(name, calibrated):
    make, inputs, _ = NETS[name]
    net, x = planted(varied(make()), {0: 1, 2: 3, 4: 5, 6: 7}), inputs(4)
    reduced = condense(net, x, threshold=1.0, calibration=inputs(20, seed=4) if calibrated else None)
    assert len(getattr(reduced, first(net)).weight) == 4
    assert_allclose(output(reduced, 2.0 * x), output(net, 2.0 * x), rtol=1e-4, atol=1e-5)
    rebuilt = resize(make(), reduced.state_dict()).eval()
    assert_allclose(output(rebuilt, x), output(reduced, x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", NETS)
def test_copies_in_unequal_numbers_stay_and_the_reason_is_said(name):
    make, inputs, _ = NETS[name]
    net, x = planted(varied(make()), {0: 1, 2: 3, 4: 5}), inputs(4)
    with pytest.warns(UserWarning, match="normalises its channels together, and not all have as many copies"):
        reduced = condense(net, x, threshold=1.0)
    assert_allclose(output(reduced, x), output(net, x), rtol=1e-5, atol=1e-5)
    assert len(getattr(reduced, first(net)).weight) == 8


def test_four_copies_and_two_leave_two_and_one():
    net = planted(varied(Perceptron(nn.LayerNorm(8))), {0: 1, 2: 4, 3: 7})
    with torch.no_grad():
        for module in makers(net):
            for tensor in module.parameters():
                tensor[[5, 6]] = tensor[[0, 0]]
    reduced = condense(net, tokens(4), threshold=1.0)
    assert reduced.first.out_features == 4
    assert_allclose(output(reduced, tokens(9)), output(net, tokens(9)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("choice", ["folded", "forward"])
@pytest.mark.parametrize("name", NETS)
def test_the_readers_are_fitted_to_what_is_normalised_without_the_channels_that_go(name, choice):
    make, inputs, blocks = NETS[name]
    net, x, seen, unseen = varied(make()), inputs(4), inputs(60, seed=4), inputs(30, seed=5)
    layer = first(net)
    reduced = condense(net, x, widths={layer: 6}, choice=choice, calibration=seen)
    assert len(getattr(reduced, layer).weight) == 6

    def error(model):
        return float((output(model, unseen) - output(net, unseen)).square().mean())

    # an oracle: the last layer fitted by least squares to the outputs wanted, on what the result gives it
    received = []
    last = reduced.head if isinstance(reduced, Trunk) else reduced.last
    last.register_forward_pre_hook(lambda module, given: received.append(given[0]))
    output(reduced, seen)
    rows = received[0] if isinstance(last, nn.Linear) else received[0].movedim(1, -1)
    wanted = output(net, seen) if isinstance(last, nn.Linear) else output(net, seen).movedim(1, -1)
    a = np.column_stack([rows.reshape(-1, rows.shape[-1]).double().numpy(), np.ones(rows[..., 0].numel())])
    b = wanted.reshape(-1, 2).double().numpy()
    least = float(np.mean((a @ np.linalg.lstsq(a, b, rcond=None)[0] - b) ** 2))
    got = float((output(reduced, seen) - output(net, seen)).square().mean())
    assert got < (1.05 if blocks == 1 else 1.3) * least + 1e-9  # channels of other blocks do not stand in
    assert error(reduced) < 0.5 * float(output(net, unseen).var(dim=(0, 1) if unseen.ndim == 3 else (0, 2, 3)).mean())


@pytest.mark.parametrize("name", NETS)
def test_below_a_threshold_of_one_calibration_inputs_are_asked_for(name):
    make, inputs, _ = NETS[name]
    net, x = varied(make()), inputs(4)
    layer = first(net)
    assert "can be condensed" in {row[0].split(", ")[0]: row[2] for row in survey(net, x).rows}[layer]
    with pytest.raises(UsageError, match=f"{layer} cannot be condensed: .* normalises its channels together"):
        condense(net, x, widths={layer: 6})
    assert len(getattr(condense(net, x, threshold=1e-3), layer).weight) == 8
    half = condense(net, x, widths={layer: 4}, calibration=inputs(30, seed=3))
    half.train()(x).square().mean().backward()
    assert all(parameter.grad is not None for parameter in half.parameters())


def test_group_norm_of_single_channels_is_an_instance_norm():
    net = varied(Convolutional(nn.GroupNorm(8, 8)))
    planted(net, {0: 1, 2: 3, 5: 4})
    reduced = condense(net, images(3), threshold=1.0)
    assert (reduced.first.out_channels, reduced.norm.num_groups, reduced.norm.num_channels) == (5, 5, 5)
    assert_allclose(output(reduced, images(3)), output(net, images(3)), rtol=1e-4, atol=1e-5)
    rebuilt = resize(copy.deepcopy(net), reduced.state_dict())
    assert_allclose(output(rebuilt, images(3)), output(reduced, images(3)), rtol=1e-6, atol=1e-6)


def test_a_normalisation_of_several_spaces_keeps_their_copies_and_is_cut_with_calibration():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right, self.norm, self.last = (
                nn.Linear(5, 4),
                nn.Linear(5, 4),
                nn.LayerNorm(8),
                nn.Linear(8, 2),
            )

        def forward(self, x):
            return self.last(self.norm(torch.cat([self.left(x), self.right(x)], -1)))

    net = varied(Two())
    with torch.no_grad():
        for tensor in (*net.left.parameters(), *net.norm.parameters()):
            tensor[1], tensor[3] = tensor[0], tensor[2]
    with pytest.warns(UserWarning, match="left: norm normalises its channels together"):
        assert condense(net, tokens(4), threshold=1.0).left.out_features == 4
    reduced = condense(net, tokens(4), widths={"left": 3, "right": 2}, calibration=tokens(40, seed=3))
    assert (reduced.left.out_features, reduced.right.out_features, reduced.norm.normalized_shape) == (3, 2, (5,))


@pytest.mark.parametrize("norm", [nn.LayerNorm(8, elementwise_affine=False), nn.GroupNorm(2, 8, affine=False)])
def test_a_normalisation_without_weights_is_left_alone(norm):
    net, x = (Perceptron(norm), tokens(4)) if isinstance(norm, nn.LayerNorm) else (Convolutional(norm), images(3))
    assert "norm has no weights" in {row[0]: row[2] for row in survey(varied(net), x).rows}["first"]
