"""Initial states; each function gives every rank its part of one and the same field, whatever their number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cfd_coupling.boundary import Stream
from cfd_coupling.config import CaseConfig, MixtureConfig
from cfd_coupling.fields import Fields, Floats, interior, padded_zeros
from cfd_coupling.gas import Gas
from cfd_coupling.grid import GHOSTS, Grid
from cfd_coupling.kernels.transport import viscosity
from cfd_coupling.parallel import Communicator
from chemnet.gas.canonical import premixed, solve_flame
from chemnet.gas.mechanism import Mechanism
from chemnet.gas.state import GAS_CONSTANT
from chemnet.gas.thermo import row_enthalpy_cp
from chemnet.runtime.errors import NumericalError

_SPECTRUM_END = 4.0  # in units of k_e: beyond it the Passot-Pouquet spectrum is below 1e-11 of its peak
FLAME_REFINEMENTS = 0.1 * 0.5 ** np.arange(12)  # bounds of slope and curve of a flame's grid, coarse to fine


def unburnt(mechanism: Mechanism, mixture: MixtureConfig) -> Floats:
    """Mass fractions (K,) of a case's unburnt gas. Raises UsageError for a species that the mechanism does not have."""
    return premixed(mechanism, mixture.phi, mixture.fuel, mixture.oxidizer)


def build(case: CaseConfig, grid: Grid, comm: Communicator, gas: Gas) -> Fields:
    """The initial state that a case asks for; `initial.kind` names the function of this module."""
    mixture = case.mixture
    settings = case.initial.model_dump(exclude={"kind"}) | {
        "Y": unburnt(gas.mechanism, mixture),
        "temperature": mixture.temperature,
        "pressure": mixture.pressure,
    }
    if case.initial.kind == "ignition":
        return ignition(grid, comm, gas, seed=case.seed, periodic_y=case.boundary.y == "periodic", **settings)
    if case.initial.kind == "taylor_green":
        return taylor_green(grid, comm, gas, **settings)
    if case.initial.kind == "free_flame":
        return free_flame(grid, comm, gas, **settings)
    if case.initial.kind == "channel":
        return channel(grid, comm, gas, **settings)
    stream = inflow(case, grid, gas)
    assert stream is not None, "the schema asks for an inflow"
    if case.initial.kind == "jet":
        return filled(grid, comm, gas, stream, mixture.pressure)
    return standing_flame(grid, comm, gas, stream=stream, **settings)


def inflow(case: CaseConfig, grid: Grid, gas: Gas) -> Stream | None:
    """The gas that enters at y = 0; None in a case without an inflow."""
    settings, mixture = case.boundary.inflow, case.mixture
    if settings is None:
        return None
    v, T = np.full(grid.nx, settings.velocity), np.full(grid.nx, mixture.temperature)
    jet = settings.jet
    if jet is not None:
        x = grid.x - 0.5 * grid.length_x
        inside = 0.5 * (np.tanh((x + 0.5 * jet.width) / jet.edge) - np.tanh((x - 0.5 * jet.width) / jet.edge))
        v += (jet.velocity - settings.velocity) * inside
        T += ((jet.temperature or mixture.temperature) - mixture.temperature) * inside
    Y = unburnt(gas.mechanism, mixture)
    scalars = np.empty((gas.n_species + 1, 1, grid.nx))
    scalars[:-1] = Y[:, None, None]
    row_enthalpy_cp(T, scalars, 0, 0, gas.nasa, scalars[-1, 0], np.empty(grid.nx))
    rho = mixture.pressure / (GAS_CONSTANT * T * float((Y / gas.weights).sum()))
    return Stream(v=v, T=T, rho=rho, scalars=scalars[:, 0])


def filled(grid: Grid, comm: Communicator, gas: Gas, stream: Stream, pressure: float) -> Fields:
    """The gas of an inflow everywhere, moving as it does there."""
    rows = np.ones((grid.ny_local, 1))
    fields = at_rest(grid, comm, gas, rows * stream.T, stream.scalars[:-1, None] * rows, pressure)
    interior(fields.v)[:] = stream.v
    comm.update(fields.velocity)
    return fields


