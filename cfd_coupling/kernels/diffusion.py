"""Diffusion of species and enthalpy: face fluxes and one Runge-Kutta-Legendre stage.

Mass flux of species k from cell a to its neighbour b, coefficients at the face as means of both cells:

    a |-> b     j*_k = -rho D_k (grad Y_k + Y_k grad(ln W)),    j_k = j*_k - Y_k sum_k j*_k

so that sum_k j_k = 0 (Coffee and Heimerl 1981); the first bracket is W_k/W grad X_k. Enthalpy flux: with
dh = sum_k Y_k dh_k + h_k dY_k conduction is written on h, and no temperature is needed within the stages:

    q = -lambda grad T + sum_k h_k j_k = -(lambda/cp) grad h + sum_k h_k ((lambda/cp) grad Y_k + j_k)
"""

from __future__ import annotations

import numpy as np

from chemnet.gas.thermo import row_njit


@row_njit
def _moles(y, weights, j, a, n, out):
    """out = sum_k Y_k / W_k = 1 / W [kmol/kg] of the cells [a, a + n) of row j."""
    out[:n] = 0.0
    for k in range(weights.shape[0]):
        row, inverse = y[k, j, a : a + n], 1.0 / weights[k]
        for i in range(n):
            out[i] += row[i] * inverse


@row_njit
def _face_fluxes(y, rho_D, lam_cp, h_k, moles_a, moles_b, ja, ia, jb, ib, n, flux, total, work):
    """Fluxes times spacing from the cells (ja, ia + i) to (jb, ib + i), i < n.

    Into `flux` (K + 1, >= n): j*_k, and last the whole enthalpy flux; into `total` (>= n): sum_k j*_k, which is for
    the caller to take off, Y_k at a time. moles: 1 / W in the cells of both sides.
    """
    n_species = h_k.shape[0]
    grad_W, from_species, mean_h, conduction = work[0, :n], work[1, :n], work[2, :n], work[3, :n]
    ratio_a, ratio_b = lam_cp[ja, ia : ia + n], lam_cp[jb, ib : ib + n]
    for i in range(n):
        grad_W[i] = 2.0 * (moles_a[i] - moles_b[i]) / (moles_a[i] + moles_b[i])
        conduction[i] = 0.5 * (ratio_a[i] + ratio_b[i])
        from_species[i] = 0.0
        mean_h[i] = 0.0
        total[i] = 0.0
    for k in range(n_species):
        a, b = y[k, ja, ia : ia + n], y[k, jb, ib : ib + n]
        D_a, D_b = rho_D[k, ja, ia : ia + n], rho_D[k, jb, ib : ib + n]
        h_a, h_b, out = h_k[k, ja, ia : ia + n], h_k[k, jb, ib : ib + n], flux[k, :n]
        for i in range(n):
            mean, difference, h = 0.5 * (a[i] + b[i]), b[i] - a[i], 0.5 * (h_a[i] + h_b[i])
            j_k = -0.5 * (D_a[i] + D_b[i]) * (difference + mean * grad_W[i])
            out[i] = j_k
            total[i] += j_k
            from_species[i] += h * (conduction[i] * difference + j_k)
            mean_h[i] += h * mean
    a, b, out = y[n_species, ja, ia : ia + n], y[n_species, jb, ib : ib + n], flux[n_species, :n]
    for i in range(n):
        out[i] = from_species[i] - conduction[i] * (b[i] - a[i]) - total[i] * mean_h[i]


