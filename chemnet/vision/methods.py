"""Methods that reduce a trained classifier, each to a share of its parameters or of its multiply-adds."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from chemnet.condensation.condenser import condense
from chemnet.reduction.baselines import BASELINES, start_anew
from chemnet.reduction.narrowing import count
from chemnet.runtime.errors import UsageError
from chemnet.vision.costs import multiply_adds
from chemnet.vision.mobilenet import LAST_LAYER
from chemnet.vision.networks import hidden_layers

UNTRAINED = ("scratch", "scratch-condensed")
_BASELINES = (
    *("scratch", "magnitude", "neuron-merging", "folding", "iterative-merging", "grail"),
    *("torch-pruning-magnitude", "torch-pruning-group-norm"),
)
_HALVINGS = 7  # of the share of the parameters at which a share of the multiply-adds is left

Make = Callable[[nn.Module, float, torch.Tensor, int], nn.Module]


def _condensed(
    network: nn.Module,
    share: float,
    calibration: torch.Tensor,
    seed: int,
    *,
    choice: str,
    everywhere: bool = False,
    budget: str = "parameters",
) -> nn.Module:
    """Condensation to a share of a budget, of all channels or of those inside of the blocks."""
    layers = None if everywhere else list(hidden_layers(network).values())
    how = {"layers": layers, "calibration": calibration, "choice": choice, "budget": budget}
    return condense(network, calibration[:1], ratio=share, **how)


def _published(network: nn.Module, share: float, calibration: torch.Tensor, seed: int) -> nn.Module:
    """Condensation of MobileNetV2 by the published rules, without refit or new statistics.

    The layer before the classifier is condensed by rows to the share of its own parameters, then the blocks by their
    depthwise filters to the share of the whole. Raises UsageError for other networks.
    """
    example, whole, (last,) = calibration[:1], count(network), LAST_LAYER.values()
    blocks = [layer for layer in hidden_layers(network).values() if layer != last]
    if len(blocks) == len(hidden_layers(network)):
        raise UsageError("the published rules are for MobileNetV2: leave condensation-published out")
    mine = count(network.get_submodule("features")[-1]) + count(network.get_submodule("classifier"))
    trimmed = condense(network, example, ratio=1.0 - (1.0 - share) * mine / whole, layers=[last])
    return condense(trimmed, example, ratio=share * whole / count(trimmed), layers=blocks, choice="published")


def _scratch_condensed(
    network: nn.Module, share: float, calibration: torch.Tensor, seed: int, *, budget: str = "parameters"
) -> nn.Module:
    """Untrained network of the widths that forward selection gives, to separate widths from weights."""
    result = _condensed(network, share, calibration, seed, choice="forward", everywhere=True, budget=budget)
    start_anew(result, seed)
    return result


_CONDENSATIONS: dict[str, Callable[..., nn.Module]] = {  # to a share of a `budget`
    "condensation-forward": partial(_condensed, choice="forward", everywhere=True),
    "condensation-forward-blocks": partial(_condensed, choice="forward"),
    "condensation-activations": partial(_condensed, choice="activations"),
    "scratch-condensed": _scratch_condensed,
}
METHODS: dict[str, Make] = {
    **_CONDENSATIONS,
    "condensation-published": _published,
    **{name: BASELINES[name] for name in _BASELINES},
}


def to_cost(method: str) -> Make:
    """A method to a share of the multiply-adds: condensation divides it, others narrow until it is reached."""
    if method in _CONDENSATIONS:
        return partial(_CONDENSATIONS[method], budget="macs")
    return partial(within_cost, METHODS[method])


def within_cost(make: Make, network: nn.Module, share: float, calibration: torch.Tensor, seed: int) -> nn.Module:
    """What a method makes of a network with at most `share` of the multiply-adds, and as many parameters as can be.

    Their share is bisected, to less than a hundredth. Raises UsageError where the method cannot come so far down.
    """
    limit = share * multiply_adds(network)
    low, high, best = 0.0, 1.0, None
    refusal = ""
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        try:
            made = make(copy.deepcopy(network), middle, calibration, seed)
        except UsageError as error:  # too small a share for the method
            low, refusal = middle, str(error)
            continue
        if multiply_adds(made) <= limit:
            low, best = middle, made
        else:
            high = middle
    if best is None:
        reason = f"\n{refusal}" if refusal else ""
        raise UsageError(f"no share of the parameters leaves {share:g} of the multiply-adds{reason}")
    return best
