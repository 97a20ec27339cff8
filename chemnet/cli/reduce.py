"""`chemnet reduce`: condensation of a trained network, stage by stage."""

from __future__ import annotations

from typing import Any

from chemnet.cli.arguments import Options, add_command, add_training, given, positive, training_options
from chemnet.runtime.tables import Table

_STAGES = "stages of another model, data or settings"


def add(commands: Any) -> None:
    """Add the command."""
    command = add_command(
        commands, "reduce", reduce, "make a trained network smaller by condensation, stage by stage", _STAGES
    )
    command.add_argument("model", metavar="MODEL", nargs="?", help="default: the config's latest training")
    command.add_argument("--stage", type=positive, metavar="N", help="run up to this stage (default: all)")
    command.add_argument("--stages", metavar="STAGES", help="name or YAML file of the stages (default: the config's)")
    command.add_argument("--config", metavar="CONFIG", help="training config (default: the model's, else drm19)")
    preview = "show the outcome of thresholds and stages; change and write nothing"
    command.add_argument("--dry-run", action="store_true", help=preview)
    add_training(command, several=True)


def reduce(options: Options) -> list[Table]:
    """Table of the stages; stage N lies in `stage-N` below the run folder."""
    from chemnet.reduction.run import preview, reduce

    which = given(options, "stage", "stages", "config")
    if options.dry_run:
        return preview(options.model, **which, data=options.data, seed=options.seed)
    return [reduce(options.model, **which, overwrite=options.overwrite, **training_options(options))]
