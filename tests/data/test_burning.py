"""What a model burns, by the recipe of its states: it decides what the model is judged and timed with."""

import cantera as ct
import pytest

from chemnet.data.burning import Burning, burning_of, burning_of_facts
from chemnet.data.recipe import load_recipe
from chemnet.gas.canonical import AIR
from chemnet.gas.mechanism import load_mechanism
from chemnet.runtime.config import dump_yaml
from chemnet.surrogate.model import Surrogate
from chemnet.training.rollout_score import judging_cases
from chemnet.validation.ignition import FULL, QUICK, cases_of
from chemnet.validation.suite import cases_of_model


def test_the_shipped_models_of_methane_are_judged_as_ever():
    for name in ("drm19-small", "drm19-original"):
        assert cases_of_model(name) == FULL and cases_of_model(name, quick=True) == QUICK


def test_a_model_that_was_made_is_judged_by_the_cases_that_it_was_made_for():
    own = cases_of_model("h2")
    assert own.fuel == {"H2": 1.0} and max(own.temperatures) < 1400.0
    assert min(own.pressures) < 0.6 * ct.one_atm and max(own.pressures) > 4.9 * ct.one_atm
    quick = cases_of_model("h2", quick=True)
    assert quick.temperatures == own.temperatures and quick.steps == QUICK.steps
    assert burning_of_facts(Surrogate.load("h2").metadata["data"]).fuel == {"H2": 1.0}


def test_of_several_oxidizers_the_main_one_counts_and_of_equal_ones_the_first():
    recipe = load_recipe()
    assert burning_of(recipe).oxidizer == AIR
    first, second = recipe.oxidizers
    changed = recipe.model_copy(update={"oxidizers": [first, second.model_copy(update={"share": 0.9})]})
    assert "AR" in burning_of(changed).oxidizer


@pytest.mark.parametrize(
    ("pressure", "usual", "expected"),
    [
        ((5e4, 5e5), (1e5, 2e5), (1e5, 2e5)),
        ((5e5, 2e6), (1e5, 2e5), (5e5, 1e6, 2e6)),
        ((5e5, 5e5), (1e5,), (5e5,)),
    ],
)
def test_pressures_are_the_usual_ones_or_those_of_the_range(pressure, usual, expected):
    burning = Burning({"H2": 1.0}, AIR, pressure, (0.5, 2.0))
    assert burning.pressures(usual) == pytest.approx(expected, rel=1e-12, abs=0.0)
    assert pressure[0] <= burning.usual_pressure <= pressure[1] and burning.usual_phi == 1.0


def test_a_training_is_judged_with_the_gas_of_its_recipe():
    recipe = load_recipe(mechanism="h2o2.yaml", fuel={"H2": 1.0}, oxidizer={"O2": 1.0, "AR": 4.0})
    facts = {"recipe": dump_yaml(recipe.model_copy(update={"pressure": (5e5, 2e6)}))}
    cases = judging_cases(facts, load_mechanism("h2o2.yaml"))
    assert cases == cases_of(burning_of_facts(facts), QUICK)
    assert cases.oxidizer == {"O2": 1.0, "AR": 4.0} and min(cases.pressures) == 5e5
    assert judging_cases({}, load_mechanism("h2o2.yaml")) is None
    assert judging_cases(facts, load_mechanism("drm19")) is not None
