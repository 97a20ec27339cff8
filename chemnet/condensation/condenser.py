"""Condenser of any network that runs on an example: chooses channels that stay, merges the others into them.

What can be condensed are the spaces of `channels.py`; `cutting.py` cuts them one after the other. A result is checked
by `verification.py` before it is returned: a layer with which it does not do what merging predicts is left alone, with
a warning that says why, and the rest is condensed without it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import nn

from chemnet.condensation.budgets import Budget, MultiplyAdds, Parameters
from chemnet.condensation.channels import Channels
from chemnet.condensation.choices import CHOICES, Choice
from chemnet.condensation.cutting import Condensation, Loss
from chemnet.condensation.inputs import Inputs, calibration_inputs
from chemnet.condensation.latency import Latency
from chemnet.condensation.layer_table import layer_table
from chemnet.condensation.limits import Least
from chemnet.condensation.method import Merge, Method
from chemnet.condensation.progress import Report, silent
from chemnet.condensation.verification import faults
from chemnet.runtime.config import Config
from chemnet.runtime.errors import NumericalError, UsageError

_MERGES = {"paper": "paper", "refit": "refit"}
_BUDGETS: dict[str, Callable[[nn.Module, Channels, Inputs], Budget]] = {
    "parameters": Parameters.of_call,
    "macs": MultiplyAdds.of_call,
    "latency": Latency,
}
_RANGES: dict[str, tuple[Any, str]] = {
    **dict.fromkeys(("threshold", "ratio"), (lambda value: 0.0 < value <= 1.0, "a number in (0, 1]")),
    **dict.fromkeys(("widths", "round_to"), (lambda value: value >= 1, "a whole number from 1 on")),
    "loss_increase": (lambda value: value >= 0.0, "a number from 0 on"),
    "ridge": (lambda value: value > 0.0, "a positive number"),
    "least": (
        lambda value: value >= 1 if isinstance(value, int) else 0.0 < value <= 1.0,
        "a whole number of channels from 1 on, or a share in (0, 1]",
    ),
}


class Rule(Config):
    """Options of `condense` as they stand in a file."""

    choice: Literal["folded", "activations", "forward", "published", "cosine", "qr"] = "folded"
    merge: Literal["paper", "refit"] | None = None
    ridge: Annotated[float, Field(gt=0.0)] = 1e-3
    round_to: Annotated[int, Field(ge=1)] = 1
    least: Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0.0, le=1.0)] | None = None


def condense(
    model: nn.Module,
    example_input: Any,
    *,
    threshold: float | Mapping[str, float] | None = None,
    ratio: float | None = None,
    widths: int | Mapping[str, int] | None = None,
    loss_increase: float | Mapping[str, float] | None = None,
    loss: Loss | None = None,
    layers: str | Sequence[str] | None = None,
    choice: str | Choice = "folded",
    merge: str | Merge | None = None,
    calibration: Any = None,
    ridge: float = 1e-3,
    round_to: int = 1,
    least: Least | None = None,
    budget: str = "parameters",
    report: Report | None = None,
) -> nn.Module:
    """A condensed copy of `model`, an ordinary module of the same class; the model itself is not changed.

    `example_input` is one input tensor, a tuple of arguments, or a mapping of names to arguments. How far to condense
    is one of

    * `threshold`: to the groups at a similarity in (0, 1]; with a ranking, to the fewest channels with which the cosine
      of what the readers receive and of what they received reaches it;
    * `ratio`: to the largest network with at most this share, in (0, 1], of the `budget`: of the `parameters`, of the
      multiply-adds (`macs`) of a call on the example, or of its `latency`, measured with as many threads as torch uses;
    * `widths`: to exact widths;
    * `loss_increase`: to the smallest width at which `loss`, a function of a network, is at once at most this share
      larger than before the cut of the layer.

    All but the ratio may be mappings of layers to numbers, and may then be combined. `layers` are names of layers;
    without them all spaces are condensed that can be (`survey` lists the others, with the reason).

    * `choice`: a name in `choices.CHOICES`, or a function as described there.
    * `merge`: `paper` merges as published; `refit` adds a least-squares fit of the readers on `calibration`, some
      hundred inputs like the example, with a `ridge` relative to the mean diagonal of the Gram matrix; or a function of
      the `View` and the kept channels (k,) that gives every reader's share matrix (m, k). By default `refit`, if there
      are calibration inputs. A smaller ridge is better at once, but leaves weights so large that training hardly moves
      them.
    * `round_to`: widths that follow from the other measures are rounded up to a multiple of it.
    * `least`: the smallest width of every layer, or a mapping of layers to theirs: a whole number of channels, or a
      share in (0, 1] of the layer's (1 is one channel, 1.0 all of them).
    * `report`, such as `print`, gets lines of progress and, at the end, the `Table` of what each layer gave.

    At a threshold of 1 what is merged is equal to the rounding of the weights' type, and the outputs stay the same,
    except by a choice that ignores the activations: then a warning says by how much the outputs changed. Every result
    is checked: it has to do what merging predicts, in use and in training, also when saved and read again. A layer with
    which it does not is left alone, with a warning.

    Raises UsageError for a model that does not run on the example or cannot be copied, a measure out of range, a
    layer that does not exist or cannot be condensed; NumericalError for weights or activations that are not finite, and
    for a layer asked for by name with which the result does not do what merging predicts.
    """
    measures = {"threshold": threshold, "ratio": ratio, "widths": widths, "loss_increase": loss_increase}
    _check(measures, {"ridge": ridge, "round_to": round_to, "least": least}, layers, loss)
    if budget != "parameters" and ratio is None:
        raise UsageError(f"budget {budget}: give the ratio, the share of it that may be left")
    example = Inputs.of(example_input, model)
    inputs = None if calibration is None else calibration_inputs(calibration, example, model)
    if merge is None:
        merge = "paper" if inputs is None else "refit"
    report = report or silent
    measured = _Once(_known(budget, _BUDGETS, "budget"))
    method = Method(
        _known(choice, CHOICES, "choice"),
        choice,
        _known(merge, _MERGES, "merge"),
        ridge,
        round_to,
        least,
        measured,
        report,
    )
    if merge == "refit" and inputs is None:
        raise UsageError("merge refit needs calibration inputs")
    left_alone: dict[str, str] = {}
    while True:
        work = Condensation(model, example, method, inputs, loss, may_add_biases=ratio is None, left_alone=left_alone)
        work.take(measures, layers)
        result, found = work.finished(), faults(work)
        if not found:
            break
        named = {layer for value in measures.values() if isinstance(value, Mapping) for layer in value}
        if named or layers is not None:
            layer, reason = next(iter(found.items()))
            raise NumericalError(f"{layer} cannot be condensed: {reason}")
        left_alone |= found
    if left_alone:
        each = "\n".join(f"{layer}: {reason}" for layer, reason in left_alone.items())
        warnings.warn(f"layers were left alone, as what became of the network was checked:\n{each}", stacklevel=2)
    work.warn()
    if report is not silent:
        report(layer_table(work, measured.made))
    return result


class _Once:
    """A budget, which is measured once, if it is asked for, however often the condensation begins anew."""

    def __init__(self, make: Callable[[nn.Module, Channels, Inputs], Budget]) -> None:
        self._make = make
        self.made: Budget | None = None

    def __call__(self, model: nn.Module, channels: Channels, example: Inputs) -> Budget:
        if self.made is None:
            self.made = self._make(model, channels, example)
        return self.made


def _check(measures: Mapping[str, Any], numbers: Mapping[str, Any], layers: object, loss: Loss | None) -> None:
    given = [value for value in measures.values() if value is not None]
    if not given or (len(given) > 1 and not all(isinstance(value, Mapping) for value in given)):
        raise UsageError("give one of threshold, ratio, widths and loss_increase, or mappings of layers to numbers")
    if layers is not None and isinstance(given[0], Mapping):
        raise UsageError("layers: the mapping names them already")
    for name, value in {**measures, **numbers}.items():
        for number in value.values() if isinstance(value, Mapping) else [] if value is None else [value]:
            is_possible, expected = _RANGES[name]
            if not is_possible(number):
                raise UsageError(f"{name} {number}: expected {expected}")
    if measures["loss_increase"] is not None and loss is None:
        raise UsageError("loss_increase needs the loss, a function of a network")


def _known(given: Any, known: Mapping[str, Any], kind: str) -> Any:
    """The value of a name, or the given thing itself where it is no name. UsageError for an unknown name."""
    if isinstance(given, str) and given not in known:
        raise UsageError(f"{kind} {given}: choose one of {', '.join(known)}")
    return known[given] if isinstance(given, str) else given
