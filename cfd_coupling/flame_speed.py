"""The speed of the planar flame of `cases/free_flame`, for any chemistry: a short run of its own on one core."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from cfd_coupling.compare import read_history
from cfd_coupling.config import CaseConfig, find_case, load_case
from cfd_coupling.initial import unburnt
from cfd_coupling.parallel import Communicator
from cfd_coupling.simulation import run
from chemnet.gas.canonical import solve_flame
from chemnet.gas.mechanism import load_mechanism
from chemnet.runtime.errors import NumericalError

# The case as it stands, but as narrow as one process allows, without snapshots, and only until its speed has settled
# (to 0.1 %: from 0.3 ms on, at equivalence ratios from 0.7).
_CHANGES = (
    "grid.ny=3",
    "grid.length_y=8.7890625e-5",
    "initial.points=600",
    "end_time=8e-4",
    "output.fields=[T]",
    "output.snapshot_every=1000000",
    "output.log_every=200",
)
_SETTLED = 0.75  # of the time until the end, or until the fronts of a fast flame reach the edges of the box
_REFINEMENTS = ((0.06, 0.12), (0.03, 0.06), (0.015, 0.03), (0.0075, 0.015), (0.004, 0.008))  # (slope, curve)
_FRESH = 1.0  # [K] what unburnt gas may be hotter than it was


def flame_speed(changes: Sequence[str]) -> dict[str, float]:
    """`speed` [m/s] of the free flame with `key=value` changes of its case, the mean over the last quarter of the time
    while there is unburnt gas, and the share of the reacting cells that a model `left` to the exact step.

    Raises UsageError for changes that do not fit together, NumericalError when the flame breaks off.
    """
    case = load_case("free_flame", assignments=[*_CHANGES, *changes])
    with TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        history = read_history(run(case, Path(folder) / "run", Communicator()) / "history.csv")
    time = history["time"]
    burning = history["T_min"] < case.mixture.temperature + _FRESH
    settled = burning & (time > _SETTLED * time[burning].max(initial=0.0))
    if not settled.any():
        raise NumericalError("no unburnt gas was left before the flame had settled; the box is too small for it")
    speed = float(history["consumption_speed"][settled].mean())
    left = history["cells_fallback"].sum()
    return {"speed": speed, "left": float(left / (left + history["cells_neural"].sum())) if left else 0.0}


def cantera_speeds(case: CaseConfig) -> Iterator[tuple[int, float]]:
    """(number of points, speed [m/s]) of Cantera's free flame of a case's mixture, on grids from coarse to fine.

    One solution continues the other. Raises NumericalError where there is no flame.
    """
    mechanism, mixture = load_mechanism(case.mechanism), case.mixture
    gas = mechanism.gas()
    state = np.hstack([mixture.temperature, mixture.pressure, unburnt(mechanism, mixture)])
    flame = None
    for slope, curve in _REFINEMENTS:
        flame = solve_flame(gas, state, flame, ratio=2.0, slope=slope, curve=curve, max_points=10_000)
        yield len(flame.grid), float(flame.velocity[0])


def extrapolated(speeds: Sequence[tuple[int, float]]) -> float:
    """Speed [m/s] on an infinitely fine grid: at 1/points = 0, linear through the last two (points, speed)."""
    (n1, s1), (n2, s2) = speeds[-2:]
    return s2 + (s2 - s1) * (1 / n2) / (1 / n1 - 1 / n2)


def identity(case: str = "free_flame", changes: Sequence[str] = _CHANGES) -> str:
    """A hash of the solver's sources, of a case and of its changes: what the results depend on."""
    sources = sorted(Path(__file__).parent.rglob("*.py"))
    digest = hashlib.sha256(repr(tuple(changes)).encode())
    for path in (find_case(case), *sources):
        digest.update(path.read_bytes())
    return digest.hexdigest()
