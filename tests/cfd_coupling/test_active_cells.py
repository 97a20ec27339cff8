"""Tiles that need work: found wherever something differs, grown far enough, and turned into cells without gaps."""

import numpy as np
import pytest
from flow_states import ATMOSPHERE, COMM, drm19, mixture

from cfd_coupling import initial
from cfd_coupling.active_cells import TILE_COLUMNS, TILE_ROWS, ActiveCells, all_cells, find_active
from cfd_coupling.convection import Convection
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
    """Around is meant periodic: ghosts beside the first column are filled from the last ones, so both are covered."""
    tiles = random_tiles(seed=1)
    around = np.pad(grown(cells_of(tiles), margin), GHOSTS, mode="wrap")
    for grid in grids(size):
        segments = ActiveCells(grid, tiles).segments(margin)
        assert (segments[:, 2] > segments[:, 1]).all()
        count = painted(grid, [(j, j + 1, a, b) for j, a, b in segments])
        reached = tuple(slice(GHOSTS - margin, n - GHOSTS + margin) for n in grid.shape)
        expected = around[grid.j_start : grid.j_stop + 2 * GHOSTS]
        assert np.array_equal(count[reached], expected[reached])
        assert count.sum() == count[reached].sum()


@pytest.mark.parametrize("cells", [1, 7, 20])
def test_marks_grow_far_enough_even_over_tiles_cut_short(cells):
    tiles = random_tiles(seed=2)
    wide = ActiveCells(grids(1)[0], tiles).widened(cells)
    assert cells_of(wide.tiles)[grown(cells_of(tiles), cells)].all()


def test_a_difference_marks_its_tile_alone_and_only_where_it_is_looked_for():
    grid = grids(1)[0]
    fields = Fields.empty(grid, 3, 1e5)
    fields.Y[:] = 0.25
    fields.Y[1, GHOSTS + 22, GHOSTS + 70] += 1e-12
    tiles = find_active(fields, grid, Communicator()).tiles
    assert np.argwhere(tiles).tolist() == [[22 // TILE_ROWS, 70 // TILE_COLUMNS]]
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


def blob_at_the_right_edge(grid, gas):
    """Argon in the last columns of nitrogen that streams to the right."""
    inside = np.zeros((grid.ny, grid.nx))
    inside[TILE_ROWS : 2 * TILE_ROWS, -4:] = 1.0
    Y = mixture(gas, AR=1.0)[:, None, None] * inside + mixture(gas, N2=1.0)[:, None, None] * (1.0 - inside)
    fields = initial.at_rest(grid, COMM, gas, np.full_like(inside, 300.0), Y, ATMOSPHERE)
    fields.u[:] = 20.0
    return fields


def test_what_touches_one_edge_of_the_box_changes_as_with_all_cells_at_work():
    """Species are conserved only if the ghosts beside the marked tiles hold what lies at the other edge."""
    grid, gas = Grid(4 * TILE_COLUMNS, 3 * TILE_ROWS, 1e-2, 2e-3), drm19()
    results = []
    for skip in (True, False):
        fields = blob_at_the_right_edge(grid, gas)
        active = find_active(fields, grid, COMM) if skip else all_cells(grid)
        Convection(grid, COMM, gas.n_species).advance(fields, active, np.zeros(grid.shape), 1e-6, 1)
        results.append(fields.scalars[:, GHOSTS:-GHOSTS, GHOSTS:-GHOSTS].copy())
    assert not find_active(blob_at_the_right_edge(grid, gas), grid, COMM).tiles.all()
    np.testing.assert_allclose(results[0], results[1], rtol=1e-14, atol=0.0)
