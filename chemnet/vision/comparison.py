"""Comparison of methods that reduce a trained classifier, at equal parameters or multiply-adds and equal retraining."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import nn

from chemnet.reduction.comparison import (
    RESULTS,
    Column,
    Comparison,
    ComparisonSettings,
    Count,
    Figure,
    Job,
    Positive,
    Trained,
)
from chemnet.reduction.folding import normalised_anew
from chemnet.reduction.torch_pruning import lacks
from chemnet.runtime.config import parse, read_yaml, shipped_yaml
from chemnet.runtime.errors import FileError
from chemnet.runtime.files import read_json
from chemnet.runtime.lazy import installed
from chemnet.runtime.report import Picture
from chemnet.runtime.run_folder import sha256
from chemnet.runtime.tables import Table
from chemnet.training.options import Phase, choose_device
from chemnet.vision.classifier import Classifier, load_classifier
from chemnet.vision.config import ImageConfig
from chemnet.vision.costs import multiply_adds
from chemnet.vision.images import Images, ImageSet, read_images
from chemnet.vision.methods import METHODS, UNTRAINED, to_cost
from chemnet.vision.networks import count
from chemnet.vision.training import ImageTraining, accuracy, channels_last, fingerprint, prepared

_NOT_IN_ORIGIN = {"description", "methods", "seeds", "shares", "cost_shares", "rates", "scratch_rates"}
PICTURE = "accuracies.png"
_BEFORE = "the classifier before"  # title of a table
_OF_COST = "-of-cost"  # ends the name of a target that is a share of the multiply-adds


Share = Annotated[float, Field(gt=0.0, le=1.0)]


class ImageSettings(ComparisonSettings):
    """Settings of a comparison: to each of `shares` of the parameters and `cost_shares` of the multiply-adds.

    Every network is retrained for `batches`, with every seed; without any (0), what is compared is the accuracy at once
    and with the statistics of BatchNorms estimated anew on the calibration images. The rate falls to zero along half a
    cosine. It begins at the one of `rates` (of `scratch_rates` for untrained networks) with which the first seed is
    best on the validation images. `calibration` is a number of images.
    """

    known_methods: ClassVar[Sequence[str]] = tuple(METHODS)

    shares: tuple[Share, ...] = ()
    cost_shares: tuple[Share, ...] = ()
    batches: Annotated[int, Field(ge=0)]
    scratch_rates: tuple[Positive, ...] = Field(min_length=1)
    weight_decay: Annotated[float, Field(ge=0.0)]
    calibration: Count

    @property
    def targets(self) -> list[str]:
        """Names of the targets."""
        return [*(f"{share:g}" for share in self.shares), *(f"{share:g}{_OF_COST}" for share in self.cost_shares)]


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

    Results lie in `out` (default: `comparison-<name>` beside the classifier), with a page and a picture; finished runs
    are reused, and those of other settings replaced with `overwrite` only. Methods without their package are skipped
    with a message. Raises UsageError for an unknown method and for runs that would be lost, FileError for files that
    are missing or damaged.
    """
    path = shipped_yaml(name, "comparison", Path(__file__).parent / "comparisons")
    settings = parse(ImageSettings, read_yaml(path), str(path))
    source = model or Path("runs") / f"vision-{config.name}"
    classifier, images = load_classifier(source), read_images(data)
    out = out or (source if source.is_dir() else source.parent) / f"comparison-{path.stem}"
    task = ImageTask(settings, classifier, images, config, out / "networks", choose_device(device))
    comparison = Comparison(task, settings, out, overwrite=overwrite, report=report)
    tables = comparison.tables(settings.targets, [task.start_table()])
    pictures = []
    if installed("matplotlib"):
        draw_accuracies(out, out / PICTURE)
        pictures.append(Picture(out / PICTURE, "Test accuracy of every method over what is left of the network"))
    comparison.write_page(tables, pictures)
    return tables


