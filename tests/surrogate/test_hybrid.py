"""Which step computes a row: slow gas and what a model leaves go to integrators, everything else to the network."""

import cantera as ct
import numpy as np
import pytest
import reaction_zoo
from tiny_model import save_tiny_model

from chemnet.gas import canonical
from chemnet.gas.mechanism import load_mechanism
from chemnet.gas.solution_array import states_of
from chemnet.gas.status import Status
from chemnet.kinetics import CvodesReactor, RosenbrockReactor, StepResult
from chemnet.kinetics.exponential import WIDEST, CalmTolerances
from chemnet.runtime.errors import UsageError
from chemnet.surrogate.hybrid import HybridStep, slow_step
from chemnet.surrogate.model import Surrogate

MECHANISM = load_mechanism("drm19")
LOOSE = RosenbrockReactor(MECHANISM, 1e-2, 1e-7, calm=CalmTolerances(0.1, 1e-6, 0.03, 30.0))


@pytest.fixture(scope="module")
def rows(states):
    """Cold gas, some of it beyond the domain; gas that is left; invalid rows; and what the network answers for."""
    rows = states.copy()
    rows[:3, 0], rows[0, 1], rows[1, 5] = 400.0, 5e5, np.nan
    rows[3:6, 0], rows[3:5, 1], rows[5, 5] = 1500.0, 5e5, np.nan
    return rows


@pytest.fixture(scope="module")
def burnt():
    """Gas in equilibrium, which the integrator takes as calm."""
    gas, phis = MECHANISM.gas(), np.linspace(0.7, 1.3, 20)
    fresh = [np.hstack([300.0, 1e5, canonical.premixed(MECHANISM, phi, {"CH4": 1.0})]) for phi in phis]
    return np.array([canonical.burnt(gas, state) for state in fresh])


@pytest.mark.parametrize("limits", [(900.0, 0.0), (0.0, 0.065), (900.0, 0.065)])
def test_slow_gas_is_integrated_at_loose_tolerances_and_alone_as_in_company(surrogate, rows, burnt, limits):
    """By the model's limits, or by those that are given in their place; with a limit of calm gas, what the integrator
    takes as calm, too."""
    rows = np.vstack([rows, burnt])
    _, expected_status = surrogate.with_limits(*limits).advance(rows)
    calm = LOOSE.advance_calm(rows, 1e-6)[1] if limits[1] else np.zeros(len(rows), np.bool_)
    slow = calm | (expected_status == Status.SLOW)
    assert 20 < slow.sum() < 280
    assert calm.any() == (limits[1] > 0.0)
    steps = [HybridStep(surrogate.with_limits(*limits), outside="error"),
             HybridStep(surrogate, cold_limit=limits[0], calm_limit=limits[1], outside="error")]  # fmt: skip
    for step in steps:
        next_states, status = result = step.advance(rows)
        np.testing.assert_array_equal(next_states[slow], LOOSE.advance(rows[slow], 1e-6)[0])
        np.testing.assert_array_equal(next_states[~slow], surrogate.advance(rows[~slow])[0])
        np.testing.assert_array_equal(status, np.where(slow, Status.OK, expected_status))
        np.testing.assert_array_equal(result.stats.slow, slow)
        alone = np.vstack([step.advance(row[None]).states for row in rows[:20]])
        np.testing.assert_array_equal(alone, next_states[:20])


@pytest.mark.parametrize("outside", ["exact", "cvode", "freeze", "error"])
def test_rows_that_the_network_leaves_are_up_to_outside(surrogate, rows, outside):
    next_states, status = result = HybridStep(surrogate, outside=outside).advance(rows)
    of_model, expected = surrogate.advance(rows)
    left = expected == Status.OUTSIDE
    assert left.sum() == 3
    np.testing.assert_array_equal(result.stats.left, left)
    if outside in ("exact", "cvode"):
        integrator = {"exact": RosenbrockReactor, "cvode": CvodesReactor}[outside](MECHANISM)
        of_model[left] = integrator.advance(rows[left], 1e-6)[0]
    np.testing.assert_array_equal(next_states, of_model)
    np.testing.assert_array_equal(status, expected if outside == "error" else np.where(left, Status.OK, expected))
    assert (status[[1, 5]] == Status.INVALID).all() and result.stats.integrated == 0


class Failing:
    """A model, or an integrator, that gives every row one status."""

    calm_limit = 0.0
    calm_first = None

    def __init__(self, status):
        self.status, self.mechanism, self.dt = status, MECHANISM, 1e-6

    def with_limits(self, *_):
        return self

    def advance(self, states, dt=None):
        return StepResult(states.copy(), np.full(len(states), self.status, np.int8))


