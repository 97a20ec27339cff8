"""Which channels belong together: what is left alone is listed with the reason, and the rest is condensed exactly."""

import copy

import numpy as np
import pytest
import torch
from net_zoo import NETS, grouped, images, randomised, repeat_channel, resnet18, unet
from numpy.testing import assert_allclose
from torch import nn
from torch.nn import functional as F

from chemnet.condensation.channels import Channels, survey
from chemnet.condensation.choices import Alike
from chemnet.condensation.condenser import condense
from chemnet.runtime.errors import UsageError


def states(model, example):
    """State of every layer in the survey."""
    return {
        layer: (width, state) for layers, width, state in survey(model, example).rows for layer in layers.split(", ")
    }


def output(model, x):
    with torch.no_grad():
        return model(x)


class Net(nn.Module):
    """A first and a last convolution around something in the middle, and one in front that can always be condensed."""

    def __init__(self, middle, width=8, last=8):
        super().__init__()
        self.stem, self.first = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, width, 3, padding=1)
        self.middle, self.last = middle, nn.Conv2d(last, 2, 1)

    def forward(self, x):
        return self.last(self.middle(self.first(F.relu(self.stem(x)))))


class Middle(nn.Module):
    """A function of a tensor and of some layers in the middle of a network."""

    def __init__(self, function, **layers):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x):
        return self.function(x, **dict(self.named_children()))


def attended(x, attention):
    tokens = x.flatten(2).transpose(1, 2)
    mixed, _ = attention(tokens, tokens, tokens)
    return x + mixed.mean(1)[:, :, None, None]


def split(x):
    left, right = torch.split(x, 4, 1)
    return torch.cat([right, left], 1)


LEFT_ALONE = {
    "layer norm without weights": (nn.LayerNorm([8, 8, 8], elementwise_affine=False), "middle has no weights"),
    "layer norm over the width": (nn.LayerNorm(8), "middle reads another axis"),
    "instance norm with statistics": (nn.InstanceNorm2d(8, track_running_stats=True), "keeps running statistics"),
    "batch norm without statistics": (nn.BatchNorm2d(8, track_running_stats=False), "keeps no running statistics"),
    "view": (Middle(lambda x: x.view(-1, 8, 8, 8)), "view"),
    "softmax": (Middle(lambda x: F.softmax(x, dim=1)), "softmax"),
    "a slice": (Middle(lambda x: x[:, torch.arange(8)]), "getitem"),
    "split": (Middle(split), "split"),
    "padding of channels": (Middle(lambda x: F.pad(x, (0, 0, 0, 0, 1, 1))[:, :8]), "pad"),
    "a sum over channels": (Middle(lambda x: x - x.sum(1, keepdim=True)), "sum"),
    "flatten with a fixed size": (Middle(lambda x: x.flatten(2).view(-1, 8, 8, 8)), "view"),
    "pooling over channels": (
        Middle(lambda x: F.max_pool1d(x.flatten(2).transpose(1, 2), 1).transpose(1, 2).reshape(-1, 8, 8, 8)),
        "max_pool1d",
    ),
    "attention": (Middle(attended, attention=nn.MultiheadAttention(8, 2, batch_first=True)), "attention"),
    "a layer used twice": (
        Middle(lambda x, twice: twice(F.relu(twice(x))), twice=nn.Conv2d(8, 8, 1)),
        "middle.twice is used more than once",
    ),
    "weights used elsewhere": (
        Middle(lambda x, layer: F.conv2d(F.relu(layer(x)), layer.weight), layer=nn.Conv2d(8, 8, 1)),
        "middle.layer is used more than once, or shares its weights",
    ),
    "a normalisation used twice": (
        Middle(lambda x, norm: norm(F.relu(norm(x))), norm=nn.BatchNorm2d(8, affine=False)),
        "middle.norm is used more than once",
    ),
    "weights that are computed": (
        nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 1)),
        "the weights of middle are computed",
    ),
    "a channel multiplier": (
        nn.Sequential(nn.Conv2d(8, 16, 3, padding=1, groups=8), nn.Conv2d(16, 8, 1)),
        "middle.0 reads it in groups that cannot be kept",
    ),
    "a transposed convolution in groups": (nn.ConvTranspose2d(8, 8, 1, groups=2), "groups that cannot be kept"),
}


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_what_cannot_be_condensed_is_listed_with_the_reason_and_the_rest_is_condensed_exactly(name):
    middle, reason = LEFT_ALONE[name]
    torch.manual_seed(0)
    model = randomised(Net(copy.deepcopy(middle)))
    repeat_channel(model.stem, model.first)
    x = images(3)
    found = states(model, x)
    assert found["stem"] == (6, "can be condensed")
    assert found["first"][0] == 8 and reason in found["first"][1]
    assert found["last"] == (2, "it is an output of the model")
    reduced = condense(model, x, threshold=1.0)
    assert (reduced.stem.out_channels, reduced.first.out_channels) == (5, 8)
    assert_allclose(output(reduced, x), output(model, x), rtol=1e-5, atol=1e-5)
    loosely = condense(model, x, threshold=0.2, calibration=images(10))
    assert loosely.stem.out_channels < 6 and loosely.first.out_channels == 8
    with pytest.raises(UsageError, match="first cannot be condensed: ") as caught:
        condense(model, x, threshold=1.0, layers=["first"])
    assert len(str(caught.value).splitlines()) <= 3