def standing_flame(
    grid: Grid,
    comm: Communicator,
    gas: Gas,
    *,
    stream: Stream,
    Y: Floats,
    temperature: float,
    pressure: float,
    position: float,
    points: int,
) -> Fields:
    """A plane flame normal to y, its front at y = `position` [m], in which the mass flux is that of the inflow.

    The profile is that of `free_flame`.
    """
    behind, T, mass_fractions = flame_profile(gas, Y, temperature, pressure, points)
    depth, columns = grid.y - position, np.ones(grid.nx)
    across = np.array([np.interp(depth, behind, y) for y in mass_fractions])
    fields = at_rest(
        grid, comm, gas, np.interp(depth, behind, T)[:, None] * columns, across[:, :, None] * columns, pressure
    )
    comm.update(fields.rho)
    rho = 0.5 * (interior(fields.rho) + fields.rho[GHOSTS - 1 : -GHOSTS - 1, GHOSTS:-GHOSTS])
    interior(fields.v)[:] = stream.rho * stream.v / rho
    comm.update(fields.velocity)
    return fields


def at_rest(grid: Grid, comm: Communicator, gas: Gas, T: Floats, Y: Floats, pressure: float) -> Fields:
    """Gas at rest with T (ny_local, nx) [K] and Y (K, ny_local, nx) or (K,), at `pressure` [Pa], ghosts filled."""
    fields = Fields.empty(grid, gas.n_species, pressure)
    interior(fields.T)[:] = T
    interior(fields.Y)[:] = Y if Y.ndim == 3 else Y[:, None, None]
    for q in (fields.scalars, fields.T):
        comm.update(q)
    cp = np.empty(grid.shape[1])
    for j in range(grid.shape[0]):
        row_enthalpy_cp(fields.T[j], fields.Y, j, 0, gas.nasa, fields.h[j], cp)
    moles = (fields.Y / gas.weights[:, None, None]).sum(axis=0)
    fields.rho[:] = pressure / (GAS_CONSTANT * fields.T * moles)
    return fields


def ignition(
    grid: Grid,
    comm: Communicator,
    gas: Gas,
    *,
    Y: Floats,
    temperature: float,
    pressure: float,
    rms_velocity: float,
    integral_length: float,
    kernel_radius: float,
    kernel_temperature: float,
    kernel_edge_cells: float,
    kernel_centres: Sequence[tuple[float, float]] = ((0.5, 0.5),),
    seed: int,
    periodic_y: bool = True,
) -> Fields:
    """Turbulence in the mixture Y (K,), with round kernels of the same mixture at `kernel_temperature`.

    Temperatures in K, pressure in Pa, lengths in m, velocity in m/s; `kernel_centres` in shares of the box. The edge of
    a kernel is a tanh of `kernel_edge_cells` cells: T = T_u + (T_k - T_u) (1 - tanh((r - R) / edge)) / 2, r the
    distance from the nearest centre.
    """
    r = np.min([distance(grid, x * grid.length_x, y * grid.length_y, periodic_y) for x, y in kernel_centres], axis=0)
    inside = 0.5 * (1.0 - np.tanh((r - kernel_radius) / (kernel_edge_cells * grid.dx)))
    fields = at_rest(grid, comm, gas, temperature + (kernel_temperature - temperature) * inside, Y, pressure)
    _set_velocity(fields, grid, comm, turbulence(grid, rms_velocity, integral_length, seed))
    return fields


def distance(grid: Grid, x: float, y: float, periodic_y: bool = True) -> Floats:
    """Distance [m] of the cells (ny_local, nx) from the point (x, y), or from an image of it beyond a periodic end."""
    across, along = np.abs(grid.x - x), np.abs(grid.y - y)
    across = np.minimum(across, grid.length_x - across)
    if periodic_y:
        along = np.minimum(along, grid.length_y - along)
    return np.hypot(across[None, :], along[:, None])


