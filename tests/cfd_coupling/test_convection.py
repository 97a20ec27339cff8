"""Convection: exact translations, conservation to round-off, and uniform fields that stay uniform to the last bit."""

import numpy as np
import pytest
from flow_states import ATMOSPHERE, COMM, drm19, methane_air, mixture
from numba import njit

from cfd_coupling import initial
from cfd_coupling.active_cells import TILE_COLUMNS, TILE_ROWS, all_cells, find_active
from cfd_coupling.convection import Convection
from cfd_coupling.fields import interior
from cfd_coupling.grid import Grid
from cfd_coupling.kernels.convection import _weno, largest_cfl
from chemnet.runtime.simd import W, load_at, store_at


@njit
def face_values(rows, flux, floor, face):
    """Face values of species from six cells each, rows (6 n,) flat."""
    n = flux.size
    for i in range(0, n, W):
        q0, q1, q2 = load_at(rows, i), load_at(rows, n + i), load_at(rows, 2 * n + i)
        q3, q4, q5 = load_at(rows, 3 * n + i), load_at(rows, 4 * n + i), load_at(rows, 5 * n + i)
        store_at(face, i, _weno(q0, q1, q2, q3, q4, q5, load_at(flux, i) > 0.0, floor)[0])


def carried(grid, Y, u, v, dt, steps, substeps=1, T=300.0):
    """A given velocity carries a state; returns the fields and the scalars before.

    Density is only stable when the projection answers to it, so long runs need a uniform one.
    """
    gas = drm19()
    fields = initial.at_rest(grid, COMM, gas, np.broadcast_to(T, (grid.ny, grid.nx)), Y, ATMOSPHERE)
    interior(fields.u)[:], interior(fields.v)[:] = u, v
    COMM.update(fields.velocity)
    convection, sink, before = Convection(grid, COMM, gas.n_species), np.zeros(grid.shape), fields.scalars.copy()
    for _ in range(steps):
        convection.advance(fields, all_cells(grid), sink, dt, substeps)
        COMM.update(fields.scalars)
        COMM.update(fields.rho)
    return fields, before


def temperature_of_uniform_density(Y):
    return 8.0 / np.tensordot(1.0 / drm19().weights, Y, axes=1)


def wave_of_argon(grid, shape):
    gas = drm19()
    weight = np.broadcast_to(shape, (grid.ny, grid.nx))
    return mixture(gas, AR=1.0)[:, None, None] * weight + mixture(gas, CO2=1.0)[:, None, None] * (1.0 - weight)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_smooth_wave_comes_back_unchanged_after_one_period(axis):
    nx, ny = (64, 6) if axis == 0 else (6, 64)
    grid = Grid(nx, ny, 1e-3 * nx, 1e-3 * ny)
    along = grid.x[None, :] if axis == 0 else grid.y[:, None]
    Y = wave_of_argon(grid, 0.3 + 0.2 * np.sin(2.0 * np.pi * along / 6.4e-2))
    argon = drm19().mechanism.index("AR")
    u, v = (10.0, 0.0) if axis == 0 else (0.0, 10.0)
    fields, before = carried(grid, Y, u, v, 2e-5, 320, T=temperature_of_uniform_density(Y))
    error = np.abs(interior(fields.Y[argon]) - interior(before[argon])).max()
    assert error < 1e-4
    half, _ = carried(grid, Y, u, v, 2e-5, 160, T=temperature_of_uniform_density(Y))
    assert np.abs(interior(half.Y[argon]) - interior(before[argon])).max() > 0.3


def test_carried_totals_stay_to_round_off_whatever_the_velocity():
    grid = Grid(40, 24, 4e-2, 2.4e-2)
    rng = np.random.default_rng(1)
    Y = wave_of_argon(grid, rng.uniform(0.2, 0.8, (grid.ny, grid.nx)))
    u, v = rng.normal(0.0, 5.0, (2, grid.ny, grid.nx))
    fields, before = carried(grid, Y, u, v, 1e-5, 5, substeps=2, T=rng.uniform(300.0, 900.0, (grid.ny, grid.nx)))
    start = initial.at_rest(grid, COMM, drm19(), interior(fields.T), Y, ATMOSPHERE)
    rho0, rho = interior(start.rho), interior(fields.rho)
    assert rho.sum() == pytest.approx(rho0.sum(), rel=1e-14, abs=0.0)
    totals, carried_totals = (
        (rho0 * interior(before)).sum(axis=(1, 2)),
        (rho * interior(fields.scalars)).sum(axis=(1, 2)),
    )
    assert np.allclose(carried_totals, totals, rtol=1e-13, atol=1e-15)
    assert np.abs(interior(fields.Y).sum(axis=0) - 1.0).max() < 1e-12
    assert np.abs(rho / rho0 - 1.0).max() > 1e-2


