"""Condensing networks: exact at a threshold of 1, as small as asked for, ordinary modules."""

import copy
import warnings

import numpy as np
import pytest
import torch
from net_zoo import (
    NETS,
    NORMALISATIONS,
    Net,
    conv_bn,
    grouped,
    images,
    mlp,
    mobilenet,
    mobilenet_v2,
    randomised,
    repeat_channel,
    resnet18,
    unet,
    vgg,
)
from net_zoo import widened as more_channels
from numpy.testing import assert_allclose
from torch import nn

from chemnet.condensation.channels import Channels
from chemnet.condensation.choices import forward
from chemnet.condensation.condenser import condense
from chemnet.condensation.surgery import resize
from chemnet.condensation.widths import Sizes
from chemnet.runtime.errors import NumericalError, UsageError

EXACT = {"rtol": 1e-5, "atol": 1e-5}


def widened(net, **options):
    return more_channels(net, **options).eval()


def output(model, x):
    with torch.no_grad():
        return model(x).numpy()


def shapes(model):
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


def error(model, reduced, x):
    return float(np.mean((output(model, x) - output(reduced, x)) ** 2))


def more(x, n=60, seed=5):
    return torch.randn(n, *x.shape[1:], generator=torch.Generator().manual_seed(seed), dtype=x.dtype)


# ---- nothing is lost


@pytest.mark.parametrize(
    ("activation", "factors", "calibrated"),
    [
        *((nn.ReLU, (1.0, 1.0), calibrated) for calibrated in (False, True)),
        *((activation, (0.3, 3.0), False) for activation in (nn.ReLU, nn.LeakyReLU, nn.PReLU)),
    ],
)
@pytest.mark.parametrize("name", NETS)
def test_equal_and_scaled_copies_go_where_activations_are_homogeneous(name, activation, factors, calibrated):
    net = NETS[name]() if name in ("resnet18", "preactivation", "densenet") else NETS[name](activation)
    wide = widened(net, factors=factors, seed=2)
    calibration = more(net.example) if calibrated else None
    reduced = condense(wide, net.example, threshold=1.0, calibration=calibration)
    assert shapes(reduced) == shapes(net.model) != shapes(wide)
    assert_allclose(output(reduced, net.example), output(wide, net.example), **EXACT)
    assert_allclose(output(reduced, net.example), output(net.model, net.example), **EXACT)


def test_copies_of_channels_go_from_mobilenet_v2_and_the_output_stays():
    net = mobilenet_v2()
    wide = widened(net, copies=0.1)
    reduced = condense(wide, net.example, threshold=1.0)
    assert shapes(reduced) == shapes(net.model)
    assert_allclose(output(reduced, net.example), output(wide, net.example), **EXACT)
    assert output(wide, net.example).std(axis=0).max() > 1e-2  # the images make a difference


@pytest.mark.parametrize("activation", [nn.ReLU6, nn.GELU, nn.SiLU, nn.ELU, nn.Sigmoid])
@pytest.mark.parametrize("name", ["mlp", "vgg", "mobilenet", "unet", "grouped"])
def test_other_activations_lose_equal_copies_and_keep_scaled_ones(name, activation):
    net = NETS[name](activation)
    equal, scaled = widened(net), widened(net, factors=(0.3, 3.0))
    reduced = condense(equal, net.example, threshold=1.0)
    assert shapes(reduced) == shapes(net.model)
    assert_allclose(output(reduced, net.example), output(equal, net.example), **EXACT)
    kept = condense(scaled, net.example, threshold=1.0)
    assert_allclose(output(kept, net.example), output(scaled, net.example), **EXACT)
    layer = next(iter(net.makes))
    assert shapes(kept)[f"{layer}.weight"] == shapes(scaled)[f"{layer}.weight"]


def test_an_activation_that_works_in_place_does_not_hide_another_one_that_is_not_homogeneous():
    for other in (nn.Softplus(), nn.ELU()):
        model = randomised(nn.Sequential(nn.Linear(4, 6), nn.ReLU(inplace=True), other, nn.Linear(6, 2)))
        with torch.no_grad():
            model[0].weight[1], model[0].bias[1] = 3.0 * model[0].weight[0], 3.0 * model[0].bias[0]
        assert condense(model, torch.randn(3, 4), threshold=1.0)[0].out_features == 6


