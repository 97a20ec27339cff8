"""Slabs of rows cover the box, and a rank without enough rows is refused."""

import numpy as np
import pytest

from cfd_coupling.fields import Fields, interior
from cfd_coupling.grid import GHOSTS, Grid
from chemnet.runtime.errors import UsageError


@pytest.mark.parametrize("ny, size", [(9, 3), (10, 3), (11, 3), (7, 2), (512, 2)])
def test_slabs_cover_every_row_once_and_differ_by_one_row_at_most(ny, size):
    grids = [Grid(8, ny, 2.0, 1.0, rank, size) for rank in range(size)]
    assert [g.j_start for g in grids] == [0, *(g.j_stop for g in grids[:-1])] and grids[-1].j_stop == ny
    assert max(g.ny_local for g in grids) - min(g.ny_local for g in grids) <= 1
    assert np.allclose(np.concatenate([g.y for g in grids]), (np.arange(ny) + 0.5) / ny, rtol=1e-14, atol=0.0)


def test_cells_fill_the_box():
    grid = Grid(8, 4, 2.0, 1.0)
    assert (grid.dx, grid.dy) == (0.25, 0.25)
    assert grid.shape == (4 + 2 * GHOSTS, 8 + 2 * GHOSTS)
    assert (grid.x[0], grid.x[-1]) == (0.125, 1.875)


@pytest.mark.parametrize("nx, ny, size", [(8, 5, 2), (2, 8, 1), (8, 8, 3)])
def test_too_few_rows_or_columns_are_refused_with_the_numbers(nx, ny, size):
    with pytest.raises(UsageError, match=f"grid {nx} x {ny} on {size} ranks"):
        Grid(nx, ny, 1.0, 1.0, 0, size)


def test_species_and_enthalpy_are_views_of_what_moves():
    fields = Fields.empty(Grid(4, 4, 1.0, 1.0), 3, 1e5)
    interior(fields.Y)[2] = 0.5
    interior(fields.h)[:] = 7.0
    interior(fields.v)[:] = 2.0
    assert (interior(fields.scalars)[2:] == np.array([0.5, 7.0])[:, None, None]).all()
    assert (interior(fields.velocity)[1] == 2.0).all() and not fields.u.any()
