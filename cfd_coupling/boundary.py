"""Boundaries of the box: ghost cells, periodic in x, and in y periodic, between walls, or from an inflow to an outflow.

A field is q[..., j, i]; row 0 is the first of the box. Ghosts are filled from the edge outwards (here at y = 0):

    row  1   |  b  |  b         a wall mirrors species, density and pressure (a, b): no gradient, so no flux;
    row  0   |  a  |  a         u changes its sign (-a, -b): the mean of both sides, which is u at the wall, is zero
    edge     +-----+--v = 0     enthalpy at a wall of given temperature: 2 h_w - a, h_w = h(Y, T_w): h_w is at the wall
    row -1   |  a  |  a
    row -2   |  b  |  b         an inflow has its own gas in all ghosts, an outflow a copy of the row at the edge

v lies on south faces: v[0] is the edge at y = 0 and v[ny], the first ghost, that at y = length_y. At a wall v = 0 there
and the ghosts behind it mirror v with its sign changed; at an inflow v is given; at an outflow v is that of the face
before it, to which the projection adds one number, so that what leaves is what enters and what the gas expands by.
The pressure takes no part in it: no face on an edge is moved by a gradient (`close`), which is Neumann's condition.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cfd_coupling.config import BoundaryConfig
from cfd_coupling.fields import Fields, Floats
from cfd_coupling.gas import Gas
from cfd_coupling.grid import GHOSTS, Grid
from cfd_coupling.parallel import Communicator
from chemnet.gas.thermo import species_enthalpies


@dataclass(frozen=True)
class Stream:
    """Gas that flows in at y = 0: v [m/s], T [K], rho [kg/m3], each (nx,), and scalars (K + 1, nx) as in `Fields`."""

    v: Floats
    T: Floats
    rho: Floats
    scalars: Floats


class End(Protocol):
    """Condition at one end in y. `inside`, `ghosts`: rows (..., n, nx + 2 GHOSTS) from the edge in and out."""

    def put_scalars(self, inside: Floats, ghosts: Floats) -> None:
        """Species and enthalpy (K + 1, n, ...)."""

    def put_temperature(self, inside: Floats, ghosts: Floats) -> None: ...

    def put_density(self, inside: Floats, ghosts: Floats) -> None: ...

    def put_along(self, inside: Floats, ghosts: Floats) -> None:
        """The velocity u along the edge."""

    def put_across(self, edge: Floats, inside: Floats, ghosts: Floats) -> None:
        """The velocity v at the faces on the edge, and behind it."""


class Wall:
    """An impermeable wall without slip; adiabatic, or of temperature T [K]."""

    def __init__(self, gas: Gas, T: float | None) -> None:
        self.T, self.h_k = T, np.zeros(gas.n_species)
        if T is not None:
            species_enthalpies(T, gas.nasa, self.h_k)

    def put_scalars(self, inside: Floats, ghosts: Floats) -> None:
        ghosts[...] = inside
        if self.T is not None:
            at_wall = (self.h_k[:, None, None] * inside[:-1]).sum(axis=0)
            ghosts[-1] = 2.0 * at_wall - inside[-1]

    def put_temperature(self, inside: Floats, ghosts: Floats) -> None:
        # Coefficients are means of cell and ghost: those between the wall and the cell then, and T stays positive.
        ghosts[...] = inside if self.T is None else self.T

    def put_density(self, inside: Floats, ghosts: Floats) -> None:
        ghosts[...] = inside

    def put_along(self, inside: Floats, ghosts: Floats) -> None:
        ghosts[...] = -inside

    def put_across(self, edge: Floats, inside: Floats, ghosts: Floats) -> None:
        edge[...] = 0.0
        ghosts[...] = -inside[: len(ghosts)]


class Inflow:
    """Gas of given state and velocity, normal to the edge."""

    def __init__(self, stream: Stream) -> None:
        self.v, self.T, self.rho, self.scalars = (
            np.pad(q, [(0, 0)] * (q.ndim - 1) + [(GHOSTS, GHOSTS)], mode="wrap")
            for q in (stream.v, stream.T, stream.rho, stream.scalars)
        )

    def put_scalars(self, inside: Floats, ghosts: Floats) -> None:
        ghosts[...] = self.scalars[:, None]

    def put_temperature(self, inside: Floats, ghosts: Floats) -> None:
        ghosts[...] = self.T

    def put_density(self, inside: Floats, ghosts: Floats) -> None:
        ghosts[...] = self.rho

    def put_along(self, inside: Floats, ghosts: Floats) -> None:
        ghosts[...] = -inside

    def put_across(self, edge: Floats, inside: Floats, ghosts: Floats) -> None:
        edge[...] = self.v
        ghosts[...] = self.v


class Outflow:
    """Zero gradient of everything."""

    def put_scalars(self, inside: Floats, ghosts: Floats) -> None:
        ghosts[...] = inside[:, :1]

    def put_temperature(self, inside: Floats, ghosts: Floats) -> None:
        ghosts[...] = inside[:1]

    put_density = put_along = put_temperature

    def put_across(self, edge: Floats, inside: Floats, ghosts: Floats) -> None:
        edge[...] = inside[0]
        ghosts[...] = inside[:1]


class Edges:
    """The periodic box, and the verbs of all: each fills ghosts, of `width` layers at least where it takes a width."""

    closed = False  # whether faces on edges in y are out of the reach of pressure
    depth = GHOSTS  # stages of diffusion that one filling of ghosts serves

    def __init__(self, grid: Grid, comm: Communicator) -> None:
        self.grid, self.comm = grid, comm

    def scalars(self, q: Floats, width: int = GHOSTS) -> None:
        """Ghosts of species and enthalpy (K + 1, ...)."""
        self.comm.update(q, width)

    def temperature(self, q: Floats) -> None:
        """Ghosts of T."""
        self.comm.update(q)

    def density(self, q: Floats) -> None:
        """Ghosts of rho."""
        self.comm.update(q)

    def velocity(self, q: Floats, keep: bool = False) -> None:
        """Ghosts of the velocity (2, ...), and the faces on the edges; keep: those of an outflow stay as they are."""
        self.comm.update(q)

    def fill(self, fields: Fields) -> None:
        """Ghosts of a whole state."""
        self.scalars(fields.scalars)
        self.temperature(fields.T)
        self.density(fields.rho)
        self.velocity(fields.velocity)
        self.comm.update(fields.p)

    def close(self, coefficients: Floats) -> None:
        """Take pressure off the faces on the edges; coefficients (2, ...) of gradients at west and south faces."""

    def balance(self, velocity: Floats, target: Floats) -> None:
        """Let the outflow take, beside what it takes, one velocity more, so that the box has the divergence `target`.

        velocity (2, ...), target (ny_local, nx) [1/s]. Without an outflow the mean of the target must vanish.
        """

    def through(self, flux: Floats) -> tuple[float, float]:
        """Mass [kg/s/m] that enters at y = 0 and leaves at the other edge, of mass fluxes (2, ...) at the faces."""
        return 0.0, 0.0


class Ends(Edges):
    """A box with a condition at each end in y."""

    closed = True
    depth = 1

    def __init__(self, grid: Grid, comm: Communicator, bottom: End, top: End) -> None:
        super().__init__(grid, comm)
        self.bottom = bottom if grid.j_start == 0 else None
        self.top = top if grid.j_stop == grid.ny else None

    def scalars(self, q: Floats, width: int = GHOSTS) -> None:
        super().scalars(q, width)
        for end, inside, ghosts in self._ends(q):
            end.put_scalars(inside, ghosts)

    def temperature(self, q: Floats) -> None:
        super().temperature(q)
        for end, inside, ghosts in self._ends(q):
            end.put_temperature(inside, ghosts)

    def density(self, q: Floats) -> None:
        super().density(q)
        for end, inside, ghosts in self._ends(q):
            end.put_density(inside, ghosts)

    def velocity(self, q: Floats, keep: bool = False) -> None:
        super().velocity(q, keep)
        u, v = q
        for end, inside, ghosts in self._ends(u):
            end.put_along(inside, ghosts)
        if self.bottom is not None:
            self.bottom.put_across(v[GHOSTS], v[GHOSTS + 1 : 2 * GHOSTS + 1], v[GHOSTS - 1 :: -1])
        if self.top is not None:
            self.top.put_across(v[-GHOSTS], v[-GHOSTS - 1 : -2 * GHOSTS - 1 : -1], v[1 - GHOSTS :])

    def _ends(self, q: Floats) -> list[tuple[End, Floats, Floats]]:
        """The conditions at the ends of this rank, with the rows of q before and behind them, from the edge on."""
        found: list[tuple[End, Floats, Floats]] = []
        if self.bottom is not None:
            found.append((self.bottom, q[..., GHOSTS : 2 * GHOSTS, :], q[..., GHOSTS - 1 :: -1, :]))
        if self.top is not None:
            found.append((self.top, q[..., -GHOSTS - 1 : -2 * GHOSTS - 1 : -1, :], q[..., -GHOSTS:, :]))
        return found

    def close(self, coefficients: Floats) -> None:
        for end, row in ((self.bottom, GHOSTS), (self.top, -GHOSTS)):
            if end is not None:
                coefficients[1, row] = 0.0

    def through(self, flux: Floats) -> tuple[float, float]:
        rows = ((self.bottom, GHOSTS), (self.top, -GHOSTS))
        entering, leaving = (
            0.0 if end is None else float(flux[1, row, GHOSTS:-GHOSTS].sum()) * self.grid.dx for end, row in rows
        )
        return self.comm.sum(entering), self.comm.sum(leaving)


class Throughflow(Ends):
    """A box with an inflow at y = 0 and an outflow at the other end."""

    def __init__(self, grid: Grid, comm: Communicator, stream: Stream) -> None:
        super().__init__(grid, comm, Inflow(stream), Outflow())

    def velocity(self, q: Floats, keep: bool = False) -> None:
        edge = q[1, -GHOSTS].copy()
        super().velocity(q, keep)
        if keep and self.top is not None:
            q[1, -GHOSTS:] = edge

    def balance(self, velocity: Floats, target: Floats) -> None:
        expanding = float(self.comm.sum_rows(target.sum(axis=1), self.grid.ny)) * self.grid.dy
        entering, leaving = self.through(velocity)
        if self.top is not None:
            velocity[1, -GHOSTS] += expanding / self.grid.nx + (entering - leaving) / self.grid.length_x


def build(config: BoundaryConfig, grid: Grid, comm: Communicator, gas: Gas, stream: Stream | None) -> Edges:
    """The boundaries that a case asks for; `stream` is the gas of its inflow."""
    if stream is not None:
        return Throughflow(grid, comm, stream)
    if config.y == "walls":
        low, high = config.wall_temperatures
        return Ends(grid, comm, Wall(gas, low), Wall(gas, high))
    return Edges(grid, comm)
