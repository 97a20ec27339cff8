"""The checks of the validation beside single steps and ignitions: cold gas, flames, references, the summary."""

import json

import cantera as ct
import numpy as np
import pytest
from tiny_model import save_tiny_model

from chemnet.cli.main import main
from chemnet.gas.canonical import burnt
from chemnet.gas.mechanism import load_mechanism
from chemnet.gas.status import Status
from chemnet.kinetics import CvodesReactor, RosenbrockReactor, StepResult
from chemnet.runtime.errors import NumericalError, UsageError
from chemnet.validation import IgnitionCases, cold, flames, references, suite, validate_ignition
from chemnet.validation.cold import ColdMixtures, validate_cold, warmed
from chemnet.validation.metrics import Figure, summary
from chemnet.validation.reports import ignitions

DT = 1e-6
MIXTURES = ColdMixtures(temperatures=(300.0, 600.0), warm=(900.0,), equivalence_ratios=(1.0,), steps=200)
CASES = IgnitionCases(temperatures=(1750.0, 1800.0), equivalence_ratios=(0.6,), steps=300)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """What the command sets where it is not set, so that it is taken back."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


class Heater:
    """The exact step, and `rise` [K] too much in each."""

    def __init__(self, rise):
        self.rise, self.mechanism = rise, load_mechanism("drm19")
        self.exact = CvodesReactor(self.mechanism)

    def advance(self, states, dt):
        result = self.exact.advance(states, dt)
        result.states[:, 0] += self.rise
        return result


def figures(found):
    return {figure.name: figure.value for figure in found}


def test_gas_warmed_by_its_own_burnt_gas_has_its_enthalpy_elements_and_the_temperature_asked_for():
    mechanism = load_mechanism("drm19")
    gas = mechanism.gas()
    gas.set_equivalence_ratio(0.8, "CH4", "O2:1, N2:3.76")
    gas.TP = 300.0, ct.one_atm
    fresh = np.hstack([gas.T, gas.P, gas.Y])
    mixture = warmed(fresh, burnt(mechanism.gas(), fresh), 650.0, mechanism)
    h, carbon = gas.enthalpy_mass, gas.elemental_mass_fraction("C")
    gas.TPY = mixture[0], mixture[1], mixture[2:]
    assert pytest.approx(650.0, rel=1e-9, abs=0.0) == gas.T
    assert gas.enthalpy_mass == pytest.approx(h, rel=1e-9, abs=0.0)
    assert gas.elemental_mass_fraction("C") == pytest.approx(carbon, rel=1e-12, abs=0.0)


def test_a_gas_that_ignites_earlier_is_cold_and_warm_at_lower_temperatures():
    usual = ColdMixtures()
    assert cold.levels(1500.0) == cold.levels(1200.0) == (usual.temperatures, usual.warm)
    assert cold.levels(900.0) == ((300.0, 367.0, 433.0, 500.0, 567.0), (633.0, 700.0, 767.0))


def test_the_exact_step_puts_no_heat_into_cold_gas_and_a_heater_what_it_adds():
    exact = validate_cold(CvodesReactor(load_mechanism("drm19")), DT, MIXTURES)
    assert [row[:3] for row in cold.cold_table(exact).rows] == [
        ("fresh", 300.0, 1.0),
        ("fresh", 600.0, 1.0),
        ("with burnt gas", 600.0, 1.0),
        ("warm fresh", 900.0, 1.0),
        ("warm with burnt gas", 900.0, 1.0),
    ]
    assert exact.false_heat.max() < 1e-3 and exact.change[2] > 1.0  # radicals recombine
    fresh = ColdMixtures(temperatures=(300.0,), warm=(), equivalence_ratios=(1.0,), steps=100)
    heated = validate_cold(Heater(1e-3), DT, fresh)
    assert heated.false_heat == pytest.approx([0.1], rel=1e-6, abs=0.0)
    assert figures(cold.figures(heated)) == {
        "mixtures that fail": 0,
        "false heat, fresh, 1000 steps [K]": heated.early_false_heat[0],
        "false heat, fresh, 100 steps [K]": heated.false_heat[0],
    }


def burner(speeds):
    """Burns by the table `speeds` of (phi, chemistry); None breaks off. Keeps the changes that it was given."""

    def burn(changes):
        burn.calls.append(list(changes))
        given = dict(change.split("=", 1) for change in changes)
        speed = speeds[float(given["mixture.phi"]), given["chemistry.kind"]]
        if speed is None:
            raise NumericalError("chemistry gave no number\nin a cell")
        return {"speed": speed, "left": 0.25}

    burn.calls = []
    return burn


def test_flames_are_judged_by_the_exact_one_which_is_burnt_once(tmp_path):
    burn = burner({(0.7, "exact"): 0.2, (0.7, "neural"): 0.19, (1.0, "exact"): 0.4, (1.0, "neural"): None})
    gas = flames.changes_of_gas("drm19", {"CH4": 0.8, "H2": 0.2}, DT, {"O2": 1.0})
    mixture = ['mixture.fuel={"CH4": 0.8, "H2": 0.2}', 'mixture.oxidizer={"O2": 1.0}']
    assert gas[1:] == [*mixture, "consumption_speed.fuel=CH4", "dt=1e-06"]
    for _ in range(2):
        found = flames.validate_flames(
            ["chemistry.kind=neural"], gas, burn, {"solver": "s"}, lambda line: None, tmp_path, (0.7, 1.0)
        )
    assert len(burn.calls) == 4 + 2
    rows = flames.flame_table(found).rows
    assert rows[0] == (0.7, 0.2, 0.19, pytest.approx(-5.0, rel=1e-9, abs=0.0), 25.0, "burns")
    assert rows[1] == (1.0, 0.4, None, None, None, "chemistry gave no number")
    judged = summary(flames.figures(found), "it").rows
    assert [row[-1] for row in judged] == ["no", "no"] and judged[0][2] == pytest.approx(5.0, rel=1e-9, abs=0.0)


def test_references_are_kept_until_one_of_their_inputs_changes_or_the_file_is_damaged(tmp_path):
    calls = []

    def compute():
        calls.append(1)
        return {"delay": [1.5, None]}

    for key in ({"dt": 1e-6}, {"dt": 1e-6}, {"dt": 2e-6}):
        assert references.cached(tmp_path / "kept", "a", key, compute) == {"delay": [1.5, None]}
    assert len(calls) == 2
    for path in (tmp_path / "kept").iterdir():
        path.write_text(path.read_text().replace("1.5", "1.6"))
    assert references.cached(tmp_path / "kept", "a", {"dt": 1e-6}, compute) == {"delay": [1.5, None]}
    assert len(calls) == 3


def test_a_kept_reference_judges_as_the_computed_one_does(tmp_path):
    step = RosenbrockReactor(load_mechanism("drm19"))
    first, second = (validate_ignition(step, DT, CASES, cache=tmp_path) for _ in range(2))
    np.testing.assert_array_equal(first.delay_error, second.delay_error)
    np.testing.assert_array_equal(first.reference.steps, second.reference.steps)
    assert len(list(tmp_path.iterdir())) == 1


def test_the_summary_says_which_targets_are_met():
    rows = summary(
        [Figure("r", "a", 1.0, 2.0), Figure("r", "b", 3, 2), Figure("r", "c", None, 1), Figure("r", "d", 5)], "m"
    )
    assert [row[-1] for row in rows.rows] == ["yes", "no", "no", None]


def test_a_lower_bound_is_met_by_what_does_not_fall_below_it_and_shown_as_one():
    found = [Figure("r", name, value, 90.0, lower=True) for name, value in (("a", 90.0), ("b", 89.0), ("c", None))]
    assert [row[3:] for row in summary(found, "m").rows] == [(">= 90", "yes"), (">= 90", "no"), (">= 90", "no")]
    assert summary([Figure("r", "d", 1.0, lower=True)], "m").rows[0][3:] == (None, None)


def test_without_a_choice_those_checks_run_that_have_what_they_need(monkeypatch):
    done = []
    for name in suite.CHECKS:
        monkeypatch.setitem(suite.CHECKS, name, lambda checks, name=name: (done.append(name), ([], []))[1])
    suite.run(suite.Suite(None))
    assert done == ["ignition", "pressure", "cold"]
    done.clear()
    suite.run(suite.Suite("drm19-small", burn=burner({})), usual=("ignition", "flames", "steps"))
    assert done == ["ignition", "flames"]
    with pytest.raises(UsageError, match="needs the flow solver"):
        suite.run(suite.Suite(None), ["flames"])


def test_the_pressures_are_those_that_the_model_accepts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = save_tiny_model(tmp_path / "tiny.safetensors", DT)
    asked = []
    monkeypatch.setattr(suite.ignition, "validate_ignition", lambda step, dt, cases, *_: asked.append(cases))
    with pytest.raises(AttributeError):  # the report that was not made
        suite.run(suite.Suite(model), ["pressure"])
    assert np.ptp(asked[0].pressures) == pytest.approx(3e5 - 7e4, rel=0.01, abs=0.0)
    assert min(asked[0].pressures) > 7e4 and max(asked[0].pressures) < 3e5


def test_the_written_validation_is_drawn(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["--quick", "--set", "temperatures=[1750, 1800]", "--set", "equivalence_ratios=[0.6]", "--set", "steps=300"]
    assert main(["validate", "exact", *words, "--check", "ignition", "--json", "validations/exact.json"]) == 0
    found = ignitions(tmp_path / "validations")
    assert list(found) == ["exact"] and found["exact"]["T0"].tolist() == [1750.0, 1800.0]
    assert main(["plot", "validation", "validations/exact.json"]) == 0
    assert (tmp_path / "validations/validation.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "other.json").write_text(json.dumps({"tables": []}))
    assert main(["plot", "validation", "other.json"]) == 4
    assert "holds no ignitions" in capsys.readouterr().err


def test_validations_of_several_seeds_are_compared_with_their_mean_and_spread(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for seed, error in enumerate((0.5, 1.0, None)):
        table = summary([Figure("ignition", "error", error, 2.0), Figure("cold", f"of {seed}", seed)], "small")
        (tmp_path / f"{seed}.json").write_text(json.dumps({"tables": [table.as_json()]}))
    assert main(["compare", "validation", "0.json", "1.json", "2.json", "--json", "all.json"]) == 0
    rows = json.loads((tmp_path / "all.json").read_text())["tables"][0]["rows"]
    assert list(rows[0].values()) == ["ignition", "error", 2.0, 0.5, 1.0, None, 0.75, 0.5]
    assert [row["figure"] for row in rows] == ["error", "of 0", "of 1", "of 2"]
    assert main(["compare", "validation", "0.json", "all.json"]) == 4
    assert "all.json holds no validation" in capsys.readouterr().err


def test_a_failed_row_is_a_failed_mixture():
    class Refusing(Heater):
        def advance(self, states, dt):
            return StepResult(states.copy(), np.full(len(states), Status.OUTSIDE, np.int8))

    report = validate_cold(
        Refusing(0.0), DT, ColdMixtures(temperatures=(300.0,), warm=(), equivalence_ratios=(1.0,), steps=5)
    )
    assert figures(cold.figures(report))["mixtures that fail"] == 1
