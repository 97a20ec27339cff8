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

import bisect
import copy
import functools
import itertools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from chemnet.condensation import selection, similarity
from chemnet.condensation.rules import Cut, Rule, check_cuts
from chemnet.runtime.config import parse
from chemnet.runtime.errors import NumericalError, UsageError

Floats = similarity.Floats
Loss = Callable[[nn.Sequential], float]

_SAME = 1e-6  # relative change of the outputs that rounding may cause
_PROBES = 256


def condense_layer(
    network: nn.Sequential,
    layer: int,
    *,
    threshold: float | None = None,
    width: int | None = None,
    loss_increase: float | None = None,
    loss: Loss | None = None,
    calibration: torch.Tensor | None = None,
    **rule: object,
) -> nn.Sequential:
    """A copy of `network` with hidden layer `layer` condensed; the network itself is not changed.

    Takes any Sequential of Linear layers with elementwise activations between them. Give one of a similarity
    `threshold`, the exact `width`, and a permitted `loss_increase` with the function `loss` of a network; `rule` are
    the fields of `Rule`. `calibration` (n, m_in) are inputs of the network, needed unless neurons are chosen by
    `cosine` and merged by the paper's rule.

    Warns, with the measured change of the outputs, where the paper's rule is not exact because of the activation.
    Raises UsageError for a layer, measure, rule or network that does not fit, NumericalError for weights or
    calibration states that are not finite.
    """
    measure = {"threshold": threshold, "width": width, "loss_increase": loss_increase}
    cut = parse(Cut, {"layer": layer, **measure}, "condense_layer")
    return _with_warning(network, [cut], parse(Rule, rule, "condense_layer"), calibration, loss)


def condense_all(
    network: nn.Sequential, widths: Sequence[int], *, calibration: torch.Tensor | None = None, **rule: object
) -> nn.Sequential:
    """As `condense_layer`, for all hidden layers in one go: `widths` are their new widths, first layer first."""
    n_hidden = len(hidden_widths(network))
    if len(widths) != n_hidden:
        raise UsageError(f"{len(widths)} widths for a network with {n_hidden} hidden layers")
    cuts = [parse(Cut, {"layer": i, "width": w}, "condense_all") for i, w in enumerate(widths, start=1)]
    return _with_warning(network, cuts, parse(Rule, rule, "condense_all"), calibration, None)


def condense_layers(
    network: nn.Sequential,
    cuts: Sequence[Cut],
    rule: Rule,
    calibration: torch.Tensor | None = None,
    loss: Loss | None = None,
) -> nn.Sequential:
    """As `condense_layer`, without a warning, for cuts of ascending layers, one after the other.

    A refit aims at what the next layer of the uncut `network` receives, so later layers mend what earlier cuts broke.
    """
    check_cuts(cuts, rule, hidden_widths(network))
    if calibration is None and rule.needs_states:
        raise UsageError(f"choice {rule.choice} with merge {rule.merge} needs calibration states")
    if loss is None and any(cut.loss_increase is not None for cut in cuts):
        raise UsageError("a cut by loss_increase needs the loss, a function of a network")
    result = nn.Sequential(*network)
    for cut in cuts:
        layer = _HiddenLayer(result, network, cut.layer, rule, calibration)
        result = layer.merged(_grouping(layer, cut, rule, loss))
    return _copy_of_the_rest(result, network)


def hidden_widths(network: nn.Sequential) -> tuple[int, ...]:
    """Widths of the hidden layers. UsageError for a network that cannot be condensed."""
    return tuple(network[position].out_features for position in _positions(network)[:-1])


def neuron_vectors(network: nn.Sequential, layer: int, include_bias: bool = True) -> Floats:
    """The neurons of hidden layer `layer` as vectors (m, d [+ 1]); zeros for those of constant output."""
    here, there = _positions(network)[layer - 1 : layer + 1]
    return _read(network, here, there).vectors(include_bias)


def is_homogeneous(network: nn.Sequential) -> bool:
    """Whether all activations are positively homogeneous, so that merging parallel neurons is exact."""
    positions = _positions(network)
    probe = torch.linspace(-2.0, 2.0, 8)
    with torch.inference_mode():
        return all(
            torch.allclose(module(3.0 * probe), 3.0 * module(probe), rtol=1e-5, atol=1e-6)
            for module in network[positions[0] : positions[-1]]
            if type(module) is not nn.Linear
        )


def output_change(before: nn.Sequential, after: nn.Sequential, x: torch.Tensor) -> float:
    """Mean absolute difference of two networks' outputs for inputs x (n, m_in), relative to the mean of the first's."""
    expected = _run(before, x)
    return float(np.abs(_run(after, x) - expected).mean() / max(np.abs(expected).mean(), np.finfo(float).tiny))


def _with_warning(
    network: nn.Sequential, cuts: Sequence[Cut], rule: Rule, calibration: torch.Tensor | None, loss: Loss | None
) -> nn.Sequential:
    """`condense_layers`, for a caller who is to know when the paper's rule has changed the outputs."""
    result = condense_layers(network, cuts, rule, calibration, loss)
    if rule.merge == "paper" and not is_homogeneous(network):
        x, on = calibration, "the calibration states"
        if x is None:
            generator = torch.Generator().manual_seed(0)
            x, on = torch.randn(_PROBES, network[0].in_features, generator=generator), "normally distributed inputs"
        change = output_change(network, result, x)
        if change > _SAME:
            warnings.warn(
                f"merging by the paper's rule is exact for activations like ReLU only; here it changed the outputs by "
                f"{100 * change:.2g} % on {on}. merge='refit' mends most of it.",
                stacklevel=3,
            )
    return result


