"""Loops of the pressure equation and its conjugate gradients; row sums leave, so that ranks add up in one order."""

from __future__ import annotations

import numpy as np

from chemnet.gas.thermo import row_njit


@row_njit
def face_coefficients(rho, density, inverse):
    """Density at the west and south faces, the mean of both cells, and its inverse, (2, ...) each."""
    n = rho.shape[1]
    for j in range(1, rho.shape[0]):
        here, west, south = rho[j, 1:], rho[j, : n - 1], rho[j - 1, 1:]
        for side in range(2):
            other, mean, one_over = west if side == 0 else south, density[side, j, 1:], inverse[side, j, 1:]
            for i in range(n - 1):
                mean[i] = 0.5 * (other[i] + here[i])
                one_over[i] = 1.0 / mean[i]


@row_njit
def divergence(velocity, dx, dy, out):
    """div u [1/s] of the interior cells into `out` (rows, columns without ghosts)."""
    n = out.shape[1]
    for j in range(out.shape[0]):
        west, east = velocity[0, j + 3, 3 : 3 + n], velocity[0, j + 3, 4 : 4 + n]
        south, north = velocity[1, j + 3, 3 : 3 + n], velocity[1, j + 4, 3 : 3 + n]
        for i in range(n):
            out[j, i] = (east[i] - west[i]) / dx + (north[i] - south[i]) / dy


@row_njit
def correct_velocity(velocity, phi, inverse_rho, dx, dy, dt):
    """velocity -= dt grad(phi) / rho at the interior faces."""
    n = phi.shape[1] - 6
    for j in range(3, phi.shape[0] - 3):
        u, v = velocity[0, j, 3 : 3 + n], velocity[1, j, 3 : 3 + n]
        x, y = inverse_rho[0, j, 3 : 3 + n], inverse_rho[1, j, 3 : 3 + n]
        here, west, south = phi[j, 3 : 3 + n], phi[j, 2 : 2 + n], phi[j - 1, 3 : 3 + n]
        for i in range(n):
            u[i] -= dt * x[i] * (here[i] - west[i]) / dx
            v[i] -= dt * y[i] * (here[i] - south[i]) / dy


@row_njit
def minus_laplacian(d, coefficients, dx, dy, out, sums):
    """out = -div(c grad d), c at the faces (2, ...), in the interior (rows, columns without ghosts).

    sums[j]: row sums of d out.
    """
    n = out.shape[1]
    for j in range(out.shape[0]):
        here, west, east = d[j + 3, 3 : 3 + n], d[j + 3, 2 : 2 + n], d[j + 3, 4 : 4 + n]
        south, north = d[j + 2, 3 : 3 + n], d[j + 4, 3 : 3 + n]
        x, x_east = coefficients[0, j + 3, 3 : 3 + n], coefficients[0, j + 3, 4 : 4 + n]
        y, y_north = coefficients[1, j + 3, 3 : 3 + n], coefficients[1, j + 4, 3 : 3 + n]
        row, total = out[j], 0.0
        for i in range(n):
            along_x = x[i] * (here[i] - west[i]) - x_east[i] * (east[i] - here[i])
            along_y = y[i] * (here[i] - south[i]) - y_north[i] * (north[i] - here[i])
            row[i] = along_x / (dx * dx) + along_y / (dy * dy)
            total += here[i] * row[i]
        sums[j] = total


@row_njit
def descend(alpha, d, applied, phi, residual, single):
    """phi += alpha d, residual -= alpha applied, `single` the same in float32; returns the largest |residual|."""
    n, largest = residual.shape[1], 0.0
    above = np.zeros(n)
    for j in range(residual.shape[0]):
        direction, solution = d[j + 3, 3 : 3 + n], phi[j + 3, 3 : 3 + n]
        r, q, copy = residual[j], applied[j], single[j]
        for i in range(n):
            solution[i] += alpha * direction[i]
            left = r[i] - alpha * q[i]
            r[i] = left
            copy[i] = left
            above[i] = max(above[i], abs(left))
    for i in range(n):
        largest = max(largest, above[i])
    return largest


@row_njit
def row_products(a, b, sums):
    """sums[j]: row sums of a b."""
    for j in range(a.shape[0]):
        x, y, total = a[j], b[j], 0.0
        for i in range(a.shape[1]):
            total += x[i] * y[i]
        sums[j] = total


@row_njit
def turn(d, z, beta):
    """d = z + beta d in the interior."""
    n = z.shape[1]
    for j in range(z.shape[0]):
        direction, new = d[j + 3, 3 : 3 + n], z[j]
        for i in range(n):
            direction[i] = new[i] + beta * direction[i]
