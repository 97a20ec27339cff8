"""Tiles that need work: found wherever something differs, grown far enough, and turned into cells without gaps."""

import numpy as np
import pytest

from cfd_coupling.active import TILE_COLUMNS, TILE_ROWS, ActiveCells, all_cells, find_active
from cfd_coupling.fields import Fields
from cfd_coupling.grid import GHOSTS, Grid
from cfd_coupling.parallel import Communicator

NX, NY = 150, 61


def grids(size):
    return [Grid(NX, NY, 1.0, 1.0, rank, size) for rank in range(size)]


def random_tiles(seed=0):
    shape = -(-NY // TILE_ROWS), -(-NX // TILE_COLUMNS)
    return np.random.default_rng(seed).random(shape) < 0.3


def cells_of(tiles):
    """The marked cells (NY, NX) of marked tiles."""
    return np.repeat(np.repeat(tiles, TILE_ROWS, axis=0), TILE_COLUMNS, axis=1)[:NY, :NX]


def grown(cells, by):
    """Marked cells and all within `by` cells, periodic."""
    for axis in (0, 1):
        cells = np.logical_or.reduce([np.roll(cells, shift, axis=axis) for shift in range(-by, by + 1)])
    return cells


def painted(grid, blocks):
    count = np.zeros(grid.shape, dtype=int)
    for j_start, j_stop, i_start, i_stop in blocks:
        count[j_start:j_stop, i_start:i_stop] += 1
    return count


@pytest.mark.parametrize("size", [1, 2, 3])
def test_blocks_cover_the_marked_cells_of_every_rank_once(size):
    tiles = random_tiles()
    for grid in grids(size):
        count = painted(grid, ActiveCells(grid, tiles).blocks())
        inside = count[GHOSTS:-GHOSTS, GHOSTS:-GHOSTS]
        assert count.sum() == inside.sum()
        assert np.array_equal(inside, cells_of(tiles)[grid.j_start : grid.j_stop])


@pytest.mark.parametrize("size, margin", [(1, 0), (1, 3), (2, 1), (3, 3)])
def test_segments_cover_the_marked_cells_and_a_margin_once(size, margin):
    """Around means within this rank's array: ghosts beside the first column, not the last column of the box."""
    tiles = random_tiles(seed=1)
    around = grown(np.pad(cells_of(tiles), ((0, 0), (GHOSTS, GHOSTS))), margin)
    around = np.pad(around, ((GHOSTS, GHOSTS), (0, 0)), mode="wrap")
    for grid in grids(size):
        segments = ActiveCells(grid, tiles).segments(margin)
        assert (segments[:, 2] > segments[:, 1]).all()
        count = painted(grid, [(j, j + 1, a, b) for j, a, b in segments])
        rows = slice(GHOSTS - margin, grid.shape[0] - GHOSTS + margin)
        expected = around[grid.j_start : grid.j_stop + 2 * GHOSTS]
        assert np.array_equal(count[rows], expected[rows])


@pytest.mark.parametrize("cells", [1, 7, 20])
def test_marks_grow_far_enough_even_over_tiles_cut_short(cells):
    tiles = random_tiles(seed=2)
    wide = ActiveCells(grids(1)[0], tiles).widened(cells)
    assert cells_of(wide.tiles)[grown(cells_of(tiles), cells)].all()


def test_a_difference_marks_its_tile_alone_and_only_where_it_is_looked_for():
    grid = grids(1)[0]
    fields = Fields.empty(grid, 3, 1e5)
    fields.Y[:] = 0.25
    fields.Y[1, GHOSTS + 20, GHOSTS + 70] += 1e-12
    tiles = find_active(fields, grid, Communicator()).tiles
    assert np.argwhere(tiles).tolist() == [[20 // TILE_ROWS, 70 // TILE_COLUMNS]]
    elsewhere = ActiveCells(grid, ~tiles)
    assert not find_active(fields, grid, Communicator(), within=elsewhere).tiles.any()


def test_round_off_is_no_difference_but_what_is_no_number_is():
    grid = grids(1)[0]
    fields = Fields.empty(grid, 3, 1e5)
    fields.Y[:] = 0.25 * (1.0 + 1e-16 * np.random.default_rng(3).integers(-5, 5, fields.Y.shape))
    assert not find_active(fields, grid, Communicator()).tiles.any()
    fields.h[GHOSTS, GHOSTS] = np.nan
    assert find_active(fields, grid, Communicator()).tiles[0, 0]


def test_all_cells_are_all_cells():
    grid = grids(1)[0]
    assert painted(grid, all_cells(grid).blocks())[GHOSTS:-GHOSTS, GHOSTS:-GHOSTS].all()
