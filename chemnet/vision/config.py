"""Configs of image trainings and their reductions, read from `configs/*.yaml`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from chemnet.condensation.condenser import Rule
from chemnet.reduction.automatic import AutomaticOptions
from chemnet.runtime.config import Config, override, parse, read_yaml, shipped_yaml
from chemnet.training.options import Count, FitOptions, Phase, Positive
from chemnet.vision.mobilenet import Initialisation
from chemnet.vision.networks import NetworkName


class ImageReductionConfig(Config):
    """Automatic reduction of a trained classifier: the algorithm's options, and how channels are condensed.

    A step is `batches` of the training, or one epoch; the default `strategy` is that of the training, with the
    algorithm's rates. With `calibration`, a number of training images, the next layers are refitted and BatchNorm's
    statistics estimated; 0: neither is done.
    """

    batches: Count | None = None
    strategy: tuple[Phase, ...] | None = None
    rule: Rule = Rule()
    calibration: Annotated[int, Field(ge=0)] = 512
    automatic: AutomaticOptions = AutomaticOptions()


class ImageConfig(Config):
    """Training of a classifier of images.

    A step, also the unit of time of the `strategy`, is `batches` of `batch_size` images, or one epoch. The last
    `validation` training images are kept aside for validation; the test images are for the final figures only. Images
    are shifted by up to `shift` pixels and flipped at random. Residual networks and transformers have downsampling 4,
    the plain network 8, and no other initialisation. `precision` bf16 multiplies in bfloat16 where the processor has
    instructions for it; on some of those without AMX that takes these small convolutions longer than fp32.
    """

    name: str
    description: str = ""
    network: NetworkName = "mobilenet_v2"
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
    precision: Literal["fp32", "bf16"] = "fp32"
    shift: Annotated[int, Field(ge=0)] = 4
    flip: bool = True
    reduction: ImageReductionConfig = ImageReductionConfig()

    def for_reduction(self) -> ImageConfig:
        """The same training with the steps and the strategy of the reduction."""
        changes: dict[str, Any] = {
            "batches": self.reduction.batches,
            "initial_rate": self.reduction.automatic.rate.at(0),
        }
        if self.reduction.strategy is not None:
            changes["strategy"] = self.reduction.strategy
        return self.model_copy(update=changes)

    def options(self, images: int) -> FitOptions:
        """Options of a training on this number of images; it reports after every step of the config."""
        batches = self.batches or images // self.batch_size
        return FitOptions(
            learning_rate=self.initial_rate,
            phases=self.strategy,
            phase_unit=batches,
            steps=self.steps * batches,
            batch_size=self.batch_size,
            report_every=batches,
            average_share=0.0,
            precision=self.precision,
            rollouts=0,
        )


def load_config(name_or_path: str | Path = "short", changes: Sequence[str] = ()) -> ImageConfig:
    """The config of a name that ships or of a YAML file, with `key=value` changes. Raises UsageError, FileError."""
    path = shipped_yaml(name_or_path, "config", Path(__file__).parent / "configs")
    return parse(ImageConfig, override(read_yaml(path), changes), str(path))