def test_copies_in_one_branch_of_a_skip_connection_are_not_merged_unless_they_are_in_the_other():
    net = resnet18()
    model = net.model
    repeat_channel(model.conv1, model.bn1)  # of the stem, not of what is added to it
    reduced = condense(model, net.example, threshold=1.0)
    assert shapes(reduced) == shapes(model)
    repeat_channel(*(module for block in model.layer1 for module in (block.conv2, block.bn2)))
    reduced = condense(model, net.example, threshold=1.0)
    assert reduced.conv1.out_channels == 3
    assert_allclose(output(reduced, net.example), output(model, net.example), **EXACT)


@pytest.mark.parametrize("same", ["filters", "expansions"])
def test_depthwise_channels_are_merged_only_if_both_filters_and_expansions_are_alike(same):
    net = mobilenet(nn.ReLU)
    expand, depthwise = net.model[1].conv[0], net.model[1].conv[1]
    repeat_channel(*(depthwise if same == "filters" else expand)[:2])
    reduced = condense(net.model, net.example, threshold=1.0)
    assert shapes(reduced) == shapes(net.model)


def test_every_group_keeps_as_many_channels_and_copies_where_it_has_fewer():
    torch.manual_seed(0)
    model = randomised(
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2), nn.ReLU(), nn.Conv2d(8, 2, 1))
    )
    with torch.no_grad():
        for layer, copies in ((model[0], ((1, 0), (2, 0), (5, 4))), (model[2], ((1, 0), (6, 4)))):
            for new, old in copies:
                layer.weight[new], layer.bias[new] = layer.weight[old], layer.bias[old]
    x = images(3)
    reduced = condense(model, x, threshold=1.0)
    assert (reduced[0].out_channels, reduced[2].in_channels, reduced[2].out_channels) == (6, 6, 6)
    assert_allclose(output(reduced, x), output(model, x), **EXACT)


def test_like_channels_of_different_groups_are_not_merged():
    model = randomised(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1, groups=2), nn.Conv2d(4, 2, 1)))
    with torch.no_grad():
        model[0].weight[2:], model[0].bias[2:] = model[0].weight[:2], model[0].bias[:2]
    assert shapes(condense(model, images(2), threshold=1.0)) == shapes(model)


