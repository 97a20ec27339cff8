"""Burnt area by the contour of T, not by whole cells: second order in the size of a cell."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BURNT_TEMPERATURE = 1500.0  # [K]; hotter gas counts as burnt


def area_above(q: Floats, level: float) -> Floats:
    """Area where q > level, in cells, by row (ny,); q (ny + 1, nx + 1) at cell centres, with one row and column more.

    Each square between four centres is cut into four triangles by its own centre, which has the mean value, and q is
    linear in each:

        d-----c
        |\\   /|
        |  m  |
        |/   \\|
        a-----b

    A row's result depends on its own and the next row alone.
    """
    v = q - level
    corners = v[:-1, :-1], v[:-1, 1:], v[1:, 1:], v[1:, :-1]
    lowest, highest = np.minimum.reduce(corners), np.maximum.reduce(corners)
    area = (lowest > 0.0).astype(np.float64)
    cut = (lowest <= 0.0) & (highest > 0.0)
    a, b, c, d = (corner[cut] for corner in corners)
    m = 0.25 * (a + b + c + d)
    area[cut] = 0.25 * (_share(a, b, m) + _share(b, c, m) + _share(c, d, m) + _share(d, a, m))
    return np.asarray(area.sum(axis=1))


def _share(a: Floats, b: Floats, c: Floats) -> Floats:
    """Share of triangles (n,) where the linear function with these values at the corners is positive."""
    low, middle, high = np.sort([a, b, c], axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        one_above = high * high / ((high - low) * (high - middle))
        one_below = low * low / ((low - middle) * (low - high))
    share = np.where(middle <= 0.0, one_above, 1.0 - one_below)
    return np.where(high <= 0.0, 0.0, np.where(low > 0.0, 1.0, share))


def burnt_rows(T: Floats, first: bool, last: bool) -> Floats:
    """Burnt area in cells by row (ny,); T (ny + 1, nx + 1) [K] as of `area_above`.

    first, last: whether the box begins or ends with these rows, instead of going on. Half a row of cells lies between
    the centres and the end then, with the T of the centres, and nothing beyond.
    """
    rows = area_above(T, BURNT_TEMPERATURE)
    if last:
        rows[-1] = 0.5 * area_above(T[[-2, -2]], BURNT_TEMPERATURE)[0]
    if first:
        rows[0] += 0.5 * area_above(T[[0, 0]], BURNT_TEMPERATURE)[0]
    return rows


def burnt_area(T: Floats, dx: float, dy: float, ends: bool = False) -> float:
    """Area [m2] of the gas hotter than BURNT_TEMPERATURE; T (ny, nx) [K], spacing [m].

    The box is periodic in x, and in y too unless it has `ends` there.
    """
    return float(burnt_rows(np.pad(T, ((0, 1), (0, 1)), mode="wrap"), ends, ends).sum()) * dx * dy
