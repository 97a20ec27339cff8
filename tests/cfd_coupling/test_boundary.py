"""Boxes with walls, and with an inflow and an outflow: exact solutions, balances, and the same bits on two ranks."""

import cantera as ct
import numpy as np
import pytest
from flow_states import ATMOSPHERE, COMM, HotConversion, drm19, hot_jet, kernel, methane_air, run_ranks

from cfd_coupling import initial
from cfd_coupling.boundary import Edges, Ends, Stream, Throughflow, Wall, build
from cfd_coupling.chemistry import Frozen
from cfd_coupling.config import BoundaryConfig, FlowConfig
from cfd_coupling.fields import Fields, interior
from cfd_coupling.grid import GHOSTS, Grid
from cfd_coupling.pressure import ConstantPoisson, Projection
from cfd_coupling.stepping import Stepper

GRID = Grid(48, 40, 1.5e-3, 1.25e-3)
HEIGHT = 2e-4


def walls(grid, temperature=None) -> Edges:
    return build(BoundaryConfig(y="walls", wall_temperature=temperature), grid, COMM, drm19(), None)


def stream(grid, v, T=300.0) -> Stream:
    """Methane and air with v (nx,) or a number [m/s]."""
    gas, rows = drm19(), np.full(grid.nx, T)
    at_rest = initial.at_rest(grid, COMM, gas, np.broadcast_to(rows, (grid.ny, grid.nx)), methane_air(gas), ATMOSPHERE)
    return Stream(np.broadcast_to(v, grid.nx), rows, interior(at_rest.rho)[0], interior(at_rest.scalars)[:, 0])


def run(fields, steps, grid, edges, dt=1e-6, chemistry=None, **options):
    stepper = Stepper(grid, COMM, drm19(), chemistry or Frozen(), FlowConfig(**options), edges)
    return [stepper.step(fields, dt) for _ in range(steps)]


def still(grid, T=300.0) -> Fields:
    gas = drm19()
    return initial.at_rest(grid, COMM, gas, np.broadcast_to(T, (grid.ny, grid.nx)), methane_air(gas), ATMOSPHERE)


def totals(fields):
    """Mass, element masses, energy."""
    rho = interior(fields.rho)
    species = (rho * interior(fields.Y)).sum(axis=(1, 2))
    energy = (rho * interior(fields.h) - fields.p0).sum()
    return np.array([rho.sum(), *(drm19().mechanism.element_mass @ species), energy])


def test_ghosts_mirror_the_gas_at_walls_and_no_gas_passes_or_slips():
    fields = kernel(GRID)
    edges = walls(GRID, (300.0, 500.0))
    edges.fill(fields)
    u, v, T, h = fields.u, fields.v, fields.T, fields.h
    assert np.all(v[GHOSTS] == 0.0) and np.all(v[-GHOSTS] == 0.0)
    for layer in range(GHOSTS):
        below, first, above, last = GHOSTS - 1 - layer, GHOSTS + layer, -GHOSTS + layer, -GHOSTS - 1 - layer
        for q in (fields.Y, fields.rho):
            np.testing.assert_array_equal(q[..., below, :], q[..., first, :])
            np.testing.assert_array_equal(q[..., above, :], q[..., last, :])
        np.testing.assert_array_equal(u[below], -u[first])
        np.testing.assert_array_equal(u[above], -u[last])
    assert np.all(T[:GHOSTS] == 300.0) and np.all(T[-GHOSTS:] == 500.0)
    gas = drm19().mechanism.gas()
    gas.TPY = 500.0, ATMOSPHERE, fields.Y[:, -GHOSTS - 1, 20]
    assert 0.5 * (h[-GHOSTS, 20] + h[-GHOSTS - 1, 20]) == pytest.approx(gas.enthalpy_mass, rel=1e-9, abs=1.0)


def test_flow_along_walls_decays_as_the_exact_sine_with_second_order():
    gas, velocity, height, end, errors = drm19(), 1.0, 1e-3, 1e-4, []
    nu = initial.kinematic_viscosity(gas, methane_air(gas), 300.0, ATMOSPHERE)
    for n in (8, 16, 32):
        grid = Grid(4, n, 1e-4, height)
        uniform = dict(Y=methane_air(gas), temperature=300.0, pressure=ATMOSPHERE)
        fields = initial.channel(grid, COMM, gas, velocity=velocity, **uniform)
        shape = np.sin(np.pi * grid.y / height)[:, None]
        run(fields, 10, grid, walls(grid), dt=end / 10)
        exact = velocity * shape * np.exp(-nu * (np.pi / height) ** 2 * end)
        errors.append(np.abs(interior(fields.u) - exact).max())
    assert np.all(np.log2(np.array(errors[:-1]) / errors[1:]) >= 1.9), errors