class Twice(nn.Module):
    """The same channels twice in one concatenation, once behind an activation, and in front of a BatchNorm."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(12), nn.Conv2d(12, 4, 3)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        x = self.first(x)
        x = torch.cat(tensors=[x, torch.relu(x)], dim=1)
        return self.head(self.last(self.norm(x)).relu().mean((2, 3)))


def test_a_reader_may_read_a_space_twice():
    base = Net(
        randomised(Twice()),
        images(4),
        {"first": "a", "last": "b"},
        {"norm": [("a", 1), ("a", 1)], "last": [("a", 1), ("a", 1)], "head": [("b", 1)]},
    )
    wide = widened(base, factors=(0.5, 2.0))
    for calibration in (None, more(base.example)):
        reduced = condense(wide, base.example, threshold=1.0, calibration=calibration)
        assert shapes(reduced) == shapes(base.model)
        assert_allclose(output(reduced, base.example), output(wide, base.example), **EXACT)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Identity])
def test_places_of_a_channel_that_are_normalised_one_by_one_have_to_be_alike_too(activation):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), activation(), nn.Flatten(), nn.BatchNorm1d(16), nn.Linear(16, 2))
    net = Net(randomised(model), images(5, side=4), {"0": "a"}, {"3": [("a", 4)], "4": [("a", 4)]})
    wide = widened(net, factors=(0.5, 2.0))
    reduced = condense(wide, net.example, threshold=1.0)
    assert shapes(reduced) == shapes(model)
    assert_allclose(output(reduced, net.example), output(wide, net.example), **EXACT)
    with torch.no_grad():
        wide[3].bias += 0.1 * torch.randn(len(wide[3].bias), generator=torch.Generator().manual_seed(0))
    assert shapes(condense(wide, net.example, threshold=1.0)) == shapes(wide)


def test_what_folds_into_one_vector_but_differs_at_a_padded_border_is_not_merged():
    """The bias of a convolution counts less in a padded average, the shift behind it does not."""
    layers = nn.Conv2d(3, 4, 1), nn.AvgPool2d(3, 1, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)
    model = randomised(nn.Sequential(*layers))
    conv, norm = model[0], model[2]
    with torch.no_grad():
        conv.weight[1] = conv.weight[0]
        conv.bias[1] = conv.bias[0] + 1.0
        for tensor in (norm.weight, norm.running_var, norm.bias):
            tensor[1] = tensor[0]
        norm.running_mean[1] = norm.running_mean[0] + 1.0
    x = images(3)
    reduced = condense(model, x, threshold=1.0)
    assert_allclose(output(reduced, x), output(model, x), **EXACT)


@pytest.mark.parametrize("choice", ["folded", "forward"])
@pytest.mark.parametrize("bias", [0.0, 0.2])
def test_one_channel_stays_where_all_are_constant(choice, bias):
    model, x = randomised(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))), torch.randn(50, 4)
    nn.init.zeros_(model[0].weight)
    nn.init.constant_(model[0].bias, bias)
    reduced = condense(model, x[:3], threshold=0.5, choice=choice, calibration=x if choice == "forward" else None)
    assert reduced[0].out_features == 1
    assert_allclose(output(reduced, x), output(model, x), **EXACT)


class Both(nn.Module):
    """Two readers of the same channels, the second behind a ReLU."""

    def __init__(self):
        super().__init__()
        self.first, self.left, self.right = nn.Linear(4, 6), nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x):
        x = self.first(x)
        return torch.cat([self.left(x), self.right(torch.relu(x))], 1)


@pytest.mark.parametrize("is_seen", [False, True])
def test_a_channel_that_no_calibration_input_wakes_goes_unless_one_reader_sees_it(is_seen):
    model = randomised(Both() if is_seen else nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)))
    first = next(module for module in model.modules() if isinstance(module, nn.Linear))
    with torch.no_grad():
        first.bias[1] = -100.0
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    reduced = condense(model, x, threshold=1.0, calibration=x, choice="activations")
    assert next(m for m in reduced.modules() if isinstance(m, nn.Linear)).out_features == (6 if is_seen else 5)
    assert_allclose(output(reduced, x), output(model, x), **EXACT)


@pytest.mark.parametrize("refit", [False, True])
def test_channels_that_act_alike_on_calibration_inputs_are_merged(refit):
    net = mobilenet(nn.ReLU)
    wide = widened(net, factors=(0.3, 3.0))
    rule = {"choice": "activations", "calibration": more(net.example), "merge": "refit" if refit else "paper"}
    reduced = condense(wide, net.example, threshold=1.0, **rule)
    assert shapes(reduced) == shapes(condense(net.model, net.example, threshold=1.0, **rule))  # some are always zero
    assert_allclose(output(reduced, net.example), output(wide, net.example), **EXACT)


def test_only_the_layers_named_are_condensed():
    net = vgg()
    wide = widened(net)
    reduced = condense(wide, net.example, threshold=1.0, layers=["8"])
    assert reduced[8].out_features == 6
    assert (reduced[0].out_channels, reduced[3].out_channels) == (wide[0].out_channels, wide[3].out_channels)
    assert shapes(condense(wide, net.example, threshold=1.0, layers="8")) == shapes(reduced)
    assert shapes(condense(wide, net.example, threshold=1.0, layers=["4"]))["3.weight"] == shapes(net.model)[
        "3.weight"
    ][:1] + (wide[0].out_channels, 3, 3)


def test_double_precision_stays_and_is_exact_to_its_own_resolution():
    for net in (resnet18(), unet(nn.PReLU)):
        wide = widened(net).double()
        x = net.example.double()
        reduced = condense(wide, x, threshold=1.0, calibration=more(x, 20))
        assert {parameter.dtype for parameter in reduced.parameters()} == {torch.float64}
        assert_allclose(output(reduced, x), output(wide, x), rtol=1e-10, atol=1e-10)
        assert_allclose(output(condense(wide, x, threshold=1.0), x), output(wide, x), rtol=1e-10, atol=1e-10)


# ---- the result and what was given


def test_the_model_given_is_not_changed_and_shares_nothing_with_the_result():
    net = mobilenet()
    wide = widened(net)
    wide.train()
    wide[1].eval()
    wide[0][0].weight.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in wide.state_dict().items()}
    modes = {name: module.training for name, module in wide.named_modules()}
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in wide.modules()]
    random = torch.random.get_rng_state()
    rule = {"ratio": 0.7, "calibration": more(net.example, 20)}
    for choice in ("folded", "activations", "forward", "published"):
        layers = ["1.conv.0.0", "2.conv.0.0"] if choice == "published" else None
        reduced = condense(wide, net.example, choice=choice, layers=layers, **rule)
        assert all(torch.equal(before[name], tensor) for name, tensor in wide.state_dict().items())
        assert {name: module.training for name, module in wide.named_modules()} == modes
        assert {name: module.training for name, module in reduced.named_modules()} == modes
        assert [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in wide.modules()] == hooks
        assert [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in reduced.modules()] == hooks
        mine = {tensor.untyped_storage().data_ptr() for tensor in wide.state_dict().values()}
        assert not mine & {tensor.untyped_storage().data_ptr() for tensor in reduced.state_dict().values()}
        assert not reduced[0][0].weight.requires_grad and reduced[0][1].weight.requires_grad
        assert all(parameter.is_leaf for parameter in reduced.parameters())
    assert torch.equal(torch.random.get_rng_state(), random)


def test_the_same_request_gives_the_same_result_twice():
    net = resnet18()
    for choice in ("cosine", "folded", "activations", "forward"):
        one, two = (
            condense(net.model, net.example, ratio=0.6, choice=choice, calibration=more(net.example)) for _ in range(2)
        )
        assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


@pytest.mark.parametrize("name", NETS)
def test_a_condensed_network_saves_and_is_built_again_from_its_class_and_weights(name, tmp_path):
    net = NETS[name]()
    wide = widened(net)
    reduced = condense(wide, net.example, threshold=0.9)
    torch.save(reduced, tmp_path / "whole.pt")
    torch.save(reduced.state_dict(), tmp_path / "weights.pt")
    whole = torch.load(tmp_path / "whole.pt", weights_only=False)
    rebuilt = resize(copy.deepcopy(wide), torch.load(tmp_path / "weights.pt"))
    for other in (whole, rebuilt):
        assert repr(other) == repr(reduced)
        assert_allclose(output(other, net.example), output(reduced, net.example), rtol=0, atol=0)


def test_weights_of_another_network_are_refused():
    with pytest.raises(UsageError, match="weights are not of a Sequential") as caught:
        resize(mlp().model, vgg().model.state_dict())
    assert len(str(caught.value).splitlines()) <= 3
    pairs = nn.Sequential(nn.Bilinear(5, 5, 4))
    with pytest.raises(UsageError, match=r"0 \(Bilinear\) cannot take on weights of shape \(3, 5, 5\)"):
        resize(pairs, nn.Sequential(nn.Bilinear(5, 5, 3)).state_dict())


class Versioned(nn.Sequential):
    """A class that reads weights by the version that they were written with, as MNASNet of torchvision does."""

    _version = 2

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *rest):
        if local_metadata.get("version") not in (1, 2):
            raise ValueError(f"version should be set to 1 or 2 instead of {local_metadata.get('version')}")
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)


@pytest.mark.parametrize("kept", [lambda weights: weights, dict])
def test_a_class_that_asks_for_the_version_of_its_weights_is_built_again(kept):
    model, x = Versioned(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2)), torch.randn(5, 3)
    reduced = condense(model, x, widths={"0": 5})
    again = resize(copy.deepcopy(model), kept(reduced.state_dict()))
    assert reduced[0].out_features == 5
    assert_allclose(output(again, x), output(reduced, x), rtol=0, atol=0)


def test_a_normalisation_without_affine_parameters_is_built_again():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6, affine=False), nn.ReLU(), nn.Linear(6, 2)).eval()
    reduced = condense(model, torch.randn(3, 4), threshold=0.3)
    rebuilt = resize(copy.deepcopy(model), reduced.state_dict())
    assert rebuilt[1].num_features == reduced[1].num_features == len(reduced[1].running_mean) < 6


@pytest.mark.parametrize("name", NETS)
def test_a_condensed_network_exports_to_onnx(name, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    net = NETS[name]()
    reduced = condense(widened(net), net.example, threshold=0.95)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the exporter that needs no other package
        torch.onnx.export(reduced, (net.example,), str(tmp_path / "net.onnx"), dynamo=False, input_names=["x"])
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"x": net.example.numpy()})
    assert_allclose(got, output(reduced, net.example), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETS)
def test_a_condensed_network_can_be_trained_on(name):
    net = NETS[name]()
    reduced = condense(widened(net), net.example, ratio=0.5).train()
    loss = reduced(more(net.example, 8)).square().mean()
    loss.backward()
    torch.optim.SGD(reduced.parameters(), lr=1e-3).step()
    assert all(torch.isfinite(parameter.grad).all() for parameter in reduced.parameters())
    assert torch.isfinite(reduced(more(net.example, 8))).all()


def test_the_memory_format_of_images_stays():
    net = resnet18()
    wide = widened(net).to(memory_format=torch.channels_last)
    reduced = condense(wide, net.example, threshold=0.9)
    weights = [m.weight for m in reduced.modules() if isinstance(m, nn.Conv2d)]
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)
    plain = condense(widened(net), net.example, threshold=0.9)
    assert all(m.weight.is_contiguous() for m in plain.modules() if isinstance(m, nn.Conv2d))
    assert_allclose(output(reduced, net.example), output(plain, net.example), **EXACT)


# ---- as small as asked for


@pytest.mark.parametrize("choice", ["folded", "activations", "forward"])
@pytest.mark.parametrize("name", NETS)
def test_a_ratio_is_kept_and_used_up(name, choice):
    net = NETS[name]()
    wide = widened(net, copies=3.0)
    for ratio in (0.8, 0.35):
        rule = {"choice": choice, "calibration": more(net.example), "merge": "paper" if choice == "folded" else "refit"}
        reduced = condense(wide, net.example, ratio=ratio, **rule)
        left = count(reduced) / count(wide)
        assert ratio - 0.08 < left <= ratio
        channels = Channels(copy.deepcopy(reduced), net.example)
        assert Sizes(reduced, channels).total() == count(reduced)


@pytest.mark.parametrize("choice", ["folded", "forward"])
@pytest.mark.parametrize("name", ["resnet18", "mobilenet", "grouped"])
def test_widths_are_rounded_up_but_not_beyond_the_layer(name, choice):
    net = NETS[name]()
    wide = widened(net, copies=4.0)
    calibration = more(net.example) if choice == "forward" else None
    reduced = condense(wide, net.example, ratio=0.6, round_to=4, choice=choice, calibration=calibration)
    full = {n: m.out_channels for n, m in wide.named_modules() if n in net.makes}
    left = {n: m.out_channels for n, m in reduced.named_modules() if n in net.makes}
    assert all(width % 4 == 0 or width == full[n] for n, width in left.items())
    assert any(width < full[n] for n, width in left.items())
    assert count(reduced) <= 0.6 * count(wide)


def test_the_sizes_of_other_widths_are_those_of_the_network_that_has_them():
    for name, function in NETS.items():
        net = function()
        wide = widened(net)
        channels = Channels(wide, net.example)
        sizes = Sizes(wide, channels)
        assert sizes.total() == count(wide), name
        modules = dict(net.model.named_modules())
        makers = {space: modules[space.layers[0]] for space in channels.spaces if not space.reason}
        widths = {
            space: maker.out_features if isinstance(maker, nn.Linear) else maker.out_channels
            for space, maker in makers.items()
        }
        assert sizes.total(widths) == count(net.model), name


def test_a_ratio_of_one_changes_nothing():
    net = unet()
    for choice in ("folded", "forward"):
        reduced = condense(net.model, net.example, ratio=1.0, choice=choice, calibration=more(net.example))
        assert shapes(reduced) == shapes(net.model)


# ---- what calibration inputs mend


@pytest.mark.parametrize("name", NETS)
def test_a_refit_lowers_the_error_of_the_outputs_on_inputs_it_has_not_seen(name):
    net = NETS[name]()
    wide = widened(net, copies=1.0, seed=8)
    with torch.no_grad():
        for parameter in wide.parameters():  # so that copies are not quite alike
            parameter += (
                0.1 * parameter.std() * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
            )
    rule = {"calibration": more(net.example, 200), "ratio": 0.45}
    published, mended = (
        condense(wide, net.example, merge="refit" if refit else "paper", **rule) for refit in (False, True)
    )
    unseen = more(net.example, 100, seed=9)
    assert count(published) == count(mended)
    assert error(wide, mended, unseen) < error(wide, published, unseen)


def rank_deficient(bias):
    """Twelve channels that are combinations of three and a constant, in front of readers without padding."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 12, 1), nn.Conv2d(12, 5, 3, bias=bias))
    if not bias:
        model.append(nn.BatchNorm2d(5))
    model.extend([nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 2)])
    return randomised(model, seed=3)


