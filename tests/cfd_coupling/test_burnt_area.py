"""Burnt area by the contour: exact for what is linear, second order for a circle, the same by rows."""

import numpy as np
import pytest

from cfd_coupling.burnt_area import BURNT_TEMPERATURE, area_above, burnt_area


def disc(n, radius=0.3):
    """T (n, n) in a box of side 1 that is BURNT_TEMPERATURE at `radius`."""
    x = (np.arange(n) + 0.5) / n - 0.5
    return BURNT_TEMPERATURE + 4000.0 * (radius - np.hypot(x[None, :], x[:, None]))


def test_the_area_of_a_disc_is_second_order():
    errors = [abs(burnt_area(disc(n), 1 / n, 1 / n) - np.pi * 0.09) for n in (32, 64, 128)]
    assert errors[-1] < 4e-5
    assert np.log2(errors[0] / errors[-1]) / 2 > 1.8, errors


@pytest.mark.parametrize("slope", [(1.0, 0.0), (0.0, 1.0), (1.0, 0.7), (-0.3, 1.1)])
def test_a_straight_contour_is_exact(slope):
    y, x = np.mgrid[0.0:5.0, 0.0:5.0]
    q = slope[0] * (x - 1.7) + slope[1] * (y - 2.3)
    along = (np.arange(100_000) + 0.5) * 4e-5  # where the line is met on the way up, at each x
    line = np.array(
        [2.3 - slope[0] / slope[1] * (along - 1.7) if slope[1] else np.where(slope[0] * (along - 1.7) > 0, 0, 4)]
    )
    exact = np.clip(4.0 - line, 0.0, 4.0).mean() * 4.0
    assert area_above(q, 0.0).sum() == pytest.approx(exact, rel=0.0, abs=1e-3)
    fewer = area_above(q + 1e-9, 0.0).sum() - area_above(q, 0.0).sum()
    assert 0.0 <= fewer < 1e-7


def test_a_box_with_ends_has_half_a_row_behind_its_outer_centres():
    T = np.full((10, 4), 300.0)
    T[5:] = 3900.0  # the contour is a third of a cell above the centres of row 4
    assert burnt_area(T, 1.0, 1.0, ends=True) == pytest.approx(4 * (5.0 + 1 / 6), rel=1e-12, abs=0.0)
    assert burnt_area(T[::-1], 1.0, 1.0, ends=True) == pytest.approx(4 * (5.0 + 1 / 6), rel=1e-12, abs=0.0)
    assert burnt_area(np.full((10, 4), 2000.0), 1.0, 1.0, ends=True) == pytest.approx(40.0, rel=1e-12, abs=0.0)


def test_all_and_nothing():
    assert area_above(np.full((4, 6), 2.0), 1.0).tolist() == [5.0, 5.0, 5.0]
    assert area_above(np.full((4, 6), 1.0), 1.0).tolist() == [0.0, 0.0, 0.0]


def test_rows_do_not_depend_on_the_slab_they_are_in():
    T = np.pad(disc(40), ((0, 1), (0, 1)), mode="wrap")
    whole = area_above(T, BURNT_TEMPERATURE)
    parts = np.concatenate([area_above(T[:18], BURNT_TEMPERATURE), area_above(T[17:], BURNT_TEMPERATURE)])
    assert np.array_equal(whole, parts)
