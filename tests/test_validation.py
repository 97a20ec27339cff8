"""Validation judged by what is known: the oracle itself, and histories whose delay is given."""

import numpy as np
import pytest

from chemnet import validation
from chemnet.errors import UsageError
from chemnet.mechanism import load_mechanism
from chemnet.reactor import CvodesReactor
from chemnet.status import Status
from chemnet.store import Pairs
from chemnet.validation import (
    IgnitionCases,
    case_table,
    ignition_delay,
    one_step_table,
    summary,
    validate_ignition,
)

DT = 1e-6
CASES = IgnitionCases(temperatures=(1700.0, 1800.0), equivalence_ratios=(0.6, 1.4), steps=400)


class Nothing:
    """A model that changes nothing, and refuses a row when told to."""

    def __init__(self, status=Status.OK):
        self.mechanism = load_mechanism("drm19")
        self.status = status

    def advance(self, states, dt):
        return states.copy(), np.full(len(states), self.status, dtype=np.int8)


def figures(table):
    return dict(table.rows)


@pytest.fixture(scope="module")
def exact_report():
    return validate_ignition(CvodesReactor(load_mechanism("drm19")), DT, CASES)


def test_the_exact_step_as_a_model_has_no_delay_error_beyond_its_tolerance(exact_report):
    result = figures(summary(exact_report, "CVODES"))
    assert result["cases"] == 4
    assert result["cases that ignite with CVODES"] == result["cases that ignite with the model"] == 4
    assert result["failed cases"] == 0
    assert result["ignition delay error, max [%]"] < 0.05  # rtol 1e-6 restarted every microsecond against 1e-9
    assert result["end temperature error, max [K]"] < 0.5
    assert result["element drift, max [kg/kg]"] < 1e-12
    assert result["enthalpy drift, max [h/(cp T)]"] < 1e-12


def test_the_case_table_has_a_row_per_mixture_in_their_order(exact_report):
    rows = case_table(exact_report).rows
    assert [row[:2] for row in rows] == [(1700.0, 0.6), (1700.0, 1.4), (1800.0, 0.6), (1800.0, 1.4)]
    assert all(row[-1] == "ok" for row in rows)
    delays = [row[3] for row in rows]  # hotter ignites sooner, richer later
    assert delays[2] < delays[0] < delays[1] and delays[2] < delays[3]


def test_a_model_that_never_ignites_fails_every_case():
    result = figures(summary(validate_ignition(Nothing(), DT, CASES), "nothing"))
    assert result["failed cases"] == 4
    assert result["cases that ignite with the model"] == 0
    assert result["ignition delay error, mean [%]"] is None


def test_a_refused_step_counts_as_a_failure_and_is_named():
    report = validate_ignition(Nothing(Status.OUTSIDE), DT, CASES)
    assert report.failed.all()
    assert {row[-1] for row in case_table(report).rows} == {"outside"}


@pytest.mark.parametrize("delay", [40.2e-6, 40.5e-6, 40.9e-6, 41.3e-6])
def test_the_delay_of_a_known_history_is_found_within_a_fraction_of_a_step(delay):
    time = np.arange(101) * DT
    history = 1500.0 + 600.0 * np.tanh((time - delay) / 3e-6)
    assert ignition_delay(history[None], DT)[0] == pytest.approx(delay, rel=0.0, abs=0.05 * DT)


@pytest.mark.parametrize(
    "history",
    [
        np.full(50, 1200.0),
        np.linspace(1000.0, 1100.0, 50),
        np.geomspace(1000.0, 2500.0, 50),  # steepest in the last step: it has not ignited yet
        np.r_[np.linspace(1000.0, 2500.0, 49), np.nan],
    ],
)
def test_a_history_without_an_ignition_has_no_delay(history):
    assert np.isnan(ignition_delay(history[None], DT)[0])


def test_cases_too_short_or_without_fuel_say_what_to_do():
    with pytest.raises(UsageError, match="take more steps"):
        summary(validate_ignition(Nothing(), DT, CASES.model_copy(update={"steps": 5})), "nothing")
    with pytest.raises(UsageError, match="no species C8H18"):
        CASES.model_copy(update={"fuel": {"C8H18": 1.0}}).states(load_mechanism("drm19"))


def test_a_long_roll_out_tells_the_time_still_needed(monkeypatch):
    monkeypatch.setattr(validation, "REPORT_EVERY", 0.0)
    lines = []
    validation.roll_out(Nothing(), CASES.states(load_mechanism("drm19")), DT, 3, lines.append)
    assert [line.split(",")[0] for line in lines] == ["step 1 of 3", "step 2 of 3", "step 3 of 3"]


def test_one_step_errors_are_taken_on_validation_rows_only_and_by_kind():
    mechanism = load_mechanism("drm19")
    states = CASES.states(mechanism)
    next_states, _ = CvodesReactor(mechanism).advance(states, 1e-4)
    kind = np.array([0, 0, 2, 2], dtype=np.int8)
    split = np.array([1, 0, 1, 1], dtype=np.int8)
    pairs = Pairs(states, next_states, split, np.zeros(4, np.int32), kind)
    rows = one_step_table(CvodesReactor(mechanism), pairs, ("D", "F", "P"), 1e-4).rows
    assert [row[:3] for row in rows] == [("D", 1, 0), ("P", 2, 0)]
    assert all(row[-1] == 0.0 for row in rows)
    nothing = one_step_table(Nothing(), pairs, ("D", "F", "P"), 1e-4).rows
    assert [row[-1] for row in nothing] == [1.0, 1.0]
    assert nothing[0][5] == abs(next_states[0, 0] - states[0, 0])
