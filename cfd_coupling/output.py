"""Snapshots of the flow for ParaView: one VTKHDF image file per output time, and their list with physical times.

Layout (VTKHDF 2.0, ImageData): cell arrays are (ny, nx), vectors (ny, nx, 3); a file that held several times would
have (nt, ny, nx). Each array has the attribute `units`. Time, step and p0 are field data; the configuration travels in
the group `chemnet`. `flow.vtkhdf.series` (JSON) is what ParaView opens to see all of them over time.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from cfd_coupling.chemistry import KINDS, ChemistryReport, formation_enthalpies
from cfd_coupling.fields import Fields, interior
from cfd_coupling.grid import GHOSTS, Grid
from cfd_coupling.parallel import Communicator
from chemnet.gas.mechanism import Mechanism
from chemnet.runtime.errors import FileError, UsageError
from chemnet.runtime.files import read_json, write_json
from chemnet.runtime.hdf5 import new_file
from chemnet.runtime.nearest import nearest

SERIES = "flow.vtkhdf.series"
ALL_SPECIES = "species"
UNITS = {
    "T": "K", "rho": "kg/m3", "h": "J/kg", "p": "Pa",
    "velocity": "m/s", "vorticity": "1/s", "heat_release": "W/m3", "chemistry": "1",
}  # fmt: skip
_PLAIN_FIELDS = ("T", "rho", "h", "p")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Snapshot:
    """One snapshot as read back: cell arrays (ny, nx) or (ny, nx, 3), time [s], step, p0 [Pa], spacing [m].

    kinds: names of the numbers in the array `chemistry`; ends: whether the box has walls or streams in y.
    """

    arrays: Mapping[str, Floats]
    time: float
    step: int
    p0: float
    dx: float
    dy: float
    kinds: tuple[str, ...] = ()
    ends: bool = False


class SnapshotWriter:
    """Writes the asked fields of all ranks to `folder/<step>.vtkhdf`, from rank 0.

    names: T, rho, h, p, velocity (at cell centres, from the faces), vorticity, heat_release and chemistry (which kind
    advanced each cell, both in the step before), a species, or `species` for all of them. UsageError lists them for
    another. dt [s]: of that step; boundary: what bounds the box in y.
    """

    def __init__(
        self,
        folder: Path,
        grid: Grid,
        comm: Communicator,
        names: Sequence[str],
        mechanism: Mechanism,
        dt: float,
        config_text: str = "",
        boundary: str = "periodic",
    ) -> None:
        self.folder, self.grid, self.comm = folder, grid, comm
        self.species = {name: k for k, name in enumerate(mechanism.species_names)}
        self.names = self._checked(names)
        self.heat_of_change = -formation_enthalpies(mechanism) / dt
        self.notes = {"config": config_text, "boundary_y": boundary}

    def _checked(self, names: Sequence[str]) -> tuple[str, ...]:
        """The names, each once, with those of all species for `species`."""
        known = (*UNITS, *self.species)
        for name in names:
            if name not in (*known, ALL_SPECIES):
                close = nearest(name, known)
                hint = f"; did you mean {close}?" if close else ""
                valid = ", ".join((*UNITS, ALL_SPECIES))
                raise UsageError(
                    f"output.fields: no field {name}{hint}\nValid: {valid}, or a species of the mechanism."
                )
        expanded = ((*self.species,) if name == ALL_SPECIES else (name,) for name in names)
        return tuple(dict.fromkeys(name for group in expanded for name in group))

    def write(self, fields: Fields, chemistry: ChemistryReport | None = None) -> Path:
        """Write one snapshot (every rank calls it) and return its path; `chemistry`: of the step before, if any."""
        report = ChemistryReport.of_no_reaction(fields) if chemistry is None else chemistry
        arrays = {name: self._gather(name, fields, report) for name in self.names}
        path = self.folder / f"{fields.step:07d}.vtkhdf"
        if self.comm.rank == 0:
            clock = {"TimeValue": fields.time, "step": float(fields.step), "p0": fields.p0}
            attributes: dict[str, dict[str, Any]] = {name: {"units": UNITS.get(name, "1")} for name in arrays}
            if "chemistry" in attributes:
                attributes["chemistry"]["names"] = list(KINDS)
            write_image(path, arrays, clock, (self.grid.dx, self.grid.dy), self.notes, attributes)
            _add_to_series(self.folder, path.name, fields.time)
        return path

    def _gather(self, name: str, fields: Fields, report: ChemistryReport) -> NDArray[Any] | None:
        if name in self.species:
            return self.comm.gather(fields.Y[self.species[name]])
        if name in _PLAIN_FIELDS:
            return self.comm.gather(getattr(fields, name))
        if name == "velocity":
            return self._gather_velocity(fields)
        if name == "vorticity":
            return self._gather_cells(self._vorticity(fields))
        if name == "heat_release":
            return self._gather_cells(report.weighed(self.heat_of_change))
        kinds = self._gather_cells(report.kind_of_cells())
        return None if kinds is None else kinds.astype(np.int8)

    def _gather_cells(self, values: NDArray[Any]) -> Floats | None:
        """Values (ny_local, nx) of the whole box on rank 0."""
        q = np.zeros(self.grid.shape)
        interior(q)[:] = values
        return self.comm.gather(q)

    def _gather_velocity(self, fields: Fields) -> Floats | None:
        """Velocity vectors at cell centres: the mean of the two faces.

            v[j+1,i]
        u[j,i]  +  u[j,i+1]
            v[j,i]
        """
        u = self._gather_cells(0.5 * (interior(fields.u) + interior(np.roll(fields.u, -1, axis=1))))
        v = self._gather_cells(0.5 * (interior(fields.v) + interior(np.roll(fields.v, -1, axis=0))))
        return None if u is None or v is None else np.stack([u, v, np.zeros_like(u)], axis=-1)

    def _vorticity(self, fields: Fields) -> Floats:
        """dv/dx - du/dy (ny_local, nx) [1/s] at cell centres: the mean over the four corners.

                 u[j,i]
        v[j,i-1]   +   v[j,i]       + is the south-west corner of cell (j, i)
                 u[j-1,i]
        """
        u, v, g = fields.u, fields.v, GHOSTS
        corners = (v[1:, 1:] - v[1:, :-1]) / self.grid.dx - (u[1:, 1:] - u[:-1, 1:]) / self.grid.dy
        corners = corners[g - 1 : -g + 1 or None, g - 1 : -g + 1 or None]
        return 0.25 * (corners[:-1, :-1] + corners[1:, :-1] + corners[:-1, 1:] + corners[1:, 1:])


def _add_to_series(folder: Path, name: str, time: float) -> None:
    times = _series(folder) | {name: time}
    _write_series(folder, times)


def _series(folder: Path) -> dict[str, float]:
    """Time [s] of each snapshot in the list of a folder, by the name of its file."""
    path = folder / SERIES
    files = read_json(path)["files"] if path.exists() else []
    return {file["name"]: file["time"] for file in files}


def _write_series(folder: Path, times: Mapping[str, float]) -> None:
    files = [{"name": name, "time": time} for name, time in sorted(times.items())]
    write_json(folder / SERIES, {"file-series-version": "1.0", "files": files})


def remove_snapshots(folder: Path, after: int) -> None:
    """Remove the snapshots of a folder that are later than step `after`."""
    for path in snapshots(folder):
        if int(path.stem) > after:
            path.unlink()
    left = {path.name for path in snapshots(folder)}
    _write_series(folder, {name: time for name, time in _series(folder).items() if name in left})


def write_image(
    path: Path,
    arrays: Mapping[str, NDArray[Any] | None],
    field_data: Mapping[str, float],
    spacing: tuple[float, float],
    notes: Mapping[str, str],
    attributes: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Write cell arrays (ny, nx) or (ny, nx, 3) as a VTKHDF image of cells of size `spacing` [m], atomically.

    notes: texts that travel with it; attributes: of the arrays, by their names.
    """
    some = next(array for array in arrays.values() if array is not None)
    ny, nx = some.shape[:2]
    with new_file(path) as file:
        root = file.create_group("VTKHDF")
        root.attrs["Version"] = np.array([2, 0])
        root.attrs.create("Type", np.bytes_("ImageData"), dtype=h5py.string_dtype("ascii", len("ImageData")))
        root.attrs["WholeExtent"] = np.array([0, nx, 0, ny, 0, 0])
        root.attrs["Origin"] = np.zeros(3)
        root.attrs["Spacing"] = np.array([*spacing, 1.0])
        root.attrs["Direction"] = np.eye(3).ravel()
        cells = root.create_group("CellData")
        for name, array in arrays.items():
            dataset = cells.create_dataset(
                name, data=array, compression="gzip", compression_opts=1, shuffle=True, fletcher32=True
            )
            dataset.attrs.update(dict((attributes or {}).get(name, {})))
        values = root.create_group("FieldData")
        for name, value in field_data.items():
            values.create_dataset(name, data=np.array([value]))
        file.create_group("chemnet").attrs.update(dict(notes))


def read_image(path: Path, names: Collection[str] | None = None) -> Snapshot:
    """A snapshot back as arrays, those of `names` that it holds or all.

    Raises FileError when it is missing, damaged or not one of ours.
    """
    try:
        with h5py.File(path) as file:
            root = file["VTKHDF"]
            arrays = {n: dataset[()] for n, dataset in root["CellData"].items() if names is None or n in names}
            value: dict[str, Any] = {name: dataset[0] for name, dataset in root["FieldData"].items()}
            dx, dy = root.attrs["Spacing"][:2]
            kinds = tuple(root["CellData"]["chemistry"].attrs["names"]) if "chemistry" in arrays else ()
            ends = file["chemnet"].attrs.get("boundary_y", "periodic") != "periodic"
    except (OSError, KeyError) as error:
        raise FileError(f"{path} is not a readable snapshot: {error}") from None
    return Snapshot(
        arrays, float(value["TimeValue"]), int(value["step"]), float(value["p0"]), float(dx), float(dy), kinds, ends
    )


def snapshots(folder: Path) -> list[Path]:
    """The snapshots of a folder in order of step."""
    return sorted(folder.glob("*.vtkhdf"))
