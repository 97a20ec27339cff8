"""`chemnet info`: the content of a mechanism, model, training set or run."""

from __future__ import annotations

from typing import Any

from chemnet.cli.arguments import Options, add_command
from chemnet.runtime.tables import Table


def add(commands: Any) -> None:
    """Add the command."""
    command = add_command(commands, "info", info, "describe a mechanism, model, training set or run")
    which = command.add_mutually_exclusive_group(required=True)
    names = "a file, a folder, or a name such as drm19 or drm19-small"
    which.add_argument("what", metavar="WHAT", nargs="?", help=names)
    which.add_argument("--models", action="store_true", help="the models that ship")
    command.add_argument("--all", action="store_true", help="with all that it says about itself")


def info(options: Options) -> list[Table]:
    """Tables of the facts."""
    if options.models:
        from chemnet.validation.shelf import models

        return models()
    from chemnet.cli.facts import describe

    return describe(options.what, options.all)
