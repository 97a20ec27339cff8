"""What a reduction is asked for: how far each layer is cut, and by which rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from chemnet.runtime.config import Config
from chemnet.runtime.errors import UsageError


class Cut(Config):
    """How far hidden layer `layer` (the first is 1) is cut, one of three: to the groups at a similarity `threshold`, to
    an exact `width`, or as far as the loss at once exceeds that before the cut by no more than the share
    `loss_increase`."""

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
    """Which neurons stay (`choice`) and what becomes of the others (`merge`).

    * `choice`: `cosine` groups by similarity as published; `qr` takes the neurons whose activations span the layer
      best; `forward` those from which what the next layer receives can be represented best, one after the other.
    * `merge`: `paper` is eq. 10; `refit` adds a least-squares refit of the next layer, with a `ridge` relative to the
      mean diagonal of the Gram matrix. A smaller ridge is better at once, but leaves weights so large that training
      hardly moves them.
    * Without `include_bias` a neuron's vector is its weights alone.
    * `round_to`: widths that follow from a threshold or a loss are rounded up to a multiple of it.
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

    @property
    def needs_states(self) -> bool:
        """Whether calibration states are needed."""
        return self.choice != "cosine" or self.merge == "refit"

    def rounded(self, width: int, most: int) -> int:
        """A width rounded up to a multiple of `round_to`, but not beyond the width `most` of the layer."""
        return min(-(-width // self.round_to) * self.round_to, most)


def check_cuts(cuts: Sequence[Cut], rule: Rule, widths: Sequence[int]) -> tuple[int, ...]:
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
