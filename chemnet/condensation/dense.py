"""Condense fully connected layers: choose the neurons that stay, and give their outgoing weights the rest.

Neuron k of layer l is the row v_k of W_l (with its bias) and the column u_k of W_{l+1}. Each group is merged
into its main neuron (eq. 10-12)::

    W_l                    W_{l+1}
    [ v_main ] -> v_main   [u_main ... u_k ...] -> sum_k |v_k|/|v_main| u_k
    [  ...   ]
    [ v_k    ] -> gone

The output stays the same when the vectors of a group are parallel and the activation is positively
homogeneous (ReLU). Otherwise it changes, and a least-squares refit of W_{l+1} and its bias on calibration
states mends most of it. Layers are counted as in the paper: hidden layer 1 is the first.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import nn

from chemnet.condensation import least_squares, similarity
from chemnet.config import Config, parse
from chemnet.errors import NumericalError, UsageError
from chemnet.network import linear

Floats = similarity.Floats


class Cut(Config):
    """How far hidden layer `layer` is cut: to all groups at a similarity threshold, or to an exact width."""

    layer: Annotated[int, Field(ge=1)]
    threshold: Annotated[float, Field(ge=-1.0, le=1.0)] | None = None
    width: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _one_measure(self) -> Cut:
        if (self.threshold is None) == (self.width is None):
            raise ValueError("give either a threshold or a width")
        return self


class Rule(Config):
    """Which neurons stay (`choice`) and what becomes of the others (`merge`).

    `cosine` groups by similarity as published, `qr` takes the neurons whose activations span the layer best;
    `paper` is eq. 10, `refit` adds the least-squares refit with a ridge relative to the mean diagonal of the
    Gram matrix. Without `include_bias` a neuron's vector is its weights alone.
    """

    choice: Literal["cosine", "qr"] = "cosine"
    merge: Literal["paper", "refit"] = "paper"
    include_bias: bool = True
    ridge: Annotated[float, Field(gt=0.0)] = 1e-6

    @model_validator(mode="after")
    def _qr_has_no_groups(self) -> Rule:
        if self.choice == "qr" and self.merge == "paper":
            raise ValueError("choice qr makes no groups to merge by the paper's rule; use merge: refit")
        return self


def condense(
    network: nn.Sequential,
    layer: int,
    *,
    threshold: float | None = None,
    width: int | None = None,
    calibration: torch.Tensor | None = None,
    **rule: object,
) -> nn.Sequential:
    """A copy of `network` with hidden layer `layer` condensed; the network itself is not changed.

    Takes any Sequential of Linear layers with elementwise activations between them. Give either a similarity
    `threshold` or the exact `width`; `rule` are the fields of `Rule`. `calibration` (n, m_in) are inputs of
    the network, needed for `choice="qr"` and `merge="refit"`.

    Raises UsageError for a layer, width, rule or network that does not fit, NumericalError for weights or
    calibration states that are not finite.
    """
    cut = parse(Cut, {"layer": layer, "threshold": threshold, "width": width}, "condense")
    return condense_layers(network, [cut], parse(Rule, rule, "condense"), calibration)


def condense_all(
    network: nn.Sequential, widths: Sequence[int], *, calibration: torch.Tensor | None = None, **rule: object
) -> nn.Sequential:
    """As `condense`, for all hidden layers in one go: `widths` are their new widths, first layer first."""
    n_hidden = len(hidden_widths(network))
    if len(widths) != n_hidden:
        raise UsageError(f"{len(widths)} widths for a network with {n_hidden} hidden layers")
    cuts = [parse(Cut, {"layer": i, "width": w}, "condense_all") for i, w in enumerate(widths, start=1)]
    return condense_layers(network, cuts, parse(Rule, rule, "condense_all"), calibration)


def condense_layers(
    network: nn.Sequential, cuts: Sequence[Cut], rule: Rule, calibration: torch.Tensor | None = None
) -> nn.Sequential:
    """As `condense`, for cuts of ascending layers, one after the other.

    A refit aims at what the next layer of the uncut `network` receives, so later layers mend what earlier cuts broke.
    """
    check_cuts(cuts, rule, hidden_widths(network))
    if calibration is None and (rule.choice == "qr" or rule.merge == "refit"):
        raise UsageError(f"choice {rule.choice} with merge {rule.merge} needs calibration states")
    result = copy.deepcopy(network)
    for cut in cuts:
        _condense_one(result, cut, rule, calibration, network)
    return result


def hidden_widths(network: nn.Sequential) -> tuple[int, ...]:
    """Widths of the hidden layers. UsageError for a network that cannot be condensed."""
    return tuple(network[position].out_features for position in _positions(network)[:-1])


def check_cuts(cuts: Sequence[Cut], rule: Rule, widths: Sequence[int]) -> tuple[int, ...]:
    """Upper bounds of the hidden widths after `cuts`. UsageError for a cut that is not possible."""
    bounds = list(widths)
    layers = [cut.layer for cut in cuts]
    if layers != sorted(set(layers)):
        raise UsageError(f"cuts of layers {layers}: name each layer once, in ascending order")
    for cut in cuts:
        if rule.choice == "qr" and cut.width is None:
            raise UsageError(f"layer {cut.layer}: choice qr needs a width; a threshold belongs to cosine")
        if cut.layer > len(bounds):
            raise UsageError(f"layer {cut.layer}: the network has hidden layers 1 to {len(bounds)}")
        if cut.width is not None and cut.width > bounds[cut.layer - 1]:
            raise UsageError(f"layer {cut.layer}: width {cut.width} of {bounds[cut.layer - 1]} neurons")
        bounds[cut.layer - 1] = cut.width or bounds[cut.layer - 1]
    return tuple(bounds)


@dataclass
class _Neurons:
    """One hidden layer in float64: rows v (m, d) with biases b (m,), columns u (m_next, m), next bias c."""

    v: Floats
    b: Floats
    u: Floats
    c: Floats | None
    has_bias: bool
    constant: Floats  # output of a neuron whose weights are all zero, sigma(b) (m,)

    def vectors(self, include_bias: bool) -> Floats:
        """The neurons as the paper's vectors; a neuron of constant output has none (zeros)."""
        vectors = np.column_stack([self.v, self.b]) if include_bias else self.v.copy()
        vectors[~self.varying()] = 0.0
        return vectors

    def varying(self) -> NDArray[np.bool_]:
        """Which neurons depend on their inputs at all (m,)."""
        return np.any(self.v != 0.0, axis=1)