PASSES = {
    "pools": nn.Sequential(nn.MaxPool2d(2), nn.AvgPool2d(2), nn.Upsample(scale_factor=4)),
    "functional pools": Middle(lambda x: F.interpolate(F.avg_pool2d(F.max_pool2d(x, 2), 2), scale_factor=4)),
    "padding": nn.ZeroPad2d(1),
    "dropout": nn.Sequential(nn.Dropout2d(0.5), nn.Dropout(0.5), nn.Identity()),
    "a factor": Middle(lambda x: x * 0.5 / 3.0),
    "methods": Middle(lambda x: x.relu().contiguous().clone()),
    "sums of itself": Middle(lambda x: F.relu(x) + x),
    "differences": Middle(lambda x: torch.sub(F.relu(x), x, alpha=2)),
    "one slope": nn.PReLU(),
    "means": Middle(lambda x: x.mean(-1, keepdim=True).mean(dim=2, keepdim=True)),
    "sums and maxima": Middle(lambda x: x.sum((2, 3), keepdim=True) + torch.amax(x, (2, 3), keepdim=True)),
    "norm, twice": nn.Sequential(nn.BatchNorm2d(8), nn.BatchNorm2d(8), nn.ReLU6(), nn.BatchNorm2d(8)),
    "norm without affine parameters": nn.BatchNorm2d(8, affine=False),
    "depthwise with bias": nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8)),
    "a transposed convolution": nn.ConvTranspose2d(8, 8, 3, stride=2),
    "a constant": Middle(lambda x: 1.0 + x),
    "a power": Middle(lambda x: x**2),
    "a clamp and a rounding": Middle(lambda x: torch.round(x.clamp(min=-0.3))),
    "slopes of each channel": nn.PReLU(8),
    "instance norm": nn.InstanceNorm2d(8, affine=True),
    "instance norm alone": nn.Sequential(nn.InstanceNorm2d(8), nn.ReLU()),
    "paddings": Middle(lambda x: F.pad(F.pad(x, (1, 1)), (1, 1, 2, 0), mode="reflect")),
    "padding by the edge": nn.Sequential(nn.ReplicationPad2d(1), nn.CircularPad2d(1), nn.ReflectionPad2d(1)),
    "squeeze and excitation of itself": Middle(lambda x: x * torch.sigmoid(x.mean((2, 3), keepdim=True))),
    "a product of both": Middle(lambda x: F.silu(x) * x),
    "a resized skip": Middle(lambda x: x + F.interpolate(F.avg_pool2d(x, 2), size=x.shape[2:])),
}


