"""Networks of the configs: residual and plain ones and a transformer against papers and torch, and configs of each."""

import copy
import dataclasses
import typing
from pathlib import Path

import pytest
import torch
from tiny_images import CONFIG, write_images
from torch import nn

from chemnet.condensation import condense
from chemnet.condensation.channels import Channels
from chemnet.runtime.errors import UsageError
from chemnet.training.checkpoint import read_checkpoint, write_checkpoint
from chemnet.vision import VGG, ResNet, VisionTransformer, load_classifier, read_images
from chemnet.vision.config import load_config
from chemnet.vision.networks import FIXED_DOWNSAMPLING, NetworkName, build, count, hidden_layers
from chemnet.vision.reduction import CondensingTraining
from chemnet.vision.resnet import BasicBlock
from chemnet.vision.training import network_of, train
from chemnet.vision.vit import TransformerBlock

NAMES = typing.get_args(NetworkName)
OTHERS = [name for name in NAMES if name != "mobilenet_v2"]
CONFIGS = Path(load_config.__code__.co_filename).parent / "configs"
SILENT = {"report": lambda line: None, "device": "cpu"}


def some_images(n=2):
    return torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def drawn(name):
    """A network whose normalisations are not all alike, in use."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build(name, 10, downsampling=FIXED_DOWNSAMPLING[name])
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0.2, 0.3)
                nn.init.normal_(module.running_mean, 0.0, 0.3)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.eval()


def test_the_parameters_of_residual_networks_are_those_of_the_paper_and_of_the_shortcuts():
    """He et al., table 6: 0.27 and 0.85 million without the convolutions in two shortcuts of option B."""
    shortcuts = 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64
    blocks = {20: 3, 56: 9}
    for depth, n in blocks.items():
        layers = [3 * 16 * 9] + 2 * n * [16 * 16 * 9] + [16 * 32 * 9] + (2 * n - 1) * [32 * 32 * 9]
        layers += [32 * 64 * 9] + (2 * n - 1) * [64 * 64 * 9]
        norms = 2 * (16 * (2 * n + 1) + 2 * n * 32 + 2 * n * 64)
        assert count(ResNet(depth=depth)) == sum(layers) + norms + shortcuts + 650
    assert [count(ResNet(depth=depth)) for depth in blocks] == [272_474, 855_770]


@pytest.mark.parametrize("depth", [2, 18, 21, -4])
def test_a_residual_network_of_a_depth_that_is_none_is_refused(depth):
    with pytest.raises(UsageError, match=f"depth {depth}: choose 6 n"):
        ResNet(depth=depth)


def normal(y, norm):
    return nn.functional.batch_norm(y, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=1e-5)


def test_blocks_of_a_residual_network_are_two_convolutions_and_a_shortcut():
    """Section 3: y = relu(F(x) + W_s x), the shortcut an identity where shapes allow."""
    network, f = drawn("resnet20"), nn.functional
    for block, channels in ((network.layer1[1], 16), (network.layer2[0], 16)):
        x = torch.randn(2, channels, 8, 8, generator=torch.Generator().manual_seed(2))
        with torch.no_grad():
            stride = 1 if block.downsample is None else 2
            y = f.relu(normal(f.conv2d(x, block.conv1.weight, stride=stride, padding=1), block.bn1))
            y = normal(f.conv2d(y, block.conv2.weight, padding=1), block.bn2)
            beside = x
            if block.downsample is not None:
                beside = normal(f.conv2d(x, block.downsample[0].weight, stride=2), block.downsample[1])
            torch.testing.assert_close(block(x), f.relu(y + beside), rtol=1e-5, atol=1e-5)


def test_the_last_feature_map_of_a_residual_network_is_a_quarter_as_long():
    seen = []
    network = drawn("resnet20")
    network.layer3.register_forward_hook(lambda module, given, output: seen.append(tuple(output.shape)))
    assert network(some_images()).shape == (2, 10) and seen == [(2, 64, 8, 8)]
    assert sum(isinstance(module, BasicBlock) for module in network.modules()) == 9


def test_a_block_of_the_transformer_is_torchs_encoder_layer():
    torch.manual_seed(0)
    block = TransformerBlock(24, 3, 4).eval()
    layer = nn.TransformerEncoderLayer(24, 3, 96, 0.0, nn.functional.gelu, batch_first=True, norm_first=True).eval()
    attention, (first, _, last) = block.attention, block.feed_forward
    parts = [attention.query, attention.key, attention.value]
    with torch.no_grad():
        for linear in (*parts, attention.out, first, last):
            linear.bias.normal_()
        layer.self_attn.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        layer.self_attn.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        pairs = [(layer.self_attn.out_proj, attention.out), (layer.linear1, first), (layer.linear2, last)]
        for theirs, mine in [*pairs, (layer.norm1, block.norm1), (layer.norm2, block.norm2)]:
            theirs.load_state_dict(mine.state_dict())
        x = torch.randn(2, 5, 24)
        torch.testing.assert_close(block(x), layer(x), rtol=1e-5, atol=1e-5)


def test_a_transformer_sees_where_patches_are_and_nothing_across_images():
    network = drawn("vit")
    first, second = some_images(2).split(1)
    both = network(torch.cat([first, second]))
    torch.testing.assert_close(both, torch.cat([network(first), network(second)]), rtol=1e-4, atol=1e-5)
    assert (network(first) - network(first.roll(4, 3))).abs().max() > 1e-4
    assert count(network) == 1_205_642


def test_a_transformer_of_uneven_patches_or_heads_is_refused():
    for options in ({"side": 30}, {"heads": 5}):
        with pytest.raises(UsageError, match="whole patches"):
            VisionTransformer(**options)


def behind(layer):
    """The BatchNorm of a convolution: bn1 of conv1, or the next in a sequence; of other layers themselves."""
    *head, last = layer.split(".")
    return layer.replace("conv1", "bn1") if head[0] != "features" else f"features.{int(last) + 1}"


def test_the_plain_network_is_seven_convolutions_three_poolings_and_a_maximum():
    """Its layers one by one by torch's functions; 27 * 32 + 9 * (32 * 64 + 64 * 64 + 64 * 256 + 3 * 256 * 256) weights
    of the convolutions, two numbers of each of their 1,184 channels, and 2,570 of the last layer."""
    network, f = drawn("vgg8"), nn.functional
    x = y = some_images()
    for number, layer in enumerate(hidden_layers(network).values()):
        y = f.relu(
            normal(f.conv2d(y, network.get_submodule(layer).weight, padding=1), network.get_submodule(behind(layer)))
        )
        y = f.max_pool2d(y, 2) if number in (1, 3, 5) else y
    assert y.shape == (2, 256, 4, 4)
    with torch.no_grad():
        torch.testing.assert_close(network(x), network.classifier[1](y.amax((2, 3))), rtol=1e-5, atol=1e-5)
    convolutions = 27 * 32 + 9 * (32 * 64 + 64 * 64 + 64 * 256 + 3 * 256 * 256)
    assert count(VGG()) == convolutions + 2 * (32 + 64 + 64 + 4 * 256) + 2_570 == 1_978_026


@pytest.mark.parametrize("name", OTHERS)
def test_layers_inside_of_blocks_can_be_condensed_and_copies_in_them_go_without_a_trace(name):
    """The second half of the channels of every such layer repeats the first."""
    network = drawn(name)
    layers = hidden_layers(network)
    with torch.no_grad():
        for layer in layers.values():
            module, half = network.get_submodule(layer), len(network.get_submodule(layer).weight) // 2
            for each in {module, network.get_submodule(behind(layer))}:
                for tensor in (*each.parameters(), *each.buffers()):
                    if tensor.ndim:
                        tensor[half:] = tensor[:half]
    before = copy.deepcopy(network)
    smaller = condense(network, some_images(1), threshold=1.0, layers=list(layers.values()))
    for layer in layers.values():
        assert 2 * len(smaller.get_submodule(layer).weight) == len(network.get_submodule(layer).weight)
    with torch.no_grad():
        torch.testing.assert_close(smaller(some_images()), before(some_images()), rtol=1e-4, atol=1e-5)


def test_every_space_of_a_residual_network_can_be_condensed():
    spaces = Channels(ResNet(depth=20).eval(), some_images(1)).spaces
    assert [space.reason for space in spaces[:-1]] == [None] * (len(spaces) - 1)
    assert {space.width for space in spaces} == {16, 32, 64, 10}


def tiny(name, *changes):
    """The config that ships for a network, at the size of a test."""
    given = [f"network={name}", f"downsampling={FIXED_DOWNSAMPLING[name]}", *CONFIG[:3], *CONFIG[4:], *changes]
    return load_config("resnet20", given)


@pytest.mark.parametrize("name", ["resnet20", "vgg8", "vit"])
def test_a_network_is_trained_and_comes_back_with_its_name(name, tmp_path):
    data = write_images(tmp_path / "images.npz")
    folder = train(tiny(name, "steps=1"), data, out=tmp_path / "run", **SILENT)
    classifier = load_classifier(folder)
    assert classifier.kind == name
    assert type(classifier.network) is type(build(name, 3, downsampling=FIXED_DOWNSAMPLING[name]))
    smaller = condense(classifier.network, some_images(1), ratio=0.9)
    dataclasses.replace(classifier, network=smaller).save(tmp_path / "smaller.pt")
    assert count(load_classifier(tmp_path / "smaller.pt").network) == count(smaller) < count(classifier.network)


def test_a_file_that_names_no_network_holds_mobilenet(tmp_path):
    data = write_images(tmp_path / "images.npz")
    folder = train(load_config("short", [*CONFIG, "steps=1"]), data, out=tmp_path / "run", **SILENT)
    content = read_checkpoint(folder / "classifier.pt")
    del content["kind"]
    write_checkpoint(tmp_path / "old.pt", content)
    assert load_classifier(tmp_path / "old.pt").fingerprint() == load_classifier(folder).fingerprint()


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_config_that_ships_builds_its_network_and_is_called_as_its_file(path):
    config = load_config(path.stem)
    assert config.name == path.stem and config.options(45_000).steps > 0
    assert network_of(config, 10, 0).eval()(some_images()).shape == (2, 10)


def test_precision_reaches_the_training():
    assert load_config("short", ["precision=bf16"]).options(45_000).precision == "bf16"


@pytest.mark.parametrize("options", [{"downsampling": 16}, {"downsampling": 4, "initialisation": "paper"}])
def test_what_a_network_does_not_have_is_refused(options):
    with pytest.raises(UsageError, match="resnet20 has downsampling 4 and initialisation default"):
        build("resnet20", 10, **options)
    with pytest.raises(UsageError, match="no network lenet: choose mobilenet_v2, resnet20"):
        build("lenet", 10, **options)


def test_layers_of_a_residual_network_are_its_blocks_in_an_automatic_reduction(tmp_path):
    data = write_images(tmp_path / "images.npz")
    options = tiny("resnet20", "steps=1")
    loop = CondensingTraining(network_of(options, 3, 0), read_images(data), options)
    assert loop.layers() == [f"block {number}" for number in range(1, 10)]
    assert loop.parameters("block 1") == 2 * 16 * 16 * 9 + 4 * 16
    before = loop.parameters()
    loop.condense("block 9", 0.05)
    assert loop.parameters() < before