def test_a_uniform_stream_between_walls_is_slowed_as_the_exact_series_tells():
    gas, height, end = drm19(), 1e-3, 2e-3
    nu = initial.kinematic_viscosity(gas, methane_air(gas), 300.0, ATMOSPHERE)
    grid = Grid(4, 32, 8e-4, height)
    fields = still(grid)
    interior(fields.u)[:] = 1.0
    run(fields, 40, grid, walls(grid), dt=end / 40)
    odd = np.arange(1, 40, 2)[:, None]
    modes = 4.0 / (odd * np.pi) * np.sin(odd * np.pi * grid.y / height)
    exact = (modes * np.exp(-nu * (odd * np.pi / height) ** 2 * end)).sum(axis=0)
    np.testing.assert_allclose(interior(fields.u)[:, 0], exact, rtol=0.0, atol=2e-3)


@pytest.mark.parametrize("splitting", ["lie", "strang"])
def test_mass_elements_and_energy_of_a_box_with_adiabatic_walls_stay(splitting):
    fields = kernel(GRID)
    before = totals(fields)
    reports = run(fields, 20, GRID, walls(GRID), chemistry=HotConversion(drm19()), splitting=splitting)
    scale = np.where(before == 0.0, 1.0, before)
    np.testing.assert_allclose(totals(fields) / scale, before / scale, rtol=0.0, atol=1e-13)
    assert max(report.residual for report in reports) <= 1e-11
    assert fields.p0 > 1.01 * ATMOSPHERE and np.all(interior(fields.v)[0] == 0.0)


def test_heat_between_walls_of_two_temperatures_flows_evenly_in_the_end():
    """Oracle: the integral of Cantera's conductivity over T is linear in y."""
    grid, (low, high) = Grid(4, 24, 1e-4, HEIGHT), (300.0, 900.0)
    fields = still(grid, (low + (high - low) * grid.y / HEIGHT)[:, None])
    run(fields, 150, grid, walls(grid, (low, high)), dt=5e-6)
    np.testing.assert_allclose(interior(fields.T)[:, 0], conduction_profile(grid, low, high), rtol=2e-4, atol=0.0)
    assert np.abs(interior(fields.velocity)).max() < 1e-5


def conduction_profile(grid, low, high):
    mechanism = drm19().mechanism
    gas, T = ct.SolutionArray(mechanism.gas(), 200), np.linspace(low, high, 200)
    gas.TPY = T, ATMOSPHERE, methane_air(drm19())
    conductivity = gas.thermal_conductivity
    integral = np.concatenate([[0.0], np.cumsum(0.5 * (conductivity[1:] + conductivity[:-1]) * np.diff(T))])
    return np.interp(grid.y / grid.length_y * integral[-1], integral, T)


def test_hot_walls_are_felt_on_both_sides_by_gas_that_is_uniform_elsewhere():
    grid = Grid(32, 40, 1e-3, 1.25e-3)
    for wall, row in (((600.0, 300.0), 0), ((300.0, 600.0), -1)):
        fields = still(grid)
        run(fields, 1, grid, walls(grid, wall))
        assert np.all(interior(fields.T)[row] > 301.0)


def test_one_half_wave_between_walls_is_divided_by_its_eigenvalue():
    grid = Grid(12, 10, 1.2, 0.5)
    wave = np.cos(4 * np.pi * np.arange(12)[None, :] / 12) * np.cos(3 * np.pi * (np.arange(10)[:, None] + 0.5) / 10)
    eigenvalue = (2 * np.sin(2 * np.pi / 12) / grid.dx) ** 2 + (2 * np.sin(1.5 * np.pi / 10) / grid.dy) ** 2
    solved = ConstantPoisson(grid, COMM, closed=True).solve(wave)
    np.testing.assert_allclose(solved, wave / eigenvalue, rtol=1e-5, atol=1e-6 / eigenvalue)


def rough_state(grid, edges):
    """Random velocity and an eightfold density, and a random divergence."""
    rng = np.random.default_rng(0)
    fields = still(grid)
    interior(fields.rho)[:] = 8.0 ** rng.random((grid.ny, grid.nx)) / 8.0
    interior(fields.velocity)[:] = rng.normal(size=(2, grid.ny, grid.nx))
    edges.fill(fields)
    return fields, rng.normal(size=(grid.ny, grid.nx)) * 1e3


def divergence(fields, grid):
    u, v = fields.velocity
    along_x = (u[GHOSTS:-GHOSTS, GHOSTS + 1 : 1 - GHOSTS] - u[GHOSTS:-GHOSTS, GHOSTS:-GHOSTS]) / grid.dx
    return along_x + (v[GHOSTS + 1 : 1 - GHOSTS or None, GHOSTS:-GHOSTS] - v[GHOSTS:-GHOSTS, GHOSTS:-GHOSTS]) / grid.dy


