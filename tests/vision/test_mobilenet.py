"""MobileNetV2: the published network with torchvision's names, for small images too."""

import pytest
import torch

from chemnet.runtime.errors import UsageError
from chemnet.vision.mobilenet import LAST_LAYER, MobileNetV2, hidden_layers
from chemnet.vision.networks import count

DOWNSAMPLINGS = (32, 16, 8, 4)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return MobileNetV2(10, downsampling=16).eval()


def some_images(n=2, side=32):
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(1))


def test_the_number_of_parameters_is_that_of_the_published_network():
    assert [count(MobileNetV2(classes)) for classes in (10, 1000)] == [2_236_682, 3_504_872]


def test_the_names_and_shapes_of_weights_are_those_of_torchvision(network):
    """52 convolutions, as many normalisations of five tensors each, and a linear layer."""
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    expected = {
        "features.0.0.weight": (32, 3, 3, 3),
        "features.0.1.running_var": (32,),
        "features.0.1.num_batches_tracked": (),
        "features.1.conv.0.0.weight": (32, 1, 3, 3),
        "features.1.conv.1.weight": (16, 32, 1, 1),
        "features.1.conv.2.running_mean": (16,),
        "features.2.conv.0.0.weight": (96, 16, 1, 1),
        "features.2.conv.1.0.weight": (96, 1, 3, 3),
        "features.2.conv.2.weight": (24, 96, 1, 1),
        "features.17.conv.0.1.bias": (960,),
        "features.17.conv.3.bias": (320,),
        "features.18.0.weight": (1280, 320, 1, 1),
        "classifier.1.weight": (10, 1280),
        "classifier.1.bias": (10,),
    }
    assert {name: shapes.get(name) for name in expected} == expected
    assert len(shapes) == 52 + 5 * 52 + 2 == 314


def test_strides_that_a_downsampling_leaves_out_are_the_first_ones():
    strided = {
        downsampling: [
            name
            for name, module in MobileNetV2(10, downsampling=downsampling).named_modules()
            if isinstance(module, torch.nn.Conv2d) and module.stride == (2, 2)
        ]
        for downsampling in DOWNSAMPLINGS
    }
    published = ["features.0.0", *(f"features.{block}.conv.1.0" for block in (2, 4, 7, 14))]
    assert strided == {32: published, 16: published[1:], 8: published[2:], 4: published[3:]}


