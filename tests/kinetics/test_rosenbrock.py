"""The exact step: against CVODES at tight tolerances, its order, its conservation, bad input."""

import os
import pickle
import subprocess
import sys

import cantera as ct
import numpy as np
import pytest
from burning_gas import FUELS, HEAVY, burning, dodecane

from chemnet.gas import canonical, state
from chemnet.gas.mechanism import Mechanism, load_mechanism
from chemnet.gas.status import Status
from chemnet.kinetics import RosenbrockReactor
from chemnet.kinetics.cvodes import CvodesReactor
from chemnet.runtime.errors import UsageError

DT = 1e-6


@pytest.fixture(scope="module")
def drm19():
    return load_mechanism("drm19")


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    return dodecane(tmp_path_factory.mktemp("dodecane"))


def anything(mechanism, n, seed=7):
    """Random valid states: 200-3500 K, 0.1-40 atm, mass fractions uniform on the simplex."""
    rng = np.random.default_rng(seed)
    P = ct.one_atm * np.exp(rng.uniform(np.log(0.1), np.log(40.0), n))
    return np.column_stack([rng.uniform(200.0, 3500.0, n), P, rng.dirichlet(np.ones(mechanism.n_species), n)])


@pytest.mark.parametrize("name", FUELS)
@pytest.mark.parametrize("dt", [1e-8, 1e-6, 1e-4])
@pytest.mark.parametrize("pressure", [0.1, 40.0])
def test_the_step_is_as_near_to_the_truth_as_cvodes(name, dt, pressure):
    mechanism = load_mechanism(name)
    rows = burning(mechanism, 16, pressure * ct.one_atm)
    truth, _ = CvodesReactor(mechanism, 1e-10, 1e-16).advance(rows, dt)
    found, status = RosenbrockReactor(mechanism).advance(rows, dt)
    assert np.all(status == Status.OK)
    np.testing.assert_allclose(found[:, 0], truth[:, 0], rtol=0, atol=5e-2)
    np.testing.assert_allclose(found[:, 2:], truth[:, 2:], rtol=0, atol=5e-6)
    tight, _ = RosenbrockReactor(mechanism, 1e-8, 1e-14).advance(rows, dt)
    np.testing.assert_allclose(tight[:, 0], truth[:, 0], rtol=0, atol=5e-4)
    np.testing.assert_allclose(tight[:, 2:], truth[:, 2:], rtol=0, atol=5e-8)


@pytest.mark.parametrize("pressure", [1.0, 20.0])
def test_so_is_that_of_a_gas_with_a_sparse_jacobian(large, pressure):
    rows = burning(large, 16, pressure * ct.one_atm, HEAVY)
    truth, _ = CvodesReactor(large, 1e-10, 1e-16).advance(rows, DT)
    found, status = result = RosenbrockReactor(large, 1e-8, 1e-14).advance(rows, DT)
    assert np.all(status == Status.OK)
    assert result.stats.handed_over == 0
    np.testing.assert_allclose(found[:, 0], truth[:, 0], rtol=0, atol=5e-4)
    np.testing.assert_allclose(found[:, 2:], truth[:, 2:], rtol=0, atol=5e-8)


def test_halving_the_step_divides_the_error_by_two_to_the_order(drm19):
    start = np.hstack([1600.0, 10 * ct.one_atm, canonical.premixed(drm19, 1.0, FUELS["drm19"])])[None]
    tight, one_step = RosenbrockReactor(drm19, 1e-10, 1e-18), RosenbrockReactor(drm19, 1e-2, 1e2)
    interval = 8e-6
    igniting = tight.advance(start, 2e-5)[0]
    truth = tight.advance(igniting, interval)[0]
    errors = []
    for parts in (2, 4, 8):
        states = igniting
        for _ in range(parts):
            result = one_step.advance(states, interval / parts)
            states = result.states
            assert result.stats.n_steps[0] == 1
        errors.append(np.abs(states - truth)[0, 2:].max())
    np.testing.assert_allclose(np.log2(np.divide(errors[:-1], errors[1:])), 5.0, rtol=0, atol=0.2)


