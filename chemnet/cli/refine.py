"""`chemnet refine`: training in a closed loop with the flows that the model runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chemnet.cli.arguments import (
    DEFAULT_MODEL,
    Options,
    add_command,
    add_set,
    add_training,
    given,
    positive,
    positive_number,
    training_options,
)
from chemnet.runtime.tables import Table

if TYPE_CHECKING:
    from chemnet.validation.metrics import Figure


def add(commands: Any) -> None:
    """Add the command."""
    text = "train a model on with states of flows that it runs itself, round by round; goes on where it was interrupted"
    command = add_command(commands, "refine", refine, text, "the rounds of another refinement")
    command.add_argument("model", metavar="MODEL", nargs="?", default=DEFAULT_MODEL, help="name or path")
    command.add_argument("--config", metavar="CONFIG", default="small", help="options of the trainings (default small)")
    add_set(command)
    command.add_argument("--rounds", type=positive, default=3, metavar="N", help="at most (default 3)")
    command.add_argument("--runs", type=positive, default=12, metavar="N", help="flows of a round (default 12)")
    command.add_argument("--rows", type=positive, default=60_000, metavar="N", help="states of a round (default 60000)")
    rate = "learning rate of the rounds, in parts of the config's (default 0.2)"
    command.add_argument("--rate", type=positive_number, default=0.2, metavar="X", help=rate)
    add_training(command, out="runs/<config>-refined")


def refine(options: Options) -> list[Table]:
    """Table of the rounds, judged by the validation's check `flow`."""
    from chemnet.training.config import load_config
    from chemnet.training.refinement import refine

    config = load_config(options.config, options.changes)
    loop = given(options, "rounds", "runs", "rows", "rate", "overwrite")
    return [refine(options.model, config, _flow_figures, **loop, **training_options(options))]


def _flow_figures(model: Path) -> Sequence[Figure]:
    """Figures of the check `flow`."""
    from chemnet.cli.validate import flow_solver
    from chemnet.validation.references import REFERENCES
    from chemnet.validation.suite import Checks, Suite, scales_of_model

    suite = Suite(str(model), cache=REFERENCES, flow=flow_solver(), scales=scales_of_model(model))
    _, figures = Checks(suite).flow()
    return figures
