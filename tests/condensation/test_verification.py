"""Never silently wrong: what looks alike but is not stays, what the trace cannot know is seen by the check of the
result, and the layer is left alone with the reason while the rest is condensed."""

import copy
import math
import warnings

import pytest
import torch
import torch.ao.quantization as quantization
from net_zoo import images, randomised, repeat_channel
from numpy.testing import assert_allclose
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

from chemnet.condensation import condense, survey, verification
from chemnet.condensation.cutting import Condensation
from chemnet.condensation.inputs import Inputs
from chemnet.condensation.surgery import Surgery
from chemnet.condensation.verification import faults
from chemnet.runtime.errors import NumericalError


def output(model, *inputs):
    with torch.no_grad():
        return model(*inputs)


def assert_same(one, other, *inputs, rtol=1e-5, atol=1e-6):
    assert_allclose(output(one, *inputs), output(other, *inputs), rtol=rtol, atol=atol)


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


def states(model, example):
    return {layer: state for layers, _, state in survey(model, example).rows for layer in layers.split(", ")}


def copied(model, layer, factor=1.0):
    """The second half of a layer's channels are the first half's, times a factor."""
    with torch.no_grad():
        half = len(layer.weight) // 2
        layer.weight[half:], layer.bias[half:] = factor * layer.weight[:half], factor * layer.bias[:half]
    return model


def perceptron(activation=nn.ReLU, factor=1.0):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), activation(), nn.Linear(16, 2))
    return copied(model, model[0], factor)


def rows(n=64, m=8, seed=1):
    return torch.randn(n, m, generator=torch.Generator().manual_seed(seed))


# ---- what neurons do, and what rounding is


@pytest.mark.parametrize(("threshold", "least"), [(1.0, 64), (0.9, 50)])
def test_neurons_that_only_share_a_large_bias_are_not_merged(threshold, least):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 2))
    with torch.no_grad():
        model[0].weight.mul_(1e-3)
        model[0].bias.uniform_(0.5, 1.5)
    x = 1e3 * rows(256)
    for calibration in (None, x):
        reduced = condense(model, x[:2], threshold=threshold, calibration=calibration)
        assert reduced[0].out_features >= least


def test_copies_are_found_whatever_the_scale_of_the_inputs_and_whatever_the_example():
    for scale in (1e-6, 1e3, 1e6):
        model = perceptron()
        with torch.no_grad():
            model[0].weight.div_(scale)
        for example in (scale * rows(2), torch.zeros(1, 8)):
            reduced = condense(model, example, threshold=1.0)
            assert reduced[0].out_features == 8
            assert_same(reduced, model, scale * rows())


@pytest.mark.parametrize(("jitter", "left"), [(0.0, 8), (1e-7, 8), (1e-5, 16), (1e-3, 16)])
def test_near_copies_are_no_copies_at_a_threshold_of_one(jitter, left):
    model = perceptron(nn.Tanh)
    with torch.no_grad():
        model[0].weight[8:] *= 1.0 + jitter * rows(8)
        model[2].weight[:, 8:] = -model[2].weight[:, :8]  # what is left of the outputs is the difference
    assert condense(model, rows(), threshold=1.0)[0].out_features == left


def test_rounding_is_that_of_the_type_of_the_weights():
    for dtype, jitter in ((torch.float64, 1e-9), (torch.float32, 1e-5)):
        model = perceptron().to(dtype)
        x = rows().to(dtype)
        assert condense(model, x, threshold=1.0)[0].out_features == 8
        with torch.no_grad():
            model[0].weight[8:] *= 1.0 + jitter * rows(8).to(dtype)
        assert condense(model, x, threshold=1.0)[0].out_features == 16


# ---- factors that are none


class Scaled(nn.Module):
    def __init__(self, function, size):
        super().__init__()
        self.first, self.last, self.function = nn.Linear(8, 16), nn.Linear(16, 2), function
        with torch.no_grad():
            self.first.weight.mul_(size)
        copied(self, self.first, 3.0)

    def forward(self, x):
        return self.last(self.function(self.first(x)))