@pytest.mark.parametrize("name", FUELS)
def test_elements_and_enthalpy_of_random_states_are_kept_and_none_is_given_up(name):
    mechanism = load_mechanism(name)
    check_random_states(mechanism, 300, RosenbrockReactor(mechanism))


@pytest.mark.slow
def test_a_million_random_states_are_advanced():
    mechanism = load_mechanism("drm19")
    reactor = RosenbrockReactor(mechanism, n_threads=2)
    for seed in range(10):
        check_random_states(mechanism, 100_000, reactor, seed)


def check_random_states(mechanism, n, reactor, seed=7):
    rows = anything(mechanism, n, seed)
    before = rows.copy()
    found, status = result = reactor.advance(rows, DT)
    assert np.all(status == Status.OK)
    assert result.stats.handed_over == 0
    np.testing.assert_array_equal(rows, before)
    np.testing.assert_array_equal(found[:, 1], rows[:, 1])
    assert found[:, 2:].min() >= 0.0
    lost = state.elements(found, mechanism) - state.elements(rows, mechanism)
    gained = state.enthalpy(found, mechanism) - state.enthalpy(rows, mechanism)
    np.testing.assert_allclose(lost, 0.0, rtol=0, atol=1e-14)
    np.testing.assert_allclose(gained / (state.heat_capacity(found, mechanism) * found[:, 0]), 0.0, rtol=0, atol=1e-12)


def test_results_are_bitwise_independent_of_order_company_and_threads(drm19):
    rows = np.concatenate([burning(drm19, 500), anything(drm19, 100)])
    found, _ = RosenbrockReactor(drm19).advance(rows, DT)
    order = np.random.default_rng(2).permutation(len(rows))
    np.testing.assert_array_equal(RosenbrockReactor(drm19).advance(rows[order], DT)[0], found[order])
    np.testing.assert_array_equal(RosenbrockReactor(drm19, n_threads=3).advance(rows, DT)[0], found)
    for i in (0, 17, 555):
        np.testing.assert_array_equal(RosenbrockReactor(drm19).advance(rows[i : i + 1], DT)[0][0], found[i])


def test_the_same_holds_where_the_jacobian_is_sparse(large):
    rows = burning(large, 60, mixture=HEAVY)
    found, _ = RosenbrockReactor(large).advance(rows, DT)
    np.testing.assert_array_equal(RosenbrockReactor(large).advance(rows[::-1], DT)[0], found[::-1])
    np.testing.assert_array_equal(RosenbrockReactor(large).advance(rows[17:18], DT)[0][0], found[17])


@pytest.mark.parametrize("name", [*FUELS, "dodecane"])
def test_what_a_lane_held_before_does_not_matter(name, large):
    """One cell's NaN once stayed in the unit row that makes the matrices' order even, and spoilt all that followed."""
    mechanism = large if name == "dodecane" else load_mechanism(name)
    rows = burning(mechanism, 40, mixture=HEAVY if mechanism is large else None)
    reactor = RosenbrockReactor(mechanism)
    found, _ = reactor.advance(rows, DT)
    for part in reactor._memories[0][:3]:
        for array in part:
            array.fill(np.nan)
    again, status = reactor.advance(rows, DT)
    assert np.all(status == Status.OK)
    np.testing.assert_array_equal(again, found)


def test_what_the_integrator_gives_up_is_left_to_cvodes_and_counted(drm19, monkeypatch):
    """At a tolerance below round-off no step is good enough; CVODES is given an easier one here."""
    monkeypatch.setattr(
        "chemnet.kinetics.rosenbrock_reactor.CvodesReactor", lambda mechanism, *_, **__: CvodesReactor(mechanism)
    )
    rows = burning(drm19, 20)[12:16]
    reactor = RosenbrockReactor(drm19, rtol=1e-18, atol=1e-30)
    next_states, status = result = reactor.advance(rows, DT)
    assert np.all(status == Status.RETRIED)
    assert result.stats.handed_over == 4
    assert (result.stats.work > result.stats.n_steps).all()
    np.testing.assert_array_equal(next_states, CvodesReactor(drm19).advance(rows, DT)[0])


