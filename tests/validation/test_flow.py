"""Small turbulent flames: what the errors of one step and the differences of a run are, and when they are made anew."""

import cantera as ct
import numpy as np
import pytest
from tiny_model import save_tiny_model

from cfd_coupling.compare import temperature_difference
from cfd_coupling.config import load_case
from chemnet.gas.canonical import premixed
from chemnet.gas.mechanism import load_mechanism
from chemnet.gas.state import densities
from chemnet.gas.status import Status
from chemnet.kinetics import RosenbrockReactor, StepResult
from chemnet.runtime.errors import NumericalError, UsageError
from chemnet.validation import flow, flow_steps, suite
from chemnet.validation.flame_scales import FlameScales
from chemnet.validation.flow import BOXES, Box, FlowSolver
from chemnet.validation.flow_steps import ANSWER, INTEGRATOR, NETWORK, SINGLE, FlowStates

DT = 1e-6
MECHANISM = load_mechanism("drm19")


def burning(temperatures=(900.0, 2100.0, 2200.0, 2600.0)):
    """States of gas that burns, on their way for 20 us."""
    Y = premixed(MECHANISM, 1.0, {"CH4": 1.0})
    states = np.array([[T, 101325.0, *Y] for T in temperatures])
    return RosenbrockReactor(MECHANISM).advance(states, 2e-5).states


class Distorted:
    """The exact step with the change of each row multiplied by a factor, and some rows refused."""

    def __init__(self, factors, refused=()):
        self.mechanism, self.factors, self.refused = MECHANISM, np.asarray(factors), list(refused)
        self.exact = RosenbrockReactor(MECHANISM)

    def advance(self, states, dt):
        after, status = self.exact.advance(states, dt)
        after = states + self.factors[:, None] * (after - states)
        after[self.refused], status[self.refused] = states[self.refused], Status.OUTSIDE
        return StepResult(after, status)


def judged(model):
    """The steps of a model judged by the exact ones, and the errors of its answer over all states."""
    states = burning()
    exact = RosenbrockReactor(MECHANISM).advance(states, DT).states
    given = FlowStates(states, exact, np.array(["a", "a", "b", "b"]))
    steps = flow_steps.validate_steps(model, given, DT, ["CH4"])
    return steps, *flow_steps.errors(steps, steps.answers[ANSWER], np.ones(4, bool))


def figures(found):
    return {figure.name: figure for figure in found}


def test_the_exact_step_judged_by_itself_has_no_errors():
    steps, signed, absolute = judged(RosenbrockReactor(MECHANISM))
    assert list(steps.columns)[:10] == ["T", "CH4", "O2", "CO", "CO2", "H2O", "H2", "OH", "H", "CH2O"]
    np.testing.assert_array_equal([signed, absolute], np.zeros((2, 13)))
    assert {figure.met for figure in flow_steps.figures(steps)} == {"yes", None}
    assert flow_steps.share_within(steps, steps.answers[ANSWER]) == 100.0


def test_quantities_of_a_gas_without_carbon_are_its_own():
    """Those of the usual ones that change, and of the others those that change most; never N2, which does not."""
    mechanism = load_mechanism("h2o2.yaml")
    fresh = [np.hstack([T, ct.one_atm, premixed(mechanism, 1.0, {"H2": 1.0})]) for T in (1500.0, 2000.0)]
    exact = RosenbrockReactor(mechanism)
    states = exact.advance(np.array(fresh), 1e-5).states
    given = FlowStates(states, exact.advance(states, DT).states, np.array(["a", "a"]))
    steps = flow_steps.validate_steps(exact, given, DT, ["H2"])
    assert list(steps.columns)[:6] == ["T", "H2", "O2", "H2O", "OH", "H"]
    change = steps.density @ np.abs(given.exact - given.states)[:, 2:]
    others = [mechanism.species_names.index(name) for name in ("O", "HO2", "H2O2")]
    assert {mechanism.species_names[i] for i in others} == set(list(steps.columns)[6:]) and (change[others] > 0.0).all()
    assert {figure.met for figure in flow_steps.figures(steps)} == {"yes", None}


def test_a_change_too_large_by_two_percent_is_an_error_of_two_percent_with_its_sign():
    steps, signed, absolute = judged(Distorted([1.02] * 4))
    change = steps.given.exact - steps.given.states
    of_T = steps.density @ change[:, 0] / (steps.density @ np.abs(change[:, 0]))
    assert signed[0] == pytest.approx(2.0 * of_T, rel=1e-9, abs=0.0)
    np.testing.assert_allclose(absolute, 2.0, rtol=1e-6, atol=0.0)
    assert signed[1] == pytest.approx(-2.0, rel=1e-6, abs=0.0)  # too much fuel is burnt
    found = figures(flow_steps.figures(steps))
    assert found["one step: absolute error of T [%]"].met == "no"
    assert found["one step: bias of CH4 [%]"].value == pytest.approx(2.0, rel=1e-6, abs=0.0)


