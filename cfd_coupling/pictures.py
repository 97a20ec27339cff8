"""Pictures of a run folder: panels of fields, a movie, its history, scatter over T; what is drawn is chosen here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cfd_coupling.compare import read_history
from cfd_coupling.folder import is_run
from cfd_coupling.output import UNITS, Snapshot, read_image, snapshots
from chemnet.runtime.errors import FileError, UsageError

DEFAULT_FIELDS = ("T", "OH", "heat_release", "vorticity")
_SCATTERED = ("heat_release", "OH", "CO", "CH2O", "HO2", "CH4")
_MOST_TIMES = 4
_REACTING = 500.0  # [K]; colder cells are left out of a scatter plot
_ADVANCED = "all cells"


def draw_run(
    folder: Path, fields: Sequence[str] = (), times: Sequence[float] = (), movie: Path | None = None
) -> dict[str, Path]:
    """Draw fields.png, history.png and, with T and species, scatter.png into a run folder, and a movie; paths by name.

    fields: names in the snapshots (default: T, OH, heat release and vorticity where they are); times [s]: the nearest
    snapshots (default: four, evenly spaced). The movie shows the first field. Raises FileError for a folder without a
    run, UsageError for a field that its snapshots do not hold or a movie that cannot be made here.
    """
    from chemnet.runtime import flow_plots

    if movie is not None:
        flow_plots.check_movie(movie)
    paths = _snapshots_of(folder)
    chosen = [read_image(path) for path in _nearest(paths, times)]
    names = _checked(chosen[0], fields, folder)
    drawn = {"fields": folder / "fields.png", "history": folder / "history.png"}
    units = _units(names)
    spacing = chosen[0].dx, chosen[0].dy
    planes = {name: [plane(snapshot, name) for snapshot in chosen] for name in names}
    run = folder.resolve().name
    flow_plots.field_panels(drawn["fields"], planes, units, [snapshot.time for snapshot in chosen], spacing, run)
    flow_plots.history(drawn["history"], read_history(folder / "history.csv"), run)
    if _draw_scatter(folder / "scatter.png", read_image(paths[-1]), run):
        drawn["scatter"] = folder / "scatter.png"
    if movie is not None:
        _draw_movie(movie, paths, names[0])
        drawn["movie"] = movie
    return drawn


def _snapshots_of(folder: Path) -> list[Path]:
    if not is_run(folder):
        raise FileError(f"{folder} holds no run (no manifest.json of one)")
    paths = snapshots(folder / "snapshots")
    if not paths:
        raise FileError(f"{folder} holds no snapshots; set output.snapshot_every")
    return paths


def _nearest(paths: Sequence[Path], times: Sequence[float]) -> list[Path]:
    """The snapshots nearest to times [s], each once; evenly spaced ones where no times are given."""
    if times:
        found = np.array([read_image(path).time for path in paths])
        indices = [int(np.abs(found - time).argmin()) for time in times]
    else:
        first = 1 if len(paths) > _MOST_TIMES else 0  # the initial state only where there is room for it
        indices = [int(i) for i in np.linspace(first, len(paths) - 1, min(_MOST_TIMES, len(paths))).round()]
    return [paths[i] for i in sorted(set(indices))]


def _checked(snapshot: Snapshot, fields: Sequence[str], folder: Path) -> list[str]:
    held = [name for name in snapshot.arrays if name != "velocity"]
    held += ["vorticity"] if "velocity" in snapshot.arrays and "vorticity" not in held else []
    missing = [name for name in fields if name not in held]
    if "velocity" in missing and "velocity" in snapshot.arrays:
        raise UsageError("velocity is a vector, which is not drawn; name its vorticity.")
    if missing:
        raise UsageError(
            f"the snapshots of {folder} hold no {missing[0]}, but {', '.join(held)}\n"
            "Add it to output.fields of the case."
        )
    return list(fields) or [name for name in DEFAULT_FIELDS if name in held] or held[:1]


def plane(snapshot: Snapshot, name: str) -> NDArray[np.float64]:
    """A field (ny, nx) of a snapshot; the vorticity [1/s] from the velocity at cell centres where it is not stored."""
    if name == "vorticity" and name not in snapshot.arrays:
        u, v = snapshot.arrays["velocity"][..., 0], snapshot.arrays["velocity"][..., 1]
        along_y = np.gradient(u, axis=0) if snapshot.ends else 0.5 * (np.roll(u, -1, 0) - np.roll(u, 1, 0))
        return np.asarray(0.5 * (np.roll(v, -1, 1) - np.roll(v, 1, 1)) / snapshot.dx - along_y / snapshot.dy)
    return np.asarray(snapshot.arrays[name], dtype=np.float64)


def _units(names: Sequence[str]) -> dict[str, str]:
    return {name: UNITS.get(name, "1") for name in names}


def _draw_scatter(picture: Path, snapshot: Snapshot, run: str) -> bool:
    """Draw heat release and species over T where the snapshot holds them; whether it does."""
    from chemnet.runtime import flow_plots

    names = [name for name in _SCATTERED if name in snapshot.arrays]
    if "T" not in snapshot.arrays or not names:
        return False
    T = snapshot.arrays["T"].ravel()
    hot = T > _REACTING
    quantities = {name: plane(snapshot, name).ravel()[hot] for name in names}
    title = f"{run}: cells above {_REACTING:g} K at t = {snapshot.time * 1e3:.3g} ms"
    flow_plots.scatter(picture, T[hot], quantities, _units(names), _kinds(snapshot, hot), title)
    return True


def _kinds(snapshot: Snapshot, hot: NDArray[np.bool_]) -> dict[str, NDArray[np.bool_]]:
    """The hot cells that each kind of chemistry advanced."""
    if "chemistry" not in snapshot.arrays:
        return {_ADVANCED: np.ones(int(hot.sum()), dtype=bool)}
    codes = snapshot.arrays["chemistry"].ravel()[hot]
    cells = {name: codes == code for code, name in enumerate(snapshot.kinds)}
    return {name: here for name, here in cells.items() if here.any()} or {_ADVANCED: np.ones(len(codes), dtype=bool)}


def _draw_movie(movie: Path, paths: Sequence[Path], name: str) -> None:
    """Draw a movie of one field; snapshots are read one at a time, first for the scale of colours."""
    from chemnet.runtime import flow_plots

    def frames() -> Iterator[Snapshot]:
        return (read_image(path, (name, "velocity")) for path in paths)

    lows, highs = zip(*(flow_plots.limits(name, plane(frame, name)) for frame in frames()), strict=True)
    first = next(frames())
    content = ((frame.time, plane(frame, name)) for frame in frames())
    spacing = first.dx, first.dy
    flow_plots.movie(movie, name, UNITS.get(name, "1"), content, (min(lows), max(highs)), spacing)
