"""Stages of a reduction: cuts of the layers, rule of condensation, retraining."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import nn

from chemnet.condensation.choices import Choice, Cosine
from chemnet.condensation.condenser import condense
from chemnet.runtime.config import Config, parse, read_yaml, shipped_yaml
from chemnet.runtime.errors import UsageError
from chemnet.training.options import FitOptions


class Cut(Config):
    """Cut of hidden layer `layer` (the first is 1), one of three: to the groups at a similarity `threshold`, to
    an exact `width`, or to the smallest at which the loss at once is at most the share `loss_increase` larger than
    before the cut."""

    layer: Annotated[int, Field(ge=1)]
    threshold: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    width: Annotated[int, Field(ge=1)] | None = None
    loss_increase: Annotated[float, Field(ge=0.0)] | None = None

    @model_validator(mode="after")
    def _one_measure(self) -> Cut:
        if sum(measure is not None for measure in (self.threshold, self.width, self.loss_increase)) != 1:
            raise ValueError("give one of threshold, width and loss_increase")
        return self


class Rule(Config):
    """Choice of the neurons that stay and merge of the others, as in `condensation.condense`.

    Without `include_bias` a neuron's vector is its weights alone, for choice `cosine`.
    """

    choice: Literal["cosine", "qr", "forward"] = "cosine"
    merge: Literal["paper", "refit"] = "paper"
    include_bias: bool = True
    ridge: Annotated[float, Field(gt=0.0)] = 1e-3
    round_to: Annotated[int, Field(ge=1)] = 1

    @model_validator(mode="after")
    def _only_cosine_has_groups(self) -> Rule:
        if self.choice != "cosine" and self.merge == "paper":
            raise ValueError(f"choice {self.choice} makes no groups to merge by the paper's rule; use merge: refit")
        return self


class Stage(Rule):
    """One stage: where to cut, by which rule, on how many calibration states, and how to train on."""

    cuts: Annotated[tuple[Cut, ...], Field(min_length=1)]
    calibration_states: Annotated[int, Field(ge=1)] = 8192
    retrain: FitOptions


class Stages(Config):
    """Stages that are run one after the other."""

    description: str = ""
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]

    def check(self, widths: Sequence[int], stage: int) -> None:
        """UsageError unless stages 1 to `stage` exist and fit a network with these hidden widths."""
        if not 1 <= stage <= len(self.stages):
            raise UsageError(f"stage {stage}: there are stages 1 to {len(self.stages)}")
        for number, entry in enumerate(self.stages[:stage], start=1):
            try:
                widths = _check_cuts(entry.cuts, entry, widths)
            except UsageError as error:
                raise UsageError(f"stage {number}: {error}\nThe stages are made for another network.") from None


def read_stages(name: str | Path) -> Stages:
    """Stages by a name that ships or by the path of a YAML file."""
    path = shipped_yaml(name, "stages", Path(__file__).parent / "stage_sets")
    return parse(Stages, read_yaml(path), str(path))


def _check_cuts(cuts: Sequence[Cut], rule: Rule, widths: Sequence[int]) -> tuple[int, ...]:
    """Upper bounds of the hidden widths after `cuts`. UsageError for a cut that is not possible."""
    bounds = list(widths)
    layers = [cut.layer for cut in cuts]
    if layers != sorted(set(layers)):
        raise UsageError(f"cuts of layers {layers}: name each layer once, in ascending order")
    for cut in cuts:
        if rule.choice != "cosine" and cut.threshold is not None:
            raise UsageError(
                f"layer {cut.layer}: choice {rule.choice} needs a width or a loss_increase, "
                "a threshold belongs to cosine"
            )
        if cut.layer > len(bounds):
            raise UsageError(f"layer {cut.layer}: the network has hidden layers 1 to {len(bounds)}")
        if cut.width is not None and cut.width > bounds[cut.layer - 1]:
            raise UsageError(f"layer {cut.layer}: width {cut.width} of {bounds[cut.layer - 1]} neurons")
        if cut.width is not None and cut.width % rule.round_to:
            raise UsageError(f"layer {cut.layer}: width {cut.width} is no multiple of round_to {rule.round_to}")
        bounds[cut.layer - 1] = cut.width or bounds[cut.layer - 1]
    return tuple(bounds)


def hidden_layers(network: nn.Sequential) -> list[str]:
    """Module names of the hidden Linear layers, first one first."""
    return [name for name, module in network.named_children() if type(module) is nn.Linear][:-1]


def condense_layers(
    network: nn.Sequential,
    cuts: Sequence[Cut],
    rule: Rule,
    calibration: torch.Tensor,
    loss: Callable[[nn.Module], float] | None = None,
) -> tuple[nn.Sequential, list[str]]:
    """A copy of `network` after some cuts, one after the other, and warnings; `calibration` (n, m_in) are inputs.

    Raises what `condense` raises.
    """
    layers, measures = hidden_layers(network), dict[str, dict[str, float]]()
    for cut in cuts:
        for name, value in (("threshold", cut.threshold), ("widths", cut.width), ("loss_increase", cut.loss_increase)):
            if value is not None:
                measures.setdefault(name, {})[layers[cut.layer - 1]] = value
    choice: str | Choice = Cosine(rule.include_bias) if rule.choice == "cosine" else rule.choice
    calibration = calibration.to(next(network.parameters()))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = condense(
            network,
            calibration[:1],
            **measures,  # type: ignore[arg-type]
            loss=loss,
            choice=choice,
            merge=rule.merge,
            calibration=calibration,
            ridge=rule.ridge,
            round_to=rule.round_to,
        )
    assert isinstance(result, nn.Sequential)
    return result, [str(one.message) for one in caught]
