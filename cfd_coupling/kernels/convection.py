"""Convection: WENO5 for species and enthalpy with given mass fluxes, and a skew-symmetric form for momentum."""

from __future__ import annotations

import numpy as np

from chemnet.gas.thermo import row_njit

_SMALLEST = 1e-36  # keeps the weights finite in a uniform field


@row_njit
def mass_flux(velocity, rho, flux):
    """Mass flux [kg/m2/s] through west and south faces into `flux` (2, ...), density as the mean of both cells."""
    rows, n = rho.shape
    for j in range(1, rows):
        u, v, fx, fy = velocity[0, j, 1:], velocity[1, j, 1:], flux[0, j, 1:], flux[1, j, 1:]
        here, west, south = rho[j, 1:], rho[j, : n - 1], rho[j - 1, 1:]
        for i in range(n - 1):
            fx[i] = 0.5 * (west[i] + here[i]) * u[i]
            fy[i] = 0.5 * (south[i] + here[i]) * v[i]


@row_njit
def carry_density(rho, flux, sink, dx, dy, dt, out):
    """out = rho - dt (div flux + rho sink) in the interior; sink [1/s] takes gas away at its local composition."""
    for j in range(3, rho.shape[0] - 3):
        n = rho.shape[1] - 6
        here, taken, new = rho[j, 3 : 3 + n], sink[j, 3 : 3 + n], out[j, 3 : 3 + n]
        west, east = flux[0, j, 3 : 3 + n], flux[0, j, 4 : 4 + n]
        south, north = flux[1, j, 3 : 3 + n], flux[1, j + 1, 3 : 3 + n]
        for i in range(n):
            out_flow = (east[i] - west[i]) / dx + (north[i] - south[i]) / dy
            new[i] = here[i] - dt * (out_flow + here[i] * taken[i])


@row_njit
def _weno(a, b, c, d, e, f, flux, floor, face, total):
    """Upwind WENO5-Z face values between c and d (Borges et al. 2008), written as the upwind cell plus a correction.

        a   b   c | d   e   f        flux > 0: from c, stencil a..e;  else from d, stencil f..b

    In a uniform field the correction is exactly zero. `total` gathers the corrections. A face value does not fall
    below `floor` unless the upwind cell does.
    """
    for i in range(flux.shape[0]):
        q0, q1, q2, q3, q4, q5 = a[i], b[i], c[i], d[i], e[i], f[i]  # loads first: selecting values is SIMD code
        rightward = flux[i] > 0.0
        centre = q2 if rightward else q3
        d1 = q1 - q0 if rightward else q4 - q5
        d2 = q2 - q1 if rightward else q3 - q4
        d3 = q3 - q2 if rightward else q2 - q3
        d4 = q4 - q3 if rightward else q1 - q2
        left = 13.0 / 12.0 * (d2 - d1) ** 2 + 0.25 * (3.0 * d2 - d1) ** 2 + _SMALLEST
        middle = 13.0 / 12.0 * (d3 - d2) ** 2 + 0.25 * (d3 + d2) ** 2 + _SMALLEST
        right = 13.0 / 12.0 * (d4 - d3) ** 2 + 0.25 * (3.0 * d3 - d4) ** 2 + _SMALLEST
        spread = (left - right) ** 2
        left2, middle2, right2 = left * left, middle * middle, right * right
        w0 = 0.1 * (left2 + spread) * middle2 * right2
        w1 = 0.6 * (middle2 + spread) * left2 * right2
        w2 = 0.3 * (right2 + spread) * left2 * middle2
        correction = (w0 * (5.0 * d2 - 2.0 * d1) + w1 * (2.0 * d3 + d2) + w2 * (4.0 * d3 - d4)) / (6.0 * (w0 + w1 + w2))
        value = max(centre + correction, min(centre, floor))
        face[i] = value
        total[i] += value - centre


@row_njit
def _face_values(y, j, a, step_j, step_i, flux, faces, total):
    """Values of all fields (K + 1, n) at the faces behind the cells (j, a + i); species divided by their sum.

    step (0, 1): west faces, (1, 0): south faces. The sum is taken as 1 plus the sum of the corrections, so a uniform
    mixture stays as it is to the last bit.
    """
    n, n_fields = flux.shape[0], y.shape[0]
    total[:n] = 0.0
    for k in range(n_fields):
        if k == n_fields - 1:
            for i in range(n):
                total[i] = 1.0 / (1.0 + total[i])
            for s in range(n_fields - 1):
                face = faces[s, :n]
                for i in range(n):
                    face[i] *= total[i]
        floor = 0.0 if k < n_fields - 1 else -np.inf
        _weno(
            y[k, j - 3 * step_j, a - 3 * step_i : a - 3 * step_i + n],
            y[k, j - 2 * step_j, a - 2 * step_i : a - 2 * step_i + n],
            y[k, j - step_j, a - step_i : a - step_i + n],
            y[k, j, a : a + n],
            y[k, j + step_j, a + step_i : a + step_i + n],
            y[k, j + 2 * step_j, a + 2 * step_i : a + 2 * step_i + n],
            flux,
            floor,
            faces[k, :n],
            total[:n],
        )