@pytest.mark.parametrize(
    ("function", "size"),
    [
        (nn.Hardtanh(0, 30), 10.0),
        (nn.Hardshrink(1e-3), 0.5),
        (nn.Threshold(1e-4, 0.0), 0.5),
        (lambda x: F.threshold(x, 0.01, 0.0), 0.5),
        (lambda x: x.clamp(max=40.0), 10.0),
        (lambda x: torch.div(x, 0.5, rounding_mode="floor"), 1.0),
        (lambda x: x.to(torch.int32).float(), 2.0),
        (lambda x: x.round(), 2.0),
        (lambda x: x.half().float(), 1.0),
        (lambda x: 1.0 / (1.0 + x.abs()), 1.0),
        (lambda x: x * x, 1.0),
        (lambda x: F.dropout(x, 0.5), 1.0),  # which draws in use, too
    ],
)
def test_scaled_copies_stay_behind_what_does_not_keep_a_factor(function, size):
    model = Scaled(function, size)
    assert condense(model, rows(), threshold=1.0).first.out_features == 16


# ---- a forward that reads a width


class Reading(nn.Module):
    def __init__(self, divisor):
        super().__init__()
        self.stem, self.first, self.last, self.divisor = nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 2), divisor
        copied(copied(self, self.stem), self.first)

    def forward(self, x):
        x = torch.relu(self.first(torch.relu(self.stem(x))))
        return self.last(x) / self.divisor(self, x)


@pytest.mark.parametrize(
    "divisor",
    [
        lambda net, x: x.shape[-1],
        lambda net, x: x.size(1),
        lambda net, x: x.size()[1],
        lambda net, x: x.numel() / 100.0,
        lambda net, x: math.sqrt(net.first.out_features),
        lambda net, x: net.last.in_features,
        lambda net, x: net.first.bias.shape[0],
        lambda net, x: 1e-2 * sum(p.numel() for p in net.first.parameters()),
    ],
)
def test_a_layer_whose_width_the_forward_reads_is_left_alone_and_the_rest_is_condensed(divisor):
    model = Reading(divisor)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of what only the check sees
        reduced = condense(model, rows(), threshold=1.0)
    assert reduced.first.out_features == 16
    assert_same(reduced, model, rows(seed=2))


def test_only_the_layer_is_left_alone_whose_width_is_read():
    found = states(Reading(lambda net, x: net.last.in_features), rows())
    assert found["stem"] == "can be condensed" and found["first"] == "the forward reads the width of last"
    found = states(Reading(lambda net, x: x.shape[-1]), rows())
    assert found["stem"] == "can be condensed" and "the forward reads its width" in found["first"]


