"""Rates and Jacobian of the batched integrator, against Cantera and against differences of high order."""

from pathlib import Path

import cantera as ct
import numpy as np
import pytest
import reaction_zoo
from burning_gas import dodecane
from ruamel.yaml import YAML

from chemnet.gas.mechanism import load_mechanism
from chemnet.kinetics import RosenbrockReactor, evaluate
from chemnet.kinetics.mechanism_tables import tables_of
from chemnet.runtime.errors import NumericalError, UsageError

ALZUETA = ("example_data/ammonia-CO-H2-Alzueta-2023.yaml", "linear-Burke")  # of Cantera's wheel
ZOOS = {"zoo": reaction_zoo.ZOO, "pressure": reaction_zoo.PRESSURE, "burke": reaction_zoo.BURKE}
MECHANISMS = ("drm19", "gri30.yaml", "h2o2.yaml", "dodecane", ALZUETA, *ZOOS)
# weights of f(x + i h) - f(x - i h), i = 1..4, over h: the central difference of order 8; h relative to x
DIFFERENCE, STEP, STEP_T = (4 / 5, -1 / 5, 4 / 105, -1 / 280), 4e-3, 5e-4


@pytest.fixture(scope="module", params=MECHANISMS)
def mechanism(request, tmp_path_factory):
    if request.param in ZOOS:
        return load_mechanism(reaction_zoo.write(tmp_path_factory.mktemp("zoo"), ZOOS[request.param]))
    if request.param == "dodecane":
        return dodecane(tmp_path_factory.mktemp("dodecane"))
    return load_mechanism(*((request.param,) if isinstance(request.param, str) else request.param))


def random_states(mechanism, n, concentration, seed=3):
    """200-3500 K, 0.1-40 atm; mass fractions the more even, the higher the concentration."""
    rng = np.random.default_rng(seed)
    T = rng.uniform(200.0, 3500.0, n)
    P = ct.one_atm * np.exp(rng.uniform(np.log(0.1), np.log(40.0), n))
    return np.column_stack([T, P, rng.dirichlet(np.full(mechanism.n_species, concentration), n)])


def without_scarce(mechanism, states):
    """The states with at least 1e-12 of the species that the zoo has powers below one of; with less it is linear."""
    for name in ("H2", "H2O"):
        column = states[:, 2 + mechanism.index(name)]
        np.maximum(column, 1e-12, out=column)
    states[:, 2:] /= states[:, 2:].sum(axis=1, keepdims=True)
    return states


def assert_rates_agree(mechanism, states, rtol):
    """Net rates and heat release within `rtol` of the gross ones of Cantera."""
    found, gas = evaluate(mechanism, states), mechanism.gas()
    for state, rates in zip(states, found.rates, strict=True):
        gas.TPY = state[0], state[1], state[2:]
        # not creation + destruction, in which a negative rate is subtracted
        each = np.abs(gas.forward_rates_of_progress) + np.abs(gas.reverse_rates_of_progress)
        gross = ((gas.reactant_stoich_coeffs + gas.product_stoich_coeffs) @ each)[found.species]
        net = gas.net_production_rates[found.species]
        error = np.abs(rates[:-1] * gas.density - net)
        assert np.all(error <= rtol * gross + 1e-60)
        heat = gas.partial_molar_enthalpies[found.species] * gross
        warming = -gas.heat_release_rate / (gas.density * gas.cp_mass)
        assert abs(rates[-1] + warming) <= rtol * np.abs(heat).sum() / (gas.density * gas.cp_mass)


def test_rates_agree_with_cantera_to_1e_12_of_the_gross_rate(mechanism):
    states = np.concatenate([random_states(mechanism, 40, 0.1), random_states(mechanism, 40, 1.0)])
    if "zoo" in mechanism.name:
        states = without_scarce(mechanism, states)
    assert_rates_agree(mechanism, states, 1e-12)


