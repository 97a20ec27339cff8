"""Diffusion of species and enthalpy against exact solutions, and each term of the fluxes by a case that needs it."""

import numpy as np
import pytest
from flow_states import ATMOSPHERE, COMM, drm19, mixture

from cfd_coupling import initial
from cfd_coupling.active_cells import TILE_COLUMNS, TILE_ROWS, all_cells, find_active
from cfd_coupling.diffusion import Diffusion
from cfd_coupling.fields import Fields, interior
from cfd_coupling.grid import GHOSTS, Grid
from cfd_coupling.kernels.state import temperatures

GRID = Grid(48, 12, 1.5e-3, 3.75e-4)
MODE = (2.0 * np.sin(np.pi / GRID.nx) / GRID.dx) ** 2  # eigenvalue of the discrete Laplacian for one wave along x
WAVE = np.cos(2.0 * np.pi * GRID.x / GRID.length_x)[None, :]


def diffuse(T, Y, dt, steps=1, grid=GRID):
    """The state at rest before and after diffusion, and the work object."""
    gas = drm19()
    fields = initial.at_rest(grid, COMM, gas, T, Y, ATMOSPHERE)
    diffusion = Diffusion(grid, COMM, gas)
    before = fields.scalars.copy(), fields.T.copy()
    for _ in range(steps):
        diffusion.advance(fields, all_cells(grid), dt)
        temperatures(all_cells(grid).segments(), fields.scalars, gas.nasa, fields.T)
        COMM.update(fields.scalars)
        COMM.update(fields.T)
    return fields, before, diffusion


def amplitude(q):
    return 2.0 * np.mean(interior(q) * WAVE)


def blend(wave, first, second):
    """Mass fractions (K, ny, nx): a mixture `first` where wave = 1 and `second` where wave = 0."""
    weight = np.broadcast_to(wave, (GRID.ny, GRID.nx))
    return first[:, None, None] * weight + second[:, None, None] * (1.0 - weight)


def test_a_wave_of_argon_in_nitrogen_decays_at_the_exact_rate():
    gas = drm19()
    Y = blend(1e-4 * (1.0 + 0.5 * WAVE), mixture(gas, AR=1.0), mixture(gas, N2=1.0))
    fields, (before, _), diffusion = diffuse(np.full((GRID.ny, GRID.nx), 900.0), Y, 5e-6, steps=20)
    argon = gas.mechanism.index("AR")
    solution = gas.mechanism.gas()
    solution.TPX = 900.0, ATMOSPHERE, {"N2": 1.0}
    solution.transport_model = "mixture-averaged"
    D = solution.binary_diff_coeffs[argon, gas.mechanism.index("N2")]
    decay = amplitude(fields.Y[argon]) / amplitude(before[argon])
    assert np.log(decay) == pytest.approx(-D * MODE * 1e-4, rel=2e-3, abs=0.0)  # the fits' error
    assert decay < 0.95


def test_a_wave_of_temperature_in_nitrogen_decays_at_the_exact_rate():
    gas = drm19()
    T = 900.0 + 0.1 * WAVE * np.ones((GRID.ny, 1))
    fields, (_, before), _ = diffuse(T, mixture(gas, N2=1.0), 5e-6, steps=20)
    solution = gas.mechanism.gas()
    solution.transport_model = "mixture-averaged"
    solution.TPX = 900.0, ATMOSPHERE, {"N2": 1.0}
    alpha = solution.thermal_conductivity / (solution.density * solution.cp_mass)
    decay = amplitude(fields.T) / amplitude(before)
    assert np.log(decay) == pytest.approx(-alpha * MODE * 1e-4, rel=2e-3, abs=0.0)


def test_waves_along_y_decay_as_those_along_x():
    gas = drm19()
    column, row = Grid(8, 32, 2.5e-4, 1e-3), Grid(32, 8, 1e-3, 2.5e-4)
    wave = np.cos(2.0 * np.pi * row.x / row.length_x)[None, :] * np.ones((8, 1))
    T, weight = 900.0 + 50.0 * wave, 0.5 + 0.3 * wave
    Y = mixture(gas, N2=0.7, H2=0.3)[:, None, None] * weight + mixture(gas, O2=1.0)[:, None, None] * (1.0 - weight)
    along_x, before, _ = diffuse(T, Y, 5e-6, grid=row)
    along_y, _, _ = diffuse(T.T, Y.transpose(0, 2, 1), 5e-6, grid=column)
    assert np.abs(interior(along_x.scalars) - interior(before[0]))[:-1].max() > 1e-3
    assert np.allclose(interior(along_x.scalars).transpose(0, 2, 1), interior(along_y.scalars), rtol=1e-13, atol=1e-13)
    assert np.ptp(interior(along_x.T)) < 0.96 * np.ptp(T)


