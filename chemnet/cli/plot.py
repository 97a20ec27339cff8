"""`chemnet plot`: the picture of a file or run."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from chemnet.cli.arguments import Options, add_command, check_picture, names
from chemnet.runtime.errors import FileError, UsageError
from chemnet.runtime.lazy import installed
from chemnet.runtime.tables import Table


def add(commands: Any) -> None:
    """Add the command."""
    command = add_command(commands, "plot", plot, "draw the content of a file or run")
    subjects = (
        "run: fields, history, scatter and page of a flow run; coverage: of a training set; "
        "losses: of a run and its reductions; validation: of files of validate --json; "
        "pareto: of all comparisons below a folder; accuracies: of a comparison of classifiers; "
        "steps, layers: figures 6 and 7 of an automatic reduction's folder"
    )
    command.add_argument("subject", choices=("run", *_PICTURES), help=subjects)
    command.add_argument("source", metavar="SOURCE", type=Path, help="the file or run folder")
    command.add_argument("--picture", type=Path, metavar="FILE", help="default <subject>.png beside the source")
    text = "run: names in its snapshots, with commas (default T,OH,heat_release,vorticity)"
    command.add_argument("--fields", type=names, metavar="NAMES", default=(), help=text)
    text = "run: times [s], with commas; the nearest snapshots (default: four)"
    command.add_argument("--times", type=_times, metavar="TIMES", default=(), help=text)
    command.add_argument("--movie", type=Path, metavar="FILE", help="run: a movie of the first field, .gif or .mp4")


def plot(options: Options) -> list[Table]:
    """Table of the pictures' paths."""
    if options.subject == "run":
        return [_draw_run(options)]
    folder = options.source if options.source.is_dir() else options.source.parent
    picture = options.picture or folder / f"{options.subject}.png"
    check_picture(picture)
    _PICTURES[options.subject](options.source, picture)
    return [Table("picture", ("file",), [(str(picture),)])]


def _times(text: str) -> tuple[float, ...]:
    try:
        times = tuple(float(number) for number in names(text))
    except ValueError:
        times = (math.nan,)
    if not all(0.0 <= time < math.inf for time in times):
        raise argparse.ArgumentTypeError(f"{text!r} are not times [s], such as 2e-4,1e-3")
    return times


def _draw_run(options: Options) -> Table:
    from cfd_coupling.pictures import draw_run
    from cfd_coupling.report import write_report

    if options.picture is not None:
        raise UsageError("plot run draws several pictures, all into the run folder: leave out --picture")
    if not installed("matplotlib"):
        raise UsageError("plot needs matplotlib\nInstall it: pip install matplotlib")
    drawn = draw_run(options.source, options.fields, options.times, options.movie)
    drawn["report"] = write_report(options.source, drawn)
    return Table("pictures", ("what", "file"), [(name, str(path)) for name, path in drawn.items()])


def _draw_losses(run: Path, picture: Path) -> None:
    from chemnet.cli.facts import loss_tables
    from chemnet.runtime import plots

    plots.losses(picture, loss_tables(run))


def _draw_coverage(path: Path, picture: Path) -> None:
    from chemnet.data.coverage import draw

    draw(path, picture)


def _draw_validation(source: Path, picture: Path) -> None:
    from chemnet.runtime import plots
    from chemnet.validation.reports import ignitions

    plots.ignition_delays(picture, ignitions(source))


def _draw_pareto(source: Path, picture: Path) -> None:
    from chemnet.reduction.chemistry_comparison import draw_pareto
    from chemnet.reduction.comparison import RESULTS

    folders = sorted(file.parent for file in source.rglob(RESULTS))
    if not folders:
        raise FileError(f"{source} holds no comparison\nMake one: chemnet compare methods quick MODEL")
    draw_pareto(folders, picture)


def _draw_accuracies(folder: Path, picture: Path) -> None:
    from chemnet.vision.comparison import draw_accuracies

    draw_accuracies(folder, picture)


def _draw_automatic(drawing: str, folder: Path, picture: Path) -> None:
    from chemnet.reduction.automatic import LOG
    from chemnet.runtime import plots

    if not (folder / LOG).is_file():
        raise FileError(f"{folder} holds no automatic reduction\nMake one: chemnet vision reduce --data IMAGES")
    getattr(plots, drawing)(picture, folder / LOG)


# By subject: functions of the source and the picture.
_PICTURES: dict[str, Callable[[Path, Path], None]] = {
    "coverage": _draw_coverage,
    "validation": _draw_validation,
    "losses": _draw_losses,
    "pareto": _draw_pareto,
    "accuracies": _draw_accuracies,
    "steps": partial(_draw_automatic, "reduction_steps"),
    "layers": partial(_draw_automatic, "first_main_reduction"),
}
