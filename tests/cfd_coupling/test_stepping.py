"""The whole time step: conservation, the constraint, ranks, splitting, and failures that say where."""

import numpy as np
import pytest
from flow_states import ATMOSPHERE, COMM, HotConversion, drm19, kernel, run_ranks

from cfd_coupling.chemistry import Frozen
from cfd_coupling.config import FlowConfig
from cfd_coupling.fields import interior
from cfd_coupling.grid import GHOSTS, Grid
from cfd_coupling.stepping import Stepper
from cfd_coupling.verification.states import totals
from chemnet.runtime.errors import NumericalError

GRID = Grid(48, 40, 1.5e-3, 1.25e-3)
DT = 1e-6


def run(fields, steps, grid=GRID, chemistry=None, dt=DT, **options):
    """Step a state; returns the reports."""
    stepper = Stepper(grid, COMM, drm19(), chemistry or Frozen(), FlowConfig(**options))
    return [stepper.step(fields, dt) for _ in range(steps)]


def burning(steps=30, **options):
    """A hot kernel that burns; returns fields, totals before and after, reports."""
    chemistry = HotConversion(drm19())
    fields = kernel(GRID)
    before = totals(fields)
    reports = run(fields, steps, chemistry=chemistry, **options)
    return fields, before, reports, chemistry


@pytest.mark.parametrize("splitting", ["strang", "lie"])
def test_mass_elements_and_energy_of_a_burning_closed_box_stay(splitting):
    fields, before, reports, _ = burning(splitting=splitting)
    assert np.all(np.abs(totals(fields) / np.where(before == 0.0, 1.0, before) - (before != 0.0)) < 1e-12)
    assert max(report.residual for report in reports) <= 1e-11
    assert fields.p0 > 1.001 * ATMOSPHERE
    assert interior(fields.T).max() > 1900.0
    assert np.abs(interior(fields.Y).sum(axis=0) - 1.0).max() < 1e-12


def test_density_follows_the_equation_of_state():
    fields, *_ = burning()
    gas = drm19()
    specific = 8314.46261815324 * np.tensordot(1.0 / gas.weights, interior(fields.Y), axes=1)
    ratio = interior(fields.rho) * specific * interior(fields.T) / fields.p0
    assert np.abs(ratio - 1.0).max() < 2e-2


def test_expansion_pushes_the_gas_away_from_the_flame():
    quiet = kernel(GRID, rms_velocity=0.0)
    run(quiet, 5, chemistry=HotConversion(drm19()))
    u = interior(quiet.u)
    assert u[20, 40] > 0.1 and u[20, 8] < -0.1


def test_strang_calls_chemistry_once_with_the_whole_step_and_the_pressure_of_the_step():
    fields, _, reports, chemistry = burning(steps=3)
    assert [dt for dt, _ in chemistry.calls] == [DT] * 3
    assert chemistry.calls[0][1] == ATMOSPHERE
    assert set(reports[0].seconds) == {
        "diffusion", "chemistry", "waiting", "state", "momentum", "projection", "advection"
    }  # fmt: skip
    assert all(value >= 0.0 for value in reports[0].seconds.values())
    assert fields.step == 3 and fields.time == pytest.approx(3e-6, rel=1e-12, abs=0.0)


def test_strang_and_lie_agree_to_first_order():
    differences = []
    for dt, steps in ((2e-6, 8), (1e-6, 16)):
        pair = []
        for splitting in ("strang", "lie"):
            fields = kernel(GRID)
            run(fields, steps, chemistry=HotConversion(drm19(), rate=4e3), dt=dt, splitting=splitting)
            pair.append(interior(fields.T).copy())
        differences.append(np.abs(pair[0] - pair[1]).max())
    assert 0.3 < differences[1] / differences[0] < 0.7, differences


def test_skipping_uniform_cells_does_not_change_the_run():
    grid = Grid(160, 80, 4.8e-3, 2.4e-3)
    results = []
    for skip in (True, False):
        fields = kernel(grid)
        run(fields, 5, grid, skip_uniform=skip)
        results.append(fields)
    for name, atol in (("Y", 1e-12), ("velocity", 1e-9), ("T", 1e-7)):
        a, b = (interior(getattr(fields, name)) for fields in results)
        assert np.allclose(a, b, rtol=1e-12, atol=atol), name


