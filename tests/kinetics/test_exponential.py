"""The step of calm gas: its weights against exp, its order, its error against tight steps, its independence."""

import cantera as ct
import numpy as np
import pytest
from burning_gas import FUELS, burning

from chemnet.gas import canonical, state
from chemnet.gas.mechanism import load_mechanism
from chemnet.gas.status import Status
from chemnet.kinetics import CvodesReactor, RosenbrockReactor
from chemnet.kinetics.exponential import EXPRB32, CalmTolerances
from chemnet.runtime.errors import UsageError

DT = 1e-6
PAIRS = (1e-4, 1e-9), (1e-2, 1e-7), (1e-7, 1e-12)  # rtol, atol


@pytest.fixture(scope="module")
def drm19():
    return load_mechanism("drm19")


def relaxing(mechanism, n):
    """Mixtures of two burnt gases of neighbouring equivalence ratios, 20 us later (n, 2 + K)."""
    gas, fuel = mechanism.gas(), FUELS[mechanism.name]
    Y = [canonical.premixed(mechanism, phi, fuel) for phi in np.linspace(0.5, 1.5, n + 1)]
    burnt = np.array([canonical.burnt(gas, np.hstack([800.0, ct.one_atm, row])) for row in Y])
    return RosenbrockReactor(mechanism, 1e-8, 1e-14).advance(0.5 * (burnt[1:] + burnt[:-1]), 2e-5)[0]


def weighted(weights, z):
    """gamma sum_k w_k S^k(z), S = 1/(1 - gamma z)."""
    S = 1.0 / (1.0 - EXPRB32.gamma * z)
    return EXPRB32.gamma * sum(w * S ** (k + 1) for k, w in enumerate(weights))


@pytest.mark.parametrize(("weights", "order", "error"), [(EXPRB32.b, 4, 5e-4), (EXPRB32.b - EXPRB32.e, 3, 2e-3)])
def test_the_weights_make_an_exponential_that_is_exact_to_their_order_and_stable(weights, order, error):
    small = np.array([-0.02, -0.04])
    errors = np.abs(1.0 + small * weighted(weights, small) - np.exp(small))
    np.testing.assert_allclose(np.log2(errors[1] / errors[0]), order + 1, rtol=0, atol=0.15)
    stiff = -np.geomspace(1e-3, 1e7, 2000)
    np.testing.assert_allclose(1.0 + stiff * weighted(weights, stiff), np.exp(stiff), rtol=0, atol=error)
    turned = -stiff * np.exp(1j * np.deg2rad(180.0 - 89.0))
    assert np.abs(1.0 + turned * weighted(weights, turned)).max() <= 1.0
    np.testing.assert_allclose(1.0 - 1e9 * weighted(weights, -1e9), 0.0, rtol=0, atol=1e-7)


def test_the_correction_is_two_phi_3_at_zero_and_at_infinity():
    np.testing.assert_allclose(weighted(EXPRB32.d, 0.0), 1 / 3, rtol=1e-14, atol=0)
    np.testing.assert_allclose(weighted(EXPRB32.d, -1e9) * 1e9, 1.0, rtol=1e-7, atol=0)


def test_halving_the_step_divides_the_error_by_two_to_the_third_power(drm19):
    """Shortly before ignition: gas that is nearer to its end shows errors of round-off only."""
    fresh = np.hstack([1500.0, ct.one_atm, canonical.premixed(drm19, 1.0, FUELS["drm19"])])[None]
    tight, calm_step = RosenbrockReactor(drm19, 1e-11, 1e-19), RosenbrockReactor(drm19)
    igniting, interval = tight.advance(fresh, 1.2e-3)[0], 4e-6
    truth = tight.advance(igniting, interval)[0]
    errors = []
    for parts in (8, 16, 32):
        states = igniting
        for _ in range(parts):
            result = calm_step.advance(states, interval / parts)
            states = result.states
            assert result.stats.calm[0]
        errors.append(np.abs(states - truth)[0, 2:].max())
    np.testing.assert_allclose(np.log2(np.divide(errors[:-1], errors[1:])), 3.0, rtol=0, atol=0.25)


