"""Initial states are what they say, and the same for any number of ranks and any grid."""

import numpy as np
import pytest
from flow_states import ATMOSPHERE, COMM, drm19, kernel, methane_air

from cfd_coupling import initial
from cfd_coupling.config import load_case
from cfd_coupling.fields import interior
from cfd_coupling.grid import GHOSTS, Grid
from cfd_coupling.parallel import Communicator
from chemnet.runtime.errors import NumericalError

BOX = (7.5e-3, 7.5e-3)


class Slab(Communicator):
    """One rank of several, without its neighbours: ghosts stay wrong, the interior is what is looked at."""


def test_turbulence_has_the_asked_intensity_and_no_divergence():
    grid = Grid(96, 64, *BOX)
    u, v = initial.face_velocities(initial.turbulence(grid, 1.5, 1.5e-3, seed=1), grid)
    assert np.sqrt(0.5 * np.mean(u**2 + v**2)) == pytest.approx(1.5, rel=1e-12, abs=0.0)
    assert abs(u.mean()) < 1e-13 and abs(v.mean()) < 1e-13
    div = (np.roll(u, -1, axis=1) - u) / grid.dx + (np.roll(v, -1, axis=0) - v) / grid.dy
    assert np.abs(div).max() < 1e-10 * np.abs(u).max() / grid.dx


def test_turbulence_follows_the_spectrum_of_passot_and_pouquet():
    grid, k_e = Grid(256, 256, 15e-3, 15e-3), 2.0 * np.pi / 1.5e-3
    u, v = initial.face_velocities(initial.turbulence(grid, 1.0, 1.5e-3, seed=3), grid)
    density = 0.5 * (np.abs(np.fft.fft2(u)) ** 2 + np.abs(np.fft.fft2(v)) ** 2) / 256**4
    waves = 2.0 * np.pi * np.fft.fftfreq(256, grid.dx)
    k = np.hypot(waves[None, :], waves[:, None])
    step = 2.0 * np.pi / 15e-3
    shells = np.arange(3, 20)
    spectrum = (k / k_e) ** 4 * np.exp(-2.0 * (k / k_e) ** 2)
    modes = [np.abs(k / step - n) <= 0.5 for n in shells]
    energy = np.array([(density[shell] * k[shell]).sum() for shell in modes])  # 2 pi k modes share E(k)
    exact = np.array([spectrum[shell].sum() for shell in modes])
    assert np.allclose(energy / exact, (energy / exact).mean(), rtol=0.1, atol=0.0)
    assert density.sum() == pytest.approx(1.0, rel=1e-9, abs=0.0)


def test_turbulence_depends_on_the_seed_but_not_on_the_grid():
    coarse, fine = Grid(64, 64, *BOX), Grid(128, 128, *BOX)
    psi = initial.turbulence(coarse, 1.0, 1.5e-3, seed=1)
    assert np.allclose(psi, initial.turbulence(fine, 1.0, 1.5e-3, seed=1)[::2, ::2], rtol=0.0, atol=0.02 * psi.max())
    assert not np.allclose(psi, initial.turbulence(coarse, 1.0, 1.5e-3, seed=2), rtol=0.0, atol=0.5 * psi.max())


def test_the_kernel_is_round_hot_and_unburnt():
    grid = Grid(100, 100, 2e-3, 2e-3)
    fields = kernel(grid, kernel_radius=4e-4, kernel_temperature=2500.0)
    T = interior(fields.T)
    assert T.max() == pytest.approx(2500.0, abs=0.1, rel=0.0) and T.min() == pytest.approx(300.0, rel=1e-9, abs=0.0)
    half = np.sqrt((T > 1400.0).sum() * grid.dx * grid.dy / np.pi)
    assert half == pytest.approx(4e-4, rel=0.01, abs=0.0)
    row = T[50] if abs(grid.y[50] - 1e-3) < abs(grid.y[49] - 1e-3) else T[49]
    edge = np.interp(4e-4 + 2.0 * grid.dx, grid.x[50:] - 1e-3, row[50:])
    assert edge == pytest.approx(300.0 + 2200.0 * 0.5 * (1.0 - np.tanh(1.0)), abs=25.0, rel=0.0)
    assert np.ptp(interior(fields.Y), axis=(1, 2)).max() == 0.0


def test_rho_and_h_belong_to_t_and_p():
    fields, gas = kernel(Grid(24, 24, 1e-3, 1e-3)), drm19()
    solution = gas.mechanism.gas()
    for j, i in ((0, 0), (12, 12), (7, 9)):
        solution.TPY = interior(fields.T)[j, i], ATMOSPHERE, methane_air(gas)
        assert interior(fields.rho)[j, i] == pytest.approx(solution.density, rel=1e-11, abs=0.0)
        assert interior(fields.h)[j, i] == pytest.approx(solution.enthalpy_mass, rel=1e-9, abs=1e-4)


