"""The checks by name, and the run that prints their lines as they come."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cfd_coupling.verification import (
    advection,
    bad_input,
    conservation,
    flames,
    heating,
    manufactured,
    protections,
    ranks,
    splitting,
    turbulence,
    vortex,
)
from cfd_coupling.verification.scoreboard import COLUMNS, Check, Line
from chemnet.runtime.errors import UsageError
from chemnet.runtime.files import write_json
from chemnet.runtime.tables import Table

CHECKS = (
    Check("taylor-green", "order in space of a decaying vortex", vortex.space),
    Check("manufactured", "order in space with variable density, species and heat", manufactured.order_in_space),
    Check("time-order", "order in time at constant density", vortex.time),
    Check("splitting", "order of diffusion and chemistry in time", splitting.diffusion_and_chemistry),
    Check("whole-scheme", "order in time with variable density", splitting.whole_scheme),
    Check("advection", "a wave and a step carried round", advection.once_round),
    Check("turbulence", "kinetic energy against dissipation", turbulence.decay),
    Check("heating", "p0 of a closed box against a reactor of constant volume", heating.closed_box),
    Check("flames", "planar flames against Cantera's, extrapolated to a fine grid", flames.speeds),
    Check("conservation", "mass, elements, energy and the constraint", conservation.box),
    Check("ranks", "the same bits on any number of ranks and with one seed", ranks.same_bits),
    Check("restart", "the same bits from a run that went on from a checkpoint", ranks.resumed_bits),
    Check("bad-input", "configurations that must be refused", bad_input.refused),
    Check("one-rank", "a rank that fails ends the job", protections.one_rank),
    Check("nan", "a field that is no number stops the run in its step", protections.no_number),
    Check("disk", "a full disk and a read-only folder", protections.disk),
    Check("signals", "a signal ends a run with a checkpoint", protections.signals),
)


def verify(quick: bool, only: Sequence[str] = (), json: Path | None = None) -> bool:
    """Run the checks (`only` these), print their lines as they come and then the table; whether no line failed.

    Raises UsageError for a check that does not exist.
    """
    lines: list[Line] = []
    for check in chosen(only):
        print(f"{check.name}: {check.measures}", flush=True)
        for line in check.lines(quick):
            lines.append(line)
            print("  " + "  ".join(_word(value) for value in line.row()), flush=True)
    table = Table("verification", COLUMNS, [line.row() for line in lines])
    print(table.text())
    if json is not None:
        write_json(json, table.as_json())
    return all(line.ok is not False for line in lines)


def chosen(only: Sequence[str]) -> list[Check]:
    """All checks, or those of the names `only`. Raises UsageError for a name that no check has."""
    names = [check.name for check in CHECKS]
    for name in only:
        if name not in names:
            raise UsageError(f"no check {name}\nThere are: {', '.join(names)}")
    return [check for check in CHECKS if not only or check.name in only]


def _word(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"
