"""A seal at the end of a file: whatever reads the file later can trust its structure, before any library parses it.

The bulk of a file, such as the chunks of an HDF5 dataset, has checksums of its own. The bytes between, which say where
everything is, often have none, and a library that follows a wrong one may read other data or never return. The seal is
a list of the ranges of bulk data, and the SHA-256 of all other bytes and of that list.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

_MARK = b"chemnet-seal-1\n"
_LENGTH, _DIGEST = 8, hashlib.sha256().digest_size
_TAIL = _LENGTH + _DIGEST + len(_MARK)

Ranges = list[tuple[int, int]]


def seal(path: Path, bulk: Iterable[tuple[int, int]]) -> None:
    """Append the seal to a file; `bulk` are ranges (start, length) of bytes that have checksums of their own."""
    ranges = _merged(bulk)
    text = json.dumps(ranges).encode()
    with path.open("r+b") as file:
        end = file.seek(0, 2)
        digest = _digest(file, ranges, end, text)
        file.seek(end)
        file.write(text + len(text).to_bytes(_LENGTH, "little") + digest + _MARK)


def is_sealed(path: Path) -> bool:
    """Whether a file ends with a seal, broken or not."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - len(_MARK)))
        return file.read() == _MARK


def is_whole(path: Path) -> bool:
    """Whether the seal of a file fits what is before it."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        if size < _TAIL:
            return False
        file.seek(size - _TAIL)
        length = int.from_bytes(file.read(_LENGTH), "little")
        digest = file.read(_DIGEST)
        end = size - _TAIL - length
        if end < 0:
            return False
        file.seek(end)
        text = file.read(length)
        try:
            return digest == _digest(file, [(int(start), int(n)) for start, n in json.loads(text)], end, text)
        except (ValueError, TypeError, OverflowError):
            return False


def _merged(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """The same bytes in as few ranges as possible, in order."""
    merged: Ranges = []
    for start, length in sorted(ranges):
        if merged and sum(merged[-1]) == start:
            merged[-1] = (merged[-1][0], merged[-1][1] + length)
        else:
            merged.append((start, length))
    return merged


def _digest(file: BinaryIO, bulk: Ranges, end: int, text: bytes) -> bytes:
    """SHA-256 of the bytes before `end` that are not in the ranges, and of `text`."""
    digest = hashlib.sha256()
    position = 0
    for start, length in [*bulk, (end, 0)]:
        file.seek(position)
        digest.update(file.read(max(0, min(start, end) - position)))
        position = start + length
    digest.update(text)
    return digest.digest()
