"""A small box of `cases/turbulent_ignition`, burnt by this process alone: what comparisons of runs need, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from cfd_coupling import flame_speed
from cfd_coupling.burnt_area import burnt_area
from cfd_coupling.compare import read_history
from cfd_coupling.config import CaseConfig, load_case
from cfd_coupling.output import ALL_SPECIES, Snapshot, read_image, snapshots
from cfd_coupling.parallel import Communicator
from cfd_coupling.simulation import run
from cfd_coupling.visited_states import states_of
from chemnet.gas.mechanism import load_mechanism

Floats = NDArray[np.float64]

_CASE = "turbulent_ignition"
_CHANGES = (
    "end_time=3e-4",
    "consumption_speed.fuel=CH4",
    f"output.fields=[T, rho, {ALL_SPECIES}]",
    "output.checkpoint_minutes=null",
    "output.log_every=1000000",
)
_SNAPSHOTS = 6  # equally far apart


def burn_box(changes: Sequence[str]) -> dict[str, Floats]:
    """Arrays of a run of the box with `key=value` changes of its case, at n snapshots, equally far apart:

    time (n,) [s]; T (n, ny, nx) [K]; p0 (n,) [Pa]; burnt_area (n,) [m2] by the contour; heat (n,) [J/m] released and
    fuel (n,) [kg/m] burnt since the start, the fuel being that of `consumption_speed`; left (n,), the share of the
    reacting cells that a model left to the exact step, in the step before; and the states (m, 2 + K) that the coming
    steps hand to their chemistry, of all these snapshots.

    Raises UsageError for changes that do not fit together, FileError for a missing model, NumericalError when a step
    fails.
    """
    case = _case(changes)
    with TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        out = run(case, Path(folder) / "run", Communicator())
        first, *later = (read_image(path) for path in snapshots(out / "snapshots"))
        history = read_history(out / "history.csv")
    return {
        "time": np.array([s.time for s in later]),
        "T": np.array([s.arrays["T"] for s in later]),
        "p0": np.array([s.p0 for s in later]),
        "burnt_area": np.array([burnt_area(s.arrays["T"], s.dx, s.dy, s.ends) for s in later]),
        "fuel": _fuel(first, case) - np.array([_fuel(s, case) for s in later]),
        "states": np.concatenate([_reacting(s, case) for s in later]),
        **_of_history(history, [s.step for s in later]),
    }


def identity() -> str:
    """A hash of the solver's sources and of the case: what its results depend on."""
    return flame_speed.identity(_CASE, (*_CHANGES, f"{_SNAPSHOTS} snapshots"))


def _case(changes: Sequence[str]) -> CaseConfig:
    """The case with the changes, a row of its history with each snapshot."""
    case = load_case(_CASE, assignments=[*_CHANGES, *changes])
    steps = max(1, round(case.end_time / case.dt / _SNAPSHOTS))
    every = {"snapshot_every": steps, "history_every": steps}
    return case.model_copy(update={"output": case.output.model_copy(update=every)})


def _fuel(snapshot: Snapshot, case: CaseConfig) -> float:
    """Mass of the fuel in the box [kg/m]."""
    assert case.consumption_speed is not None
    dense = snapshot.arrays["rho"] * snapshot.arrays[case.consumption_speed.fuel]
    return float(dense.sum()) * snapshot.dx * snapshot.dy


def _reacting(snapshot: Snapshot, case: CaseConfig) -> Floats:
    """States of the cells that are hot enough for chemistry."""
    states = states_of(snapshot, load_mechanism(case.mechanism))
    return states[states[:, 0] > case.chemistry.min_temperature]


def _of_history(history: dict[str, Floats], steps: Sequence[int]) -> dict[str, Floats]:
    """Heat [J/m] released since the start, of which the rows of history have the mean power since the row before, and
    the share of cells left, at some of the rows."""
    heat = np.cumsum(np.diff(history["time"], prepend=0.0) * history["heat_release"])
    left = history["cells_fallback"] / np.maximum(history["cells_fallback"] + history["cells_neural"], 1.0)
    rows = np.searchsorted(history["step"], steps)
    return {"heat": heat[rows], "left": left[rows]}
