"""Training sets on disk: HDF5 files of (state, next state) pairs with provenance and one checksum.

Layout: `states` and `next_states` (n, 2 + K), `split` (n,) 0 training 1 validation, `group` (n,) trajectory or flame
the row comes from, `kind` (n,) index into the attribute `kinds`; and, where labels were audited, `audit_row` (m,) and
`audit_difference` (m, 2 + K). The file ends with its SHA-256 (`checksum.py`), which is compared before HDF5 parses
anything: a file reads as it was written or not at all.
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

from chemnet.runtime import checksum
from chemnet.runtime.errors import FileError
from chemnet.runtime.hdf5 import new_file

FORMAT = "chemnet-states-3"
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

    def where(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> Pairs:
        """The rows where a mask (n,) is True, or those of the given numbers."""
        return Pairs(*(getattr(self, name)[rows] for name in _COLUMNS))


_COLUMNS = ("states", "next_states", "split", "group", "kind")
_AUDIT = ("audit_row", "audit_difference")


@dataclass(frozen=True)
class Audit:
    """Labels computed a second time: their rows (m,), and label minus second label (m, 2 + K)."""

    row: NDArray[np.int64]
    difference: NDArray[np.float64]


def write(path: str | Path, parts: Iterable[Pairs], attributes: Mapping[str, Any], audit: Audit | None = None) -> int:
    """Write the parts one after the other into one file, atomically; returns the number of rows."""
    rows = 0
    with new_file(path, sealed=True) as file:
        file.attrs["format"] = FORMAT
        for name, value in attributes.items():
            file.attrs[name] = value
        for part in parts:
            for name in _COLUMNS:
                _append(file, name, getattr(part, name), rows)
            rows += len(part)
        if audit is not None and len(audit.row) > 0:
            for name, values in zip(_AUDIT, (audit.row, audit.difference), strict=True):
                file.create_dataset(name, data=values)
    return rows


def _append(file: h5py.File, name: str, values: NDArray[Any], start: int) -> None:
    if name not in file:
        chunks = (min(_CHUNK_ROWS, max(1, len(values))), *values.shape[1:])
        shape = (0, *values.shape[1:])
        file.create_dataset(name, shape, values.dtype, chunks=chunks, maxshape=(None, *shape[1:]))
    file[name].resize(start + len(values), axis=0)
    file[name][start:] = values


def blocks(path: str | Path, rows: int = 16 * _CHUNK_ROWS) -> Iterator[Pairs]:
    """The rows of a file, in order and `rows` at a time, so that a large file needs little memory.

    Raises FileError as `read` does, before the first block.
    """
    with _open(path) as file:
        for start in range(0, len(file["states"]), rows):
            yield Pairs(*(file[name][start : start + rows] for name in _COLUMNS))


def read(path: str | Path) -> Pairs:
    """All rows of a file. Raises FileError when it is missing, truncated, damaged or no training set."""
    with _open(path) as file:
        return Pairs(*(file[name][:] for name in _COLUMNS))


def read_column(path: str | Path, name: str) -> NDArray[Any]:
    """One of `states`, `next_states`, `split`, `group`, `kind`, of all rows. Raises FileError as `read` does."""
    with _open(path) as file:
        values: NDArray[Any] = file[name][:]
        return values


def read_audit(path: str | Path) -> Audit:
    """The audited labels of a file, none if there was no audit. Raises FileError as `read` does."""
    with _open(path) as file:
        if _AUDIT[0] not in file:
            return Audit(np.empty(0, np.int64), np.empty((0, file["states"].shape[1])))
        return Audit(*(file[name][:] for name in _AUDIT))


def read_attributes(path: str | Path) -> dict[str, Any]:
    """Provenance of a file, with its number of rows as `rows`. Raises FileError as `read` does."""
    with _open(path) as file:
        return {**file.attrs, "rows": file["states"].shape[0]}


@contextmanager
def _open(path: str | Path) -> Iterator[h5py.File]:
    """Open training set with a checksum that is right."""
    path = Path(path)
    if not path.is_file():
        raise FileError(f"no training set {path}\nMake one: chemnet sample")
    if not checksum.is_sealed(path):
        raise FileError(
            f"{path} is no training set of this version ({FORMAT}), or only a part of one\nMake one: chemnet sample"
        )
    if not checksum.is_whole(path):
        raise FileError(f"{path} is damaged (its SHA-256 is not that of its content)\nMake it again: chemnet sample")
    with h5py.File(path, "r") as file:
        if file.attrs.get("format") != FORMAT:
            raise FileError(f"{path} is no training set of this version ({FORMAT})\nMake one: chemnet sample")
        yield file


def concatenate(parts: Sequence[Pairs]) -> Pairs:
    """All rows of the parts, in order."""
    return Pairs(*(np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS))
