"""What a training of images, and the reduction that follows it, are made of: read from `recipes/*.yaml`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from chemnet.condensation.condenser import Rule
from chemnet.reduction.automatic import AutomaticOptions
from chemnet.runtime.config import Config, override, parse, read_yaml, shipped_yaml
from chemnet.vision.mobilenet import Initialisation

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0.0)]
NotNegative = Annotated[float, Field(ge=0.0)]


class Phase(Config):
    """A part of the strategy: an optimiser and how its rate moves with the step, over so many `steps` (None: to the
    end).

    `cosine` falls from the rate to `lowest` over each `period`, after `warmup` steps in which it rises; `alternating`
    changes between the rate and `lowest` every `period`. Without a `rate` it is the initial rate of the strategy, which
    the automatic reduction changes after every cut. SGD has a momentum of 0.9, on request Nesterov's.
    """

    optimizer: Literal["sgd", "adam"]
    schedule: Literal["cosine", "alternating"]
    period: Positive
    rate: Positive | None = None
    lowest: NotNegative = 0.0
    warmup: NotNegative = 0.0
    weight_decay: NotNegative = 0.0
    nesterov: bool = False
    steps: Count | None = None

    def rate_at(self, time: float, initial: float) -> float:
        """Learning rate at `time` [steps] since the phase began, in a strategy of this `initial` rate."""
        highest = initial if self.rate is None else self.rate
        if self.schedule == "alternating":
            return highest if int(time // self.period) % 2 == 0 else self.lowest
        if time < self.warmup:
            return highest * (time + 1e-3) / self.warmup
        share = math.fmod(time - self.warmup, self.period) / self.period
        return self.lowest + 0.5 * (highest - self.lowest) * (1.0 + math.cos(math.pi * share))


class ReductionRecipe(Config):
    """How a trained classifier is reduced automatically: the algorithm's options, and how channels are condensed.

    A step is `batches` of the training, or one epoch; the `strategy` is that of the training where it is left out, with
    the algorithm's rates. `calibration` of the training images are what readers are mended and statistics estimated
    with; 0: neither is done.
    """

    batches: Count | None = None
    strategy: tuple[Phase, ...] | None = None
    rule: Rule = Rule()
    calibration: Annotated[int, Field(ge=0)] = 512
    automatic: AutomaticOptions = AutomaticOptions()


class TrainingRecipe(Config):
    """How to train a classifier of images.

    A step is `batches` of `batch_size` images, or one epoch. `validation` of the training images are kept aside, the
    last ones of the set, to judge by; the test images are for the final figures only. Images are shifted by up to
    `shift` pixels and flipped at random.
    """

    name: str
    description: str = ""
    downsampling: Literal[4, 8, 16, 32] = 32
    initialisation: Initialisation = "default"
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.2
    validation: Count = 5000
    batch_size: Annotated[int, Field(ge=2)] = 128
    batches: Count | None = None
    steps: Count
    initial_rate: Positive
    strategy: tuple[Phase, ...] = Field(min_length=1)
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    shift: Annotated[int, Field(ge=0)] = 4
    flip: bool = True
    reduction: ReductionRecipe = ReductionRecipe()

    def for_reduction(self) -> TrainingRecipe:
        """The same training with the steps and the strategy of the reduction."""
        changes: dict[str, Any] = {
            "batches": self.reduction.batches,
            "initial_rate": self.reduction.automatic.rate.at(0),
        }
        if self.reduction.strategy is not None:
            changes["strategy"] = self.reduction.strategy
        return self.model_copy(update=changes)

    def phase_at(self, time: float) -> tuple[int, float]:
        """Number of the phase at `time` [steps] since the strategy began, and the time since that phase did."""
        for number, phase in enumerate(self.strategy[:-1]):
            if phase.steps is None or time < phase.steps:
                return number, time
            time -= phase.steps
        return len(self.strategy) - 1, time


def load_recipe(name_or_path: str | Path = "short", changes: Sequence[str] = ()) -> TrainingRecipe:
    """The recipe of a name that ships or of a YAML file, with `key=value` changes. Raises UsageError, FileError."""
    path = shipped_yaml(name_or_path, "recipe", Path(__file__).parent)
    return parse(TrainingRecipe, override(read_yaml(path), changes), str(path))
