"""States that a flow visits: those of its snapshots, spread over T, up to where the run breaks off."""

import numpy as np
import pytest

from cfd_coupling.config import load_case
from cfd_coupling.grid import Grid
from cfd_coupling.initial import distance
from cfd_coupling.simulation import run
from cfd_coupling.visited_states import burn, spread, states_of, visited_states
from chemnet.gas.mechanism import load_mechanism
from chemnet.gas.state import enthalpy, valid_rows
from chemnet.runtime.errors import NumericalError, UsageError

H2 = load_mechanism("h2o2.yaml")
CHANGES = (
    "mechanism=h2o2.yaml", "mixture.fuel={H2: 1}", "chemistry.kind=exact", "output.snapshot_every=2", "end_time=8e-6",
    "grid={nx: 16, ny: 12, length_x: 1.5e-3, length_y: 1.125e-3}", "initial.kernel_temperature=1400",
)  # fmt: skip


def case(*changes):
    return load_case("turbulent_ignition", "demo", [*CHANGES, *changes])


def test_the_states_of_a_run_are_valid_and_spread_over_snapshots_and_temperatures():
    states = visited_states("turbulent_ignition", "demo", CHANGES, 60, np.random.default_rng(0))
    assert 40 <= len(states) <= 60 and valid_rows(states).all()
    assert states[:, 0].min() > 500.0 and len(np.unique(states[:, 1])) == 4  # p0 of four snapshots of a closed box
    again = visited_states("turbulent_ignition", "demo", CHANGES, 60, np.random.default_rng(0))
    np.testing.assert_array_equal(states, again)


def test_a_state_holds_the_cell_of_the_snapshot_and_its_enthalpy_is_that_of_the_solver():
    snapshot = next(burn(case("output.fields=[T, h, species]")))
    states = states_of(snapshot, H2)
    assert states.shape == (12 * 16, 2 + H2.n_species)
    np.testing.assert_array_equal(states[:, 0].reshape(12, 16), snapshot.arrays["T"])
    np.testing.assert_array_equal(states[16, 2 + H2.index("OH")], snapshot.arrays["OH"][1, 0])
    assert (states[:, 1] == snapshot.p0).all()
    np.testing.assert_allclose(enthalpy(states, H2), snapshot.arrays["h"].ravel(), rtol=1e-9, atol=1e-3)
    with pytest.raises(UsageError, match=r"holds no O2: states need output.fields=\[T, species\]"):
        states_of(next(burn(case("output.fields=[T, H2, H, O]"))), H2)


def test_a_run_that_breaks_off_gives_what_it_had_visited(monkeypatch):
    def break_off(*arguments):
        run(*arguments)
        raise NumericalError("CFL number 2")

    monkeypatch.setattr("cfd_coupling.visited_states.run", break_off)
    found = burn(case("output.fields=[T, species]"))
    assert [next(found).step for _ in range(4)] == [2, 4, 6, 8]
    with pytest.raises(NumericalError, match="CFL"):
        next(found)
    states = visited_states("turbulent_ignition", "demo", CHANGES, 80, np.random.default_rng(0))
    assert len(np.unique(states[:, 1])) == 4


def test_rows_are_spread_evenly_over_classes_of_temperature():
    T = np.hstack([np.full(1000, 610.0), np.full(40, 1210.0), np.full(5, 2010.0)])
    chosen = T[spread(T, 45, np.random.default_rng(0))]
    assert [np.count_nonzero(chosen == value) for value in (610.0, 1210.0, 2010.0)] == [20, 20, 5]
    assert len(np.unique(spread(T, 2000, np.random.default_rng(0)))) == len(T)


def test_the_distance_from_a_kernel_goes_through_periodic_ends_and_not_through_walls():
    grid = Grid(nx=8, ny=4, length_x=8.0, length_y=4.0)
    near, walls = distance(grid, 0.5, 0.5), distance(grid, 0.5, 0.5, periodic_y=False)
    np.testing.assert_allclose(near[0], [0, 1, 2, 3, 4, 3, 2, 1], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(near[:, 0], [0, 1, 2, 1], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(walls[:, 0], [0, 1, 2, 3], rtol=1e-12, atol=1e-12)