def test_wrong_tolerances_and_threads_are_refused(drm19):
    for bad in ({"rtol": 0.0}, {"atol": -1.0}, {"rtol": np.nan}, {"n_threads": 0}):
        with pytest.raises(UsageError, match=next(iter(bad))):
            RosenbrockReactor(drm19, **bad)


@pytest.mark.parametrize("pressure", [0.1, 40.0])
def test_a_row_has_a_pressure_of_its_own(drm19, pressure):
    rows = burning(drm19, 40)
    rows[::2, 1] = pressure * ct.one_atm
    found, _ = RosenbrockReactor(drm19).advance(rows, DT)
    np.testing.assert_array_equal(RosenbrockReactor(drm19).advance(rows[::2], DT)[0], found[::2])
    np.testing.assert_array_equal(found[:, 1], rows[:, 1])


ELSEWHERE = """
import sys, numpy as np
from chemnet.kinetics import RosenbrockReactor
from chemnet.gas.mechanism import load_mechanism
rows = np.load(sys.argv[1])
np.save(sys.argv[2], RosenbrockReactor(load_mechanism("drm19")).advance(rows, 1e-6)[0])
"""


@pytest.mark.slow
@pytest.mark.parametrize("processor", ["x86-64", "haswell"])
def test_older_processors_give_the_same_states(drm19, tmp_path, processor):
    """SSE2 and AVX2 in place of what this machine has; they fuse products otherwise, so not to the bit."""
    rows = burning(drm19, 200)
    np.save(tmp_path / "rows.npy", rows)
    chosen = {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-c", ELSEWHERE, str(tmp_path / "rows.npy"), str(tmp_path / "found.npy")]
    subprocess.run(command, env=os.environ | chosen, check=True, timeout=300)
    found, _ = RosenbrockReactor(drm19).advance(rows, DT)
    np.testing.assert_allclose(np.load(tmp_path / "found.npy")[:, 0], found[:, 0], rtol=1e-9, atol=0)
    np.testing.assert_allclose(np.load(tmp_path / "found.npy")[:, 2:], found[:, 2:], rtol=0, atol=1e-11)


def test_kernels_are_cached_so_that_a_second_process_does_not_compile(drm19, tmp_path):
    np.save(tmp_path / "rows.npy", burning(drm19, 3))
    RosenbrockReactor(drm19).advance(burning(drm19, 3), DT)
    command = [sys.executable, "-c", ELSEWHERE, str(tmp_path / "rows.npy"), str(tmp_path / "found.npy")]
    second = subprocess.run(command, check=True, timeout=300, capture_output=True, text=True)
    assert "compiling" not in second.stderr


def test_rows_handed_over_share_one_reactor_of_cvodes(monkeypatch):
    reactor = RosenbrockReactor(load_mechanism("h2o2.yaml"))
    states = np.tile(np.r_[1200.0, 101325.0, np.full(10, 0.1)], (2, 1))
    made = []
    monkeypatch.setattr(Mechanism, "gas", lambda self: made.append(self) or ct.Solution(self.source, self.phase))
    for _ in range(2):
        next_states, status = states.copy(), np.full(2, Status.FAILED, np.int8)
        reactor._hand_over(states, np.arange(2), 1e-6, next_states, status)
        assert list(status) == [Status.RETRIED] * 2
    assert len(made) == 1
    again = pickle.loads(pickle.dumps(reactor))
    np.testing.assert_array_equal(again.advance(states, 1e-6).states, reactor.advance(states, 1e-6).states)
