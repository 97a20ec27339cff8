"""`chemnet bench`: costs of a model, of one in C, of the exact step, of the training loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from chemnet.cli.arguments import (
    DEFAULT_MODEL,
    Options,
    add_command,
    add_group,
    add_phase,
    atmospheres,
    check_files,
    check_picture,
    mechanism_name,
    mixture,
    positive,
    positive_number,
)
from chemnet.runtime.tables import Table


def add(commands: Any) -> None:
    """Add the commands."""
    group = add_group(commands, "bench", "measure costs of a model, of one in C, of the exact step, or of training")
    command = add_command(group, "model", bench_model, "cost per cell of a model beside CVODES and the exact step")
    command.add_argument("model", metavar="MODEL", nargs="?", default=DEFAULT_MODEL, help="name or path")
    command.add_argument("--cells", type=positive, default=1000, metavar="N", help="cells of a call (default 1000)")
    command.add_argument("--turns", type=positive, default=7, metavar="N", help="turns of each step (default 7)")
    command.add_argument("--fuel", type=mixture, metavar="X", help="such as H2:1 (default that of the model)")
    command.add_argument("--oxidizer", type=mixture, metavar="X", help="default that of the model")
    command.add_argument(
        "--pressure", type=atmospheres, metavar="P", help="atmospheres (default 1, if it was made for that)"
    )
    command.add_argument("--phi", type=positive_number, metavar="X", help="default 1, if it was made for that")

    command = add_command(group, "exact", bench_exact, "cost and error of the exact step beside CVODES")
    mechanisms = "drm19 (the default) or a YAML file; may be repeated"
    command.add_argument("--mechanism", action="append", metavar="M", help=mechanisms)
    add_phase(command)
    command.add_argument("--fuel", type=mixture, metavar="X", help="such as H2:1 (default CH4 or H2)")
    command.add_argument("--oxidizer", type=mixture, metavar="X", help="default O2:1,N2:3.76")
    command.add_argument("--pressure", type=atmospheres, metavar="P", help="atmospheres (default 1)")
    kinds = "flame, mixed, ignition, burnt or cold (default all); may be repeated"
    command.add_argument("--states", action="append", metavar="KIND", help=kinds)
    command.add_argument("--cells", type=positive, metavar="N", help="cells of a call (default 1000; quick 200)")
    command.add_argument("--turns", type=positive, metavar="N", help="turns of each step (default 5; quick 2)")
    command.add_argument("--quick", action="store_true", help="fewer cells and turns, one time step, one pressure")
    command.add_argument("--picture", type=Path, metavar="FILE", help="draw cost over error at several tolerances")

    command = add_command(group, "export", bench_export, "cost and answers of a model in C beside the same in Python")
    command.add_argument("model", metavar="MODEL", nargs="?", default=DEFAULT_MODEL, help="name or path")
    command.add_argument("--cells", type=positive, default=1000, metavar="N", help="cells of a call (default 1000)")
    command.add_argument("--turns", type=positive, default=7, metavar="N", help="turns of each step (default 7)")

    text = "samples per second of the training loop beside a bare one"
    command = add_command(group, "training", bench_training, text)
    command.add_argument("--config", metavar="CONFIG", default="small", help="name or YAML file (default small)")
    command.add_argument("--device", choices=("auto", "cpu", "cuda"), default="cpu", help="default cpu")
    command.add_argument(
        "--batch", type=positive, metavar="N", help="rows of every batch (default: as the config says)"
    )
    text = "of the products (default: as the config says)"
    command.add_argument("--precision", choices=("fp32", "bf16"), help=text)
    command.add_argument("--turns", type=positive, default=3, metavar="N", help="turns of each loop (default 3)")


def bench_model(options: Options) -> list[Table]:
    """Tables of a model's cost."""
    from chemnet.benchmark.model import BenchTask, FlameCells, bench

    flame = FlameCells(phi=options.phi, P=options.pressure, fuel=options.fuel, oxidizer=options.oxidizer)
    return bench(BenchTask(options.model, options.cells, options.turns, flame))


def bench_exact(options: Options) -> list[Table]:
    """Tables of the exact step's cost and error."""
    from chemnet.benchmark.cells import KINDS
    from chemnet.benchmark.integrators import ExactTask, bench_exact

    check_picture(options.picture)
    check_files(options, options.picture)
    settings = {
        "fuel": options.fuel,
        "oxidizer": options.oxidizer,
        **({} if options.pressure is None else {"pressure": options.pressure}),
        "kinds": tuple(options.states or KINDS),
        "cells": options.cells or (200 if options.quick else 1000),
        "turns": options.turns or (2 if options.quick else 5),
        "sweeps": not options.quick,
        "curves": options.picture is not None,
    }
    mechanisms = [mechanism_name(name, options.phase) for name in options.mechanism or ["drm19"]]
    tasks = [ExactTask(str(name), **settings) for name in mechanisms]
    tables = bench_exact(tasks, options.picture)
    if options.picture:
        print(f"picture: {options.picture}")
    return tables


def bench_export(options: Options) -> list[Table]:
    """Tables of the cost and the answers of a model in C."""
    from chemnet.benchmark.export import ExportTask, bench_export

    return bench_export(ExportTask(options.model, options.cells, options.turns))


def bench_training(options: Options) -> list[Table]:
    """Table of the training loop's throughput."""
    from chemnet.training.options import choose_device
    from chemnet.training.throughput import TrainingTask, bench_training

    device = choose_device(options.device)
    return bench_training(TrainingTask(options.config, options.turns, device, options.batch, options.precision))
