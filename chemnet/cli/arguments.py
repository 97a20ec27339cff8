"""Parsers of commands, and arguments that several of them share."""

from __future__ import annotations

import argparse
import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chemnet.runtime.errors import UsageError
from chemnet.runtime.files import check_new
from chemnet.runtime.lazy import installed
from chemnet.runtime.tables import Table

DEFAULT_MODEL = "drm19-small"
ATM = 101325.0  # [Pa]
TRAINING_SET = Path("datasets/drm19/states.h5")

Options = argparse.Namespace
Body = Callable[[Options], "list[Table]"]
_PART = re.compile(r'\s*(?:"(?P<quoted>[^"]+)"|(?P<name>[^\s",].*?))\s*:\s*(?P<amount>[^:,\s]+)\s*(?:,|$)')
_TRAINING = ("data", "out", "seed", "device", "max_minutes")


def add_command(
    commands: Any, name: str, body: Body, text: str, replaces: str | None = None
) -> argparse.ArgumentParser:
    """Parser of a sub-command with `--json` and `--overwrite`, which calls `body`; `text` describes it.

    `replaces` says what `--overwrite` replaces besides the files that are named (None: nothing).
    """
    command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    command.add_argument("--json", metavar="FILE", help="write the tables as JSON too; - for standard output alone")
    more = f"replace {replaces or 'files'} that may be there"
    command.add_argument("--overwrite", action="store_true", help=more)
    command.set_defaults(body=body, replaces=replaces)
    return command


def add_report(command: argparse.ArgumentParser) -> None:
    """Add `--report FILE`: a page of the tables, and of the `pictures` that a command leaves in its options."""
    text = "write a page: one file of HTML with its pictures inside, and the same as Markdown beside it"
    command.add_argument("--report", type=Path, metavar="FILE", help=text)
    command.set_defaults(pictures=[])


def report_files(options: Options) -> list[Path]:
    """Files of the report that a command writes: HTML, and Markdown; none where it writes none."""
    report: Path | None = getattr(options, "report", None)
    if report is None:
        return []
    stem = report.with_suffix("") if report.suffix in (".html", ".md") else report
    return [stem.with_name(f"{stem.name}.{ending}") for ending in ("html", "md")]


def check_files(options: Options, *files: Path | str | None) -> None:
    """Raise UsageError for files that a command would write and that are there, FileError for those that it cannot
    write; before it begins."""
    way_out = (
        "Choose another name, or add --overwrite." if options.replaces is None else "Remove it, or choose another name."
    )
    may = options.overwrite or getattr(options, "resume", False)
    for file in files:
        if file is not None:
            check_new(file, may, way_out)


def add_group(commands: Any, name: str, text: str) -> Any:
    """Sub-parsers of a command without an action of its own."""
    group = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    return group.add_subparsers(title="commands", metavar="COMMAND", required=True)


def add_set(command: argparse.ArgumentParser) -> None:
    """Add `--set KEY=VALUE`, kept in `changes`."""
    text = "change one key; may be repeated"
    command.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE", help=text)


def add_training(command: argparse.ArgumentParser, out: str = "runs/<config>", several: bool = False) -> None:
    """Add the arguments of trainings: data (one file, or `several`), run folder, by default `out`, and others."""
    files = "training set, or several" if several else "training set"
    nargs = "+" if several else None
    command.add_argument("--data", type=Path, nargs=nargs, metavar="FILE", help=f"{files} (default: the config's)")
    command.add_argument("--out", type=Path, metavar="DIR", help=f"run folder (default {out})")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="default 0")
    command.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default auto")
    add_threads(command)
    add_max_minutes(command)


def add_threads(command: argparse.ArgumentParser) -> None:
    """Add `--threads N`, the same for every command that computes networks."""
    text = (
        "threads (default: CHEMNET_NUM_THREADS, else one, and all cores for networks of more than 300,000 parameters)"
    )
    command.add_argument("--threads", type=positive, metavar="N", help=text)


def add_max_minutes(command: argparse.ArgumentParser) -> None:
    """Add `--max-minutes M`, the same for every training."""
    text = "stretch the schedule over the steps or M minutes, whichever end sooner"
    command.add_argument("--max-minutes", type=positive_number, metavar="M", help=text)


def check_way(options: Options) -> None:
    """Raise UsageError where a run is both to be gone on with and to be replaced."""
    if options.resume and options.overwrite:
        raise UsageError("--resume goes on with a run, --overwrite replaces it: give one of them")


def training_options(options: Options) -> dict[str, Any]:
    """Values of the arguments of `add_training`, by name."""
    return given(options, *_TRAINING)


def given(options: Options, *names: str) -> dict[str, Any]:
    """Values of some arguments, by name."""
    return {name: getattr(options, name) for name in names}


def positive(text: str) -> int:
    """Whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def positive_number(text: str) -> float:
    """Finite number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0.0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return number


def share(text: str) -> float:
    """Number in (0, 1]."""
    number = positive_number(text)
    if number > 1.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share in (0, 1]")
    return number


_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def duration(text: str) -> float:
    """Seconds of `90s`, `30m` or `2h`."""
    try:
        seconds = float(text[:-1]) * _UNITS[text[-1:]]
    except (ValueError, KeyError):
        seconds = 0.0
    if not 0.0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 90s, 30m or 2h")
    return seconds


def atmospheres(text: str) -> float:
    """A pressure [Pa] that is given in atmospheres."""
    return ATM * positive_number(text)


def mixture(text: str) -> dict[str, float]:
    """Amounts of species [mol] of `CH4:0.9,H2:0.1`, or of the one species `H2`.

    A name ends at the last colon before its amount, and may stand in double quotes.
    """
    whole = text if ":" in re.sub('"[^"]*"', "", text) else f"{text}:1"
    parts = list(_PART.finditer(whole))
    try:
        amounts = {(part["quoted"] or part["name"]).strip(): float(part["amount"]) for part in parts}
    except ValueError:
        amounts = {}
    if not amounts or sum(len(part[0]) for part in parts) < len(whole):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a mixture such as CH4:0.9,H2:0.1 (quote a name like '\"A:x,1\":0.5')"
        )
    if not all(0.0 < amount < float("inf") for amount in amounts.values()):
        raise argparse.ArgumentTypeError(f"{text!r}: amounts are positive")
    return amounts


def names(text: str) -> tuple[str, ...]:
    """Names of `T,CH2O`; one with a comma stands in double quotes."""
    return tuple(name.strip() for name in next(csv.reader([text], skipinitialspace=True), []) if name.strip())


def add_phase(command: argparse.ArgumentParser) -> None:
    """Add `--phase NAME`, see `mechanism_name`."""
    command.add_argument("--phase", metavar="NAME", help="phase of the mechanism's file (default: its first)")


def mechanism_name(name: str | None, phase: str | None) -> str | None:
    """The name of a mechanism, with the phase that `--phase` says as `load_mechanism` takes it."""
    if phase is None:
        return name
    if name is None:
        raise UsageError("--phase needs --mechanism: it is a phase of that file")
    from chemnet.gas.mechanism_file import with_phase

    return with_phase(name, phase)


def check_picture(picture: Path | None) -> None:
    """Raise UsageError where a picture is asked for and matplotlib is missing."""
    if picture and not installed("matplotlib"):
        raise UsageError("a picture needs matplotlib: pip install matplotlib")
