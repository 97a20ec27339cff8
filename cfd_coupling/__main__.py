"""`python -m cfd_coupling run CASE`, `info CASE` and `verify`; under mpiexec every rank runs the same command."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from chemnet.runtime.errors import Parser, run_command

if TYPE_CHECKING:
    from cfd_coupling.config import CaseConfig
    from cfd_coupling.control import Signals
    from cfd_coupling.parallel import Communicator
    from cfd_coupling.simulation import Simulation
    from cfd_coupling.summary import Summary

NAME = "cfd_coupling"
_LONGEST_NAME = 200  # characters of a folder's name; file systems end at 255


def parser() -> Parser:
    """The command line."""
    main = Parser(
        prog="python -m cfd_coupling", description="2-D low-Mach reacting flow on exact or learned chemistry."
    )
    commands = main.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run a case; under mpiexec -n N on N ranks")
    info = commands.add_parser("info", help="print a case as it would run, and its size")
    for command in (run, info):
        command.add_argument("case", metavar="CASE", help="a folder with case.yaml, a YAML file, or a shipped case")
        command.add_argument("--variant", metavar="NAME", help="a variant that the case defines, such as demo")
        command.add_argument(
            "--set", dest="assignments", action="append", default=[], metavar="KEY=VALUE",
            help="change one key, such as grid.nx=128; may be repeated",
        )  # fmt: skip
    run.add_argument("--out", type=Path, metavar="DIR", help="run folder (default runs/<case>-<chemistry>-<changes>)")
    either = run.add_mutually_exclusive_group()
    either.add_argument("--overwrite", action="store_true", help="replace a run in the folder")
    either.add_argument(
        "--resume", action="store_true", help="go on from the last checkpoint of CASE, or of a run folder"
    )
    run.add_argument("--max-minutes", type=_minutes, metavar="M", help="stop in time with a checkpoint, exit code 75")
    run.add_argument("--json", metavar="FILE", help="write the totals as JSON too; - for standard output")
    verify = commands.add_parser("verify", help="measure orders, conservation, flames and protections: the scoreboard")
    verify.add_argument("--quick", action="store_true", help="small sizes: a minute instead of a quarter of an hour")
    verify.add_argument("--only", action="append", default=[], metavar="NAME", help="only this check; may be repeated")
    verify.add_argument("--json", type=Path, metavar="FILE", help="write the scoreboard to a file, too")
    verify.add_argument("--overwrite", action="store_true", help="replace that file if it is there")
    return main


def _minutes(text: str) -> float:
    """A positive number of minutes."""
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 0.0 < minutes < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of minutes")
    return minutes


def default_folder(case: CaseConfig, assignments: Sequence[str] = ()) -> Path:
    """Default run folder: runs/<case>-<kind of chemistry>, and the keys set by hand that change what is computed."""
    changes = dict(assignment.partition("=")[::2] for assignment in assignments)
    parts = [
        re.sub(r"[^\w.+=-]+", "_", f"{key}={value}").strip("_")
        for key, value in sorted(changes.items())
        if key != "chemistry.kind" and not key.startswith("output.")
    ]
    return Path("runs") / "-".join([case.name, case.chemistry.kind, *parts])[:_LONGEST_NAME]


def launch(arguments: argparse.Namespace, command: Sequence[str]) -> int:
    """Run a case on all ranks. An error on one rank ends the whole job, since the others would wait for it."""
    from cfd_coupling.control import Signals
    from cfd_coupling.parallel import connect

    start = time.monotonic()
    with Signals() as signals:
        comm = connect()
        comm.barrier()
        signals.listen()
        if comm.size == 1:
            return run_case(arguments, command, comm, signals, start)
        try:
            return run_case(arguments, command, comm, signals, start)
        except BaseException as error:
            sys.excepthook(type(error), error, error.__traceback__)
            raise


def run_case(
    arguments: argparse.Namespace, command: Sequence[str], comm: Communicator, signals: Signals, start: float
) -> int:
    """Build the simulation on every rank and run it; returns the exit code.

    An error of the set-up concerns all ranks or one of them: one rank reports it, and all of them end.
    """
    from chemnet.runtime.errors import expected

    failure = None
    try:
        simulation = _set_up(arguments, comm, signals, start)
    except Exception as error:
        failure = expected(error)
        if failure is None:
            raise
    teller = -comm.max(-comm.size if failure is None else -comm.rank)
    if comm.rank == teller:
        print(f"{NAME}: {failure}", file=sys.stderr)
    code = int(comm.max(0 if failure is None else failure.exit_code))
    if code:
        return code
    summary = simulation.run()
    if arguments.json and comm.rank == 0:
        _write_json(arguments.json, command, summary)
    return summary.exit_code


def _set_up(arguments: argparse.Namespace, comm: Communicator, signals: Signals, start: float) -> Simulation:
    from cfd_coupling.config import load_case
    from cfd_coupling.folder import is_run
    from cfd_coupling.simulation import RunOptions, set_up
    from chemnet.runtime.files import check_new

    if arguments.json and arguments.json != "-" and comm.rank == 0:
        check_new(arguments.json, arguments.overwrite or arguments.resume)
    case = load_case(arguments.case, arguments.variant, arguments.assignments)
    folder = arguments.out or default_folder(case, arguments.assignments)
    if arguments.resume and arguments.out is None and is_run(Path(arguments.case)):
        folder = Path(arguments.case)
    options = RunOptions(
        overwrite=arguments.overwrite,
        resume=arguments.resume,
        max_minutes=arguments.max_minutes,
        start=start,
        signals=signals,
        log_to_stderr=arguments.json == "-",
    )
    return set_up(case, folder, comm, options)


def _write_json(file: str, command: Sequence[str], summary: Summary) -> None:
    """Write the totals to a file, or print them for `-`."""
    from chemnet.runtime.files import write_text
    from chemnet.version import __version__

    head = {"command": shlex.join(["python", "-m", NAME, *command]), "chemnet": __version__}
    text = json.dumps({**head, "tables": [summary.table().as_json()]}, indent=2) + "\n"
    if file == "-":
        print(text, end="")
    else:
        write_text(file, text)


def show(arguments: argparse.Namespace) -> int:
    """Print a case as it would run."""
    from cfd_coupling.config import load_case, variant_names
    from chemnet.runtime.config import dump_yaml

    case = load_case(arguments.case, arguments.variant, arguments.assignments)
    grid = case.grid
    print(dump_yaml(case), end="")
    print(
        f"# {grid.nx * grid.ny} cells of {1e6 * grid.length_x / grid.nx:.1f} x {1e6 * grid.length_y / grid.ny:.1f} um, "
        f"{case.n_steps} steps; goes to {default_folder(case, arguments.assignments)}"
    )
    print(f"# variants: {', '.join(variant_names(arguments.case)) or 'none'}")
    return 0


def measure(arguments: argparse.Namespace) -> int:
    """Print the scoreboard; 1 when a line misses its target."""
    from cfd_coupling.verification.runner import verify
    from chemnet.runtime.files import check_new

    if arguments.json:
        check_new(arguments.json, arguments.overwrite)
    return 0 if verify(arguments.quick, arguments.only, arguments.json) else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code of the command line."""
    return run_command(lambda: _run(argv), NAME)


def _run(argv: Sequence[str] | None) -> int:
    words = sys.argv[1:] if argv is None else argv
    arguments = parser().parse_args(words)
    if arguments.command == "verify":
        return measure(arguments)
    return show(arguments) if arguments.command == "info" else launch(arguments, words)


if __name__ == "__main__":
    sys.exit(main())
