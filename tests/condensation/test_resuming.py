"""Forwards on calibration inputs that go on where the last cut was: the results are those of whole forwards."""

import warnings

import pytest
import torch
from net_zoo import NETS, images, randomised
from torch import nn
from torch.overrides import TorchFunctionMode

from chemnet.condensation import condense
from chemnet.condensation.resuming import Resuming, Unfollowed

IMAGES = images(2, side=12)
MORE = torch.randn(40, *IMAGES.shape[1:], generator=torch.Generator().manual_seed(3))


class Calls(TorchFunctionMode):
    """Numbers of calls of functions, by their names."""

    def __init__(self):
        super().__init__()
        self.of = {}

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        self.of[name] = self.of.get(name, 0) + 1
        return func(*args, **kwargs or {})


def unfollowed(*given):
    raise Unfollowed


def weights(net, example, calibration, **options):
    """Those of a condensed network, and whether it was resumed to the end."""
    with pytest.MonkeyPatch.context() as patch:
        raised = []
        patch.setattr(Unfollowed, "__init__", lambda self: raised.append("given up"))
        result = condense(net, example, choice="forward", calibration=calibration, **options)
    return result.state_dict(), not raised


def check_same(net, example=IMAGES, calibration=MORE, **options):
    """That results with and without resuming are equal to the last bit; whether there was any."""
    options = options or {"threshold": 0.95}
    resumed, was_resumed = weights(net, example, calibration, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Resuming, "__call__", unfollowed)
        whole, _ = weights(net, example, calibration, **options)
    assert any(x.shape != whole[name].shape for name, x in net.state_dict().items())
    assert resumed.keys() == whole.keys()
    assert all(torch.equal(x, whole[name]) for name, x in resumed.items())
    return was_resumed


SLOW = "resnet18", "mobilenet", "grouped", "preactivation"


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in NETS])
def test_results_are_those_of_whole_forwards(name):
    net = NETS[name]()
    calibration = torch.randn(20, *net.example.shape[1:], generator=torch.Generator().manual_seed(3))
    assert check_same(net.model.eval(), net.example, calibration, ratio=0.6)


class Around(nn.Module):
    """Two layers around what is given, and others behind it."""

    def __init__(self, between):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
        behind = [layer for _ in range(3) for layer in (nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.ReLU())]
        self.between, self.behind = between, nn.Sequential(*behind, nn.Conv2d(8, 2, 3))

    def forward(self, x):
        x = torch.relu(self.second(torch.relu(self.first(x))))
        return self.behind(self.between(x))


class Attending(nn.Module):
    """Layers whose channels are normalised together, one after the other, each added to what it reads."""

    def __init__(self, depth):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(8) for _ in range(depth))
        self.wide = nn.ModuleList(nn.Linear(8, 16) for _ in range(depth))
        self.narrow = nn.ModuleList(nn.Linear(16, 8) for _ in range(depth))

    def forward(self, x):
        for norm, wide, narrow in zip(self.norms, self.wide, self.narrow, strict=True):
            x = x + narrow(torch.tanh(wide(norm(x))))
        return x.flatten(1)[:, :3] * 2.0


def test_channels_that_are_normalised_together_are_resumed_too():
    net = nn.Sequential(nn.Linear(5, 8), Attending(3), nn.Linear(3, 2))
    inputs = torch.randn(60, 4, 5, generator=torch.Generator().manual_seed(2))
    assert check_same(randomised(net).eval(), inputs[:2], inputs, threshold=0.9)


class Scaled(nn.Module):
    """Channels over their root mean square, as a function of the tensor."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8))

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


class Stream(nn.Module):
    """Channels to which layers add what they make of them."""

    def __init__(self, read, made):
        super().__init__()
        self.first, self.last = nn.Linear(read, 8), nn.Linear(8, made)
        self.blocks = nn.ModuleList(nn.Sequential(Scaled(), nn.Linear(8, 8), nn.Tanh()) for _ in range(2))

    def forward(self, x):
        x = self.first(x)
        for block in self.blocks:
            x = x + block(x)
        return self.last(x)


def test_statistics_that_functions_take_are_those_of_all_calls():
    net = randomised(nn.Sequential(Stream(5, 6), nn.Tanh(), Stream(6, 2))).eval()
    inputs = torch.randn(60, 4, 5, generator=torch.Generator().manual_seed(2))
    check_same(net, inputs[:2], inputs, ratio=0.7)


class Own(nn.Module):
    """A Linear layer of one's own."""

    def __init__(self, read, made):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(read, made)), nn.Parameter(torch.zeros(made))

    def forward(self, x):
        return torch.addmm(self.bias, x, self.weight)


