"""The chemistry of the flow: which cells it touches, what it conserves, how it counts the cells a model leaves."""

import numpy as np
import pytest
from tiny_model import save_tiny_model

from cfd_coupling.chemistry import KINDS, Frozen, Reacting, build_chemistry
from cfd_coupling.config import ChemistryConfig
from cfd_coupling.fields import Fields, interior
from cfd_coupling.grid import GHOSTS, Grid
from chemnet.gas.mechanism import load_mechanism
from chemnet.gas.state import elements, enthalpy
from chemnet.gas.status import Status
from chemnet.kinetics import CvodesReactor, RosenbrockReactor, StepResult, StepStats
from chemnet.runtime.errors import FileError, NumericalError, UsageError
from chemnet.surrogate.model import Surrogate

GRID = Grid(6, 5, 6e-4, 5e-4)
DT = 1e-6
INTEGRATORS = {"exact": RosenbrockReactor, "cvode": CvodesReactor}


@pytest.fixture(scope="module")
def drm19():
    return load_mechanism("drm19")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("model") / "tiny.safetensors", DT)


@pytest.fixture
def fields(drm19):
    """Stoichiometric methane-air: columns 0-2 at 400 K, columns 3-5 from 1500 to 2500 K; ghosts are NaN."""
    gas = drm19.gas()
    gas.set_equivalence_ratio(1.0, "CH4:1", "O2:1, N2:3.76")
    fields = Fields.empty(GRID, drm19.n_species, p0=101325.0)
    for q in (fields.scalars, fields.rho, fields.T):
        q[:] = np.nan
    for j in range(GRID.ny):
        for i in range(GRID.nx):
            gas.TP = (400.0 if i < 3 else 1500.0 + 250.0 * (i - 3) + 100.0 * j), fields.p0
            at = (j + GHOSTS, i + GHOSTS)
            fields.T[at], fields.rho[at], fields.h[at] = gas.T, gas.density, gas.enthalpy_mass
            fields.Y[(slice(None), *at)] = gas.Y
    return fields


def rows(fields: Fields) -> np.ndarray:
    T, Y = interior(fields.T), interior(fields.Y)
    return np.column_stack([T.ravel(), np.full(T.size, fields.p0), Y.reshape(len(Y), -1).T])


class Stub:
    """Adds `heat` [K] per call and notes what it was given; rows hotter than `limit` get a status, or count as left."""

    def __init__(self, limit=np.inf, status=Status.OK, heat=1.0):
        self.limit, self.status, self.heat = limit, status, heat
        self.calls: list[tuple[np.ndarray, float]] = []

    def advance(self, states, dt):
        self.calls.append((states.copy(), dt))
        after, beyond = states.copy(), states[:, 0] > self.limit
        status = np.where(beyond, self.status, Status.OK)
        after[status <= Status.RETRIED, 0] += self.heat
        return StepResult(after, status, StepStats(left=beyond & (self.status == Status.OK)))


def test_frozen_changes_nothing_and_counts_all_cells(fields):
    before = rows(fields)
    report = Frozen().apply(fields, DT)
    np.testing.assert_array_equal(rows(fields), before)
    assert report.cells == {"frozen": 30, "exact": 0, "cvode": 0, "neural": 0, "fallback": 0}
    assert not report.hot.any() and report.change.shape == (0, len(fields.Y))
    assert not report.kind_of_cells().any()


@pytest.mark.parametrize(("minimum", "cells"), [(500.0, 15), (1500.0, 14), (4000.0, 0)])
def test_only_cells_above_the_minimum_temperature_are_gathered(fields, minimum, cells):
    """One cell is exactly at 1500 K; without hot cells there is no call."""
    step = Stub()
    report = Reacting("cvode", step, min_temperature=minimum).apply(fields, DT)
    assert [(given.shape, dt) for given, dt in step.calls] == [((cells, len(fields.Y) + 2), DT)] * (cells > 0)
    assert all(given[:, 0].min() > minimum for given, _ in step.calls)
    assert (report.cells["cvode"], report.cells["frozen"]) == (cells, 30 - cells)
    np.testing.assert_array_equal(interior(fields.T)[:, :3], 400.0)


