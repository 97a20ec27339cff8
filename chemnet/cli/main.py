"""The command line: parsers of all commands, one call, tables on the screen and in a file.

A command imports the module of its function only when it is called, so that `chemnet --help` is immediate.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from typing import Any

from chemnet.cli import (
    bench,
    compare,
    doctor,
    info,
    make,
    model,
    plot,
    reduce,
    refine,
    reproduce,
    sample,
    train,
    validate,
    vision,
)
from chemnet.cli.arguments import check_files, report_files
from chemnet.runtime.errors import Parser, run_command
from chemnet.runtime.files import write_json
from chemnet.runtime.report import write_report
from chemnet.runtime.threads import begin_command
from chemnet.version import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code of `chemnet ARGUMENTS...`."""
    return run_command(lambda: run(sys.argv[1:] if arguments is None else arguments), "chemnet")


def run(arguments: Sequence[str]) -> int:
    """Parse, execute, and print the tables; returns the exit code. Raises ChemnetError for errors of the user."""
    options = build_parser().parse_args(arguments)
    begin_command(getattr(options, "threads", None))
    to_output = options.json == "-"
    check_files(options, None if to_output else options.json, *report_files(options))
    with redirect_stdout(sys.stderr) if to_output else nullcontext():
        tables = options.body(options)
    if tables:
        content: dict[str, Any] = {"command": shlex.join(["chemnet", *arguments]), "chemnet": __version__}
        content["tables"] = [table.as_json() for table in tables]
        if to_output:
            print(json.dumps(content, indent=2))
        else:
            print("\n\n".join(table.text() for table in tables))
        if options.json and not to_output:
            write_json(options.json, content)
    if tables and report_files(options):
        stem = report_files(options)[0].with_suffix("")
        written = write_report(
            stem, " ".join(["chemnet", *arguments[:3]]), content["command"], [*tables, *options.pictures]
        )
        print(f"report: {', '.join(map(str, written))}", file=sys.stderr if to_output else sys.stdout)
    return getattr(options, "exit_code", 0)


def build_parser() -> Parser:
    """Parser of all commands."""
    parser = Parser(prog="chemnet", description="Combustion chemistry into a network, and the network made small.")
    parser.add_argument("--version", action="version", version=f"chemnet {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    every = make, sample, train, refine, reduce, validate, bench, model, compare, reproduce, plot, vision, info, doctor
    for command in every:
        command.add(commands)
    return parser
