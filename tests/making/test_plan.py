"""A plan fits the gas and the budget: nothing in it is methane's, and what a budget does not pay for is left out."""

from pathlib import Path

import cantera as ct
import numpy as np
import pytest

from chemnet.data.recipe import KINDS, load_recipe
from chemnet.gas.mechanism import load_mechanism
from chemnet.making.budget import Budget, in_words
from chemnet.making.plan import make_plan, n_boxes
from chemnet.making.survey import Burnt, Flame, Ignition, Survey
from chemnet.making.task import MakeTask

TASK = MakeTask(mechanism="h2o2.yaml", fuel={"H2": 1.0}, pressure=(ct.one_atm, 4 * ct.one_atm), dt=2e-6)
METHANE = Flame(P=ct.one_atm, phi=1.0, speed=0.41, thickness=4.1e-4)


def found(flames=(METHANE,), **changes):
    """A survey of a gas whose delay is 0.1 s at 800 K and falls tenfold every 200 K."""
    levels = np.arange(800.0, 2000.0, 100.0)
    ignitions = [Ignition(P=ct.one_atm, phi=1.0, T0=T, delay=0.1 * 10 ** ((800 - T) / 200), end=2500.0) for T in levels]
    values = {
        "phi": (0.4, 2.5),
        "burns": (0.3, 2.6),
        "unburnt": 320.0,
        "T0": (1000.0, 1400.0),
        "kernel": 2700.0,
        "ignitions": ignitions,
        "burnt": [Burnt(P=ct.one_atm, phi=1.0, T=320.0, burnt=2300.0)],
        "flames": list(flames),
        "without_flames": None if flames else "no transport data",
        "notes": [],
        "seconds_per_ignition": 0.02,
        "seconds_per_flame": 2.0,
        "seconds_per_step": 1e-5,
        **changes,
    }
    return Survey(**values)


def plan(survey, seconds=3600.0, flows=True, cores=2):
    return make_plan(TASK, load_mechanism("h2o2.yaml"), survey, Budget(seconds, cores), Path("runs/x"), flows)


def test_temperatures_mixtures_pressures_and_times_are_those_of_the_gas():
    recipe, config = plan(found()).recipe, plan(found()).config
    assert recipe.ignition.T0 == (900.0, 2000.0) and recipe.kernel.T0 == (2000.0, 2700.0)
    assert recipe.mixed.T_unburnt == (320.0, 2700.0) and recipe.burnt.T_unburnt[0] == 320.0
    assert recipe.phi == pytest.approx((0.3, 2.6), rel=1e-12, abs=0.0)
    assert recipe.pressure == TASK.pressure and recipe.dt == TASK.dt
    times = (*recipe.probes.reacting, *recipe.mixed.evolution, *recipe.perturbed.evolution, recipe.paths.first_time)
    assert times == pytest.approx((2e-6, 2e-5, 2e-6, 2e-2, 2e-7, 2e-5, 2e-7), rel=1e-9, abs=0.0)
    assert config.cold_limit == 800.0 and config.network.widths[0] == 12
    assert recipe.flames is not None
    for P, T in recipe.flames.at:
        assert TASK.pressure[0] <= P <= TASK.pressure[1] and T >= 320.0


def test_a_gas_that_ignites_cold_is_asked_colder():
    assert plan(found(T0=(700.0, 900.0))).config.cold_limit == 550.0


def test_turbulent_flames_have_the_lengths_of_the_laminar_one():
    """The shipped ones for a flame like methane's; half of the lengths for one of half its thickness."""
    shipped = load_recipe().flow
    alike = plan(found()).recipe.flow
    half = plan(found([METHANE.model_copy(update={"thickness": 2.05e-4})])).recipe.flow
    assert shipped and alike and half
    for key in ("initial.kernel_radius", "initial.integral_length"):
        assert alike.between[key] == pytest.approx(shipped.between[key], rel=1e-9, abs=0.0)
        assert half.between[key] == pytest.approx(0.5 * np.array(shipped.between[key]), rel=1e-9, abs=0.0)
    sizes = [grid["length_x"] for grid in half.choose["grid"]]
    assert sizes == pytest.approx([0.5 * grid["length_x"] for grid in shipped.choose["grid"]], rel=1e-9, abs=0.0)


