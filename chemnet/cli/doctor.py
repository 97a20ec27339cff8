"""`chemnet doctor`: examination of this machine."""

from __future__ import annotations

from typing import Any

from chemnet.cli.arguments import Options, add_command
from chemnet.runtime.tables import Table


def add(commands: Any) -> None:
    """Add the command."""
    add_command(commands, "doctor", doctor, "examine this machine and advise")


def doctor(options: Options) -> list[Table]:
    """Table of findings; the exit code is 1 if there is a problem."""
    from chemnet.runtime.machine import examine, exit_code, report

    findings = examine()
    options.exit_code = exit_code(findings)
    return [report(findings)]
