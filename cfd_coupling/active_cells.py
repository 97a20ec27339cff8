"""Active cells: tiles of the box where something is not uniform, and their runs and rectangles.

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
        first, last = self.grid.j_start, self.grid.j_stop
        tile_rows = np.arange(first // TILE_ROWS, -(-last // TILE_ROWS))
        marks = self.tiles[tile_rows]
        changes = 1 + np.flatnonzero((marks[1:] != marks[:-1]).any(axis=1))
        groups = np.split(np.arange(len(tile_rows)), changes)
        rows, starts, stops = self._runs(marks[[group[0] for group in groups]], 0)
        bottom = np.array([max(tile_rows[group[0]] * TILE_ROWS, first) for group in groups]) - first + GHOSTS
        top = np.array([min(tile_rows[group[-1]] * TILE_ROWS + TILE_ROWS, last) for group in groups]) - first + GHOSTS
        return np.stack([bottom[rows], top[rows], starts, stops], axis=1)

    def segments(self, margin: int = 0, outside: int | None = None) -> Integers:
        """Runs (n, 3) [j, i_start, i_stop) that cover the tiles and `margin` cells around them, ghosts counted.

        outside: how many rows of ghosts are covered as well, `margin` where it is not given.
        """
        outside = margin if outside is None else outside
        rows, starts, stops = self._runs(self._near(margin, outside), margin)
        pieces = -(-(stops - starts) // _LONGEST_SEGMENT)
        run = np.repeat(np.arange(len(rows)), pieces)
        cuts = starts[run] + _LONGEST_SEGMENT * (np.arange(len(run)) - (np.cumsum(pieces) - pieces)[run])
        return np.stack([rows[run] + GHOSTS - outside, cuts, np.minimum(cuts + _LONGEST_SEGMENT, stops[run])], axis=1)

    def shell(self) -> Integers:
        """Runs as of `segments` that cover the cells next to the tiles and all near ones among the rows of ghosts."""
        mine = self._near(0, GHOSTS)
        mine[:GHOSTS] = mine[-GHOSTS:] = False
        rows, starts, stops = self._runs(self._near(1, GHOSTS), 1, mine)
        return np.stack([rows, starts, stops], axis=1)

    def rows(self) -> tuple[Integers, Integers, NDArray[np.bool_]]:
        """Runs (n, 3) that cover the tiles in all rows, ghosts included; where those of each row begin (rows + 1,); and
        whether a row has the runs of the row below it (rows,).
        """
        marks = self._near(0, GHOSTS)
        rows, starts, stops = self._runs(marks, 0)
        alike = np.concatenate([[False], (marks[1:] == marks[:-1]).all(axis=1)])
        return np.stack([rows, starts, stops], axis=1), np.searchsorted(rows, np.arange(len(marks) + 1)), alike

    def _near(self, margin: int, outside: int) -> NDArray[np.bool_]:
        """Marks of the tiles that each row of this rank and of `outside` rows around it meets within `margin` rows."""
        cell_rows = np.arange(self.grid.j_start - outside, self.grid.j_stop + outside)
        near = [(cell_rows + shift) % self.grid.ny // TILE_ROWS for shift in range(-margin, margin + 1)]
        return np.logical_or.reduce([self.tiles[J] for J in near])

    def _runs(
        self, marks: NDArray[np.bool_], margin: int, without: NDArray[np.bool_] | None = None
    ) -> tuple[Integers, Integers, Integers]:
        """Runs of cells within `margin` of marked tiles in each row of `marks`: row, first and last column plus one.

        Ghosts are counted. Periodic: beside a mark at one edge lie cells at the other, which its ghosts are copies of.
        Cells inside the tiles marked in `without` are left out. Rows are mostly alike, so runs are looked for in each
        kind of row once.
        """
        nx, n_tiles, columns = self.grid.nx, marks.shape[1], np.arange(-margin, self.grid.nx + margin)
        both = marks if without is None else np.concatenate([marks, without], axis=1)
        kinds, kind = np.unique(both, axis=0, return_inverse=True)
        cells = np.repeat(kinds, TILE_COLUMNS, axis=1)
        near = np.logical_or.reduce([cells[:, (columns + shift) % nx] for shift in range(-margin, margin + 1)])
        if without is not None:
            near[:, margin : margin + nx] &= ~cells[:, n_tiles * TILE_COLUMNS :][:, :nx]
        edges = np.diff(np.pad(near, ((0, 0), (1, 1))).astype(np.int8), axis=1)
        owner, starts = np.nonzero(edges == 1)
        stops = np.nonzero(edges == -1)[1]
        count = np.bincount(owner, minlength=len(kinds))
        rows = np.repeat(np.arange(len(marks)), count[kind])
        first, before = (np.cumsum(count) - count)[kind], np.cumsum(count[kind]) - count[kind]
        run = np.arange(len(rows)) + (first - before)[rows]
        return rows, starts[run] + GHOSTS - margin, stops[run] + GHOSTS - margin


def _grow(tiles: NDArray[np.bool_], axis: int, cells: int, tile: int, n: int) -> NDArray[np.bool_]:
    """Marks spread along an axis; one tile more where the last tile of the box is cut short."""
    reach = -(-cells // tile) + (n % tile > 0)
    shifts = range(-min(reach, tiles.shape[axis]), min(reach, tiles.shape[axis]) + 1)
    return np.logical_or.reduce([np.roll(tiles, shift, axis=axis) for shift in shifts])


def find_active(fields: Fields, grid: Grid, comm: Communicator, within: ActiveCells | None = None) -> ActiveCells:
    """The tiles, among those of `within`, where species or enthalpy differ from a neighbour.

    The ghosts of `fields.scalars` must be up to date.
    """
    tolerance = np.full(len(fields.scalars), _FLAT_SPECIES)
    tolerance[-1] = _FLAT_ENTHALPY
    candidates = all_cells(grid) if within is None else within
    tiles = np.zeros_like(candidates.tiles)
    mark_gradients(fields.scalars, tolerance, grid.j_start, TILE_ROWS, TILE_COLUMNS, candidates.tiles, tiles)
    return ActiveCells(grid, comm.any(tiles))


def all_cells(grid: Grid) -> ActiveCells:
    """Every tile of the box."""
    return ActiveCells(grid, np.ones((-(-grid.ny // TILE_ROWS), -(-grid.nx // TILE_COLUMNS)), dtype=np.bool_))
