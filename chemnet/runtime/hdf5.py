"""HDF5 files that are written whole or not at all, also on a disk that fills up."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
from numpy.typing import NDArray

from chemnet.runtime import checksum
from chemnet.runtime.errors import FileError
from chemnet.runtime.files import atomic


class _Disk(io.RawIOBase):
    """A file that keeps its first error and takes everything after it.

    HDF5 cannot close a file that it cannot flush, and crashes when the interpreter ends; so it never sees the error.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        left = memoryview(data)
        while len(left) > 0 and self.error is None:  # a nearly full disk takes a part
            left = left[self._try(self.file.write, left) or 0 :]
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        self._try(self.file.truncate, size)
        return size or 0

    def readinto(self, buffer: Any) -> int:
        return int(self.file.readinto(buffer))  # type: ignore[attr-defined]

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()

    def flush(self) -> None:
        self._try(self.file.flush)

    def _try(self, call: Any, *arguments: Any) -> Any:
        if self.error is None:
            try:
                return call(*arguments)
            except OSError as error:
                self.error = error
        return None


@contextmanager
def new_file(path: str | Path, *, sealed: bool = False) -> Iterator[h5py.File]:
    """An empty HDF5 file to fill; it takes the place of `path` at the end, `sealed` with the SHA-256 of its bytes.

    Raises OSError, naming `path`, when it cannot be written; `path` is then what it was before.
    """
    with atomic(path) as temporary:
        with open(temporary, "w+b", buffering=0) as raw:
            disk = _Disk(raw)
            try:
                with h5py.File(disk, "w") as file:
                    yield file
            finally:
                disk.close()  # while its file is open: it flushes it
                if disk.error is not None:
                    raise disk.error
        if sealed:
            checksum.seal(temporary)


def write_arrays(path: str | Path, arrays: Mapping[str, NDArray[np.float64]], note: str = "") -> None:
    """Write arrays of one or more dimensions by their names, with a note, atomically and with the SHA-256 of all."""
    with new_file(path, sealed=True) as file:
        file.attrs["note"] = note
        for name, values in arrays.items():
            file.create_dataset(name, data=values, compression="gzip", compression_opts=1, shuffle=True)


def read_arrays(path: str | Path) -> dict[str, NDArray[np.float64]]:
    """The arrays of `write_arrays`. Raises FileError when the file is missing or damaged."""
    path = Path(path)
    if not path.is_file():
        raise FileError(f"no file {path}")
    if not checksum.is_whole(path):
        raise FileError(f"{path} is damaged (its SHA-256 is not that of its content)")
    with h5py.File(path, "r") as file:
        return {name: dataset[()] for name, dataset in file.items()}