@pytest.mark.parametrize("bias", [True, False])
def test_forward_finds_the_channels_of_which_the_others_are_combinations_and_a_constant(bias):
    model, x = rank_deficient(bias), images(40)
    full = count(model)
    ratio = (full - 9 * (4 + 5 * 9)) / full
    rule = {"layers": ["0"], "choice": "forward", "calibration": x, "ridge": 1e-10}
    reduced = condense(model, x[:2], ratio=ratio, **rule)
    assert reduced[0].out_channels == 3
    unseen = images(30, seed=8)
    assert_allclose(output(reduced, unseen), output(model, unseen), rtol=1e-4, atol=1e-4)


def test_forward_recovers_a_grouped_reader_and_a_flattened_one():
    torch.manual_seed(0)
    model = randomised(
        nn.Sequential(
            nn.Conv2d(2, 12, 1), nn.Conv2d(12, 6, 3, groups=2), nn.Conv2d(6, 8, 1), nn.Flatten(), nn.Linear(32, 3)
        )
    )
    x = images(60, channels=2, side=4)
    widths = ((0, 4), (2, 6))
    ratio = 1.0 - (8 * (3 + 3 * 9) + 2 * (7 + 4 * 3)) / count(model)
    reduced = condense(model, x[:2], ratio=ratio, layers=["0", "2"], choice="forward", calibration=x, ridge=1e-10)
    assert tuple((layer, reduced[layer].out_channels) for layer, _ in widths) == widths
    unseen = images(30, channels=2, side=4, seed=8)
    assert_allclose(output(reduced, unseen), output(model, unseen), rtol=1e-4, atol=1e-4)


