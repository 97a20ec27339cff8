"""Budgets of `condense`: what is counted, what is measured, how it is divided over the layers, and what is told."""

import itertools

import numpy as np
import pytest
import torch
from net_zoo import NETS, mlp, randomised, widened
from numpy.testing import assert_allclose
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from chemnet.condensation import latency as latency_module
from chemnet.condensation.budgets import MultiplyAdds
from chemnet.condensation.channels import Channels
from chemnet.condensation.condenser import condense
from chemnet.condensation.inputs import Inputs
from chemnet.condensation.latency import Latency
from chemnet.condensation.progress import steps
from chemnet.condensation.widths import Sizes
from chemnet.runtime.errors import UsageError
from chemnet.runtime.tables import Table


def counted(model, x):
    """Multiply-adds by torch's own counter."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(x)
    return counter.get_total_flops() // 2


def more(x, n=60, seed=5):
    return torch.randn(n, *x.shape[1:], generator=torch.Generator().manual_seed(seed), dtype=x.dtype)


def width_of(module):
    return module.out_features if isinstance(module, nn.Linear) else module.out_channels


def sizes_of(model, x, budget):
    channels = Channels(model, x)
    return channels, Sizes(model, channels, budget(model, Inputs.of(x, model)))


# ---- multiply-adds


@pytest.mark.parametrize("name", NETS)
def test_multiply_adds_of_other_widths_are_those_that_torch_counts_at_them(name):
    net = NETS[name]()
    wide = widened(net).eval()
    channels, sizes = sizes_of(wide, net.example, MultiplyAdds)
    assert sizes.total() == counted(wide, net.example)
    modules = dict(net.model.named_modules())
    widths = {space: width_of(modules[space.layers[0]]) for space in channels.spaces if not space.reason}
    assert sizes.total(widths) == counted(net.model, net.example)


def test_transposed_convolutions_and_products_that_belong_to_no_layer_count_too():
    class Attending(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 1), nn.ConvTranspose2d(8, 6, 3, stride=2)

        def forward(self, x):
            y = self.b(torch.relu(self.a(x))).flatten(2)
            return y @ y.transpose(1, 2)

    model, x = Attending(), torch.randn(2, 3, 5, 5)
    channels, sizes = sizes_of(model, x, MultiplyAdds)
    assert sizes.total() == counted(model, x)
    half = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.ConvTranspose2d(4, 6, 3, stride=2))
    gone = counted(nn.Sequential(model.a, nn.ReLU(), model.b), x) - counted(half, x)
    assert sizes.total({channels.named("a"): 4}) == counted(model, x) - gone


@pytest.mark.parametrize("choice", ["folded", "forward"])
@pytest.mark.parametrize("name", ["vgg", "resnet18", "mobilenet", "unet", "densenet"])
def test_a_share_of_the_multiply_adds_is_kept_and_used_up(name, choice):
    net = NETS[name]()
    wide = widened(net, copies=3.0).eval()
    calibration = more(net.example) if choice == "forward" else None
    reduced = condense(wide, net.example, ratio=0.4, budget="macs", choice=choice, calibration=calibration)
    assert 0.32 < counted(reduced, net.example) / counted(wide, net.example) <= 0.4


# ---- the best division


@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.75])
def test_no_other_widths_leave_less_unexplained_at_the_same_budget(ratio):
    model = randomised(
        nn.Sequential(
            *(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 10, 3, 2), nn.ReLU(), nn.Conv2d(10, 12, 1)),
            *(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 4)),
        )
    )
    channels, sizes = sizes_of(model, torch.randn(1, 3, 8, 8), MultiplyAdds)
    spaces = [space for space in channels.spaces if not space.reason]
    curves = {s: np.exp(-np.arange(s.width + 1) * 4.0 / s.width / (i + 1)) for i, s in enumerate(spaces)}
    curves = {s: curve - curve[-1] for s, curve in curves.items()}
    target = ratio * sizes.total()

    def left(widths):
        return sum(curves[space][width] for space, width in widths.items())

    every = (dict(zip(spaces, w, strict=True)) for w in itertools.product(*(range(1, s.width + 1) for s in spaces)))
    best = min(left(widths) for widths in every if sizes.total(widths) <= target)
    found = sizes.cheapest(curves, target, lambda space, width: width)
    assert sizes.total(found) <= target
    assert best <= left(found) <= 1.02 * best


# ---- latency


@pytest.fixture
def simulated(monkeypatch):
    """A clock that convolutions and normalisations move on, by more where their widths do not fill vectors of 16."""
    now = [0.0]

    def wasted(width):
        return 1.0 if width % 16 == 0 else 1.4

    def takes(module, inputs, output):
        if isinstance(module, nn.Conv2d):
            read, made = module.in_channels // module.groups, module.out_channels
            now[0] += 1e-3 + 1e-6 * read * wasted(read) * made * wasted(made)
        elif isinstance(module, nn.BatchNorm2d):
            now[0] += 1e-4 + 1e-5 * module.num_features
        elif isinstance(module, nn.ReLU6):
            now[0] += 2e-5 * output.shape[1]

    monkeypatch.setattr(latency_module, "clock_of", lambda device: lambda: now[0])
    monkeypatch.setattr(latency_module, "_LAYER_AT_LEAST", 0.0)
    hook = nn.modules.module.register_module_forward_hook(takes)
    yield now
    hook.remove()


def separable(*widths):
    """A network with a depthwise convolution, and one that can be as wide as asked for."""
    a, b, c = widths
    return nn.Sequential(
        *(nn.Conv2d(3, a, 3, bias=False), nn.BatchNorm2d(a), nn.ReLU6()),
        *(nn.Conv2d(a, a, 3, groups=a, bias=False), nn.BatchNorm2d(a), nn.ReLU6()),
        *(nn.Conv2d(a, b, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU6(), nn.Conv2d(b, c, 1), nn.ReLU6()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, 2)),
    ).eval()


def test_the_latency_is_predicted_at_other_widths_as_it_is_there(simulated):
    x, full = torch.randn(2, 3, 8, 8), (48, 70, 32)
    model = separable(*full)
    channels, sizes = sizes_of(model, x, lambda model, example: Latency(model, Channels(model, x), example))

    def takes(widths):
        start = simulated[0]
        separable(*widths)(x)
        return simulated[0] - start

    spaces = [space for space in channels.spaces if not space.reason]
    for widths in (full, (48, 70, 16), (32, 48, 32), (16, 64, 24), (47, 33, 17), (20, 16, 16), (5, 69, 5)):
        expected = sizes.total(dict(zip(spaces, widths, strict=True)))
        assert_allclose(expected, takes(widths), rtol=1e-9, atol=0.0)


def test_a_share_of_the_latency_is_kept_with_widths_that_fill_vectors(simulated):
    x, model = torch.randn(2, 3, 8, 8), randomised(separable(64, 96, 64))
    lines = []
    rule = {"choice": "forward", "calibration": more(x)}
    reduced = condense(model, x, ratio=0.8, budget="latency", report=lines.append, **rule)
    start = simulated[0]
    reduced(x)
    left = simulated[0] - start
    start = simulated[0]
    model(x)
    assert 0.7 < left / (simulated[0] - start) <= 0.8
    assert all(m.out_channels % 16 == 0 for m in reduced.modules() if isinstance(m, nn.Conv2d))
    predicted, measured = lines[-1].rows[-2:]
    assert list(lines[-1].columns[7:9]) == ["ms", "ms left"]
    assert_allclose(measured[7:9], predicted[7:9], rtol=1e-9, atol=0.0)
    assert_allclose(measured[8], 1e3 * left, rtol=1e-9, atol=0.0)


def test_a_share_of_the_latency_is_left_where_it_is_not_as_predicted(simulated, monkeypatch):
    """A network that takes the longer the more its first and its last layer differ."""

    def takes(module, inputs, output):
        if isinstance(module, nn.Conv2d) and module.in_channels == 3:
            first[0] = module.out_channels
        elif isinstance(module, nn.AdaptiveAvgPool2d):
            simulated[0] += 1e-6 * abs(output.shape[1] - first[0]) ** 2

    first, hook = [0], nn.modules.module.register_module_forward_hook(takes)
    x, model = torch.randn(2, 3, 8, 8), randomised(separable(256, 256, 256))
    options = {"ratio": 0.6, "budget": "latency", "choice": "forward", "calibration": more(x, 200)}

    def left():
        times = []
        for network in (model, condense(model, x, **options)):
            start = simulated[0]
            network(x)
            times.append(simulated[0] - start)
        return times[1] / times[0]

    assert_allclose(left(), 0.6, rtol=0.01, atol=0.0)
    monkeypatch.setattr(Latency, "measured", lambda self, widths: None)
    assert abs(left() - 0.6) > 0.02
    hook.remove()


# ---- limits


@pytest.mark.parametrize("choice", ["folded", "forward"])
def test_no_layer_becomes_narrower_than_its_least_width(choice):
    net = mlp()
    wide = widened(net, copies=3.0)
    full = {name: width_of(wide.get_submodule(name)) for name in net.makes}
    rule = {"ratio": 0.25, "choice": choice, "calibration": more(net.example)}
    free = condense(wide, net.example, **rule)
    narrowest = min(net.makes, key=lambda name: width_of(free.get_submodule(name)) / full[name])
    least = full[narrowest] // 2 + 1
    assert width_of(free.get_submodule(narrowest)) < least
    kept = condense(wide, net.example, least={narrowest: least}, **{**rule, "ratio": 0.5})
    assert width_of(kept.get_submodule(narrowest)) >= least
    shared = condense(wide, net.example, least=0.4, **{**rule, "ratio": 0.5})
    assert all(width_of(shared.get_submodule(name)) >= 0.4 * full[name] for name in net.makes)
    most = condense(
        wide, net.example, threshold=0.01, least=9, round_to=4, choice=choice, calibration=more(net.example)
    )
    assert all(width_of(most.get_submodule(name)) >= min(12, full[name]) for name in net.makes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio": 0.5, "least": 0}, "least 0: expected a whole number of channels from 1 on, or a share in"),
        ({"ratio": 0.5, "least": 1.5}, "least 1.5: expected"),
        ({"ratio": 0.5, "least": {"0": 99}}, "least 99: layer 0 has 20 channels"),
        ({"ratio": 0.5, "least": {"o": 2}}, "no layer 'o' with channels to condense"),
        ({"widths": {"0": 2}, "least": 3}, "layer 0: width 2 is smaller than the least, 3"),
        ({"ratio": 0.5, "budget": "flops"}, "budget flops: choose one of parameters, macs, latency"),
        ({"threshold": 0.5, "budget": "macs"}, "budget macs: give the ratio, the share of it that may be left"),
        ({"ratio": 0.001, "budget": "macs"}, "no less than 0.0[0-9]* of the multiply-adds: raise the ratio"),
    ],
)
def test_budgets_and_limits_that_cannot_be_kept_are_refused(options, message):
    model = nn.Sequential(nn.Linear(4, 20), nn.ReLU(), nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 2))
    with pytest.raises(UsageError, match=message):
        condense(model, torch.randn(3, 4), **options)


class Counting(nn.Module):
    """Counts the channels of its first layer in training alone, which only a check sees."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 40), nn.Linear(40, 3), nn.Linear(3, 2)

    def forward(self, x):
        x = self.a(x).relu()
        return self.c(self.b(x).relu()) + (x.shape[1] if self.training else 0)


