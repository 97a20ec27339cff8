"""`chemnet make`: from a mechanism to a model, its card and a verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from chemnet.cli.arguments import (
    ATM,
    Options,
    add_command,
    add_phase,
    add_threads,
    atmospheres,
    duration,
    mechanism_name,
    mixture,
    positive,
    positive_number,
)
from chemnet.runtime.tables import Table


def add(commands: Any) -> None:
    """Add the command."""
    text = "make a model of a gas: look at it, sample, train, check, and say whether to use it; goes on if interrupted"
    command = add_command(commands, "make", make, text, "a make, and begin anew, in a folder")
    command.add_argument("--mechanism", required=True, metavar="M", help="name or Cantera file")
    add_phase(command)
    command.add_argument("--fuel", required=True, type=mixture, metavar="X", help="H2, or CH4:0.9,H2:0.1")
    command.add_argument("--oxidizer", type=mixture, metavar="X", help="default O2:1,N2:3.76")
    pressures = "atmospheres: one, or the lowest and the highest (default 0.8 2)"
    command.add_argument(
        "--pressure", type=atmospheres, nargs="+", default=[0.8 * ATM, 2.0 * ATM], metavar="P", help=pressures
    )
    phis = "equivalence ratios, lowest and highest (default: what burns of 0.5 to 2)"
    command.add_argument("--phi", type=positive_number, nargs=2, metavar=("LO", "HI"), help=phis)
    command.add_argument("--dt", type=positive_number, default=1e-6, metavar="S", help="time step [s] (default 1e-6)")
    budget = "wall time of all of it, such as 90s, 30m or 2h (default 30m)"
    command.add_argument("--budget", type=duration, default=1800.0, metavar="TIME", help=budget)
    command.add_argument("--seed", type=int, default=0, metavar="N", help="default 0")
    command.add_argument("--workers", type=positive, metavar="N", help="processes that sample (default: one a core)")
    add_threads(command)
    command.add_argument("--out", type=Path, metavar="DIR", help="folder (default runs/MECHANISM-FUEL)")


def make(options: Options) -> list[Table]:
    """Tables of the gas, of the choices, of the time and of the verdict."""
    from cfd_coupling import flame_speed
    from chemnet.cli.validate import flow_solver
    from chemnet.making.run import Tools, make
    from chemnet.making.task import MakeTask
    from chemnet.runtime.config import parse
    from chemnet.runtime.errors import UsageError

    if len(options.pressure) > 2:
        raise UsageError("--pressure takes one pressure, or the lowest and the highest")
    given = {
        "mechanism": mechanism_name(options.mechanism, options.phase),
        "fuel": options.fuel,
        "pressure": [min(options.pressure), max(options.pressure)],
        "phi": options.phi,
        "dt": options.dt,
        "seed": options.seed,
    }
    if options.oxidizer:
        given["oxidizer"] = options.oxidizer
    return make(
        parse(MakeTask, given, "make"),
        out=options.out,
        budget=options.budget,
        overwrite=options.overwrite,
        workers=options.workers,
        tools=Tools(flame_speed.flame_speed, flame_speed.identity(), flow_solver()),
    )
