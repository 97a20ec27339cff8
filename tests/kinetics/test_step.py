"""The result of a step: states and status to unpack, and what happened in that call and no other."""

import pickle

import numpy as np
import pytest

from chemnet.gas.mechanism import load_mechanism
from chemnet.kinetics import CvodesReactor, RosenbrockReactor, StepResult, StepStats, integrator_of


def test_a_result_unpacks_as_states_and_status_and_survives_a_worker():
    result = StepResult(np.ones((2, 3)), np.zeros(2, np.int8), StepStats(handed_over=2, slow=np.array([True, False])))
    states, status = pickle.loads(pickle.dumps(result))
    np.testing.assert_array_equal(states, result.states)
    np.testing.assert_array_equal(status, result.status)
    assert pickle.loads(pickle.dumps(result)).stats.handed_over == 2
    assert result.stats.integrated == 1 and not StepResult(states, status).stats.left


def test_the_record_of_a_call_stays_when_the_step_is_called_again():
    mechanism = load_mechanism("h2o2.yaml")
    rows = np.column_stack([[900.0, 2000.0], [1e5, 1e5], np.random.default_rng(0).dirichlet(np.ones(10), 2)])
    step = RosenbrockReactor(mechanism)
    first = step.advance(rows, 1e-4)
    kept = first.stats.n_steps.copy()
    step.advance(rows[:1], 1e-8)
    np.testing.assert_array_equal(first.stats.n_steps, kept)
    assert first.stats.n_steps.shape == first.stats.raw_drift.shape == (2,) and kept.min() >= 1


@pytest.mark.parametrize(("kind", "step"), [("exact", RosenbrockReactor), ("cvode", CvodesReactor)])
def test_an_integrator_has_the_tolerances_that_are_given_and_else_its_own(kind, step):
    mechanism = load_mechanism("h2o2.yaml")
    made = integrator_of(kind, mechanism, atol=1e-7)
    assert isinstance(made, step) and (made.rtol, made.atol) == (step(mechanism).rtol, 1e-7)
