"""The command line. A sub-command reads its arguments and calls one function; the module of that function is
imported only then, so that `chemnet --help` is immediate."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chemnet.cli.arguments import MAX_MINUTES, positive, positive_number
from chemnet.cli.vision import add_commands
from chemnet.runtime.errors import FileError, Parser, UsageError, run_command
from chemnet.runtime.tables import Table
from chemnet.version import __version__

if TYPE_CHECKING:
    from chemnet.surrogate.model import Surrogate

DEFAULT_MODEL = "drm19-small"
TRAINING_SET = Path("datasets/drm19/states.h5")

Options = argparse.Namespace
Body = Callable[[Options], "list[Table]"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `chemnet ARGUMENTS...` and return the exit code."""
    return run_command(lambda: run(sys.argv[1:] if arguments is None else arguments), "chemnet")


def run(arguments: Sequence[str]) -> int:
    """Parse, execute, show. Raises ChemnetError for what a user can mend."""
    options = build_parser().parse_args(arguments)
    tables = options.body(options)
    if tables:
        print("\n\n".join(table.text() for table in tables))
    if tables and options.json:
        from chemnet.runtime.files import write_json

        content = {"command": shlex.join(["chemnet", *arguments]), "chemnet": __version__}
        write_json(options.json, {**content, "tables": [table.as_json() for table in tables]})
    return getattr(options, "exit_code", 0)


