"""Layers of a model's own classes: matrices that it multiplies with are condensed as Linear layers are."""

import copy

import pytest
import torch
from net_zoo import randomised
from numpy.testing import assert_allclose
from torch import nn
from torch.nn import functional as F

from chemnet.condensation import condense, resize, survey
from chemnet.condensation.budgets import MultiplyAdds
from chemnet.condensation.channels import Channels
from chemnet.condensation.inputs import Inputs
from chemnet.condensation.widths import Sizes


def rows(n=7, width=5, seed=1):
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


def output(model, *x):
    with torch.no_grad():
        return model(*x)


class Own(nn.Module):
    """A Linear layer of one's own."""

    def __init__(self, read, made, bias=True):
        super().__init__()
        self.in_channels, self.out_channels = read, made
        self.weight = nn.Parameter(torch.randn(made, read))
        self.bias = nn.Parameter(torch.randn(made)) if bias else None

    def forward(self, x):
        return F.linear(x, self.weight, self.bias)


class Transposed(nn.Module):
    """Its weights are stored the other way round, and it knows its width."""

    def __init__(self, read, made):
        super().__init__()
        self.nx, self.nf = read, made
        self.weight, self.bias = nn.Parameter(torch.randn(read, made)), nn.Parameter(torch.randn(made))

    def forward(self, x):
        flat = torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight)
        return flat.view((*x.shape[:-1], self.nf))


class Product(nn.Module):
    """The bias is added by another function."""

    def __init__(self, read, made):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(read, made)), nn.Parameter(torch.randn(made))

    def forward(self, x):
        return x @ self.weight + self.bias


class Several(nn.Module):
    """A block with matrices of its own and a layer of torch."""

    def __init__(self, layer, width=12):
        super().__init__()
        self.up, self.down, self.head = layer(5, width), layer(width, 5), nn.Linear(5, 2)

    def forward(self, x):
        return self.head(torch.relu(self.down(torch.relu(self.up(x)))))