def turbulence(grid: Grid, rms_velocity: float, integral_length: float, seed: int) -> Floats:
    """Stream function (ny + 1, nx + 1) [m2/s] at the corners of the whole box, of random turbulence.

    Spectrum of Passot and Pouquet (1987): E(k) ~ (k/k_e)^4 exp(-2 (k/k_e)^2), k_e = 2 pi / integral_length, random
    phases drawn mode by mode, so that the field depends on box and seed but not on the grid. Both velocity
    components together have the r.m.s. value sqrt(2) rms_velocity on this grid.
    """
    k_e = 2.0 * np.pi / integral_length
    modes = [int(_SPECTRUM_END * k_e * length / (2.0 * np.pi)) for length in (grid.length_y, grid.length_x)]
    m_y, m_x = (np.arange(-m, m + 1) for m in modes)
    phases = np.random.default_rng(seed).uniform(0.0, 2.0 * np.pi, (len(m_y), len(m_x)))
    phases -= phases[::-1, ::-1]  # opposite modes are conjugate: the field is real
    k = 2.0 * np.pi * np.hypot(m_y[:, None] / grid.length_y, m_x[None, :] / grid.length_x)
    amplitude = np.sqrt(k) * np.exp(-((k / k_e) ** 2))  # of a mode of the stream function: sqrt(E / k) / k
    spectrum = np.zeros((grid.ny, grid.nx), dtype=complex)
    kept_y, kept_x = np.abs(m_y) < grid.ny / 2, np.abs(m_x) < grid.nx / 2
    waves = (amplitude * np.exp(1j * phases))[np.ix_(kept_y, kept_x)]
    spectrum[np.ix_(m_y[kept_y] % grid.ny, m_x[kept_x] % grid.nx)] = waves
    psi = np.pad(np.fft.ifft2(spectrum).real, ((0, 1), (0, 1)), mode="wrap")
    u, v = face_velocities(psi, grid)
    rms = np.sqrt(0.5 * np.mean(u**2 + v**2))
    return psi * (rms_velocity / rms) if rms > 0.0 else psi


def face_velocities(psi: Floats, grid: Grid) -> tuple[Floats, Floats]:
    """Face velocities (rows, nx) of a stream function at the south-west corners, free of divergence to round-off.

    u = d(psi)/dy between the two corners of the west face, v = -d(psi)/dx between those of the south face.
    """
    return (psi[1:, :-1] - psi[:-1, :-1]) / grid.dy, -(psi[:-1, 1:] - psi[:-1, :-1]) / grid.dx


def _set_velocity(fields: Fields, grid: Grid, comm: Communicator, psi: Floats) -> None:
    """The velocity of a stream function (ny + 1, nx + 1) of the whole box."""
    u, v = face_velocities(psi[grid.j_start : grid.j_stop + 1], grid)
    interior(fields.u)[:] = u
    interior(fields.v)[:] = v
    comm.update(fields.velocity)


def taylor_green(
    grid: Grid, comm: Communicator, gas: Gas, *, Y: Floats, temperature: float, pressure: float, velocity: float
) -> Fields:
    """The Taylor-Green vortex in a uniform gas, with its exact pressure; its decay is `taylor_green_velocity`."""
    fields = at_rest(grid, comm, gas, np.full((grid.ny_local, grid.nx), temperature), Y, pressure)
    fields.velocity[:, GHOSTS:-GHOSTS, GHOSTS:-GHOSTS] = taylor_green_velocity(grid, velocity, 0.0, 0.0)
    wave_x, wave_y = 2.0 * np.pi / grid.length_x, 2.0 * np.pi / grid.length_y
    shape = np.cos(2.0 * wave_x * grid.x)[None, :] + np.cos(2.0 * wave_y * grid.y)[:, None]
    interior(fields.p)[:] = 0.25 * interior(fields.rho) * velocity**2 * shape
    for q in (fields.velocity, fields.p):
        comm.update(q)
    return fields


