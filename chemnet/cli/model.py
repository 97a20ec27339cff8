"""`chemnet export`, `edit`, `guard`: changes of a model file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from chemnet.cli.arguments import TRAINING_SET, Options, add_command, check_files
from chemnet.runtime.tables import Table

_ENDINGS = {"onnx": ".onnx", "torch": ".pt2", "torchscript": ".ts.pt", "c": "-c", "deepflame": "-deepflame"}


def add(commands: Any) -> None:
    """Add the commands."""
    command = add_command(commands, "export", export, "write a model for other programs")
    command.add_argument("model", metavar="MODEL", help="name or path")
    command.add_argument("--to", dest="target", choices=_ENDINGS, required=True, help="the program")
    default = "file, or folder of c and deepflame (default: the model's name in runs/)"
    command.add_argument("--out", type=Path, metavar="PATH", help=default)

    text = "write a model file with another engine, other limits or smaller weights"
    command = add_command(commands, "edit", edit, text)
    command.add_argument("model", metavar="MODEL", help="name or path")
    command.add_argument("--out", type=Path, required=True, metavar="FILE", help="the new model file")
    command.add_argument("--engine", metavar="NAME", help="fp32, bf16 or onnx computes it")
    command.add_argument("--weights", choices=("fp32", "bf16"), default="fp32", help="how they are stored")
    command.add_argument("--cold-limit", type=float, metavar="T", help="colder gas is integrated [K]")
    command.add_argument("--calm-limit", type=float, metavar="X", help="gas that changes less is integrated, too")
    figures = "figures to keep, of `chemnet validate model --json FILE`"
    command.add_argument("--validation", type=Path, metavar="FILE", help=figures)

    command = add_command(commands, "guard", guard, "fit a model's domain of validity to a training set")
    command.add_argument("model", metavar="MODEL", help="name or path")
    data = f"its training set (default {TRAINING_SET})"
    command.add_argument("--data", type=Path, default=TRAINING_SET, metavar="FILE", help=data)
    command.add_argument(
        "--out", type=Path, metavar="FILE", help="where to write the model (default: its own file, unless it ships)"
    )


def export(options: Options) -> list[Table]:
    """Table of the files."""
    from chemnet.surrogate.export import export

    out = options.out or Path("runs", f"{Path(options.model).stem}{_ENDINGS[options.target]}")
    return [_files(options.model, options.target, export(options.model, options.target, out, options.overwrite))]


def edit(options: Options) -> list[Table]:
    """Table of the file."""
    from chemnet.surrogate.model import Surrogate
    from chemnet.validation.reports import figures_of

    check_files(options, options.out)
    model = Surrogate.load(options.model)
    if options.engine is not None:
        model = model.with_engine(options.engine)
    if options.validation is not None:
        model = model.with_network(model.network, ladder=figures_of(options.validation))
    limits = zip((options.cold_limit, options.calm_limit), (model.cold_limit, model.calm_limit), strict=True)
    model.with_limits(*(kept if new is None else new for new, kept in limits)).save(options.out, options.weights)
    return [_files(options.model, "chemnet", [options.out])]


def _files(model: str, target: str, files: list[Path]) -> Table:
    return Table(f"{model} for {target}", ("file", "bytes"), [(str(file), file.stat().st_size) for file in files])


def guard(options: Options) -> list[Table]:
    """Table of the domain."""
    from chemnet.training.domain_fit import guard

    check_files(options, options.out)
    return [guard(options.model, options.data, options.out)]
