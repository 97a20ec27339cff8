"""LU factors of a matrix with a sparse part and a dense block, W side by side, without pivoting.

The matrix of a Rosenbrock stage, I/(gamma h) - J, has a large diagonal: chemistry consumes a species in proportion to
its amount. A pivot that is zero or not finite makes its own lane's solution infinite or NaN, which the step control
sees; other lanes do not notice.

Where entries are stored says a `Layout` (`elimination.py`): lists of the sparse part, a dense block for the unknowns
that come last, all of them in small mechanisms. The sparse part is worked off row by row (I. S. Duff, A. M. Erisman,
J. K. Reid, Direct Methods for Sparse Matrices, 2017): from row i come off the rows of U that have a partner in it; the
places of the products are listed beforehand. The block has an even order (one that has not gets a row and a column of
the unit matrix) and is worked off in tiles of two rows and two columns, so that a vector that is loaded serves two
products.
"""

from __future__ import annotations

from chemnet.runtime.simd import W, fma, kernel, load, splat, store


@kernel
def add_to_diagonal(layout, a, factor, value):
    """Add factor value to the diagonal of an unknown's own row; that of the total amount stays."""
    for j in range(layout.size):
        at = layout.diagonal[j]
        store(a, at, fma(factor, value, load(a, at)))


@kernel
def product(layout, a, x, out):
    """The product of a matrix that is not factorised yet and x (size) into `out` (size)."""
    n, first, order = layout.size, layout.sparse, layout.order
    block = a[layout.block * W :]
    total = splat(0.0)
    if layout.total > 0:
        for j in range(n - 1):
            total = total + load(x, j)
    for i in range(n):
        result = splat(0.0)
        for e in range(layout.lower[i], layout.lower[i + 1]):
            result = fma(load(a, e), load(x, layout.column[e]), result)
        if i < first:
            result = fma(load(a, layout.diagonal[i]), load(x, i), result)
            for e in range(int(layout.upper[i]), int(layout.upper[i + 1]) - 1):
                result = fma(load(a, e), load(x, layout.column[e]), result)
        else:
            for j in range(first, n):
                result = fma(load(block, (i - first) * order + j - first), load(x, j), result)
        if layout.total > 0:
            result = fma(load(a, layout.of_total[i]), total, result)
        store(out, i, result)


@kernel
def factorise(layout, a):
    """Overwrite a matrix with L (unit diagonal, not stored) and U, whose diagonal holds 1/u_ii."""
    next_target = 0
    for i in range(layout.size + layout.total):
        for e in range(layout.lower[i], layout.lower[i + 1]):
            k = layout.column[e]
            share = load(a, e) * load(a, layout.diagonal[k])
            store(a, e, share)
            for u in range(layout.upper[k], layout.upper[k + 1]):
                at = layout.targets[next_target]
                next_target += 1
                store(a, at, fma(-share, load(a, u), load(a, at)))
        if i < layout.sparse:
            at = layout.diagonal[i]
            store(a, at, 1.0 / load(a, at))
    block, n = a[layout.block * W :], layout.order
    _complete_block(block, layout.size + layout.total - layout.sparse, n)
    _factorise_block(block, n)


@kernel
def solve(layout, a, x):
    """Overwrite the first `size` vectors of x with the solution of L U x = x; what follows is working memory."""
    n, first = layout.size + layout.total, layout.sparse
    for i in range(layout.size, first + layout.order):
        store(x, i, 0.0)
    for i in range(n):
        known = load(x, i)
        for e in range(layout.lower[i], layout.lower[i + 1]):
            known = fma(-load(a, e), load(x, layout.column[e]), known)
        store(x, i, known)
    _solve_block(a[layout.block * W :], layout.order, x[first * W :])
    for i in range(first - 1, -1, -1):
        known = load(x, i)
        for e in range(layout.upper[i], layout.upper[i + 1]):
            known = fma(-load(a, e), load(x, layout.column[e]), known)
        store(x, i, known * load(a, layout.diagonal[i]))


@kernel
def _complete_block(a, size, n):
    """Make the row and the column beyond `size` those of the unit matrix: a zero pivot may have left NaN there."""
    for i in range(size, n):
        for j in range(n):
            store(a, i * n + j, splat(0.0))
            store(a, j * n + i, splat(0.0))
        store(a, i * n + i, splat(1.0))


@kernel
def _factorise_block(a, n):
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
def _solve_block(a, n, x):
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
