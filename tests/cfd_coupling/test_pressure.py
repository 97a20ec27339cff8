"""The projection gives the asked divergence at any density, by a pressure that a direct solver confirms."""

import numpy as np
import pytest
from flow_states import COMM

from cfd_coupling.fields import Fields, interior
from cfd_coupling.grid import GHOSTS, Grid
from cfd_coupling.pressure import ConstantPoisson, Projection
from chemnet.runtime.errors import NumericalError

DT = 1e-6


def rough_state(grid, ratio=8.0, seed=0):
    rng = np.random.default_rng(seed)
    fields = Fields.empty(grid, 1, 1e5)
    interior(fields.rho)[:] = ratio ** rng.random((grid.ny, grid.nx)) / ratio
    interior(fields.velocity)[:] = rng.normal(size=(2, grid.ny, grid.nx))
    for q in (fields.rho, fields.velocity):
        COMM.update(q)
    target = rng.normal(size=(grid.ny, grid.nx)) * 1e3
    return fields, target - target.mean()


def divergence(fields, grid):
    u, v = fields.velocity[:, GHOSTS:-GHOSTS, GHOSTS:-GHOSTS]
    return (np.roll(u, -1, axis=1) - u) / grid.dx + (np.roll(v, -1, axis=0) - v) / grid.dy


def test_one_mode_of_the_laplacian_is_divided_by_its_eigenvalue():
    grid = Grid(12, 10, 1.2, 0.5)
    wave = np.cos(2 * np.pi * (2 * np.arange(12)[None, :] / 12 + 3 * np.arange(10)[:, None] / 10))
    eigenvalue = (2 * np.sin(2 * np.pi / 12) / grid.dx) ** 2 + (2 * np.sin(3 * np.pi / 10) / grid.dy) ** 2
    assert np.allclose(ConstantPoisson(grid, COMM).solve(wave), wave / eigenvalue, rtol=1e-5, atol=1e-6 / eigenvalue)


@pytest.mark.parametrize("shape", [(32, 24), (17, 15)])
def test_the_divergence_becomes_the_target_with_an_eightfold_density(shape):
    grid = Grid(*shape, 1e-3, 1e-3)
    fields, target = rough_state(grid)
    report = Projection(grid, COMM, 1e-11).project(fields, target, DT)
    assert DT * np.abs(divergence(fields, grid) - target).max() == pytest.approx(report.residual, rel=1e-2, abs=1e-15)
    assert report.residual <= 1e-11 and report.iterations > 5


def test_a_velocity_that_has_the_divergence_is_left_alone():
    grid = Grid(16, 16, 1e-3, 1e-3)
    fields, target = rough_state(grid)
    projection = Projection(grid, COMM, 1e-12)
    projection.project(fields, target, DT)
    before, p = fields.velocity.copy(), fields.p.copy()
    assert Projection(grid, COMM, 1e-11).project(fields, target, DT).iterations == 0
    assert np.array_equal(fields.velocity, before) and np.array_equal(fields.p, p)


def test_the_pressure_is_that_of_a_direct_solver():
    grid = Grid(7, 6, 7e-4, 3e-4)
    fields, target = rough_state(grid)
    rho, start = interior(fields.rho), divergence(fields, grid)
    matrix = np.zeros((42, 42))
    for column in range(42):
        phi = np.zeros(42)
        phi[column] = 1.0
        phi = phi.reshape(6, 7)
        west = (phi - np.roll(phi, 1, 1)) * 2.0 / (rho + np.roll(rho, 1, 1)) / grid.dx**2
        south = (phi - np.roll(phi, 1, 0)) * 2.0 / (rho + np.roll(rho, 1, 0)) / grid.dy**2
        matrix[:, column] = (np.roll(west, -1, 1) - west + np.roll(south, -1, 0) - south).ravel()
    exact = np.linalg.lstsq(matrix, ((start - target) / DT).ravel(), rcond=None)[0].reshape(6, 7)
    Projection(grid, COMM, 1e-13).project(fields, target, DT)
    p = interior(fields.p)
    assert np.allclose(p - p.mean(), exact - exact.mean(), rtol=1e-9, atol=1e-9 * np.abs(exact).max())


def test_smooth_density_needs_few_iterations():
    grid = Grid(64, 64, 1e-3, 1e-3)
    fields, target = rough_state(grid)
    r = np.hypot(grid.x[None, :] - 5e-4, grid.y[:, None] - 5e-4)
    interior(fields.rho)[:] = 1.1 - 0.95 * np.exp(-((r / 1.5e-4) ** 2))
    COMM.update(fields.rho)
    assert Projection(grid, COMM, 1e-11).project(fields, target, DT).iterations <= 30


def test_a_velocity_that_is_no_number_is_reported():
    grid = Grid(8, 8, 1e-3, 1e-3)
    fields, target = rough_state(grid)
    fields.velocity[0, 5, 5] = np.nan
    COMM.step = 12
    with pytest.raises(NumericalError, match="step 12"):
        Projection(grid, COMM, 1e-11).project(fields, target, DT)
