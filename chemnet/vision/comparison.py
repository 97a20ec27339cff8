"""Condensation beside its rivals: the same trained classifier, equal parameters, equal retraining, several seeds.

Every route makes a network with at most a share of the parameters, which is then retrained for the same number of
batches; seeds draw the order of the images and, where a route draws anything, that too. Results are kept one by one, so
that an interrupted comparison goes on where it was.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import nn

from chemnet.condensation.condenser import condense
from chemnet.reduction.baselines import BASELINES, lacks, start_anew
from chemnet.runtime.config import Config, parse, read_yaml, shipped_yaml
from chemnet.runtime.errors import UsageError
from chemnet.runtime.files import read_json, write_json, write_text
from chemnet.runtime.tables import Table
from chemnet.training.loop import choose_device
from chemnet.vision.classifier import Classifier, load_classifier
from chemnet.vision.costs import multiply_adds
from chemnet.vision.images import ImageSet, read_images
from chemnet.vision.learning import fingerprint
from chemnet.vision.mobilenet import LAST_LAYER, MobileNetV2, count, hidden_layers
from chemnet.vision.recipe import Phase, TrainingRecipe
from chemnet.vision.training import ImageTraining, accuracy, prepared

RESULTS = "comparison.json"
_SCRATCH = ("scratch", "scratch-condensed")
_BASELINES = ("scratch", "neuron-merging", "torch-pruning-magnitude", "torch-pruning-group-norm")


class Comparison(Config):
    """Which routes are compared, and how: for each of `shares` of the parameters and each seed, `batches` of retraining
    at a rate that falls to zero along half a cosine. It begins at the one of `rates` (of `scratch_rates` for untrained
    networks) with which the first seed is best on the images to validate with."""

    shares: tuple[Annotated[float, Field(gt=0.0, le=1.0)], ...]
    seeds: Annotated[int, Field(ge=1)]
    batches: Annotated[int, Field(ge=1)]
    rates: tuple[Annotated[float, Field(gt=0.0)], ...] = Field(min_length=1)
    scratch_rates: tuple[Annotated[float, Field(gt=0.0)], ...] = Field(min_length=1)
    weight_decay: Annotated[float, Field(ge=0.0)]
    calibration: Annotated[int, Field(ge=1)]
    routes: tuple[str, ...]


def compare(
    name: str,
    data: Path,
    *,
    recipe: TrainingRecipe,
    model: Path | None = None,
    out: Path | None = None,
    device: str = "auto",
    check_md5: bool = True,
    report: Callable[[str], None] = print,
) -> Table:
    """Compare the routes of a comparison that ships, or of a YAML file; the mean and the range of the test accuracies.

    Results lie in `out` (default: `comparison` beside the classifier), those that are there already are not computed
    again. Routes whose package is not installed are left out, and named. Raises UsageError for an unknown route or a
    folder of another comparison, FileError for files that are missing or damaged.
    """
    path = shipped_yaml(name, "comparison", Path(__file__).parent)
    comparison = parse(Comparison, read_yaml(path), str(path))
    unknown = [route for route in comparison.routes if route not in ROUTES]
    if unknown:
        raise UsageError(f"{path}: no route {unknown[0]}; there are {', '.join(ROUTES)}")
    source = model or Path("runs") / f"vision-{recipe.name}"
    classifier, images = load_classifier(source), read_images(data, check_md5=check_md5)
    folder = out or (source if source.is_dir() else source.parent) / "comparison"
    work = _Comparing(comparison, classifier, images, recipe, folder, choose_device(device), report)
    for route in comparison.routes:
        if lacks(route):
            report(f"{route} is left out: pip install {lacks(route)}")
            continue
        for share in comparison.shares:
            for seed in range(comparison.seeds):
                work.take(route, share, seed)
    table = work.table()
    write_text(folder / "table.md", f"{table.markdown()}\n")
    return table


class _Comparing:
    """A comparison in work."""

    def __init__(
        self,
        comparison: Comparison,
        classifier: Classifier,
        images: ImageSet,
        recipe: TrainingRecipe,
        folder: Path,
        device: str,
        report: Callable[[str], None],
    ) -> None:
        self.comparison, self.classifier, self.images, self.folder = comparison, classifier, images, folder
        self.device, self.report = device, report
        phase = Phase(optimizer="sgd", schedule="cosine", period=1, weight_decay=comparison.weight_decay, nesterov=True)
        changes = {"strategy": (phase,), "batches": comparison.batches}
        self.recipe = recipe.model_copy(update=changes)
        self.results = self._read()
        self._write()  # from now on the folder is this comparison's
        self._unreduced = accuracy(classifier.network, images.test)

    def take(self, route: str, share: float, seed: int) -> None:
        """One network: made, judged, retrained, judged again."""
        key = f"{route} {share} {seed}"
        if key in self.results:
            return
        network = self._made(route, share, seed)
        at_once = accuracy(network, self.images.test)
        trained = {rate: self._retrained(network, rate, seed) for rate in self._rates(route, share, seed)}
        rate = max(trained, key=lambda rate: trained[rate][0])
        self.results[key] = {
            "route": route,
            "share": share,
            "parameters": count(network),
            "multiply_adds": multiply_adds(network),
            "at_once": at_once,
            "rate": rate,
            "validation": trained[rate][0],
            "accuracy": trained[rate][1],
        }
        after = f"{100 * trained[rate][1]:.2f} % at rate {rate:g}"
        self.report(f"{route}, {100 * share:g} %, seed {seed}: {100 * at_once:.2f} % at once, {after}")
        self._write()

    def _rates(self, route: str, share: float, seed: int) -> tuple[float, ...]:
        """Initial rates to try: all of them with the first seed, the best of those with the others."""
        if seed > 0:
            return (self.results[f"{route} {share} 0"]["rate"],)
        return self.comparison.scratch_rates if route in _SCRATCH else self.comparison.rates

    def _retrained(self, network: nn.Module, rate: float, seed: int) -> tuple[float, float]:
        """Accuracies of a network after retraining: on the images to validate with, and on the test images."""
        loop = ImageTraining(copy.deepcopy(network), self.images, self.recipe, seed=seed, device=self.device)
        loop.begin(rate)
        loop.train()
        return loop.metric(), accuracy(loop.network, loop.test)

    def _made(self, route: str, share: float, seed: int) -> nn.Module:
        """The network of a route before it is retrained; one that does not depend on the seed is made once."""
        path = self.folder / f"{route}-{share:g}.pt"
        if path.exists() and route not in _SCRATCH:
            return load_classifier(path).network
        inputs = images_of(self.images, self.recipe, self.comparison.calibration)
        network = ROUTES[route](copy.deepcopy(self.classifier.network), share, inputs, seed)
        network.to(memory_format=torch.channels_last)
        facts = {**self.classifier.facts, "route": route, "test_accuracy": accuracy(network, self.images.test)}
        Classifier(network, self.classifier.classes, self.classifier.downsampling, facts).save(path)
        return network

    def table(self) -> Table:
        """Mean, smallest and largest accuracy of every route and share."""
        full, cost = count(self.classifier.network), multiply_adds(self.classifier.network)
        rows: list[tuple[Any, ...]] = [
            ("unreduced", 100.0, 100.0, *(100.0 * self._unreduced,) * 4, None, 1),
        ]
        for share in self.comparison.shares:
            for route in self.comparison.routes:
                group = [r for r in self.results.values() if r["route"] == route and r["share"] == share]
                if group:
                    accuracies = 100.0 * np.array([r["accuracy"] for r in group])
                    at_once = 100.0 * float(np.mean([r["at_once"] for r in group]))
                    left = [100.0 * float(np.mean([r[k] for r in group])) for k in ("parameters", "multiply_adds")]
                    figures = at_once, accuracies.mean(), accuracies.min(), accuracies.max()
                    rows.append(
                        (route, left[0] / full, left[1] / cost, *map(float, figures), group[0]["rate"], len(group))
                    )
        columns = (
            *("route", "parameters [%]", "multiply-adds [%]", "at once [%]", "accuracy, mean [%]"),
            *("smallest [%]", "largest [%]", "rate", "seeds"),
        )
        return Table("test accuracy at equal parameters and retraining", columns, rows)

    def _write(self) -> None:
        write_json(self.folder / RESULTS, {"facts": self._facts(), "results": self.results})

    def _facts(self) -> dict[str, Any]:
        plain = self.comparison.model_dump(mode="json", exclude={"routes", "seeds", "shares"})
        return {**plain, "classifier": self.classifier.fingerprint(), "images": fingerprint(self.images)}

    def _read(self) -> dict[str, Any]:
        path = self.folder / RESULTS
        if not path.exists():
            return {}
        content = read_json(path)
        other = [name for name, fact in self._facts().items() if content["facts"].get(name) != fact]
        if other:
            raise UsageError(f"{path} belongs to a comparison with other {other[0]}\nChoose another --out.")
        results: dict[str, Any] = content["results"]
        return results


def images_of(images: ImageSet, recipe: TrainingRecipe, number: int) -> torch.Tensor:
    """So many of the training images, as inputs of a network; always the same ones."""
    kept = len(images.training) - recipe.validation
    chosen = torch.randperm(kept, generator=torch.Generator().manual_seed(0))[:number]
    return prepared(images.training.pixels[chosen])


def _condensed(
    network: MobileNetV2, share: float, calibration: torch.Tensor, seed: int, *, choice: str, everywhere: bool = False
) -> nn.Module:
    """Condensation to a share: of all channels, or of those that the paper condenses."""
    layers = None if everywhere else [*hidden_layers().values(), *LAST_LAYER.values()]
    return condense(network, calibration[:1], ratio=share, layers=layers, calibration=calibration, choice=choice)


def _published(network: MobileNetV2, share: float, calibration: torch.Tensor, seed: int) -> nn.Module:
    """The published rules: the layer before the classifier to the share of its own parameters, by rows, then the blocks
    by their depthwise filters, until the whole is reached. Nothing is refitted, no statistics are estimated."""
    example, whole = calibration[:1], count(network)
    last = count(network.features[-1]) + count(network.classifier)
    trimmed = condense(network, example, ratio=1.0 - (1.0 - share) * last / whole, layers=list(LAST_LAYER.values()))
    blocks = list(hidden_layers().values())
    return condense(trimmed, example, ratio=share * whole / count(trimmed), layers=blocks, choice="published")


def _scratch_condensed(network: MobileNetV2, share: float, calibration: torch.Tensor, seed: int) -> nn.Module:
    """An untrained network of the widths that forward selection gives: are they, or the weights, what counts?"""
    result = _condensed(network, share, calibration, seed, choice="forward", everywhere=True)
    start_anew(result, seed)
    return result


Make = Callable[[MobileNetV2, float, torch.Tensor, int], nn.Module]

ROUTES: dict[str, Make] = {
    "condensation-forward": partial(_condensed, choice="forward", everywhere=True),
    "condensation-forward-hidden": partial(_condensed, choice="forward"),
    "condensation-activations": partial(_condensed, choice="activations"),
    "condensation-folded": partial(_condensed, choice="folded"),
    "condensation-published": _published,
    "scratch-condensed": _scratch_condensed,
    **{name: BASELINES[name] for name in _BASELINES},
}
