"""Training sets on disk: HDF5 files of (state, next state) pairs with checksums and provenance.

Layout: `states` and `next_states` (n, 2 + K), `split` (n,) 0 training 1 validation, `group` (n,) trajectory or flame
the row comes from, `kind` (n,) index into the attribute `kinds`; and, where labels were audited, `audit_row` (m,) and
`audit_difference` (m, 2 + K). Every dataset carries a fletcher32 checksum per chunk, which tells damage where it is
read, and its SHA-256; everything else in the file is sealed (`checksum.py`). So a file reads as it was written or not
at all.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
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
from chemnet.runtime.files import atomic

FORMAT = "chemnet-states-2"
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
    """Labels that were computed a second time: of which rows (m,), and label minus second label (m, 2 + K)."""

    row: NDArray[np.int64]
    difference: NDArray[np.float64]


def write(path: str | Path, parts: Iterable[Pairs], attributes: Mapping[str, Any], audit: Audit | None = None) -> int:
    """Write the parts one after the other into one file, atomically; returns the number of rows."""
    rows = 0
    sums: dict[str, Any] = defaultdict(hashlib.sha256)
    with atomic(path) as temporary:
        with h5py.File(temporary, "w") as file:
            file.attrs["format"] = FORMAT
            for name, value in attributes.items():
                file.attrs[name] = value
            for part in parts:
                for name in _COLUMNS:
                    _append(file, name, getattr(part, name), rows)
                    sums[name].update(np.ascontiguousarray(getattr(part, name)))
                rows += len(part)
            if audit is not None and len(audit.row) > 0:
                for name, values in zip(_AUDIT, (audit.row, audit.difference), strict=True):
                    file.create_dataset(name, data=values, fletcher32=True)
                    sums[name].update(np.ascontiguousarray(values))
            for name in file:
                file[name].attrs["sha256"] = sums[name].hexdigest()
            bulk = _chunks(file)
        checksum.seal(temporary, bulk)
    return rows


def _append(file: h5py.File, name: str, values: NDArray[Any], start: int) -> None:
    if name not in file:
        chunks = (min(_CHUNK_ROWS, max(1, len(values))), *values.shape[1:])
        shape = (0, *values.shape[1:])
        file.create_dataset(name, shape, values.dtype, chunks=chunks, maxshape=(None, *shape[1:]), fletcher32=True)
    file[name].resize(start + len(values), axis=0)
    file[name][start:] = values


def _chunks(file: h5py.File) -> list[tuple[int, int]]:
    """Where the chunks of the datasets lie in the file, and their sizes."""
    file.flush()
    found: list[tuple[int, int]] = []
    for values in file.values():
        values.id.chunk_iter(lambda chunk: found.append((chunk.byte_offset, chunk.size)))
    return found


def blocks(path: str | Path, rows: int = 16 * _CHUNK_ROWS) -> Iterator[Pairs]:
    """The rows of a file, in order and `rows` at a time, so that a large file needs little memory.

    Raises FileError when it is missing, truncated or no training set; one that does not read as it was written is told
    at the block that fails its checksum, at the latest after the last.
    """
    with _open(path) as file, _damage(path):
        sums = {name: hashlib.sha256() for name in _COLUMNS}
        for start in range(0, len(file["states"]), rows):
            block = Pairs(*(file[name][start : start + rows] for name in _COLUMNS))
            for name, digest in sums.items():
                digest.update(getattr(block, name))
            yield block
        for name, digest in sums.items():
            _compare(file, name, digest.hexdigest())


def read(path: str | Path) -> Pairs:
    """All rows of a file. Raises FileError when it is missing, truncated, fails a checksum or is no training set."""
    with _open(path) as file, _damage(path):
        return Pairs(*(_whole(file, name) for name in _COLUMNS))


def read_column(path: str | Path, name: str) -> NDArray[Any]:
    """One of `states`, `next_states`, `split`, `group`, `kind`, of all rows. Raises FileError as `read` does."""
    with _open(path) as file, _damage(path):
        return _whole(file, name)


def read_audit(path: str | Path) -> Audit:
    """The audited labels of a file, none if there was no audit. Raises FileError as `read` does."""
    with _open(path) as file, _damage(path):
        if _AUDIT[0] not in file:
            return Audit(np.empty(0, np.int64), np.empty((0, file["states"].shape[1])))
        return Audit(*(_whole(file, name) for name in _AUDIT))


def _whole(file: h5py.File, name: str) -> NDArray[Any]:
    values = file[name][:]
    _compare(file, name, hashlib.sha256(values).hexdigest())
    return values


def _compare(file: h5py.File, name: str, digest: str) -> None:
    if digest != file[name].attrs["sha256"]:
        raise OSError(f"{name} differs from what was written")


@contextmanager
def _damage(path: str | Path) -> Iterator[None]:
    """What cannot be read of an open file is told as damage, whatever the library makes of it."""
    try:
        yield
    except Exception as error:
        raise FileError(f"{path} is damaged ({_first_line(error)})\nMake it again: chemnet sample") from None


def read_attributes(path: str | Path) -> dict[str, Any]:
    """Provenance of a file, with its number of rows as `rows`. Raises FileError as `read` does."""
    with _open(path) as file, _damage(path):
        return {**file.attrs, "rows": file["states"].shape[0]}


@contextmanager
def _open(path: str | Path) -> Iterator[h5py.File]:
    """An open training set whose seal is whole."""
    path = Path(path)
    if not path.is_file():
        raise FileError(f"no training set {path}\nMake one: chemnet sample")
    if not checksum.is_sealed(path):
        raise FileError(f"{path} is no training set ({FORMAT}), or only a part of one\nMake one: chemnet sample")
    if not checksum.is_whole(path):
        raise FileError(f"{path} is damaged (its seal is broken)\nMake it again: chemnet sample")
    with _damage(path):
        file = h5py.File(path, "r")
    with file:
        if file.attrs.get("format") != FORMAT:
            raise FileError(f"{path} is sealed by chemnet but no training set of format {FORMAT}")
        yield file


def _first_line(error: Exception) -> str:
    return (str(error).strip("'\" ").splitlines() or [type(error).__name__])[0]


def concatenate(parts: Sequence[Pairs]) -> Pairs:
    """All rows of the parts, in order."""
    return Pairs(*(np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS))
