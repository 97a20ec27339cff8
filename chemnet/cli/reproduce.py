"""`chemnet reproduce table-1`: the published experiment, whole or at a share of its steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from chemnet.cli.arguments import Options, add_command, add_group, add_threads, given, positive, positive_number
from chemnet.runtime.tables import Table


def add(commands: Any) -> None:
    """Add the command."""
    group = add_group(commands, "reproduce", "repeat the published experiments")
    text = "original, three reductions, and what they are compared with: table 1, figures 2 and 3"
    command = add_command(group, "table-1", table_1, text, "an experiment of other settings")
    text = "share of the published steps, above 0 and at most 1 (default 1: a day and more on two cores)"
    command.add_argument("--scale", type=positive_number, default=1.0, metavar="S", help=text)
    text = "rows that no batch grows beyond, with all of the steps (default: as published, to 131072)"
    command.add_argument("--max-batch", type=positive, metavar="N", help=text)
    command.add_argument("--seed", dest="seeds", type=int, nargs="+", default=[0], metavar="N", help="default 0")
    text = "thresholds, widths, unreduced, control, forward (default: the first, third and fourth)"
    command.add_argument("--series", nargs="+", metavar="NAME", help=text)
    command.add_argument("--data", type=Path, metavar="FILE", help="training set (default: that of config paper)")
    text = "where its runs and its page go (default runs/table-1)"
    command.add_argument("--out", type=Path, default=Path("runs/table-1"), metavar="DIR", help=text)
    command.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default auto")
    text = "of the products in training; weights and losses are fp32 (default bf16)"
    command.add_argument("--precision", choices=("fp32", "bf16"), default="bf16", help=text)
    add_threads(command)


def table_1(options: Options) -> list[Table]:
    """Table 1 and the groups by threshold; the page lies in the folder."""
    from chemnet.benchmark.timing import processor
    from chemnet.reduction.published_experiment import USUAL, reproduce
    from chemnet.reduction.table_one import tables, write_page

    results = reproduce(
        options.out,
        series=options.series or USUAL,
        n_threads=options.threads,
        **given(options, "scale", "max_batch", "seeds", "data", "device", "precision", "overwrite"),
    )
    batches = f" --max-batch {options.max_batch}" if options.max_batch else ""
    lead = f"chemnet reproduce table-1 --scale {options.scale:g}{batches}, {options.precision}, {processor()}"
    print(f"written: {', '.join(map(str, write_page(options.out, results, lead)))}")
    return tables(results)