@pytest.mark.parametrize(
    ("survey", "flows", "seconds"), [(found([]), True, 3600.0), (found(), False, 3600.0), (found(), True, 60.0)]
)
def test_without_flames_a_flow_solver_or_time_there_are_no_turbulent_flames(survey, flows, seconds):
    made = plan(survey, seconds, flows)
    assert made.recipe.flow is None and made.config.fit.change_loss == 0.0
    reasons = {what: chosen for what, chosen, _ in made.choices}
    assert reasons["turbulent flames"] == "none"
    if not survey.flames:
        shares = dict(zip(KINDS, made.recipe.shares(), strict=True))
        assert shares["flames"] == shares["transported"] == 0.0 and sum(shares.values()) == pytest.approx(
            1.0, abs=1e-12
        )


def test_a_larger_budget_has_more_states_and_a_wider_network_and_a_dearer_step_fewer():
    small, large, dear = plan(found(), 120.0), plan(found(), 7200.0), plan(found(seconds_per_step=1e-3), 7200.0)
    assert small.recipe.rows < large.recipe.rows and dear.recipe.rows < 0.3 * large.recipe.rows
    assert small.config.network.widths[1] < large.config.network.widths[1]
    assert len(dear.cases.mixtures()) < len(large.cases.mixtures())


def test_ignitions_of_the_ladder_span_the_range_and_those_of_the_training_are_soon_over():
    made = plan(found())
    assert (min(made.cases.temperatures), max(made.cases.temperatures)) == (1000.0, 1400.0)
    low, high = made.cases.pressures[0], made.cases.pressures[-1]
    assert TASK.pressure[0] < low < 1.01 * TASK.pressure[0] and 0.99 * TASK.pressure[1] < high < TASK.pressure[1]
    # of the ladder's 1000, 1066, 1140, 1226, 1326 and 1400 K the delays of the survey are below 1,000 steps from 1200 K
    assert min(made.judging.temperatures) > 1200.0 and made.judging.steps < made.cases.steps


def test_as_many_turbulent_flames_are_judged_as_there_is_time_for_in_the_scales_of_the_gas():
    mechanism = load_mechanism("h2o2.yaml")
    fast = found([METHANE.model_copy(update={"speed": 2.3})])
    hours, minutes = Budget(7200.0, 2), Budget(600.0, 2)
    assert n_boxes(found(), mechanism, 1e-6, hours) == 4 and n_boxes(found([]), mechanism, 1e-6, hours) == 0
    assert [n_boxes(gas, mechanism, 1e-6, minutes) for gas in (found(), fast)] == [
        1,
        4,
    ]  # it burns in a fifth of the time
    assert n_boxes(found(), mechanism, 1e-6, Budget(60.0, 2)) == 0


@pytest.mark.parametrize(("seconds", "words"), [(90.0, "90s"), (1800.0, "30m"), (7200.0, "2h"), (60.0, "1m")])
def test_times_are_told_as_a_user_gives_them(seconds, words):
    assert in_words(seconds) == words


@pytest.mark.parametrize(
    ("changes", "command"),
    [
        ({}, "chemnet make --mechanism h2o2.yaml --fuel H2 --pressure 0.5 5"),
        (
            {"fuel": {"H2": 0.3, "H2O2": 0.7}, "oxidizer": {"O2": 1.0}, "pressure": (101325.0, 101325.0), "seed": 3},
            "chemnet make --mechanism h2o2.yaml --fuel H2:0.3,H2O2:0.7 --oxidizer O2 --pressure 1 --seed 3",
        ),
        (
            {"phi": (0.4, 1.5), "dt": 1e-7},
            "chemnet make --mechanism h2o2.yaml --fuel H2 --pressure 0.5 5 --phi 0.4 1.5 --dt 1e-07",
        ),
    ],
)
def test_a_task_tells_its_command(changes, command):
    task = MakeTask(mechanism="h2o2.yaml", fuel={"H2": 1.0}, pressure=(50662.5, 506625.0))
    assert task.model_copy(update=changes).command == command
