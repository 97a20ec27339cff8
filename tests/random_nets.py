"""Random networks for a differential test of condensation: the same program is run by the network and by its condensed
copy. A program is a list of steps on named tensors, of every kind that networks are made of; copies of channels are
planted exactly, or almost."""

import math
import random
from dataclasses import dataclass

import torch
from net_zoo import CONVOLUTIONS, NORMALISATIONS, is_depthwise
from torch import nn
from torch.nn import functional as F

HOMOGENEOUS = ("relu", "leaky_relu", "prelu", "relu_in_place")
ACTIVATIONS = (
    *HOMOGENEOUS,
    *("gelu", "tanh", "sigmoid", "hardtanh_wide", "hardshrink", "elu", "sin", "square", "clamp", "softplus", "relu6"),
    *("silu", "floor_divide", "to_int", "abs", "exp_of_minus_square", "threshold"),
)

FUNCTIONS = {
    "relu": F.relu,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "relu_in_place": lambda x: F.relu(x, inplace=True),
    "gelu": F.gelu,
    "tanh": torch.tanh,
    "sigmoid": lambda x: x.sigmoid(),
    "hardtanh_wide": lambda x: F.hardtanh(x, 0.0, 30.0),
    "hardshrink": lambda x: F.hardshrink(x, 0.01),
    "elu": F.elu,
    "sin": torch.sin,
    "square": lambda x: x**2,
    "clamp": lambda x: x.clamp(-0.7, 0.9),
    "softplus": F.softplus,
    "relu6": F.relu6,
    "silu": F.silu,
    "floor_divide": lambda x: torch.div(x, 0.5, rounding_mode="floor"),
    "to_int": lambda x: (4.0 * x).to(torch.int32).float(),
    "abs": torch.abs,
    "exp_of_minus_square": lambda x: torch.exp(-(x * x)),
    "threshold": lambda x: F.threshold(x, 0.02, 0.0),
}


@dataclass(frozen=True)
class Step:
    """One statement: what it does, the tensors it reads, the one it names, and what else it needs."""

    kind: str
    reads: tuple[str, ...]
    makes: str | None = None
    module: str | None = None
    number: float = 0.0


class RandomNet(nn.Module):
    """Runs its program on its inputs; the last tensors named are its outputs."""

    def __init__(self, program: list[Step], modules: dict[str, nn.Module], outputs: list[str], inputs: int) -> None:
        super().__init__()
        self.program, self.outputs, self.inputs = program, outputs, inputs
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x0, x1=None):
        tensors = {"x0": x0, "x1": x1}
        for step in self.program:
            result = self._run(step, [tensors[name] for name in step.reads])
            if step.makes is not None:
                tensors[step.makes] = result
        return tuple(tensors[name] for name in self.outputs)

    def _run(self, step: Step, given):
        kind, (x, *others) = step.kind, given
        if kind == "module":
            return getattr(self, step.module)(x)
        if kind == "activation":
            return FUNCTIONS[step.module](x)
        return STEPS[kind](self, step, x, *others)


def _in_place_add(net, step, x, y):
    x.add_(y)


def _in_place_relu(net, step, x):
    x.relu_()


def _in_place_scale(net, step, x):
    x *= step.number


def _through_a_view(net, step, x):
    x.view(x.shape[0], -1).mul_(2.0)


def _aux(net, step, x):
    """A head for training alone."""
    return (
        x.flatten(1).sum(1, keepdim=True) if not net.training else getattr(net, step.module)(x).flatten(1).sum(1, True)
    )


def _halves_multiplied(net, step, x):
    left, right = x.chunk(2, 1)
    return F.silu(left) * right


def _halves_by_size(net, step, x):
    half = x.shape[1] // 2
    return torch.cat([2.0 * x[:, half:], F.relu(x[:, :half])], 1)