def test_ones_of_the_shape_of_channels_keep_them():
    class Ones(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(8, 16), nn.Linear(32, 2)
            copied(self, self.first)

        def forward(self, x):
            x = torch.relu(self.first(x))
            return self.last(torch.cat([x, torch.ones(x.shape)], 1))

    model = Ones()
    assert "the forward reads its width" in states(model, rows())["first"]
    assert_same(condense(model, rows(), threshold=1.0), model, rows(seed=2))


# ---- statements that work in place


class InPlace(nn.Module):
    def __init__(self, statement, **layers):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.statement = statement

    def forward(self, x):
        y = self.first(x)
        return self.last(self.statement(self, x, y))


def added(net, x, y):
    y.add_(net.other(x))
    return y


def activated(net, x, y):
    net.relu(y)
    return net.norm(y)


def through_a_view(net, x, y):
    y.flatten(1).add_(net.other(x).flatten(1))
    return y


def with_out(net, x, y):
    torch.tanh(net.other(x), out=y)
    return y


def late(net, x, y):
    z = 2.0 * y
    y.relu_()
    return y + z


@pytest.mark.parametrize(
    ("statement", "layers"),
    [
        (added, {"other": nn.Conv2d(3, 8, 1)}),
        (activated, {"relu": nn.ReLU(inplace=True), "norm": nn.BatchNorm2d(8)}),
        (through_a_view, {"other": nn.Conv2d(3, 8, 1)}),
        (with_out, {"other": nn.Conv2d(3, 8, 1)}),
        (late, {}),
    ],
)
def test_statements_that_work_in_place_are_seen(statement, layers):
    torch.manual_seed(0)
    model = randomised(InPlace(statement, **copy.deepcopy(layers)))
    repeat_channel(model.first)
    with torch.no_grad():
        model.first.bias[1] = -model.first.bias[0]
        if statement is activated:  # folded through the ReLU, both channels would be one
            repeat_channel(model.norm)
            model.norm.running_mean[0], model.norm.running_mean[1] = model.first.bias[:2]
        else:
            model.first.bias[1] = model.first.bias[0]
    x = images(4)
    reduced = condense(model, x, threshold=1.0)
    assert reduced.first.out_channels == (7 if statement is late else 8)
    assert_same(reduced, model, images(3, seed=5))


def test_a_sum_in_place_is_condensed_where_both_sides_have_the_copy():
    model = randomised(InPlace(added, other=nn.Conv2d(3, 8, 1)))
    repeat_channel(model.first, model.other)
    reduced = condense(model, images(4), threshold=1.0)
    assert reduced.first.out_channels == reduced.other.out_channels == 7
    assert_same(reduced, model, images(3, seed=5))


def test_the_example_is_not_changed_by_a_network_that_works_in_place():
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(8, 16), nn.ReLU(inplace=True), nn.Linear(16, 2))
    x = rows()
    before = x.clone()
    condense(model, x, threshold=0.9, calibration=x)
    assert torch.equal(x, before)


# ---- modules that are not what their class says


def test_a_layer_with_a_hook_or_another_forward_is_left_alone():
    hooked, before, replaced = perceptron(), perceptron(), perceptron()
    hooked[0].register_forward_hook(lambda module, inputs, output: torch.sin(3.0 * output))
    before[1].register_forward_pre_hook(lambda module, inputs: (inputs[0] + torch.arange(inputs[0].shape[1]),))
    replaced[0].forward = lambda x: F.linear(x, replaced[0].weight).cumsum(1)
    for model, reason in ((hooked, "0 has a forward hook"), (before, "1 has a forward hook"), (replaced, "replaced")):
        assert reason in states(model, rows())["0"]
        assert_same(condense(model, rows(), threshold=1.0), model, rows(seed=2))


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_a_layer_with_computed_weights_is_left_alone_before_and_after_a_call(name):
    for calls in (0, 1):
        pruned, normed = perceptron(), perceptron()
        prune.l1_unstructured(pruned[0], name, amount=2)
        parametrizations.weight_norm(normed[0])
        for model in (pruned, normed):
            for _ in range(calls):
                model(rows())
            assert states(model, rows())["0"] == "the weights of 0 are computed"
            assert_same(condense(model, rows(), threshold=1.0), model, rows(seed=2))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:Please use quant_min")
def test_modules_prepared_for_quantisation_are_left_alone():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 1)).train()
    repeat_channel(model[0])
    model.qconfig = quantization.get_default_qat_qconfig("fbgemm")
    model = quantization.prepare_qat(model)
    model(images(2))
    reduced = condense(model, images(2), threshold=1.0)
    assert reduced[0].out_channels == 8
    assert_same(reduced.eval(), model.eval(), images(2))


def test_weights_that_are_tied_stay_tied():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.first = nn.Embedding(50, 8), nn.Linear(8, 8)
            self.middle, self.head = nn.Linear(8, 8), nn.Linear(8, 50, bias=False)
            self.head.weight = self.table.weight
            copied(copied(self, self.first), self.middle)

        def forward(self, i):
            x = torch.relu(self.first(F.embedding(i, self.table.weight)))
            return self.head(torch.relu(self.middle(x)))

    model, ids = Tied(), torch.randint(0, 50, (4, 5))
    reduced = condense(model, ids, threshold=1.0)
    assert reduced.head.weight is reduced.table.weight and reduced.first.out_features == 4
    assert parameters(reduced) < parameters(model)
    assert_same(reduced, model, ids)


# ---- what only a run shows


