"""Whatever runs on an example is followed: control flow, keywords, mappings, outputs of any kind, asked-for values."""

import dataclasses
import math
import operator
import pickle

import pytest
import torch
from net_zoo import images, randomised, repeat_channel
from numpy.testing import assert_allclose
from torch import nn
from torch.nn import functional as F

from chemnet.condensation import condense, resize, survey
from chemnet.condensation.capture import captured
from chemnet.condensation.inputs import Inputs
from chemnet.condensation.recorded_sizes import Size, Watch, plain
from chemnet.runtime.errors import UsageError


def rows(n=16, m=8, seed=1):
    return torch.randn(n, m, generator=torch.Generator().manual_seed(seed))


def states(model, example):
    return {layer: state for layers, _, state in survey(model, example).rows for layer in layers.split(", ")}


@dataclasses.dataclass
class Output:
    logits: torch.Tensor
    parts: dict


class Net(nn.Module):
    """Two layers around a function of them and of what is given."""

    def __init__(self, function, **layers):
        super().__init__()
        self.first, self.last, self.function = nn.Linear(8, 12), nn.Linear(12, 2), function
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, *args, **kwargs):
        return self.function(self, *args, **kwargs)


def by_keywords(net, **given):
    mask = given.get("mask")
    x = net.first(input=given["x"])
    return net.last(input=F.relu(input=x if mask is None else x * mask))


def of_a_mapping(net, batch, scale=1.0):
    x = F.relu(net.first(batch["x"] * scale))
    return Output(net.last(x), {"half": [net.last.weight.new_zeros(1)]})


def as_long_as_it_is(net, x):
    for _ in range(len(x) // 5):
        x = x + 1.0
    y = net.first(x)
    return net.last(torch.relu(y) if y.ndim == 2 and x.shape[0] > 2 else y)


def by_shapes(net, x):
    n, c = net.first(x).shape
    return net.last(net.first(x).relu().view(n, c))


def with_a_script(net, x):
    assert not torch.jit.is_scripting() and torch.is_tensor(x)
    with torch.autocast("cpu", enabled=False):
        return {"out": (net.last(net.first(x).relu_()), None, "name")}


@pytest.mark.parametrize(
    ("function", "example"),
    [
        (by_keywords, {"x": rows()}),
        (of_a_mapping, ({"x": rows()}, 0.5)),
        (as_long_as_it_is, rows()),
        (with_a_script, rows()),
    ],
)
def test_a_forward_of_any_kind_is_condensed(function, example):
    model = randomised(Net(function))
    repeat_channel(model.first)
    assert states(model, example)["first"] == "can be condensed"
    reduced = condense(model, example, threshold=1.0)
    assert reduced.first.out_features == 11
    inputs = Inputs.of(example, model)

    def first_tensor(net):
        result = inputs(net)
        result = result.logits if isinstance(result, Output) else result
        return (result["out"][0] if isinstance(result, dict) else result).detach()

    assert_allclose(first_tensor(reduced), first_tensor(model), rtol=1e-5, atol=1e-6)


def in_training_alone(net, x):
    return net.last(net.first(x)) if net.training else net.last(torch.relu(net.first(x)))


def going_by_values(net, x):
    x = torch.relu(net.first(x))
    return net.last(x) if net.norm(x).abs().sum() >= 0.0 else net.other(x)


def divided(net, x):
    x = torch.relu(net.first(x))
    return net.last(x / x.abs().amax().item())


def listed(net, x):
    y = torch.relu(net.first(x))
    return net.last(y) * len(y.tolist())


@pytest.mark.parametrize(
    ("function", "layers", "reason"),
    [
        (going_by_values, {"norm": nn.Linear(12, 1), "other": nn.Linear(12, 2)}, "other may read it then"),
        (divided, {}, "amax (amax) is not known"),
        (listed, {}, "tolist (tolist) reads its channels"),
        (by_shapes, {}, "is used more than once"),
    ],
)
def test_a_layer_whose_values_the_forward_asks_for_is_left_alone_with_the_reason(function, layers, reason):
    model = randomised(Net(function, **layers))
    repeat_channel(model.first)
    assert reason in states(model, rows())["first"]
    assert condense(model, rows(), threshold=1.0).first.out_features == 12


def test_a_model_that_cannot_be_copied_is_named():
    class Locked(nn.Linear):
        def __deepcopy__(self, memo):
            raise TypeError("no copies")

    with pytest.raises(UsageError, match="Locked cannot be copied: no copies"):
        survey(Locked(8, 2), rows())


def test_nothing_is_watched_any_more_after_a_model_that_fails():
    call = nn.Module.__call__

    def failing(net, x):
        raise ValueError(f"{net.first(x).shape[1]} channels")

    with pytest.raises(UsageError) as caught:
        survey(Net(failing), rows())
    first, second, third = str(caught.value).splitlines()
    assert first == "Net does not take an example input of shape (16, 8)" and second == "12 channels"
    assert third.startswith("line ") and "raise ValueError" in third
    assert nn.Module.__call__ is call


def test_results_of_several_tensors_are_taken_apart():
    def sorted_and_split(net, x):
        values, places = net.first(x).sort(1)
        return net.last(values) + places[:, :2]

    graph = captured(Net(sorted_and_split), Inputs.of(rows(), Net(sorted_and_split))).graph
    items = [node for node in graph.nodes if node.name.startswith("getitem")]
    assert [node.meta["shape"] for node in items] == [(16, 12), (16, 12), (16, 2)]
    assert [node.meta["dtype"] for node in items] == [torch.float32, torch.int64, torch.int64]


# ---- classes derived from layers


class PaddedConv(nn.Conv2d):
    """A convolution that pads by itself."""

    def forward(self, x):
        return F.conv2d(F.pad(x, (1, 1, 1, 1)), self.weight, self.bias)


class ActiveNorm(nn.BatchNorm2d):
    """A normalisation with an activation in it."""

    def forward(self, x):
        return F.relu(F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps))


