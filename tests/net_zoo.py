"""Small networks of every kind that is condensed, and how to give them channels that are not needed.

A `Net` says which modules make the channels of a space and which read them, independently of the code under test.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn import functional as F

from chemnet.vision.mobilenet import MobileNetV2

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMALISATIONS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass
class Net:
    """`makes`: module -> the space of its outputs; `reads`: module -> (space, columns of a channel) of its inputs, of
    BatchNorms and depthwise convolutions, too. `blocks`: space -> groups that are not mixed."""

    model: nn.Module
    example: torch.Tensor
    makes: dict[str, str]
    reads: dict[str, list[tuple[str, int]]]
    blocks: dict[str, int] = field(default_factory=dict)


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """In use, with weights, affine parameters and statistics that are all different."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, NORMALISATIONS):
            values = {
                "running_mean": 0.3 * torch.randn(module.num_features, generator=generator),
                "running_var": 0.5 + torch.rand(module.num_features, generator=generator),
                "weight": 0.7 + 0.6 * torch.rand(module.num_features, generator=generator),
                "bias": 0.5 * torch.randn(module.num_features, generator=generator),
            }
            values["weight"][0] *= -1.0
            with torch.no_grad():
                for key, value in values.items():
                    if getattr(module, key) is not None:
                        getattr(module, key).copy_(value)
        elif isinstance(module, (*CONVOLUTIONS, nn.ConvTranspose2d, nn.Linear)):
            fan = module.weight[0].numel()
            with torch.no_grad():
                module.weight.copy_(torch.randn(module.weight.shape, generator=generator) * (1.5 / fan) ** 0.5)
                if module.bias is not None:
                    module.bias.copy_(0.3 * torch.randn(module.bias.shape, generator=generator))
    return model.eval()


def repeat_channel(*modules: nn.Module) -> None:
    """Channel 1 becomes a copy of channel 0."""
    with torch.no_grad():
        for module in modules:
            for tensor in module.state_dict().values():
                if tensor.ndim:
                    tensor[1] = tensor[0]


def widened(net: Net, copies: float = 1.0, factors: tuple[float, float] = (1.0, 1.0), seed: int = 0) -> nn.Module:
    """The same function with about `copies` copies more of every channel, the copies times factors in a range, for
    activations that allow it; in any order, and with unequal parts in what is made of them."""
    generator = torch.Generator().manual_seed(seed)
    model = copy.deepcopy(net.model)
    modules = dict(model.named_modules())
    plans = {
        space: _plan(_width(modules[maker]), net.blocks.get(space, 1), copies, factors, generator)
        for maker, space in net.makes.items()
    }
    for name in {*net.makes, *net.reads}:
        _widen(modules[name], net.reads.get(name), plans, net.makes.get(name))
    return model


@dataclass
class _Plan:
    """New channels: which old one each is a copy of, times what, and with which part in what is made of it."""

    source: torch.Tensor
    factor: torch.Tensor
    part: torch.Tensor
    blocks: int


def _plan(width: int, blocks: int, copies: float, factors: tuple[float, float], generator: torch.Generator) -> _Plan:
    size, sources = width // blocks, []
    for block in range(blocks):
        more = torch.randint(size, (max(int(copies * size), 1),), generator=generator)
        source = torch.cat([torch.arange(size), more])
        sources.append(block * size + source[torch.randperm(len(source), generator=generator)])
    source = torch.cat(sources)
    low, high = factors
    factor = low + (high - low) * torch.rand(len(source), generator=generator)
    part = 0.2 + torch.rand(len(source), generator=generator)
    sums = torch.zeros(width).index_add(0, source, part)
    return _Plan(source, factor, part / sums[source] / factor, blocks)


def _width(module: nn.Module) -> int:
    return module.out_features if isinstance(module, nn.Linear) else module.out_channels


def is_depthwise(module: nn.Module) -> bool:
    return isinstance(module, CONVOLUTIONS) and 1 < module.groups == module.in_channels == module.out_channels