def test_an_open_box_keeps_its_pressure_while_the_gas_expands():
    fields = kernel(GRID, rms_velocity=0.0)
    before = totals(fields)
    reports = run(fields, 20, chemistry=HotConversion(drm19()), box="open")
    assert fields.p0 == ATMOSPHERE
    assert totals(fields)[0] < before[0] * (1.0 - 1e-4)
    assert max(report.residual for report in reports) <= 1e-11


def test_substeps_follow_the_cfl_number_and_change_little():
    fields, reference = (kernel(GRID, rms_velocity=4.5) for _ in range(2))
    reports = run(fields, 8)
    assert 0.5 < max(report.cfl for report in reports) < 1.0
    assert max(report.substeps for report in reports) == 2
    coarse = run(reference, 8, cfl_limit=1.0)
    assert max(report.substeps for report in coarse) == 1
    assert np.abs(interior(fields.T) - interior(reference.T)).max() < 5.0


def test_a_cfl_number_above_one_is_named_with_cell_and_step():
    fields = kernel(GRID)
    fields.u[GHOSTS + 5, GHOSTS + 9] = 1000.0
    with pytest.raises(NumericalError, match=r"(?s)CFL number .*row 5, column 9\), step 1, rank 0"):
        run(fields, 1)


class Broken(Frozen):
    """Returns no number for one species in one cell, from the third call on."""

    calls = 0

    def apply(self, fields, dt):
        self.calls += 1
        if self.calls == 3:
            fields.Y[drm19().mechanism.index("OH"), GHOSTS + 30, GHOSTS + 20] = np.nan
        return super().apply(fields, dt)


def test_a_species_that_chemistry_made_no_number_is_named_with_cell_and_step():
    with pytest.raises(NumericalError, match=r"OH is no number in cell \(row 30, column 20\), step 3, rank 0"):
        run(kernel(GRID), 4, chemistry=Broken())


class Waits(Frozen):
    """Claims that it waited 1000 s for ranks to come, and 100 s for what they advanced."""

    def apply(self, fields, dt):
        report = super().apply(fields, dt)
        report.ahead, report.waiting = 1000.0, 100.0
        return report


def test_waits_of_the_chemistry_are_not_its_own_time():
    """Other ranks come late from diffusion; what they advance too slowly is waiting."""
    seconds = run(kernel(GRID), 1, chemistry=Waits())[0].seconds
    for part, expected in (("chemistry", -1100.0), ("diffusion", 1000.0), ("waiting", 100.0)):
        assert seconds[part] == pytest.approx(expected, rel=0.0, abs=90.0)


def test_by_default_the_box_is_closed_and_the_projection_exact_to_round_off():
    options = FlowConfig()
    assert (options.cfl_limit, options.projection_tolerance, options.box) == (0.5, 1e-11, "closed")


TWO_RANKS = """
import sys
import numpy as np
from cfd_coupling.chemistry import Frozen
from cfd_coupling.grid import Grid
from cfd_coupling.parallel import connect
from cfd_coupling.config import FlowConfig
from cfd_coupling.stepping import Stepper
from cfd_coupling.verification.states import totals
from flow_states import drm19, kernel

comm = connect()
assert comm.size == 2
grid = Grid(48, 41, 1.5e-3, 1.25e-3, comm.rank, comm.size)
fields = kernel(grid, comm)
stepper = Stepper(grid, comm, drm19(), Frozen(), FlowConfig())
for _ in range(50):
    stepper.step(fields, 1e-6)
names = ("scalars", "velocity", "rho", "T", "p")
whole = {name: comm.gather(getattr(fields, name)) for name in names}
if comm.rank == 0:
    np.savez(sys.argv[1], p0=fields.p0, **whole)
"""


def test_two_ranks_of_uneven_height_give_what_one_rank_gives(tmp_path):
    script = tmp_path / "two_ranks.py"
    script.write_text(TWO_RANKS)
    done = run_ranks(2, script, tmp_path / "two.npz")
    assert done.returncode == 0, done.stderr
    grid = Grid(48, 41, 1.5e-3, 1.25e-3)
    fields = kernel(grid)
    run(fields, 50, grid)
    with np.load(tmp_path / "two.npz") as two:
        assert fields.p0 == pytest.approx(float(two["p0"]), rel=1e-12, abs=0.0)
        for name in ("scalars", "velocity", "rho", "T", "p"):
            one = interior(getattr(fields, name))
            scale = np.abs(one).max(axis=(-2, -1), keepdims=True)
            assert np.abs(one - two[name]).max() <= 1e-10 * scale.max(), name
            assert np.all(np.abs(one - two[name]) <= 1e-10 * scale), name