@pytest.mark.parametrize("downsampling", DOWNSAMPLINGS)
def test_downsampling_is_the_ratio_of_the_sides_of_image_and_last_feature_map_and_takes_the_same_weights(
    network, downsampling
):
    other = MobileNetV2(10, downsampling=downsampling).eval()
    other.load_state_dict(network.state_dict())
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in other.state_dict().items())
    with torch.no_grad():
        assert other.features(some_images()).shape == (2, 1280, 32 // downsampling, 32 // downsampling)
        first, second = network(some_images()), other(some_images())
    assert second.shape == (2, 10) and torch.equal(first, second) == (downsampling == 16)


@pytest.mark.parametrize("downsampling", [0, 1, 2, 5, 64, -16])
def test_an_unknown_downsampling_is_a_usage_error(downsampling):
    with pytest.raises(UsageError, match=f"downsampling {downsampling}: choose 4, 8, 16 or 32"):
        MobileNetV2(10, downsampling=downsampling)


@pytest.mark.parametrize("downsampling", DOWNSAMPLINGS)
def test_blocks_with_a_skip_are_those_of_stride_1_and_equal_channels(downsampling):
    """Where the last normalisation is zero, such a block returns what it was given, any other one zeros."""
    network = MobileNetV2(10, downsampling=downsampling).eval()
    returned = set()
    for number in range(1, 18):
        block = network.features[number]
        torch.nn.init.zeros_(block.conv[-1].weight)
        x = torch.rand(1, next(block.parameters()).shape[1] if number > 1 else 32, 6, 6)
        with torch.no_grad():
            y = block(x)
        assert (y.shape == x.shape and torch.equal(y, x)) or not y.any()
        if y.any():
            returned.add(number)
    assert returned == {3, 5, 6, 8, 9, 10, 12, 13, 15, 16}


def test_a_network_is_convolutions_normalisations_and_relu6_in_the_order_of_the_paper(network):
    """The value of one block, written out with functions: expansion, depthwise filter, linear projection, skip."""
    block, f = network.features[3], torch.nn.functional
    x = 10.0 * torch.randn(2, 24, 8, 8, generator=torch.Generator().manual_seed(2))  # beyond the 6 of ReLU6
    with torch.no_grad():
        for norm in (block.conv[0][1], block.conv[1][1], block.conv[3]):
            norm.running_mean.normal_(generator=torch.Generator().manual_seed(3))
            norm.running_var.uniform_(0.5, 2.0, generator=torch.Generator().manual_seed(4))

        def normal(y, norm):
            return f.batch_norm(y, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=1e-5)

        y = normal(f.conv2d(x, block.conv[0][0].weight), block.conv[0][1]).clamp(0, 6)
        y = normal(f.conv2d(y, block.conv[1][0].weight, padding=1, groups=144), block.conv[1][1]).clamp(0, 6)
        y = normal(f.conv2d(y, block.conv[2].weight), block.conv[3])
        torch.testing.assert_close(block(x), x + y, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "dimensions"),
    [
        ("features.18.0.weight", 320 + 1280),
        ("features.17.conv.0.0.weight", 160 + 960),
        ("features.17.conv.2.weight", 960 + 320),
        ("features.17.conv.1.0.weight", 9 + 9),
        ("classifier.1.weight", 1280 + 10),
    ],
)
def test_the_initialisation_of_the_paper_is_the_gaussian_of_eq_20(name, dimensions):
    """N(0, var), var = ((m_in + m_out) / 2)^-2, with the fans of a convolution as m."""
    torch.manual_seed(0)
    weight = MobileNetV2(10, initialisation="paper").get_parameter(name).detach()
    std = 2.0 / dimensions
    assert float(weight.std()) == pytest.approx(std, rel=0.05, abs=0.0)
    assert abs(float(weight.mean())) < 4.0 * std / weight.numel() ** 0.5
    within = float((weight.abs() < std).float().mean())
    assert within == pytest.approx(0.6827, rel=0.0, abs=0.02)


def test_the_default_initialisation_is_that_of_torchvision():
    """Kaiming by fan-out for convolutions, a standard deviation of 0.01 for the linear layer, zeros for its bias."""
    torch.manual_seed(0)
    network = MobileNetV2(10)
    expected = {
        "features.18.0.weight": (2 / 1280) ** 0.5,
        "features.17.conv.0.0.weight": (2 / 960) ** 0.5,
        "classifier.1.weight": 0.01,
    }
    found = {name: float(network.get_parameter(name).detach().std()) for name in expected}
    assert found == pytest.approx(expected, rel=0.05, abs=0.0)
    assert not network.get_parameter("classifier.1.bias").any()


def test_hidden_layers_are_the_depthwise_convolutions_of_the_blocks_with_expansion(network):
    """Table 2 of the paper on condensation begins with 96 channels: the block without expansion is not in it."""
    layers = hidden_layers()
    assert list(layers) == [f"layer {number}" for number in range(2, 18)]
    modules = [network.get_submodule(name) for name in layers.values()]
    for module in modules:
        assert isinstance(module, torch.nn.Conv2d) and module.kernel_size == (3, 3)
        assert module.groups == module.in_channels == module.out_channels
    channels = [96, 144, 144, *[192] * 3, *[384] * 4, *[576] * 3, *[960] * 3]
    assert [module.out_channels for module in modules] == channels
    (last,) = LAST_LAYER.values()
    assert network.get_submodule(last).out_channels == 1280
