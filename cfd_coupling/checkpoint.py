"""Checkpoints: the full state of a run in one HDF5 file, for any number of ranks.

Layout: `fields/<name>` (..., ny, nx) are the arrays of `Fields`; the attribute `content` is JSON: step, time, p0, the
facts of the run (case, mechanism, model), and what the monitors keep. The file ends with its SHA-256.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cfd_coupling.fields import Fields, Floats, interior
from cfd_coupling.grid import Grid
from cfd_coupling.parallel import Communicator
from chemnet.runtime import checksum
from chemnet.runtime.errors import FileError, NumericalError
from chemnet.runtime.hdf5 import new_file

FORMAT = "chemnet-flow-1"
FOLDER = "checkpoints"
_ARRAYS = ("scalars", "velocity", "rho", "T", "p")
_CHUNK_ROWS = 64


@dataclass(frozen=True)
class Header:
    """What a checkpoint holds beside its arrays; plain data.

    facts: what a run that goes on must have in common; monitors: their states; row, snapshot: whether those of the step
    were due, and not only written because the run ended there; seconds: wall time so far.
    """

    step: int
    time: float
    p0: float
    facts: Mapping[str, Any]
    monitors: Mapping[str, Any]
    row: bool
    snapshot: bool
    seconds: float


def write_checkpoint(folder: Path, fields: Fields, comm: Communicator, **content: Any) -> Path:
    """Write `folder/step_<n>.h5` from rank 0 (every rank calls it), plane by plane, and return its path.

    content: the rest of `Header`. Raises NumericalError for a state that is not finite; then, and when
    the disk is full, no file is left.
    """
    _check_finite(fields, comm)
    arrays = {f"fields/{name}": getattr(fields, name) for name in _ARRAYS}
    path = folder / f"step_{fields.step:07d}.h5"
    if comm.rank != 0:
        for q in arrays.values():
            _write_planes(q, comm, None)
        return path
    header = {"step": fields.step, "time": fields.time, "p0": fields.p0, **content}
    with new_file(path, sealed=True) as file:
        file.attrs["format"] = FORMAT
        file.attrs["content"] = json.dumps(header)
        for name, q in arrays.items():
            _write_planes(q, comm, partial(_dataset, file, name))
    return path


def _check_finite(fields: Fields, comm: Communicator) -> None:
    """Raise NumericalError on every rank when one of them holds a value that is not finite."""
    total = sum(float(interior(getattr(fields, name)).sum()) for name in _ARRAYS) + fields.p0
    if comm.max(0.0 if np.isfinite(total) else 1.0):
        raise NumericalError(f"the state after step {fields.step} is not finite; no checkpoint is written of it")


def _dataset(file: h5py.File, name: str, shape: tuple[int, ...]) -> h5py.Dataset:
    chunks = (*[1] * (len(shape) - 2), min(_CHUNK_ROWS, shape[-2]), shape[-1])
    return file.create_dataset(name, shape, np.float64, chunks=chunks, fletcher32=True)


def _write_planes(q: Floats, comm: Communicator, create: Callable[[tuple[int, ...]], h5py.Dataset] | None) -> None:
    """Gather the planes of q (..., rows, columns) one after the other; rank 0 gives `create` and writes them."""
    dataset = None
    for index in np.ndindex(q.shape[:-2]):
        plane = comm.gather(q[index])
        if plane is not None and create is not None:
            dataset = create((*q.shape[:-2], *plane.shape)) if dataset is None else dataset
            dataset[index] = plane


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a folder in order of step."""
    return sorted(folder.glob("step_*.h5"))


def keep_last(folder: Path, count: int) -> None:
    """Remove all checkpoints but the last `count`."""
    for path in checkpoints(folder)[: -count or None]:
        path.unlink()


def read_header(path: Path) -> Header:
    """The header of a checkpoint whose checksum is right. Raises FileError for any other file."""
    if not path.is_file() or not checksum.is_whole(path):
        raise FileError(f"{path} is damaged (its SHA-256 is not that of its content)")
    with h5py.File(path) as file:
        if file.attrs.get("format") != FORMAT:
            raise FileError(f"{path} is no checkpoint of this version ({FORMAT})")
        return Header(**json.loads(file.attrs["content"]))


def latest(folder: Path, warn: Callable[[str], None]) -> tuple[Path, Header]:
    """The newest checkpoint that is whole, and its header; `warn` is told of a damaged one.

    Raises FileError when there is none.
    """
    check_there_are_some(folder)
    for path in reversed(checkpoints(folder)):
        try:
            return path, read_header(path)
        except FileError as error:
            warn(f"warning: {error}; trying the one before")
    raise FileError(f"no checkpoint in {folder} is whole\nStart anew with --overwrite.")


def check_there_are_some(folder: Path) -> None:
    """Raise FileError when a folder holds no checkpoints."""
    if not checkpoints(folder):
        raise FileError(
            f"no checkpoint in {folder} to resume from\nGive the folder of the run, or start anew without --resume."
        )


def read_fields(path: Path, header: Header, grid: Grid, comm: Communicator, n_species: int) -> Fields:
    """State of a checkpoint, ghosts filled; rank 0 reads `path` and every rank gets its rows."""
    fields = Fields.empty(grid, n_species, header.p0)
    fields.time, fields.step = header.time, header.step
    file = h5py.File(path) if comm.rank == 0 else None
    try:
        for name in _ARRAYS:
            _read_planes(getattr(fields, name), comm, file[f"fields/{name}"] if file else None)
    finally:
        if file:
            file.close()
    return fields


def _read_planes(q: Floats, comm: Communicator, dataset: h5py.Dataset | None) -> None:
    for index in np.ndindex(q.shape[:-2]):
        comm.scatter(dataset[index] if dataset is not None else None, q[index])
    comm.update(q)