@pytest.mark.parametrize("name", PASSES)
def test_what_keeps_channels_apart_is_condensed_through(name):
    torch.manual_seed(0)
    model = randomised(Net(copy.deepcopy(PASSES[name])))
    kinds = nn.BatchNorm2d | nn.InstanceNorm2d | nn.PReLU
    followers = [m for m in model.middle.modules() if isinstance(m, kinds) or getattr(m, "groups", 1) == 8]
    followers = [m for m in followers if getattr(m, "num_parameters", 8) == 8]
    for module in followers:
        if isinstance(module, nn.PReLU | nn.InstanceNorm2d) and module.weight is not None:  # otherwise all are alike
            nn.init.uniform_(module.weight, 0.1, 0.9)
    repeat_channel(model.stem, model.first, *followers)
    x = images(3)
    assert states(model, x)["first"] == (8, "can be condensed")
    reduced = condense(model, x, threshold=1.0)
    assert (reduced.stem.out_channels, reduced.first.out_channels) == (5, 7)
    assert_allclose(output(reduced, x), output(model, x), rtol=1e-5, atol=1e-5)
    assert condense(model, x, widths={"first": 4}, calibration=images(10)).first.out_channels == 4


class Flattened(nn.Module):
    def __init__(self, flatten):
        super().__init__()
        self.conv, self.flatten, self.fc = nn.Conv2d(3, 5, 3), flatten, nn.Linear(20, 2)

    def forward(self, x):
        return self.fc(self.flatten(F.relu(self.conv(x))))


@pytest.mark.parametrize(
    "flatten",
    [
        lambda x: torch.flatten(x, 1),
        lambda x: torch.flatten(x, start_dim=1, end_dim=3),
        lambda x: x.flatten(1),
        lambda x: x.view(x.size(0), -1),
        lambda x: x.view((x.shape[0], -1)),
        lambda x: x.reshape(x.size()[0], -1),
        lambda x: torch.reshape(x, (x.shape[0], -1)),
    ],
)
def test_every_way_to_flatten_is_known(flatten):
    model, x = randomised(Flattened(flatten)), images(3, side=4)
    repeat_channel(model.conv)
    reduced = condense(model, x, threshold=1.0)
    assert reduced.fc.in_features == 16
    assert_allclose(output(reduced, x), output(model, x), rtol=1e-5, atol=1e-5)


class Excited(nn.Module):
    """Squeeze and excitation, and a mask of one channel for all."""

    def __init__(self):
        super().__init__()
        self.first, self.down, self.up = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 6, 1), nn.Conv2d(6, 8, 1)
        self.mask, self.last = nn.Conv2d(8, 1, 1), nn.Conv2d(8, 2, 1)

    def forward(self, x):
        x = F.relu(self.first(x))
        x = x * torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3), keepdim=True)))))
        return self.last(x * torch.sigmoid(self.mask(x)))


def test_gates_are_condensed_with_what_they_gate_and_a_mask_of_one_channel_stays_one():
    model, x = randomised(Excited()), images(4)
    repeat_channel(model.first)
    assert condense(model, x, threshold=1.0).first.out_channels == 8  # the gates are not alike
    repeat_channel(model.up)
    repeat_channel(model.down)
    reduced = condense(model, x, threshold=1.0)
    widths = [reduced.get_submodule(name).out_channels for name in ("first", "down", "up", "mask")]
    assert widths == [7, 5, 7, 1]
    assert_allclose(output(reduced, images(3, seed=4)), output(model, images(3, seed=4)), rtol=1e-5, atol=1e-5)
    loosely = condense(model, x, ratio=0.6, calibration=images(40), choice="forward")
    assert loosely.first.out_channels == loosely.up.out_channels < 8
    with torch.no_grad():
        model.first.weight[1], model.first.bias[1] = 2.0 * model.first.weight[0], 2.0 * model.first.bias[0]
    assert condense(model, x, threshold=1.0).first.out_channels == 8  # a product keeps no factor