def build_parser() -> Parser:
    """The parser of all sub-commands."""
    parser = Parser(prog="chemnet", description="Combustion chemistry into a network, and the network made small.")
    parser.add_argument("--version", action="version", version=f"chemnet {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    add = partial(_add, commands)
    _sample_arguments(add("sample", sample, "compute a training set from a recipe"))
    _train_arguments(add("train", train, "train a network, sampling first if there is no training set"))
    _reduce_arguments(add("reduce", reduce, "make a trained network smaller by condensation, stage by stage"))
    _validate_arguments(
        add("validate", validate, "roll a model or the exact step out through ignition and compare with CVODES")
    )
    _bench_arguments(add("bench", bench, "measure what a model, or the exact step, costs beside CVODES"))
    _guard_arguments(add("guard", guard, "learn from a training set where a model may be asked"))
    _export_arguments(add("export", export, "write a model for other programs"))
    _compare_arguments(add("compare", compare, "compare runs of the flow solver in a table and a picture"))
    _plot_arguments(add("plot", plot, "draw what a file or run holds"))
    vision = commands.add_parser("vision", help="train and condense a classifier of images: MobileNetV2 on CIFAR-10")
    add_commands(partial(_add, vision.add_subparsers(title="commands", metavar="COMMAND", required=True)))
    _info_arguments(add("info", info, "tell what a mechanism, model, training set or run is"))
    add("doctor", doctor, "examine this machine and say what to do")
    return parser


def _add(commands: Any, name: str, body: Body, text: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    command.add_argument("--json", type=Path, metavar="FILE", help="write the tables as JSON too")
    command.set_defaults(body=body)
    return command


def _config_arguments(command: argparse.ArgumentParser, text: str, default: str | None = None) -> None:
    command.add_argument("--config", metavar="CONFIG", default=default, help=text)
    command.add_argument(
        "--set",
        dest="changes",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one key; may be repeated",
    )


# ---- sample


def _sample_arguments(command: argparse.ArgumentParser) -> None:
    _config_arguments(command, "recipe as a YAML file (default: the shipped one of DRM19)")
    command.add_argument("--variant", metavar="NAME", help="a variant that the recipe defines, such as quick")
    command.add_argument("--mechanism", metavar="M", help="in place of the recipe's: name or Cantera file")
    command.add_argument("--fuel", type=_mixture, metavar="X", help="in place of the recipe's: H2, or CH4:0.9,H2:0.1")
    command.add_argument("--oxidizer", type=_mixture, metavar="X", help="in place of the recipe's: O2:1,N2:3.76")
    command.add_argument("--out", type=Path, metavar="FILE", help="default datasets/MECHANISM/states.h5, or VARIANT.h5")
    command.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help="processes (default: one a core); or start ranks: mpiexec -n N chemnet sample",
    )
    command.add_argument("--manifest", type=Path, metavar="FILE", help="write what a fresh set must meet, too")


def sample(options: Options) -> list[Table]:
    """`chemnet sample`; of several ranks that a launcher started, the first writes and shows the result."""
    from chemnet.cli.info import training_set_tables
    from chemnet.data import reference_rows
    from chemnet.data.recipe import load_recipe
    from chemnet.data.sampling import sample
    from chemnet.runtime.processes import available_cores, other_ranks

    with other_ranks() as leads:
        if not leads:
            return []
        own = {"mechanism": options.mechanism, "fuel": options.fuel, "oxidizer": options.oxidizer}
        recipe = load_recipe(options.config, options.variant, options.changes, **own)
        name = f"{options.variant or 'states'}.h5"
        out = options.out or Path("datasets") / Path(recipe.mechanism).stem / name
        sample(recipe, out, options.workers or available_cores())
    if options.manifest:
        reference_rows.write(options.manifest, out)
    return training_set_tables(out)


# ---- train, reduce

_LEARNING = ("data", "out", "seed", "device", "max_minutes")


def _learning_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data", type=Path, metavar="FILE", help="training set (default: the config's)")
    command.add_argument("--out", type=Path, metavar="DIR", help="run folder (default runs/<config>)")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="default 0")
    command.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default auto")
    command.add_argument("--max-minutes", type=positive_number, metavar="M", help=MAX_MINUTES)


def _learning_options(options: Options) -> dict[str, Any]:
    return {name: getattr(options, name) for name in _LEARNING}


def _train_arguments(command: argparse.ArgumentParser) -> None:
    _config_arguments(command, "drm19 (the default), small, paper, quick, or a YAML file", default="drm19")
    command.add_argument("--resume", action="store_true", help="go on with an interrupted training of the run folder")
    _learning_arguments(command)
    command.add_argument(
        "--scan-rates",
        nargs="*",
        type=positive_number,
        metavar="RATE",
        help="compare learning rates in short trainings of --max-minutes each (default 1; default rates: a quarter to "
        "four times the config's)",
    )


def train(options: Options) -> list[Table]:
    """`chemnet train`; of several processes that `torchrun` started, the first shows the result."""
    from chemnet.cli.info import run_table
    from chemnet.training.config import load_config
    from chemnet.training.distributed import leads
    from chemnet.training.rate_scan import scan_rates
    from chemnet.training.run import train

    config = load_config(options.config, options.changes)
    if options.scan_rates is not None:
        if options.resume:
            raise UsageError("--scan-rates starts every training anew; leave --resume away")
        table = scan_rates(config, options.scan_rates, **_learning_options(options))
    else:
        table = run_table(train(config, resume=options.resume, **_learning_options(options)), nested=False)
    return [table] if leads() else []


def _reduce_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", metavar="MODEL", nargs="?", help="default: the config's latest training")
    task = command.add_mutually_exclusive_group()
    task.add_argument("--stage", type=positive, metavar="N", help="run up to this stage (default: all)")
    task.add_argument(
        "--compare", metavar="NAME", help="with pruning, distillation and training anew: quick, or a YAML file"
    )
    command.add_argument("--config", metavar="CONFIG", help="training config (default: the model's, else drm19)")
    command.add_argument("--recipe", metavar="RECIPE", help="name or YAML file (default: the config's)")
    command.add_argument(
        "--dry-run", action="store_true", help="show what thresholds and stages would give; change and write nothing"
    )
    _learning_arguments(command)


def reduce(options: Options) -> list[Table]:
    """`chemnet reduce`; stage N is left in `stage-N` below the run folder, a comparison in `comparison`."""
    from chemnet.reduction.run import preview, reduce
    from chemnet.training.config import load_config

    config = load_config(options.config) if options.config else None
    if options.compare:
        from chemnet.reduction.comparison import compare_routes

        if options.recipe or options.seed or options.max_minutes or options.dry_run:
            raise UsageError(
                "--compare has its widths, seeds and steps in its file: no --recipe, --seed, --max-minutes, --dry-run"
            )
        where = {name: getattr(options, name) for name in ("data", "out", "device")}
        return compare_routes(options.compare, options.model, config, **where)
    if options.dry_run:
        where = {name: getattr(options, name) for name in ("recipe", "data", "seed")}
        return preview(options.stage, options.model, config, **where)
    return [reduce(options.stage, options.model, config, recipe=options.recipe, **_learning_options(options))]


# ---- validate


def _validate_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "model",
        metavar="MODEL",
        nargs="?",
        default=DEFAULT_MODEL,
        help="name or path, or exact: the batched integrator",
    )
    command.add_argument("--mechanism", metavar="M", help="of MODEL exact: name or Cantera file (default drm19)")
    command.add_argument("--dt", type=float, metavar="S", help="time step [s] of MODEL exact (default 1e-6)")
    command.add_argument("--fuel", type=_mixture, metavar="X", help="what burns in air: H2, or CH4:0.9,H2:0.1")
    command.add_argument(
        "--quick", action="store_true", help="25 ignitions of 5,000 steps, T0 1400-1800 K, 1 atm, and single steps"
    )
    command.add_argument(
        "--rung",
        action="append",
        dest="rungs",
        metavar="RUNG",
        help="steps, ignition, pressure, cold, flames or cost (default all); may be repeated",
    )
    _config_arguments(command, "ignitions as a YAML file")
    command.add_argument(
        "--data",
        type=Path,
        metavar="FILE",
        help=f"training set for single steps (default {TRAINING_SET}, if it is there and fits)",
    )


