"""What the integrators share: input of any layout, invalid rows, and a result with the record of its own call."""

import pickle

import numpy as np
import pytest
from burning_gas import burning

from chemnet.gas.mechanism import load_mechanism
from chemnet.gas.status import Status, sentence
from chemnet.kinetics import CvodesReactor, RosenbrockReactor, StepResult, StepStats, integrator_of
from chemnet.runtime.errors import UsageError

DT = 1e-6
INVALID = {
    "NaN in T": (0, np.nan),
    "infinite P": (1, np.inf),
    "NaN in Y": (5, np.nan),
    "infinite Y": (6, -np.inf),
    "too cold": (0, 199.0),
    "too hot": (0, 3501.0),
    "no pressure": (1, 0.0),
    "sum of Y": (22, 0.5),
    "negative Y": (3, -1e-3),
}
DRM19 = load_mechanism("drm19")
STEPS = [RosenbrockReactor(DRM19), CvodesReactor(DRM19)]
both = pytest.mark.parametrize("step", STEPS, ids=["exact", "cvode"])


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


@both
def test_invalid_rows_come_back_flagged_and_the_others_are_right(step):
    rows = burning(DRM19, 12)
    found, _ = step.advance(rows, DT)
    spoilt, n = rows.copy(), len(INVALID)
    for row, (column, value) in zip(spoilt, INVALID.values(), strict=False):
        row[column] = value
    for some in (spoilt, spoilt[:n]):
        next_states, status = step.advance(some, DT)
        assert np.all(status[:n] == Status.INVALID), dict(zip(INVALID, status, strict=False))
        assert np.all(status[n:] == Status.OK)
        np.testing.assert_array_equal(next_states[:n], spoilt[:n])
        np.testing.assert_array_equal(next_states[n:], found[n : len(some)])
    assert "invalid" in sentence(status[0])


@both
def test_layout_type_and_number_of_the_rows_do_not_matter(step):
    rows = burning(DRM19, 6)
    found, _ = step.advance(rows, DT)
    np.testing.assert_array_equal(step.advance(np.asfortranarray(rows), DT)[0], found)
    np.testing.assert_array_equal(step.advance(np.repeat(rows, 2, axis=0)[::2], DT)[0], found)
    single = rows.astype(np.float32)
    np.testing.assert_array_equal(step.advance(single, DT)[0], step.advance(single.astype(float), DT)[0])
    next_states, status = step.advance(rows[:0], DT)
    assert next_states.shape == (0, 23) and status.shape == (0,)


@both
@pytest.mark.parametrize("dt", [0.0, -1e-6, np.nan, np.inf, None])
def test_wrong_time_steps_and_shapes_are_refused(step, dt):
    with pytest.raises(UsageError, match="time step must be finite and positive"):
        step.advance(burning(DRM19, 2), dt)
    with pytest.raises(UsageError, match="shape"):
        step.advance(np.ones((3, 10)), DT)