class Auxiliary(nn.Module):
    """A head for training alone, as of GoogLeNet and Inception."""

    def __init__(self):
        super().__init__()
        self.stem, self.first, self.last, self.aux = *(nn.Linear(8, 16), nn.Linear(16, 16)), *_heads()
        copied(copied(self, self.stem), self.first)

    def forward(self, x):
        x = torch.relu(self.first(torch.relu(self.stem(x))))
        return (self.last(x), self.aux(x)) if self.training else self.last(x)


def _heads():
    return nn.Linear(16, 2), nn.Linear(16, 3)


def test_a_layer_that_a_head_for_training_reads_is_left_alone_with_a_warning_and_the_rest_is_condensed():
    model = Auxiliary()
    with pytest.warns(UserWarning, match="left alone.*\nfirst: the network does not run: .* in training"):
        reduced = condense(model, rows(), threshold=1.0)
    assert (reduced.stem.out_features, reduced.first.out_features) == (8, 16)
    for mode in (True, False):
        for a, b in zip(reduced.train(mode)(rows()), model.train(mode)(rows()), strict=True):
            assert_allclose(a.detach(), b.detach(), rtol=1e-5, atol=1e-6)
    with pytest.raises(NumericalError, match="first cannot be condensed: the network does not run"):
        condense(model, rows(), threshold=1.0, layers="first")


def test_two_faults_among_many_layers_are_found_by_halves(monkeypatch):
    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(8 if k == 0 else 16, 16) for k in range(32))
            self.last, self.aux = _heads()
            for k in range(32):
                copied(self, self.layers[k])

        def forward(self, x):
            heads = []
            for k, layer in enumerate(self.layers):
                x = torch.relu(layer(x))
                heads += [self.aux(x)] if self.training and k in (5, 20) else []
            return (self.last(x), *heads)

    count = 0
    check = verification._Checks.of

    def counted(*given):
        nonlocal count
        count += 1
        return check(*given)

    monkeypatch.setattr(verification._Checks, "of", counted)
    model = Deep()
    with pytest.warns(UserWarning, match=r"layers\.5: .*\nlayers\.20: "):
        reduced = condense(model, rows(), threshold=1.0)
    left = [layer.out_features for layer in reduced.layers]
    assert [k for k in range(32) if left[k] == 16] == [5, 20]
    assert count <= 2 + 2 * 2 * 5  # the whole before and after, and two halves at every one of five levels for each


def test_channels_that_a_network_in_training_gives_out_are_left_alone():
    class Features(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(8, 16), nn.Linear(16, 2)
            copied(self, self.first)

        def forward(self, x):
            x = torch.relu(self.first(x))
            return x if self.training else self.last(x)

    with pytest.warns(UserWarning, match="first: the outputs of the network have other shapes in training"):
        assert condense(Features(), rows(), threshold=1.0).first.out_features == 16


def test_dropout_and_batch_statistics_are_no_difference_in_training():
    torch.manual_seed(0)
    layers = nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 2)
    model = nn.Sequential(*layers)
    copied(model, model[0])
    repeat = model[1].weight, model[1].bias
    with torch.no_grad():
        for tensor in repeat:
            tensor[8:] = tensor[:8]
    assert condense(model, rows(), threshold=1.0)[0].out_features == 8


def test_random_numbers_in_training_are_no_difference_and_in_use_are_one():
    class Noisy(nn.Module):
        def __init__(self, always):
            super().__init__()
            self.first, self.last, self.always = nn.Linear(8, 16), nn.Linear(16, 2), always
            copied(self, self.first)

        def forward(self, x):
            x = self.first(x)
            if self.training or self.always:
                x = x + torch.randn_like(x)
            return self.last(torch.relu(x))

    assert condense(Noisy(False), rows(), threshold=1.0).first.out_features == 8
    assert condense(Noisy(True), rows(), threshold=1.0).first.out_features == 16


