"""Metrics and one picture of two or more runs of the same box; the first run is the reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cfd_coupling.burnt_area import BURNT_TEMPERATURE, burnt_area
from cfd_coupling.output import Snapshot, read_image, snapshots
from chemnet.runtime.errors import FileError, UsageError
from chemnet.runtime.files import read_json
from chemnet.runtime.tables import Table

CHEMISTRY_COLUMN = "seconds_chemistry"

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RunData:
    """One run of a comparison: its label, its rows of history by column, one snapshot, and whether it is finished."""

    label: str
    folder: Path
    history: dict[str, Floats]
    snapshot: Snapshot
    finished: bool

    def until(self, column: str) -> Floats:
        """A column of history, in the rows that are not later than the snapshot."""
        return self.history[column][self.history["step"] <= self.snapshot.step]

    def at(self, column: str) -> float:
        """Value of a column of history in the last of these rows."""
        return float(self.until(column)[-1])

    @property
    def drift(self) -> float:
        """Largest relative drift of a conserved total since the start."""
        return max(float(np.abs(self.until(name)).max()) for name in self.history if name.startswith("drift_"))

    def percent_of_model(self, column: str) -> float | None:
        """Share of the cells meant for the model that a column counts; None for a run without a model."""
        meant = self.until("cells_neural").sum() + self.until("cells_fallback").sum()
        return _percent(float(self.until(column).sum()), float(meant))

    @property
    def chemistry_seconds(self) -> float:
        """Wall seconds in chemistry up to the snapshot, slowest rank."""
        return self.at(CHEMISTRY_COLUMN)

    @property
    def flow_seconds(self) -> float:
        """Wall seconds in everything else of the time step but waiting for the slowest chemistry."""
        others = (CHEMISTRY_COLUMN, "seconds_waiting")
        parts = [name for name in self.history if name.startswith("seconds_") and name not in others]
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
    columns = [metrics(run, reference) for run in runs]
    rows = [[name, *(column[name] for column in columns)] for name in columns[0]]
    title = f"Runs at step {reference.snapshot.step}, t = {reference.snapshot.time * 1e3:.4g} ms"
    unfinished = ", ".join(run.label for run in runs if not run.finished)
    return Table(
        f"{title}; unfinished: {unfinished}" if unfinished else title, ["", *(run.label for run in runs)], rows
    )


def metrics(run: RunData, reference: RunData) -> dict[str, float | None]:
    """Metrics of one run, by name with unit; differences and speed-ups are against the reference.

    Heat release is a mean over the steps of the last row of history; seconds are those of the slowest rank; the drift
    is the largest relative one of mass, element masses and energy. None where there is nothing to divide by.
    """
    relative, p999 = temperature_difference(run.snapshot.arrays["T"], reference.snapshot.arrays["T"])
    area, reference_area = (burnt_area(s.arrays["T"], s.dx, s.dy, s.ends) for s in (run.snapshot, reference.snapshot))
    chemistry, flow = run.chemistry_seconds, run.flow_seconds
    total = reference.chemistry_seconds + reference.flow_seconds
    return {
        "T, relative L2 difference [%]": 100.0 * relative,
        "T, p99.9 of the difference [K]": p999,
        f"burnt area, T > {BURNT_TEMPERATURE:g} K [mm2]": 1e6 * area,
        "burnt area, difference [%]": _difference(area, reference_area),
        f"mean T of the gas above {BURNT_TEMPERATURE:g} K [K]": burnt_core(run.snapshot.arrays["T"]),
        "heat release [kW/m]": 1e-3 * run.at("heat_release"),
        "heat release, difference [%]": _difference(run.at("heat_release"), reference.at("heat_release")),
        "p0 [kPa]": 1e-3 * run.snapshot.p0,
        "p0, difference [%]": _difference(run.snapshot.p0, reference.snapshot.p0),
        "drift of mass, elements, energy": run.drift,
        "cells left by the model [%]": run.percent_of_model("cells_fallback"),
        "cells that the model integrated [%]": run.percent_of_model("cells_integrated"),
        "chemistry [s]": chemistry,
        "flow [s]": flow,
        "speed-up of the chemistry": _ratio(reference.chemistry_seconds, chemistry),
        "speed-up of the run": _ratio(total, chemistry + flow),
    }


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
    finished = [bool(read_json(folder / "manifest.json").get("finished")) for folder in folders]
    if int(last) == 0:
        where = " and ".join(str(folder) for folder, done in zip(folders, finished, strict=True) if not done)
        reason = f"{where} is not finished" if where else "they have another snapshot_every"
        raise UsageError(f"the runs have only their initial states in common: {reason};\nlet them run further.")
    labels = _labels(folders)
    runs = [
        RunData(label, folder, read_history(folder / "history.csv"), read_image(paths[last]), done)
        for label, folder, paths, done in zip(labels, folders, available, finished, strict=True)
    ]
    for run in runs:
        _check_same_box(run, runs[0])
    return runs


def _labels(folders: Sequence[Path]) -> list[str]:
    """The kind of chemistry of each run if that distinguishes them, else the names of the folders."""
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
    """history.csv by column, without a last line that is half written. Raises FileError if it is missing or damaged."""
    try:
        text = path.read_text(encoding="utf-8")
        header, *lines = text[: text.rfind("\n") + 1].splitlines()
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


def burnt_core(T: Floats) -> float | None:
    """Mean T [K] of the cells hotter than BURNT_TEMPERATURE; None where there are none."""
    burnt = T[T > BURNT_TEMPERATURE]
    return float(burnt.mean()) if burnt.size else None


def _ratio(a: float, b: float) -> float | None:
    return a / b if b > 0.0 else None


def _percent(part: float, whole: float) -> float | None:
    return 100.0 * part / whole if whole > 0.0 else None


def _difference(value: float, reference: float) -> float | None:
    """Difference [%] of a value from its reference."""
    return _percent(value - reference, reference)


def draw(runs: Sequence[RunData], picture: Path) -> None:
    """T of each run at equal scale, and the difference of each from the first, as a picture."""
    from chemnet.runtime.flow_plots import temperature_comparison

    snapshot = runs[0].snapshot
    temperature_comparison(
        picture,
        [run.snapshot.arrays["T"] for run in runs],
        [run.label for run in runs],
        spacing=(snapshot.dx, snapshot.dy),
        time=snapshot.time,
    )