@pytest.mark.parametrize("shape", [(32, 24), (17, 15)])
def test_between_walls_the_divergence_becomes_the_target(shape):
    grid = Grid(*shape, 1e-3, 1e-3)
    edges = walls(grid)
    fields, target = rough_state(grid, edges)
    target -= target.mean()
    Projection(grid, COMM, 1e-11, edges).project(fields, target, 1e-6)
    assert 1e-6 * np.abs(divergence(fields, grid) - target).max() <= 1e-11
    assert np.all(fields.v[GHOSTS] == 0.0) and np.all(fields.v[-GHOSTS] == 0.0)


def test_an_outflow_lets_out_what_enters_and_what_the_gas_expands_by():
    grid = Grid(24, 20, 1e-3, 1e-3)
    edges = Throughflow(grid, COMM, stream(grid, 2.0))
    fields, target = rough_state(grid, edges)
    Projection(grid, COMM, 1e-11, edges).project(fields, target + 500.0, 1e-6)
    assert 1e-6 * np.abs(divergence(fields, grid) - target - 500.0).max() <= 1e-11
    out = fields.v[-GHOSTS, GHOSTS:-GHOSTS].mean()
    assert out == pytest.approx(2.0 + (target.mean() + 500.0) * grid.length_y, rel=1e-12, abs=0.0)


def test_gas_that_flows_through_evenly_stays_as_it_is():
    grid = Grid(32, 24, 1e-3, 7.5e-4)
    inflow = stream(grid, 0.5)
    fields = initial.filled(grid, COMM, drm19(), inflow, ATMOSPHERE)
    reports = run(fields, 5, grid, Throughflow(grid, COMM, inflow), box="open")
    np.testing.assert_allclose(interior(fields.v), 0.5, rtol=1e-12, atol=0.0)
    np.testing.assert_allclose(interior(fields.T), 300.0, rtol=1e-12, atol=0.0)
    expected = inflow.rho[0] * 0.5 * grid.length_x
    assert (reports[-1].entering, reports[-1].leaving) == pytest.approx((expected, expected), rel=1e-12, abs=0.0)


def test_a_jet_keeps_its_symmetry_and_the_balance_of_mass():
    grid = Grid(32, 24, 1e-3, 1.5e-3)
    inflow = hot_jet(grid)
    fields = initial.filled(grid, COMM, drm19(), inflow, ATMOSPHERE)
    before = interior(fields.rho).sum() * grid.dx * grid.dy
    reports = run(fields, 40, grid, Throughflow(grid, COMM, inflow), dt=5e-6, box="open")
    after = interior(fields.rho).sum() * grid.dx * grid.dy
    gained = 5e-6 * sum(report.entering - report.leaving for report in reports)
    assert after - before == pytest.approx(gained, rel=0.0, abs=1e-13 * before)
    v, u = interior(fields.v), interior(fields.u)
    np.testing.assert_allclose(v, v[:, ::-1], rtol=0.0, atol=1e-9)
    np.testing.assert_allclose(u[:, 1:], -u[:, :0:-1], rtol=0.0, atol=1e-9)
    assert np.abs(u).max() > 1e-3 and max(report.residual for report in reports) <= 1e-11


RANKS = """
import sys
import numpy as np
from cfd_coupling.boundary import Ends, Throughflow, Wall
from cfd_coupling.chemistry import Frozen
from cfd_coupling.config import FlowConfig
from cfd_coupling.grid import Grid
from cfd_coupling.parallel import connect
from cfd_coupling.stepping import Stepper
from flow_states import drm19, hot_jet, kernel

comm = connect()
grid, gas = Grid(48, 41, 1.5e-3, 1.25e-3, comm.rank, comm.size), drm19()
results = {}
for name in ("walls", "flow"):
    closed = name == "walls"
    edges = Ends(grid, comm, Wall(gas, 400.0), Wall(gas, None)) if closed else Throughflow(grid, comm, hot_jet(grid))
    fields = kernel(grid, comm)
    stepper = Stepper(grid, comm, gas, Frozen(), FlowConfig(box="closed" if closed else "open"), edges)
    for _ in range(5):
        stepper.step(fields, 1e-6)
    for field in ("scalars", "velocity", "rho", "T", "p"):
        results[f"{name} {field}"] = comm.gather(getattr(fields, field))
if comm.rank == 0:
    np.savez(sys.argv[1], **results)
"""


def test_walls_and_streams_give_the_same_bits_on_any_number_of_ranks(tmp_path):
    script = tmp_path / "ranks.py"
    script.write_text(RANKS)
    for n in (1, 3):
        done = run_ranks(n, script, tmp_path / f"{n}.npz")
        assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "1.npz") as one, np.load(tmp_path / "3.npz") as three:
        for name in one.files:
            np.testing.assert_array_equal(one[name], three[name], err_msg=name)


def test_only_the_conditions_that_a_case_names_are_built():
    assert type(build(BoundaryConfig(), GRID, COMM, drm19(), None)) is Edges
    edges = walls(GRID, 450.0)
    assert isinstance(edges, Ends) and isinstance(edges.bottom, Wall) and edges.bottom.T == 450.0
