"""Comparison of methods that reduce a trained classifier, at equal parameters and equal retraining."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import nn

from chemnet.condensation.condenser import condense
from chemnet.reduction.baselines import BASELINES, lacks, start_anew
from chemnet.reduction.comparison import (
    Column,
    Comparison,
    ComparisonSettings,
    Count,
    Figure,
    Job,
    Positive,
    Trained,
)
from chemnet.runtime.config import parse, read_yaml, shipped_yaml
from chemnet.runtime.run_folder import sha256
from chemnet.runtime.tables import Table
from chemnet.training.options import Phase, choose_device
from chemnet.vision.classifier import Classifier, load_classifier
from chemnet.vision.config import ImageConfig
from chemnet.vision.costs import multiply_adds
from chemnet.vision.images import ImageSet, read_images
from chemnet.vision.mobilenet import LAST_LAYER, MobileNetV2, hidden_layers
from chemnet.vision.networks import count
from chemnet.vision.training import ImageTraining, accuracy, channels_last, fingerprint, prepared

UNTRAINED = ("scratch", "scratch-condensed")
_BASELINES = ("scratch", "neuron-merging", "torch-pruning-magnitude", "torch-pruning-group-norm")
_NOT_IN_ORIGIN = {"description", "methods", "seeds", "shares", "rates", "scratch_rates"}


def _condensed(
    network: MobileNetV2, share: float, calibration: torch.Tensor, seed: int, *, choice: str, everywhere: bool = False
) -> nn.Module:
    """Condensation to a share of the parameters, of all channels or of those of the paper."""
    layers = None if everywhere else [*hidden_layers().values(), *LAST_LAYER.values()]
    return condense(network, calibration[:1], ratio=share, layers=layers, calibration=calibration, choice=choice)


def _published(network: MobileNetV2, share: float, calibration: torch.Tensor, seed: int) -> nn.Module:
    """Condensation by the published rules, without refit or new statistics.

    The layer before the classifier is condensed by rows to the share of its own parameters, then the blocks by their
    depthwise filters to the share of the whole.
    """
    example, whole = calibration[:1], count(network)
    last = count(network.features[-1]) + count(network.classifier)
    trimmed = condense(network, example, ratio=1.0 - (1.0 - share) * last / whole, layers=list(LAST_LAYER.values()))
    blocks = list(hidden_layers().values())
    return condense(trimmed, example, ratio=share * whole / count(trimmed), layers=blocks, choice="published")


def _scratch_condensed(network: MobileNetV2, share: float, calibration: torch.Tensor, seed: int) -> nn.Module:
    """Untrained network of the widths that forward selection gives, to separate widths from weights."""
    result = _condensed(network, share, calibration, seed, choice="forward", everywhere=True)
    start_anew(result, seed)
    return result


Make = Callable[[MobileNetV2, float, torch.Tensor, int], nn.Module]

METHODS: dict[str, Make] = {
    "condensation-forward": partial(_condensed, choice="forward", everywhere=True),
    "condensation-activations": partial(_condensed, choice="activations"),
    "condensation-published": _published,
    "scratch-condensed": _scratch_condensed,
    **{name: BASELINES[name] for name in _BASELINES},
}


class ImageSettings(ComparisonSettings):
    """Settings of a comparison: for each of `shares` of the parameters and each seed, `batches` of retraining.

    The rate falls to zero along half a cosine. It begins at the one of `rates` (of `scratch_rates` for untrained
    networks) with which the first seed is best on the validation images. `calibration` is a number of images.
    """

    known_methods: ClassVar[Sequence[str]] = tuple(METHODS)

    shares: tuple[Annotated[float, Field(gt=0.0, le=1.0)], ...]
    batches: Count
    scratch_rates: tuple[Positive, ...] = Field(min_length=1)
    weight_decay: Annotated[float, Field(ge=0.0)]
    calibration: Count


def compare(
    name: str,
    data: Path,
    *,
    config: ImageConfig,
    model: Path | None = None,
    out: Path | None = None,
    device: str = "auto",
    overwrite: bool = False,
    report: Callable[[str], None] = print,
) -> list[Table]:
    """Tables of the methods of a comparison, shipped or of a YAML file: mean and range of the test accuracies.

    Results lie in `out` (default: `comparison` beside the classifier); finished runs are reused, and those
    of other settings replaced with `overwrite` only. Methods without their package are skipped with a message. Raises
    UsageError for an unknown method and for runs that would be lost, FileError for files that are missing or damaged.
    """
    path = shipped_yaml(name, "comparison", Path(__file__).parent / "comparisons")
    settings = parse(ImageSettings, read_yaml(path), str(path))
    source = model or Path("runs") / f"vision-{config.name}"
    classifier, images = load_classifier(source), read_images(data)
    out = out or (source if source.is_dir() else source.parent) / "comparison"
    task = ImageTask(settings, classifier, images, config, out / "networks", choose_device(device))
    comparison = Comparison(task, settings, out, overwrite=overwrite, report=report)
    tables = comparison.tables([f"{share:g}" for share in settings.shares], [task.start_table()])
    comparison.write_page(tables)
    return tables


class ImageTask:
    """Comparison of classifiers: what all of its runs share."""

    def __init__(
        self,
        settings: ImageSettings,
        classifier: Classifier,
        images: ImageSet,
        config: ImageConfig,
        networks: Path,
        device: str,
    ) -> None:
        self.settings, self.classifier, self.images, self.device = settings, classifier, images, device
        self.networks = networks
        phase = Phase(optimizer="sgd", schedule="cosine", period=1, weight_decay=settings.weight_decay, nesterov=True)
        self.config = config.model_copy(update={"strategy": (phase,), "batches": settings.batches})
        plain = settings.model_dump(mode="json", exclude=_NOT_IN_ORIGIN)
        self.origin = sha256([plain, classifier.fingerprint(), fingerprint(images)])
        self._start = count(classifier.network), multiply_adds(classifier.network)

    @property
    def columns(self) -> tuple[Column, ...]:
        """Columns of the table."""
        parameters, cost = self._start
        return (
            Column("parameters [%]", "parameters", 100.0 / parameters),
            Column("multiply-adds [%]", "multiply_adds", 100.0 / cost),
            Column("at once [%]", "at_once", 100.0),
            Column("accuracy [%]", "accuracy", 100.0, spread=True),
        )

    def start_table(self) -> Table:
        """Table of the parameters, multiply-adds and test accuracy of the classifier that all methods start from."""
        row = (*self._start, 100.0 * accuracy(self.classifier.network, self.images.test))
        return Table("the classifier before", ("parameters", "multiply-adds", "test accuracy [%]"), [row])

    def lacks(self, method: str) -> str | None:
        """Package that a method needs and that is not installed, or None."""
        return lacks(method)

    def rates(self, method: str) -> Sequence[float]:
        """Initial learning rates to scan for a method."""
        return self.settings.scratch_rates if method in UNTRAINED else self.settings.rates

    def train(self, job: Job) -> Trained:
        """The network of a method, retrained; its loss is the share of wrong validation images."""
        network = self._made(job.method, job.target, job.seed)
        facts = {
            "parameters": count(network),
            "multiply_adds": multiply_adds(network),
            "at_once": accuracy(network, self.images.test),
        }
        training = ImageTraining(copy.deepcopy(network), self.images, self.config, seed=job.seed, device=self.device)
        training.begin(job.rate)
        training.train()
        return Trained(training.network, 1.0 - training.metric(), facts)

    def measure(self, job: Job, trained: Trained) -> Mapping[str, Figure]:
        """Test accuracy."""
        return {"accuracy": accuracy(trained.network, self.images.test.to(self.device))}

    def _made(self, method: str, target: str, seed: int) -> nn.Module:
        """The network of a method before retraining; one that does not depend on the seed is made once."""
        path = self.networks / f"{method}-{target}-{self.origin[:12]}.pt"
        if path.exists() and method not in UNTRAINED:
            return load_classifier(path).network
        inputs = images_of(self.images, self.config, self.settings.calibration)
        network = METHODS[method](copy.deepcopy(self.classifier.network), float(target), inputs, seed)
        channels_last(network)
        facts = {**self.classifier.facts, "method": method, "test_accuracy": accuracy(network, self.images.test)}
        replace(self.classifier, network=network, facts=facts).save(path)
        return network


def images_of(images: ImageSet, config: ImageConfig, number: int) -> torch.Tensor:
    """Calibration inputs (number, 3, h, w): training images, always the same ones."""
    kept = len(images.training) - config.validation
    chosen = torch.randperm(kept, generator=torch.Generator().manual_seed(0))[:number]
    return prepared(images.training.pixels[chosen])
