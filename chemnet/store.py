"""Training sets on disk: HDF5 files of (state, next state) pairs with checksums and provenance.

Layout: `states` and `next_states` (n, 2 + K), `split` (n,) 0 training 1 validation, `group` (n,) trajectory or flame
the row comes from, `kind` (n,) index into the attribute `kinds`; and, where labels were audited, `audit_row` (m,) and
`audit_difference` (m, 2 + K). Every dataset carries a fletcher32 checksum per chunk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from chemnet.errors import FileError
from chemnet.files import atomic

FORMAT = "chemnet-states-1"
_CHUNK_ROWS = 4096


@dataclass(frozen=True)
class Pairs:
    """Rows of a training set, see the module; arrays of equal length."""

    states: NDArray[np.float64]
    next_states: NDArray[np.float64]
    split: NDArray[np.int8]
    group: NDArray[np.int32]
    kind: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.states)

    def where(self, mask: NDArray[np.bool_]) -> Pairs:
        """The rows where `mask` (n,) is True."""
        return Pairs(*(getattr(self, name)[mask] for name in _COLUMNS))


_COLUMNS = ("states", "next_states", "split", "group", "kind")


@dataclass(frozen=True)
class Audit:
    """Labels that were computed a second time: of which rows (m,), and label minus second label (m, 2 + K)."""

    row: NDArray[np.int64]
    difference: NDArray[np.float64]


def write(path: str | Path, parts: Iterable[Pairs], attributes: Mapping[str, Any], audit: Audit | None = None) -> int:
    """Write the parts one after the other into one file, atomically; returns the number of rows."""
    rows = 0
    with atomic(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["format"] = FORMAT
        for name, value in attributes.items():
            file.attrs[name] = value
        for part in parts:
            _append(file, part, rows)
            rows += len(part)
        if audit is not None and len(audit.row) > 0:
            file.create_dataset("audit_row", data=audit.row, fletcher32=True)
            file.create_dataset("audit_difference", data=audit.difference, fletcher32=True)
    return rows


def _append(file: h5py.File, part: Pairs, start: int) -> None:
    for name in _COLUMNS:
        values = getattr(part, name)
        if name not in file:
            chunks = (_CHUNK_ROWS, *values.shape[1:])
            shape = (0, *values.shape[1:])
            file.create_dataset(name, shape, values.dtype, chunks=chunks, maxshape=(None, *shape[1:]), fletcher32=True)
        file[name].resize(start + len(values), axis=0)
        file[name][start:] = values


def read(path: str | Path) -> Pairs:
    """All rows of a file. Raises FileError when it is missing, truncated, fails a checksum or is no training set."""
    with _open(path) as file, _damage(path):
        return Pairs(*(file[name][:] for name in _COLUMNS))


def read_audit(path: str | Path) -> Audit:
    """The audited labels of a file, none if there was no audit. Raises FileError as `read` does."""
    with _open(path) as file, _damage(path):
        if "audit_row" not in file:
            return Audit(np.empty(0, np.int64), np.empty((0, file["states"].shape[1])))
        return Audit(file["audit_row"][:], file["audit_difference"][:])


@contextmanager
def _damage(path: str | Path) -> Iterator[None]:
    """What cannot be read of an open file is told as damage."""
    try:
        yield
    except (OSError, KeyError) as error:
        raise FileError(f"{path} is damaged ({_first_line(error)})\nMake it again: chemnet sample") from None


def read_attributes(path: str | Path) -> dict[str, Any]:
    """Provenance of a file, with its number of rows as `rows`. Raises FileError as `read` does."""
    with _open(path) as file:
        return {**file.attrs, "rows": file["states"].shape[0]}


def _open(path: str | Path) -> h5py.File:
    if not Path(path).is_file():
        raise FileError(f"no training set {path}\nMake one: chemnet sample")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise FileError(f"{path} is no readable HDF5 file ({_first_line(error)})") from None
    if file.attrs.get("format") != FORMAT:
        file.close()
        raise FileError(f"{path} is an HDF5 file but no training set of chemnet")
    return file


def _first_line(error: Exception) -> str:
    return str(error).strip("'\" ").splitlines()[0]


def concatenate(parts: Sequence[Pairs]) -> Pairs:
    """All rows of the parts, in order."""
    return Pairs(*(np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS))