class Block(nn.Module):
    """A block of a transformer whose feed-forward part is gated."""

    def __init__(self):
        super().__init__()
        self.norm1, self.norm2, self.head = nn.LayerNorm(8), nn.LayerNorm(8), nn.Linear(8, 2)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.gate, self.up, self.down = nn.Linear(8, 12), nn.Linear(8, 12), nn.Linear(12, 8)

    def forward(self, x):
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        y = self.norm2(x)
        return self.head(x + self.down(F.silu(self.gate(y)) * self.up(y)))


def test_the_feed_forward_part_of_a_transformer_is_condensed_and_its_attention_is_not():
    model, x = randomised(Block()), torch.randn(5, 6, 8)
    repeat_channel(model.gate, model.up)
    reduced = condense(model, x, threshold=1.0)
    assert reduced.gate.out_features == reduced.up.out_features == reduced.down.in_features == 11
    assert_allclose(output(reduced, 2.0 * x), output(model, 2.0 * x), rtol=1e-5, atol=1e-5)
    assert condense(model, x, ratio=0.8, calibration=torch.randn(50, 6, 8)).gate.out_features < 12


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_a_recurrent_layer_is_left_alone_with_the_reason(kind):
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.cell, self.last = nn.Linear(3, 6), kind(6, 5, batch_first=True), nn.Linear(5, 8)
            self.head = nn.Linear(8, 2)

        def forward(self, x):
            y, _ = self.cell(F.relu(self.first(x)))
            return self.head(F.relu(self.last(y)))

    model, x = randomised(Recurrent()), torch.randn(4, 7, 3)
    repeat_channel(model.last)
    found = states(model, x)
    assert found["cell"] == (5, f"cell ({kind.__name__}) feeds its channels back into its own gates")
    assert found["first"] == (6, f"cell ({kind.__name__}) reads it")
    reduced = condense(model, x, threshold=1.0)
    assert reduced.last.out_features == 7
    assert_allclose(output(reduced, x), output(model, x), rtol=1e-5, atol=1e-5)


def test_a_view_with_a_fixed_size_is_named():
    model = Flattened(lambda x: x.view(-1, 20))
    assert "view" in states(model, images(3, side=4))["conv"][1]


class Tokens(nn.Module):
    """A fully connected part along the last of three axes, with a skip that a normalisation begins."""

    def __init__(self):
        super().__init__()
        self.embed, self.norm = nn.Linear(5, 6), nn.LayerNorm(6)
        self.up, self.down, self.head = nn.Linear(6, 9), nn.Linear(9, 6), nn.Linear(6, 2)

    def forward(self, x):
        x = self.embed(x)
        x = x + self.down(F.gelu(self.up(self.norm(x))))
        return self.head(x.mean(1))


def test_layers_that_work_on_the_last_axis_are_condensed_inside():
    model, x = randomised(Tokens()), torch.randn(4, 7, 5)
    repeat_channel(model.up)
    found = states(model, x)
    assert found["up"] == (9, "can be condensed")
    assert found["embed"] == found["down"] == (6, "can be condensed")
    for calibration in (None, torch.randn(30, 7, 5)):
        reduced = condense(model, x, threshold=1.0, calibration=calibration)
        assert reduced.up.out_features == 8
        assert_allclose(output(reduced, x), output(model, x), rtol=1e-5, atol=1e-5)


def test_pooling_along_the_last_axis_of_tokens_mixes_their_channels():
    model = nn.Sequential(nn.Linear(5, 6), nn.MaxPool1d(2), nn.Linear(3, 2))
    assert "MaxPool1d" in states(model, torch.randn(4, 7, 5))["0"][1]
    assert "MaxPool1d" in states(model, torch.randn(7, 5))["0"][1]


def test_an_example_without_a_batch_is_left_alone():
    model = nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU(), nn.Conv2d(6, 2, 1))
    found = states(model, torch.randn(3, 3, 8))  # as many rows as channels
    assert all(state != "can be condensed" for _, state in found.values()) and set(found) == {"0", "2"}


class Uneven(nn.Module):
    """Layers in several numbers of groups around the same channels."""

    def __init__(self, width, groups):
        super().__init__()
        self.first, self.second = nn.Conv2d(8, width, 1), nn.Conv2d(8, width, 1, groups=2)
        self.third, self.last = nn.Conv2d(width, 6, 1, groups=groups), nn.Conv2d(6, 2, 1)

    def forward(self, x):
        return self.last(F.relu(self.third(F.relu(self.first(x) + self.second(x)))))


