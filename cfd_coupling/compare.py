"""Metrics and one picture of two or more runs of the same box; the first run is the reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cfd_coupling.output import Snapshot, read_image, snapshots
from chemnet.errors import FileError, UsageError
from chemnet.files import read_json
from chemnet.tables import Table

CHEMISTRY_COLUMN = "seconds_chemistry"
COLUMNS = (
    "run",
    "T rel. L2 [%]",
    "T p99.9 [K]",
    "burnt area [mm2]",
    "heat release [kW/m]",
    "p0 [kPa]",
    "chemistry [s]",
    "flow [s]",
    "chemistry speed-up",
    "total speed-up",
)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RunData:
    """What is compared of one run: its label, its rows of history by column, and one snapshot."""

    label: str
    folder: Path
    history: dict[str, Floats]
    snapshot: Snapshot

    def at(self, column: str) -> float:
        """Value of a column of history in the last row that is not later than the snapshot."""
        rows = np.flatnonzero(self.history["step"] <= self.snapshot.step)
        return float(self.history[column][rows[-1]])

    @property
    def chemistry_seconds(self) -> float:
        """Wall seconds in chemistry up to the snapshot, slowest rank."""
        return self.at(CHEMISTRY_COLUMN)

    @property
    def flow_seconds(self) -> float:
        """Wall seconds in everything else of the time step up to the snapshot."""
        parts = [name for name in self.history if name.startswith("seconds_") and name != CHEMISTRY_COLUMN]
        return sum(self.at(name) for name in parts)


def compare(folders: Sequence[Path], picture: Path | None = None) -> Table:
    """Compare runs at the last time that all of them wrote; the first is the reference. Draw `picture` if asked.

    Raises FileError for a folder without a run, UsageError when the runs have other boxes or no common snapshot.
    """
    if len(folders) < 2:
        raise UsageError("compare needs two run folders or more")
    runs = load_runs(folders)
    if picture is not None:
        draw(runs, picture)
    reference = runs[0]
    clock = f"step {reference.snapshot.step}, t = {reference.snapshot.time * 1e3:.4g} ms"
    return Table(
        f"Runs at {clock}; differences from {reference.label}", COLUMNS, [_row(run, reference) for run in runs]
    )


def load_runs(folders: Sequence[Path]) -> list[RunData]:
    """The runs with their snapshots of the last step that all of them have; errors as in `compare`."""
    folders = [Path(folder) for folder in folders]
    for folder in folders:
        if not (folder / "manifest.json").exists():
            raise FileError(f"{folder} holds no run (no manifest.json)")
    available = [{path.stem: path for path in snapshots(folder / "snapshots")} for folder in folders]
    common = set.intersection(*(set(paths) for paths in available))
    if not common:
        raise UsageError("the runs have no snapshot of the same step; compare runs with one dt and snapshot_every")
    last = max(common)
    labels = _labels(folders)
    runs = [
        RunData(label, folder, read_history(folder / "history.csv"), read_image(paths[last]))
        for label, folder, paths in zip(labels, folders, available, strict=True)
    ]
    for run in runs:
        _check_same_box(run, runs[0])
    return runs


def _labels(folders: Sequence[Path]) -> list[str]:
    """The kind of chemistry of each run if that tells them apart, else the names of the folders."""
    kinds = [str(read_json(folder / "manifest.json").get("chemistry", folder.name)) for folder in folders]
    return kinds if len(set(kinds)) == len(kinds) else [folder.name for folder in folders]


def _check_same_box(run: RunData, reference: RunData) -> None:
    if "T" not in run.snapshot.arrays:
        raise UsageError(f"{run.folder}: its snapshots hold no T; add T to output.fields")
    mine, other = run.snapshot, reference.snapshot
    same = mine.arrays["T"].shape == other.arrays["T"].shape and np.allclose(
        [mine.dx, mine.dy, mine.time], [other.dx, other.dy, other.time], rtol=1e-9, atol=0.0
    )
    if not same:
        raise UsageError(f"{run.folder} and {reference.folder} differ in grid, box or time; compare like with like")


def read_history(path: Path) -> dict[str, Floats]:
    """history.csv by column. Raises FileError when it is missing or damaged."""
    try:
        header, *lines = path.read_text(encoding="utf-8").splitlines()
        values = np.array([[float(cell) for cell in line.split(",")] for line in lines])
        return dict(zip(header.split(","), values.T, strict=True))
    except FileNotFoundError:
        raise FileError(f"no file {path}") from None
    except ValueError as error:
        raise FileError(f"{path} is damaged: {error}") from None


def temperature_difference(T: Floats, reference: Floats) -> tuple[float, float]:
    """Relative L2 norm [-] and 99.9th percentile of the absolute value [K] of T - reference."""
    difference = T - reference
    relative = float(np.linalg.norm(difference) / np.linalg.norm(reference))
    return relative, float(np.percentile(np.abs(difference), 99.9))


def _row(run: RunData, reference: RunData) -> list[float | str | None]:
    relative, p999 = temperature_difference(run.snapshot.arrays["T"], reference.snapshot.arrays["T"])
    chemistry, flow = run.chemistry_seconds, run.flow_seconds
    total = reference.chemistry_seconds + reference.flow_seconds
    return [
        run.label,
        100.0 * relative,
        p999,
        1e6 * run.at("burnt_area"),
        1e-3 * run.at("heat_release"),
        1e-3 * run.snapshot.p0,
        chemistry,
        flow,
        _ratio(reference.chemistry_seconds, chemistry),
        _ratio(total, chemistry + flow),
    ]


def _ratio(a: float, b: float) -> float | None:
    return a / b if b > 0.0 else None


def draw(runs: Sequence[RunData], picture: Path) -> None:
    """T of each run at equal scale, and the difference of each from the first, as a picture."""
    from chemnet.plots import temperature_comparison

    snapshot = runs[0].snapshot
    temperature_comparison(
        picture,
        [run.snapshot.arrays["T"] for run in runs],
        [run.label for run in runs],
        spacing=(snapshot.dx, snapshot.dy),
        time=snapshot.time,
    )