def _half_again(net, step, x):
    """As in a C2f block: one half goes on, and all is read."""
    left, right = x.split(x.shape[1] // 2, 1)
    return torch.cat([left, right, right + F.relu(getattr(net, step.module)(right))], 1)


def _shuffle(net, step, x):
    n, c, *places = x.shape
    return x.view(n, 2, c // 2, *places).transpose(1, 2).reshape(n, -1, *places).contiguous()


def _tokens(net, step, x):
    """To the last axis and back."""
    n, _, h, w = x.shape
    return F.gelu(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(n, -1, h, w).contiguous()


def _attend(net, step, q, k, v):
    """Attention of all places to all, the values in two heads."""
    places = v.shape[2:]
    q, k = (part.flatten(2).transpose(1, 2) for part in (q, k))
    v = v.reshape(v.shape[0], 2, v.shape[1] // 2, -1)
    weights = (q @ k.transpose(1, 2)).softmax(-1)[:, None]
    return (v @ weights.transpose(2, 3)).flatten(1, 2).unflatten(2, places).contiguous()


def _attend_by_head(net, step, q, k, v):
    """Attention of all places to all in heads of two channels, of which there are as many as there are channels for."""
    places = v.shape[2:]
    q, k, v = (x.reshape(len(x), -1, 2, x[0, 0].numel()) for x in (q, k, v))
    weights = (q.transpose(2, 3) @ k).softmax(-1)
    return (v @ weights.transpose(2, 3)).flatten(1, 2).unflatten(2, places).contiguous()


def _root_mean_square(net, step, x):
    return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-3)


def _selected(net, step, x, y):
    """The sum of two branches, weighted by a softmax over them."""
    both = torch.stack([x, y], 1)
    return (both * both.softmax(1)).sum(1)


def _last(net, step, x):
    """A normalisation over channels on the last axis."""
    return getattr(net, step.module)(x.movedim(1, -1)).movedim(-1, 1).contiguous()


STEPS = {
    "halves_multiplied": _halves_multiplied,
    "glu": lambda net, step, x: F.glu(x, 1),
    "halves_by_size": _halves_by_size,
    "half_again": _half_again,
    "swap": lambda net, step, x: torch.cat(x.chunk(2, 1)[::-1], 1),
    "shuffle": _shuffle,
    "pixel_shuffle": lambda net, step, x: F.pixel_shuffle(x, 2),
    "pixel_unshuffle": lambda net, step, x: F.pixel_unshuffle(x, 2),
    "tokens": _tokens,
    "attend": _attend,
    "attend_by_head": _attend_by_head,
    "root_mean_square": _root_mean_square,
    "selected": _selected,
    "last": _last,
    "heads": lambda net, step, x: x.unflatten(1, (2, -1)).softmax(1).flatten(1, 2),
    "stack_max": lambda net, step, x, y: torch.stack([x, y]).amax(0),
    "expand": lambda net, step, x: x.mean((2, 3), keepdim=True).expand(-1, -1, *x.shape[2:]).contiguous(),
    "height": lambda net, step, x: torch.cat([x, x.sin()], 2),
    "fixed_half": lambda net, step, x: torch.cat([x[:, 2:], x[:, :2]], 1),
    "fixed_view": lambda net, step, x: x.unflatten(1, (2, int(step.number))).flatten(1, 2),
    "add": lambda net, step, x, y: x + y,
    "subtract": lambda net, step, x, y: torch.sub(x, y, alpha=0.5),
    "multiply": lambda net, step, x, y: x * y,
    "gate": lambda net, step, x, y: x * torch.sigmoid(y),
    "itself": lambda net, step, x: x + F.relu(x),
    "cat": lambda net, step, x, y: torch.cat([x, y], 1),
    "cat_ones": lambda net, step, x: torch.cat([x, torch.ones(x.shape)], 1),
    "scale": lambda net, step, x: x * step.number,
    "shift": lambda net, step, x: x + step.number,
    "by_shape": lambda net, step, x: x / x.shape[1],
    "by_size": lambda net, step, x: x * (1.0 / x.size(1)),
    "by_module": lambda net, step, x: x / _width(getattr(net, step.module)),
    "in_place_add": _in_place_add,
    "in_place_relu": _in_place_relu,
    "in_place_scale": _in_place_scale,
    "through_a_view": _through_a_view,
    "flatten": lambda net, step, x: x.flatten(1),
    "view": lambda net, step, x: x.view(x.size(0), -1),
    "pool": lambda net, step, x: F.max_pool2d(x, 3, 1, 1),
    "average": lambda net, step, x: F.avg_pool2d(x, 3, 1, 1),
    "mean": lambda net, step, x: x.mean((2, 3)),
    "squeeze": lambda net, step, x: x.mean((2, 3), keepdim=True),
    "spatial_mask": lambda net, step, x, y: x * y.mean(1, keepdim=True),
    "mean_of_channels": lambda net, step, x: x - x.mean(1, keepdim=True),
    "softmax": lambda net, step, x: torch.softmax(x, 1),
    "chunk": lambda net, step, x: torch.cat([part * (k + 1.0) for k, part in enumerate(x.chunk(2, 1))], 1),
    "flip": lambda net, step, x: x.flip(1),
    "slice": lambda net, step, x: x[:, :-1],
    "permute": lambda net, step, x: x.permute(0, *range(2, x.ndim), 1),
    "by_order": lambda net, step, x: x * torch.arange(x.shape[1]).view(1, -1, *[1] * (x.ndim - 2)),
    "noise": lambda net, step, x: F.dropout(x, 0.3, net.training),
    "aux": _aux,
    "buffer": lambda net, step, x: x * getattr(net, step.module),
    "normalise": lambda net, step, x: F.normalize(x, dim=1),
}


def _width(module):
    return module.out_features if isinstance(module, nn.Linear) else module.out_channels


class _Factor(nn.Module):
    """A parameter for each channel."""

    def __init__(self, width, dimensions):
        super().__init__()
        self.factor = nn.Parameter(torch.rand(width, *[1] * dimensions) + 0.5)

    def forward(self, x):
        return x * self.factor


class _Own(nn.Module):
    """A Linear layer of a class of its own, whose weights are stored the other way round."""

    def __init__(self, read, made, bias):
        super().__init__()
        self.kernel, self.bias = nn.Parameter(torch.randn(read, made) / math.sqrt(read)), None
        if bias:
            self.bias = nn.Parameter(torch.randn(made))

    def forward(self, x):
        x = torch.matmul(x, self.kernel)
        return x if self.bias is None else x + self.bias


def _hook(module, inputs, output):
    return torch.sin(3.0 * output)


class _Builder:
    """Draws a program step by step; knows the shape of every tensor, a row without the batch."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        torch.manual_seed(seed)
        self.is_image = self.draw.random() < 0.6
        self.program: list[Step] = []
        self.modules: dict[str, nn.Module] = {}
        first = (3, 6, 6) if self.is_image else (5,)
        self.inputs = 2 if self.draw.random() < 0.2 else 1
        self.shapes = {f"x{k}": first for k in range(self.inputs)}
        self.made: list[str] = []
        self.outputs_of_heads: list[str] = []
        self.width = self.draw.choice((4, 6, 8))

    def name(self) -> str:
        return f"t{len(self.shapes)}"

    def add(self, kind, reads, shape, module=None, number=0.0, *, is_named=True):
        makes = self.name() if is_named else None
        self.program.append(Step(kind, tuple(reads), makes, module, number))
        if makes:
            self.shapes[makes] = shape
            self.made.append(makes)
        return makes

    def module(self, module):
        name = f"m{len(self.modules)}"
        self.modules[name] = module
        return name

    def layer(self, source, width):
        shape = self.shapes[source]
        if len(shape) == 1:
            kind = _Own if self.draw.random() < 0.2 else nn.Linear
            name = self.module(kind(shape[0], width, bias=self.draw.random() < 0.8))
            return self.add("module", [source], (width,), name)
        size = self.draw.choice((1, 3))
        groups = 2 if shape[0] % 2 == 0 and width % 2 == 0 and self.draw.random() < 0.15 else 1
        options = {"padding": size // 2, "groups": groups, "bias": self.draw.random() < 0.7}
        kind = nn.ConvTranspose2d if self.draw.random() < 0.1 else nn.Conv2d
        return self.add("module", [source], (width, *shape[1:]), self.module(kind(shape[0], width, size, **options)))

    def recent(self):
        known = self.made[-5:] or ["x0"]
        return self.draw.choice(known)

    def grow(self, steps):
        last = self.layer("x0", self.width)
        if self.inputs == 2:
            last = self.add("add", [last, self.layer("x1", self.width)], self.shapes[last])
        for _ in range(steps):
            last = self.step(last) or last
        return last

    def step(self, x):
        shape, draw = self.shapes[x], self.draw
        kind = draw.choices(
            ["layer", "activation", "norm", "branch", "other", "in_place", "depthwise", "odd", "reuse", "shape"],
            [5, 5, 2, 3, 2, 2, 1, 1.5, 0.7, 4],
        )[0]
        if kind == "shape":
            return self.shape(x, shape)
        if kind == "layer":
            return self.layer(x, self.width)
        if kind == "activation":
            which = draw.choice(ACTIVATIONS)
            if which == "prelu":
                return self.add("module", [x], shape, self.module(nn.PReLU()))
            if draw.random() < 0.3 and which in ("relu", "gelu", "tanh"):
                made = {"relu": nn.ReLU(inplace=draw.random() < 0.5), "gelu": nn.GELU(), "tanh": nn.Tanh()}[which]
                is_named = which != "relu" or not made.inplace or draw.random() < 0.5
                return self.add("module", [x], shape, self.module(made), is_named=is_named) or x
            return self.add("activation", [x], shape, which)
        if kind == "norm" and draw.random() < 0.4:
            return self.norm_together(x, shape)
        if kind == "norm":
            options = {"affine": draw.random() < 0.8}
            norm = nn.BatchNorm1d(shape[0], **options) if len(shape) == 1 else nn.BatchNorm2d(shape[0], **options)
            return self.add("module", [x], shape, self.module(norm))
        if kind == "branch":
            return self.branch(x, shape)
        if kind == "in_place":
            which = draw.choice(("in_place_relu", "in_place_scale", "in_place_add", "through_a_view"))
            reads = [x]
            if which == "in_place_add":
                other = self.like(x)
                if other is None:
                    return x
                reads.append(other)
            self.add(which, reads, shape, number=0.5 + draw.random(), is_named=False)
            return x
        if kind == "depthwise":
            if len(shape) == 1 or shape[0] < 2:
                return x
            made = nn.Conv2d(shape[0], shape[0], 3, padding=1, groups=shape[0], bias=draw.random() < 0.5)
            return self.add("module", [x], shape, self.module(made))
        if kind == "reuse":
            return self.reuse(x, shape)
        return self.odd(x, shape) if kind == "odd" else self.other(x, shape)

    def norm_together(self, x, shape):
        """Over several channels at a time."""
        which = self.draw.choice(("group", "layer", "square", "whole", "own"))
        if which == "own":
            return self.add("root_mean_square", [x], shape)
        if which == "group":
            values = math.prod(shape)  # of more than two, which may be copies: nothing would be left but rounding
            groups = self.draw.choice([g for g in (1, 2, shape[0]) if shape[0] % g == 0 and 2 * g < values])
            return self.add("module", [x], shape, self.module(nn.GroupNorm(groups, shape[0])))
        if which == "whole":
            return self.add("module", [x], shape, self.module(nn.LayerNorm(shape)))
        norm = nn.LayerNorm(shape[0]) if which == "layer" else nn.RMSNorm(shape[0])
        return self.add("last", [x], shape, self.module(norm))

    def shape(self, x, shape):
        """What puts channels elsewhere."""
        c, *places = shape
        known = [("swap", shape), ("halves_by_size", shape), ("shuffle", shape), ("heads", shape)]
        known += [("fixed_half", shape), ("fixed_view", shape)]
        known += [("halves_multiplied", (c // 2, *places)), ("glu", (c // 2, *places))] if c >= 8 else []
        if places and places[0] == places[1]:
            known += [("tokens", shape), ("expand", shape), ("attend", shape), ("attend_by_head", shape)]
            known += [("pixel_shuffle", (c // 4, 2 * places[0], 2 * places[1]))] if c >= 8 and places[0] < 7 else []
            known += [("pixel_unshuffle", (4 * c, places[0] // 2, places[1] // 2))] if c < 9 else []
            known += [("height", (c, 2 * places[0], places[1]))] if places[0] < 7 else []
        if c % 4:
            return x
        which, result = self.draw.choice(known)
        if which == "pixel_unshuffle" and places[0] % 2:
            return x
        if which.startswith("attend") and places[0] > 6:
            return x
        if which == "attend_by_head":
            return self.add(which, [self.layer(x, c) for _ in range(3)], shape)
        if which == "attend":
            return self.add(which, [self.layer(x, 4), self.layer(x, 4), self.layer(x, c)], shape)
        if self.draw.random() < 0.15:
            other = self.like(x)
            return self.add(self.draw.choice(("selected", "stack_max")), [x, other], shape) if other else x
        if self.draw.random() < 0.15 and c < 20:
            inner = nn.Linear(c // 2, c // 2) if not places else nn.Conv2d(c // 2, c // 2, 1)
            return self.add("half_again", [x], (3 * c // 2, *places), self.module(inner))
        return self.add(which, [x], result, number=c // 2)

    def like(self, x):
        known = [name for name in self.made if name != x and self.shapes[name] == self.shapes[x]]
        return self.draw.choice(known) if known else None

    def branch(self, x, shape):
        which = self.draw.choice(("add", "subtract", "multiply", "gate", "cat", "itself", "squeeze"))
        if which == "itself":
            return self.add("itself", [x], shape)
        if which == "squeeze":
            if len(shape) == 1:
                return x
            small = self.add("squeeze", [x], (shape[0], 1, 1))
            small = self.layer(self.add("activation", [self.layer(small, 4)], (4, 1, 1), "relu"), shape[0])
            return self.add("gate", [x, small], shape)
        other = self.like(x) if self.draw.random() < 0.5 else None
        other = other or self.layer(self.recent_of(shape), shape[0])
        if which == "cat":
            return self.add("cat", [x, other], (2 * shape[0], *shape[1:])) if shape[0] < 20 else x
        return self.add(which, [x, other], shape)

    def recent_of(self, shape):
        """A tensor a layer of which has the places of a shape."""
        known = [name for name in ("x0", *self.made) if self.shapes[name][1:] == shape[1:]]
        return self.draw.choice(known[-5:])

    def other(self, x, shape):
        which = self.draw.choice(("scale", "shift", "pool", "average", "mean", "flatten", "view", "noise"))
        if which in ("scale", "shift", "noise"):
            return self.add(which, [x], shape, number=self.draw.choice((0.5, 2.0, -1.5)))
        if len(shape) == 1:
            return x
        if which in ("flatten", "view", "mean") and self.draw.random() < 0.5:
            size = shape[0] if which == "mean" else shape[0] * shape[1] * shape[2]
            return self.add(which, [x], (size,)) if size <= 400 else x
        return self.add(which, [x], shape) if which in ("pool", "average") else x

    def odd(self, x, shape):
        """What a condenser has to leave alone, or to see through."""
        kinds = [
            "by_shape",
            "by_size",
            "by_module",
            "cat_ones",
            "mean_of_channels",
            "softmax",
            "chunk",
            "flip",
            "slice",
        ]
        kinds += ["by_order", "aux", "factor", "hook", "normalise", "spatial_mask", "permute", "layer_norm"]
        which = self.draw.choice(kinds)
        if which == "by_module":
            layers = [n for n, m in self.modules.items() if isinstance(m, nn.Linear | nn.Conv2d)]
            return self.add(which, [x], shape, self.draw.choice(layers)) if layers else x
        if which == "cat_ones":
            return self.add(which, [x], (2 * shape[0], *shape[1:])) if shape[0] < 20 else x
        if which == "slice":
            return self.add(which, [x], (shape[0] - 1, *shape[1:])) if shape[0] > 2 else x
        if which == "aux":
            head = nn.Linear(shape[0], 3) if len(shape) == 1 else nn.Conv2d(shape[0], 3, 1)
            self.outputs_of_heads.append(self.add(which, [x], (1,), self.module(head)))
            return x
        if which == "factor":
            return self.add("module", [x], shape, self.module(_Factor(shape[0], len(shape) - 1)))
        if which == "hook":
            layers = [m for m in self.modules.values() if isinstance(m, nn.Linear | nn.Conv2d)]
            if layers:
                self.draw.choice(layers).register_forward_hook(_hook)
            return x
        if which == "spatial_mask":
            other = self.like(x)
            return self.add(which, [x, other], shape) if other else x
        if which == "permute":
            return self.add(which, [x], (*shape[1:], shape[0])) if len(shape) == 3 and shape[1] == shape[0] else x
        if which == "layer_norm":
            return self.add("module", [x], shape, self.module(nn.LayerNorm(shape)))
        if which == "chunk" and shape[0] % 2:
            return x
        return self.add(which, [x], shape)

    def reuse(self, x, shape):
        """A layer again, or one whose weights are another's."""
        name = next(
            (n for n, m in self.modules.items() if isinstance(m, nn.Linear) and m.in_features == shape[0]), None
        )
        if name is None or len(shape) != 1:
            return x
        old = self.modules[name]
        if self.draw.random() < 0.5:
            return self.add("module", [x], (old.out_features,), name)
        tied = nn.Linear(old.in_features, old.out_features)
        tied.weight = old.weight
        return self.add("module", [x], (old.out_features,), self.module(tied))


def random_net(seed: int) -> tuple[RandomNet, tuple[torch.Tensor, ...]]:
    """A random network with planted copies of channels, and an example; the same for the same seed."""
    builder = _Builder(seed)
    last = builder.grow(builder.draw.randint(3, 12))
    last = builder.layer(last, 3)
    outputs = [last, *builder.outputs_of_heads]
    net = RandomNet(builder.program, builder.modules, outputs, builder.inputs)
    _randomise(net)
    _plant(net, builder.draw)
    scale = builder.draw.choice((1.0, 1.0, 1.0, 30.0, 1e3, 1e-2))
    shape = builder.shapes["x0"]
    inputs = tuple(scale * torch.randn(6, *shape) for _ in range(builder.inputs))
    if scale != 1.0:
        _take(net, scale)
    return net.eval(), inputs


def _randomise(net):
    for module in net.modules():
        if isinstance(module, NORMALISATIONS):
            module.running_mean.normal_(0.0, 0.3)
            module.running_var.uniform_(0.5, 1.5)
            if module.affine:
                nn.init.uniform_(module.weight, -1.3, 1.3)
                nn.init.normal_(module.bias, 0.0, 0.5)
        elif isinstance(module, nn.LayerNorm | nn.GroupNorm | nn.RMSNorm):
            for parameter in module.parameters():
                nn.init.uniform_(parameter, -1.3, 1.3)


def _take(net, scale):
    """First layers for inputs of a scale: their weights are small beside their biases where it is large."""
    for step in net.program:
        if step.kind == "module" and step.reads[0].startswith("x") and hasattr(getattr(net, step.module), "weight"):
            with torch.no_grad():
                getattr(net, step.module).weight.div_(scale)


def _plant(net, draw):
    """Channel k + 1 of some layers becomes channel k: exactly, times a factor, almost, or of all layers alike."""
    how = draw.choice(("exact", "exact", "exact", "scaled", "almost", "some", "pairs", "pairs", "blocks"))
    pairs = {"pairs": [(k, k + 1) for k in range(0, 64, 2)], "blocks": [(k, k + 4) for k in range(4)]}
    with torch.no_grad():
        for module in net.modules():
            if how == "some" and draw.random() < 0.5:
                continue
            factor = draw.choice((0.5, 3.0)) if how == "scaled" else 1.0
            jitter = 1e-3 if how == "almost" else 0.0
            _copy(module, factor, jitter, pairs.get(how, ((0, 1), (2, 3))))


def _copy(module, factor, jitter, pairs):
    is_layer = isinstance(module, (nn.Linear, *CONVOLUTIONS, nn.ConvTranspose2d))
    if isinstance(module, NORMALISATIONS):
        keys = ("weight", "bias", "running_mean", "running_var")
        scaled = ("bias", "running_mean")
    elif is_layer:
        keys, scaled = ("weight", "bias"), ("bias",) if is_depthwise(module) else ("weight", "bias")
    elif isinstance(module, nn.LayerNorm | nn.GroupNorm | nn.RMSNorm):
        keys, scaled = ("weight", "bias"), ()
    elif isinstance(module, _Factor):
        keys, scaled = ("factor",), ()
    elif isinstance(module, _Own):
        keys = scaled = ("kernel", "bias")
    else:
        return
    for key in keys:
        tensor = getattr(module, key, None)
        if tensor is None:
            continue
        rows = tensor.transpose(0, 1) if isinstance(module, nn.ConvTranspose2d) and key == "weight" else tensor
        rows = tensor.transpose(0, 1) if key == "kernel" else rows
        for old, new in pairs:
            if len(rows) > new:
                rows[new] = rows[old] * (factor if key in scaled else 1.0) * (1.0 + jitter * torch.randn(()))