def test_order_in_time_is_two_with_frozen_coefficients():
    gas = drm19()
    Y = blend(0.5 + 0.4 * WAVE, mixture(gas, H2=1.0, N2=4.0), mixture(gas, O2=1.0, AR=1.0))
    fields = initial.at_rest(GRID, COMM, gas, 800.0 + 300.0 * WAVE * np.ones((GRID.ny, 1)), Y, ATMOSPHERE)
    start = fields.scalars.copy()
    diffusion = Diffusion(GRID, COMM, gas)
    diffusion._prepare(fields, all_cells(GRID), 1e-6)
    diffusion._coefficients = lambda *_: 1e-4
    results = []
    for n in (8, 16, 32, 128):
        fields.scalars[:] = start
        for _ in range(n):
            diffusion.advance(fields, all_cells(GRID), 1e-5 / n)
            COMM.update(fields.scalars)
        results.append(interior(fields.scalars).copy())
    errors = [np.abs(result - results[-1])[:-1].max() for result in results[:-1]]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all(orders > 1.8), (orders, errors)


def test_species_diffusing_at_one_temperature_keep_it():
    """The enthalpy that species carry, sum h_k j_k, is what the mixing of their enthalpies needs."""
    gas = drm19()
    Y = blend(0.5 + 0.4 * WAVE, mixture(gas, H2=1.0, CO2=1.0), mixture(gas, O2=1.0, H2O=1.0))
    fields, (before, _), _ = diffuse(np.full((GRID.ny, GRID.nx), 1500.0), Y, 1e-6, steps=5)
    assert np.abs(interior(fields.Y) - interior(before)[:-1]).max() > 1e-3
    assert np.allclose(interior(fields.T), 1500.0, rtol=3e-10, atol=0.0)  # h_k is kept in float32


def test_species_and_enthalpy_are_conserved_and_fractions_add_up_to_one():
    gas = drm19()
    Y = blend(0.5 + 0.4 * WAVE, mixture(gas, H2=1.0, N2=4.0), mixture(gas, O2=1.0, CH4=1.0))
    fields, (before, _), _ = diffuse(900.0 + 400.0 * WAVE * np.ones((GRID.ny, 1)), Y, 1e-6, steps=10)
    rho = interior(fields.rho)
    totals = [(rho * interior(q)).sum(axis=(1, 2)) for q in (fields.scalars, before)]
    assert np.allclose(totals[0], totals[1], rtol=1e-13, atol=1e-13)
    assert np.abs(interior(fields.Y).sum(axis=0) - 1.0).max() < 1e-13


