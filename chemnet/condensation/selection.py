"""Selection of columns by least squares on calibration inputs, and fit of the weights that follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_AT_ONCE = 128  # steps after which the matrices follow, and what has been chosen is left behind
_WORN = 1e-4  # of what columns gain, from which on it is measured anew: a difference has lost these digits
_SMALLEST = 1e-8  # of the mean of a Gram matrix's diagonal: the square root of float64's resolution


def spanning_columns(activations: Floats, count: int) -> NDArray[np.int64]:
    """The `count` columns of `activations` (n, m) that a pivoted QR factorisation takes first, in its order.

    Each is the column with the largest part that the columns before it cannot represent. The pivots of R
    are those of the tall matrix itself, and R is much smaller.
    """
    triangle = scipy.linalg.qr(activations, mode="r", check_finite=False)[0][: activations.shape[1]]
    pivots = scipy.linalg.qr(triangle, mode="r", pivoting=True, check_finite=False)[1]
    return np.asarray(pivots[:count], dtype=np.int64)


@dataclass(frozen=True)
class Reader:
    """One reader of m columns: their Gram matrix (m, m), their products with its target (m, q), and the sum of squares
    of the target."""

    gram: Floats
    products: Floats
    energy: float


def forward_selection(
    readers: Sequence[Reader], count: int, ridge: float = _SMALLEST
) -> tuple[NDArray[np.int64], Floats]:
    """The `count` columns that represent the targets of all readers best, in the order in which they are chosen, and
    the share of the targets' squares that is left without a column, with one, with two, ... (count + 1,).

    Forward selection by orthogonal least squares: each is the column that takes most from the squared residuals,
    relative to their targets, that the columns before it leave; every reader has weights of its own. With G the Gram
    matrix of the columns and M = C C^T that of their products C with a target, the residual parts follow from a
    Cholesky factorisation that grows by a row l a step, of the column k that is chosen::

        l = G_k / sqrt(d_k)    w = M_k / sqrt(d_k) - M_kk / (2 d_k) l    G -= l l^T    M -= l w^T + w l^T
        d = diag G    gain = diag M / d

    Only the rows that are chosen and the diagonals are needed at each step; C and G follow after some steps, and M is
    made of C anew. Source: Chen, Billings, Luo, Int. J. Control 50 (1989) 1873; Chen, Cowan, Grant, IEEE Trans. Neural
    Netw. 2 (1991) 302. `ridge` is relative to the mean of d and keeps columns out that are represented already.
    """
    selections = [_Selection(reader, ridge) for reader in readers]
    columns, free = np.arange(len(readers[0].gram)), np.ones(len(readers[0].gram), dtype=bool)
    wanting = np.mean([reader.energy > 0.0 for reader in readers])  # the others need no column
    chosen, left = np.empty(count, dtype=np.int64), np.full(count + 1, wanting)
    since = 0
    for j in range(count):
        if j - since == _AT_ONCE or any(selection.is_worn for selection in selections):
            since = j
            for selection in selections:
                selection.follow(free)
            columns, free = columns[free], free[free]
        gains = [selection.gains() for selection in selections]
        gain = np.mean(gains, axis=0)
        k = int(np.where(free, gain, -1.0).argmax())
        chosen[j], free[k], left[j + 1] = columns[k], False, max(left[j] - gain[k], 0.0)
        for selection, mine in zip(selections, gains, strict=True):
            selection.take(k, mine[k])
    return chosen, left


class _Selection:
    """The residual parts of the columns of one reader, as columns are chosen."""

    def __init__(self, reader: Reader, ridge: float) -> None:
        self._gram, self._products = reader.gram.copy(), _rotated(reader.products)
        self._energy = self._rest = max(reader.energy, np.finfo(float).tiny)
        self._left = self._gram.diagonal().copy()
        self._floor = max(ridge * self._left.mean(), np.finfo(float).tiny)
        self._begin()

    def _begin(self) -> None:
        """Products of the columns' products, as they are now, and room for what will change them."""
        self._squares = self._products @ self._products.T
        self._gained, self._taken = self._squares.diagonal().copy(), 0
        self._worn = _WORN * self._gained.max(initial=0.0)
        self._rows, self._others = np.empty((2, _AT_ONCE, len(self._gram)))
        self._parts = np.empty((_AT_ONCE, self._products.shape[1]))

    @property
    def is_worn(self) -> bool:
        """Whether what the columns gain is so much less than it was that it begins to be rounding."""
        return bool(self._gained.max(initial=0.0) < self._worn)

    def follow(self, free: NDArray[np.bool_]) -> None:
        """Bring the matrices up to date, and forget the columns that are no longer free."""
        rows, parts = self._rows[: self._taken, free], self._parts[: self._taken]
        self._gram = self._gram.compress(free, 0).compress(free, 1)
        self._gram -= rows.T @ rows
        self._products = self._products.compress(free, 0)
        self._products -= rows.T @ parts
        self._left = self._left[free]
        self._begin()

    def gains(self) -> Floats:
        """Decrease of the squared residual by each column (m,), relative to the target's squares [-]."""
        gained: Floats = np.clip(self._gained, 0.0, self._left * self._rest)  # beyond is rounding
        return gained / (self._left + self._floor) / self._energy

    def take(self, k: int, gain: float) -> None:
        """Update the residual parts for column k, chosen in this step."""
        n, scale = self._taken, 1.0 / np.sqrt(self._left[k] + self._floor)
        rows, others = self._rows[:n], self._others[:n]
        row = self._rows[n] = scale * (self._gram[k] - rows[:, k] @ rows)
        self._parts[n] = scale * (self._products[k] - rows[:, k] @ self._parts[:n])
        other = scale * (self._squares[k] - rows[:, k] @ others - others[:, k] @ rows)
        other = self._others[n] = other - 0.5 * scale * other[k] * row
        self._taken, self._rest = n + 1, max(self._rest - gain * self._energy, 0.0)
        self._left = np.maximum(self._left - row * row, 0.0)
        self._gained -= 2.0 * row * other


def _rotated(products: Floats) -> Floats:
    """The same rows up to a rotation, which keeps their norms and products, in no more columns than there are rows."""
    if products.shape[1] <= len(products):
        return products.copy()
    rotated: Floats = scipy.linalg.qr(products.T, mode="r", check_finite=False)[0][: len(products)].T.copy()
    return rotated


def shares(gram: Floats, cross: Floats, kept: NDArray[np.int64], start: Floats, ridge: float) -> Floats:
    """Share matrix (m, k) of the columns `kept` (k,) of a matrix A, for which A[:, kept] share^T is closest to B.

    `gram` is A^T A and `cross` A^T B (m, m). Minimises |residual|^2 + ridge g |share - start|^2, with g the mean
    diagonal of the Gram matrix of the kept columns: for any weights U that follow, share^T U is the refit of them.
    """
    inner = gram[np.ix_(kept, kept)]
    penalty = ridge * inner.diagonal().mean()
    if penalty <= 0.0:
        return start
    residual = cross[kept] - inner @ start.T
    inner[np.diag_indices_from(inner)] += penalty
    correction = scipy.linalg.solve(inner, residual, assume_a="pos")
    result: Floats = start + correction.T
    return result