def ideal_gases():
    """Path and name of every ideal gas with reactions in Cantera's data and among the shared mechanisms."""
    folders = [Path(folder) for folder in ct.get_data_directories() if Path(folder).name == "data"]
    shared = Path(__file__).parents[3] / "shared" / "data" / "mechanisms"
    for path in sorted(path for folder in (*folders, shared) for path in folder.rglob("*.yaml")):
        for phase in YAML(typ="safe").load(path).get("phases", ()):
            if phase.get("thermo") == "ideal-gas" and "kinetics" in phase:
                yield str(path), phase["name"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_rates_of_every_ideal_gas_of_cantera_agree():
    refused = {}
    for path, phase in ideal_gases():
        try:
            mechanism = load_mechanism(path, phase)
        except UsageError as error:
            refused[phase] = str(error)
            continue
        assert_rates_agree(mechanism, random_states(mechanism, 20, 0.3), 1e-11)
    assert list(refused) == ["CO2-Ideal"]
    assert "has no reactions" in refused["CO2-Ideal"]


def test_rates_and_jacobian_of_a_row_depend_on_the_row_alone(mechanism):
    states = random_states(mechanism, 5, 1.0)
    together, alone = evaluate(mechanism, states), [evaluate(mechanism, state[None]) for state in states]
    np.testing.assert_array_equal(together.rates, np.concatenate([one.rates for one in alone]))
    np.testing.assert_array_equal(together.jacobian, np.concatenate([one.jacobian for one in alone]))


def test_the_jacobian_agrees_with_differences_of_order_eight(mechanism):
    check_jacobian(mechanism, random_states(mechanism, 32, 3.0))


@pytest.mark.parametrize("scarce", [["H2"], ["H2O"], ["H2", "H2O", "O2"]])
def test_the_jacobian_agrees_with_differences_where_rates_are_singular(tmp_path, scarce):
    mechanism = load_mechanism(reaction_zoo.write(tmp_path, reaction_zoo.ZOO))
    states = random_states(mechanism, 32, 3.0)
    states[:, [2 + mechanism.index(name) for name in scarce]] *= 1e-16
    check_jacobian(mechanism, states)


def test_a_rate_with_a_power_below_one_goes_to_zero_with_its_species(tmp_path):
    mechanism = load_mechanism(reaction_zoo.write(tmp_path, reaction_zoo.GLOBAL))
    states = np.repeat(random_states(mechanism, 1, 3.0), 5, axis=0)
    H2 = 2 + mechanism.index("H2")
    states[:, H2] = [0.0, 1e-20, 2e-20, -1e-20, 1e-10]
    rates = evaluate(mechanism, states).rates[:, mechanism.index("H2")]
    assert abs(rates[0]) < 1e-50 * abs(rates[4])
    np.testing.assert_allclose(rates[2:4] / rates[1], [2.0, -1.0], rtol=1e-12, atol=0)
    gas = mechanism.gas()
    gas.set_unnormalized_mass_fractions(states[4, 2:])
    gas.TP = states[4, 0], states[4, 1]
    truth = gas.net_production_rates[gas.species_index("H2")] / gas.density
    np.testing.assert_allclose(rates[4], truth, rtol=1e-9, atol=0)


@pytest.mark.parametrize("conditions", ["constant volume", "given temperature"])
def test_the_jacobian_agrees_with_differences_at_other_conditions(mechanism, conditions):
    # of another seed: PLOG rates have kinks, and the differences of most seeds cross one
    check_jacobian(mechanism, random_states(mechanism, 32, 3.0, seed=9), conditions)


def moles_times_T(mechanism, states):
    return states[:, 0] * (states[:, 2:] / mechanism.molecular_weights).sum(axis=1)


def check_jacobian(mechanism, states, conditions="constant pressure"):
    """Each entry to 1e-8 of the largest entry of its row, in terms of relative changes: rows have different units."""
    states[:, 0] = np.clip(states[:, 0], 600.0, 3000.0)
    states[np.abs(states[:, 0] - 1000.0) < 40.0, 0] = 1100.0  # NASA polynomials have a kink where they meet
    exact = evaluate(mechanism, states, conditions)
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
                if conditions == "constant volume":
                    moved[:, 1] *= moles_times_T(mechanism, moved) / moles_times_T(mechanism, states)
                slopes[:, :, j] += sign * weight / step * evaluate(mechanism, moved, conditions).rates
    scale = np.abs(jacobian).max(axis=2, keepdims=True)
    assert np.all(np.abs(slopes - jacobian) <= 1e-8 * scale)


@pytest.mark.parametrize(
    ("reactions", "message"),
    [
        (
            reaction_zoo.PLASMA,
            r"reaction 1, H2 \+ O => H \+ OH, is of type two-temperature-plasma, .* electrons",
        ),
        (reaction_zoo.NEGATIVE_BETWEEN, r"reaction 1, H \+ OH <=> H2O: .* P = 10132.5 Pa .* at T = 552 to 919 K"),
        (reaction_zoo.NEGATIVE_COLLIDER, r"reaction 1, H \+ OH <=> H2O, collider AR: .* P = 10132.5 Pa .*\n.* NaN"),
        pytest.param(
            reaction_zoo.UNKNOWN_COLLIDER,
            "reaction 1, .* collider XE is no species",
            marks=pytest.mark.filterwarnings("ignore:Kinetics..kineticsSpeciesIndex"),
        ),
        (reaction_zoo.NO_EFFICIENCY, "reaction 1, .* collider AR has rate constants, but an efficiency of zero"),
        (reaction_zoo.NO_LIMIT, "reaction 1, .* collider M: a limit of its falloff is not positive"),
        (reaction_zoo.NO_BOND, "reaction 1, .* w equals Ea0"),
    ],
)
def test_a_rate_that_is_not_covered_or_not_positive_is_refused_by_name_and_reaction(tmp_path, reactions, message):
    mechanism = load_mechanism(reaction_zoo.write(tmp_path, reactions))
    with pytest.raises(UsageError, match=message):
        RosenbrockReactor(mechanism)


def test_a_reaction_that_makes_what_it_consumes_is_left_out(tmp_path):
    mechanism = load_mechanism(reaction_zoo.write(tmp_path, reaction_zoo.PRESSURE))
    assert tables_of(mechanism).order.shape[1] == mechanism.gas().n_reactions - 1


def test_a_state_that_is_no_state_has_no_rates(mechanism):
    states = random_states(mechanism, 3, 1.0)
    states[1, 0] = np.nan
    with pytest.raises(NumericalError, match="row 1"):
        evaluate(mechanism, states)
