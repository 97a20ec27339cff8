"""Vectors of one number per channel that a model's own code multiplies with, or adds, go with their channels."""

import pytest
import torch
from net_zoo import images, randomised, repeat_channel
from numpy.testing import assert_allclose
from torch import nn

from chemnet.condensation import condense, resize, survey
from chemnet.condensation.channels import Channels
from chemnet.condensation.widths import Sizes
from chemnet.runtime.errors import UsageError


def states(model, example):
    return {layer: state for layers, _, state in survey(model, example).rows for layer in layers.split(", ")}


class Frozen(nn.Module):
    """A BatchNorm whose statistics and affine parameters are buffers."""

    def __init__(self, width):
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, 0.5 + torch.rand(width, generator=generator))

    def forward(self, x):
        scale = self.weight.reshape(1, -1, 1, 1) * (self.running_var.reshape(1, -1, 1, 1) + 1e-5).rsqrt()
        shift = self.bias.reshape(1, -1, 1, 1) - self.running_mean.reshape(1, -1, 1, 1) * scale
        return x * scale + shift


class Scale(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gamma = nn.Parameter(1e-3 * torch.rand(width, generator=torch.Generator().manual_seed(6)))

    def forward(self, x):
        return x * self.gamma[:, None, None]


class Affine(nn.Module):
    """As in blocks with skip connections: the vectors belong to a module with layers of its own."""

    def __init__(self, width):
        super().__init__()
        self.alpha = nn.Parameter(torch.rand(1, width, 1, 1, generator=torch.Generator().manual_seed(7)))
        self.beta = nn.Parameter(torch.rand(1, width, 1, 1, generator=torch.Generator().manual_seed(8)))
        self.inner = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def forward(self, x):
        return self.beta + x + self.inner(torch.relu(x)) / self.alpha.exp()


class Net(nn.Module):
    def __init__(self, middle, width=8):
        super().__init__()
        self.first, self.middle, self.last = nn.Conv2d(3, width, 3), middle(width), nn.Conv2d(width, 2, 1)

    def forward(self, x):
        return self.last(torch.relu(self.middle(self.first(x))))


def vectors(module):
    """All tensors of a module that have one number per channel."""
    return [x for x in module.state_dict().values() if x.ndim and sum(size > 1 for size in x.shape) == 1]


def repeated(model):
    """Channel 1 is a copy of channel 0, in the vectors, too."""
    repeat_channel(model.first, *[m for m in model.middle.modules() if isinstance(m, nn.Conv2d)])
    for x in vectors(model.middle):
        x.view(-1)[1] = x.view(-1)[0]
    return model


@pytest.mark.parametrize("middle", [Frozen, Scale, Affine])
def test_vectors_go_with_their_channels(middle):
    model, x = repeated(randomised(Net(middle))), images(4)
    assert states(model, x)["first"] == "can be condensed"
    before = sum(p.numel() for p in model.parameters())
    assert Sizes(model, Channels(model, x)).total() == before
    reduced = condense(model, x, threshold=1.0)
    assert reduced.first.out_channels == 7
    assert {max(each.shape) for each in vectors(reduced.middle)} == {7}
    other = images(3, seed=4)
    assert_allclose(reduced(other).detach(), model(other).detach(), rtol=1e-5, atol=1e-6)
    rebuilt = resize(Net(middle).eval(), reduced.state_dict())
    assert_allclose(rebuilt(other).detach(), reduced(other).detach(), rtol=0, atol=0)
    half = condense(model, x, ratio=0.6, choice="forward", calibration=images(40))
    assert sum(p.numel() for p in half.parameters()) <= 0.6 * before
    half.train()(x).square().mean().backward()


@pytest.mark.parametrize("middle", [Frozen, Scale, Affine])
@pytest.mark.parametrize("place", range(4))
def test_channels_whose_vectors_differ_are_not_the_same(middle, place):
    model, x = repeated(randomised(Net(middle))), images(4)
    with torch.no_grad():
        every = vectors(model.middle)
        every[place % len(every)].view(-1)[1] *= 1.1
    assert condense(model, x, threshold=1.0).first.out_channels == 8


def test_factors_of_channels_are_kept_by_scales_and_not_by_sums():
    for middle, left in ((Scale, 7), (Frozen, 8)):
        model = repeated(randomised(Net(middle)))
        with torch.no_grad():
            model.first.weight[1], model.first.bias[1] = 3.0 * model.first.weight[0], 3.0 * model.first.bias[0]
        reduced = condense(model, images(4), threshold=1.0)
        assert reduced.first.out_channels == left
        assert_allclose(reduced(images(2)).detach(), model(images(2)).detach(), rtol=1e-5, atol=1e-6)


class Elsewhere(Scale):
    def forward(self, x):
        return x * self.gamma[:, None, None] + self.gamma.sum()


class Flipped(Scale):
    def forward(self, x):
        return x * self.gamma.flip(0)[:, None, None]


class Twice(nn.Module):
    """The same vector for the channels of two layers."""

    def __init__(self, width):
        super().__init__()
        self.inner, self.scale = nn.Conv2d(width, width, 1), Scale(width)

    def forward(self, x):
        return self.scale(self.inner(torch.relu(self.scale(x))))


@pytest.mark.parametrize(
    ("middle", "reason"),
    [(Elsewhere, "gamma is used in other ways"), (Flipped, "mul"), (Twice, "gamma for channels of several layers")],
)
def test_vectors_that_do_not_go_with_channels_leave_them_alone(middle, reason):
    model, x = repeated(randomised(Net(middle))), images(4)
    assert reason in states(model, x)["first"]
    assert condense(model, x, threshold=1.0).first.out_channels == 8


# ---- several places, and tables of vectors


class Tokens(nn.Module):
    """The embedding of a transformer: words, their places, and a token in front; its channels make up the trunk."""

    def __init__(self, width=8):
        super().__init__()
        self.words, self.places = nn.Embedding(20, width), nn.Embedding(12, width)
        self.front = nn.Parameter(torch.randn(1, 1, width, generator=torch.Generator().manual_seed(1)))
        self.table = nn.Parameter(torch.randn(1, 7, width, generator=torch.Generator().manual_seed(2)))
        self.up, self.down, self.head = nn.Linear(width, 9), nn.Linear(9, width), nn.Linear(width, 2)

    def forward(self, words):
        x = self.words(words) + self.places(torch.arange(words.shape[1])[None])
        x = torch.cat([self.front.expand(len(x), -1, -1), x], dim=1) + self.table[:, : x.shape[1] + 1]
        return self.head(torch.relu(x + self.down(torch.relu(self.up(x)))))


def repeated_tokens():
    torch.manual_seed(0)
    model = Tokens().eval()
    repeat_channel(model.down)
    with torch.no_grad():
        for x in (model.words.weight, model.places.weight, model.front, model.table):
            x[..., 1] = x[..., 0]
    return model, torch.randint(20, (5, 6))


def test_tables_of_vectors_make_channels_and_go_with_them():
    model, words = repeated_tokens()
    found = states(model, words)
    assert found["words"] == found["places"] == found["down"] == "can be condensed"
    before = sum(p.numel() for p in model.parameters())
    assert Sizes(model, Channels(model, words)).total() == before
    reduced = condense(model, words, threshold=1.0)
    assert reduced.words.embedding_dim == reduced.head.in_features == 7
    assert reduced.front.shape == (1, 1, 7) and reduced.table.shape == (1, 7, 7)
    other = torch.randint(20, (3, 5))
    assert_allclose(reduced(other).detach(), model(other).detach(), rtol=1e-5, atol=1e-6)
    rebuilt = resize(Tokens().eval(), reduced.state_dict())
    assert_allclose(rebuilt(other).detach(), reduced(other).detach(), rtol=0, atol=0)
    assert rebuilt.words.embedding_dim == 7
    half = condense(model, words, ratio=0.5, choice="forward", calibration=torch.randint(20, (50, 6)))
    assert sum(p.numel() for p in half.parameters()) <= 0.5 * before


@pytest.mark.parametrize("name", ["words.weight", "places.weight", "front", "table"])
def test_channels_whose_tables_differ_are_not_the_same(name):
    model, words = repeated_tokens()
    with torch.no_grad():
        dict(model.named_parameters())[name][..., 1] *= 1.1
    assert condense(model, words, threshold=1.0).words.embedding_dim == 8


def test_a_table_that_scales_its_vectors_is_left_alone():
    model = nn.Sequential(nn.Embedding(20, 8, max_norm=1.0), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))
    words = torch.randint(20, (5, 6))
    assert states(model, words)["1"] == "can be condensed"
    assert condense(model, words, threshold=0.1)[0].embedding_dim == 8


def test_weights_of_another_number_of_words_are_refused():
    model, _ = repeated_tokens()
    weights = {**model.state_dict(), "words.weight": torch.zeros(21, 8)}
    with pytest.raises(UsageError, match="words .Embedding. cannot take on weights of shape"):
        resize(Tokens(), weights)