def _grouping(layer: _HiddenLayer, cut: Cut, rule: Rule, loss: Loss | None) -> similarity.Grouping:
    """The groups that a cut asks for."""
    if cut.width is not None:
        return layer.to_width(cut.width)
    most = len(layer.neurons.v)
    if cut.threshold is not None:
        found = similarity.group(layer.cosines, cut.threshold)
        width = rule.rounded(similarity.n_groups(found), most)
        return found if width == similarity.n_groups(found) else layer.to_width(width)
    assert loss is not None and cut.loss_increase is not None
    limit = (1.0 + cut.loss_increase) * loss(layer.network)
    layer.order_all()
    widths = sorted({rule.rounded(width, most) for width in range(1, most)})
    first = bisect.bisect_left(widths, True, key=lambda width: loss(layer.merged(layer.to_width(width))) <= limit)
    return layer.to_width([*widths, most][first])


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


class _HiddenLayer:
    """One hidden layer of `network`, which earlier cuts may have changed from the uncut `reference`."""

    def __init__(
        self,
        network: nn.Sequential,
        reference: nn.Sequential,
        number: int,
        rule: Rule,
        calibration: torch.Tensor | None,
    ) -> None:
        self.network, self._reference, self._rule, self._calibration = network, reference, rule, calibration
        self._here, self._there = _positions(network)[number - 1 : number + 1]
        self.neurons = _read(network, self._here, self._there)
        self._order = np.empty(0, dtype=np.int64)

    @functools.cached_property
    def cosines(self) -> Floats:
        """Cosine similarity of its neurons (m, m)."""
        return similarity.cosine_similarity(self.neurons.vectors(self._rule.include_bias))

    @functools.cached_property
    def _activations(self) -> Floats:
        assert self._calibration is not None
        return _run(self.network[: self._there], self._calibration)

    @functools.cached_property
    def _target(self) -> Floats:
        """What the next layer of the reference receives (n, m_next)."""
        assert self._calibration is not None
        return _run(self._reference[: self._there + 1], self._calibration)

    def order_all(self) -> None:
        """Prepare for several widths: bring all neurons into the order in which they are chosen, where there is one."""
        if self._rule.choice != "cosine":
            self._order = self._first(len(self.neurons.v))

    def to_width(self, width: int) -> similarity.Grouping:
        """The grouping of the layer to a width; except with `cosine` every kept neuron is a group of its own."""
        if self._rule.choice == "cosine":
            return similarity.group_to_width(self.cosines, width)[0]
        main_of = np.full(len(self.neurons.v), similarity.NO_GROUP)
        kept = self._order[:width] if len(self._order) else self._first(width)
        main_of[kept] = kept
        return main_of

    def _first(self, count: int) -> similarity.Grouping:
        """The neurons that are chosen first, in this order; those of constant output never are."""
        candidates = np.flatnonzero(self.neurons.varying())
        columns, count = self._activations[:, candidates], min(count, len(candidates))
        if self._rule.choice == "qr":
            return candidates[selection.spanning_columns(columns - columns.mean(axis=0), count)]
        return candidates[selection.representing_columns(columns, self._target, count)]

    def merged(self, main_of: similarity.Grouping) -> nn.Sequential:
        """The network with this layer merged; its other modules are those of the network itself."""
        kept = similarity.mains(main_of)
        u, c = _merge(self.neurons, main_of, self._rule.include_bias)
        if self._rule.merge == "refit":
            u, c = selection.refit(self._activations[:, kept], self._target, u, c, self._rule.ridge)
        modules = list(self.network)
        b = self.neurons.b[kept] if self.neurons.has_bias else None
        modules[self._here] = _layer(self.neurons.v[kept], b, modules[self._here].weight)
        modules[self._there] = _layer(u, c, modules[self._there].weight)
        return nn.Sequential(*modules)


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
    place: dict[str, Any] = {"device": like.device, "dtype": like.dtype}
    layer = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0], bias=bias is not None, **place)
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
    for place in range(positions[0], positions[-1]):
        module = network[place]
        if type(module) is not nn.Linear and not _is_elementwise(module):
            raise UsageError(
                f"cannot condense across module {place}, {type(module).__name__}: between two Linear layers only "
                "elementwise functions without parameters are allowed"
            )
    for a, b in itertools.combinations(positions, 2):
        if network[a].weight.data_ptr() == network[b].weight.data_ptr():
            raise UsageError(
                f"modules {a} and {b} share their weights: cutting one would change the other\n"
                "Give each a copy of its own first."
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


def _copy_of_the_rest(result: nn.Sequential, network: nn.Sequential) -> nn.Sequential:
    """`result` with copies of the modules that it shares with `network`."""
    theirs = {id(module) for module in network}
    return nn.Sequential(*(copy.deepcopy(module) if id(module) in theirs else module for module in result))