@row_njit
def _divergence_row(y, k, j, a, n, x_faces, x_total, south, s_total, north, n_total, dx, dy, out):
    """out = -div of the flux of field k in the cells [a, a + n) of row j; species with their correction velocity."""
    west, east, below, above = x_faces[k, :n], x_faces[k, 1 : n + 1], south[k, :n], north[k, :n]
    if k == y.shape[0] - 1:
        for i in range(n):
            out[i] = (west[i] - east[i]) / (dx * dx) + (below[i] - above[i]) / (dy * dy)
        return
    here, y_west, y_east = y[k, j, a : a + n], y[k, j, a - 1 : a - 1 + n], y[k, j, a + 1 : a + 1 + n]
    y_south, y_north, t_west, t_east = y[k, j - 1, a : a + n], y[k, j + 1, a : a + n], x_total[:n], x_total[1 : n + 1]
    for i in range(n):
        along_x = west[i] - east[i] - 0.5 * (y_west[i] + here[i]) * t_west[i] + 0.5 * (here[i] + y_east[i]) * t_east[i]
        along_y = (
            below[i] - above[i] - 0.5 * (y_south[i] + here[i]) * s_total[i] + 0.5 * (here[i] + y_north[i]) * n_total[i]
        )
        out[i] = along_x / (dx * dx) + along_y / (dy * dy)


@row_njit
def diffusion_stage(blocks, y, old, y0, rate0, rho, rho_D, lam_cp, h_k, weights, dx, dy, dt, coefficients, first):
    """One stage of RKL2 for species and enthalpy (K + 1, ...) at fixed rho; the result replaces `old`.

    First stage: rate0 = dt L(y), old = y + mu~ rate0. Later: old = mu y + nu old + (1 - mu - nu) y0
    + mu~ dt L(y) + gamma~ rate0, with coefficients = (mu, nu, mu~, gamma~).

            north
        west [ ] east      L = -(div flux) / rho
            south
    """
    n_fields, width = y.shape[0], y.shape[2]
    mu, nu, mu_rate, gamma = coefficients
    y_faces, y_total = np.empty((2, n_fields, width)), np.empty((2, width))
    x_faces, x_total, moles = np.empty((n_fields, width)), np.empty(width), np.empty((2, width))
    work, scale, change = np.empty((4, width)), np.empty(width), np.empty(width)
    for block in range(blocks.shape[0]):
        j_start, j_stop, a = blocks[block, 0], blocks[block, 1], blocks[block, 2]
        n = blocks[block, 3] - a
        for side in range(2):
            _moles(y, weights, j_start - 1 + side, a - 1, n + 2, moles[1 - side])
        _face_fluxes(
            y, rho_D, lam_cp, h_k, moles[1, 1:], moles[0, 1:],
            j_start - 1, a, j_start, a, n, y_faces[0], y_total[0], work,
        )  # fmt: skip
        for j in range(j_start, j_stop):
            now = (j - j_start) % 2
            here, ahead = moles[now], moles[1 - now]
            _moles(y, weights, j + 1, a - 1, n + 2, ahead)
            _face_fluxes(
                y, rho_D, lam_cp, h_k, here[1:], ahead[1:], j, a, j + 1, a, n, y_faces[1 - now], y_total[1 - now], work
            )
            _face_fluxes(y, rho_D, lam_cp, h_k, here, here[1:], j, a - 1, j, a, n + 1, x_faces, x_total, work)
            density = rho[j, a : a + n]
            for i in range(n):
                scale[i] = dt / density[i]
            for k in range(n_fields):
                _divergence_row(
                    y, k, j, a, n, x_faces, x_total,
                    y_faces[now], y_total[now], y_faces[1 - now], y_total[1 - now], dx, dy, change,
                )  # fmt: skip
                value, out = y[k, j, a : a + n], old[k, j, a : a + n]
                start, rate = y0[k, j, a : a + n], rate0[k, j, a : a + n]
                if first:
                    for i in range(n):
                        rate[i] = scale[i] * change[i]
                        out[i] = value[i] + mu_rate * rate[i]
                else:
                    for i in range(n):
                        out[i] = start[i] + (
                            mu * (value[i] - start[i])
                            + nu * (out[i] - start[i])
                            + mu_rate * scale[i] * change[i]
                            + gamma * rate[i]
                        )
