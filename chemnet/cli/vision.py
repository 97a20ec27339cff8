"""`chemnet vision`: its sub-commands read their arguments and call one function each, whose module is imported then."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chemnet.cli.arguments import MAX_MINUTES, positive, positive_number
from chemnet.runtime.tables import Table

Options = argparse.Namespace
Add = Callable[[str, Callable[[Options], "list[Table]"], str], argparse.ArgumentParser]


def add_commands(add: Add) -> None:
    """Add `train`, `reduce`, `compare` and `bench` by a function that makes a sub-command."""
    train_command = add("train", train, "train MobileNetV2 on images")
    _common(train_command, "default runs/vision-RECIPE")
    train_command.add_argument("--max-minutes", type=positive_number, metavar="M", help=MAX_MINUTES)
    reduce_command = add("reduce", reduce, "reduce a classifier automatically: table 3, figures 6 and 7")
    _common(reduce_command, "default: reduction, beside the classifier", model=True)
    compare_command = add("compare", compare, "compare condensation with its rivals at equal parameters and retraining")
    _common(compare_command, "default: comparison, beside the classifier", model=True, seeds=False)
    compare_command.add_argument("--comparison", default="short", metavar="NAME", help="short, or a YAML file")
    bench_command = add("bench", bench, "parameters, multiply-adds and latency of classifiers, beside the first")
    bench_command.add_argument("models", metavar="MODEL", nargs="+", type=Path, help="classifiers or their run folders")
    bench_command.add_argument("--batch", type=positive, nargs="+", default=[1, 128], metavar="N", help="default 1 128")
    bench_command.add_argument("--turns", type=positive, default=7, metavar="N", help="default 7")


def _common(command: argparse.ArgumentParser, out: str, *, model: bool = False, seeds: bool = True) -> None:
    if model:
        command.add_argument("model", metavar="MODEL", nargs="?", type=Path, help="default: the recipe's training")
    command.add_argument(
        "--data", type=Path, required=True, metavar="IMAGES", help="CIFAR-10's python batches, a folder, or an npz"
    )
    command.add_argument("--no-md5", action="store_true", help="take python batches that are not the original ones")
    command.add_argument("--recipe", default="short", metavar="RECIPE", help="short (default), paper, or a YAML file")
    command.add_argument(
        "--set", dest="changes", action="append", default=[], metavar="KEY=VALUE", help="change one key of the recipe"
    )
    command.add_argument("--out", type=Path, metavar="DIR", help=out)
    command.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default auto")
    if seeds:
        command.add_argument("--seed", type=int, default=0, metavar="N", help="default 0")
        command.add_argument("--resume", action="store_true", help="go on where it was interrupted")


def train(options: Options) -> list[Table]:
    """`chemnet vision train`."""
    from chemnet.vision.classifier import classifier_table
    from chemnet.vision.recipe import load_recipe
    from chemnet.vision.training import train

    folder = train(
        load_recipe(options.recipe, options.changes),
        options.data,
        max_minutes=options.max_minutes,
        **_where(options),
        **_seed(options),
    )
    return [classifier_table(folder)]


def reduce(options: Options) -> list[Table]:
    """`chemnet vision reduce`."""
    from chemnet.vision.recipe import load_recipe
    from chemnet.vision.reduction import reduce

    recipe = load_recipe(options.recipe, options.changes)
    return [reduce(recipe, options.data, model=options.model, **_where(options), **_seed(options))]


def compare(options: Options) -> list[Table]:
    """`chemnet vision compare`."""
    from chemnet.vision.comparison import compare
    from chemnet.vision.recipe import load_recipe

    recipe = load_recipe(options.recipe, options.changes)
    return [compare(options.comparison, options.data, recipe=recipe, model=options.model, **_where(options))]


def bench(options: Options) -> list[Table]:
    """`chemnet vision bench`."""
    from chemnet.vision.classifier import load_classifier
    from chemnet.vision.costs import bench

    networks = {str(path): load_classifier(path).network for path in options.models}
    return [bench(networks, options.batch, options.turns)]


def _where(options: Options) -> dict[str, Any]:
    return {"out": options.out, "device": options.device, "check_md5": not options.no_md5}


def _seed(options: Options) -> dict[str, Any]:
    return {"seed": options.seed, "resume": options.resume}
