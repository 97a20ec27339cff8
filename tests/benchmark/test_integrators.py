"""The bench of the exact steps: errors of known size are found, and the tables and the picture hold what they say."""

import numpy as np
import pytest

from chemnet.benchmark import integrators, timing
from chemnet.benchmark.cells import Cells, Gas
from chemnet.benchmark.errors import Comparison, Judged, Truth, errors, trace_errors
from chemnet.benchmark.integrators import ExactTask, bench_exact, cost_table, mean_table, measure, name_of, trace_table
from chemnet.benchmark.timing import Timing
from chemnet.gas.mechanism import load_mechanism
from chemnet.gas.state import ONE_ATM
from chemnet.gas.status import Status
from chemnet.kinetics import CvodesReactor, RosenbrockReactor
from chemnet.runtime.errors import UsageError
from chemnet.runtime.plots import work_precision

HYDROGEN = load_mechanism("h2o2.yaml")
BURNT = Cells(Gas(HYDROGEN, {"H2": 1.0})).of("burnt", 30)


class Shifted(CvodesReactor):
    """The reference, made wrong: T of every row by `T`, mass fractions by a factor; the first row is refused."""

    def __init__(self, T, factor):
        super().__init__(HYDROGEN, 1e-10, 1e-16)
        self.T, self.factor = T, factor

    def advance(self, states, dt):
        next_states, status = result = super().advance(states, dt)
        next_states[:, 0] += self.T
        next_states[:, 2:] *= self.factor
        next_states[0] = states[0] + 1e6
        status[0] = Status.FAILED
        return result


def test_a_step_that_is_wrong_by_so_much_is_judged_so():
    judged = Truth(HYDROGEN, BURNT, 1e-6).judge(Shifted(0.25, 1.0 + 1e-4))
    assert judged.refused == 1 and judged.handed_over == 0 and judged.n_steps is None
    assert judged.temperature == pytest.approx(0.25, rel=1e-9, abs=0.0)
    assert judged.trace == pytest.approx(1e-4, rel=1e-8, abs=0.0)
    largest = 1e-4 * BURNT[:, 2 + HYDROGEN.index("N2")]  # inert, the most there is in a cell
    assert judged.mass_fraction == pytest.approx(np.quantile(largest[1:], 0.99), rel=1e-6, abs=0.0)


def test_the_reference_has_no_error_and_the_exact_step_counts_its_steps():
    truth = Truth(HYDROGEN, BURNT, 1e-6)
    assert truth.known.all()
    assert truth.judge(CvodesReactor(HYDROGEN, 1e-10, 1e-16)) == Judged(0.0, 0.0, 0.0)
    judged = truth.judge(RosenbrockReactor(HYDROGEN))
    assert judged.n_steps >= 1.0 and judged.refused == 0
    assert judged.temperature < 0.01


def test_percentiles_leave_one_in_a_hundred_out():
    truth = np.tile(BURNT[0], (1001, 1))
    states = truth.copy()
    states[:11, 0] += np.arange(11, 0, -1)  # rows off by 11, 10, ... 1 K: a hundredth lies at or above 1 K
    assert errors(truth, states).temperature == pytest.approx(1.0, rel=1e-9, abs=0.0)


def test_traces_are_the_mass_fractions_between_the_limits_and_their_errors_are_relative():
    truth = np.zeros((2, 12))
    truth[0, 2:6] = 1e-3, 2e-7, 1e-12, 1e-6
    truth[1, 2:6] = 0.5, 0.4, 3e-9, 1e-13
    states = truth.copy()
    states[:, 2:] *= 1.5
    states[1, 4] = 0.0
    values, species = trace_errors(truth, states)
    np.testing.assert_allclose(values, [0.5, 1.0], rtol=1e-12, atol=0.0)
    np.testing.assert_array_equal(species, [1, 2])


def test_nothing_to_judge_is_no_error_of_zero():
    assert errors(np.empty((0, 12)), np.empty((0, 12))) == Judged(None, None, None)


def test_steps_are_named_by_integrator_and_tolerances():
    assert name_of(CvodesReactor(HYDROGEN)) == "CVODES 1e-6/1e-10"
    assert name_of(RosenbrockReactor(HYDROGEN, 1e-4, 1e-12)) == "exact 1e-4/1e-12"


