"""The uniform grid: cells, spacing, and the slab of rows that belongs to one rank."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from chemnet.runtime.errors import UsageError

GHOSTS = 3  # rows and columns around each array; WENO5 reaches three cells


@dataclass(frozen=True)
class Grid:
    """Cells of a box of length_x by length_y [m], periodic in x, cut into slabs of rows, one per rank.

    nx, ny: cells of the whole box. dx, dy: spacing [m]. j_start, j_stop: the global rows of this rank; slabs differ
    by one row at most. Raises UsageError when a rank would get fewer than GHOSTS rows, or nx is that small.
    """

    nx: int
    ny: int
    length_x: float
    length_y: float
    rank: int = 0
    size: int = 1
    dx: float = field(init=False)
    dy: float = field(init=False)
    j_start: int = field(init=False)
    j_stop: int = field(init=False)

    def __post_init__(self) -> None:
        if min(self.nx, self.ny // self.size) < GHOSTS:
            raise UsageError(
                f"grid {self.nx} x {self.ny} on {self.size} ranks: a rank needs {GHOSTS} rows and {GHOSTS} columns;\n"
                f"use at most {max(self.ny // GHOSTS, 1)} ranks, or more cells."
            )
        bounds = slab_bounds(self.ny, self.size)
        for name, value in (
            ("dx", self.length_x / self.nx),
            ("dy", self.length_y / self.ny),
            ("j_start", int(bounds[self.rank])),
            ("j_stop", int(bounds[self.rank + 1])),
        ):
            object.__setattr__(self, name, value)

    @property
    def ny_local(self) -> int:
        """Rows of this rank."""
        return self.j_stop - self.j_start

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of one local array, ghost cells included."""
        return self.ny_local + 2 * GHOSTS, self.nx + 2 * GHOSTS

    @property
    def x(self) -> NDArray[np.float64]:
        """Cell centres [m] along x, (nx,)."""
        return np.asarray((np.arange(self.nx) + 0.5) * self.dx, dtype=np.float64)

    @property
    def y(self) -> NDArray[np.float64]:
        """Cell centres [m] of the rows of this rank, (ny_local,)."""
        return np.asarray((np.arange(self.j_start, self.j_stop) + 0.5) * self.dy, dtype=np.float64)


def slab_bounds(n: int, size: int) -> NDArray[np.int64]:
    """Bounds (size + 1,) of `size` consecutive slabs of n items, as even as they can be."""
    return np.arange(size + 1) * n // size
