"""The named arrays of the flow state."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cfd_coupling.grid import GHOSTS, Grid
from chemnet.runtime.simd import W

Floats = NDArray[np.float64]


def interior(q: Floats) -> Floats:
    """View of the cells of this rank without ghosts; q (..., ny_local + 2 GHOSTS, nx + 2 GHOSTS)."""
    return q[..., GHOSTS:-GHOSTS, GHOSTS:-GHOSTS]


def padded_zeros(*shape: int) -> Floats:
    """Zeros with room for one vector behind their end, which vector code may read."""
    size = math.prod(shape)
    return np.zeros(size + W)[:size].reshape(shape)


@dataclass
class Fields:
    """The state of the flow on one rank; arrays (ny_local + 2 GHOSTS, nx + 2 GHOSTS) with ghost cells, SI.

    scalars (K + 1, ...): mass fractions, then specific enthalpy with formation [J/kg]: what moves and diffuses.
    velocity (2, ...): u[j, i] at the west face and v[j, i] at the south face of cell (j, i) [m/s].
    rho: density carried by the mass flux [kg/m3]; T [K]; p: dynamic pressure [Pa]; p0: thermodynamic pressure [Pa];
    time [s]; step: steps done.

                 v[j+1,i]
              +-----------+
              |  rho, T   |
       u[j,i] |  Y, h, p  | u[j,i+1]
              +-----------+
                 v[j,i]
    """

    scalars: Floats
    velocity: Floats
    rho: Floats
    T: Floats
    p: Floats
    p0: float
    time: float = 0.0
    step: int = 0

    @classmethod
    def empty(cls, grid: Grid, n_species: int, p0: float) -> Fields:
        """A state of zeros at rest for n_species species and the pressure p0 [Pa]."""
        plane = grid.shape
        return cls(
            scalars=padded_zeros(n_species + 1, *plane),
            velocity=np.zeros((2, *plane)),
            rho=padded_zeros(*plane),
            T=np.zeros(plane),
            p=np.zeros(plane),
            p0=p0,
        )

    @property
    def Y(self) -> Floats:
        """Mass fractions, a view (K, ...)."""
        return self.scalars[:-1]

    @property
    def h(self) -> Floats:
        """Specific enthalpy with formation [J/kg], a view."""
        return self.scalars[-1]

    @property
    def u(self) -> Floats:
        """Velocity at the west faces [m/s], a view."""
        return self.velocity[0]

    @property
    def v(self) -> Floats:
        """Velocity at the south faces [m/s], a view."""
        return self.velocity[1]