def test_a_row_that_both_network_and_loose_integrator_fail_on_goes_outside(rows):
    valid = rows[10:15]
    expected, _ = RosenbrockReactor(MECHANISM).advance(valid, 1e-6)
    for model, integrator in ((Status.FAILED, None), (Status.SLOW, Failing(Status.FAILED))):
        result = HybridStep(Failing(model), integrator).advance(valid)
        assert (result.status == Status.OK).all() and result.stats.left.all()
        np.testing.assert_array_equal(result.states, expected)


def test_rows_that_the_exact_step_hands_over_are_counted(surrogate, rows, monkeypatch):
    """At a tolerance below round-off no step is good enough; CVODES takes the rows at its own tolerances."""
    outside = RosenbrockReactor(MECHANISM, 1e-18, 1e-30)
    monkeypatch.setattr(
        "chemnet.kinetics.rosenbrock_reactor.CvodesReactor", lambda mechanism, *_, **__: CvodesReactor(mechanism)
    )
    result = HybridStep(surrogate, outside=outside).advance(rows)
    assert result.stats.handed_over == result.stats.left.sum() == 3
    assert (result.status[result.stats.left] == Status.RETRIED).all()
    assert (result.stats.work[result.stats.left] > 50.0).all()


def test_the_work_of_a_row_is_that_of_the_network_and_of_the_integrator_that_took_it(surrogate, rows):
    result = HybridStep(surrogate, cold_limit=900.0, outside="error").advance(rows)
    slow = result.stats.slow
    work = LOOSE.advance(rows[slow], 1e-6).stats.work
    np.testing.assert_allclose(result.stats.work[slow], 0.5 + work, rtol=1e-12, atol=0.0)
    np.testing.assert_allclose(result.stats.work[~slow], 0.5, rtol=1e-12, atol=0.0)


class Watched(Failing):
    """A model that answers every row, and counts the rows of each call in `asked`."""

    calm_limit = 0.01

    def __init__(self, mechanism=MECHANISM):
        super().__init__(Status.OK)
        self.mechanism, self.asked = mechanism, []

    def advance(self, states, dt=None):
        self.asked.append(len(states))
        return super().advance(states, dt)


def test_calm_rows_cost_less_than_the_network_which_never_sees_them(rows, burnt):
    rows, model = np.vstack([rows, burnt]), Watched()
    stats = HybridStep(model).advance(rows).stats
    _, calm = LOOSE.advance_calm(rows, 1e-6)
    assert calm.sum() >= len(burnt)
    assert model.asked == [len(rows) - calm.sum()]
    np.testing.assert_array_equal(stats.slow, calm)
    assert stats.work[calm].max() < stats.work[~calm].min()


def test_in_a_large_mechanism_the_network_is_asked_first():
    """There its answer is cheaper than a Jacobian and its factors."""
    model = Watched(load_mechanism("gri30.yaml"))
    fresh = np.hstack([300.0, 1e5, canonical.premixed(model.mechanism, 1.0, {"CH4": 1.0})])
    burnt = canonical.burnt(model.mechanism.gas(), fresh)
    assert RosenbrockReactor(model.mechanism).advance_calm(burnt[None], 1e-6)[1].all()
    assert not HybridStep(model).advance(burnt[None]).stats.slow.any()
    assert model.asked == [1]
    model.calm_first = "usual"  # as a model whose errors would add up says
    assert HybridStep(model).advance(burnt[None]).stats.slow.all()
    assert model.asked == [1, 0]


def test_in_a_large_mechanism_an_answer_that_the_rates_do_not_bear_out_is_integrated():
    """The network says that nothing happens; in half of the rows it burns at 50 K a step."""
    model = Watched(load_mechanism("gri30.yaml"))
    fresh = np.hstack([2300.0, 1e5, canonical.premixed(model.mechanism, 1.0, {"CH4": 1.0})])
    exact = RosenbrockReactor(model.mechanism)
    burning = exact.advance(fresh[None], 8e-6).states[0]
    rows = np.array([canonical.burnt(model.mechanism.gas(), fresh), burning])
    result = HybridStep(model).advance(rows)
    after = result.states
    assert model.asked == [2] and result.stats.slow.tolist() == [False, True]
    assert (result.status == Status.OK).all()
    np.testing.assert_array_equal(after[0], rows[0])
    expected = exact.advance(rows[1:], 1e-6).states
    assert expected[0, 0] > burning[0] + 20.0
    np.testing.assert_allclose(after[1:, 0], expected[:, 0], rtol=1e-4, atol=0.0)