def test_rows_count_by_their_density():
    steps, _, absolute = judged(Distorted([1.0, 1.0, 1.0, 1.5]))
    sizes = densities(steps.given.states, MECHANISM) * np.abs(steps.given.exact - steps.given.states)[:, 0]
    assert absolute[0] == pytest.approx(50.0 * sizes[3] / sizes.sum(), rel=1e-9, abs=0.0)


def test_the_share_within_the_bound_is_that_of_front_states_with_every_species_within_a_tenth():
    steps, *_ = judged(Distorted([2.0, 1.05, 1.2, 1.09]))
    assert steps.given.front.tolist() == [False, True, True, True]
    assert flow_steps.share_within(steps, steps.answers[ANSWER]) == pytest.approx(200.0 / 3.0, rel=1e-12, abs=0.0)


def test_a_refused_state_counts_as_one_without_change():
    steps, signed, _ = judged(Distorted([1.0] * 4, refused=[0, 1, 2, 3]))
    assert steps.answers[ANSWER].refused == 4
    assert signed[1] == pytest.approx(100.0, rel=1e-9, abs=0.0)  # no fuel is burnt


def test_the_table_has_two_rows_per_band_front_and_box_and_none_for_an_empty_band():
    steps, signed, absolute = judged(Distorted([1.02] * 4))
    table = flow_steps.step_table(steps)
    T = steps.given.states[:, 0]
    assert (T < 1000.0).sum() == 1 and (T > 1800.0).sum() == 3
    expected = {"below 1000 K": 1, "from 1800 K": 3, "front, dT > 0.1 K": 3, "a": 2, "b": 2, "all": 4}
    assert {row[1]: row[2] for row in table.rows} == expected
    assert [row[3] for row in table.rows] == ["signed", "absolute"] * len(expected)
    np.testing.assert_allclose([row[4:] for row in table.rows[-2:]], [signed, absolute], rtol=1e-12, atol=0.0)


class Flow:
    """A solver whose runs are two snapshots: what the model's quantities are too large by, and a change that makes it
    fail."""

    def __init__(self, exact_fails=(), **excess):
        self.exact_fails, self.excess, self.calls = set(exact_fails), excess, []
        self.solver = FlowSolver(self.burn, temperature_difference, "s")

    def burn(self, changes):
        self.calls.append(list(changes))
        if self.exact_fails & set(changes):
            raise NumericalError("the box is burnt up")
        excess = dict(self.excess) if "chemistry.kind=neural" in changes else {}
        if excess.pop("fails", None) in changes:
            raise NumericalError("chemistry gave no number\nin a cell")
        T = np.full((2, 3, 4), 1000.0)
        T[1] += excess.pop("T", 0.0)
        run = {name: np.array([1.0, 2.0]) for name in ("time", "p0", "burnt_area", "heat", "fuel", "left")}
        run |= {name: run[name] * (1.0 + np.array(share)) for name, share in excess.items()}
        return {**run, "left": np.array([0.0, 0.25]), "T": T, "states": burning((2100.0, 2600.0))}


def exact_runs(fake, cache=None):
    step = RosenbrockReactor(MECHANISM)
    found, failed = flow.references(step, DT, ["mechanism=drm19"], fake.solver, lambda line: None, cache)
    assert not failed
    return found


def test_a_run_too_hot_and_too_large_differs_by_that_at_the_end_and_in_the_worst_snapshot():
    fake = Flow(T=5.0, heat=[-0.04, 0.01], p0=[0.0, -0.002])
    found = flow.repeat(["chemistry.kind=neural"], exact_runs(fake), [], fake.solver, lambda line: None)
    rows = flow.run_table(found).rows
    assert [row[:2] for row in rows[:3]] == [("phi 1", "end"), ("phi 1", "largest"), ("phi 0.7", "end")]
    assert rows[0][2:-1] == pytest.approx((0.5, 5.0, 0.0, 1.0, 0.0, -0.2, 25.0), rel=1e-9, abs=1e-9)
    assert rows[1][2:-1] == pytest.approx((0.5, 5.0, 0.0, 4.0, 0.0, 0.2, 25.0), rel=1e-9, abs=1e-9)
    assert rows[0][-1] == rows[1][-1] == "burns"
    by_name = figures(flow.figures(found))
    assert by_name["run, worst box: heat released [%]"].value == pytest.approx(1.0, rel=1e-9, abs=0.0)
    assert by_name["run, worst box: T, p99.9 [K]"].met == "yes" and by_name["run, worst box: p0 [%]"].met == "no"


def test_a_run_that_fails_is_a_row_with_the_reason_and_meets_no_target():
    fake = Flow(fails="mixture.phi=0.7")
    found = flow.repeat(["chemistry.kind=neural"], exact_runs(fake), [], fake.solver, lambda line: None)
    assert flow.run_table(found).rows[2] == ("phi 0.7", "end", *[None] * 7, "chemistry gave no number")
    assert flow.run_table(found).rows[0][-1] == "burns"
    first, *others = flow.figures(found)
    assert (first.value, first.met) == (1, "no")
    assert {(figure.value, figure.met) for figure in others} == {(None, "no"), (None, None)}


