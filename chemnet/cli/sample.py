"""`chemnet sample`: a training set from a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from chemnet.cli.arguments import (
    Options,
    add_command,
    add_phase,
    add_set,
    atmospheres,
    check_files,
    mechanism_name,
    mixture,
    positive,
    positive_number,
)
from chemnet.runtime.tables import Table


def add(commands: Any) -> None:
    """Add the command."""
    command = add_command(
        commands, "sample", sample, "compute a training set from a recipe", "the set, and shards of another one,"
    )
    command.add_argument("--recipe", type=Path, metavar="FILE", help="YAML file (default: the shipped one of DRM19)")
    add_set(command)
    command.add_argument("--variant", metavar="NAME", help="a variant that the recipe defines, such as quick")
    command.add_argument("--mechanism", metavar="M", help="in place of the recipe's: name or Cantera file")
    add_phase(command)
    command.add_argument("--fuel", type=mixture, metavar="X", help="in place of the recipe's: H2, or CH4:0.9,H2:0.1")
    command.add_argument("--oxidizer", type=mixture, metavar="X", help="in place of the recipe's: O2:1,N2:3.76")
    pressures = "atmospheres, lowest and highest, in place of the recipe's"
    command.add_argument("--pressure", type=atmospheres, nargs=2, metavar=("LO", "HI"), help=pressures)
    phis = "equivalence ratios, lowest and highest, in place of the recipe's"
    command.add_argument("--phi", type=positive_number, nargs=2, metavar=("LO", "HI"), help=phis)
    command.add_argument("--out", type=Path, metavar="FILE", help="default datasets/MECHANISM/states.h5, or VARIANT.h5")
    workers = "processes (default: one a core); or start ranks: mpiexec -n N chemnet sample"
    command.add_argument("--workers", type=positive, metavar="N", help=workers)
    command.add_argument("--manifest", type=Path, metavar="FILE", help="write reference rows for fresh sets, too")


def sample(options: Options) -> list[Table]:
    """Tables of the set; rank 0 of a launcher alone writes and shows it."""
    from chemnet.cli.facts import training_set_tables
    from chemnet.data import reference_rows
    from chemnet.data.recipe import load_recipe
    from chemnet.data.sampling import sample
    from chemnet.runtime.processes import available_cores, other_ranks

    check_files(options, options.manifest)
    with other_ranks() as leads:
        if not leads:
            return []
        own = {
            "mechanism": mechanism_name(options.mechanism, options.phase),
            "fuel": options.fuel,
            "oxidizer": options.oxidizer,
        }
        ranges = {"pressure": options.pressure, "phi": options.phi}
        changes = [f"{key}={limits}" for key, limits in ranges.items() if limits is not None]
        recipe = load_recipe(options.recipe, options.variant, [*changes, *options.changes], **own)
        name = f"{options.variant or 'states'}.h5"
        out = options.out or Path("datasets") / Path(recipe.mechanism).stem / name
        sample(recipe, out, workers=options.workers or available_cores(), overwrite=options.overwrite)
    if options.manifest:
        reference_rows.write(options.manifest, out)
    return training_set_tables(out)