def taylor_green_velocity(grid: Grid, velocity: float, nu: float, time: float) -> Floats:
    """The exact vortex (2, ny_local, nx) [m/s] at the faces, kinematic viscosity nu [m2/s], after `time` [s].

    u = U cos(ax) sin(by), v = -U (a/b) sin(ax) cos(by), a and b one wave per box; decays as exp(-nu (a^2 + b^2) t).
    Exact in a square box.
    """
    a, b = 2.0 * np.pi / grid.length_x, 2.0 * np.pi / grid.length_y
    x, y = grid.x[None, :], grid.y[:, None]
    decayed = velocity * np.exp(-nu * (a * a + b * b) * time)
    u = np.cos(a * (x - 0.5 * grid.dx)) * np.sin(b * y)
    v = -(a / b) * np.sin(a * x) * np.cos(b * (y - 0.5 * grid.dy))
    return decayed * np.array([u, v])


def channel(
    grid: Grid, comm: Communicator, gas: Gas, *, Y: Floats, temperature: float, pressure: float, velocity: float
) -> Fields:
    """Uniform gas with u = velocity sin(pi y / H) between two walls; it decays as exp(-nu (pi / H)^2 t)."""
    fields = at_rest(grid, comm, gas, np.full((grid.ny_local, grid.nx), temperature), Y, pressure)
    interior(fields.u)[:] = velocity * np.sin(np.pi * grid.y / grid.length_y)[:, None]
    comm.update(fields.velocity)
    return fields


def kinematic_viscosity(gas: Gas, Y: Floats, temperature: float, pressure: float) -> float:
    """Viscosity over density [m2/s] of the mixture Y (K,), by the solver's own fits."""
    T, fractions, mu = padded_zeros(1), padded_zeros(len(Y)), padded_zeros(1)
    T[:], fractions[:] = temperature, Y
    viscosity(T, fractions, 1.0 / np.sqrt(gas.weights), gas.T_ref, gas.viscosity, mu)
    rho = pressure / (GAS_CONSTANT * temperature * float((Y / gas.weights).sum()))
    return float(mu[0]) / rho


def free_flame(
    grid: Grid,
    comm: Communicator,
    gas: Gas,
    *,
    Y: Floats,
    temperature: float,
    pressure: float,
    burnt_width: float,
    points: int,
) -> Fields:
    """Two plane flames back to back, normal to x: burnt gas of `burnt_width` [m] in the middle, unburnt Y (K,) outside.

    The profile is Cantera's free flame with mixture-averaged transport on at least `points` points. Gas is at rest:
    the first steps set the unburnt gas in motion.
    """
    position, T, mass_fractions = flame_profile(gas, Y, temperature, pressure, points)
    depth = 0.5 * burnt_width - np.abs(grid.x - 0.5 * grid.length_x)  # behind the front
    rows = np.ones((grid.ny_local, 1))
    across = np.array([np.interp(depth, position, y) for y in mass_fractions])
    return at_rest(grid, comm, gas, rows * np.interp(depth, position, T), across[:, None, :] * rows, pressure)


def flame_profile(
    gas: Gas, Y: Floats, temperature: float, pressure: float, points: int
) -> tuple[Floats, Floats, Floats]:
    """Distance behind the front [m], where T is half-way up, T [K] and Y (K, n) of Cantera's free flame."""
    solution = gas.mechanism.gas()
    flame, state = None, np.hstack([temperature, pressure, Y])
    for bound in FLAME_REFINEMENTS:
        flame = solve_flame(solution, state, flame, width=0.02, slope=bound, curve=bound, max_points=10 * points)
        if len(flame.grid) >= points:
            break
    else:
        raise NumericalError(f"the flame has fewer points than initial.points={points} on its finest grid\nSet fewer.")
    half = 0.5 * (flame.T[0] + flame.T[-1])
    front = np.interp(half, flame.T[: np.argmax(flame.T) + 1], flame.grid[: np.argmax(flame.T) + 1])
    return flame.grid - front, flame.T, flame.Y
