"""Which cells need work: tiles of the box where something is not uniform, and the runs and rectangles they make.

Far from a flame the gas is uniform to the last bit, and diffusion and convection of scalars change nothing there.
Tiles are aligned to the whole box and marks are shared by all ranks, so what is skipped does not depend on their
number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cfd_coupling.fields import Fields
from cfd_coupling.grid import GHOSTS, Grid
from cfd_coupling.kernels.state import mark_gradients
from cfd_coupling.parallel import Communicator

TILE_ROWS = 8
TILE_COLUMNS = 32
_LONGEST_SEGMENT = 128  # cells; the row buffers of the transport kernel then stay in the first-level cache
_FLAT_SPECIES = 1e-14  # difference of mass fractions that counts as none
_FLAT_ENTHALPY = 1e-8  # [J/kg], about 1e-11 K

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ActiveCells:
    """The marked tiles (J, I) of the whole box, and what a kernel takes to work on those of this rank."""

    grid: Grid
    tiles: NDArray[np.bool_]

    def widened(self, cells: int) -> ActiveCells:
        """Marks grown by at least `cells` cells in every direction, periodic."""
        tiles = _grow(self.tiles, 0, cells, TILE_ROWS, self.grid.ny)
        return ActiveCells(self.grid, _grow(tiles, 1, cells, TILE_COLUMNS, self.grid.nx))

    def blocks(self) -> Integers:
        """Rectangles (n, 4) [j_start, j_stop) x [i_start, i_stop) of this rank, ghosts counted, disjoint."""
        open_runs: dict[tuple[int, int], int] = {}
        blocks = []
        first, last = self.grid.j_start, self.grid.j_stop
        for J in range(first // TILE_ROWS, -(-last // TILE_ROWS)):
            runs = set(self._runs(self.tiles[J], 0))
            start = max(J * TILE_ROWS, first)
            for run in [run for run in open_runs if run not in runs]:
                blocks.append((open_runs.pop(run), start, *run))
            for run in runs:
                open_runs.setdefault(run, start)
        blocks += [(start, last, *run) for run, start in open_runs.items()]
        shift = np.array([GHOSTS - first, GHOSTS - first, 0, 0])
        return np.array(sorted(blocks), dtype=np.int64).reshape(-1, 4) + shift

    def segments(self, margin: int = 0) -> Integers:
        """Runs (n, 3) [j, i_start, i_stop) that cover the tiles and `margin` cells around them, ghosts counted."""
        ny, first, segments = self.grid.ny, self.grid.j_start, []
        pieces: dict[frozenset[int], list[tuple[int, int]]] = {}
        for row in range(first - margin, self.grid.j_stop + margin):
            near = frozenset(r % ny // TILE_ROWS for r in range(row - margin, row + margin + 1))
            if near not in pieces:
                runs = self._runs(self.tiles[list(near)].any(axis=0), margin)
                pieces[near] = [
                    (cut, min(cut + _LONGEST_SEGMENT, b)) for a, b in runs for cut in range(a, b, _LONGEST_SEGMENT)
                ]
            segments += [(row - first + GHOSTS, a, b) for a, b in pieces[near]]
        return np.array(segments, dtype=np.int64).reshape(-1, 3)

    def _runs(self, marks: NDArray[np.bool_], margin: int) -> list[tuple[int, int]]:
        """Columns [i_start, i_stop) within `margin` of the marked tiles of one tile row, periodic, ghosts counted."""
        cells = np.repeat(marks, TILE_COLUMNS)[: self.grid.nx]
        columns = np.arange(-margin, self.grid.nx + margin)
        near = np.any([cells.take(columns + shift, mode="wrap") for shift in range(-margin, margin + 1)], axis=0)
        edges = np.flatnonzero(np.diff(np.concatenate(([False], near, [False])).astype(np.int8)))
        return [(GHOSTS - margin + int(a), GHOSTS - margin + int(b)) for a, b in edges.reshape(-1, 2)]


def _grow(tiles: NDArray[np.bool_], axis: int, cells: int, tile: int, n: int) -> NDArray[np.bool_]:
    """Marks spread along an axis; one tile more where the last tile of the box is cut short."""
    reach = -(-cells // tile) + (n % tile > 0)
    shifts = range(-min(reach, tiles.shape[axis]), min(reach, tiles.shape[axis]) + 1)
    return np.logical_or.reduce([np.roll(tiles, shift, axis=axis) for shift in shifts])


def find_active(fields: Fields, grid: Grid, comm: Communicator) -> ActiveCells:
    """The tiles where species or enthalpy differ from a neighbour; ghosts of `fields.scalars` must be up to date."""
    tolerance = np.full(len(fields.scalars), _FLAT_SPECIES)
    tolerance[-1] = _FLAT_ENTHALPY
    tiles = np.zeros((-(-grid.ny // TILE_ROWS), -(-grid.nx // TILE_COLUMNS)), dtype=np.bool_)
    mark_gradients(fields.scalars, tolerance, grid.j_start, TILE_ROWS, TILE_COLUMNS, tiles)
    return ActiveCells(grid, comm.any(tiles))


def all_cells(grid: Grid) -> ActiveCells:
    """Every tile of the box."""
    return ActiveCells(grid, np.ones((-(-grid.ny // TILE_ROWS), -(-grid.nx // TILE_COLUMNS)), dtype=np.bool_))