@row_njit
def convection_stage(blocks, y, y0, flux, rho0, rho1, dx, dy, dt, weight, out):
    """One stage of SSP-RK2 for species and enthalpy (K + 1, ...): out = y + weight (rho0 (y0 - y) - dt S) / rho1.

    S = sum over faces of outward flux times (face value - y), rho0 and rho1 the density before and after the step:
    weight 1 from y = y0, then weight 1/2, is SSP-RK2 for rho y with the density that the same fluxes carry. In this
    form what is uniform stays uniform to the last bit. `out` may be y0.
    """
    n_fields, width = y.shape[0], y.shape[2]
    y_faces, x_faces, total = np.empty((2, n_fields, width)), np.empty((n_fields, width)), np.empty(width)
    for block in range(blocks.shape[0]):
        j_start, j_stop, a = blocks[block, 0], blocks[block, 1], blocks[block, 2]
        n = blocks[block, 3] - a
        _face_values(y, j_start, a, 1, 0, flux[1, j_start, a : a + n], y_faces[0], total)
        for j in range(j_start, j_stop):
            parity = (j - j_start) % 2
            _face_values(y, j + 1, a, 1, 0, flux[1, j + 1, a : a + n], y_faces[1 - parity], total)
            _face_values(y, j, a, 0, 1, flux[0, j, a : a + n + 1], x_faces, total)
            before, after = rho0[j, a : a + n], rho1[j, a : a + n]
            m_west, m_east = flux[0, j, a : a + n], flux[0, j, a + 1 : a + n + 1]
            m_south, m_north = flux[1, j, a : a + n], flux[1, j + 1, a : a + n]
            for k in range(n_fields):
                west, east = x_faces[k, :n], x_faces[k, 1 : n + 1]
                south, north = y_faces[parity, k, :n], y_faces[1 - parity, k, :n]
                value, start, new = y[k, j, a : a + n], y0[k, j, a : a + n], out[k, j, a : a + n]
                for i in range(n):
                    q = value[i]
                    leaving = (m_east[i] * (east[i] - q) - m_west[i] * (west[i] - q)) / dx + (
                        m_north[i] * (north[i] - q) - m_south[i] * (south[i] - q)
                    ) / dy
                    new[i] = q + weight * (before[i] * (start[i] - q) - dt * leaving) / after[i]


@row_njit
def momentum_stage(start, velocity, flux, rho, p, dx, dy, dt, out):
    """out = start + dt (-(m . grad) velocity - grad p) / rho for both components (2, ...), in the interior.

    Convection as the mean over opposite faces of mass flux times velocity difference: with d(rho)/dt = -div m this
    is the skew-symmetric form, which keeps kinetic energy and leaves a uniform velocity alone.

              N                  u at the west face; its control volume reaches from
          W - u - E              cell centre to cell centre, m at its sides is a mean of
              S                  two neighbouring faces; v likewise
    """
    rows, columns = rho.shape
    n = columns - 6
    for j in range(3, rows - 3):
        for axis in range(2):
            west_j, west_i = (j, 2) if axis == 0 else (j - 1, 3)  # the cell on the other side of the face
            spacing = dx if axis == 0 else dy
            q = velocity[axis]
            here, west, east, south, north = q[j, 3:], q[j, 2:], q[j, 4:], q[j - 1, 3:], q[j + 1, 3:]
            fx, fx_other = flux[0, j, 3:], flux[0, west_j, west_i:]
            fx_east, fx_east_other = flux[0, j, 4:], flux[0, west_j, west_i + 1 :]
            fy, fy_other = flux[1, j, 3:], flux[1, west_j, west_i:]
            fy_north, fy_north_other = flux[1, j + 1, 3:], flux[1, west_j + 1, west_i:]
            rho_here, rho_other, p_here, p_other = rho[j, 3:], rho[west_j, west_i:], p[j, 3:], p[west_j, west_i:]
            base, new = start[axis, j, 3:], out[axis, j, 3:]
            for i in range(n):
                along_x = (fx_east[i] + fx_east_other[i]) * (east[i] - here[i]) + (fx[i] + fx_other[i]) * (
                    here[i] - west[i]
                )
                along_y = (fy_north[i] + fy_north_other[i]) * (north[i] - here[i]) + (fy[i] + fy_other[i]) * (
                    here[i] - south[i]
                )
                force = 0.25 * (along_x / dx + along_y / dy) + (p_here[i] - p_other[i]) / spacing
                new[i] = base[i] - 2.0 * dt * force / (rho_here[i] + rho_other[i])


@row_njit
def largest_cfl(velocity, dx, dy, dt):
    """Largest dt (|u|/dx + |v|/dy) over the interior faces, and its cell (j, i), ghosts counted.

    A velocity that is not a number is returned at once.
    """
    largest, row, column = 0.0, 3, 3
    for j in range(3, velocity.shape[1] - 3):
        for i in range(3, velocity.shape[2] - 3):
            cfl = dt * (abs(velocity[0, j, i]) / dx + abs(velocity[1, j, i]) / dy)
            if cfl > largest:
                largest, row, column = cfl, j, i
            elif cfl != cfl:
                return cfl, j, i
    return largest, row, column
