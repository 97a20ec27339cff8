"""Condensation of a trained classifier to a share of its parameters, multiply-adds or latency, without retraining."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from chemnet.condensation.condenser import condense
from chemnet.runtime.files import check_new
from chemnet.runtime.malloc import keep_freed_memory
from chemnet.runtime.tables import Table
from chemnet.runtime.torch_threads import torch_threads
from chemnet.vision.classifier import load_classifier
from chemnet.vision.comparison import images_of
from chemnet.vision.costs import multiply_adds
from chemnet.vision.images import read_images
from chemnet.vision.networks import count
from chemnet.vision.training import accuracy, channels_last


def condense_classifier(
    model: Path,
    data: Path,
    *,
    ratio: float,
    budget: str = "parameters",
    choice: str = "forward",
    calibration: int = 2048,
    batch: int = 128,
    out: Path | None = None,
    overwrite: bool = False,
    report: Callable[[str], None] = print,
) -> list[Table]:
    """Tables of what each layer gave and of both networks; the condensed classifier is written to `out` (default:
    `condensed.pt` beside the classifier).

    `ratio` is the share of the `budget` that may be left; latency is that of `batch` images on one core. Channels are
    chosen by `choice` on a number of `calibration` images, which the classifier was trained on and not validated with.
    Raises UsageError for a ratio that cannot be reached and a file that would be lost, FileError for files that are
    missing or damaged.
    """
    keep_freed_memory()
    out = out or (model if model.is_dir() else model.parent) / "condensed.pt"
    classifier = load_classifier(model)
    check_new(out, overwrite)
    images = read_images(data)
    network = channels_last(classifier.network)
    inputs = images_of(images, max(calibration, batch), validation=classifier.facts["config"]["validation"])
    tables: list[Table] = []

    def take(line: str | Table) -> None:
        if isinstance(line, Table):
            tables.append(line)
        else:
            report(line)

    with torch_threads(1):
        options = {"calibration": inputs, "choice": choice, "report": take}
        result = condense(network, inputs[:batch], ratio=ratio, budget=budget, **options)
    rows = []
    for name, each in (("before", network), ("condensed", result)):
        rows.append((name, count(each), 1e-6 * multiply_adds(each), 100.0 * accuracy(each, images.test)))
    tables.append(Table("networks", ("network", "parameters", "multiply-adds [M]", "test accuracy [%]"), rows))
    facts = {**classifier.facts, "budget": budget, "ratio": ratio, "test_accuracy": rows[-1][-1] / 100.0}
    replace(classifier, network=result, facts=facts).save(out)
    report(f"written: {out}")
    return tables