def _condense_one(
    network: nn.Sequential, cut: Cut, rule: Rule, calibration: torch.Tensor | None, reference: nn.Sequential
) -> None:
    """Cut one layer of `network` in place; a refit aims at what the next layer of `reference` gives."""
    here, there = _positions(network)[cut.layer - 1 : cut.layer + 1]
    neurons = _read(network, here, there)
    activations = None if calibration is None else _run(network[:there], calibration)
    main_of = _choose(neurons, cut, rule, activations)
    kept = similarity.mains(main_of)
    u, c = _merge(neurons, main_of, rule.include_bias)
    if rule.merge == "refit" and activations is not None and calibration is not None:
        target = _run(reference[: there + 1], calibration)
        u, c = least_squares.refit(activations[:, kept], target, u, c, rule.ridge)
    like = network[here].weight
    network[here] = _layer(neurons.v[kept], neurons.b[kept] if neurons.has_bias else None, like)
    network[there] = _layer(u, c, network[there].weight)


def _choose(neurons: _Neurons, cut: Cut, rule: Rule, activations: Floats | None) -> similarity.Grouping:
    """The grouping of the layer; with `qr` every kept neuron is a group of its own."""
    width = cut.width or len(neurons.v)
    if rule.choice == "cosine" or activations is None:
        matrix = similarity.cosine_similarity(neurons.vectors(rule.include_bias))
        if cut.threshold is not None:
            return similarity.group(matrix, cut.threshold)
        return similarity.group_to_width(matrix, width)[0]
    candidates = np.flatnonzero(neurons.varying())
    columns = activations[:, candidates]
    kept = candidates[least_squares.spanning_columns(columns - columns.mean(axis=0), width)]
    main_of = np.full(len(neurons.v), similarity.NO_GROUP)
    main_of[kept] = kept
    return main_of


