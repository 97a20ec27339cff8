"""Loops of the pressure equation and its conjugate gradients; row sums leave, so that ranks add up in one order."""

from __future__ import annotations

from chemnet.gas.thermo import row_njit


@row_njit
def face_coefficients(rho, out):
    """1 / rho at the west and south faces into `out` (2, ...), density as the mean of both cells."""
    n = rho.shape[1]
    for j in range(1, rho.shape[0]):
        here, west, south = rho[j, 1:], rho[j, : n - 1], rho[j - 1, 1:]
        x, y = out[0, j, 1:], out[1, j, 1:]
        for i in range(n - 1):
            x[i] = 2.0 / (west[i] + here[i])
            y[i] = 2.0 / (south[i] + here[i])


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
def minus_laplacian(d, inverse_rho, dx, dy, out, sums):
    """out = -div(grad(d) / rho) in the interior (rows, columns without ghosts); sums[j]: row sums of d out."""
    n = out.shape[1]
    for j in range(out.shape[0]):
        here, west, east = d[j + 3, 3 : 3 + n], d[j + 3, 2 : 2 + n], d[j + 3, 4 : 4 + n]
        south, north = d[j + 2, 3 : 3 + n], d[j + 4, 3 : 3 + n]
        x, x_east = inverse_rho[0, j + 3, 3 : 3 + n], inverse_rho[0, j + 3, 4 : 4 + n]
        y, y_north = inverse_rho[1, j + 3, 3 : 3 + n], inverse_rho[1, j + 4, 3 : 3 + n]
        row, total = out[j], 0.0
        for i in range(n):
            along_x = x[i] * (here[i] - west[i]) - x_east[i] * (east[i] - here[i])
            along_y = y[i] * (here[i] - south[i]) - y_north[i] * (north[i] - here[i])
            row[i] = along_x / (dx * dx) + along_y / (dy * dy)
            total += here[i] * row[i]
        sums[j] = total


@row_njit
def descend(alpha, d, applied, phi, residual, root_rho, scaled):
    """phi += alpha d, residual -= alpha applied, scaled = sqrt(rho) residual; returns the largest |residual|."""
    n, largest = residual.shape[1], 0.0
    for j in range(residual.shape[0]):
        direction, solution = d[j + 3, 3 : 3 + n], phi[j + 3, 3 : 3 + n]
        r, q, root, out = residual[j], applied[j], root_rho[j], scaled[j]
        for i in range(n):
            solution[i] += alpha * direction[i]
            r[i] -= alpha * q[i]
            out[i] = root[i] * r[i]
        for i in range(n):
            largest = max(largest, abs(r[i]))
    return largest


@row_njit
def precondition(solved, root_rho, residual, out, sums):
    """out = sqrt(rho) solved; sums[j]: row sums of out residual."""
    for j in range(out.shape[0]):
        z, root, raw, r, total = out[j], root_rho[j], solved[j], residual[j], 0.0
        for i in range(out.shape[1]):
            z[i] = root[i] * raw[i]
            total += z[i] * r[i]
        sums[j] = total


@row_njit
def turn(d, z, beta):
    """d = z + beta d in the interior."""
    n = z.shape[1]
    for j in range(z.shape[0]):
        direction, new = d[j + 3, 3 : 3 + n], z[j]
        for i in range(n):
            direction[i] = new[i] + beta * direction[i]
