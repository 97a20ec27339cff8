"""`chemnet compare`: flow runs, validations, methods of reduction."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from chemnet.cli.arguments import (
    Options,
    add_command,
    add_group,
    add_report,
    add_threads,
    check_picture,
    given,
    report_files,
)
from chemnet.runtime.errors import FileError
from chemnet.runtime.lazy import installed
from chemnet.runtime.report import Picture
from chemnet.runtime.tables import Table


def add(commands: Any) -> None:
    """Add the commands."""
    group = add_group(commands, "compare", "compare flow runs, validations, or methods of reduction")
    command = add_command(group, "flow", compare_flow, "compare runs of the flow solver in a table and a picture")
    folders = "run folders; the first is the reference"
    command.add_argument("runs", metavar="RUN", nargs="+", type=Path, help=folders)
    picture = "where to draw (default compare.png in the last run folder)"
    command.add_argument("--picture", type=Path, metavar="FILE", help=picture)
    add_report(command)

    command = add_command(group, "validation", compare_validations, "compare validations of several models")
    files = "written by `chemnet validate ... --json FILE`"
    command.add_argument("files", metavar="FILE", nargs="+", type=Path, help=files)
    add_report(command)

    text = "compare condensation with pruning, distillation and training anew"
    command = add_command(group, "methods", compare_methods, text, "runs of another model, data or settings")
    command.add_argument("comparison", metavar="COMPARISON", help="quick, drm19, ..., or a YAML file")
    command.add_argument("model", metavar="MODEL", nargs="?", help="default: the config's latest training")
    command.add_argument("--config", metavar="CONFIG", help="training config (default: the model's, else drm19)")
    add_threads(command)
    command.add_argument("--data", type=Path, metavar="FILE", help="training set (default: the config's)")
    command.add_argument("--out", type=Path, metavar="DIR", help="default runs/<config>/comparison")
    command.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default auto")


def compare_flow(options: Options) -> list[Table]:
    """Table of the flow runs; draws the picture."""
    from cfd_coupling.compare import compare

    check_picture(options.picture)
    if not installed("matplotlib"):
        return [compare(options.runs)]
    picture = options.picture or options.runs[-1] / "compare.png"
    table = compare(options.runs, picture)
    print(f"picture: {picture}")
    options.pictures = [Picture(picture, "T of the runs at the same time, and their differences to the first")]
    return [table]


def compare_validations(options: Options) -> list[Table]:
    """Table of the figures of several validations."""
    from chemnet.validation.reports import comparison, ignitions

    table = comparison(options.files)
    if report_files(options) and installed("matplotlib"):
        from chemnet.runtime import plots

        with suppress(FileError):  # a validation without ignitions
            cases = {path.stem: ignitions(path)[path.stem] for path in options.files}
            picture = report_files(options)[0].with_suffix(".png")
            plots.ignition_delays(picture, cases)
            options.pictures = [
                Picture(picture, "Ignition delays of the models and of the reference, and their errors")
            ]
    return [table]


def compare_methods(options: Options) -> list[Table]:
    """Tables of the methods; all results lie in the comparison's folder."""
    from chemnet.reduction.chemistry_comparison import compare_methods as compare

    return compare(options.comparison, options.model, **given(options, "config", "data", "out", "device", "overwrite"))