def test_the_groups_of_a_reader_are_explained_each_by_its_own_channels():
    net, x = grouped(), images(60)
    curves = []

    def watched(view):
        found = forward(view)
        curves.append((view.space.blocks, view.width, found.left()))
        return found

    condense(net.model, net.example, ratio=1.0, choice=watched, calibration=x)
    assert len(curves) == 3
    for blocks, width, left in curves:
        assert blocks > 1 and len(left) == width + 1
        assert_allclose(left[[0, -1]], [1.0, 0.0], rtol=0, atol=1e-3)


def test_a_constant_is_not_put_into_the_bias_of_a_padded_or_transposed_reader():
    """A channel that is a constant apart from another one: a reader can make up for it that sees it everywhere."""
    x = images(50)
    for reader, is_exact in (
        (nn.Conv2d(4, 5, 3), True),
        (nn.Conv2d(4, 5, 3, padding=1), False),
        (nn.Conv2d(4, 5, 3, padding="same"), False),
        (nn.Conv2d(4, 5, 3, padding=1, padding_mode="reflect"), True),
        (nn.ConvTranspose2d(4, 5, 3, stride=2), False),
    ):
        model = randomised(nn.Sequential(nn.Conv2d(3, 4, 1), reader, nn.ReLU(), nn.Conv2d(5, 2, 1)))
        with torch.no_grad():
            model[0].weight[1] = model[0].weight[0]
            model[0].bias[1] = model[0].bias[0] + 2.0
        ratio = (count(model) - 1) / count(model)
        reduced = condense(model, x, ratio=ratio, layers=["0"], choice="forward", calibration=x, ridge=1e-10)
        assert (error(model, reduced, images(20, seed=7)) < 1e-9) == is_exact
        # a constant is worse than none at a border: the refit of the others must not be far from the best
        assert error(model, reduced, images(20, seed=7)) < 0.3 * float(output(model, x).var())


