"""The step by CVODES against an uninterrupted Cantera reactor at tight tolerances; its conservation; its failures."""

import cantera as ct
import numpy as np
import pytest
from burning_gas import burning

from chemnet.gas import canonical, state
from chemnet.gas.mechanism import load_mechanism
from chemnet.gas.status import Status
from chemnet.kinetics.cvodes import CvodesReactor

DT = 1e-6


@pytest.fixture(scope="module")
def mechanism():
    return load_mechanism("drm19")


@pytest.fixture(scope="module")
def rows(mechanism):
    """Mixtures of unburnt and burnt gas from cold to burning, (12, 23)."""
    return burning(mechanism, 12)


def test_the_step_agrees_with_a_tight_integration(mechanism, rows):
    next_states, status = CvodesReactor(mechanism).advance(rows, DT)
    gas = mechanism.gas()
    for row, found in zip(rows, next_states, strict=True):
        gas.TPY = row[0], row[1], row[2:]
        reactor = ct.IdealGasConstPressureReactor(gas, clone=False)
        network = ct.ReactorNet([reactor])
        network.rtol, network.atol = 1e-11, 1e-17
        network.advance(DT)
        np.testing.assert_allclose(found[0], reactor.T, rtol=0, atol=2e-2)
        np.testing.assert_allclose(found[2:], gas.Y, rtol=0, atol=2e-6)
    assert np.all(status == Status.OK)


def test_elements_and_enthalpy_are_those_of_the_input_and_the_input_is_untouched(mechanism, rows):
    before = rows.copy()
    reactor = CvodesReactor(mechanism)
    next_states, _ = result = reactor.advance(rows, DT)
    lost = state.elements(next_states, mechanism) - state.elements(rows, mechanism)
    scale = state.heat_capacity(rows, mechanism) * rows[:, 0]
    gained = (state.enthalpy(next_states, mechanism) - state.enthalpy(rows, mechanism)) / scale
    np.testing.assert_allclose(lost, 0.0, rtol=0, atol=1e-12)
    np.testing.assert_allclose(gained, 0.0, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(next_states[:, 1], rows[:, 1])
    np.testing.assert_array_equal(rows, before)
    assert 1e-15 < result.stats.raw_drift.max() < 1e-5 and result.stats.n_steps is None


def test_results_are_bitwise_independent_of_order_company_and_workers(mechanism, rows):
    reactor = CvodesReactor(mechanism)
    together, _ = reactor.advance(rows, DT)
    order = np.random.default_rng(0).permutation(len(rows))
    np.testing.assert_array_equal(reactor.advance(rows[order], DT)[0], together[order])
    np.testing.assert_array_equal(np.vstack([reactor.advance(row[None], DT)[0] for row in rows]), together)
    many = np.tile(rows, (90, 1))
    shared, _ = CvodesReactor(mechanism, n_workers=2).advance(many, DT)
    np.testing.assert_array_equal(shared[-len(rows) :], together)


def test_a_row_that_the_integrator_gives_up_on_is_tried_again_and_then_flagged(mechanism, rows, monkeypatch):
    """The first row fails once, the second always: the integrator is replaced to fail on purpose."""
    import chemnet.kinetics.cvodes as module

    real, hopeless = module.integrate, rows[1, 0]

    def fails(gas, states, dt, rtol, atol, max_step, conditions):
        Y, seconds = real(gas, states, dt, rtol, atol, max_step, conditions)
        Y[(states[:, 0] == hopeless) | ((states[:, 0] == rows[0, 0]) & (max_step is None))] = np.nan
        return Y, seconds

    monkeypatch.setattr(module, "integrate", fails)
    found, status = result = CvodesReactor(mechanism).advance(rows[:3], DT)
    assert (result.stats.work > 1.0).all()
    assert status.tolist() == [Status.RETRIED, Status.FAILED, Status.OK]
    np.testing.assert_array_equal(found[1], rows[1])


def test_any_mechanism_runs():
    mechanism = load_mechanism("h2o2.yaml")
    row = np.hstack([1500.0, 2e5, canonical.premixed(mechanism, 1.0, {"H2": 1})])[None]
    next_states, status = CvodesReactor(mechanism).advance(row, 1e-5)
    assert status[0] == Status.OK and next_states[0, 0] > 1500.0
