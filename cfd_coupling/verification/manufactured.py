"""A manufactured flow: steady, of variable density, with species and heat; order in space of each variable.

The exact solution is rho u = curl(psi), so that mass is conserved, with T, a mixture of two gases and p as smooth
waves, and rho from the equation of state. What keeps it steady is added between the steps:

    species  rho u . grad Y_k + div j_k        enthalpy  rho u . grad h + div q
    momentum  rho u . grad u + grad p - div tau

Derivatives are Fourier's, exact for smooth waves, of fluxes as `kernels.diffusion` defines them, coefficients by the
fits of `Gas`. The step shrinks with the square of the spacing, since the scheme is first order in time here.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.polynomial.polynomial import polyval

from cfd_coupling import initial
from cfd_coupling.chemistry import Frozen
from cfd_coupling.config import FlowConfig
from cfd_coupling.fields import Fields, Floats, interior, padded_zeros
from cfd_coupling.grid import Grid
from cfd_coupling.kernels.transport import viscosity
from cfd_coupling.stepping import Stepper
from cfd_coupling.verification.scoreboard import Line, at_least, reported
from cfd_coupling.verification.states import ATMOSPHERE, COMM, drm19, mixture, orders, rms
from chemnet.gas.thermo import species_cp, species_enthalpies

_LENGTH, _END = 1e-3, 2e-5  # [m, s]
_FLUX, _PRESSURE = 1.0, 0.5  # largest mass flux [kg/m2/s], of the wave of p [Pa]
_NAMES = ("u", "v", "rho", "T", "Y(CH4)", "h")


def order_in_space(quick: bool) -> Iterator[Line]:
    """Errors per variable after _END on three grids, and what is left of the finest, relative to the range."""
    sizes = (16, 32, 64) if quick else (32, 64, 128)
    errors = np.array([_errors(n, n * n // (32 if quick else 64)) for n in sizes])
    for name, order, left in zip((*_NAMES, "p"), orders(errors)[-1], errors[-1], strict=True):
        yield at_least(f"manufactured flow, order of {name} in space", float(order), 1.85)
        yield reported(f"manufactured flow, error of {name} over its range on {sizes[-1]}^2", float(left))


def _errors(n: int, steps: int) -> list[float]:
    """Root-mean-square errors of _NAMES and p (means taken off), over the range of each, on n x n cells."""
    grid, dt = Grid(n, n, _LENGTH, _LENGTH), _END / steps
    fields = exact(grid)
    wanted, (scalars, force) = _values(fields), sources(fields, grid)
    stepper = Stepper(grid, COMM, drm19(), Frozen(), FlowConfig(skip_uniform=False))
    for _ in range(steps):
        interior(fields.scalars)[:] += dt * scalars / interior(fields.rho)
        interior(fields.velocity)[:] += dt * force
        stepper.step(fields, dt)
    return [rms(a - b) / float(np.ptp(b)) for a, b in zip(_values(fields), wanted, strict=True)]


def _values(fields: Fields) -> list[Floats]:
    fuel = interior(fields.Y[drm19().mechanism.index("CH4")])
    p = interior(fields.p)
    parts = (fields.u, fields.v, fields.rho, fields.T)
    return [*(interior(q).copy() for q in parts), fuel.copy(), interior(fields.h).copy(), p - p.mean()]


def exact(grid: Grid) -> Fields:
    """The exact state on a grid."""
    gas, a = drm19(), 2.0 * np.pi / _LENGTH
    x, y = a * grid.x[None, :], a * grid.y[:, None]
    share = 0.5 + 0.3 * np.sin(x) * np.cos(y)
    rich, poor = mixture(gas, CH4=1.0, N2=1.0), mixture(gas, O2=1.0, N2=2.0)
    Y = rich[:, None, None] * share + poor[:, None, None] * (1.0 - share)
    fields = initial.at_rest(grid, COMM, gas, 600.0 + 150.0 * np.cos(x) * np.sin(y + 0.5), Y, ATMOSPHERE)
    rho = interior(fields.rho)
    flux = _FLUX * np.array([0.5 + np.sin(x) * np.cos(y), 0.25 - np.cos(x) * np.sin(y)])
    interior(fields.u)[:], interior(fields.v)[:] = _at_faces(flux / rho)
    interior(fields.p)[:] = _PRESSURE * np.cos(x) * np.cos(y)
    for q in (fields.velocity, fields.p):
        COMM.update(q)
    return fields


def sources(fields: Fields, grid: Grid) -> tuple[Floats, Floats]:
    """Sources of species and enthalpy (K + 1, ny, nx) [kg/m3/s, W/m3] and accelerations (2, ny, nx) [m/s2]."""
    gas, rho, q = drm19(), interior(fields.rho), interior(fields.scalars)
    flux = rho * _at_faces(interior(fields.velocity), back=True)
    carried = sum(m * _derivative(q, grid, axis) for axis, m in enumerate(flux))
    spread = sum(_derivative(_diffusive_flux(fields, grid, axis), grid, axis) for axis in (0, 1))
    mu, roots = padded_zeros(*grid.shape), 1.0 / np.sqrt(gas.weights)
    viscosity(fields.T.ravel(), fields.scalars.ravel(), roots, gas.T_ref, gas.viscosity, mu.ravel())
    velocity = flux / rho
    slope = np.array([[_derivative(u, grid, axis) for axis in (0, 1)] for u in velocity])
    tau = interior(mu) * (slope + slope.swapaxes(0, 1) - 2.0 / 3.0 * np.eye(2)[..., None, None] * np.trace(slope))
    force = [
        sum(m * slope[i, axis] - _derivative(tau[i, axis], grid, axis) for axis, m in enumerate(flux))
        + _derivative(interior(fields.p), grid, i)
        for i in (0, 1)
    ]
    return np.asarray(carried + spread), _at_faces(np.array(force) / rho)


def _diffusive_flux(fields: Fields, grid: Grid, axis: int) -> Floats:
    """Fluxes (K + 1, ny, nx) of species and enthalpy along an axis: 0 is x."""
    gas = drm19()
    rho_D, lam_cp, h_k = _coefficients(fields)
    Y = interior(fields.Y)
    moles = np.tensordot(1.0 / gas.weights, Y, axes=1)
    slope = _derivative(Y, grid, axis)
    j = -rho_D * (slope - Y * _derivative(np.log(moles), grid, axis))
    j -= Y * j.sum(axis=0)
    q = -lam_cp * _derivative(interior(fields.h), grid, axis) + (h_k * (lam_cp * slope + j)).sum(axis=0)
    return np.concatenate([j, q[None]])


def _coefficients(fields: Fields) -> tuple[Floats, Floats, Floats]:
    """rho D_k [kg/m/s], lambda/cp [kg/m/s] and h_k [J/kg] in the cells, by the fits of `Gas` and their definitions."""
    gas, T, Y = drm19(), interior(fields.T), interior(fields.Y)
    x, W = (T - gas.T_ref) / (T + gas.T_ref), 1.0 / np.tensordot(1.0 / gas.weights, Y, axes=1)
    X = Y * W / gas.weights[:, None, None]
    basis = polyval(x, gas.basis.T)
    drag = np.einsum("jyx,kjr,ryx->kyx", X, gas.pairs * (1.0 - np.eye(len(Y)))[..., None], basis, optimize=True)
    rho_D = interior(fields.rho) * T**1.5 / fields.p0 * (1.0 - Y) / drag
    pure = polyval(x, gas.conductivity.T)
    lam = 0.5 * np.sqrt(T) * ((X * pure).sum(axis=0) + 1.0 / (X / pure).sum(axis=0))
    h_k, c_k = np.empty_like(Y), np.empty_like(Y)
    for j, i in np.ndindex(T.shape):
        for properties, out in ((species_enthalpies, h_k), (species_cp, c_k)):
            values = np.empty(len(Y))
            properties(T[j, i], gas.mechanism.nasa, values)
            out[:, j, i] = values
    return rho_D, lam / (Y * c_k).sum(axis=0), h_k


def _modes(n: int) -> Floats:
    return np.asarray(np.fft.fftfreq(n, 1.0 / n))


def _derivative(q: Floats, grid: Grid, axis: int) -> Floats:
    """d/dx (axis 0) or d/dy (axis 1) of q (..., ny, nx) by Fourier modes."""
    n, length = ((grid.nx, grid.length_x), (grid.ny, grid.length_y))[axis]
    k = 2.0j * np.pi / length * _modes(n)
    place = -1 - axis
    factor = k if axis == 0 else k[:, None]
    return np.asarray(np.fft.ifft(np.fft.fft(q, axis=place) * factor, axis=place).real)


def _at_faces(vector: Floats, back: bool = False) -> Floats:
    """Components (2, ny, nx) moved by Fourier modes from the cell centres to their faces, or back."""
    sign = 1.0 if back else -1.0
    moved = []
    for axis, q in enumerate(vector):
        shift = np.exp(sign * 1j * np.pi * _modes(q.shape[1 - axis]) / q.shape[1 - axis])
        place = -1 - axis
        moved.append(np.fft.ifft(np.fft.fft(q, axis=place) * (shift if axis == 0 else shift[:, None]), axis=place).real)
    return np.array(moved)