class Normalised(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.second = nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6), nn.Conv2d(6, 5, 3)
        self.other, self.head = nn.BatchNorm2d(5), nn.Conv2d(5, 2, 1)

    def forward(self, x):
        return self.head(self.other(self.second(self.norm(self.first(x)).relu())).relu())


def test_the_statistics_of_normalisations_move_by_what_their_inputs_do():
    """By hand: the only normalisation that sees a change is the second one."""
    model, x = randomised(Normalised()), images(250)
    rule = {"layers": ["first"], "threshold": 0.1, "calibration": x, "merge": "paper"}
    reduced = condense(model, x[:2], **rule)
    kept = [k for k in range(6) for row in reduced.first.weight if torch.equal(model.first.weight[k], row)]
    assert 0 < len(kept) < 6
    assert_allclose(reduced.norm.running_mean, model.norm.running_mean[kept], rtol=1e-5, atol=1e-6)
    assert_allclose(reduced.norm.running_var, model.norm.running_var[kept], rtol=1e-5, atol=1e-6)

    def received(one):
        with torch.no_grad():
            return one.second(one.norm(one.first(x)).relu()).double()

    before, now = received(model), received(reduced)
    mean = model.other.running_mean + now.mean((0, 2, 3)) - before.mean((0, 2, 3))
    variance = model.other.running_var * now.var((0, 2, 3)) / before.var((0, 2, 3))
    assert (mean - model.other.running_mean).abs().max() > 0.01
    assert_allclose(reduced.other.running_mean, mean, rtol=1e-4, atol=3e-4)
    assert_allclose(reduced.other.running_var, variance, rtol=1e-3, atol=1e-4)