def test_a_ratio_out_of_reach_names_what_needs_most_of_what_is_left_alone_and_why():
    model = nn.Sequential(nn.Linear(4, 20), nn.LayerNorm(20), nn.ReLU(), nn.Linear(20, 9), nn.ReLU(), nn.Linear(9, 2))
    whole = sum(p.numel() for p in model.parameters())
    with pytest.raises(UsageError) as caught:
        condense(model, torch.randn(3, 4), ratio=0.1)
    first, *others = str(caught.value).splitlines()
    assert "no less than" in first
    assert others == [
        f"left alone: 0 ({10000 / whole:.2g} % of the parameters): 1 normalises its channels together: below a "
        "threshold of 1 that takes calibration inputs",
        f"left alone: 5 ({2000 / whole:.2g} % of the parameters): it is an output of the model",
    ]
    with pytest.raises(UsageError, match="raise the ratio$"):
        condense(model, torch.randn(3, 4), ratio=0.1, layers=["3"])


def test_a_ratio_that_a_check_puts_out_of_reach_names_the_layer_that_it_left_alone():
    model = Counting()
    with pytest.raises(UsageError, match="left alone: a .*: the outputs of the network differ from what merging"):
        condense(model, torch.randn(3, 4), ratio=0.4)


# ---- what is told