def test_exact_runs_are_kept_with_their_steps_until_one_of_their_inputs_changes_or_a_file_is_damaged(tmp_path):
    fake = Flow()
    first, again = exact_runs(fake, tmp_path), exact_runs(fake, tmp_path)
    assert len(fake.calls) == len(BOXES) == len(list(tmp_path.iterdir()))
    for name, values in first["phi 1"].items():
        np.testing.assert_array_equal(again["phi 1"][name], values)
    path = min(tmp_path.iterdir())
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    exact_runs(fake, tmp_path)
    assert len(fake.calls) == len(BOXES) + 1
    fake.solver = FlowSolver(fake.burn, temperature_difference, "another")
    exact_runs(fake, tmp_path)
    assert len(fake.calls) == 2 * len(BOXES) + 1


def test_the_boxes_are_of_the_case_each_of_its_own_seed_and_fine_enough():
    cases = [load_case("turbulent_ignition", None, box.changes) for box in BOXES]
    assert [case.seed for case in cases] == [12, 11, 13, 14]
    for case in cases:
        assert case.grid.length_x / case.grid.nx == pytest.approx(1.5e-2 / 512, rel=1e-12, abs=0.0)
    assert Box("", 1, 1.0, 8, 1e-4, ((0.1, 0.2),)).changes[7] == "initial.kernel_centres=[[0.1, 0.2]]"


@pytest.mark.parametrize("dt", [1e-6, 1e-7])
def test_the_boxes_of_a_gas_have_its_lengths_its_mixtures_and_a_time_in_which_its_flame_moves_as_far(dt):
    """A flame of half the thickness, six times as fast: in a fifth of the time it crosses half of the length."""
    scales = FlameScales(thickness=2.05e-4, speed=2.46, pressure=3e5, temperature=320.0, phis=(1.8,))
    single, two = flow.boxes_of(scales, dt)
    usual, case = (load_case("turbulent_ignition", None, box.changes) for box in (BOXES[0], single))
    for name in ("length_x", "length_y"):
        assert getattr(case.grid, name) == pytest.approx(0.5 * getattr(usual.grid, name), rel=1e-12, abs=0.0)
    assert case.initial.kernel_radius == pytest.approx(0.5 * usual.initial.kernel_radius, rel=1e-12, abs=0.0)
    assert case.end_time == pytest.approx(max(usual.end_time / 12.0, 50 * dt), rel=1e-9, abs=0.0)
    crossed = case.initial.rms_velocity * dt / (case.grid.length_x / case.grid.nx)
    assert crossed <= 0.1001 and (dt == 1e-6 or case.initial.rms_velocity == pytest.approx(9.0, rel=1e-9, abs=0.0))
    assert (case.mixture.phi, case.mixture.pressure, case.mixture.temperature) == (1.8, 3e5, 320.0)
    assert (single.name, two.name) == ("phi 1.8", "phi 1.8, two kernels")


def test_the_check_gives_both_tables_and_their_figures_for_a_model_and_for_the_exact_step(tmp_path):
    model, fake = save_tiny_model(tmp_path / "tiny.safetensors", DT), Flow()
    answers = {}
    for name in (None, model):
        asked = suite.Suite(name, flow=fake.solver, report=lambda line: None)
        steps, runs, summary = suite.run(asked, ["flow"])
        answers[name] = {row[0] for row in steps.rows}
        assert len(runs.rows) == 2 * len(BOXES) and {row[0] for row in summary.rows} == {"flow"}
        assert fake.calls[-1][-1] == (f'chemistry.model="{model}"' if name else "chemistry.kind=exact")
    assert answers == {None: {ANSWER}, model: {ANSWER, NETWORK, INTEGRATOR, SINGLE}}
    with pytest.raises(UsageError, match="flow needs the flow solver"):
        suite.run(suite.Suite(None), ["flow"])


def test_without_transport_data_there_is_no_flow(monkeypatch):
    monkeypatch.setattr(suite, "has_transport", lambda mechanism: False)
    with pytest.raises(UsageError, match="flow needs transport data of the mechanism"):
        suite.run(suite.Suite(None, flow=Flow().solver), ["flow"])


def test_a_box_whose_exact_run_fails_is_a_row_with_the_reason_and_judges_nothing():
    for phis, judged in ((("0.7",), 3), (("0.7", "1.0", "1.3"), 0)):
        fake = Flow(exact_fails=[f"mixture.phi={phi}" for phi in phis])
        *_, runs, summary = suite.run(suite.Suite(None, flow=fake.solver, report=lambda line: None), ["flow"])
        assert len(runs.rows) == 2 * len(BOXES)
        failed = [row for row in runs.rows if row[-1] == "exact run: the box is burnt up"]
        assert len(failed) == 2 * (len(BOXES) - judged) and set(failed[0][2:-1]) == {None}
        values = {row[1]: row[2] for row in summary.rows}
        assert values.get("runs that fail") == (0 if judged else None)
