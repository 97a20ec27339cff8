"""The transform: its inverse, its statistics, muted columns; one formula for training and for prediction."""

import numpy as np

from chemnet.gas.mechanism import load_mechanism
from chemnet.surrogate.transform import Transform, box_cox, fit_transform

MECHANISM = load_mechanism("drm19")


def random_pairs(n, seed):
    rng = np.random.default_rng(seed)
    Y = 10.0 ** rng.uniform(-14, 0, (n, 21))
    Y[:, 20] = 0.0
    states = np.column_stack([rng.uniform(300, 3000, n), rng.uniform(8e4, 2e5, n), Y])
    next_states = states.copy()
    next_states[:, 0] += rng.standard_normal(n)
    next_states[:, 2:19] *= np.exp(0.1 * rng.standard_normal((n, 17)))
    return states, next_states


def test_box_cox_is_the_textbook_formula_with_lambda_one_eighth():
    Y = np.array([1e-12, 1e-3, 0.5, 1.0])
    np.testing.assert_allclose(box_cox(Y), (Y**0.125 - 1.0) / 0.125, rtol=1e-14, atol=1e-14)
    assert box_cox(np.array([-1e-9]))[0] == -8.0


def test_inputs_have_mean_zero_and_deviation_one_and_a_constant_column_is_mute():
    states, next_states = random_pairs(400, seed=2)
    transform = fit_transform(states, next_states, MECHANISM)
    inputs = transform.inputs(states)
    np.testing.assert_allclose(inputs[:, :22].mean(axis=0), 0.0, rtol=0, atol=1e-5)
    np.testing.assert_allclose(inputs[:, :22].std(axis=0), 1.0, rtol=1e-5, atol=0)
    changed = states.copy()
    changed[:, 22] = 0.01
    np.testing.assert_array_equal(transform.inputs(changed), inputs)


def test_a_species_that_is_only_the_round_off_of_a_solver_is_mute():
    """Cantera's flames have 1e-30 of species that the mixture has not; scaled to unit variance that would be noise."""
    states, next_states = random_pairs(400, seed=5)
    states[::50, 22] = 1e-30
    transform = fit_transform(states, next_states, MECHANISM)
    assert transform.input_gain[22] == 0.0 and (transform.input_gain[:22] > 0.0).all()
    np.testing.assert_array_equal(transform.inputs(states)[:, 22], 0.0)


def test_pressure_and_inert_species_take_no_part():
    states, next_states = random_pairs(50, seed=3)
    next_states[:, 1] *= 1.1
    next_states[:, 2 + MECHANISM.index("N2")] *= 1.1
    transform = fit_transform(states, next_states, MECHANISM)
    idle = [1, 2 + MECHANISM.index("N2"), 2 + MECHANISM.index("AR")]
    assert not set(idle) & set(transform.active)
    np.testing.assert_array_equal(transform.labels(states, next_states)[:, idle], 0.0)


def test_the_transform_survives_being_written_as_plain_data():
    states, next_states = random_pairs(50, seed=4)
    transform = fit_transform(states, next_states, MECHANISM)
    again = Transform.from_dict(transform.as_dict())
    np.testing.assert_array_equal(again.inputs(states), transform.inputs(states))
    np.testing.assert_array_equal(again.labels(states, next_states), transform.labels(states, next_states))