def _widen(module: nn.Module, reads: list[tuple[str, int]] | None, plans: dict[str, _Plan], makes: str | None) -> None:
    columns = None if reads is None else _columns(reads, plans)
    if isinstance(module, NORMALISATIONS):
        source, factor, _ = columns
        for key in ("weight", "bias", "running_mean", "running_var"):
            scale = factor if key in ("bias", "running_mean") else 1.0
            _put(module, key, getattr(module, key)[source] * scale)
        module.num_features = len(source)
    elif is_depthwise(module):
        source, factor, _ = columns
        _put(module, "weight", module.weight[source])
        if module.bias is not None:
            _put(module, "bias", module.bias[source] * factor)
        module.in_channels = module.out_channels = module.groups = len(source)
    else:
        if columns is not None:
            _read(module, columns)
        if makes is not None:
            _make(module, plans[makes])


def _columns(reads: list[tuple[str, int]], plans: dict[str, _Plan]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Source, factor and part of every column of an input."""
    sources, factors, parts, start = [], [], [], 0
    for space, repeats in reads:
        plan = plans[space]
        sources.append((start + plan.source[:, None] * repeats + torch.arange(repeats)).ravel())
        factors.append(plan.factor.repeat_interleave(repeats))
        parts.append(plan.part.repeat_interleave(repeats))
        start += repeats * (int(plan.source.max()) + 1)
    return torch.cat(sources), torch.cat(factors), torch.cat(parts)


def _read(module: nn.Module, columns: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    source, _, part = columns
    if getattr(module, "groups", 1) > 1:
        n, of_group, out = module.groups, module.in_channels // module.groups, module.out_channels // module.groups
        chunks = zip(source.chunk(n), part.chunk(n), module.weight.split(out), strict=True)
        weight = torch.cat([w[:, s % of_group] * p.view(1, -1, 1, 1) for s, p, w in chunks])
    elif isinstance(module, nn.ConvTranspose2d):
        weight = module.weight[source] * part.view(-1, 1, 1, 1)
    else:
        weight = module.weight[:, source] * part.view(1, -1, *[1] * (module.weight.ndim - 2))
    _put(module, "weight", weight)
    setattr(module, "in_features" if isinstance(module, nn.Linear) else "in_channels", len(source))


def _make(module: nn.Module, plan: _Plan) -> None:
    transposed = isinstance(module, nn.ConvTranspose2d)
    weight = module.weight.transpose(0, 1) if transposed else module.weight
    weight = weight[plan.source] * plan.factor.view(-1, *[1] * (weight.ndim - 1))
    _put(module, "weight", weight.transpose(0, 1) if transposed else weight)
    if module.bias is not None:
        _put(module, "bias", module.bias[plan.source] * plan.factor)
    setattr(module, "out_features" if isinstance(module, nn.Linear) else "out_channels", len(plan.source))


def _put(module: nn.Module, key: str, value: torch.Tensor) -> None:
    value = value.detach().contiguous().clone()
    setattr(module, key, nn.Parameter(value) if isinstance(getattr(module, key), nn.Parameter) else value)


# ---- the networks


def images(n: int, channels: int = 3, side: int = 8, seed: int = 1) -> torch.Tensor:
    return torch.randn(n, channels, side, side, generator=torch.Generator().manual_seed(seed))


def conv_bn(inputs: int, outputs: int, activation: Callable[[], nn.Module], **options: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False, **options), nn.BatchNorm2d(outputs), activation()
    )


def mlp(activation: Callable[[], nn.Module] = nn.ReLU) -> Net:
    model = nn.Sequential(
        *(nn.Linear(5, 6), nn.BatchNorm1d(6), activation(), nn.Dropout(0.3)),
        *(nn.Linear(6, 7, bias=False), activation(), nn.BatchNorm1d(7), nn.Linear(7, 3)),
    )
    example = torch.randn(9, 5, generator=torch.Generator().manual_seed(3))
    reads = {"1": [("a", 1)], "4": [("a", 1)], "6": [("b", 1)], "7": [("b", 1)]}
    return Net(randomised(model), example, {"0": "a", "4": "b"}, reads)


def vgg(activation: Callable[[], nn.Module] = nn.ReLU) -> Net:
    """Four places are left in front of the first linear layer."""
    model = nn.Sequential(
        *(nn.Conv2d(3, 4, 3, padding=1), activation(), nn.MaxPool2d(2)),
        *(nn.Conv2d(4, 5, 3, padding=1, bias=False), nn.BatchNorm2d(5), activation(), nn.AvgPool2d(2), nn.Flatten()),
        *(nn.Linear(20, 6), nn.BatchNorm1d(6), activation(), nn.Dropout(), nn.Linear(6, 3)),
    )
    reads = {"3": [("a", 1)], "4": [("b", 1)], "8": [("b", 4)], "9": [("c", 1)], "12": [("c", 1)]}
    return Net(randomised(model), images(4), {"0": "a", "3": "b", "8": "c"}, reads)


class BasicBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += identity
        return self.relu(out)


class ResNet18(nn.Module):
    WIDTHS = (4, 5, 6, 7)

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        stages, inputs = [], 4
        for number, width in enumerate(self.WIDTHS):
            stages.append(nn.Sequential(BasicBlock(inputs, width, 1 + (number > 0)), BasicBlock(width, width, 1)))
            inputs = width
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(inputs, 3)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, stride=2, padding=1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), start_dim=1))


def resnet18() -> Net:
    makes, reads = {"conv1": "s1"}, {"bn1": [("s1", 1)], "fc": [("s4", 1)]}
    for stage in (1, 2, 3, 4):
        for number in (0, 1):
            block, inside, outside = f"layer{stage}.{number}", f"h{stage}{number}", f"s{stage}"
            before = f"s{stage - 1}" if stage > 1 and number == 0 else outside
            makes |= {f"{block}.conv1": inside, f"{block}.conv2": outside}
            reads |= {f"{block}.conv1": [(before, 1)], f"{block}.bn1": [(inside, 1)]}
            reads |= {f"{block}.conv2": [(inside, 1)], f"{block}.bn2": [(outside, 1)]}
            if before != outside:
                makes[f"{block}.downsample.0"] = outside
                reads |= {f"{block}.downsample.0": [(before, 1)], f"{block}.downsample.1": [(outside, 1)]}
    return Net(randomised(ResNet18()), images(3, side=16), makes, reads)


class PreActivation(nn.Module):
    """Normalisations in front of the convolutions, and behind the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 5, 3, padding=1)
        self.bn1, self.conv1 = nn.BatchNorm2d(5), nn.Conv2d(5, 6, 3, padding=1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(6), nn.Conv2d(6, 5, 3, padding=1, bias=False)
        self.last, self.fc = nn.BatchNorm2d(5), nn.Linear(5, 3)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.conv2(self.bn2(self.conv1(self.bn1(x).relu())).relu())
        return self.fc(F.relu(self.last(x)).mean(dim=(2, 3)))


def preactivation() -> Net:
    reads = {name: [("a", 1)] for name in ("bn1", "conv1", "last", "fc")}
    reads |= {"bn2": [("b", 1)], "conv2": [("b", 1)]}
    return Net(randomised(PreActivation()), images(4), {"stem": "a", "conv1": "b", "conv2": "a"}, reads)


class Inverted(nn.Module):
    """The block of MobileNetV2 with any activation."""

    def __init__(self, inputs: int, hidden: int, outputs: int, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.skip = inputs == outputs
        self.conv = nn.Sequential(
            nn.Sequential(nn.Conv2d(inputs, hidden, 1, bias=False), nn.BatchNorm2d(hidden), activation()),
            conv_bn(hidden, hidden, activation, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x):
        return x + self.conv(x) if self.skip else self.conv(x)


def mobilenet(activation: Callable[[], nn.Module] = nn.ReLU6) -> Net:
    """A stem, two blocks of which one has a skip, and the layers behind them."""
    model = nn.Sequential(
        conv_bn(3, 4, activation),
        Inverted(4, 7, 5, activation),
        Inverted(5, 8, 5, activation),
        nn.Sequential(nn.Conv2d(5, 9, 1, bias=False), nn.BatchNorm2d(9), activation()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(9, 3)),
    )
    makes = {"0.0": "a", "1.conv.0.0": "b", "1.conv.2": "c", "2.conv.0.0": "d", "2.conv.2": "c", "3.0": "e"}
    reads = {"0.1": "a", "1.conv.0.0": "a", "1.conv.3": "c", "2.conv.0.0": "c", "2.conv.3": "c", "3.0": "c"}
    reads |= {"3.1": "e", "6": "e"}
    for block, space in (("1", "b"), ("2", "d")):
        reads |= {f"{block}.conv.{name}": space for name in ("0.1", "1.0", "1.1", "2")}
    return Net(randomised(model), images(4), makes, {name: [(space, 1)] for name, space in reads.items()})


def mobilenet_v2() -> Net:
    """The real one, which is not among the small ones below."""
    model = randomised(MobileNetV2(10, downsampling=8))
    makes, reads, before = {"features.0.0": "s0", "features.18.0": "e"}, {"features.0.1": "s0"}, "s0"
    for number in range(1, 18):
        block, conv, hidden = model.features[number], f"features.{number}.conv", "s0"
        after, last = before if block.use_res_connect else f"s{number}", len(block.conv) - 2
        if number > 1:
            hidden = makes[f"{conv}.0.0"] = reads[f"{conv}.0.1"] = f"h{number}"
            reads[f"{conv}.0.0"] = before
        reads |= {f"{conv}.{last - 1}.0": hidden, f"{conv}.{last - 1}.1": hidden, f"{conv}.{last}": hidden}
        makes[f"{conv}.{last}"] = reads[f"{conv}.{last + 1}"] = before = after
    reads |= {"features.18.0": before, "features.18.1": "e", "classifier.1": "e"}
    return Net(model, images(2, side=16), makes, {name: [(space, 1)] for name, space in reads.items()})


class UNet(nn.Module):
    def __init__(self, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.first, self.second = conv_bn(3, 4, activation), conv_bn(4, 5, activation)
        self.up = nn.ConvTranspose2d(5, 6, 2, stride=2)
        self.join, self.norm = nn.Conv2d(10, 5, 3, padding=1), nn.BatchNorm2d(10)
        self.activation, self.head = activation(), nn.Conv2d(5, 2, 1)

    def forward(self, x):
        fine = self.first(x)
        coarse = self.second(F.avg_pool2d(fine, 2))
        joined = self.norm(torch.cat([self.up(coarse), fine], dim=1))
        return self.head(self.activation(self.join(joined)))


def unet(activation: Callable[[], nn.Module] = nn.ReLU) -> Net:
    makes = {"first.0": "a", "second.0": "b", "up": "c", "join": "d"}
    reads = {"first.1": [("a", 1)], "second.0": [("a", 1)], "second.1": [("b", 1)], "up": [("b", 1)]}
    reads |= {"norm": [("c", 1), ("a", 1)], "join": [("c", 1), ("a", 1)], "head": [("d", 1)]}
    return Net(randomised(UNet(activation)), images(3), makes, reads)


class DenseNet(nn.Module):
    """Every layer reads what all before it have made, normalised for each anew."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.norm1, self.conv1 = nn.BatchNorm2d(4), nn.Conv2d(4, 3, 3, padding=1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(7), nn.Conv2d(7, 3, 3, padding=1, bias=False)
        self.norm3, self.fc = nn.BatchNorm2d(10), nn.Linear(10, 2)

    def forward(self, x):
        x = self.stem(x)
        x = torch.cat([x, self.conv1(F.relu(self.norm1(x)))], 1)
        x = torch.cat([x, self.conv2(F.relu(self.norm2(x)))], 1)
        return self.fc(F.adaptive_avg_pool2d(F.relu(self.norm3(x)), 1).flatten(1))


def densenet() -> Net:
    every = [("a", 1), ("b", 1), ("c", 1)]
    reads = {f"{name}{end}": every[:end] for name in ("norm", "conv") for end in (1, 2)}
    reads |= {"norm3": every, "fc": every}
    return Net(randomised(DenseNet()), images(4), {"stem": "a", "conv1": "b", "conv2": "c"}, reads)


def grouped(activation: Callable[[], nn.Module] = nn.ReLU) -> Net:
    model = nn.Sequential(
        *(nn.Conv2d(3, 4, 3, padding=1), activation(), nn.Conv2d(4, 12, 3, groups=2, padding=1)),
        *(nn.BatchNorm2d(12), activation(), nn.Conv2d(12, 6, 1, groups=3, bias=False), activation()),
        nn.Conv2d(6, 2, 3),
    )
    reads = {"2": "a", "3": "b", "5": "b", "7": "c"}
    spaces = {name: [(space, 1)] for name, space in reads.items()}
    blocks = {"a": 2, "b": 6, "c": 3}
    return Net(randomised(model), images(4), {"0": "a", "2": "b", "5": "c"}, spaces, blocks)


NETS = {
    function.__name__: function for function in (mlp, vgg, resnet18, preactivation, mobilenet, unet, densenet, grouped)
}
