"""What the calibration states say about a layer: which neurons span it, and the weights that follow best."""

from __future__ import annotations

import numpy as np
import scipy.linalg
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


def representing_columns(
    activations: Floats, target: Floats, count: int, ridge: float = _SMALLEST
) -> NDArray[np.int64]:
    """The `count` columns of `activations` (n, m) from which `target` (n, q) is represented best, in
    the order in which they are chosen.

    Forward selection by orthogonal least squares: each is the column that takes most from the squared residual that the
    columns before it and a bias leave. With G the Gram matrix of the centred columns and C their products with the
    centred target, the residual parts follow from a Cholesky factorisation that grows by a row l a step::

        l = (G_k - L^T L_k) / sqrt(d_k)    C -= l C_k / sqrt(d_k)    d -= l^2    gain = |C|^2 / d

    Source: Chen, Billings, Luo, Int. J. Control 50 (1989) 1873; Chen, Cowan, Grant, IEEE Trans. Neural Netw. 2 (1991)
    302. Directions of C with less than 1e-16 of the largest squared singular value are left away; `ridge` is relative
    to the mean of d and keeps columns out that are represented already.
    """
    activations = activations - activations.mean(axis=0)
    gram = activations.T @ activations
    products = _rotated(activations.T @ (target - target.mean(axis=0)))
    left = gram.diagonal().copy()
    floor = max(ridge * left.mean(), np.finfo(float).tiny)
    factor = np.empty((count, len(gram)))
    chosen = np.empty(count, dtype=np.int64)
    columns, free = np.arange(len(gram)), np.ones(len(gram), dtype=bool)
    for j in range(count):
        if j % _CARRIED == 0:  # from time to time what has been chosen is left behind
            columns, products, left, factor = columns[free], products[free], left[free], factor[:, free]
            gram, free = gram[np.ix_(free, free)], free[free]
        gain = np.einsum("ij,ij->i", products, products) / (left + floor)
        k = int(np.where(free, gain, -1.0).argmax())
        chosen[j], free[k] = columns[k], False
        scale = 1.0 / np.sqrt(left[k] + floor)
        row = factor[j] = scale * (gram[k] - factor[:j, k] @ factor[:j])
        products -= np.multiply.outer(row, scale * products[k])
        left = np.maximum(left - row * row, 0.0)
    return chosen


def _rotated(products: Floats) -> Floats:
    """The same rows up to a rotation, which keeps their norms and products, in as few columns as they need."""
    values, vectors = np.linalg.eigh(products.T @ products)
    rotated: Floats = products @ vectors[:, values > _SMALLEST**2 * values[-1]]
    return rotated


def refit(
    activations: Floats, target: Floats, weights: Floats, bias: Floats | None, ridge: float
) -> tuple[Floats, Floats | None]:
    """`(weights, bias)` of a layer, corrected to bring `activations @ weights.T + bias` closest to `target`.

    Minimises |residual|^2 + ridge g |correction|^2 by normal equations in float64, where g is the mean
    diagonal of the Gram matrix of the activations (centred, because a bias takes up their mean; `bias` None
    stays None). The penalty is on the correction and not on the weights, so the result is never worse on
    these states than the weights given, and directions that the states do not show keep their weights.

    Shapes: activations (n, k), target (n, m), weights (m, k), bias (m,).
    """
    residual = target - activations @ weights.T
    mean_activation, mean_residual = np.zeros(activations.shape[1]), np.zeros(target.shape[1])
    if bias is not None:
        mean_activation, mean_residual = activations.mean(axis=0), residual.mean(axis=0)
        activations, residual = activations - mean_activation, residual - mean_residual
    gram = activations.T @ activations
    penalty = ridge * gram.diagonal().mean()
    if penalty > 0.0:
        gram[np.diag_indices_from(gram)] += penalty
        correction = scipy.linalg.solve(gram, activations.T @ residual, assume_a="pos").T
        weights = weights + correction
        mean_residual = mean_residual - correction @ mean_activation
    return weights, None if bias is None else mean_residual