@pytest.mark.parametrize("tolerances", [{}, {"rtol": 1e-3, "atol": 1e-6}], ids=["own", "of the case"])
@pytest.mark.parametrize("kind", INTEGRATORS)
def test_an_integrator_gives_each_cell_what_it_gives_its_row(fields, drm19, kind, tolerances):
    before = rows(fields)
    expected, _ = INTEGRATORS[kind](drm19, **tolerances).advance(before, DT)
    build_chemistry(ChemistryConfig(kind=kind, **tolerances), drm19, DT).apply(fields, DT)
    hot = before[:, 0] > 500.0
    np.testing.assert_array_equal(rows(fields), np.where(hot[:, None], expected, before))
    assert np.abs(rows(fields)[:, 0] - before[:, 0]).max() > 1.0


@pytest.mark.parametrize("kind", [*INTEGRATORS, "neural"])
def test_elements_and_enthalpy_of_every_cell_are_kept_and_rho_h_and_ghosts_left_alone(fields, drm19, model, kind):
    before, rho, h = rows(fields), fields.rho.copy(), fields.h.copy()
    build_chemistry(ChemistryConfig(kind=kind, model=model), drm19, 2 * DT).apply(fields, 2 * DT)
    after = rows(fields)
    assert np.abs(after[:, 2:] - before[:, 2:]).max() > 1e-6
    np.testing.assert_allclose(elements(after, drm19), elements(before, drm19), rtol=0.0, atol=1e-12)
    np.testing.assert_allclose(enthalpy(after, drm19), enthalpy(before, drm19), rtol=0.0, atol=1e-12 * 3e6)
    np.testing.assert_array_equal(fields.rho, rho)
    np.testing.assert_array_equal(fields.h, h)
    assert np.isnan(fields.T).sum() == fields.T.size - 30


def test_cells_that_are_too_cold_for_a_network_are_told(fields, drm19, tmp_path):
    """Fifteen cells of 400 K stay frozen; of the reacting ones those below 1700 K are integrated."""
    path = save_tiny_model(tmp_path / "tiny.safetensors", DT)
    model = Surrogate.load(path).with_limits(1700.0, 0.0)
    model.save(path)
    colder = np.count_nonzero((rows(fields)[:, 0] > 500.0) & (rows(fields)[:, 0] < 1700.0))
    report = build_chemistry(ChemistryConfig(kind="neural", model=path), drm19, DT).apply(fields, DT)
    assert 0 < report.integrated == colder < report.cells["neural"]


def test_cells_of_a_second_attempt_are_counted_once_among_those_of_their_kind(fields):
    """Cells above 2000 K are tried twice and get cooler: one of 2000.5 K in the first sub-call only."""
    interior(fields.T)[0, 4] = 2000.5
    hotter = np.count_nonzero(interior(fields.T) > 2000.0)
    method = Stub(limit=2000.0, status=Status.RETRIED, heat=-1.0)
    report = Reacting("cvode", method, min_temperature=500.0, substep=DT).apply(fields, 2 * DT)
    assert report.retried == hotter
    assert report.cells["cvode"] == 15


def test_the_reported_change_is_the_mass_that_each_cell_has_gained(fields, drm19):
    rho, before = interior(fields.rho), interior(fields.Y).copy()
    report = build_chemistry(ChemistryConfig(kind="cvode"), drm19, DT).apply(fields, DT)
    gained = rho * (interior(fields.Y) - before)
    assert 0.0 < report.change[:, drm19.index("CO")].sum() < -report.change[:, drm19.index("CH4")].sum()
    for k in range(drm19.n_species):
        weights = np.zeros(drm19.n_species)
        weights[k] = 2.0
        np.testing.assert_allclose(report.weighed(weights), 2.0 * gained[k], rtol=1e-9, atol=1e-17)


def test_the_kind_of_each_cell_adds_up_to_the_counts(fields):
    hotter = np.greater(interior(fields.T), 2000.0)
    report = Reacting("neural", Stub(limit=2000.0), min_temperature=500.0).apply(fields, DT)
    kinds = report.kind_of_cells()
    np.testing.assert_array_equal(kinds == KINDS.index("fallback"), hotter)
    assert {kind: int((kinds == k).sum()) for k, kind in enumerate(KINDS)} == report.cells


def test_a_multiple_of_the_models_step_is_taken_in_sub_calls(fields):
    method = Stub()
    Reacting("neural", method, min_temperature=500.0, substep=DT).apply(fields, 3 * DT)
    assert [dt for _, dt in method.calls] == pytest.approx([DT] * 3, rel=1e-12, abs=0.0)
    np.testing.assert_allclose(method.calls[2][0][:, 0], method.calls[0][0][:, 0] + 2.0, rtol=1e-12, atol=0.0)