class Standardised(nn.Conv2d):
    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, weight, self.bias)


class Residual(nn.Linear):
    """A layer with more beside it."""

    def __init__(self, m, n):
        super().__init__(m, n)
        self.more = nn.Linear(m, n, bias=False)

    def forward(self, x):
        return F.linear(x, bias=self.bias, weight=self.weight) + self.more(x)


def derived():
    torch.manual_seed(0)
    return nn.Sequential(
        PaddedConv(3, 8, 3),
        ActiveNorm(8),
        PaddedConv(8, 6, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        Residual(6, 10),
        nn.Tanh(),
        nn.Linear(10, 2),
    )


def test_layers_of_derived_classes_are_condensed():
    model, x = randomised(derived()), images(4)
    repeat_channel(model[0], model[1], model[2], model[6], model[6].more)
    for calibration in (None, images(20)):
        reduced = condense(model, x, threshold=1.0, calibration=calibration)
        assert [reduced[0].out_channels, reduced[2].out_channels, reduced[6].out_features] == [7, 5, 9]
        other = images(3, seed=4)
        assert_allclose(reduced(other).detach(), model(other).detach(), rtol=1e-5, atol=1e-6)
        rebuilt = resize(derived(), reduced.state_dict()).eval()
        assert_allclose(rebuilt(other).detach(), reduced(other).detach(), rtol=0, atol=0)
    assert "forward" not in vars(reduced[0])
    smaller = condense(model, x, ratio=0.6, choice="forward", calibration=images(40))
    assert smaller[0].out_channels < 7 and smaller[1].num_features == smaller[0].out_channels


def test_statistics_of_a_derived_normalisation_are_estimated_without_its_activation():
    """The same network with the activation as a layer of its own is condensed to the same weights."""
    model, x = randomised(derived()), images(40)
    plain_norm = nn.Sequential(nn.BatchNorm2d(8), nn.ReLU())
    plain_norm[0].load_state_dict(model[1].state_dict())
    other = nn.Sequential(*model[:1], plain_norm, *model[2:]).eval()
    first, second = (condense(each, x[:2], widths={"0": 4}, choice="forward", calibration=x) for each in (model, other))
    assert_allclose(first[1].running_var, second[1][0].running_var, rtol=1e-6, atol=0)
    assert_allclose(first[2].weight.detach(), second[2].weight.detach(), rtol=1e-5, atol=1e-6)


def test_a_layer_whose_weights_its_own_code_computes_is_left_alone_with_the_reason():
    model = randomised(nn.Sequential(nn.Conv2d(3, 8, 1), Standardised(8, 6, 1), nn.Conv2d(6, 2, 1)))
    repeat_channel(model[0])
    found = states(model, images(2))
    assert found["0"] == found["1"] == "1 is called with weights that are not its own"


def test_weights_that_depend_on_the_inputs_are_followed_as_a_function():
    class Dynamic(nn.Conv2d):
        def forward(self, x):
            return F.conv2d(x, self.weight * x.mean(), self.bias)

    model = randomised(nn.Sequential(nn.Conv2d(3, 8, 1), Dynamic(8, 6, 1), nn.Conv2d(6, 2, 1)))
    assert "conv2d" in states(model, images(2))["0"] or "mean" in states(model, images(2))["0"]


# ---- sizes


def sizes(*values):
    watch = Watch()
    watch.is_on = True
    nodes = [watch.graph.placeholder(f"n{k}") for k in range(len(values))]
    return watch, [Size(value, watch, node) for value, node in zip(values, nodes, strict=True)]


def test_arithmetic_of_sizes_gives_sizes_with_nodes():
    watch, (a, b) = sizes(12, 5)
    made = [(a + b, 17), (3 - a, -9), (a * b, 60), (a // b, 2), (-a % 5, 3), (2**b, 32), (abs(-a), 12), (a << 1, 24)]
    for result, expected in made:
        assert type(result) is Size and plain(result) == expected
    node = made[1][0].node
    assert node.target is operator.sub and node.args == (3, a.node)
    assert not any("read" in node.meta for node in watch.graph.nodes)
    assert [0] * b == [0] * 5 and list(range(b)) == [0, 1, 2, 3, 4] and {12: "x"}[plain(a)] == "x"


@pytest.mark.parametrize(
    "use",
    [
        lambda n: 3 / n,
        lambda n: n**-0.5,
        lambda n: n * 0.5,
        lambda n: math.sqrt(n),
        lambda n: n > 3,
        lambda n: n * 2 == 5,
        lambda n: float(n),
        lambda n: int(n),
    ],
)
def test_what_makes_a_number_of_a_size_is_noted(use):
    watch, (n,) = sizes(12)
    module = Size(12, watch, modules=frozenset({"first"}))
    assert use(n) == use(12) == use(module)
    assert any("read" in node.meta for node in watch.graph.nodes) and watch.read == {"first"}


def test_sizes_that_are_compared_with_each_other_are_not_read():
    watch, (a, b) = sizes(3, 3)
    assert a == b and not a < b and (a, b) == (b, a)
    assert not any("read" in node.meta for node in watch.graph.nodes)


def test_whether_a_size_can_be_divided_may_be_asked():
    def divided(net, x):
        y = net.first(x)
        if y.shape[1] % 4 != 0:
            raise ValueError("expected a multiple of 4")
        return net.last(torch.relu(y))

    model = randomised(Net(divided))
    repeat_channel(model.first)
    assert states(model, rows())["first"] == "can be condensed"
    assert condense(model, rows(), threshold=0.1, round_to=4).first.out_features in (4, 8)
    with pytest.warns(UserWarning, match="first: the network does not run: expected a multiple of 4"):
        assert condense(model, rows(), threshold=1.0).first.out_features == 12


def test_sizes_are_ordinary_numbers_once_the_recording_is_over():
    watch, (a, b) = sizes(3, 4)
    watch.is_on = False
    assert type(a * b) is int and type(pickle.loads(pickle.dumps(a))) is int and a > 2
    assert len(watch.graph.nodes) == 2 and "read" not in a.node.meta


def test_the_size_of_a_filter_is_no_width():
    class Same(nn.Conv2d):
        def forward(self, x):
            kernel = self.weight.size()[-1] if self.weight.shape[2] > 1 else self.weight.size(3)
            return F.conv2d(F.pad(x, (0, kernel - 1, 0, kernel - 1)), self.weight, self.bias)

    model = nn.Sequential(nn.Conv2d(3, 8, 1), Same(8, 6, 3), nn.Conv2d(6, 2, 1))
    assert states(model, images(2))["0"] == states(model, images(2))["1"] == "can be condensed"


def test_sizes_are_nodes_in_what_they_are_given_to():
    def shaped(net, x):
        n, c = net.first(x).shape
        return net.last(net.other(x).view(n, c // 2, 2).flatten(1))

    model = Net(shaped, other=nn.Linear(8, 12))
    graph = captured(model, Inputs.of(rows(), model)).graph
    (view,) = [node for node in graph.nodes if node.target == "view"]
    assert [node.target for node in view.args[1:3]] == [operator.getitem, operator.floordiv] and view.args[3] == 2