def draw_accuracies(folder: Path, path: Path) -> None:
    """Draw the test accuracies of a comparison, which is in `folder`, over parameters and multiply-adds.

    Raises FileError for a folder without results of classifiers.
    """
    from chemnet.runtime import plots

    content = read_json(folder / RESULTS)
    start = next((table for table in content["tables"] if table["title"] == _BEFORE), None)
    if start is None:
        raise FileError(f"{folder} holds no comparison of classifiers\nMake one: chemnet vision compare --data IMAGES")
    parameters, cost, before = start["rows"][0].values()
    points: dict[str, dict[str, list[tuple[float, float, float]]]] = {}
    for run in content["runs"]:
        found, figures = points.setdefault(run["method"], {name: [] for name in plots.STAGES}), run["figures"]
        for stage in plots.STAGES:
            if figures.get(stage) is not None:
                shares = 100.0 * figures["parameters"] / parameters, 100.0 * figures["multiply_adds"] / cost
                found[stage].append((*shares, 100.0 * figures[stage]))
    plots.accuracies(path, points, before)


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
        self.config = config.model_copy(update={"strategy": (phase,), "batches": settings.batches or None})
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
            Column("with statistics anew [%]", "normalised_anew", 100.0),
            *([Column("accuracy [%]", "accuracy", 100.0, spread=True)] if self.settings.batches else []),
        )

    def start_table(self) -> Table:
        """Table of the parameters, multiply-adds and test accuracy of the classifier that all methods start from."""
        row = (*self._start, 100.0 * accuracy(self.classifier.network, self.images.test))
        return Table(_BEFORE, ("parameters", "multiply-adds", "test accuracy [%]"), [row])

    def lacks(self, method: str) -> str | None:
        """Package that a method needs and that is not installed, or None."""
        return lacks(method)

    def rates(self, method: str) -> Sequence[float]:
        """Initial learning rates to scan for a method."""
        rates = self.settings.scratch_rates if method in UNTRAINED else self.settings.rates
        return rates if self.settings.batches else rates[:1]

    def train(self, job: Job) -> Trained:
        """The network of a method, retrained; its loss is the share of wrong validation images."""
        made = self._made(job.method, job.target, job.seed)
        network = made.network
        facts: dict[str, Figure] = {
            "parameters": count(network),
            "multiply_adds": multiply_adds(network),
            "at_once": made.facts["test_accuracy"],
            "normalised_anew": made.facts["normalised_anew"],
        }
        if not self.settings.batches:
            return Trained(network, 1.0 - accuracy(network, self._validation()), facts)
        training = ImageTraining(copy.deepcopy(network), self.images, self.config, seed=job.seed, device=self.device)
        training.begin(job.rate)
        training.train()
        return Trained(training.network, 1.0 - training.metric(), facts)

    def measure(self, job: Job, trained: Trained) -> Mapping[str, Figure]:
        """Test accuracy after retraining."""
        if not self.settings.batches:
            return {}
        return {"accuracy": accuracy(trained.network, self.images.test.to(self.device))}

    def _made(self, method: str, target: str, seed: int) -> Classifier:
        """The network of a method before retraining; one that does not depend on the seed is made once.

        Its facts have its test accuracies at once and with statistics anew, where there are any.
        """
        path = self.networks / f"{method}-{target}-{self.origin[:12]}.pt"
        if path.exists() and method not in UNTRAINED:
            return load_classifier(path)
        share = float(target.removesuffix(_OF_COST))
        make = to_cost(method) if target.endswith(_OF_COST) else METHODS[method]
        network = make(copy.deepcopy(self.classifier.network), share, self._calibration(), seed)
        channels_last(network)
        at_once = anew = None
        if method not in UNTRAINED:
            at_once = accuracy(network, self.images.test)
            if any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
                anew = accuracy(normalised_anew(network, self._calibration()), self.images.test)
        facts = {**self.classifier.facts, "method": method, "test_accuracy": at_once, "normalised_anew": anew}
        made = replace(self.classifier, network=network, facts=facts)
        if method not in UNTRAINED:
            made.save(path)
        return made

    def _calibration(self) -> torch.Tensor:
        return images_of(self.images, self.settings.calibration, validation=self.config.validation)

    def _validation(self) -> Images:
        return self.images.training.part(slice(-self.config.validation, None))


def images_of(images: ImageSet, number: int, *, validation: int) -> torch.Tensor:
    """Calibration inputs (number, 3, h, w): training images, always the same ones, without those for validation."""
    kept = len(images.training) - validation
    chosen = torch.randperm(kept, generator=torch.Generator().manual_seed(0))[:number]
    return prepared(images.training.pixels[chosen])