def test_a_cell_that_was_left_in_one_of_the_sub_calls_is_counted_once(fields):
    """Cells cool down by 2 K in each: one of 1800 K is left in the first sub-call only."""
    before = interior(fields.T)[:, 3:].copy()
    step = Stub(limit=1799.5, heat=-2.0)
    report = Reacting("neural", step, min_temperature=500.0, substep=DT).apply(fields, 2 * DT)
    assert [np.count_nonzero(given[:, 0] > 1799.5) for given, _ in step.calls] == [
        np.count_nonzero(before > 1799.5),
        np.count_nonzero(before > 1801.5),
    ]
    assert report.cells["fallback"] == np.count_nonzero(before > 1799.5)
    assert report.cells["neural"] == np.count_nonzero(before <= 1799.5)
    assert sum(report.cells.values()) == 30


@pytest.mark.parametrize("status", [Status.OUTSIDE, Status.FAILED, Status.INVALID])
def test_a_cell_that_is_not_advanced_is_a_numerical_error_that_names_it(fields, status):
    fields.step, fields.time = 41, 4.1e-5
    chemistry = Reacting("neural", Stub(limit=2300.0, status=status), min_temperature=500.0, first_row=7)
    before = rows(fields)
    with pytest.raises(NumericalError) as caught:
        chemistry.apply(fields, DT)
    message = str(caught.value)
    assert "row 11, column 5" in message and "step 42" in message
    assert len(message.splitlines()) <= 3
    np.testing.assert_array_equal(rows(fields), before)


@pytest.mark.parametrize("tolerances", [{}, {"rtol": 1e-3, "atol": 1e-6}], ids=["own", "of the case"])
@pytest.mark.parametrize("outside", ["exact", "cvode", "freeze"])
def test_a_model_advances_the_cells_of_its_domain_and_the_case_the_others(fields, drm19, model, outside, tolerances):
    before = rows(fields)
    expected, status = Surrogate.load(model).advance(before, DT)
    assert 0 < np.count_nonzero(status[before[:, 0] > 500.0] == Status.OUTSIDE) < 15
    others = INTEGRATORS[outside](drm19, **tolerances).advance(before, DT)[0] if outside in INTEGRATORS else before
    expected[status == Status.OUTSIDE] = others[status == Status.OUTSIDE]
    config = ChemistryConfig(kind="neural", model=model, outside=outside, **tolerances)
    report = build_chemistry(config, drm19, DT).apply(fields, DT)
    hot = before[:, 0] > 500.0
    np.testing.assert_array_equal(rows(fields), np.where(hot[:, None], expected, before))
    assert report.cells["fallback"] == np.count_nonzero(status[hot] == Status.OUTSIDE)
    assert report.cells["neural"] == np.count_nonzero(status[hot] == Status.OK)


def test_the_engine_of_the_case_takes_the_place_of_the_models(fields, drm19, model):
    chemistry = build_chemistry(ChemistryConfig(kind="neural", model=model, engine="bf16"), drm19, DT)
    assert chemistry.step.model.engine == "bf16" and Surrogate.load(model).engine == "fp32"


def test_outside_error_ends_the_run_where_the_model_leaves_a_cell(fields, drm19, model):
    chemistry = build_chemistry(ChemistryConfig(kind="neural", model=model, outside="error"), drm19, DT)
    with pytest.raises(NumericalError, match="outside the domain"):
        chemistry.apply(fields, DT)


@pytest.mark.parametrize(
    ("dt", "mechanism", "message"),
    [
        *((dt, "drm19", "no multiple of the model's time step, 1e-06 s") for dt in (5e-7, 1.5e-6, 1.001e-6)),
        (DT, "h2o2.yaml", "was made for mechanism drm19, the case uses h2o2"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_before_the_run(model, dt, mechanism, message):
    with pytest.raises(UsageError, match=message):
        build_chemistry(ChemistryConfig(kind="neural", model=model), load_mechanism(mechanism), dt)


def test_a_missing_model_is_a_file_error(drm19):
    with pytest.raises(FileError, match="no model none"):
        build_chemistry(ChemistryConfig(kind="neural", model="none"), drm19, DT)
