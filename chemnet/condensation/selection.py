"""Selection of columns by least squares on calibration inputs, and fit of the weights that follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.linalg.blas
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_CARRIED = 256  # steps for which a column that has been chosen is carried along
_SMALLEST = 1e-8  # of what counts as zero in a Gram matrix: the square root of float64's resolution


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
    matrix of the columns and C their products with a target, the residual parts follow from a Cholesky factorisation
    that grows by a row l a step::

        l = (G_k - L^T L_k) / sqrt(d_k)    C -= l C_k / sqrt(d_k)    d -= l^2    gain = |C|^2 / d

    Source: Chen, Billings, Luo, Int. J. Control 50 (1989) 1873; Chen, Cowan, Grant, IEEE Trans. Neural Netw. 2 (1991)
    302. Directions of C with less than 1e-16 of the largest squared singular value are left away; `ridge` is relative
    to the mean of d and keeps columns out that are represented already.
    """
    selections = [_Selection(reader, count, ridge) for reader in readers]
    columns, free = np.arange(len(readers[0].gram)), np.ones(len(readers[0].gram), dtype=bool)
    wanting = np.mean([reader.energy > 0.0 for reader in readers])  # the others need no column
    chosen, left = np.empty(count, dtype=np.int64), np.full(count + 1, wanting)
    for j in range(count):
        if j % _CARRIED == 0:  # from time to time what has been chosen is left behind
            for selection in selections:
                selection.leave_behind(free)
            columns, free = columns[free], free[free]
        gain = sum((selection.gains() for selection in selections), np.zeros(len(columns))) / len(selections)
        k = int(np.where(free, gain, -1.0).argmax())
        chosen[j], free[k], left[j + 1] = columns[k], False, max(left[j] - gain[k], 0.0)
        for selection in selections:
            selection.take(k, j)
    return chosen, left


class _Selection:
    """The residual parts of the columns of one reader, as columns are chosen."""

    def __init__(self, reader: Reader, count: int, ridge: float) -> None:
        self._gram, self._energy = reader.gram, max(reader.energy, np.finfo(float).tiny)
        self._products, self._left = _rotated(reader.products), reader.gram.diagonal().copy()
        self._floor = max(ridge * self._left.mean(), np.finfo(float).tiny)
        self._factor = np.empty((count, len(reader.gram)))

    def leave_behind(self, free: NDArray[np.bool_]) -> None:
        """Forget the columns that are no longer free."""
        self._products, self._left, self._factor = self._products[free], self._left[free], self._factor[:, free]
        self._gram = self._gram[np.ix_(free, free)]

    def gains(self) -> Floats:
        """Decrease of the squared residual by each column (m,), relative to the target's squares [-]."""
        squares: Floats = np.einsum("ij,ij->i", self._products, self._products)
        return squares / (self._left + self._floor) / self._energy

    def take(self, k: int, step: int) -> None:
        """Update the residual parts for column k, chosen in this step."""
        scale = 1.0 / np.sqrt(self._left[k] + self._floor)
        above = self._factor[:step]
        row = self._factor[step] = scale * (self._gram[k] - above[:, k] @ above)
        if self._products.size:  # in place: the matrix is read and written once
            change, mine = -scale * self._products[k], self._products.T
            self._products = scipy.linalg.blas.dger(1.0, change, row, a=mine, overwrite_a=True).T
        self._left = np.maximum(self._left - row * row, 0.0)


def _rotated(products: Floats) -> Floats:
    """The same rows up to a rotation, which keeps their norms and products, in as few columns as they need."""
    if products.shape[1] > len(products):  # a rotation of the row space does the same
        products = scipy.linalg.qr(products.T, mode="r", check_finite=False)[0][: len(products)].T.copy()
    values, vectors = np.linalg.eigh(products.T @ products)
    rotated: Floats = products @ vectors[:, values > _SMALLEST**2 * values[-1]]
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
