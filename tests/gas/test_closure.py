"""The closure: elements, enthalpy and positivity hold to round-off for any raw prediction, or the row is flagged."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chemnet.gas import canonical, state
from chemnet.gas.closure import Closure
from chemnet.gas.mechanism import load_mechanism

MECHANISM = load_mechanism("drm19")


def close(rows, Y_raw):
    next_states = np.empty_like(rows)
    ok, drift = Closure(MECHANISM).close(rows, np.ascontiguousarray(Y_raw), next_states)
    return next_states, ok, drift


def flame_like_states(n, rng):
    gas = MECHANISM.gas()
    rows = []
    for _ in range(n):
        cold = np.hstack([rng.uniform(300, 900), 1e5, canonical.premixed(MECHANISM, rng.uniform(0.4, 2.0), {"CH4": 1})])
        hot, share = canonical.burnt(gas, cold), rng.random()
        rows.append(share * cold + (1 - share) * hot)
    return np.array(rows)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), noise=st.sampled_from([1e-8, 1e-3, 0.1, 1.0]))
def test_elements_enthalpy_and_positivity_hold_for_any_prediction(seed, noise):
    rng = np.random.default_rng(seed)
    rows = flame_like_states(8, rng)
    Y_raw = rows[:, 2:] * np.exp(noise * rng.standard_normal((8, 21))) - 1e-3 * noise * rng.random((8, 21))
    next_states, ok, _ = close(rows, Y_raw)
    assert ok.all()
    assert next_states[:, 2:].min() >= 0.0
    lost = state.elements(next_states, MECHANISM) - state.elements(rows, MECHANISM)
    gained = state.enthalpy(next_states, MECHANISM) - state.enthalpy(rows, MECHANISM)
    np.testing.assert_allclose(lost, 0.0, rtol=0, atol=1e-13)
    np.testing.assert_allclose(gained / (rows[:, 0] * 1e3), 0.0, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(next_states[:, 1], rows[:, 1])
    np.testing.assert_array_equal(next_states[:, 2 + MECHANISM.index("N2")], rows[:, 2 + MECHANISM.index("N2")])


def test_a_prediction_that_already_conserves_is_left_as_it_is():
    rows = flame_like_states(20, np.random.default_rng(3))
    next_states, ok, drift = close(rows, rows[:, 2:])
    assert ok.all() and drift.max() <= 1e-15
    np.testing.assert_allclose(next_states[:, 2:], rows[:, 2:], rtol=1e-12, atol=0)
    np.testing.assert_allclose(next_states[:, 0], rows[:, 0], rtol=1e-12, atol=0)


def test_the_correction_is_the_least_change_in_the_weighted_norm():
    """Oracle: the normal equations of the weighted least-squares problem, solved densely."""
    rng = np.random.default_rng(4)
    rows = flame_like_states(10, rng)
    Y_raw = rows[:, 2:] * np.exp(1e-3 * rng.standard_normal((10, 21)))
    next_states, _, _ = close(rows, Y_raw)
    reactive = ~MECHANISM.inert
    E = MECHANISM.element_mass[:3, reactive]
    for row, raw, found in zip(rows, Y_raw, next_states, strict=True):
        W = np.diag(raw[reactive] ** 1.75)
        correction = W @ E.T @ np.linalg.solve(E @ W @ E.T, E @ (row[2:] - raw)[reactive])
        np.testing.assert_allclose(found[2:][reactive], raw[reactive] + correction, rtol=1e-7, atol=1e-12)


def test_traces_of_radicals_in_fuel_and_air_do_not_spoil_the_closure():
    """Carbon and hydrogen are then in fixed proportion but for the traces, and E W E^T is nearly singular."""
    rng = np.random.default_rng(5)
    rows = np.tile(np.hstack([1100.0, 1e5, canonical.premixed(MECHANISM, 1.0, {"CH4": 1})]), (50, 1))
    rows[:, 2:] += (10.0 ** rng.uniform(-14, -7, (50, 21))) * ~MECHANISM.inert
    Y_raw = rows[:, 2:] * np.exp(1e-3 * rng.standard_normal((50, 21)))
    next_states, ok, _ = close(rows, Y_raw)
    assert ok.all()
    lost = state.elements(next_states, MECHANISM) - state.elements(rows, MECHANISM)
    np.testing.assert_allclose(lost, 0.0, rtol=0, atol=1e-15)
    moved = np.abs(next_states[:, 2:] - rows[:, 2:]) > 0
    assert moved.any(axis=1).all()


@pytest.mark.parametrize("mixture", ["pure air", "pure fuel"])
def test_absent_elements_are_no_problem(mixture):
    species = {"pure air": {"O2": 0.233, "N2": 0.767}, "pure fuel": {"CH4": 1.0}}[mixture]
    row = np.zeros((1, 23))
    row[0, :2] = 800.0, 1e5
    for name, Y in species.items():
        row[0, 2 + MECHANISM.index(name)] = Y
    next_states, ok, _ = close(row, row[:, 2:])
    assert ok.all()
    np.testing.assert_allclose(next_states, row, rtol=1e-12, atol=0)


def test_a_prediction_of_nan_is_flagged_and_the_state_stays():
    rows = flame_like_states(3, np.random.default_rng(6))
    Y_raw = rows[:, 2:].copy()
    Y_raw[1, 4] = np.nan
    next_states, ok, _ = close(rows, Y_raw)
    assert ok.tolist() == [True, False, True]
    np.testing.assert_array_equal(next_states[1], rows[1])
