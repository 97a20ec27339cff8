"""`chemnet validate`: validation of a model, or of the exact step, beside CVODES."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chemnet.cli.arguments import (
    DEFAULT_MODEL,
    TRAINING_SET,
    Options,
    add_command,
    add_group,
    add_phase,
    add_report,
    add_set,
    add_threads,
    atmospheres,
    mechanism_name,
    mixture,
    report_files,
)
from chemnet.runtime.lazy import installed
from chemnet.runtime.tables import Table

if TYPE_CHECKING:
    from chemnet.validation.flow import FlowSolver


def add(commands: Any) -> None:
    """Add the commands."""
    group = add_group(commands, "validate", "roll a model or the exact step out through ignitions and flames")
    command = add_command(group, "model", validate_model, "validate a model beside CVODES and the exact step")
    command.add_argument("model", metavar="MODEL", nargs="?", default=DEFAULT_MODEL, help="name or path")
    _add_cases(command, "steps, ignition, pressure, cold, flames, flow or cost")
    command = add_command(group, "exact", validate_exact, "validate the exact step beside CVODES")
    command.add_argument("--mechanism", metavar="M", default="drm19", help="name or Cantera file (default drm19)")
    add_phase(command)
    command.add_argument("--dt", type=float, metavar="S", default=1e-6, help="time step [s] (default 1e-6)")
    _add_cases(command, "steps, ignition, pressure, cold, flames or flow")


def _add_cases(command: argparse.ArgumentParser, checks: str) -> None:
    fuel = "H2, or CH4:0.9,H2:0.1 (default that of the model; of the exact step CH4)"
    command.add_argument("--fuel", type=mixture, metavar="X", help=fuel)
    command.add_argument("--oxidizer", type=mixture, metavar="X", help="default that of the model, or O2:1,N2:3.76")
    pressures = "atmospheres of the ignitions (default 0.8 1 2, quick 1, or the model's own)"
    command.add_argument("--pressure", type=atmospheres, nargs="+", metavar="P", help=pressures)
    quick = "ignitions of 5,000 steps, by default 25 at T0 1400-1800 K, 1 atm, and single steps"
    command.add_argument("--quick", action="store_true", help=quick)
    which = f"{checks} (default all); may be repeated"
    command.add_argument("--check", action="append", dest="checks", metavar="CHECK", help=which)
    command.add_argument("--cases", metavar="FILE", help="ignitions as a YAML file")
    add_set(command)
    add_report(command)
    add_threads(command)
    data = f"training set for single steps (default {TRAINING_SET}, if it is there and fits)"
    command.add_argument("--data", type=Path, metavar="FILE", help=data)


def validate_model(options: Options) -> list[Table]:
    """Tables of the checks of a model."""
    given = _given(options, options.model)
    from chemnet.validation.suite import validate

    return _with_picture(options, str(options.model), validate(options.model, **given))


def validate_exact(options: Options) -> list[Table]:
    """Tables of the checks of the exact step."""
    given = _given(options)
    from chemnet.validation.suite import validate

    mechanism = mechanism_name(options.mechanism, options.phase)
    return _with_picture(options, "exact", validate(None, mechanism=mechanism, dt=options.dt, **given))


def _with_picture(options: Options, name: str, tables: list[Table]) -> list[Table]:
    """The tables; their ignition delays, where there are some and a report is asked for, are drawn beside it."""
    from chemnet.validation.reports import cases_of

    cases = cases_of([table.as_json() for table in tables])
    if cases and report_files(options) and installed("matplotlib"):
        from chemnet.runtime import plots
        from chemnet.runtime.report import Picture

        picture = report_files(options)[0].with_suffix(".png")
        plots.ignition_delays(picture, {name: cases})
        options.pictures = [Picture(picture, "Ignition delays of the model and of the reference, and their errors")]
    return tables


def _given(options: Options, model: str | None = None) -> dict[str, Any]:
    """Arguments that both commands share, and the flow solver for planar and turbulent flames."""
    from cfd_coupling import flame_speed
    from chemnet.validation import load_cases
    from chemnet.validation.suite import cases_of_model

    usual = None if model is None else cases_of_model(model, options.quick)
    return {
        "quick": options.quick,
        "checks": options.checks,
        "cases": load_cases(options.quick, options.cases, options.changes, usual),
        "fuel": options.fuel,
        "oxidizer": options.oxidizer,
        "pressures": options.pressure,
        "data": options.data,
        "burn": flame_speed.flame_speed,
        "solver": flame_speed.identity(),
        "flow": flow_solver(),
    }


def flow_solver() -> FlowSolver:
    """The flow solver for small turbulent flames."""
    from cfd_coupling import small_box
    from cfd_coupling.compare import temperature_difference
    from chemnet.validation.flow import FlowSolver

    return FlowSolver(small_box.burn_box, temperature_difference, small_box.identity())
