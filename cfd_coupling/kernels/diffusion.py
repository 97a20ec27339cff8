"""Diffusion of species and enthalpy: face fluxes and one Runge-Kutta-Legendre stage.

Mass flux of species k from cell a to its neighbour b, coefficients at the face as means of both cells:

    a |-> b     j*_k = -rho D_k (grad Y_k + Y_k grad(ln W)),    j_k = j*_k - Y_k sum_k j*_k

so that sum_k j_k = 0 (Coffee and Heimerl 1981); the first bracket is W_k/W grad X_k. Enthalpy flux: with
dh = sum_k Y_k dh_k + h_k dY_k conduction is written on h, and no temperature is needed within the stages:

    q = -lambda grad T + sum_k h_k j_k = -(lambda/cp) grad h + sum_k h_k ((lambda/cp) grad Y_k + j_k)
"""

from __future__ import annotations

import numpy as np

from chemnet.thermo import row_njit


@row_njit
def _face_fluxes(y, rho_D, lam_cp, h_k, weights, ja, ia, jb, ib, n, flux, work):
    """Fluxes times spacing from the cells (ja, ia + i) to (jb, ib + i), i < n, into `flux` (K + 1, >= n)."""
    n_species = weights.shape[0]
    grad_W, total, from_species, mean_h, conduction = work[0, :n], work[1, :n], work[2, :n], work[3, :n], work[4, :n]
    work[:4, :n] = 0.0
    for k in range(n_species):
        a, b, inverse = y[k, ja, ia : ia + n], y[k, jb, ib : ib + n], 1.0 / weights[k]
        for i in range(n):
            grad_W[i] += (a[i] - b[i]) * inverse
            total[i] += (a[i] + b[i]) * inverse
    ratio_a, ratio_b = lam_cp[ja, ia : ia + n], lam_cp[jb, ib : ib + n]
    for i in range(n):
        grad_W[i] = 2.0 * grad_W[i] / total[i]
        total[i] = 0.0
        conduction[i] = 0.5 * (ratio_a[i] + ratio_b[i])
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
    for k in range(n_species):
        a, b, out = y[k, ja, ia : ia + n], y[k, jb, ib : ib + n], flux[k, :n]
        for i in range(n):
            out[i] -= 0.5 * (a[i] + b[i]) * total[i]
    a, b, out = y[n_species, ja, ia : ia + n], y[n_species, jb, ib : ib + n], flux[n_species, :n]
    for i in range(n):
        out[i] = from_species[i] - conduction[i] * (b[i] - a[i]) - total[i] * mean_h[i]


@row_njit
def diffusion_stage(blocks, y, old, y0, rate0, rho, rho_D, lam_cp, h_k, weights, dx, dy, dt, coefficients, first):
    """One stage of RKL2 for species and enthalpy (K + 1, ...) at fixed rho; the result replaces `old`.

    First stage: rate0 = L(y), old = y + mu~ dt rate0. Later: old = mu y + nu old + (1 - mu - nu) y0
    + dt (mu~ L(y) + gamma~ rate0), with coefficients = (mu, nu, mu~, gamma~).

            north
        west [ ] east      L = -(div flux) / rho
            south
    """
    n_fields, width = y.shape[0], y.shape[2]
    mu, nu, mu_rate, gamma = coefficients
    y_faces, x_faces, work = np.empty((2, n_fields, width)), np.empty((n_fields, width)), np.empty((5, width))
    scale = np.empty(width)
    for block in range(blocks.shape[0]):
        j_start, j_stop, a = blocks[block, 0], blocks[block, 1], blocks[block, 2]
        n = blocks[block, 3] - a
        _face_fluxes(y, rho_D, lam_cp, h_k, weights, j_start - 1, a, j_start, a, n, y_faces[0], work)
        for j in range(j_start, j_stop):
            parity = (j - j_start) % 2
            _face_fluxes(y, rho_D, lam_cp, h_k, weights, j, a, j + 1, a, n, y_faces[1 - parity], work)
            _face_fluxes(y, rho_D, lam_cp, h_k, weights, j, a - 1, j, a, n + 1, x_faces, work)
            density = rho[j, a : a + n]
            for i in range(n):
                scale[i] = dt / density[i]
            for k in range(n_fields):
                south, north = y_faces[parity, k, :n], y_faces[1 - parity, k, :n]
                west, east = x_faces[k, :n], x_faces[k, 1 : n + 1]
                value, out, start, rate = (
                    y[k, j, a : a + n],
                    old[k, j, a : a + n],
                    y0[k, j, a : a + n],
                    rate0[k, j, a : a + n],
                )
                if first:
                    for i in range(n):
                        gain = scale[i] * ((west[i] - east[i]) / (dx * dx) + (south[i] - north[i]) / (dy * dy))
                        rate[i] = gain
                        out[i] = value[i] + mu_rate * gain
                else:
                    for i in range(n):
                        gain = scale[i] * ((west[i] - east[i]) / (dx * dx) + (south[i] - north[i]) / (dy * dy))
                        out[i] = start[i] + (
                            mu * (value[i] - start[i]) + nu * (out[i] - start[i]) + mu_rate * gain + gamma * rate[i]
                        )