@pytest.mark.parametrize("name", ["mobilenet", "densenet"])
@pytest.mark.parametrize("choice", ["folded", "forward"])
def test_the_table_of_the_layers_accounts_for_all_of_both_networks(name, choice):
    net = NETS[name]()
    wide = widened(net).eval()
    calibration = more(net.example) if choice == "forward" else None
    lines = []
    rule = {"choice": choice, "calibration": calibration, "layers": list(net.makes)[1:]}
    reduced = condense(wide, net.example, ratio=0.6, report=lines.append, **rule)
    *progress, table = lines
    assert isinstance(table, Table) and all(isinstance(line, str) for line in progress)
    *parts, whole = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    for model, suffix in ((wide, ""), (reduced, " left")):
        assert whole[f"parameters{suffix}"] == sum(p.numel() for p in model.parameters())
        assert whole[f"multiply-adds{suffix}"] == counted(model, net.example)
        for key in ("parameters", "multiply-adds"):
            assert sum(row[key + suffix] for row in parts) == whole[key + suffix]
    for row in parts[:-1]:
        layer = row["layers"].split(", ")[0]
        assert row["channels left"] == width_of(reduced.get_submodule(layer))
        assert (row["state"] == "condensed") == (row["channels left"] < row["channels"])
        assert row["state"] != "condensed" or 0.0 < row["similarity"] <= 1.0
    states = {row["state"] for row in parts}
    assert {"condensed", "not asked for", "it is an output of the model"} <= states


def test_nothing_is_printed_unless_it_is_asked_for(capsys):
    net = mlp()
    condense(net.model, net.example, ratio=0.5)
    assert capsys.readouterr().out == ""
    condense(net.model, net.example, ratio=0.5, report=print)
    assert "cutting" in capsys.readouterr().out


def test_progress_says_how_much_time_is_left_once_it_is_worth_telling(monkeypatch):
    clock = itertools.count(0.0, 4.0)
    monkeypatch.setattr("chemnet.condensation.progress.time.monotonic", lambda: next(clock))
    lines = []
    assert list(steps("abcd", lines.append, lambda item: f"at {item}")) == list("abcd")
    assert lines == [
        *("1 of 4: at a", "2 of 4: at b, about 12 s left", "3 of 4: at c, about 8 s left"),
        "4 of 4: at d",
    ]