def test_two_slabs_are_the_whole():
    whole = kernel(Grid(24, 25, 1e-3, 1.04e-3))
    parts = [kernel(Grid(24, 25, 1e-3, 1.04e-3, rank, 2), Slab()) for rank in (0, 1)]
    for name in ("scalars", "velocity", "rho", "T"):
        joined = np.concatenate([interior(getattr(part, name)) for part in parts], axis=-2)
        assert np.array_equal(joined, interior(getattr(whole, name))), name


def test_the_exact_vortex_is_free_of_divergence_and_decays():
    grid = Grid(32, 32, 1e-3, 1e-3)
    u, v = initial.taylor_green_velocity(grid, 2.0, 1e-5, 0.0)
    div = (np.roll(u, -1, axis=1) - u) / grid.dx + (np.roll(v, -1, axis=0) - v) / grid.dy
    assert np.abs(div).max() < 1e-11 * 2.0 / grid.dx
    later = initial.taylor_green_velocity(grid, 2.0, 1e-5, 1e-3)
    assert np.allclose(later[0], u * np.exp(-1e-5 * 2.0 * (2.0 * np.pi / 1e-3) ** 2 * 1e-3), rtol=1e-12, atol=1e-15)


def test_a_free_flame_has_its_fronts_where_asked_and_burnt_gas_between():
    gas, grid = drm19(), Grid(200, 3, 6e-3, 9e-5)
    fields = initial.free_flame(
        grid, COMM, gas, Y=methane_air(gas), temperature=300.0, pressure=ATMOSPHERE, burnt_width=2e-3, points=50
    )
    T, CH4 = interior(fields.T), interior(fields.Y)[gas.mechanism.index("CH4")]
    assert np.array_equal(T, np.repeat(T[:1], 3, axis=0))
    hot = grid.x[T[0] > 0.5 * (T.min() + 2230.0)]
    assert np.ptp(hot) == pytest.approx(2e-3, abs=3.0 * grid.dx, rel=0.0) and hot.mean() == pytest.approx(
        3e-3, abs=grid.dx, rel=0.0
    )
    assert T.min() == pytest.approx(300.0, abs=1e-2, rel=0.0) and 2000.0 < T.max() < 2250.0
    assert (
        CH4[0, 0] == pytest.approx(methane_air(gas)[gas.mechanism.index("CH4")], rel=1e-4, abs=0.0)
        and CH4[0, 100] < 1e-6
    )


def test_a_free_flame_of_more_points_than_its_finest_grid_has_is_refused(monkeypatch):
    monkeypatch.setattr(initial, "FLAME_REFINEMENTS", (0.5,))
    flame = dict(temperature=300.0, pressure=ATMOSPHERE, burnt_width=2e-3, points=5000)
    with pytest.raises(NumericalError, match="fewer points than initial.points=5000"):
        initial.free_flame(Grid(20, 3, 6e-3, 9e-5), COMM, drm19(), Y=methane_air(drm19()), **flame)


def test_a_standing_flame_has_its_front_where_asked_and_one_mass_flux():
    gas = drm19()
    assignments = ["grid.ny=200", "grid.length_y=6e-3", "initial.position=2e-3", "initial.points=50"]
    case = load_case("standing_flame", assignments=assignments)
    grid = Grid(**case.grid.model_dump())
    fields = initial.build(case, grid, COMM, gas)
    T, v, rho = interior(fields.T), interior(fields.v), interior(fields.rho)
    assert np.interp(0.5 * (T.min() + T.max()), T[:, 2], grid.y) == pytest.approx(2e-3, abs=grid.dy, rel=0.0)
    flux = 0.5 * (rho[1:] + rho[:-1]) * v[1:]
    inflow = initial.inflow(case, grid, gas).rho[0] * 0.3964
    np.testing.assert_allclose(flux, inflow, rtol=1e-12, atol=0.0)
    assert np.all(interior(fields.u) == 0.0) and v[-1, 0] > 2.5


def test_a_jet_is_as_wide_fast_and_warm_as_asked_and_everywhere():
    gas, case = drm19(), load_case("jet")
    grid = Grid(**case.grid.model_dump())
    stream = initial.inflow(case, grid, gas)
    excess = stream.v - 1.0
    assert excess.sum() * grid.dx == pytest.approx(2.0 * 5e-4, rel=1e-3, abs=0.0)
    assert stream.v.max() == pytest.approx(3.0, rel=2e-2, abs=0.0)
    np.testing.assert_allclose(stream.T, 300.0 + 75.0 * excess, rtol=1e-12, atol=0.0)
    fields = initial.build(case, grid, COMM, gas)
    np.testing.assert_array_equal(interior(fields.v), np.broadcast_to(stream.v, (grid.ny, grid.nx)))
    np.testing.assert_allclose(interior(fields.rho)[7], stream.rho, rtol=1e-12, atol=0.0)
    np.testing.assert_allclose(fields.scalars[:, 9, GHOSTS:-GHOSTS], stream.scalars, rtol=1e-12, atol=0.0)