def validate(options: Options) -> list[Table]:
    """`chemnet validate`; references are kept in runs/references."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # calls of few rows: threads would only wait for each other
    from cfd_coupling.flame_speed import flame_speed, identity
    from chemnet.validation import load_cases
    from chemnet.validation.references import REFERENCES
    from chemnet.validation.suite import QUICK_RUNGS, Climb, climb

    cases = load_cases(options.quick, options.config, options.changes)
    ladder = Climb(
        options.model,
        cases.model_copy(update={"fuel": options.fuel}) if options.fuel else cases,
        data=options.data,
        usual_data=TRAINING_SET,
        mechanism=options.mechanism,
        dt=options.dt,
        cache=REFERENCES,
        burn=flame_speed,
        solver=identity(),
    )
    return climb(ladder, options.rungs, QUICK_RUNGS if options.quick else None)


# ---- bench


_EXACT = "exact"  # in place of a model: the batched integrator is measured
_TRAINING = "training"  # the same: the training loop is
_OF_EXACT = ("mechanism", "fuel", "oxidizer", "states", "quick", "picture")


def _bench_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "model",
        metavar="MODEL",
        nargs="?",
        default=DEFAULT_MODEL,
        help=f"name or path; `{_EXACT}`: cost and error of the batched integrator beside CVODES; "
        f"`{_TRAINING}`: samples/s of the training loop beside a bare one",
    )
    command.add_argument("--cells", type=positive, metavar="N", help="cells of a call (default 1000)")
    command.add_argument("--turns", type=positive, metavar="N", help="turns of each (default 7; exact 5; training 3)")
    command.add_argument("--config", metavar="CONFIG", help=f"of `{_TRAINING}`: name or YAML file (default small)")
    exact = command.add_argument_group(f"with `{_EXACT}`")
    exact.add_argument(
        "--mechanism", action="append", metavar="M", help="drm19 (the default) or a YAML file; may be repeated"
    )
    exact.add_argument("--fuel", type=_mixture, metavar="X", help="such as H2:1 (default CH4 or H2)")
    exact.add_argument("--oxidizer", type=_mixture, metavar="X", help="default O2:1,N2:3.76")
    exact.add_argument(
        "--states",
        action="append",
        metavar="KIND",
        help="flame, mixed, ignition, burnt or cold (default all); may be repeated",
    )
    exact.add_argument("--quick", action="store_true", help="fewer cells and turns, one time step, one pressure")
    exact.add_argument("--picture", type=Path, metavar="FILE", help="draw cost over error at several tolerances")


def _mixture(text: str) -> dict[str, float]:
    """Mole fractions by species of `CH4:0.9,H2:0.1`, or of the one species `H2`."""
    try:
        pairs = [part.rpartition(":") for part in (text.split(",") if ":" in text else [f"{text}:1"])]
        mixture = {name.strip(): float(amount) for name, _, amount in pairs}
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no mixture such as CH4:0.9,H2:0.1") from None
    if not all(0.0 < amount < float("inf") for amount in mixture.values()):
        raise argparse.ArgumentTypeError(f"{text!r}: amounts are positive")
    return mixture


def bench(options: Options) -> list[Table]:
    """`chemnet bench`."""
    if options.model == _EXACT:
        return _bench_exact(options)
    if options.model == _TRAINING:
        from chemnet.training.throughput import TrainingTask, bench_training

        return bench_training(TrainingTask(options.config or "small", options.turns or 3))
    given = [name for name in _OF_EXACT if getattr(options, name)]
    if given:
        raise UsageError(f"--{given[0]} goes with `chemnet bench {_EXACT}`; a model brings its own mechanism")
    from chemnet.benchmark.model import BenchTask, bench

    return bench(BenchTask(options.model, options.cells or 1000, options.turns or 7))


def _bench_exact(options: Options) -> list[Table]:
    """`chemnet bench exact`."""
    from chemnet.benchmark.cells import KINDS
    from chemnet.benchmark.integrators import ExactTask, bench_exact

    _need_matplotlib(options.picture)
    settings = {
        "fuel": options.fuel,
        "oxidizer": options.oxidizer,
        "kinds": tuple(options.states or KINDS),
        "cells": options.cells or (200 if options.quick else 1000),
        "turns": options.turns or (2 if options.quick else 5),
        "sweeps": not options.quick,
        "curves": options.picture is not None,
    }
    tasks = [ExactTask(mechanism, **settings) for mechanism in options.mechanism or ["drm19"]]
    tables = bench_exact(tasks, options.picture)
    if options.picture:
        print(f"picture: {options.picture}")
    return tables


# ---- guard


def _guard_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", metavar="MODEL", help="name or path")
    command.add_argument(
        "--data", type=Path, default=TRAINING_SET, metavar="FILE", help=f"its training set (default {TRAINING_SET})"
    )
    command.add_argument("--out", type=Path, metavar="FILE", help="where to write the model (default: its own file)")


def guard(options: Options) -> list[Table]:
    """`chemnet guard`."""
    from chemnet.training.domain_fit import guard

    return [guard(options.model, options.data, options.out)]


# ---- export

_ENDINGS = {"onnx": ".onnx", "torch": ".pt2", "deepflame": "-deepflame", "chemnet": ".safetensors"}


def _export_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", metavar="MODEL", help="name or path")
    command.add_argument("--to", dest="target", choices=_ENDINGS, required=True, help="what to write")
    command.add_argument(
        "--out", type=Path, metavar="PATH", help="file, or folder of deepflame (default: the model's name)"
    )
    model = command.add_argument_group("with --to chemnet")
    model.add_argument("--engine", metavar="NAME", help="fp32, bf16 or onnx computes it")
    model.add_argument("--weights", choices=("fp32", "bf16"), default="fp32", help="how they are stored")
    model.add_argument("--cold-limit", type=float, metavar="T", help="colder gas is integrated [K]")
    model.add_argument("--calm-limit", type=float, metavar="X", help="gas that changes less is integrated, too")
    model.add_argument("--ladder", type=Path, metavar="FILE", help="figures to keep, of `validate --json FILE`")


def export(options: Options) -> list[Table]:
    """`chemnet export`."""
    from chemnet.surrogate.export import export
    from chemnet.surrogate.model import Surrogate

    out = options.out or Path(f"{Path(options.model).stem}{_ENDINGS[options.target]}")
    model = _changed_model(Surrogate.load(options.model), options)
    files = export(model, options.target, out, options.weights)
    rows = [(str(file), file.stat().st_size) for file in files]
    return [Table(f"{options.model} for {options.target}", ("file", "bytes"), rows)]


def _changed_model(model: Surrogate, options: Options) -> Surrogate:
    """The model with the engine, limits and figures of its ladder that were asked for."""
    from chemnet.validation.reports import figures_of

    changes = (options.engine, options.cold_limit, options.calm_limit, options.ladder)
    if options.target != "chemnet" and any(change is not None for change in changes):
        raise UsageError("--engine, --cold-limit, --calm-limit and --ladder go with --to chemnet")
    if options.engine is not None:
        model = model.with_engine(options.engine)
    if options.ladder is not None:
        model = model.with_network(model.network, ladder=figures_of(options.ladder))
    limits = zip((options.cold_limit, options.calm_limit), (model.cold_limit, model.calm_limit), strict=True)
    return model.with_limits(*(kept if new is None else new for new, kept in limits))


# ---- compare


def _compare_arguments(command: argparse.ArgumentParser) -> None:
    text = "run folders; the first is the reference; or the .json files of `chemnet validate --json`"
    command.add_argument("runs", metavar="RUN", nargs="+", type=Path, help=text)
    command.add_argument(
        "--picture", type=Path, metavar="FILE", help="where to draw (default compare.png in the last run folder)"
    )


def compare(options: Options) -> list[Table]:
    """`chemnet compare`."""
    if all(run.suffix == ".json" for run in options.runs):
        return _compare_ladders(options.runs, options.picture)
    from cfd_coupling.compare import compare

    _need_matplotlib(options.picture)
    if not find_spec("matplotlib"):
        return [compare(options.runs)]
    picture = options.picture or options.runs[-1] / "compare.png"
    table = compare(options.runs, picture)
    print(f"picture: {picture}")
    return [table]


def _compare_ladders(paths: list[Path], picture: Path | None) -> list[Table]:
    from chemnet.validation.reports import comparison

    if picture:
        raise UsageError("a picture of several ladders: chemnet plot ladder FOLDER --picture FILE")
    return [comparison(paths)]


def _need_matplotlib(picture: Path | None) -> None:
    if picture and not find_spec("matplotlib"):
        raise UsageError("a picture needs matplotlib: pip install 'chemnet[plot]'")


# ---- plot


def _draw_losses(run: Path, picture: Path) -> None:
    from chemnet.cli.info import loss_tables
    from chemnet.runtime import plots

    plots.losses(picture, loss_tables(run))


def _draw_coverage(path: Path, picture: Path) -> None:
    from chemnet.data.coverage import coverage
    from chemnet.runtime import plots

    found = coverage(path)
    columns = {name: getattr(found, name) for name in ("T", "P", "phi", "heat_release")}
    kinds = {name: found.kind == index for index, name in enumerate(found.kinds)}
    plots.coverage(picture, columns, kinds, f"{path}: {len(found.T):,} states")


def _draw_ladder(source: Path, picture: Path) -> None:
    from chemnet.runtime import plots
    from chemnet.validation.reports import ignitions

    plots.ladder(picture, ignitions(source))


def _draw_pareto(source: Path, picture: Path) -> None:
    from chemnet.reduction.results import RESULTS, draw_pareto

    folders = sorted(file.parent for file in source.rglob(RESULTS))
    if not folders:
        raise FileError(f"{source} holds no comparison\nMake one: chemnet reduce MODEL --compare quick")
    draw_pareto(folders, picture)


def _draw_steps(folder: Path, picture: Path) -> None:
    from chemnet.vision.reduction import draw_steps

    draw_steps(folder, picture)


def _draw_layers(folder: Path, picture: Path) -> None:
    from chemnet.vision.reduction import draw_layers

    draw_layers(folder, picture)


# By what a command's argument names: what draws it, from the source, into a file.
_PICTURES = {
    "coverage": _draw_coverage,
    "ladder": _draw_ladder,
    "losses": _draw_losses,
    "pareto": _draw_pareto,
    "steps": _draw_steps,
    "layers": _draw_layers,
}


def _plot_arguments(command: argparse.ArgumentParser) -> None:
    subjects = (
        "coverage: of a training set; losses: of a run and its reductions; ladder: of what validate --json wrote; "
        "pareto: of all comparisons below a folder; steps, layers: figures 6 and 7 of an automatic reduction's folder"
    )
    command.add_argument("subject", choices=_PICTURES, help=subjects)
    command.add_argument("source", metavar="SOURCE", type=Path, help="the file or run folder")
    command.add_argument("--picture", type=Path, metavar="FILE", help="default <subject>.png beside the source")


def plot(options: Options) -> list[Table]:
    """`chemnet plot`."""
    folder = options.source if options.source.is_dir() else options.source.parent
    picture = options.picture or folder / f"{options.subject}.png"
    _need_matplotlib(picture)
    _PICTURES[options.subject](options.source, picture)
    return [Table("picture", ("file",), [(str(picture),)])]


# ---- info, doctor


def _info_arguments(command: argparse.ArgumentParser) -> None:
    which = command.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "what", metavar="WHAT", nargs="?", help="a file, a folder, or a name such as drm19 or drm19-small"
    )
    which.add_argument("--models", action="store_true", help="the models that ship")


def info(options: Options) -> list[Table]:
    """`chemnet info`."""
    from chemnet.cli.info import describe, models_table

    return [models_table()] if options.models else describe(options.what)


def doctor(options: Options) -> list[Table]:
    """`chemnet doctor`; ends with 1 if there is a problem."""
    from chemnet.cli.doctor import examine, exit_code, report

    findings = examine()
    options.exit_code = exit_code(findings)
    return [report(findings)]


if __name__ == "__main__":
    sys.exit(main())
