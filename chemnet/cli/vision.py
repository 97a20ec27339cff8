"""`chemnet vision`: training, reduction, condensation, comparison and costs of a classifier of images."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from chemnet.cli.arguments import (
    Options,
    add_command,
    add_group,
    add_max_minutes,
    add_set,
    add_threads,
    check_way,
    given,
    positive,
    share,
)
from chemnet.runtime.tables import Table


def add(commands: Any) -> None:
    """Add the commands."""
    group = add_group(commands, "vision", "train and condense a classifier of images, such as CIFAR-10")
    command = add_command(
        group,
        "train",
        train,
        "train MobileNetV2, a residual or plain network, or a transformer on images",
        "the training",
    )
    _add_common(command, "default runs/vision-CONFIG")
    add_max_minutes(command)
    command = add_command(
        group, "reduce", reduce, "reduce a classifier automatically: table 3, figures 6 and 7", "the reduction"
    )
    _add_common(command, "default: reduction, beside the classifier", model=True)
    text = "condense a classifier to a share of a budget, without retraining"
    command = add_command(group, "condense", condense, text, "the condensed classifier")
    _add_data(command)
    command.add_argument("model", metavar="MODEL", type=Path, help="a classifier or its run folder")
    command.add_argument("--ratio", type=share, required=True, metavar="R", help="share that may be left, in (0, 1]")
    kinds = ("parameters", "macs", "latency")
    command.add_argument("--budget", choices=kinds, default="parameters", help="default parameters")
    choice = "which channels stay: forward (default), folded, activations, cosine or published"
    command.add_argument("--choice", default="forward", metavar="NAME", help=choice)
    images = "images that it is fitted to, without their labels (default 2048)"
    command.add_argument("--calibration", type=positive, default=2048, metavar="N", help=images)
    command.add_argument("--batch", type=positive, default=128, metavar="N", help="images of the latency (default 128)")
    command.add_argument("--out", type=Path, metavar="FILE", help="default: condensed.pt, beside the classifier")
    text = "compare condensation with other methods at equal parameters or multiply-adds"
    command = add_command(group, "compare", compare, text, "runs of another model, data or settings")
    _add_common(command, "default: comparison-NAME, beside the classifier", model=True, seeds=False)
    command.add_argument(
        "--comparison", default="short", metavar="NAME", help="short (default), one that ships, or a YAML file"
    )
    command = add_command(group, "bench", bench, "parameters, multiply-adds and latency of classifiers")
    command.add_argument("models", metavar="MODEL", nargs="+", type=Path, help="classifiers or their run folders")
    command.add_argument("--batch", type=positive, nargs="+", default=[1, 128], metavar="N", help="default 1 128")
    command.add_argument("--turns", type=positive, default=7, metavar="N", help="default 7")


def _add_common(command: argparse.ArgumentParser, out: str, *, model: bool = False, seeds: bool = True) -> None:
    if model:
        command.add_argument("model", metavar="MODEL", nargs="?", type=Path, help="default: the config's training")
    _add_images(command)
    command.add_argument("--out", type=Path, metavar="DIR", help=out)
    command.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default auto")
    add_threads(command)
    if seeds:
        command.add_argument("--seed", type=int, default=0, metavar="N", help="default 0")
        command.add_argument("--resume", action="store_true", help="go on where it was interrupted")


def _add_data(command: argparse.ArgumentParser) -> None:
    images = "CIFAR-10's python batches, a folder, or an npz"
    command.add_argument("--data", type=Path, required=True, metavar="IMAGES", help=images)


def _add_images(command: argparse.ArgumentParser) -> None:
    config = "a name that ships, such as short (default) or resnet20, or a YAML file"
    _add_data(command)
    command.add_argument("--config", default="short", metavar="CONFIG", help=config)
    add_set(command)


def train(options: Options) -> list[Table]:
    """Table of the classifier."""
    from chemnet.vision.classifier import classifier_table
    from chemnet.vision.config import load_config
    from chemnet.vision.training import train

    config = load_config(options.config, options.changes)
    check_way(options)
    where = given(options, "out", "device", "seed", "resume", "overwrite", "max_minutes")
    return [classifier_table(train(config, options.data, **where))]


def reduce(options: Options) -> list[Table]:
    """Table of the stages."""
    from chemnet.vision.config import load_config
    from chemnet.vision.reduction import reduce

    config = load_config(options.config, options.changes)
    check_way(options)
    return [reduce(config, options.data, **given(options, "model", "out", "device", "seed", "resume", "overwrite"))]


def condense(options: Options) -> list[Table]:
    """Tables of what each layer gave and of both networks."""
    from chemnet.vision.condensing import condense_classifier

    how = given(options, "ratio", "budget", "choice", "calibration", "batch", "out", "overwrite")
    return condense_classifier(options.model, options.data, **how)


def compare(options: Options) -> list[Table]:
    """Table of the methods."""
    from chemnet.vision.comparison import compare
    from chemnet.vision.config import load_config

    config = load_config(options.config, options.changes)
    return compare(
        options.comparison, options.data, config=config, **given(options, "model", "out", "device", "overwrite")
    )


def bench(options: Options) -> list[Table]:
    """Table of the costs."""
    from chemnet.vision.classifier import load_classifier
    from chemnet.vision.costs import bench

    networks = {str(path): load_classifier(path).network for path in options.models}
    return [bench(networks, options.batch, options.turns)]
