"""What the calibration states say about a layer: which neurons span it, and the weights that follow best."""

from __future__ import annotations

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def spanning_columns(activations: Floats, count: int) -> NDArray[np.int64]:
    """The `count` columns of `activations` (n, m) that a pivoted QR factorisation takes first, ascending.

    Each is the column with the largest part that the columns before it cannot represent. The pivots of R
    are those of the tall matrix itself, and R is much smaller.
    """
    triangle = scipy.linalg.qr(activations, mode="r", check_finite=False)[0][: activations.shape[1]]
    pivots = scipy.linalg.qr(triangle, mode="r", pivoting=True, check_finite=False)[1]
    return np.sort(pivots[:count]).astype(np.int64)


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