def test_groups_of_all_layers_around_a_space_are_kept():
    x = images(3, channels=8)
    model = randomised(Uneven(12, 3))
    space = Channels(model, x).named("first")
    assert sorted(space.layers) == ["first", "second"] and space.blocks == 6
    with torch.no_grad():
        for layer in (model.first, model.second):
            for block in range(6):
                layer.weight[2 * block + 1], layer.bias[2 * block + 1] = layer.weight[2 * block], layer.bias[2 * block]
    reduced = condense(model, x, threshold=1.0)
    assert reduced.first.out_channels == 6
    assert_allclose(output(reduced, x), output(model, x), rtol=1e-5, atol=1e-5)


def test_channels_of_which_no_two_are_in_the_same_groups_are_left_alone():
    model, x = randomised(Uneven(6, 3)), images(3, channels=8)
    assert states(model, x)["first"] == (6, "no two of its 6 channels belong to the same groups")
    assert condense(model, x, threshold=0.1).first.out_channels == 6


def test_a_layer_without_a_reader_and_one_that_a_skip_from_the_input_reads_are_named():
    class Loose(nn.Module):
        def __init__(self):
            super().__init__()
            self.loose, self.first, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 2, 1)

        def forward(self, x):
            self.loose(x)
            return self.last(x + self.first(x))

    found = states(Loose(), images(2))
    assert found["loose"] == (4, "no layer reads its channels")
    assert "combines it with something that is no layer's output" in found["first"][1]


def test_a_skip_connection_is_one_space_and_a_concatenation_is_not():
    channels = Channels(resnet18().model, resnet18().example)
    assert set(channels.named("conv1").layers) == {"conv1", "layer1.0.conv2", "layer1.1.conv2"}
    assert channels.named("bn1") is channels.named("conv1")
    net = unet()
    channels = Channels(net.model, net.example)
    assert channels.named("up").layers == ["up"] and channels.named("first.0").layers == ["first.0"]
    assert [channels.columns_of(place)[0, 0] for place in channels.named("first.0").consumers] == [0, 6]


def test_names_that_do_not_exist_bring_the_nearest_ones():
    net = resnet18()
    with pytest.raises(UsageError, match=r"no layer 'layer1.0.conv3'.* layer1.0.conv[12], layer1.[01].conv[12], "):
        Channels(net.model, net.example).named("layer1.0.conv3")
    with pytest.raises(UsageError, match="nearest are none"):
        Channels(nn.Sequential(nn.ReLU()), net.example).named("conv")


@pytest.mark.parametrize("name", NETS)
def test_a_survey_changes_nothing(name):
    net = NETS[name]()
    net.model.train()
    next(m for m in net.model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)).eval()
    modes = [module.training for module in net.model.modules()]
    before = {key: tensor.clone() for key, tensor in net.model.state_dict().items()}
    table = survey(net.model, net.example)
    assert [module.training for module in net.model.modules()] == modes
    assert all(torch.equal(before[key], tensor) for key, tensor in net.model.state_dict().items())
    assert sum(row[2] == "can be condensed" for row in table.rows) == len(set(net.makes.values()))


def test_models_are_traced_as_in_use_and_several_inputs_are_taken():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right, self.last = nn.Linear(3, 6), nn.Linear(4, 6), nn.Linear(12, 2)

        def forward(self, x, y):
            z = torch.cat([self.left(x), self.right(y)], -1)
            return self.last(z) if not self.training else self.last(z) + 1.0

    model = randomised(Two()).train()
    repeat_channel(model.left)
    inputs = torch.randn(4, 3), torch.randn(4, 4)
    assert set(states(model, inputs)) == {"left", "right", "last"}
    reduced = condense(model, inputs, threshold=1.0)
    assert reduced.last.in_features == 11 and reduced.training
    with torch.no_grad():
        assert_allclose(reduced.eval()(*inputs), model.eval()(*inputs), rtol=1e-5, atol=1e-5)
    with pytest.raises(UsageError, match=r"does not take an example input of shape \(4, 3\)\n"):
        survey(model, inputs[0])


