"""Products and solutions with matrices of the mechanisms' patterns, against numpy; lanes do not meet."""

import numpy as np
import pytest
from burning_gas import dodecane
from numba import njit

from chemnet.gas.mechanism import load_mechanism
from chemnet.kinetics.elimination import Places, eliminate, places
from chemnet.kinetics.jacobian import padded
from chemnet.kinetics.lu import add_to_diagonal, factorise, product, solve
from chemnet.kinetics.mechanism_tables import tables_of
from chemnet.runtime.simd import W, aligned, splat

COUPLED = np.random.default_rng(5).random((41, 41)) < 0.08


@njit(error_model="numpy", _nrt=False, no_cfunc_wrapper=True)
def multiply_and_solve(layout, a, x, out):
    """The product of a and x into `out`, and the solution of (a + 2) x = x into x."""
    product(layout, a, x, out)
    add_to_diagonal(layout, a, 0.5, splat(4.0))
    factorise(layout, a)
    solve(layout, a, x)


@pytest.fixture(scope="module", params=["drm19", "gri30.yaml", "dodecane", 0, 10, 41, None])
def layout(request, tmp_path_factory):
    """That of a mechanism, or that of a random pattern with so many species in the block."""
    if request.param == "dodecane":
        return tables_of(dodecane(tmp_path_factory.mktemp("dodecane"))).layout
    if isinstance(request.param, str):
        return tables_of(load_mechanism(request.param)).layout
    return eliminate(COUPLED, request.param)[1]


def entries(layout):
    """Random matrices (W, n, n) with the pattern of a layout, and the array that holds them with the total's row."""
    rng, place, n = np.random.default_rng(2), Places(layout), layout.size + layout.total
    dense, a = np.zeros((W, n, n)), aligned(places(layout)).reshape(-1, W)
    for i in range(n):
        for j in range(n):
            try:
                at = place(i, j)
            except KeyError:
                continue
            dense[:, i, j] = rng.uniform(-1.0, 1.0, W) / n
            if i == layout.size:
                dense[:, i, j] = 0.0 if j == layout.size - 1 else 1.0 - 2.0 * (j == i)
            a[at] = dense[:, i, j]
    whole = dense[:, : layout.size, : layout.size].copy()
    if layout.total:
        whole[:, :, :-1] += dense[:, :-1, -1:]
    return whole, a.reshape(-1)


def multiplied_and_solved(layout, a, x):
    """Product and solution (W, n) of the vectors x (W, n)."""
    solution, out = aligned(padded(layout.size)), aligned(layout.size)
    solution.reshape(-1, W)[: layout.size] = x.T
    solution.reshape(-1, W)[layout.size :] = np.nan
    multiply_and_solve(layout, a.copy(), solution, out)
    return out.reshape(-1, W).T, solution.reshape(-1, W)[: layout.size].T


def test_products_and_solutions_are_those_of_the_dense_matrix(layout):
    whole, a = entries(layout)
    x = np.random.default_rng(3).uniform(-1.0, 1.0, (W, layout.size))
    multiplied, solved = multiplied_and_solved(layout, a, x)
    np.testing.assert_allclose(multiplied, (whole @ x[..., None])[..., 0], rtol=0, atol=1e-14)
    truth = np.linalg.solve(whole + 2.0 * np.eye(layout.size), x[..., None])[..., 0]
    np.testing.assert_allclose(solved, truth, rtol=1e-11, atol=1e-13)


def test_a_pivot_of_zero_spoils_its_own_lane_alone_and_is_seen(layout):
    _, a = entries(layout)
    x = np.random.default_rng(4).uniform(-1.0, 1.0, (W, layout.size))
    _, good = multiplied_and_solved(layout, a, x)
    a.reshape(-1, W)[layout.diagonal[0], 3] = -2.0
    _, spoilt = multiplied_and_solved(layout, a, x)
    assert not np.isfinite(spoilt[3]).all()
    others = np.arange(W) != 3
    np.testing.assert_array_equal(spoilt[others], good[others])
