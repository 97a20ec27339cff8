"""Rates and Jacobian of the batched integrator, against Cantera and against differences of high order."""

import cantera as ct
import numpy as np
import pytest
import reaction_zoo
from burning_gas import dodecane

from chemnet.gas.mechanism import load_mechanism
from chemnet.kinetics import RosenbrockReactor, evaluate
from chemnet.runtime.errors import NumericalError, UsageError

MECHANISMS = ("drm19", "gri30.yaml", "h2o2.yaml", "dodecane", "zoo")
# weights of f(x + i h) - f(x - i h), i = 1..4, over h: the central difference of order 8; h relative to x
DIFFERENCE, STEP, STEP_T = (4 / 5, -1 / 5, 4 / 105, -1 / 280), 4e-3, 5e-4


@pytest.fixture(scope="module", params=MECHANISMS)
def mechanism(request, tmp_path_factory):
    if request.param == "zoo":
        return load_mechanism(reaction_zoo.write(tmp_path_factory.mktemp("zoo"), reaction_zoo.ZOO))
    if request.param == "dodecane":
        return dodecane(tmp_path_factory.mktemp("dodecane"))
    return load_mechanism(request.param)


def random_states(mechanism, n, concentration, seed=3):
    """200-3500 K, 0.1-40 atm; mass fractions the more even, the higher the concentration."""
    rng = np.random.default_rng(seed)
    T = rng.uniform(200.0, 3500.0, n)
    P = ct.one_atm * np.exp(rng.uniform(np.log(0.1), np.log(40.0), n))
    return np.column_stack([T, P, rng.dirichlet(np.full(mechanism.n_species, concentration), n)])


def test_rates_agree_with_cantera_to_1e_12_of_the_gross_rate(mechanism):
    states = np.concatenate([random_states(mechanism, 40, 0.1), random_states(mechanism, 40, 1.0)])
    found, gas = evaluate(mechanism, states), mechanism.gas()
    for state, rates in zip(states, found.rates, strict=True):
        gas.TPY = state[0], state[1], state[2:]
        # not creation + destruction, in which a negative rate is subtracted
        each = np.abs(gas.forward_rates_of_progress) + np.abs(gas.reverse_rates_of_progress)
        gross = ((gas.reactant_stoich_coeffs + gas.product_stoich_coeffs) @ each)[found.species]
        net = gas.net_production_rates[found.species]
        error = np.abs(rates[:-1] * gas.density - net)
        assert np.all(error <= 1e-12 * gross + 1e-60)
        heat = gas.partial_molar_enthalpies[found.species] * gross
        warming = -gas.heat_release_rate / (gas.density * gas.cp_mass)
        assert abs(rates[-1] + warming) <= 1e-12 * np.abs(heat).sum() / (gas.density * gas.cp_mass)


def test_the_jacobian_agrees_with_differences_of_order_eight(mechanism):
    """Each entry to 1e-8 of the largest entry of its row, in terms of relative changes: rows have different units."""
    states = random_states(mechanism, 32, 3.0)
    states[:, 0] = np.clip(states[:, 0], 600.0, 3000.0)
    states[np.abs(states[:, 0] - 1000.0) < 40.0, 0] = 1100.0  # NASA polynomials have a kink where they meet
    exact = evaluate(mechanism, states)
    columns = [*(2 + exact.species), 0]
    x = states[:, columns].copy()
    x[:, :-1] /= mechanism.molecular_weights[exact.species]
    jacobian = exact.jacobian * x[:, None, :]
    slopes = np.zeros_like(jacobian)
    for j, column in enumerate(columns):
        step = STEP if column else STEP_T
        for i, weight in enumerate(DIFFERENCE, start=1):
            for sign in (1.0, -1.0):
                moved = states.copy()
                moved[:, column] *= 1.0 + sign * i * step
                slopes[:, :, j] += sign * weight / step * evaluate(mechanism, moved).rates
    scale = np.abs(jacobian).max(axis=2, keepdims=True)
    assert np.all(np.abs(slopes - jacobian) <= 1e-8 * scale)


@pytest.mark.parametrize(
    ("reactions", "message"),
    [
        (reaction_zoo.CHEBYSHEV, r"reaction 1, H2O2 <=> 2 OH, is of type Chebyshev"),
        (reaction_zoo.BLOWERS_MASEL, "Blowers-Masel"),
    ],
)
def test_a_kind_that_is_not_covered_is_refused_by_name_and_reaction(tmp_path, reactions, message):
    mechanism = load_mechanism(reaction_zoo.write(tmp_path, reactions))
    with pytest.raises(UsageError, match=message):
        RosenbrockReactor(mechanism)


def test_a_state_that_is_no_state_has_no_rates(mechanism):
    states = random_states(mechanism, 3, 1.0)
    states[1, 0] = np.nan
    with pytest.raises(NumericalError, match="row 1"):
        evaluate(mechanism, states)
