"""Snapshots of the flow for ParaView: one VTKHDF image file per output time, written by h5py alone.

Layout (VTKHDF 2.0, ImageData): cell arrays are (ny, nx), vectors (ny, nx, 3); a file that held several times would
have (nt, ny, nx). Time, step and p0 are field data; the configuration travels in the group `chemnet`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from cfd_coupling.fields import Fields, interior
from cfd_coupling.grid import Grid
from cfd_coupling.parallel import Communicator
from chemnet.runtime.errors import FileError, UsageError
from chemnet.runtime.hdf5 import new_file

PLAIN_FIELDS = ("T", "rho", "h", "p")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Snapshot:
    """One snapshot as read back: cell arrays (ny, nx) or (ny, nx, 3), time [s], step, p0 [Pa], spacing [m]."""

    arrays: Mapping[str, Floats]
    time: float
    step: int
    p0: float
    dx: float
    dy: float


class SnapshotWriter:
    """Writes the asked fields of all ranks to `folder/<step>.vtkhdf`, from rank 0.

    names: T, rho, h, p, velocity (at cell centres, from the faces) or a species. UsageError lists them for another.
    """

    def __init__(
        self,
        folder: Path,
        grid: Grid,
        comm: Communicator,
        names: Sequence[str],
        species_names: Sequence[str],
        config_text: str = "",
    ) -> None:
        for name in names:
            if name not in (*PLAIN_FIELDS, "velocity", *species_names):
                valid = ", ".join((*PLAIN_FIELDS, "velocity"))
                raise UsageError(f"output.fields: no field {name}; valid: {valid}, or a species of the mechanism")
        self.folder, self.grid, self.comm = folder, grid, comm
        self.names = tuple(names)
        self.species = {name: k for k, name in enumerate(species_names)}
        self.config_text = config_text

    def write(self, fields: Fields) -> Path:
        """Write one snapshot (every rank calls it) and return its path."""
        arrays = {name: self._gather(name, fields) for name in self.names}
        path = self.folder / f"{fields.step:07d}.vtkhdf"
        if self.comm.rank == 0:
            clock = {"TimeValue": fields.time, "step": float(fields.step), "p0": fields.p0}
            write_image(path, arrays, clock, (self.grid.dx, self.grid.dy), {"config": self.config_text})
        return path

    def _gather(self, name: str, fields: Fields) -> Floats | None:
        if name == "velocity":
            return self._gather_velocity(fields)
        return self.comm.gather(fields.Y[self.species[name]] if name in self.species else getattr(fields, name))

    def _gather_velocity(self, fields: Fields) -> Floats | None:
        """Velocity vectors at cell centres: the mean of the two faces.

            v[j+1,i]
        u[j,i]  +  u[j,i+1]
            v[j,i]
        """
        centre_u, centre_v = np.empty_like(fields.u), np.empty_like(fields.v)
        interior(centre_u)[:] = 0.5 * (interior(fields.u) + interior(np.roll(fields.u, -1, axis=1)))
        interior(centre_v)[:] = 0.5 * (interior(fields.v) + interior(np.roll(fields.v, -1, axis=0)))
        u, v = self.comm.gather(centre_u), self.comm.gather(centre_v)
        return None if u is None or v is None else np.stack([u, v, np.zeros_like(u)], axis=-1)


def write_image(
    path: Path,
    arrays: Mapping[str, Floats | None],
    field_data: Mapping[str, float],
    spacing: tuple[float, float],
    notes: Mapping[str, str],
) -> None:
    """Write cell arrays (ny, nx) or (ny, nx, 3) as a VTKHDF image of cells of size `spacing` [m], atomically."""
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
            cells.create_dataset(
                name, data=array, compression="gzip", compression_opts=1, shuffle=True, fletcher32=True
            )
        values = root.create_group("FieldData")
        for name, value in field_data.items():
            values.create_dataset(name, data=np.array([value]))
        file.create_group("chemnet").attrs.update(dict(notes))


def read_image(path: Path) -> Snapshot:
    """A snapshot back as arrays. Raises FileError when it is missing, damaged or not one of ours."""
    try:
        with h5py.File(path) as file:
            root = file["VTKHDF"]
            arrays = {name: dataset[()] for name, dataset in root["CellData"].items()}
            value: dict[str, Any] = {name: dataset[0] for name, dataset in root["FieldData"].items()}
            dx, dy = root.attrs["Spacing"][:2]
    except (OSError, KeyError) as error:
        raise FileError(f"{path} is not a readable snapshot: {error}") from None
    return Snapshot(arrays, float(value["TimeValue"]), int(value["step"]), float(value["p0"]), float(dx), float(dy))


def snapshots(folder: Path) -> list[Path]:
    """The snapshots of a folder in order of step."""
    return sorted(folder.glob("*.vtkhdf"))
