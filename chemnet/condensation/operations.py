"""Tables of operations by what they do to channels, and conditions under which a module is what its class says.

Value by value: every number becomes another one. A positively homogeneous one keeps a positive factor of a channel, as
ReLU does; of the others, and of what is not known to be, only equal channels give equal ones. Nothing is probed: a
bound of 30 or a threshold of 1e-3 is in no range that could be tried.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from chemnet.condensation.graph import Layout

# ---- modules, by their exact class: a class derived from them may do anything

HOMOGENEOUS = {nn.ReLU, nn.LeakyReLU}
VALUE_BY_VALUE = {
    *(nn.ReLU6, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Sigmoid, nn.Tanh, nn.ELU),
    *(nn.CELU, nn.SELU, nn.Softplus, nn.Softsign, nn.LogSigmoid, nn.Hardshrink, nn.Softshrink, nn.Tanhshrink),
    nn.Threshold,
}
# What changes nothing in use, or keeps constants and sums: a normalisation behind it folds into the layer before it.
PLAIN = {
    *(nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.Upsample, nn.UpsamplingBilinear2d),
    *(nn.UpsamplingNearest2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
}
POOLS = {
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d, nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d),
    *(nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReflectionPad3d, nn.CircularPad1d, nn.CircularPad2d, nn.CircularPad3d),
    *(nn.ReplicationPad1d, nn.ReplicationPad2d, nn.ReplicationPad3d),
}

# ---- functions, and methods by their names

HOMOGENEOUS_FUNCTIONS = {
    *(F.relu, F.leaky_relu, torch.relu, torch.relu_, F.relu_, F.leaky_relu_, "relu", "relu_"),
    *(operator.neg, torch.neg, torch.abs, operator.abs, "neg", "abs", "abs_", "neg_"),
}
VALUE_BY_VALUE_FUNCTIONS = {
    *(F.relu6, F.gelu, F.silu, F.mish, F.hardswish, F.hardsigmoid, F.hardtanh, F.hardtanh_, F.elu, F.elu_, F.celu),
    *(F.selu, F.softplus, F.softsign, F.logsigmoid, F.sigmoid, F.tanh, F.hardshrink, F.softshrink, F.tanhshrink),
    *(F.threshold, torch.sigmoid, torch.sigmoid_, torch.tanh, torch.tanh_, torch.sin, torch.cos, torch.exp, torch.log),
    *(torch.log1p, torch.expm1, torch.sqrt, torch.rsqrt, torch.square, torch.erf, torch.atan, torch.sinh, torch.cosh),
    *(torch.round, torch.floor, torch.ceil, torch.trunc, torch.sign, torch.reciprocal),
    *("sigmoid", "sigmoid_", "tanh", "tanh_", "sin", "cos", "exp", "log", "log1p", "expm1", "sqrt", "rsqrt", "square"),
    *("erf", "atan", "round", "floor", "ceil", "trunc", "sign", "reciprocal"),
}
# With numbers for all of their other arguments.
WITH_NUMBERS = {
    *(torch.clamp, torch.pow, operator.pow, operator.floordiv),
    *("clamp", "clamp_", "clamp_min", "clamp_max", "pow"),
}
PLAIN_FUNCTIONS = {
    *(F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.interpolate, F.upsample, torch.clone),
    *(F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d, "contiguous", "clone", "detach"),
}
POOL_FUNCTIONS = {
    *(F.avg_pool1d, F.avg_pool2d, F.avg_pool3d, F.max_pool1d, F.max_pool2d, F.max_pool3d),
    *(F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d),
    *(torch.max_pool1d, torch.max_pool2d, torch.max_pool3d),
}
CASTS = {"to", "type", "type_as", "float", "double", "half", "bfloat16", "int", "long", "bool"}
ADDITIONS = {
    *(operator.add, operator.iadd, operator.sub, operator.isub, torch.add, torch.sub, "add", "add_", "sub", "sub_"),
}
DIVISIONS = {operator.truediv, operator.itruediv, torch.div, torch.true_divide, "div", "div_", "true_divide"}
PRODUCTS = {operator.mul, operator.imul, torch.mul, torch.multiply, "mul", "mul_", "multiply", *DIVISIONS}
PRODUCTS_AND_SUMS = {torch.addcmul, "addcmul"}
CONCATENATIONS = {torch.cat, torch.concat, torch.concatenate}
STACKS = {torch.stack}
MATRIX_PRODUCTS = {torch.matmul, torch.bmm, operator.matmul, "matmul", "bmm"}
EINSTEIN_SUMS = {torch.einsum}
ATTENTION = {F.scaled_dot_product_attention}
EXPANSIONS = {torch.broadcast_to, "expand", "expand_as", "broadcast_to"}
MEANS = {torch.mean, torch.sum, torch.amax, "mean", "sum", "amax"}
NORMS = {torch.norm, torch.linalg.vector_norm, "norm"}
STATISTICS = {torch.mean, torch.amax, torch.amin, torch.var, torch.std, "mean", "amax", "amin", "var", "std"}
SOFTMAXES = {F.softmax, torch.softmax, F.log_softmax, torch.log_softmax, "softmax", "log_softmax"}
GATES = {F.glu}
# What puts numbers elsewhere, by the name of the function in torch or of the method.
REARRANGEMENTS = {
    *("view", "reshape", "flatten", "unflatten", "permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis"),
    *("squeeze", "unsqueeze", "expand", "repeat", "tile", "repeat_interleave", "flip", "roll", "narrow", "chunk"),
    *("split", "split_with_sizes", "tensor_split", "unbind", "select", "getitem", "pixel_unshuffle", "channel_shuffle"),
    *("T", "mT", "t"),
}
PLAIN_REARRANGEMENTS = {"view", "reshape", "flatten", "unflatten", "chunk", "split", "getitem"}
RANDOM = {F.dropout: 2, F.dropout1d: 2, F.dropout2d: 2, F.dropout3d: 2}  # the place of `training`, true by default

# ---- numbers

ARITHMETIC = {
    *(operator.add, operator.sub, operator.mul, operator.floordiv, operator.truediv, operator.mod, operator.neg),
    *(operator.pow, operator.getitem, operator.index, int, float, max, min, round, math.floor, math.ceil, math.sqrt),
    *(math.prod, torch.Size),
}

# ---- questions that read no channel

SHAPES = {"shape", "size"}
HARMLESS = {
    *("ndim", "dtype", "device", "layout", "requires_grad", "requires_grad_", "dim", "element_size", "itemsize"),
    *("stride", "storage_offset", "get_device", "names", "has_names", "grad", "grad_fn", "data_ptr", "_version"),
    *("untyped_storage", "__hash__", "__format__", "__repr__", "register_hook", "retain_grad", "_is_view"),
    *("result_type", "can_cast"),
}


def is_harmless(name: str) -> bool:
    """Whether a function or property tells of a tensor no more than of what kind it is."""
    return name in HARMLESS or (name.startswith("is_") and name != "is_nonzero")


def strangeness(name: str, module: nn.Module) -> str | None:
    """Why a module cannot be taken for what its class in torch.nn does; None if it can."""
    plain = (vars(module).get(key) for key in ("weight", "bias"))  # where torch keeps no parameters
    if parametrize.is_parametrized(module) or any(isinstance(value, torch.Tensor) for value in plain):
        return f"the weights of {name} are computed"
    if module._forward_hooks or module._forward_pre_hooks:
        return f"{name} has a forward hook, which may change what it gives"
    if "forward" in vars(module):
        return f"the forward of {name} has been replaced"
    return None


def keeps_apart(operation: Any, layout: Layout, shape: Sequence[int] | None) -> bool:
    """Whether a pooling or the like works on axes behind that of the channels: `max_pool2d` on (n, c, h, w) does, on
    (c, h, w) it does not."""
    name = getattr(operation, "__name__", str(operation))
    dimensions = re.search(r"(?<!ropout)([123])d$", name)
    if operation in (nn.Upsample, nn.UpsamplingBilinear2d, nn.UpsamplingNearest2d, F.interpolate, F.upsample):
        return layout.axis == 1 and len(shape or ()) > 2
    return dimensions is None or (layout.axis == 1 and len(shape or ()) == int(dimensions[1]) + 2)


def pads_places(node: fx.Node, layout: Layout) -> bool:
    """Whether a function is a padding that adds places, by zeros or by values of the same channel, and no channels."""
    if node.target is not F.pad:
        return False
    pad, mode, value = arguments(node, ("pad", None), ("mode", "constant"), ("value", None))
    places = len(shape_of(node) or ()) - 1 - max(layout.axes)
    return isinstance(pad, tuple | list) and len(pad) <= 2 * places and (mode != "constant" or not value)


def is_narrower(result: torch.dtype, source: torch.dtype) -> bool:
    """Whether a conversion to a type rounds: to whole numbers, or to floating-point numbers of fewer digits."""
    if not (result.is_floating_point and source.is_floating_point):
        return result != source
    return torch.finfo(result).eps > torch.finfo(source).eps


def arguments(node: fx.Node, *options: tuple[str, Any]) -> list[Any]:
    """Arguments of a call after the tensor, by place or by name."""
    return [
        node.args[place] if len(node.args) > place else node.kwargs.get(name, default)
        for place, (name, default) in enumerate(options, start=1)
    ]


def is_random(node: fx.Node) -> bool:
    """Whether a function draws random numbers in use, too."""
    place = RANDOM.get(node.target)
    if place is None:
        return False
    return bool(node.args[place] if len(node.args) > place else node.kwargs.get("training", True))


def with_a_number(node: fx.Node) -> str | None:
    """What an operation of a tensor and numbers does: `scale` it, or something else `value` by value."""
    options = {**node.kwargs}
    rounds = options.pop("rounding_mode", None) is not None
    given = [*node.args, *options.values()]
    rest = [value for value in given if not isinstance(value, fx.Node)]
    if len(rest) + 1 != len(given) or not all(value is None or isinstance(value, int | float) for value in rest):
        return None
    if not rest or node.target not in ADDITIONS | PRODUCTS | WITH_NUMBERS:
        return None
    is_divisor = node.target in DIVISIONS and not isinstance(node.args[0], fx.Node)
    return "scale" if node.target in PRODUCTS and not rounds and not is_divisor else "value"


def is_getitem(node: fx.Node) -> bool:
    """Whether a node takes an item, or some, of another."""
    return node.op == "call_function" and node.target is operator.getitem


def is_number(node: fx.Node) -> bool:
    """Whether a node computes something of numbers alone, or takes one of several."""
    return node.op == "call_function" and node.target in ARITHMETIC and shape_of(node) is None


def shapes_by(user: fx.Node, number: fx.Node) -> bool:
    """Whether a node uses a number to say which shape a tensor has, or where it is taken apart."""
    return rearrangement(user) is not None and bool(user.args) and user.args[0] is not number


def rearrangement(node: fx.Node) -> str | None:
    """The name of what a node does if it only puts numbers elsewhere."""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    if name not in REARRANGEMENTS or node.op not in ("call_function", "call_method"):
        return None
    ours = (name, getattr(torch, name, None), getattr(F, name, None), getattr(torch.Tensor, name, None))
    return name if node.target in (*ours, operator.getitem) else None


def is_open(value: Any) -> bool:
    """Whether a size is read from a tensor, or left open."""
    return (
        value is None
        or isinstance(value, fx.Node)
        or (isinstance(value, int) and type(value) is not int)
        or (value == -1)
    )


def shape_of(node: Any) -> tuple[int, ...] | None:
    """The shape of a node's tensor; None where it is no single tensor."""
    return node.meta.get("shape") if isinstance(node, fx.Node) else None


def name_of(node: fx.Node) -> str:
    """Name of an operation in messages."""
    target = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    return f"{target} ({node.name})"
