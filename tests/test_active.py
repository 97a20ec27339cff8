"""Which cells are worked on: marked tiles, grown and cut into segments, periodic both ways."""

import numpy as np
import pytest

from cfd_coupling.active import TILE_COLUMNS, TILE_ROWS, ActiveCells
from cfd_coupling.grid import GHOSTS, Grid


@pytest.mark.parametrize("marked", [(0, 0), (3, 2), (1, 1), (2, 0)])
@pytest.mark.parametrize("margin", [0, 1, 3])
def test_segments_are_the_cells_within_the_margin_of_a_marked_tile(marked, margin):
    """Also across the edges of the box: a ghost column is a copy of a column on the other side, and both count."""
    grid = Grid(3 * TILE_COLUMNS - 5, 4 * TILE_ROWS - 3, 1.0, 1.0)
    tiles = np.zeros((4, 3), dtype=bool)
    tiles[marked] = True
    cells = np.repeat(np.repeat(tiles, TILE_ROWS, 0), TILE_COLUMNS, 1)[: grid.ny, : grid.nx]
    around = np.pad(cells, 2 * margin, mode="wrap")
    expected = np.zeros(grid.shape, dtype=bool)
    for j in range(-margin, grid.ny + margin):
        for i in range(-margin, grid.nx + margin):
            near = around[j + margin : j + 3 * margin + 1, i + margin : i + 3 * margin + 1]
            expected[j + GHOSTS, i + GHOSTS] = near.any()
    covered = np.zeros(grid.shape, dtype=int)
    for j, a, b in ActiveCells(grid, tiles).segments(margin):
        covered[j, a:b] += 1
    np.testing.assert_array_equal(covered, expected.astype(int))