def comparison(slow, fast):
    judged = {"slow": Judged(1.0, 2.0, None, refused=3), "fast": Judged(4.0, 5.0, 6.0, 7.5, 8, 0)}
    return Comparison(Timing(10, 3, {"slow": [slow], "fast": [fast]}), judged)


def test_tables_have_a_row_per_cells_and_step_and_ratios_to_the_first_step():
    costs = {("1", "flame"): comparison(4e-3, 1e-4), ("10", "flame"): comparison(6e-3, 1e-4)}
    table = cost_table("dt = 1 s", ("P [atm]", "cells"), costs, ExactTask())
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    assert [(row["P [atm]"], row["step"]) for row in rows] == [
        ("1", "slow"),
        ("1", "fast"),
        ("10", "slow"),
        ("10", "fast"),
    ]
    assert rows[1]["cost [us]"] == pytest.approx(10.0, rel=1e-12, abs=0.0)
    assert [row["ratio"] for row in rows] == pytest.approx([1.0, 40.0, 1.0, 60.0], rel=1e-12, abs=0.0)
    figures = {"T error [K]": 4.0, "Y error": 5.0, "trace error": 6.0, "steps": 7.5, "handed over": 8, "refused": 0}
    assert {key: rows[1][key] for key in figures} == figures
    ((name, n, *ratios),) = mean_table(costs, ExactTask()).rows
    assert (name, n) == ("fast", 2) and ratios == pytest.approx([50.0, 40.0, 60.0], rel=1e-12, abs=0.0)


def test_the_table_of_traces_puts_the_worst_species_first():
    steps = {"reference": CvodesReactor(HYDROGEN, 1e-10, 1e-16), "off": Shifted(0.0, 1.001)}
    table = trace_table(steps, BURNT, ExactTask("h2o2.yaml"))
    names = [row[0] for row in table.rows]
    assert set(names) <= set(HYDROGEN.species_names) and "HO2" in names
    assert [row[2] for row in table.rows] == [0.0] * len(names)
    worst = [row[3] for row in table.rows]
    assert worst == sorted(worst, reverse=True)


def test_everything_is_measured_of_a_mechanism_of_the_users_own(monkeypatch):
    monkeypatch.setattr(timing, "_SHORTEST_TURN", 0.0)
    monkeypatch.setattr(integrators, "_THREADED_CELLS", 100)
    task = ExactTask("h2o2.yaml", {"H2": 1.0}, kinds=("ignition", "burnt"), cells=8, turns=1, curves=True)
    tables, curves = measure(task)
    assert [len(table.rows) for table in tables[:2]] == [6, 2]
    assert "dt [s]" in tables[4].columns and "P [atm]" in tables[5].columns
    assert {kind: list(names) for kind, names in curves.items()} == {
        "ignition": ["CVODES", "exact"],
        "burnt": ["CVODES", "exact"],
    }
    for error, cost, rtol in curves["ignition"].values():
        assert error[0] > error[-1] and (cost > 0.0).all() and (np.diff(rtol) < 0.0).all()


def test_unknown_kinds_and_fuels_are_refused_before_anything_is_measured():
    with pytest.raises(UsageError, match="no states warm; there are flame, mixed"):
        bench_exact([ExactTask(), ExactTask(kinds=("cold", "warm"))])
    with pytest.raises(UsageError, match="no species CH4"):
        bench_exact([ExactTask("h2o2.yaml", {"CH4": 1.0})])


def test_the_picture_has_a_panel_for_each_mechanism_and_kind(tmp_path):
    pytest.importorskip("matplotlib")
    curve = (np.array([1e-2, 1e-4]), np.array([1e-5, 2e-5]), np.array([1e-3, 1e-5]))
    panels = {kind: {"CVODES": curve, "exact": curve} for kind in ("flame", "cold")}
    path = tmp_path / "picture.png"
    work_precision(path, {"drm19": panels, "h2o2.yaml": panels})
    assert path.read_bytes().startswith(b"\x89PNG")


def test_cells_and_tables_are_of_the_pressure_that_is_asked_for():
    task = ExactTask("h2o2.yaml", pressure=2.0 * ONE_ATM, kinds=("burnt",), cells=6, turns=1, sweeps=False)
    np.testing.assert_allclose(integrators.cells_of(task).of("burnt", 6)[:, 1], 202650.0, rtol=1e-8, atol=0)
    tables, _ = measure(task)
    assert ", 2 atm: cost per cell of 6" in tables[0].title
