"""Validation judged by what is known: the oracle itself, and histories whose delay is given."""

import json

import numpy as np
import pytest
from tiny_model import save_tiny_model

from chemnet.cli.main import main
from chemnet.data.dataset import Pairs
from chemnet.gas.mechanism import load_mechanism
from chemnet.gas.state import equivalence_ratios
from chemnet.gas.status import Status
from chemnet.kinetics import CvodesReactor, RosenbrockReactor, StepResult
from chemnet.runtime.errors import UsageError
from chemnet.validation import IgnitionCases, ignition, ignition_delay, rollouts, validate_ignition
from chemnet.validation.single_steps import validate_steps

DT = 1e-6
CASES = IgnitionCases(temperatures=(1700.0, 1800.0), equivalence_ratios=(0.6, 1.4), steps=400)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """What the command sets where it is not set, so that it is taken back."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


class Nothing:
    """A model that changes nothing, and refuses a row when asked to."""

    def __init__(self, status=Status.OK):
        self.mechanism = load_mechanism("drm19")
        self.status = status

    def advance(self, states, dt):
        return StepResult(states.copy(), np.full(len(states), self.status, dtype=np.int8))


def figures(report):
    return {figure.name: figure.value for figure in ignition.figures(report)}


def test_cases_burn_in_their_oxidizer():
    """Mass fractions by Cantera; in pure oxygen there is no nitrogen."""
    cases = IgnitionCases(equivalence_ratios=(0.8,), oxidizer={"O2": 1.0})
    gas = load_mechanism("drm19").gas()
    gas.set_equivalence_ratio(0.8, "CH4", "O2")
    states = cases.states(load_mechanism("drm19"))
    np.testing.assert_allclose(states[:, 2:], np.tile(gas.Y, (5, 1)), rtol=1e-12, atol=1e-15)


@pytest.fixture(scope="module", params=[RosenbrockReactor, CvodesReactor])
def exact_report(request):
    return validate_ignition(request.param(load_mechanism("drm19")), DT, CASES)


def test_an_exact_step_as_a_model_has_no_delay_error_beyond_its_tolerance(exact_report):
    """The oracle is the exact integrator at tight tolerances, which CVODES without a break confirms."""
    result = figures(exact_report)
    assert result["delays of the reference against CVODES, max [%]"] < 0.002
    assert result["cases"] == 4
    assert result["cases that ignite by the reference"] == result["cases that ignite by the model"] == 4
    assert result["failed cases"] == 0
    assert result["ignition delay error, max [%]"] < 0.05  # rtol 1e-6 restarted every microsecond against 1e-9
    assert result["end temperature error, max [K]"] < 0.5
    assert result["element drift, max [kg/kg]"] < 1e-12
    assert result["enthalpy drift, max [h/(cp T)]"] < 1e-12


def test_the_case_table_has_a_row_per_mixture_in_their_order(exact_report):
    rows = ignition.case_table(exact_report).rows
    assert [row[:2] for row in rows] == [(1700.0, 0.6), (1700.0, 1.4), (1800.0, 0.6), (1800.0, 1.4)]
    assert all(row[-1] == "ok" for row in rows)
    delays = [row[3] for row in rows]  # hotter ignites sooner, richer later
    assert delays[2] < delays[0] < delays[1] and delays[2] < delays[3]


def test_a_model_that_never_ignites_fails_every_case():
    result = figures(validate_ignition(Nothing(), DT, CASES))
    assert result["failed cases"] == 4
    assert result["cases that ignite by the model"] == 0
    assert result["ignition delay error, mean [%]"] is None


def test_a_refused_step_counts_as_a_failure_and_is_named():
    report = validate_ignition(Nothing(Status.OUTSIDE), DT, CASES)
    assert report.failed.all()
    assert {row[-1] for row in ignition.case_table(report).rows} == {"outside"}


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
        validate_ignition(Nothing(), DT, CASES.model_copy(update={"steps": 5}))
    with pytest.raises(UsageError, match="no species C8H18"):
        CASES.model_copy(update={"fuel": {"C8H18": 1.0}}).states(load_mechanism("drm19"))


def test_a_long_roll_out_tells_the_time_still_needed(monkeypatch):
    monkeypatch.setattr(rollouts, "REPORT_EVERY", 0.0)
    lines = []
    rollouts.roll_out(Nothing(), CASES.states(load_mechanism("drm19")), DT, 3, lines.append)
    assert [line.split(",")[0] for line in lines] == ["step 1 of 3", "step 2 of 3", "step 3 of 3"]


def test_one_step_errors_are_taken_on_validation_rows_only_and_by_region():
    mechanism = load_mechanism("drm19")
    states = CASES.states(mechanism)
    next_states, _ = CvodesReactor(mechanism).advance(states, 1e-4)
    kind = np.array([0, 0, 2, 2], dtype=np.int8)
    split = np.array([1, 0, 1, 1], dtype=np.int8)
    pairs = Pairs(states, next_states, split, np.zeros(4, np.int32), kind)
    table, _ = validate_steps(CvodesReactor(mechanism), pairs, ("D", "F", "P"), 1e-4)
    assert [row[:4] for row in table.rows] == [
        ("kind", "D", 1, 0),
        ("kind", "P", 2, 0),
        ("T [K]", "1200 - 1800", 1, 0),
        ("T [K]", "1800 - 2300", 2, 0),
        ("phi", "0.5 - 0.8", 2, 0),
        ("phi", "1.2 - 1.6", 1, 0),
        ("change of T [K]", "0.1 - 1", 1, 0),
        ("change of T [K]", "from 1", 2, 0),
    ]
    assert all(row[-1] == 0.0 for row in table.rows)
    nothing, found = validate_steps(Nothing(), pairs, ("D", "F", "P"), 1e-4)
    assert [row[-1] for row in nothing.rows] == [1.0] * 8
    assert nothing.rows[0][6] == abs(next_states[0, 0] - states[0, 0])
    assert {f.name: f.value for f in found}["error of the change"] == 1.0


def test_the_local_equivalence_ratio_is_that_of_the_mixture_before_and_after_burning():
    mechanism = load_mechanism("drm19")
    states = CASES.states(mechanism)
    burnt, _ = RosenbrockReactor(mechanism).advance(states, 1e-2)
    for rows in (states, burnt):
        np.testing.assert_allclose(equivalence_ratios(rows, mechanism), [0.6, 1.4, 0.6, 1.4], rtol=1e-12, atol=0.0)


def test_cases_take_at_least_their_steps_and_several_delays():
    """The later case is stepped three delays, the other its 400 steps, and both as if they were alone."""
    cases = IgnitionCases(temperatures=(1550.0, 1800.0), equivalence_ratios=(1.0,), steps=400, delays=3.0)
    step = RosenbrockReactor(load_mechanism("drm19"))
    report = validate_ignition(step, DT, cases)
    late, early = report.reference.delay
    assert report.reference.steps.tolist() == [np.ceil(3.0 * report.reference.cvodes_delay[0] / DT), 400]
    assert late * 3 > 400 * DT > early * 3
    alone = rollouts.roll_out(step, cases.states(step.mechanism)[1:], DT, 400)
    np.testing.assert_array_equal(report.model.temperature[1, :401], alone.temperature[0])
    assert (report.model.temperature[1, 400:] == alone.temperature[0, -1]).all()


H2O2 = ("--set", "mechanism=h2o2.yaml", "--set", "fuel={H2: 1}")
HYDROGEN_CASES = ("--quick", "--fuel", "H2", "--set", "temperatures=[1300]", "--set", "equivalence_ratios=[1]",
                  "--set", "steps=200")  # fmt: skip


@pytest.fixture(scope="module")
def hydrogen_set(tmp_path_factory):
    """A training set of a mechanism that does not ship with chemnet, made by the command line."""
    out = tmp_path_factory.mktemp("hydrogen") / "states.h5"
    small = ("rows=200", "ignition.trajectories=3", "kernel.trajectories=2", "burnt.states=9", "flames.phi=[1, 1.1]",
             "flames.at=[[101325, 300]]", "flow=null", "validation_share=0.3")  # fmt: skip
    assert main(["sample", *H2O2, *(w for c in small for w in ("--set", c)), "--out", str(out), "--workers", "1"]) == 0
    return str(out)


def tables_of(tmp_path, *arguments):
    target = tmp_path / "tables.json"
    assert main(["validate", *arguments, *HYDROGEN_CASES, "--json", str(target)]) == 0
    *tables, judged = json.loads(target.read_text())["tables"]
    return tables, {(row["check"], row["figure"]): row["value"] for row in judged["rows"]}


def test_the_exact_step_of_a_users_own_mechanism_is_validated(hydrogen_set, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tables, figures = tables_of(tmp_path, "exact", "--mechanism", "h2o2.yaml", "--data", hydrogen_set)
    assert figures["ignition", "cases that ignite by the reference"] == 1
    assert figures["ignition", "cases that ignite by the model"] == 1
    assert figures["ignition", "ignition delay error, max [%]"] < 0.05
    assert figures["ignition", "end temperature error, max [K]"] < 0.1
    assert max(row["T error, max [K]"] for row in tables[0]["rows"]) < 0.1  # labels have tighter tolerances
    assert len(list((tmp_path / "runs/references").iterdir())) == 1


def test_a_model_of_a_users_own_mechanism_is_validated(hydrogen_set, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = save_tiny_model(tmp_path / "tiny.safetensors", DT, "h2o2.yaml")
    (single_steps, _, cases), figures = tables_of(tmp_path, "model", model, "--data", hydrogen_set)
    assert figures["ignition", "cases that ignite by the reference"] == 1
    assert len(cases["rows"]) == 1 and len(single_steps["rows"]) >= 5


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["model", "--dt", "1e-6"], "unrecognized arguments: --dt"),
        (["exact", "--dt", "-1"], "must be finite and positive"),
        (["exact", "--mechanism", "nope"], "no mechanism nope"),
        (["exact", "--mechanism", "h2o2.yaml"], "no species CH4"),
        (["exact", "--check", "stairs"], "no check stairs; there are steps, ignition"),
        (["exact", "--dt", "2e-6", "--check", "steps"], "the check steps needs a training set"),
        (["exact", "--check", "cost"], "the check cost needs a network"),
    ],
)
def test_what_does_not_fit_together_is_reported_in_short(arguments, expected, capsys):
    assert main(["validate", *arguments]) == 2
    message = capsys.readouterr().err
    assert expected in message and len(message.splitlines()) <= 3


def test_a_training_set_of_another_mechanism_or_step_is_refused(hydrogen_set, capsys):
    for other in (["exact"], ["exact", "--mechanism", "h2o2.yaml", "--dt", "2e-6"], ["model", "drm19-small"]):
        assert main(["validate", *other, "--data", hydrogen_set]) == 2
        assert "another mechanism or dt" in capsys.readouterr().err
