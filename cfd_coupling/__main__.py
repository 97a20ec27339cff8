"""`python -m cfd_coupling run CASE`, `info CASE` and `verify`; under mpiexec every rank runs the same command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from chemnet.runtime.errors import Parser, run_command

if TYPE_CHECKING:
    from cfd_coupling.config import CaseConfig
    from cfd_coupling.parallel import Communicator
    from cfd_coupling.simulation import Simulation

NAME = "cfd_coupling"


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
    run.add_argument("--out", type=Path, metavar="DIR", help="run folder (default runs/<case>-<chemistry>)")
    run.add_argument("--overwrite", action="store_true", help="replace a finished run in the folder")
    verify = commands.add_parser("verify", help="measure orders, conservation, flames and protections: the scoreboard")
    verify.add_argument("--quick", action="store_true", help="small sizes: a minute instead of a quarter of an hour")
    verify.add_argument("--only", action="append", default=[], metavar="NAME", help="only this check; may be repeated")
    verify.add_argument("--json", type=Path, metavar="FILE", help="write the scoreboard to a file, too")
    return main


def default_folder(case: CaseConfig) -> Path:
    """Default run folder: runs/<case>-<kind of chemistry>."""
    return Path("runs") / f"{case.name}-{case.chemistry.kind}"


def launch(arguments: argparse.Namespace) -> int:
    """Run a case on all ranks. An error on one rank ends the whole job, since the others would wait for it."""
    from cfd_coupling.parallel import connect

    comm = connect()
    if comm.size == 1:
        return run_case(arguments, comm)
    try:
        return run_case(arguments, comm)
    except Exception as error:
        sys.excepthook(type(error), error, error.__traceback__)
        return getattr(error, "exit_code", 70)


def run_case(arguments: argparse.Namespace, comm: Communicator) -> int:
    """Build the simulation on every rank and run it; returns the exit code.

    An error of the set-up concerns all ranks or one of them: one rank reports it, and all of them end.
    """
    from chemnet.runtime.errors import ChemnetError

    failure = None
    try:
        simulation = _set_up(arguments, comm)
    except ChemnetError as error:
        failure = error
    teller = -comm.max(-comm.size if failure is None else -comm.rank)
    if comm.rank == teller:
        print(f"{NAME}: {failure}", file=sys.stderr)
    code = int(comm.max(0 if failure is None else failure.exit_code))
    if code == 0:
        simulation.run()
    return code


def _set_up(arguments: argparse.Namespace, comm: Communicator) -> Simulation:
    from cfd_coupling.config import load_case
    from cfd_coupling.simulation import set_up

    case = load_case(arguments.case, arguments.variant, arguments.assignments)
    return set_up(case, arguments.out or default_folder(case), comm, arguments.overwrite)


def show(arguments: argparse.Namespace) -> int:
    """Print a case as it would run."""
    from cfd_coupling.config import load_case, variant_names
    from chemnet.runtime.config import dump_yaml

    case = load_case(arguments.case, arguments.variant, arguments.assignments)
    grid = case.grid
    print(dump_yaml(case), end="")
    print(
        f"# {grid.nx * grid.ny} cells of {1e6 * grid.length_x / grid.nx:.1f} x {1e6 * grid.length_y / grid.ny:.1f} um, "
        f"{case.n_steps} steps; goes to {default_folder(case)}"
    )
    print(f"# variants: {', '.join(variant_names(arguments.case)) or 'none'}")
    return 0


def measure(arguments: argparse.Namespace) -> int:
    """Print the scoreboard; 1 when a line misses its target."""
    from cfd_coupling.verification.runner import verify

    return 0 if verify(arguments.quick, arguments.only, arguments.json) else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code of the command line."""
    return run_command(lambda: _run(argv), NAME)


def _run(argv: Sequence[str] | None) -> int:
    arguments = parser().parse_args(argv)
    return {"run": launch, "info": show, "verify": measure}[arguments.command](arguments)


if __name__ == "__main__":
    sys.exit(main())