def test_rates_are_those_of_mixture_averaged_fluxes_with_correction_velocity():
    """-div j / rho with j_k = -rho D_k W_k/W dX_k + Y_k sum(...) and q = -lambda dT + sum h_k j_k, cell by cell."""
    gas, grid, rng = drm19(), Grid(21, 5, 6e-4, 2e-4), np.random.default_rng(3)
    K, shape = gas.n_species, grid.shape
    diffusion, fields = Diffusion(grid, COMM, gas), Fields.empty(grid, K, ATMOSPHERE)
    fields.rho[:] = rng.uniform(0.5, 1.5, shape)
    h_k = rng.uniform(-1e6, 1e6, (K, *shape)).astype(np.float32).astype(float)
    rho_D = rng.uniform(5e-5, 1.5e-4, (K, *shape)).astype(np.float32).astype(float)
    lam_cp = rng.uniform(5e-5, 1.5e-4, shape)
    Y = np.moveaxis(rng.dirichlet(np.ones(K), shape), -1, 0)
    scalars = np.concatenate([Y, (Y * h_k).sum(axis=0, keepdims=True)])
    diffusion.start.fields[:], diffusion.lam_cp.fields[0] = scalars, lam_cp
    diffusion.half.fields[::2], diffusion.half.fields[1::2] = 0.5 * rho_D, 0.5 * h_k
    diffusion._sweep(all_cells(grid).rows(), fields, 1e-6, np.array([[0.0, 0.0, 1.0, 0.0]]), 0)
    W = gas.weights[:, None, None]

    def minus_divergence(axis, spacing):
        a, b = np.s_[..., :-1], np.s_[..., 1:]
        y, h, D, lam, moles = (
            np.moveaxis(q, axis, -1) for q in (scalars, h_k, rho_D, lam_cp[None], (Y / W).sum(axis=0, keepdims=True))
        )
        X, W_face = y[:-1] / W / moles, 0.5 / moles[a] + 0.5 / moles[b]
        star = -0.5 * (D[a] + D[b]) * W / W_face * (X[b] - X[a])
        Y_face = 0.5 * (y[:-1][a] + y[:-1][b])
        j = star - Y_face * star.sum(axis=0)
        sensible = (Y_face * (h[b] - h[a])).sum(axis=0)  # cp dT
        q = -0.5 * (lam[a] + lam[b]) * sensible + (0.5 * (h[a] + h[b]) * j).sum(axis=0)
        flux = np.concatenate([j, q]) / spacing
        return np.moveaxis((flux[a] - flux[b]) / spacing, -1, axis)

    cells = np.s_[:, GHOSTS:-GHOSTS, GHOSTS:-GHOSTS]
    along_x = minus_divergence(2, grid.dx)[:, GHOSTS:-GHOSTS, GHOSTS - 1 : grid.nx + GHOSTS - 1]
    along_y = minus_divergence(1, grid.dy)[:, GHOSTS - 1 : grid.ny + GHOSTS - 1, GHOSTS:-GHOSTS]
    expected = 1e-6 * (along_x + along_y) / fields.rho[None][cells]
    rates = diffusion.rate.fields[cells]
    assert np.allclose(rates[:-1], expected[:-1], rtol=1e-11, atol=1e-13 * np.abs(expected[:-1]).max())
    assert np.allclose(rates[-1], expected[-1], rtol=1e-9, atol=1e-12 * np.abs(expected[-1]).max())


def test_skipping_uniform_cells_changes_nothing_beyond_round_off():
    """Hot gas that fills one tile exactly: what it spreads into must be worked on too."""
    gas, grid = drm19(), Grid(160, 96, 4.8e-3, 2.88e-3)
    inside = np.zeros((grid.ny, grid.nx))
    inside[2 * TILE_ROWS : 3 * TILE_ROWS, TILE_COLUMNS : 2 * TILE_COLUMNS] = 1.0
    Y = mixture(gas, H2=1.0, O2=2.0)[:, None, None] * inside + mixture(gas, N2=1.0)[:, None, None] * (1 - inside)
    results = []
    for whole in (False, True):
        fields = initial.at_rest(grid, COMM, gas, 300.0 + 1500.0 * inside, Y, ATMOSPHERE)
        active = all_cells(grid) if whole else find_active(fields, grid, COMM)
        changed = Diffusion(grid, COMM, gas).advance(fields, active, 5e-7)
        results.append(interior(fields.scalars).copy())
    assert not changed.tiles.all() or whole
    assert active.tiles.all() and find_active(fields, grid, COMM).tiles.sum() < 0.8 * active.tiles.size
    assert np.allclose(results[0][:-1], results[1][:-1], rtol=0.0, atol=1e-13)
    assert np.allclose(results[0][-1], results[1][-1], rtol=1e-12, atol=1e-7)


def test_a_uniform_gas_costs_nothing_and_stays():
    gas = drm19()
    fields = initial.at_rest(GRID, COMM, gas, np.full((GRID.ny, GRID.nx), 300.0), mixture(gas, N2=1.0), ATMOSPHERE)
    before = fields.scalars.copy()
    active = find_active(fields, GRID, COMM)
    assert not active.tiles.any()
    Diffusion(GRID, COMM, gas).advance(fields, active, 1e-6)
    assert np.array_equal(before[:, GHOSTS:-GHOSTS], fields.scalars[:, GHOSTS:-GHOSTS])
