"""A small box of the validation: its arrays are those of a run of the case."""

import numpy as np
import pytest

from cfd_coupling import small_box
from cfd_coupling.compare import read_history
from cfd_coupling.config import load_case
from cfd_coupling.output import read_image, snapshots
from cfd_coupling.parallel import Communicator
from cfd_coupling.simulation import run
from chemnet.runtime.errors import UsageError

BOX = (
    "grid.nx=24", "grid.ny=24", "grid.length_x=1.4e-3", "grid.length_y=1.4e-3", "end_time=2.4e-5",
    "initial.kernel_radius=4e-4", "initial.integral_length=7e-4",
)  # fmt: skip


def test_the_arrays_are_those_of_a_run_with_every_step_in_its_history(tmp_path):
    changes = [*BOX, "chemistry.kind=exact"]
    found = small_box.burn_box(changes)
    every_step = ["output.fields=[T, rho, CH4]", "output.snapshot_every=4", "output.history_every=1"]
    out = run(load_case("turbulent_ignition", None, [*changes, *every_step]), tmp_path / "run", Communicator())
    history, (first, *later) = read_history(out / "history.csv"), map(read_image, snapshots(out / "snapshots"))
    steps = np.arange(4, 25, 4)
    assert found["time"] == pytest.approx(1e-6 * steps, rel=1e-12, abs=0.0)
    np.testing.assert_array_equal(found["T"], [s.arrays["T"] for s in later])
    np.testing.assert_array_equal(found["p0"], [s.p0 for s in later])
    at = np.searchsorted(history["step"], steps)
    np.testing.assert_allclose(found["burnt_area"], history["burnt_area"][at], rtol=1e-12, atol=0.0)
    heat = 1e-6 * np.cumsum(history["heat_release"])[at]
    np.testing.assert_allclose(found["heat"], heat, rtol=1e-9, atol=0.0)
    fuel = [first.dx * first.dy * (s.arrays["rho"] * s.arrays["CH4"]).sum() for s in (first, *later)]
    np.testing.assert_allclose(found["fuel"], fuel[0] - np.array(fuel[1:]), rtol=1e-9, atol=0.0)
    hot = np.concatenate([T[T > 500.0] for T in found["T"]])
    np.testing.assert_array_equal(found["states"][:, 0], hot)
    np.testing.assert_allclose(found["states"][:, 2:].sum(axis=1), 1.0, rtol=1e-12, atol=0.0)
    assert found["left"].tolist() == [0.0] * 6


def test_gas_that_does_not_react_burns_no_fuel_and_releases_no_heat():
    found = small_box.burn_box([*BOX, "chemistry.kind=frozen", "end_time=4.8e-5"])
    in_the_box = 1.4e-3**2 * 0.06  # [kg/m], some
    np.testing.assert_allclose(found["fuel"], 0.0, rtol=0.0, atol=1e-12 * in_the_box)
    assert found["heat"].tolist() == [0.0] * 6


def test_the_identity_is_that_of_solver_and_case_and_differs_from_the_planar_flame_s():
    assert small_box.identity() == small_box.identity() != small_box.flame_speed.identity()
    with pytest.raises(UsageError, match="did you mean chemistry"):
        small_box.burn_box(["chemisty.kind=exact"])