def test_matrices_of_the_models_own_classes_are_resumed_too():
    layers = [layer for read in (4, 8, 8, 8) for layer in (Own(read, 8), nn.Tanh())]
    net = randomised(nn.Sequential(*layers, Own(8, 2))).eval()
    inputs = torch.randn(60, 4, generator=torch.Generator().manual_seed(2))
    assert check_same(net, inputs[:2], inputs, ratio=0.5)


def halved(x):
    x.mul_(0.5)
    return x


def halved_in_a_view(x):
    x[:, :, 1:].mul_(0.5)
    return x


def halved_behind_torch(x):
    x.numpy()[:] *= 0.5
    return x


def told_by_values(x):
    return x * 0.5 if x.abs().sum() > 0.0 else x


def unpacked(x):
    return torch.stack([image * 0.5 for image in x])


def without_versions(x):
    with torch.inference_mode():
        return x.exp().log()


def by_a_noise(x):
    torch.manual_seed(0)
    return x + 0.01 * torch.randn(8, 1, 1)


with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    compiled = torch.jit.script(told_by_values)


def unseen(x):
    return compiled(x)


def another_way_at_every_call(x):
    another_way_at_every_call.count = 1 - another_way_at_every_call.count
    return x.relu() if another_way_at_every_call.count else x.clamp(min=0.0)


another_way_at_every_call.count = 0


class Between(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Keeping(Between):
    """One that keeps what it was given."""

    def forward(self, x):
        self.seen = x
        return super().forward(x)


FOLLOWED = [halved, told_by_values, unpacked, by_a_noise]
NOT_FOLLOWED = [another_way_at_every_call, unseen, halved_in_a_view, halved_behind_torch, without_versions]


@pytest.mark.parametrize("function", [*FOLLOWED, *NOT_FOLLOWED])
def test_whatever_a_forward_does_between_layers_it_gives_the_same(function):
    net = randomised(Around(Between(function))).eval()
    assert check_same(net, IMAGES, MORE, threshold=0.95) is (function in FOLLOWED)


def test_no_stand_in_stays_in_a_network_that_keeps_what_it_was_given():
    net = randomised(Around(Keeping(halved))).eval()
    assert not check_same(net, IMAGES, MORE, threshold=0.95)
    smaller = condense(net, IMAGES, threshold=0.95, choice="forward", calibration=MORE)
    assert type(smaller.between.seen) is torch.Tensor


def test_nothing_is_kept_beyond_the_limit_and_the_result_is_the_same(monkeypatch):
    net = randomised(Around(nn.Identity())).eval()
    result, _ = weights(net, IMAGES, MORE, threshold=0.95)
    monkeypatch.setattr(Resuming.__init__, "__defaults__", (0,))
    other, was_resumed = weights(net, IMAGES, MORE, threshold=0.95)
    assert was_resumed
    assert all(torch.equal(x, other[name]) for name, x in result.items())


def convolutions(depth):
    """How often a network of as many layers convolves while it is condensed."""
    layers = [layer for _ in range(depth) for layer in (nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6), nn.ReLU(inplace=True))]
    net = nn.Sequential(nn.Conv2d(3, 6, 1), *layers, nn.Conv2d(6, 2, 1))
    with Calls() as calls:
        condense(randomised(net).eval(), IMAGES, widths=4, choice="forward", calibration=MORE)
    return calls.of["conv2d"]


def test_the_work_grows_with_the_number_of_layers_not_with_its_square():
    once, twice, thrice = map(convolutions, (4, 8, 12))
    assert thrice - twice == twice - once


class Stage(nn.Module):
    """A layer, and a block of two beside a skip."""

    def __init__(self):
        super().__init__()
        self.wide, self.first, self.second = (nn.Conv2d(6, 6, 1) for _ in range(3))

    def forward(self, x):
        x = self.wide(x).relu()
        return (x + self.second(self.first(x).relu())).relu()


def most_kept(depth, monkeypatch):
    """Bytes of the values that are kept at most, while a network of as many stages is condensed."""
    sizes, call = [], Resuming.__call__

    def noted(self, *given):
        try:
            return call(self, *given)
        finally:
            sizes.append(sum(past.size for past in self._past.values()))

    monkeypatch.setattr(Resuming, "__call__", noted)
    net = nn.Sequential(nn.Conv2d(3, 6, 1), *(Stage() for _ in range(depth)), nn.Conv2d(6, 2, 1))
    condense(randomised(net).eval(), IMAGES, widths=4, choice="forward", calibration=MORE)
    monkeypatch.undo()
    return max(sizes)


def test_no_more_is_kept_of_a_deeper_network(monkeypatch):
    """What was there where a forward was stopped is let go when one has gone further."""
    assert most_kept(8, monkeypatch) == most_kept(4, monkeypatch)