def makers_of(net):
    """The first layer of every space."""
    return {space: name for name, space in reversed(net.makes.items())}.values()


def estimate(model, x):
    """Statistics of all normalisations, estimated anew on x in one block, by torch itself."""
    for module in model.modules():
        if isinstance(module, NORMALISATIONS):
            module.reset_running_stats()
            module.momentum = None
    model.train()
    with torch.no_grad():
        model(x)
    return model.eval()


@pytest.mark.parametrize("name", ["resnet18", "preactivation", "mobilenet"])
def test_statistics_end_at_those_of_a_fresh_estimate(name):
    net = NETS[name]()
    x = more(net.example, 64)
    model = estimate(net.model, x)
    reduced = condense(model, net.example, ratio=0.7, calibration=x)
    fresh = estimate(copy.deepcopy(reduced), x)
    widths = {name: len(reduced.get_submodule(name).weight) for name in makers_of(net)}
    stale = condense(model, net.example, widths=widths).state_dict()
    moved = 0.0
    for (key, got), expected in zip(reduced.state_dict().items(), fresh.state_dict().values(), strict=True):
        if "running" in key:  # torch normalises by another variance than it keeps, of n - 1 values
            assert_allclose(got, expected, rtol=2e-2, atol=1e-2)
            moved = max(moved, float((stale[key] - expected).abs().max()))
    assert moved > 0.1


def test_any_number_of_calibration_inputs_from_two_on_will_do():
    net = mlp()
    wide = widened(net)
    for n in (2, 100, 101, 201):
        reduced = condense(wide, net.example, threshold=1.0, calibration=more(net.example, n))
        assert_allclose(output(reduced, net.example), output(wide, net.example), **EXACT)


# ---- bad input


class Failing(nn.Module):
    def forward(self, x):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give one of threshold, ratio, widths and loss_increase"),
        ({"threshold": 0.9, "ratio": 0.5}, "give one of threshold, ratio, widths and loss_increase"),
        ({"threshold": 1.1}, "threshold 1.1: expected a number in"),
        ({"threshold": 0.0}, "threshold 0.0"),
        ({"ratio": -0.5}, "ratio -0.5"),
        ({"ratio": float("nan")}, "ratio nan"),
        ({"ratio": 0.001}, "no less than 0.[0-9]+ of the parameters"),
        ({"ratio": 0.5, "choice": "forward"}, "needs calibration"),
        ({"ratio": 0.5, "choice": "activations"}, "needs calibration"),
        ({"ratio": 0.5, "choice": "forward", "calibration": torch.zeros(4, 5), "merge": "paper"}, "refit"),
        ({"ratio": 0.5, "choice": "magic"}, "choice magic: choose one of cosine, folded, .*forward"),
        ({"ratio": 0.5, "merge": "mean"}, "merge mean: choose one of paper, refit"),
        ({"ratio": 0.5, "merge": "refit"}, "merge refit needs calibration inputs"),
        ({"ratio": 0.5, "round_to": 0}, "round_to"),
        ({"ratio": 0.5, "choice": "qr", "calibration": torch.ones(4, 5)}, "choice qr needs widths or a loss_increase"),
        ({"threshold": 0.9, "choice": "qr", "calibration": torch.ones(4, 5)}, "choice qr needs widths"),
        ({"widths": 2, "choice": "qr", "calibration": torch.ones(4, 5), "merge": "paper"}, "use merge: refit"),
        ({"widths": 0}, "widths 0: expected a whole number"),
        ({"widths": {"0": 99}}, "layer 0: width 99 of [0-9]+ neurons"),
        ({"widths": {"0": 3}, "round_to": 2}, "layer 0: width 3 is no multiple of 2"),
        ({"widths": {"0": 2}, "threshold": {"0": 0.9}}, "layer 0 is named more than once"),
        ({"widths": {"0": 2}, "ratio": 0.9}, "give one of"),
        ({"widths": {"0": 2}, "layers": "0"}, "the mapping names them already"),
        ({"loss_increase": 0.1}, "needs the loss, a function of a network"),
        ({"loss_increase": -0.1, "loss": count}, "loss_increase -0.1: expected a number from 0 on"),
        ({"threshold": 0.9, "layers": ["9"]}, "no layer '9'.* nearest are .*"),
        ({"threshold": 0.9, "layers": ["7"]}, "7 cannot be condensed: it is an output of the model"),
        ({"threshold": 0.9, "choice": "published", "layers": ["0"]}, "0 cannot be condensed: the published rule"),
        ({"threshold": 0.9, "calibration": torch.zeros(4, 6)}, r"does not take calibration inputs of shape \(4, 6\)"),
        ({"threshold": 0.9, "calibration": torch.zeros(1, 5)}, "at least two inputs"),
    ],
)
def test_a_wrong_request_says_what_is_wrong(options, message):
    net = mlp()
    with pytest.raises(UsageError, match=message) as caught:
        condense(net.model, net.example, **options)
    assert len(str(caught.value).splitlines()) <= 3
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Failing(), r"\(9, 5\)\nNotImplementedError\nline \d+ of test_condenser.py, `raise NotImplementedError`"),
        (nn.Sequential(nn.Linear(4, 3)), r"does not take an example input of shape \(9, 5\)"),
    ],
)
def test_a_model_that_does_not_run_is_named_with_the_line(model, message, capfd):
    with pytest.raises(UsageError, match=message) as caught:
        condense(model, mlp().example, threshold=0.9)
    assert len(str(caught.value).splitlines()) <= 3
    assert model.training
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("where", ["7.weight", "0.weight", "1.running_var", "6.bias"])
def test_weights_that_are_not_finite_are_refused(where):
    net = mlp()
    net.model.state_dict()[where].view(-1)[0] = torch.nan
    with pytest.raises(NumericalError, match=f"{where[2:]} of {where[0]} is not all finite"):
        condense(net.model, net.example, threshold=0.9)


