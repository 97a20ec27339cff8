"""SHA-256 at the end of a file, of all bytes before it, so that damage is found on reading."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO

_MARK = b"chemnet-sha256\n"
_TAIL = hashlib.sha256().digest_size + len(_MARK)
_PIECE = 1 << 16  # [bytes] read at a time


def seal(path: Path) -> None:
    """Append the checksum to a file."""
    with path.open("r+b") as file:
        digest = _digest(file, file.seek(0, 2))
        file.write(digest + _MARK)


def is_sealed(path: Path) -> bool:
    """Whether a file ends with a checksum, right or wrong."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - len(_MARK)))
        return file.read() == _MARK


def is_whole(path: Path) -> bool:
    """Whether the checksum of a sealed file is that of the bytes before it."""
    with path.open("rb") as file:
        end = file.seek(0, 2) - _TAIL
        return end >= 0 and _digest(file, end) + _MARK == file.read()


def _digest(file: BinaryIO, end: int) -> bytes:
    """SHA-256 of the bytes before `end`, where the file is left."""
    digest = hashlib.sha256()
    file.seek(0)
    for start in range(0, end, _PIECE):
        digest.update(file.read(min(_PIECE, end - start)))
    return digest.digest()
