"""Momentum: each force by a case with a known answer, and kinetic energy that convection keeps."""

import numpy as np
import pytest
from flow_states import ATMOSPHERE, COMM, drm19, methane_air

from cfd_coupling import initial
from cfd_coupling.fields import Fields, interior
from cfd_coupling.grid import Grid
from cfd_coupling.kernels.convection import mass_flux, momentum_stage
from cfd_coupling.momentum import Momentum

GRID = Grid(32, 24, 1e-3, 7.5e-4)


def still(grid=GRID, T=300.0) -> Fields:
    gas = drm19()
    return initial.at_rest(grid, COMM, gas, np.broadcast_to(T, (grid.ny, grid.nx)), methane_air(gas), ATMOSPHERE)


def advanced(fields, dt, substeps=1, grid=GRID):
    for q in (fields.velocity, fields.p):
        COMM.update(q)
    Momentum(grid, COMM, drm19()).advance(fields, dt, substeps)
    return interior(fields.velocity)


def uneven_temperature(grid=GRID):
    return 300.0 + 1500.0 * np.random.default_rng(4).random((grid.ny, grid.nx))


@pytest.mark.parametrize("substeps", [1, 2])
def test_a_uniform_velocity_stays_in_gas_of_uneven_density(substeps):
    fields = still(T=uneven_temperature())
    interior(fields.u)[:], interior(fields.v)[:] = 3.0, -2.0
    velocity = advanced(fields, 2e-6, substeps)
    assert np.allclose(velocity[0], 3.0, rtol=1e-13, atol=0.0) and np.allclose(velocity[1], -2.0, rtol=1e-13, atol=0.0)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_pressure_gradient_accelerates_by_itself_over_rho(axis):
    fields = still()
    along = GRID.x[None, :] if axis == 0 else GRID.y[:, None]
    length, spacing = ((GRID.length_x, GRID.dx), (GRID.length_y, GRID.dy))[axis]
    p = 1e-6 * np.cos(2.0 * np.pi * along / length) * np.ones((GRID.ny, GRID.nx))
    interior(fields.p)[:] = p
    velocity = advanced(fields, 1e-9)
    gradient = (p - np.roll(p, 1, axis=1 - axis)) / spacing
    assert np.allclose(velocity[axis], -1e-9 * gradient / fields.rho[5, 5], rtol=1e-4, atol=1e-18)
    assert np.abs(velocity[1 - axis]).max() < 1e-4 * np.abs(velocity[axis]).max()


@pytest.mark.parametrize("axis", [0, 1])
def test_a_shear_wave_decays_with_nu_and_a_compressive_one_with_four_thirds_of_it(axis):
    gas = drm19()
    nu = initial.kinematic_viscosity(gas, methane_air(gas), 300.0, ATMOSPHERE)
    for wave_axis in (0, 1):
        fields = still()
        face = GRID.x[None, :] - 0.5 * GRID.dx if wave_axis == 0 else GRID.y[:, None] - 0.5 * GRID.dy
        length, n, spacing = ((GRID.length_x, GRID.nx, GRID.dx), (GRID.length_y, GRID.ny, GRID.dy))[wave_axis]
        wave = np.sin(2.0 * np.pi * face / length) * np.ones((GRID.ny, GRID.nx))
        interior(fields.velocity)[axis] = 1e-6 * wave
        rate = (2.0 * np.sin(np.pi / n) / spacing) ** 2 * nu * (4.0 / 3.0 if wave_axis == axis else 1.0)
        dt = 0.05 / rate
        velocity = advanced(fields, dt)
        decay = (velocity[axis] * wave).sum() / (1e-6 * wave**2).sum()
        assert np.log(decay) == pytest.approx(-rate * dt, rel=1e-3, abs=0.0)


def test_viscous_stress_conserves_momentum_in_uneven_gas():
    fields = still(T=uneven_temperature())
    interior(fields.velocity)[:] = 1e-9 * np.random.default_rng(5).normal(size=(2, GRID.ny, GRID.nx))
    rho = interior(fields.rho)
    faces = [0.5 * (rho + np.roll(rho, 1, axis=1)), 0.5 * (rho + np.roll(rho, 1, axis=0))]
    start = interior(fields.velocity).copy()
    end = advanced(fields, 1e-6)
    for face, before, after in zip(faces, start, end, strict=True):
        assert (face * (after - before)).sum() == pytest.approx(0.0, abs=1e-9 * np.abs(face * before).sum(), rel=0.0)
        assert np.abs(after).max() < 0.9 * np.abs(before).max()


def test_convection_alone_keeps_kinetic_energy_of_an_incompressible_flow():
    fields = still()
    psi = np.pad(np.random.default_rng(6).normal(size=(GRID.ny, GRID.nx)), ((0, 1), (0, 1)), mode="wrap") * 1e-5
    interior(fields.u)[:], interior(fields.v)[:] = initial.face_velocities(psi, GRID)
    COMM.update(fields.velocity)
    flux, out = np.zeros_like(fields.velocity), fields.velocity.copy()
    mass_flux(fields.velocity, fields.rho, flux)
    momentum_stage(fields.velocity, fields.velocity, flux, fields.rho, fields.p, GRID.dx, GRID.dy, 1e-6, out)
    start, change = interior(fields.velocity), interior(out) - interior(fields.velocity)
    assert np.abs(change).max() > 1e-3 * np.abs(start).max()
    assert abs((start * change).sum()) < 1e-12 * (np.abs(start * change)).sum()