def test_activations_that_are_not_finite_are_refused():
    net = mlp()
    with pytest.raises(NumericalError, match="the input of . for the calibration inputs is not all finite"):
        condense(net.model, net.example, threshold=0.9, calibration=torch.full((4, 5), torch.inf))


def test_what_cannot_be_condensed_is_copied_as_it_is():
    model = randomised(nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.ReLU(), nn.Linear(6, 2)))
    x = torch.randn(3, 4)
    reduced = condense(model, x, threshold=0.1)
    assert shapes(reduced) == shapes(model)
    assert_allclose(output(reduced, x), output(model, x), rtol=0, atol=0)
    with pytest.raises(UsageError, match="no less than 1 of the parameters"):
        condense(model, x, ratio=0.5)


def test_groups_and_other_options_together_stay_exact():
    net = grouped()
    wide = widened(net, copies=2.0)
    reduced = condense(wide, net.example, threshold=1.0, round_to=4, calibration=more(net.example))
    assert_allclose(output(reduced, net.example), output(wide, net.example), **EXACT)
    assert reduced[0].out_channels == 4 and reduced[2].out_channels == 12


def test_a_block_with_its_activations_as_layers_of_a_sequential_is_traced():
    model = randomised(nn.Sequential(conv_bn(3, 4, nn.ReLU6), nn.Conv2d(4, 2, 1)))
    assert condense(model, images(2), ratio=0.8)[0][0].out_channels < 4


@pytest.mark.parametrize("threshold", [0.9, 0.99, 0.9999])
def test_forward_at_a_threshold_keeps_the_fewest_channels_whose_cosine_reaches_it(threshold):
    """The oracle chooses greedily and fits anew by lstsq, for the one reader of the first layer."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 5)).double().eval()
    x = torch.randn(400, 6, dtype=torch.float64)
    smaller = condense(model, x[:1], threshold=threshold, calibration=x, choice="forward", ridge=1e-10)
    columns = model[:2](x).detach().numpy()
    target = columns @ model[2].weight.detach().numpy().T
    columns, target = columns - columns.mean(0), target - target.mean(0)
    chosen: list[int] = []
    cosine = 0.0
    while cosine < threshold:
        fits = {}
        for k in set(range(24)) - set(chosen):
            part = columns[:, [*chosen, k]]
            fits[k] = np.linalg.norm(part @ np.linalg.lstsq(part, target, rcond=None)[0]) / np.linalg.norm(target)
        chosen.append(max(fits, key=fits.__getitem__))
        cosine = fits[chosen[-1]]
    assert smaller[0].out_features == len(chosen)