def _merge(neurons: _Neurons, main_of: similarity.Grouping, include_bias: bool) -> tuple[Floats, Floats | None]:
    """Outgoing columns of the main neurons (eq. 10), and the next bias with the constant neurons in it."""
    kept = similarity.mains(main_of)
    norms = np.linalg.norm(neurons.vectors(include_bias), axis=1)
    grouped = np.flatnonzero(main_of != similarity.NO_GROUP)
    share = np.zeros((len(main_of), len(kept)))
    share[grouped, np.searchsorted(kept, main_of[grouped])] = norms[grouped] / norms[main_of[grouped]]
    constant = np.where(neurons.varying(), 0.0, neurons.constant)
    c = neurons.c
    if constant.any():
        c = (0.0 if c is None else c) + neurons.u @ constant
    return neurons.u @ share, c


def _read(network: nn.Sequential, here: int, there: int) -> _Neurons:
    layer, following = network[here], network[there]
    v, u = _numpy(layer.weight), _numpy(following.weight)
    b = np.zeros(len(v)) if layer.bias is None else _numpy(layer.bias)
    c = None if following.bias is None else _numpy(following.bias)
    if not all(np.isfinite(array).all() for array in (v, b, u, *([] if c is None else [c]))):
        raise NumericalError(f"the weights of modules {here} and {there} are not all finite")
    constant = _run(network[here + 1 : there], torch.from_numpy(b)[None, :])[0]
    return _Neurons(v, b, u, c, layer.bias is not None, constant)


def _layer(weight: Floats, bias: Floats | None, like: torch.Tensor) -> nn.Linear:
    layer = linear(weight.shape[1], weight.shape[0], bias=bias is not None, like=like)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
        if bias is not None:
            layer.bias.copy_(torch.from_numpy(bias))
    return layer


def _run(part: nn.Sequential, inputs: torch.Tensor) -> Floats:
    """Output of some modules as float64; computed in the dtype of their weights."""
    weight = next(part.parameters(), inputs)
    with torch.inference_mode():
        output = _numpy(part(inputs.to(weight)))
    if not np.isfinite(output).all():
        raise NumericalError("the activations of the calibration states are not all finite")
    return output


def _numpy(tensor: torch.Tensor) -> Floats:
    return tensor.detach().to("cpu", torch.float64).numpy()


def _positions(network: nn.Sequential) -> list[int]:
    """Where the Linear layers are. UsageError unless only elementwise activations lie between them."""
    if not isinstance(network, nn.Sequential) or type(network).forward is not nn.Sequential.forward:
        raise UsageError(f"cannot condense a {type(network).__name__}: expected a plain nn.Sequential")
    positions = [i for i, module in enumerate(network) if type(module) is nn.Linear]
    if len(positions) < 2:
        raise UsageError("cannot condense a network without a hidden Linear layer")
    for module in network[positions[0] : positions[-1]]:
        if type(module) is not nn.Linear and not _is_elementwise(module):
            raise UsageError(
                f"cannot condense across {type(module).__name__}: between two Linear layers only elementwise "
                "functions without parameters are allowed"
            )
    return positions


def _is_elementwise(module: nn.Module) -> bool:
    """Whether a module without parameters treats every number by itself, tried on a few."""
    if any(True for _ in (*module.parameters(), *module.buffers())):
        return False
    probe = torch.linspace(-2.0, 2.0, 6).reshape(2, 3)
    with torch.inference_mode():
        try:
            alone = torch.stack([module(number.reshape(1, 1)).reshape(()) for number in probe.flatten()])
            return torch.allclose(module(probe), alone.reshape(2, 3), rtol=1e-5, atol=1e-6)
        except (RuntimeError, ValueError):
            return False