def test_an_answer_for_the_fastest_gas_is_checked_in_a_small_mechanism_too():
    """The network says that nothing happens."""
    reactor = RosenbrockReactor(MECHANISM)
    fresh = np.hstack([2600.0, 1e5, canonical.premixed(MECHANISM, 1.0, {"CH4": 1.0})])[None]
    expected = reactor.advance(fresh, 1e-6)
    assert not slow_step(MECHANISM, WIDEST).advance_calm(fresh, 1e-6)[1].any()
    for order, taken in (("usual", fresh), ("widest", expected.states)):
        model = Watched()
        model.calm_first = order
        after, _ = HybridStep(model).advance(fresh)
        assert model.asked == [1]
        np.testing.assert_allclose(after[:, 0], taken[:, 0], rtol=1e-4, atol=0.0)


def test_a_model_may_leave_nearly_all_gas_to_one_exponential_step():
    """Along an ignition at 2200 K."""
    reactor = RosenbrockReactor(MECHANISM)
    path = [np.hstack([2200.0, 1e5, canonical.premixed(MECHANISM, 1.0, {"CH4": 1.0})])]
    for _ in range(30):
        path.append(reactor.advance(path[-1][None], 1e-6).states[0])
    asked = {}
    for order in ("usual", "widest"):
        model = Watched()
        model.calm_first = order
        HybridStep(model).advance(np.array(path))
        asked[order] = model.asked[0]
    _, calm = slow_step(MECHANISM, WIDEST).advance_calm(np.array(path), 1e-6)
    assert asked["widest"] == len(path) - calm.sum() < asked["usual"]


def test_a_model_may_have_its_network_asked_first(burnt):
    model = Watched()
    model.calm_first = "never"
    assert not HybridStep(model).advance(burnt).stats.slow.any()
    assert model.asked == [len(burnt)]


def test_a_mechanism_that_the_exact_step_does_not_cover_needs_cvode_outside(tmp_path):
    source = str(reaction_zoo.write(tmp_path, reaction_zoo.PLASMA))
    file = save_tiny_model(tmp_path / "tiny.safetensors", 1e-6, source)
    model = Surrogate.load(file, load_mechanism(source)).with_limits(900.0, 0.0)
    with pytest.raises(UsageError, match="outside=cvode"):
        HybridStep(model)
    state = np.hstack([500.0, 1e5, np.full(model.mechanism.n_species, 1.0 / model.mechanism.n_species)])[None]
    next_states, status = HybridStep(model, outside="cvode").advance(state)
    expected, _ = CvodesReactor(model.mechanism).advance(state, 1e-6)
    assert status[0] == Status.OK
    np.testing.assert_array_equal(next_states, expected)


def test_what_does_not_fit_is_refused(surrogate, rows):
    with pytest.raises(UsageError, match="outside = ignore: there are exact, cvode, freeze, error"):
        HybridStep(surrogate, outside="ignore")
    with pytest.raises(UsageError, match="begin at 0"):
        HybridStep(surrogate, cold_limit=-1.0)
    with pytest.raises(UsageError, match="dt = 1e-06 s"):
        HybridStep(surrogate).advance(rows, 2e-6)


@pytest.mark.parametrize("kind", [HybridStep, Surrogate, RosenbrockReactor, CvodesReactor])
def test_a_solution_array_gives_a_solution_array(surrogate, states, kind):
    steps = {HybridStep: HybridStep(surrogate), Surrogate: surrogate}
    step, states = steps[kind] if kind in steps else kind(MECHANISM), states[:40]
    array = ct.SolutionArray(MECHANISM.gas(), (5, 8))
    array.TPY = states[:, 0].reshape(5, 8), states[:, 1].reshape(5, 8), states[:, 2:].reshape(5, 8, 21)
    after, status = step.advance(array, 1e-6)
    expected, expected_status = step.advance(states_of(array, MECHANISM), 1e-6)  # Cantera normalises mass fractions
    assert isinstance(after, ct.SolutionArray) and after.shape == status.shape == (5, 8)
    np.testing.assert_array_equal(status.ravel(), expected_status)
    np.testing.assert_allclose(after.T.ravel(), expected[:, 0], rtol=1e-9, atol=0)
    np.testing.assert_allclose(after.Y.reshape(40, 21), expected[:, 2:], rtol=0, atol=1e-9)
    np.testing.assert_allclose(array.T.ravel(), states[:, 0], rtol=1e-12, atol=0)
    with pytest.raises(UsageError, match=r"SolutionArray of 10 species .* is none of drm19"):
        step.advance(ct.SolutionArray(load_mechanism("h2o2.yaml").gas(), 3), 1e-6)
