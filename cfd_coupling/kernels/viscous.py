"""Viscous stress on the staggered grid, and one Runge-Kutta-Legendre stage of the momentum equation with it."""

from __future__ import annotations

from chemnet.gas.thermo import row_njit


@row_njit
def stress(velocity, mu, dx, dy, xx, yy, xy):
    """tau = mu (grad u + grad u^T - 2/3 div u): xx and yy [Pa] at cell centres, xy at the south-west corner.

       +-----------+
       |  xx, yy   |       du/dy + dv/dx at a corner takes the u above and below it
       |           |       and the v left and right of it
    xy +-----------+
    """
    rows, columns = mu.shape
    n = columns - 2
    for j in range(1, rows - 1):
        u, u_east, u_south = velocity[0, j, 1:], velocity[0, j, 2:], velocity[0, j - 1, 1:]
        v, v_north, v_west = velocity[1, j, 1:], velocity[1, j + 1, 1:], velocity[1, j, :]
        m, m_west, m_south, m_corner = mu[j, 1:], mu[j, :], mu[j - 1, 1:], mu[j - 1, :]
        out_xx, out_yy, out_xy = xx[j, 1:], yy[j, 1:], xy[j, 1:]
        for i in range(n):
            along_x, along_y = (u_east[i] - u[i]) / dx, (v_north[i] - v[i]) / dy
            third = (along_x + along_y) / 3.0
            out_xx[i] = 2.0 * m[i] * (along_x - third)
            out_yy[i] = 2.0 * m[i] * (along_y - third)
            out_xy[i] = (
                0.25
                * (m[i] + m_west[i] + m_south[i] + m_corner[i])
                * ((u[i] - u_south[i]) / dy + (v[i] - v_west[i]) / dx)
            )


@row_njit
def viscous_stage(xx, yy, xy, rho, velocity, old, start, rate0, dx, dy, dt, coefficients, first):
    """One stage of RKL2 for both velocity components (2, ...); the result replaces `old` (see `diffusion_stage`)."""
    mu, nu, mu_rate, gamma = coefficients
    rows, columns = rho.shape
    n = columns - 6
    for j in range(3, rows - 3):
        for axis in range(2):
            normal, behind = (xx[j, 3:], xx[j, 2:]) if axis == 0 else (yy[j, 3:], yy[j - 1, 3:])
            shear, shear_next = (xy[j, 3:], xy[j + 1, 3:]) if axis == 0 else (xy[j, 3:], xy[j, 4:])
            across, along = (dx, dy) if axis == 0 else (dy, dx)
            rho_here, rho_other = rho[j, 3:], (rho[j, 2:] if axis == 0 else rho[j - 1, 3:])
            value, out, base, rate = velocity[axis, j, 3:], old[axis, j, 3:], start[axis, j, 3:], rate0[axis, j, 3:]
            for i in range(n):
                force = (normal[i] - behind[i]) / across + (shear_next[i] - shear[i]) / along
                gain = 2.0 * dt * force / (rho_here[i] + rho_other[i])
                if first:
                    rate[i] = gain
                    out[i] = value[i] + mu_rate * gain
                else:
                    out[i] = base[i] + (
                        mu * (value[i] - base[i]) + nu * (out[i] - base[i]) + mu_rate * gain + gamma * rate[i]
                    )