@pytest.mark.parametrize("name", FUELS)
def test_calm_gas_takes_one_step_that_is_nearer_to_the_truth_than_cvodes(name):
    mechanism = load_mechanism(name)
    rows = relaxing(mechanism, 40)
    truth, _ = CvodesReactor(mechanism, 1e-10, 1e-16).advance(rows, DT)
    usual, _ = CvodesReactor(mechanism).advance(rows, DT)
    found, status = result = RosenbrockReactor(mechanism).advance(rows, DT)
    calm = result.stats.calm
    assert np.all(status == Status.OK)
    assert calm.mean() > 0.9
    assert np.all(result.stats.n_steps[calm] == 1)
    assert np.all(result.stats.work[calm] < 1.0)
    for columns in (slice(0, 1), slice(2, None)):
        error, allowed = (np.abs(states - truth)[calm, columns].max() for states in (found, usual))
        assert error < allowed
    lost = state.elements(found, mechanism) - state.elements(rows, mechanism)
    gained = state.enthalpy(found, mechanism) - state.enthalpy(rows, mechanism)
    np.testing.assert_allclose(lost, 0.0, rtol=0, atol=1e-14)
    np.testing.assert_allclose(gained / (state.heat_capacity(found, mechanism) * found[:, 0]), 0.0, rtol=0, atol=1e-12)


def test_a_calm_row_is_bitwise_the_same_in_any_company(drm19):
    """Rows of all kinds in one block: calm and linear, calm and corrected, refused at once, refused by the estimate."""
    rows = np.concatenate([relaxing(drm19, 60), burning(drm19, 60)])
    reactor = RosenbrockReactor(drm19)
    found, _ = result = reactor.advance(rows, DT)
    assert 0.2 < result.stats.calm.mean() < 0.9
    order = np.random.default_rng(3).permutation(len(rows))
    np.testing.assert_array_equal(reactor.advance(rows[order], DT)[0], found[order])
    np.testing.assert_array_equal(RosenbrockReactor(drm19, n_threads=2).advance(rows[order], DT)[0], found[order])
    alone = np.concatenate([reactor.advance(row[None], DT)[0] for row in rows])
    np.testing.assert_array_equal(alone, found)


def test_steps_of_calm_gas_are_no_larger_at_looser_tolerances_and_smaller_at_tighter_ones(drm19):
    rows = np.concatenate([relaxing(drm19, 60), burning(drm19, 60)])
    usual, loose, tight = (RosenbrockReactor(drm19, *pair).advance(rows, DT) for pair in PAIRS)
    calm = usual.stats.calm
    np.testing.assert_array_equal(loose.stats.calm, calm)
    np.testing.assert_array_equal(loose.states[calm], usual.states[calm])
    assert tight.stats.calm.sum() < calm.sum()
    assert not np.any(tight.stats.calm & ~calm)


def test_calm_rows_can_be_advanced_alone_and_at_tolerances_of_their_own(drm19):
    """Along an ignition. Looser ones take more rows, to within a tenth of them; with a part of the change, nine in ten,
    to within a third of it."""
    start = np.hstack([1400.0, ct.one_atm, canonical.premixed(drm19, 1.0, FUELS["drm19"])])
    rows = np.maximum(canonical.ignition_path(drm19.gas(), start)[1], 0.0)
    rows[7, 5] = np.nan
    truth, _ = RosenbrockReactor(drm19, 1e-9, 1e-15).advance(rows, DT)
    change, share = np.abs(truth - rows), 0.0
    for tolerances in (CalmTolerances(1e-4, 1e-9), CalmTolerances(1e-3, 1e-8), CalmTolerances(0.1, 1e-6, 0.03, 30.0)):
        reactor = RosenbrockReactor(drm19, calm=tolerances)
        next_states, calm = reactor.advance_calm(rows, DT)
        result = reactor.advance(rows, DT)
        np.testing.assert_array_equal(calm, result.stats.calm)
        np.testing.assert_array_equal(next_states, np.where(calm[:, None], result.states, rows))
        allowed = 0.01 * (tolerances.rtol * truth + tolerances.atol) + 0.3 * tolerances.change * change
        assert np.all((np.abs(next_states - truth) <= allowed)[calm, 2:])
        assert calm.mean() > share + 0.05
        share = calm.mean()
    assert share > 0.85
    with pytest.raises(UsageError, match="must be finite and positive"):
        RosenbrockReactor(drm19, calm=CalmTolerances(0.0, 1e-9))


def test_errors_of_calm_steps_do_not_add_up(drm19):
    """Burnt gas half way to its equilibrium."""
    states = rows = relaxing(drm19, 20)
    tight, reactor = RosenbrockReactor(drm19, 1e-9, 1e-15), RosenbrockReactor(drm19)
    for _ in range(200):
        states, status = reactor.advance(states, DT)
        assert np.all(status == Status.OK)
    truth = tight.advance(rows, 200 * DT)[0]
    np.testing.assert_allclose(states[:, 0], truth[:, 0], rtol=0, atol=1e-8)
    np.testing.assert_allclose(states[:, 2:], truth[:, 2:], rtol=0, atol=1e-11)
    np.testing.assert_allclose(state.elements(states, drm19), state.elements(rows, drm19), rtol=0, atol=1e-12)
