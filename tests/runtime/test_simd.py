"""The SIMD value: arithmetic lane by lane, exp and log, what becomes of NaN."""

import math

import numpy as np
import pytest
from numba import njit
from numba.core.errors import TypingError

from chemnet.runtime.simd import (
    W,
    absolute,
    aligned,
    everywhere,
    exp,
    fma,
    load,
    load_at,
    log,
    maximum,
    minimum,
    prefetch_at,
    select,
    shifted,
    sqrt,
    store,
    store_at,
)

SPECIAL = np.array([math.nan, math.inf, -math.inf])


@njit
def exponentials_and_logarithms(x, exponentials, logarithms):
    for i in range(x.size // W):
        store(exponentials, i, exp(load(x, i)))
        store(logarithms, i, log(load(x, i)))


@njit
def arithmetic(a, b, out):
    x, y = load(a, 0), load(b, 0)
    store(out, 0, (2.0 * x - y / 3.0 + 1) * -x)
    store(out, 1, fma(x, y, 0.5))
    store(out, 2, select((x < y) & (y >= 0.0), x, y))
    store(out, 3, minimum(x, y))
    store(out, 4, maximum(x, 0.25))
    store(out, 5, sqrt(absolute(x)))


@njit
def places(doubles, singles, out):
    prefetch_at(doubles, 5)
    store_at(out, 1, load_at(doubles, 3) + load_at(singles, 2))
    store_at(singles, 0, load_at(doubles, 1))
    store_at(out, 1 + W, shifted(load_at(doubles, 0), load_at(doubles, W)))


def vectors(values):
    out = aligned(-(-len(values) // W))
    out[:] = 1.0
    out[: len(values)] = values
    return out


def evaluate(values):
    x = vectors(values)
    exponentials, logarithms = np.empty_like(x), np.empty_like(x)
    exponentials_and_logarithms(x, exponentials, logarithms)
    return exponentials[: len(values)], logarithms[: len(values)]


def test_arithmetic_is_that_of_numpy_in_every_lane():
    rng = np.random.default_rng(1)
    a, b, out = vectors(rng.normal(size=W)), vectors(rng.normal(size=W)), aligned(6)
    arithmetic(a, b, out)
    expected = [
        (2 * a - b / 3 + 1) * -a,
        a * b + 0.5,
        np.where((a < b) & (b >= 0), a, b),
        np.minimum(a, b),
        np.maximum(a, 0.25),
        np.sqrt(np.abs(a)),
    ]
    np.testing.assert_allclose(out.reshape(6, W), expected, rtol=4e-16, atol=4e-16)


def test_vectors_begin_at_any_element_of_double_and_single_arrays():
    rng = np.random.default_rng(2)
    doubles, singles, out = rng.normal(size=3 * W), rng.normal(size=2 * W).astype(np.float32), np.zeros(3 * W)
    before = singles.copy()
    places(doubles, singles, out)
    np.testing.assert_array_equal(out[1 : 1 + W], doubles[3 : 3 + W] + before[2 : 2 + W].astype(float))
    np.testing.assert_array_equal(singles[:W], doubles[1 : 1 + W].astype(np.float32))
    np.testing.assert_array_equal(singles[W:], before[W:])
    np.testing.assert_array_equal(out[1 + W : 1 + 2 * W], doubles[W - 1 : 2 * W - 1])
    assert out[0] == 0.0 and not out[1 + 2 * W :].any()


@pytest.mark.parametrize("array", [np.zeros((2, 4 * W)), np.zeros(8 * W)[::2]])
def test_arrays_that_are_not_flat_are_refused(array):
    out = np.zeros(4 * W)
    with pytest.raises(TypingError):
        places(array, np.zeros(2 * W, dtype=np.float32), out)


def test_exp_and_log_are_right_to_the_last_bits():
    x = np.linspace(-700.0, 700.0, 20_001)
    np.testing.assert_allclose(evaluate(x)[0], np.exp(x), rtol=6e-16, atol=0)
    y = np.exp(x)
    np.testing.assert_allclose(evaluate(y)[1], np.log(y), rtol=3e-16, atol=3e-16)


def test_exp_is_limited_where_doubles_end():
    ends, _ = evaluate(np.array([-1e4, 1e4]))
    np.testing.assert_allclose(ends, [math.exp(-708.0), math.exp(709.0)], rtol=1e-15, atol=0)


def test_nan_comes_through_and_infinity_is_no_number_to_a_logarithm():
    exponentials, logarithms = evaluate(SPECIAL)
    assert np.isnan(exponentials[0])
    assert np.isnan(logarithms).all()


def test_vectors_begin_where_a_line_of_the_cache_does():
    for n in range(1, 20):
        assert aligned(n).ctypes.data % 64 == 0


@njit
def all_positive(values):
    return everywhere(load(values, 0) > 0.0)


def test_what_holds_in_all_lanes_but_one_does_not_hold_everywhere():
    values = np.ones(W)
    assert all_positive(values)
    for lane in range(W):
        values[lane] = math.nan
        assert not all_positive(values)
        values[lane] = 1.0