@pytest.mark.parametrize("wrong", ["share", "row", "shift"])
def test_a_surgery_that_does_anything_else_is_seen(wrong, monkeypatch):
    """An error put into the surgery, on a layer that is cut to half of what it was."""
    model = perceptron(nn.Tanh)
    cut = Surgery.cut

    def wrongly(self, space, kept, shares, shifts):
        cut(self, space, kept, shares, shifts)
        layer, reader = self.model[0], self.model[2]
        tensor = {"share": reader.weight, "row": layer.weight, "shift": reader.bias}[wrong]
        with torch.no_grad():
            tensor.view(-1)[0] += 1e-3

    monkeypatch.setattr(Surgery, "cut", wrongly)
    with pytest.warns(UserWarning, match="0: the outputs of the network differ from what merging predicts"):
        reduced = condense(model, rows(), widths=5, choice="folded")
    assert reduced[0].out_features == 16


def test_a_choice_that_calls_unequal_channels_the_same_is_seen_at_a_threshold_of_one():
    import numpy as np

    from chemnet.condensation import Alike

    def all_alike(view):
        return Alike(np.ones((view.width, view.width)), lambda place: np.ones(view.width))

    with pytest.warns(UserWarning, match="0: the outputs of the network differ from those of the original"):
        assert condense(perceptron(), rows(), threshold=1.0, choice=all_alike)[0].out_features == 16


# ---- inputs


class Operator(nn.Module):
    """A DeepONet: two inputs, one network each."""

    def __init__(self):
        super().__init__()
        self.branch = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 12))
        self.trunk = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 12))

    def forward(self, u, y):
        return (self.branch(u) * self.trunk(y)).sum(1)


@pytest.mark.parametrize("kind", [tuple, list, dict])
def test_a_network_of_two_inputs_is_calibrated(kind):
    torch.manual_seed(0)
    model = Operator()
    u, y = rows(200, 10), rows(200, 2, seed=2)
    given = {"u": u, "y": y} if kind is dict else kind((u, y))
    reduced = condense(model, given, ratio=0.5, choice="forward", calibration=given)
    assert parameters(reduced) <= 0.5 * parameters(model)
    change = output(reduced, u, y) - output(model, u, y)
    assert change.square().mean() < 0.05 * output(model, u, y).var()


def test_a_tensor_that_is_the_same_for_all_inputs_belongs_to_every_block():
    class Grid(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = Operator()

        def forward(self, u, y):
            return self.net.branch(u) @ self.net.trunk(y).T

    torch.manual_seed(0)
    model, given = Grid(), (rows(250, 10), rows(7, 2))
    reduced = condense(model, given, widths={"net.branch.0": 20}, choice="forward", calibration=given)
    assert reduced.net.branch[0].out_features == 20


def test_inputs_are_drawn_in_the_scale_of_the_example():
    from chemnet.condensation.inputs import drawn

    model = nn.Linear(3, 4)
    example = Inputs.of(torch.tensor([[1e3, 1e5, 0.1]]) * (1.0 + 0.1 * rows(50, 3)), model)
    (x,) = drawn(example, model, 400).tensors
    assert_allclose(x.mean(0), example.args[0].mean(0), rtol=0.05, atol=0)
    assert_allclose(x.std(0), 2.0**0.5 * example.args[0].std(0), rtol=0.2, atol=0)
    with torch.no_grad():
        model.weight.fill_(1e-3)
        model.bias.fill_(3.0)
    (x,) = drawn(Inputs.of(torch.zeros(1, 3), model), model, 400).tensors
    assert_allclose(x.std(), 3.0 / (1e-3 * 3.0**0.5), rtol=0.1, atol=0)
    (x,) = drawn(Inputs.of(torch.arange(4).reshape(2, 2), model), model, 5).tensors
    assert x.dtype == torch.int64 and x.max() <= 3


def test_a_result_without_faults_has_none():
    model, x = perceptron(), rows()
    from chemnet.condensation.choices import folded
    from chemnet.condensation.method import Method

    example = Inputs.of(x, model)
    method = Method(folded, "folded", "paper", 1e-3, 1)
    work = Condensation(model, example, method, None, None, may_add_biases=True, left_alone={})
    work.take({"threshold": 1.0}, None)
    assert len(work.cuts) == 1 and faults(work) == {}