LAYERS = {
    "linear": (Own, "up.weight.linear", "out_channels"),
    "without a bias": (lambda a, b: Own(a, b, bias=False), "up.weight.matrix", "out_channels"),
    "transposed": (Transposed, "up.weight.linear.T", "nf"),
    "product": (Product, "up.weight.matrix.T", None),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_matrices_of_the_models_own_classes_are_layers(kind):
    make, name, width = LAYERS[kind]
    model, x, side = randomised(Several(make)).eval(), rows(), 1 if ".T" in name else 0
    with torch.no_grad():
        model.up.weight.narrow(side, 8, 4).copy_(model.up.weight.narrow(side, 0, 4))
        if model.up.bias is not None:
            model.up.bias[8:] = model.up.bias[:4]
    assert (name, 12, "can be condensed") in survey(model, x).rows
    equal = condense(model, x, threshold=1.0)
    assert equal.up.weight.shape[side] == 8 and equal.down.weight.shape[1 - side] == 8
    assert width is None or getattr(equal.up, width) == 8
    assert_allclose(output(equal, 2.0 * x), output(model, 2.0 * x), rtol=1e-5, atol=1e-5)
    smaller = condense(model, x, widths={name: 5}, calibration=rows(60, seed=3), choice="forward")
    smaller.train()(x).square().mean().backward()
    assert smaller.up.weight.grad.shape[side] == 5
    again = resize(copy.deepcopy(model), smaller.state_dict())
    assert_allclose(output(again, x), output(smaller, x), rtol=0, atol=0)
    assert vars(again.up).keys() == vars(smaller.up).keys() and (width is None or getattr(again.up, width) == 5)
    channels = Channels(model, x)
    space = channels.named(name)
    assert Sizes(model, channels).total({space: 5}) == sum(p.numel() for p in smaller.parameters())
    macs = Sizes(model, channels, MultiplyAdds(model, Inputs.of(x, model)))
    assert macs.total({space: 5}) == len(x) * (5 * 5 + 5 * 5 + 5 * 2)


@pytest.mark.parametrize("kind", LAYERS)
def test_a_matrix_may_be_left_with_one_channel(kind):
    make, name, _ = LAYERS[kind]
    model, x = randomised(Several(make)).eval(), rows()
    smaller = condense(model, x, widths={name: 1}, calibration=rows(60, seed=3))
    assert smaller.up.weight.numel() == 5
    again = resize(copy.deepcopy(model), smaller.state_dict())
    assert_allclose(output(again, x), output(smaller, x), rtol=0, atol=0)


def test_a_constant_channel_goes_into_the_bias_of_a_matrix_that_has_one():
    for bias in (True, False):
        model, x = randomised(Several(lambda a, b, bias=bias: Own(a, b, bias))), rows()
        with torch.no_grad():
            model.up.weight[3] = 0.0
            if bias:
                model.up.bias[3] = 1.5
        smaller = condense(model, x, threshold=1.0)
        assert smaller.up.out_channels == 11
        assert_allclose(output(smaller, x), output(model, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("use", ["twice", "alone", "tied"])
def test_a_matrix_that_is_used_in_another_way_too_is_left_alone(use):
    class Used(Several):
        def forward(self, x):
            if use == "twice":
                x = self.up(x)[..., :5] + x
            if use == "tied":
                x = self.other(x)[..., :5] + x
            return super().forward(x) + (self.up.weight.sum() if use == "alone" else 0.0)

    model = randomised(Used(Own))
    if use == "tied":
        model.other = Own(5, 12)
        model.other.weight = model.up.weight
    found = {name: state for name, _, state in survey(model, rows()).rows}
    assert "used more than once, or shares its weights" in found["up.weight.linear"]


# ---- graphs


class Summing(nn.Module):
    """A graph network: what the neighbours of a node send is added up, or its mean is taken."""

    def __init__(self, *, is_mean):
        super().__init__()
        self.send, self.own, self.is_mean = Own(5, 12), Own(5, 12, bias=False), is_mean
        self.last = nn.Linear(12, 2)

    def forward(self, x, edges):
        sent = self.send(x).index_select(0, edges[0])
        index = edges[1].view(-1, 1)
        total = x.new_zeros(len(x), sent.shape[1]).scatter_add_(0, index.expand_as(sent), sent)
        if self.is_mean:
            count = x.new_zeros(len(x)).index_add_(0, edges[1], x.new_ones(edges.shape[1]))
            total = total / count.clamp(min=1).view(-1, 1).expand_as(total)
        return self.last(torch.relu(total + self.own(x)[torch.arange(len(x))]))


@pytest.mark.parametrize("is_mean", [False, True])
def test_channels_of_the_nodes_of_a_graph_are_condensed(is_mean):
    model = randomised(Summing(is_mean=is_mean))
    example = rows(9), torch.randint(9, (2, 20), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        for parameter in (model.send.weight, model.send.bias, model.own.weight):
            parameter[8:] = parameter[:4]
    smaller = condense(model, example, threshold=1.0)
    assert (smaller.send.out_channels, smaller.last.in_features) == (8, 8)
    assert_allclose(output(smaller, *example), output(model, *example), rtol=1e-5, atol=1e-5)
    assert condense(model, example, ratio=0.5).send.out_channels < 7


def test_channels_that_are_taken_by_an_index_are_left_alone():
    class Taking(Several):
        def forward(self, x):
            return self.head(self.down(self.up(x)).index_select(1, torch.tensor([4, 3, 2, 1, 0])))

    found = {name: state for name, _, state in survey(randomised(Taking(Own)), rows()).rows}
    assert "takes some of its channels" in found["down.weight.linear"]


# ---- ties


class Tied(nn.Module):
    """As in models of language: a table of words that another module of the model holds, too, and does not use."""

    def __init__(self):
        super().__init__()
        self.shared, self.words = nn.Embedding(20, 12), nn.Embedding(20, 12)
        self.words.weight = self.shared.weight
        self.up, self.head = nn.Linear(12, 9), nn.Linear(9, 2)

    def forward(self, x):
        return self.head(torch.relu(self.up(self.words(x))))


def test_a_table_that_is_tied_to_one_that_is_not_used_is_condensed_with_it():
    model, x = randomised(Tied()), torch.randint(20, (4, 6), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        model.words.weight[:, 8:] = model.words.weight[:, :4]
    equal = condense(model, x, threshold=1.0)
    assert equal.shared.weight is equal.words.weight and equal.shared.embedding_dim == 8
    assert_allclose(output(equal, x), output(model, x), rtol=1e-5, atol=1e-5)
    again = resize(copy.deepcopy(model), equal.state_dict())
    assert again.shared.weight is again.words.weight and again.shared.embedding_dim == 8
    assert_allclose(output(again, x), output(equal, x), rtol=0, atol=0)
    assert model.shared.weight is model.words.weight and model.shared.embedding_dim == 12
