"""LU factors of small dense matrices, W side by side, without pivoting.

The matrix of a Rosenbrock stage, I/(gamma h) - J, has a large diagonal: chemistry consumes a species in proportion to
its amount. A pivot that is zero or not finite makes its own lane's solution infinite or NaN, which the step control
sees; other lanes do not notice.

Matrices have an even order n (one that is not gets a row and a column of the unit matrix) and are stored row by row.
They are worked off in tiles of two rows and two columns, so that a vector that is loaded serves two products.
"""

from __future__ import annotations

from chemnet.runtime.simd import fma, kernel, load, splat, store


@kernel
def complete(a, size, n):
    """Make the row and the column beyond `size` those of the unit matrix: a zero pivot may have left NaN there."""
    for i in range(size, n):
        for j in range(n):
            store(a, i * n + j, splat(0.0))
            store(a, j * n + i, splat(0.0))
        store(a, i * n + i, splat(1.0))


@kernel
def factorise(a, n):
    """Overwrite a (n^2) with L (unit diagonal, not stored) and U, whose diagonal holds 1/u_ii.

        j j+1                 tile of rows i, i+1 and columns j, j+1:  a - L U over the columns and rows before it,
    i   x  x                  then what the tile itself contributes
    i+1 x  x
    """
    for i in range(0, n, 2):
        for j in range(0, i, 2):
            a00, a01, a10, a11 = _tile(a, n, i, j, j)
            l00, l10 = a00 * load(a, j * n + j), a10 * load(a, j * n + j)
            u01, inverse = load(a, j * n + j + 1), load(a, (j + 1) * n + j + 1)
            l01, l11 = fma(-l00, u01, a01) * inverse, fma(-l10, u01, a11) * inverse
            _store_tile(a, n, i, j, l00, l01, l10, l11)
        a00, u01, a10, a11 = _tile(a, n, i, i, i)
        u00 = 1.0 / a00
        l10 = a10 * u00
        _store_tile(a, n, i, i, u00, u01, l10, 1.0 / fma(-l10, u01, a11))
        for j in range(i + 2, n, 2):
            u00, u01, a10, a11 = _tile(a, n, i, j, i)
            _store_tile(a, n, i, j, u00, u01, fma(-l10, u00, a10), fma(-l10, u01, a11))


@kernel
def _tile(a, n, i, j, until):
    """The tile at (i, j) less the products of what lies left of it with what lies above it, up to `until`."""
    top, bottom = i * n, (i + 1) * n
    a00, a01 = load(a, top + j), load(a, top + j + 1)
    a10, a11 = load(a, bottom + j), load(a, bottom + j + 1)
    for k in range(until):
        left, lower = -load(a, top + k), -load(a, bottom + k)
        above, beside = load(a, k * n + j), load(a, k * n + j + 1)
        a00, a01 = fma(left, above, a00), fma(left, beside, a01)
        a10, a11 = fma(lower, above, a10), fma(lower, beside, a11)
    return a00, a01, a10, a11


@kernel
def _store_tile(a, n, i, j, a00, a01, a10, a11):
    store(a, i * n + j, a00)
    store(a, i * n + j + 1, a01)
    store(a, (i + 1) * n + j, a10)
    store(a, (i + 1) * n + j + 1, a11)


@kernel
def solve(a, n, x):
    """Overwrite x (n) with the solution of L U x = x, two rows at a time."""
    for i in range(0, n, 2):
        top, bottom = load(x, i), load(x, i + 1)
        for k in range(i):
            known = load(x, k)
            top, bottom = fma(-load(a, i * n + k), known, top), fma(-load(a, (i + 1) * n + k), known, bottom)
        store(x, i, top)
        store(x, i + 1, fma(-load(a, (i + 1) * n + i), top, bottom))
    for i in range(n - 2, -1, -2):
        top, bottom = load(x, i), load(x, i + 1)
        for k in range(i + 2, n):
            known = load(x, k)
            top, bottom = fma(-load(a, i * n + k), known, top), fma(-load(a, (i + 1) * n + k), known, bottom)
        bottom = bottom * load(a, (i + 1) * n + i + 1)
        store(x, i + 1, bottom)
        store(x, i, fma(-load(a, i * n + i + 1), bottom, top) * load(a, i * n + i))
