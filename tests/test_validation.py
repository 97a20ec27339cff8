"""Validation judged by what is known: the oracle itself, and histories whose delay is given."""

import json

import numpy as np
import pytest
from tiny_model import save_tiny_model

from chemnet import validation
from chemnet.cli import main
from chemnet.errors import UsageError
from chemnet.kinetics import RosenbrockReactor
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


@pytest.fixture(scope="module", params=[RosenbrockReactor, CvodesReactor])
def exact_report(request):
    return validate_ignition(request.param(load_mechanism("drm19")), DT, CASES)


def test_an_exact_step_as_a_model_has_no_delay_error_beyond_its_tolerance(exact_report):
    """The oracle is CVODES without a break, also for the batched integrator."""
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


H2O2 = ("--set", "mechanism=h2o2.yaml", "--set", "fuel={H2: 1}")
HYDROGEN_CASES = ("--quick", "--set", "fuel={H2: 1}", "--set", "temperatures=[1300]", "--set", "equivalence_ratios=[1]",
                  "--set", "steps=200")  # fmt: skip


@pytest.fixture(scope="module")
def hydrogen_set(tmp_path_factory):
    """A training set of a mechanism that does not ship with chemnet, made by the command line."""
    out = tmp_path_factory.mktemp("hydrogen") / "states.h5"
    small = ("rows=200", "ignition.trajectories=3", "kernel.trajectories=2", "burnt.states=9", "flames.phi=[1, 1.1]",
             "flames.at=[[101325, 300]]", "validation_share=0.3")  # fmt: skip
    assert main(["sample", *H2O2, *(w for c in small for w in ("--set", c)), "--out", str(out), "--workers", "1"]) == 0
    return str(out)


def tables_of(tmp_path, *arguments):
    target = tmp_path / "tables.json"
    assert main(["validate", *arguments, *HYDROGEN_CASES, "--json", str(target)]) == 0
    return json.loads(target.read_text())["tables"]


def test_the_exact_step_of_a_users_own_mechanism_is_validated(hydrogen_set, tmp_path):
    ignition, _, single_steps = tables_of(tmp_path, "exact", "--mechanism", "h2o2.yaml", "--data", hydrogen_set)
    figures = {row["figure"]: row["value"] for row in ignition["rows"]}
    assert figures["cases that ignite with CVODES"] == figures["cases that ignite with the model"] == 1
    assert figures["ignition delay error, max [%]"] < 0.05
    assert figures["end temperature error, max [K]"] < 0.1
    assert max(row["T error, max [K]"] for row in single_steps["rows"]) < 0.1  # labels have tighter tolerances


def test_a_model_of_a_users_own_mechanism_is_validated(hydrogen_set, tmp_path):
    model = save_tiny_model(tmp_path / "tiny.safetensors", DT, "h2o2.yaml")
    ignition, cases, single_steps = tables_of(tmp_path, model, "--data", hydrogen_set)
    assert ignition["rows"][1] == {"figure": "cases that ignite with CVODES", "value": 1}
    assert len(cases["rows"]) == 1 and len(single_steps["rows"]) >= 5


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["drm19-demo", "--dt", "1e-6"], "a model has its own"),
        (["drm19-demo", "--mechanism", "h2o2.yaml"], "a model has its own"),
        (["exact", "--dt", "-1"], "must be finite and positive"),
        (["exact", "--mechanism", "nope"], "no mechanism nope"),
        (["exact", "--mechanism", "h2o2.yaml"], "no species CH4"),
    ],
)
def test_what_does_not_fit_together_is_told_in_short(arguments, told, capsys):
    assert main(["validate", *arguments]) == 2
    message = capsys.readouterr().err
    assert told in message and len(message.splitlines()) <= 3


def test_a_training_set_of_another_mechanism_or_step_is_refused(hydrogen_set, capsys):
    for other in (["exact"], ["exact", "--mechanism", "h2o2.yaml", "--dt", "2e-6"], ["drm19-demo"]):
        assert main(["validate", *other, "--data", hydrogen_set]) == 2
        assert "another mechanism or dt" in capsys.readouterr().err
