"""The speed of the planar flame of `cases/free_flame`, for any chemistry: a short run of its own on one core."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from cfd_coupling.compare import read_history
from cfd_coupling.config import find_case, load_case
from cfd_coupling.parallel import Communicator
from cfd_coupling.simulation import run

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
_SETTLED = 6e-4  # [s]


def flame_speed(changes: Sequence[str]) -> dict[str, float]:
    """`speed` [m/s] of the free flame with `key=value` changes of its case, the mean over its last 0.2 ms, and the
    share of the reacting cells that a model `left` to the exact step.

    Raises UsageError for changes that do not fit together, NumericalError when the flame breaks off.
    """
    case = load_case("free_flame", assignments=[*_CHANGES, *changes])
    with TemporaryDirectory() as folder:
        history = read_history(run(case, Path(folder) / "run", Communicator()) / "history.csv")
    speed = float(history["consumption_speed"][history["time"] > _SETTLED].mean())
    left = history["cells_fallback"].sum()
    return {"speed": speed, "left": float(left / (left + history["cells_neural"].sum())) if left else 0.0}


def identity() -> str:
    """A hash of the solver's sources and of the case: what its results depend on."""
    sources = sorted(Path(__file__).parent.rglob("*.py"))
    digest = hashlib.sha256(repr(_CHANGES).encode())
    for path in (find_case("free_flame"), *sources):
        digest.update(path.read_bytes())
    return digest.hexdigest()