def test_what_is_uniform_stays_uniform_to_the_last_bit():
    grid = Grid(24, 16, 2.4e-2, 1.6e-2)
    u, v = np.random.default_rng(2).normal(0.0, 5.0, (2, grid.ny, grid.nx))
    fields, before = carried(grid, methane_air(drm19()), u, v, 1e-5, 3)
    assert np.array_equal(interior(fields.scalars), interior(before))
    assert np.ptp(interior(fields.rho)) > 1e-3


def test_a_sink_takes_mass_but_leaves_the_composition():
    gas, grid = drm19(), Grid(12, 8, 1.2e-2, 8e-3)
    fields = initial.at_rest(grid, COMM, gas, np.full((grid.ny, grid.nx), 300.0), methane_air(gas), ATMOSPHERE)
    sink, before, rho = np.full(grid.shape, 1e3), fields.scalars.copy(), fields.rho.copy()
    Convection(grid, COMM, gas.n_species).advance(fields, all_cells(grid), sink, 1e-5, 1)
    assert np.allclose(interior(fields.rho), 0.99 * interior(rho), rtol=1e-14, atol=0.0)
    assert np.array_equal(interior(fields.scalars), interior(before))


def test_the_largest_cfl_is_found_with_its_cell():
    velocity = np.ones((2, 12, 14))
    velocity[1, 7, 9] = -6.0
    assert largest_cfl(velocity, 0.5, 2.0, 0.1) == (pytest.approx(0.1 * (1 / 0.5 + 6 / 2.0), rel=1e-12, abs=0.0), 7, 9)
    velocity[0, 4, 4] = np.nan
    cfl, j, i = largest_cfl(velocity, 0.5, 2.0, 0.1)
    assert np.isnan(cfl) and (j, i) == (4, 4)


def test_skipping_uniform_cells_changes_nothing():
    """Argon that fills one tile exactly, blown out of it in all directions by two sub-steps."""
    gas, grid, dt = drm19(), Grid(5 * TILE_COLUMNS, 6 * TILE_ROWS, 1.6e-1, 4.8e-2), 5e-5
    inside = np.zeros((grid.ny, grid.nx))
    inside[2 * TILE_ROWS : 3 * TILE_ROWS, TILE_COLUMNS : 2 * TILE_COLUMNS] = 1.0
    results = []
    for skip in (True, False):
        fields = initial.at_rest(grid, COMM, gas, np.full_like(inside, 300.0), wave_of_argon(grid, inside), ATMOSPHERE)
        interior(fields.velocity)[:] = np.random.default_rng(9).normal(0.0, 5.0, (2, grid.ny, grid.nx))
        COMM.update(fields.velocity)
        active = find_active(fields, grid, COMM) if skip else all_cells(grid)
        Convection(grid, COMM, gas.n_species).advance(fields, active, np.zeros(grid.shape), dt, 2)
        results.append(interior(fields.scalars).copy())
    assert find_active(fields, grid, COMM).tiles.sum() < 20
    assert np.allclose(results[0], results[1], rtol=1e-14, atol=0.0)


def test_face_values_of_a_positive_field_are_positive():
    rng = np.random.default_rng(8)
    rows = 10.0 ** rng.uniform(-12.0, 0.0, (6, 2000))
    face = np.empty(2000)
    face_values(rows.ravel(), rng.choice([-1.0, 1.0], 2000), 0.0, face)
    assert face.min() >= 0.0
    face_values(rows.ravel(), np.ones(2000), -np.inf, face)
    assert face.min() < -1e-3  # without the floor they are not
