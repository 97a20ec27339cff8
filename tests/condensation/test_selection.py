"""Forward selection of columns against brute force: every candidate is tried by numpy's least squares."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from chemnet.condensation.selection import Reader, forward_selection, shares, spanning_columns


def reader(columns, target):
    return Reader(columns.T @ columns, columns.T @ target, float(np.square(target).sum()))


def left_over(columns, target):
    """Share of the target's squares that no combination of the columns explains."""
    if columns.shape[1] == 0:
        return 1.0
    residual = target - columns @ np.linalg.lstsq(columns, target, rcond=None)[0]
    return float(np.square(residual).sum() / np.square(target).sum())


def brute_force(pairs, count):
    """Order of the columns and what is left after each, of the mean over the readers."""
    order, curve = [], [1.0]
    for _ in range(count):
        tried = {
            k: np.mean([left_over(columns[:, [*order, k]], target) for columns, target in pairs])
            for k in range(pairs[0][0].shape[1])
            if k not in order
        }
        order.append(min(tried, key=tried.__getitem__))
        curve.append(tried[order[-1]])
    return order, curve


def problem(seed, readers, columns=9, outputs=(4, 30)):
    rng = np.random.default_rng(seed)
    pairs = []
    for number in range(readers):
        a = rng.normal(size=(50, columns)) @ rng.normal(size=(columns, columns)) + 1.0
        pairs.append((a, a @ rng.normal(size=(columns, outputs[number])) + rng.normal(size=(50, outputs[number]))))
    return pairs


@pytest.mark.parametrize("readers", [1, 2])
@pytest.mark.parametrize("seed", range(6))
def test_each_column_is_the_one_that_leaves_least_to_all_readers(seed, readers):
    pairs = problem(seed, readers)
    expected, curve = brute_force(pairs, 9)
    order, left = forward_selection([reader(*pair) for pair in pairs], 9)
    assert order.tolist() == expected
    assert_allclose(left, curve, rtol=1e-5, atol=1e-6)


def test_readers_count_by_their_own_scale():
    (a, target), (b, other) = problem(0, 2)
    loud = [reader(a, target), reader(b, 1e3 * other)]
    assert forward_selection(loud, 9)[0].tolist() == brute_force([(a, target), (b, other)], 9)[0]


def test_columns_that_others_represent_come_last_and_leave_nothing():
    rng = np.random.default_rng(1)
    basis = rng.normal(size=(40, 3))
    columns = np.column_stack([basis, basis @ rng.normal(size=(3, 4))])[:, rng.permutation(7)]
    target = basis @ rng.normal(size=(3, 5))
    order, left = forward_selection([reader(columns, target)], 7)
    assert sorted(order) == list(range(7))
    assert_allclose(left[3:], 0.0, rtol=0, atol=1e-6)
    assert left[2] > 1e-3


def test_a_target_of_zeros_and_columns_of_zeros_are_no_trouble():
    columns = np.random.default_rng(2).normal(size=(20, 4))
    columns[:, 1] = 0.0
    order, left = forward_selection([reader(columns, np.zeros((20, 2)))], 4)
    assert sorted(order) == [0, 1, 2, 3] and left.tolist() == [0.0] * 5
    order, left = forward_selection([reader(np.zeros((20, 4)), columns)], 2)
    assert order.tolist() == [0, 1] and left.tolist() == [1.0] * 3


def test_more_steps_than_are_taken_at_once_do_not_change_the_result(monkeypatch):
    pairs = problem(3, 2, columns=12)
    readers = [reader(*pair) for pair in pairs]
    expected = forward_selection(readers, 12)
    monkeypatch.setattr("chemnet.condensation.selection._AT_ONCE", 3)
    order, left = forward_selection(readers, 12)
    assert order.tolist() == expected[0].tolist()
    assert_allclose(left, expected[1], rtol=1e-8, atol=1e-10)


def test_qr_takes_columns_that_span_the_others():
    rng = np.random.default_rng(2)
    basis = rng.normal(size=(100, 3))
    columns = np.column_stack([0.01 * basis @ rng.normal(size=(3, 5)), basis])
    assert sorted(spanning_columns(columns, 3)) == [5, 6, 7]


@pytest.mark.parametrize("ridge", [1e-8, 0.1])
def test_shares_solve_the_penalised_least_squares_problem(ridge):
    rng = np.random.default_rng(4)
    now, wanted, start = rng.normal(size=(30, 6)), rng.normal(size=(30, 6)), rng.normal(size=(6, 3))
    kept = np.array([0, 2, 5])
    penalty = np.sqrt(ridge * np.square(now[:, kept]).sum(axis=0).mean())
    rows = np.vstack([now[:, kept], penalty * np.eye(3)])
    expected = np.linalg.lstsq(rows, np.vstack([wanted, penalty * start.T]), rcond=None)[0].T
    got = shares(now.T @ now, now.T @ wanted, kept, start, ridge)
    assert_allclose(got, expected, rtol=1e-7, atol=1e-8)


def test_shares_of_silent_columns_stay_as_they_start():
    start = np.ones((4, 2))
    assert shares(np.zeros((4, 4)), np.zeros((4, 4)), np.array([1, 3]), start, 1e-3).tolist() == start.tolist()
