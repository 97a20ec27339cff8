"""Monitors: the columns of history.csv against numbers worked out by hand."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from cfd_coupling.chemistry import ChemistryReport
from cfd_coupling.compare import read_history
from cfd_coupling.config import ConsumptionConfig
from cfd_coupling.fields import Fields, interior
from cfd_coupling.grid import Grid
from cfd_coupling.monitors import Clock, Combustion, Condition, Conserved, History, Work, unit
from cfd_coupling.parallel import Communicator
from cfd_coupling.stepping import PARTS
from chemnet.gas.mechanism import load_mechanism
from chemnet.runtime.errors import NumericalError

GRID = Grid(5, 4, 5e-4, 8e-4)
CELL = GRID.dx * GRID.dy
DT = 1e-6
CLOCK = {"cfl": 0.3, "substeps": 1, "iterations": 12, "residual": 1e-12}


@pytest.fixture(scope="module")
def drm19():
    return load_mechanism("drm19")


@pytest.fixture
def fields(drm19):
    """Cold methane of density 2, one hot cell; ghosts are NaN, so that using one shows."""
    fields = Fields.empty(GRID, drm19.n_species, p0=1e5)
    for q in (fields.scalars, fields.velocity, fields.rho, fields.T):
        q[:] = np.nan
        interior(q)[:] = 0.0
    interior(fields.rho)[:] = 2.0
    interior(fields.T)[:] = 300.0
    interior(fields.T)[2, 3] = 1800.0
    interior(fields.h)[:] = 7e4
    interior(fields.Y)[drm19.index("CH4")] = 1.0
    return fields


def report(produced, seconds=0.0):
    """A step in which chemistry made `produced` (K,) in the one hot cell."""
    cells = {"frozen": 19, "exact": 0, "cvode": 1, "neural": 0, "fallback": 0}
    hot = np.zeros((GRID.ny, GRID.nx), dtype=bool)
    hot[2, 3] = True
    chemistry = ChemistryReport(hot, np.array([produced]), np.ones(1, np.int8), cells)
    return SimpleNamespace(chemistry=chemistry, seconds=dict.fromkeys(PARTS, seconds), **CLOCK)


def test_totals_are_sums_over_the_box(fields, drm19):
    row = Conserved(GRID, Communicator(), drm19).row(fields)
    assert row["mass"] == pytest.approx(2.0 * 20 * CELL, rel=1e-12, abs=0.0)
    assert row["mass_C"] == pytest.approx(12.011 / 16.043 * row["mass"], rel=1e-12, abs=0.0)
    assert row["mass_O"] == 0.0
    assert row["energy"] == pytest.approx((2.0 * 7e4 - 1e5) * 20 * CELL, rel=1e-12, abs=0.0)


def test_drift_is_relative_to_the_first_row(fields, drm19):
    monitor = Conserved(GRID, Communicator(), drm19)
    assert monitor.row(fields)["drift_mass"] == 0.0
    interior(fields.rho)[0, 0] *= 1.0 + 2e-9
    row = monitor.row(fields)
    assert row["drift_mass"] == pytest.approx(1e-10, rel=1e-4, abs=0.0)
    assert row["drift_mass_H"] == pytest.approx(1e-10, rel=1e-4, abs=0.0)
    assert row["drift_mass_O"] == 0.0


def test_heat_release_and_consumption_speed_are_means_since_the_last_row(fields, drm19):
    fuel = drm19.index("CH4")
    monitor = Combustion(GRID, Communicator(), drm19, DT, ConsumptionConfig(fuel="CH4", fronts=2))
    assert monitor.row(fields)["heat_release"] == 0.0
    for rate in (0.0, -3.0):
        produced = np.zeros(drm19.n_species)
        produced[fuel] = rate * DT
        monitor.see(fields, report(produced))
    row = monitor.row(fields)
    mean = 1.5 * CELL
    gas = drm19.gas()
    gas.TPX = 298.15, 101325.0, "CH4:1"
    assert row["heat_release"] == pytest.approx(mean * gas.enthalpy_mass, rel=1e-6, abs=0.0)
    assert row["consumption_speed"] == pytest.approx(mean / (2 * GRID.length_y * 2.0), rel=1e-12, abs=0.0)
    assert row["burnt_area"] == pytest.approx(CELL, rel=1e-12, abs=0.0)
    assert monitor.row(fields)["heat_release"] == 0.0


def test_kinetic_energy_and_extremes(fields):
    interior(fields.u)[:] = 3.0
    interior(fields.v)[:] = 4.0
    row = Condition(GRID, Communicator()).row(fields)
    assert row["kinetic_energy"] == pytest.approx(0.5 * 2.0 * 25.0 * 20 * CELL, rel=1e-12, abs=0.0)
    assert (row["T_min"], row["T_max"]) == (300.0, 1800.0)


@pytest.mark.parametrize("name", ["T", "rho", "u", "v", "p"])
def test_a_value_that_is_not_finite_is_a_numerical_error_that_names_field_cell_step_and_rank(fields, name):
    fields.p[:] = 0.0
    interior(getattr(fields, name))[1, 2] = np.inf
    fields.step = 17
    where = rf"^{name} in cell \(row 1, column 2\) is not finite after step 17, .*rank 0"
    with pytest.raises(NumericalError, match=where):
        Condition(GRID, Communicator()).see(fields, None)


def test_seconds_add_up_after_the_first_step_and_cells_are_those_of_the_last(fields):
    monitor = Work(Communicator())
    assert set(monitor.row(fields)) == {f"seconds_{part}" for part in PARTS} | {
        f"cells_{name}" for name in ("frozen", "exact", "cvode", "neural", "fallback", "retried", "integrated", "moved")
    }
    for step in (1, 2, 3, 4):
        fields.step = step
        monitor.see(fields, report(np.zeros(1), seconds=0.5))
    row = monitor.row(fields)
    assert row["seconds_chemistry"] == 1.5
    assert row["cells_cvode"] == 1.0


def test_history_writes_a_row_every_n_steps_that_reads_back_exactly(fields, tmp_path):
    history = History(tmp_path / "history.csv", Communicator(), [Condition(GRID, Communicator())], every=3)
    history.write(fields)
    for step in range(1, 8):
        fields.step = step
        interior(fields.T)[0, 0] = 300.0 - step / 3
        history.see(fields, None)
    header, *lines = (tmp_path / "history.csv").read_text().splitlines()
    assert header == "T_min,T_max,kinetic_energy"
    assert [float(line.split(",")[0]) for line in lines] == [300.0, 299.0, 298.0]


def all_monitors(drm19):
    """The monitors of a run."""
    comm = Communicator()
    return [
        Clock(comm, DT),
        Condition(GRID, comm),
        Conserved(GRID, comm, drm19),
        Combustion(GRID, comm, drm19, DT, ConsumptionConfig(fuel="CH4", fronts=2)),
        Work(comm),
    ]


def test_a_history_goes_on_from_its_state_as_if_it_had_never_stopped(fields, drm19, tmp_path):
    def steps(history, first, last):
        for step in range(first, last + 1):
            fields.step = step
            interior(fields.rho)[1, 1] = 2.0 + 1e-3 * step
            produced = np.full(drm19.n_species, -1e-5 / step)
            history.see(fields, report(produced, seconds=0.5))

    whole = History(tmp_path / "whole.csv", Communicator(), all_monitors(drm19), every=4)
    whole.write(fields)
    steps(whole, 1, 8)
    first, second = (History(tmp_path / "parts.csv", Communicator(), all_monitors(drm19), every=4) for _ in range(2))
    interior(fields.rho)[1, 1] = 2.0
    fields.step = 0
    first.write(fields)
    steps(first, 1, 6)
    second.restore(json.loads(json.dumps(first.state())))
    steps(second, 7, 8)
    one, other = (read_history(tmp_path / f"{name}.csv") for name in ("whole", "parts"))
    for name in one:
        if not name.startswith("seconds_"):
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)
    assert other["seconds_chemistry"][-1] == one["seconds_chemistry"][-1] - 0.5  # the first step of each part


def test_every_column_has_a_unit(fields, drm19, tmp_path):
    history = History(tmp_path / "history.csv", Communicator(), all_monitors(drm19), every=1)
    units = {name: unit(name) for name in history.write(fields)}
    assert (units["time"], units["p0"], units["mass_C"], units["heat_release"]) == ("s", "Pa", "kg/m", "W/m")
    assert (units["seconds_diffusion"], units["cells_exact"], units["drift_mass"], units["step"]) == (
        "s",
        "1",
        "1",
        "1",
    )