def test_arguments_that_the_example_leaves_out_have_their_defaults():
    class Optional(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(3, 5), nn.Linear(5, 2)

        def forward(self, x, mask=None, scale=1.0, *, early=False):
            x = F.relu(self.first(x))
            if mask is not None:
                x = x * mask
            return x if early else self.last(x * scale)

    model, x = randomised(Optional()), torch.randn(4, 3)
    repeat_channel(model.first)
    reduced = condense(model, x, threshold=1.0)
    assert reduced.first.out_features == 4
    assert_allclose(output(reduced, x), output(model, x), rtol=1e-5, atol=1e-5)
    assert "mul" in states(model, (x, torch.ones(5)))["first"][1]


@pytest.mark.parametrize("measure", [{"threshold": 0.5}, {"ratio": 0.6}])
def test_channels_of_different_blocks_stay_apart_though_a_choice_calls_all_alike(measure):
    net = grouped()

    def all_alike(view):
        return Alike(np.ones((view.width, view.width)), view.folded.magnitudes)

    reduced = condense(net.model, net.example, choice=all_alike, **measure)
    left = [space for space in Channels(reduced, net.example).spaces if not space.reason]
    assert [space.blocks for space in Channels(net.model, net.example).spaces[:3]] == [2, 6, 3]
    assert all(space.width % space.blocks == 0 for space in left)
    assert torch.isfinite(output(reduced, net.example)).all()


class Asking(nn.Module):
    """A forward that asks for sizes, as many do."""

    def __init__(self):
        super().__init__()
        self.first, self.last, self.norm = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 2, 1), nn.BatchNorm2d(8)

    def forward(self, x):
        n, _, h, w = x.shape
        if h % 4 != 0 or w % 4 != 0 or len(x.shape) != 4:
            x = F.pad(x, (0, int(-w % 4), 0, int(-h % 4)))
        x = F.relu(self.norm(self.first(x)))
        for _ in range(x.shape[2] // 4):
            x = F.avg_pool2d(x, 3, 1, 1)
        return self.last(x.view(n, x.shape[1], x.shape[2], -1) if n == 0 else x)


def test_a_forward_that_asks_for_sizes_is_followed_on_the_example():
    model, x = randomised(Asking()), images(3, side=10)
    repeat_channel(model.first, model.norm)
    reduced = condense(model, x, threshold=1.0)
    assert reduced.first.out_channels == 7
    for side in (10, 12):
        other = images(2, side=side, seed=4)
        assert_allclose(output(reduced, other), output(model, other), rtol=1e-5, atol=1e-5)


def test_a_width_that_a_forward_asks_for_is_kept():
    class Checked(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 2)

        def forward(self, x):
            x = F.relu(self.first(x))
            if x.shape[1] != 8:
                raise ValueError("expected 8 channels")
            return self.last(x)

    model = randomised(Checked())
    repeat_channel(model.first)
    assert "the forward reads its width" in states(model, torch.randn(4, 3))["first"][1]
    assert condense(model, torch.randn(4, 3), threshold=1.0).first.out_features == 8


def dropped_by_input(x, share, training):
    """Stochastic depth: nothing in use; in training whole inputs are dropped."""
    if not training:
        return x
    return x * torch.empty(len(x), *[1] * (x.ndim - 1)).bernoulli_(1.0 - share)


def test_a_function_that_does_nothing_in_use_is_condensed_through():
    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.other, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1)

        def forward(self, x):
            return self.last(self.first(x) + dropped_by_input(self.other(x), 0.5, self.training))

    model, x = randomised(Deep()), images(6)
    repeat_channel(model.first, model.other)
    reduced = condense(model, x, threshold=1.0)
    assert reduced.first.out_channels == reduced.other.out_channels == 7
    assert_allclose(output(reduced, x), output(model, x), rtol=1e-5, atol=1e-5)
