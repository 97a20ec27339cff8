"""Mixture-averaged transport properties from fits in x = (T - T_ref) / (T + T_ref), a cheap stand-in for ln T.

Species: mu_k = sqrt(T) poly(x), lambda_k = sqrt(T) poly(x). Pairs: 1/D_kj = P T^-1.5 sum_r c_kjr B_r(x), with a few
functions B_r common to all pairs (`cfd_coupling.gas` makes the fits). Mixture rules: conductivity and diffusion as in
Cantera's mixture-averaged model (Kee, Coltrin and Glarborg 2003, eqs. 12.122 and 12.176); viscosity by Herning and
Zipperer (1936), sum(X mu sqrt(W)) / sum(X sqrt(W)), which needs no sum over pairs.
"""

from __future__ import annotations

import numpy as np

from chemnet.gas.thermo import row_njit, row_species_enthalpy_cp

_TRACE = 1e-14  # mole fraction added to each species: a species alone then has its self-diffusion limit


@row_njit
def _polynomial(coefficients, x, out):
    """out = coefficients[0] + x (coefficients[1] + ...), along a row."""
    last = coefficients.shape[0] - 1
    out[:] = coefficients[last]
    for n in range(last - 1, -1, -1):
        c = coefficients[n]
        for i in range(x.shape[0]):
            out[i] = out[i] * x[i] + c


@row_njit
def _mole_fractions(Y, j, a, n, weights, X, mean_weight):
    """X (K, n) and W [kg/kmol] of the cells [a, a + n) of row j."""
    mean_weight[:n] = 0.0
    for k in range(weights.shape[0]):
        y, x, inverse = Y[k, j, a : a + n], X[k, :n], 1.0 / weights[k]
        for i in range(n):
            x[i] = y[i] * inverse
            mean_weight[i] += x[i]
    for i in range(n):
        mean_weight[i] = 1.0 / mean_weight[i]
    for k in range(weights.shape[0]):
        x = X[k, :n]
        for i in range(n):
            x[i] = max(x[i] * mean_weight[i], 0.0) + _TRACE


@row_njit
def viscosity(T, Y, weights, T_ref, fit, out):
    """Viscosity [Pa s] of every cell, ghosts included, into `out`; fit (K, n)."""
    rows, n = T.shape
    x, pure, above, below = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    for j in range(rows):
        t = T[j]
        above[:] = 0.0
        below[:] = 0.0
        for i in range(n):
            x[i] = (t[i] - T_ref) / (t[i] + T_ref)
        for k in range(weights.shape[0]):
            _polynomial(fit[k], x, pure)
            y, weight = Y[k, j], 1.0 / np.sqrt(weights[k])
            for i in range(n):
                part = y[i] * weight
                above[i] += part * pure[i]
                below[i] += part
        for i in range(n):
            out[j, i] = np.sqrt(t[i]) * above[i] / below[i]


@row_njit
def _conductivity_row(X, x, sqrt_T, fit, n, pure, inverse, out):
    """Conductivity [W/m/K] of a row into `out`: the mean of the arithmetic and the harmonic mean over species."""
    out[:n] = 0.0
    inverse[:n] = 0.0
    for k in range(X.shape[0]):
        _polynomial(fit[k], x, pure[:n])
        part = X[k, :n]
        for i in range(n):
            out[i] += part[i] * pure[i]
            inverse[i] += part[i] / pure[i]
    for i in range(n):
        out[i] = 0.5 * sqrt_T[i] * (out[i] + 1.0 / inverse[i])


@row_njit
def _drag_row(X, basis, pairs, n, drag):
    """drag[k] = sum over j other than k of X_j sum_r c_kjr B_r of a row; each pair is evaluated once."""
    n_species = X.shape[0]
    b0, b1, b2, b3 = basis[0, :n], basis[1, :n], basis[2, :n], basis[3, :n]
    drag[:, :n] = 0.0
    for k in range(n_species):
        x_k, drag_k = X[k, :n], drag[k, :n]
        for j in range(k):
            c0, c1, c2, c3 = pairs[k, j, 0], pairs[k, j, 1], pairs[k, j, 2], pairs[k, j, 3]
            x_j, drag_j = X[j, :n], drag[j, :n]
            for i in range(n):
                value = c0 * b0[i] + c1 * b1[i] + c2 * b2[i] + c3 * b3[i]
                drag_k[i] += x_j[i] * value
                drag_j[i] += x_k[i] * value


@row_njit
def transport(segments, T, Y, rho, p0, weights, nasa, T_ref, conductivity_fit, basis_fit, pairs, rho_D, lam_cp, h_k):
    """Coefficients of the diffusion fluxes in the cells of `segments`, and the largest diffusivity [m2/s] there.

    Into rho_D (K, ...) [kg/m/s]: rho times the mixture-averaged diffusivity
    D_k = (1 - Y_k) / sum_{j != k} X_j / D_kj; lam_cp [kg/m/s]: conductivity over heat capacity; h_k (K, ...) [J/kg].
    """
    n_species, width = weights.shape[0], T.shape[1]
    X, drag = np.empty((n_species, width)), np.empty((n_species, width))
    basis = np.empty((basis_fit.shape[0], width))
    x, sqrt_T, W, cp = np.empty(width), np.empty(width), np.empty(width), np.empty(width)
    lam, work, total, fastest = np.empty(width), np.empty(width), np.empty(width), np.empty(width)
    largest = 0.0
    for s in range(segments.shape[0]):
        j, a, n = segments[s, 0], segments[s, 1], segments[s, 2] - segments[s, 1]
        t, density = T[j, a : a + n], rho[j, a : a + n]
        for i in range(n):
            x[i] = (t[i] - T_ref) / (t[i] + T_ref)
            sqrt_T[i] = np.sqrt(t[i])
        _mole_fractions(Y, j, a, n, weights, X, W)
        _conductivity_row(X, x[:n], sqrt_T, conductivity_fit, n, work, total, lam)
        for r in range(basis_fit.shape[0]):
            _polynomial(basis_fit[r], x[:n], basis[r, :n])
        _drag_row(X, basis, pairs, n, drag)
        row_species_enthalpy_cp(t, Y, j, a, nasa, h_k, cp)
        ratio = lam_cp[j, a : a + n]
        total[:n] = 0.0
        for k in range(n_species):
            part, weight = X[k, :n], weights[k]
            for i in range(n):
                total[i] += part[i] * weight
        for i in range(n):
            ratio[i] = lam[i] / cp[i]
            fastest[i] = ratio[i]
            work[i] = density[i] * sqrt_T[i] * t[i] / (p0 * total[i])
        for k in range(n_species):
            part, weight, below, out = X[k, :n], weights[k], drag[k, :n], rho_D[k, j, a : a + n]
            for i in range(n):
                out[i] = work[i] * (total[i] - part[i] * weight) / below[i]
                fastest[i] = max(fastest[i], out[i])
        for i in range(n):
            largest = max(largest, fastest[i] / density[i])
    return largest
