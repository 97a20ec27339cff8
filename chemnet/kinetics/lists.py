"""Lists of lists as flat arrays, which kernels loop over."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int32]


class Lists(NamedTuple):
    """Lists of (index, factor): entry i is [start[i], start[i + 1])."""

    start: NDArray[np.uint64]  # unsigned: numba would look for negative ones, which count from the end
    item: Indices
    factor: Floats


def lists(entries: Iterable[Iterable[tuple[int, float]]]) -> Lists:
    """Lists of pairs in a row."""
    kept = [list(pairs) for pairs in entries]
    start = np.concatenate([[0], np.cumsum([len(pairs) for pairs in kept])])
    flat = [pair for pairs in kept for pair in pairs]
    index = np.array([i for i, _ in flat], np.int32)
    return Lists(start.astype(np.uint64), index, np.array([value for _, value in flat], np.float64))


def rows(table: Sequence[Sequence[float]], width: int) -> Floats:
    """Rows of a table that may have none."""
    return np.array(table, np.float64).reshape(len(table), width)
