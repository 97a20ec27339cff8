"""The fully connected network: its description, its initialisation, its size.

The network is a plain `nn.Sequential` of `Linear` layers with one activation between each two of them, so
that any other code can train, export or cut it. Its description is read off the layers whenever it is
needed and can therefore never disagree with them.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from chemnet.runtime.config import Config
from chemnet.runtime.errors import UsageError

Activation = Literal["relu", "gelu", "silu", "tanh"]
Initialisation = Literal["paper", "default", "mean"]

ACTIVATIONS: dict[Activation, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


class NetConfig(Config):
    """A fully connected network `widths[0]-...-widths[-1]`.

    `initialisation` says how `build` draws the weights; `None` leaves them at zero, for weights that are
    loaded afterwards. It is a way to start, not a property of a network, so `describe` answers `None`.
    """

    widths: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=2)
    activation: Activation = "gelu"
    initialisation: Initialisation | None = "default"


def build(config: NetConfig, seed: int = 0) -> nn.Sequential:
    """The float32 network of a config; the same seed gives the same weights, no global generator moves."""
    generator = torch.Generator().manual_seed(seed)
    modules: list[nn.Module] = []
    for m_in, m_out in zip(config.widths[:-1], config.widths[1:], strict=True):
        if modules:
            modules.append(ACTIVATIONS[config.activation]())
        modules.append(linear(m_in, m_out))
        _initialise(modules[-1], config.initialisation, generator)
    return nn.Sequential(*modules)


def linear(m_in: int, m_out: int, *, bias: bool = True, like: torch.Tensor | None = None) -> nn.Linear:
    """A layer of zeros, of the dtype and device of `like`; `nn.Linear(...)` would draw random numbers."""
    factory = {} if like is None else {"dtype": like.dtype, "device": like.device}
    layer = nn.utils.skip_init(nn.Linear, m_in, m_out, bias=bias, **factory)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def describe(network: nn.Sequential) -> NetConfig:
    """The description of a network, read off its layers. UsageError if `build` could not have made it."""
    modules = list(network)
    linears, between = modules[::2], modules[1::2]
    names = {_activation_name(module) for module in between}
    regular = (
        len(modules) % 2 == 1
        and all(isinstance(module, nn.Linear) and module.bias is not None for module in linears)
        and all(a.out_features == b.in_features for a, b in zip(linears[:-1], linears[1:], strict=True))
        and len(names) <= 1
        and None not in names
    )
    if not regular:
        raise UsageError(
            f"not a chemnet network: {[type(module).__name__ for module in modules]}\n"
            f"expected Linear layers with bias and one of {', '.join(ACTIVATIONS)} between each two of them"
        )
    activation = next((name for name in names if name), NetConfig.model_fields["activation"].default)
    widths = (linears[0].in_features, *(module.out_features for module in linears))
    return NetConfig(widths=widths, activation=activation, initialisation=None)


def count(network: nn.Module, biases: bool) -> int:
    """Number of weights, with or without biases; table 1 of the condensation paper leaves them out."""
    parameters = network.named_parameters()
    return sum(p.numel() for name, p in parameters if biases or name.rpartition(".")[2] != "bias")


def standard_deviation(m_in: int, m_out: int, initialisation: Initialisation) -> float:
    """Standard deviation of the initial weights of one layer [-].

    `paper`: 2/(m_in + m_out), much smaller than usual on purpose: small weights condense (eq. 19 of the
    condensation paper). `default`: PyTorch's uniform law in +-1/sqrt(m_in). `mean`: geometric mean of both.
    """
    paper, default = 2.0 / (m_in + m_out), 1.0 / math.sqrt(3.0 * m_in)
    return {"paper": paper, "default": default, "mean": math.sqrt(paper * default)}[initialisation]


def _initialise(layer: nn.Linear, initialisation: Initialisation | None, generator: torch.Generator) -> None:
    """Draw the weights of one layer, and its biases by the same law.

    The paper initialises "the parameters" by one law and counts the bias as part of the neuron's vector; a
    bias of zero would besides make all ReLU neurons of the first layer meet in one point.
    """
    if initialisation is None:
        return
    std = standard_deviation(layer.in_features, layer.out_features, initialisation)
    for parameter in (layer.weight, layer.bias):
        if initialisation == "default":
            nn.init.uniform_(parameter, -math.sqrt(3.0) * std, math.sqrt(3.0) * std, generator=generator)
        else:
            nn.init.normal_(parameter, 0.0, std, generator=generator)


def _activation_name(module: nn.Module) -> Activation | None:
    exact = getattr(module, "approximate", "none") == "none"  # tanh-GELU is another function
    return next((name for name, kind in ACTIVATIONS.items() if type(module) is kind and exact), None)
