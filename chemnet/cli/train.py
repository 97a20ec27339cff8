"""`chemnet train`: a network from a config."""

from __future__ import annotations

from typing import Any

from chemnet.cli.arguments import (
    Options,
    add_command,
    add_set,
    add_training,
    check_way,
    given,
    positive_number,
    training_options,
)
from chemnet.runtime.errors import UsageError
from chemnet.runtime.tables import Table

_RUN = "the training, and the reductions of its model,"


def add(commands: Any) -> None:
    """Add the command."""
    command = add_command(commands, "train", train, "train a network, sampling first if there is no training set", _RUN)
    configs = "drm19 (the default), small, paper, quick, or a YAML file"
    command.add_argument("--config", metavar="CONFIG", default="drm19", help=configs)
    add_set(command)
    command.add_argument("--resume", action="store_true", help="go on with an interrupted training of the run folder")
    start = "train this model on: name or path; its network takes the place of the config's"
    command.add_argument("--start-from", metavar="MODEL", help=start)
    add_training(command, several=True)
    rates = (
        "compare learning rates in short trainings of --max-minutes each (default 1; default rates: a quarter to four "
        "times the config's)"
    )
    command.add_argument("--scan-rates", nargs="*", type=positive_number, metavar="RATE", help=rates)


def train(options: Options) -> list[Table]:
    """Table of the run; of the processes of `torchrun`, the first one alone shows it."""
    from chemnet.cli.facts import run_table
    from chemnet.training.config import load_config
    from chemnet.training.distributed import leads
    from chemnet.training.rate_scan import scan_rates
    from chemnet.training.run import train

    config = load_config(options.config, options.changes)
    if options.scan_rates is not None:
        if options.resume or options.start_from:
            raise UsageError("--scan-rates starts every training anew; leave --resume and --start-from away")
        table = scan_rates(config, options.scan_rates, overwrite=options.overwrite, **training_options(options))
    else:
        check_way(options)
        how = given(options, "resume", "overwrite", "start_from")
        table = run_table(train(config, **how, **training_options(options)), nested=False)
    return [table] if leads() else []
