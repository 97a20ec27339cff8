"""Diffusion of species and enthalpy: one Runge-Kutta-Legendre stage, on vectors of cells.

Mass flux of species k from cell a to its neighbour b, coefficients at the face as means of both cells:

    a |-> b     j*_k = -rho D_k (grad Y_k + Y_k grad(ln W)),    j_k = j*_k - Y_k sum_k j*_k

so that sum_k j_k = 0 (Coffee and Heimerl 1981); the first bracket is W_k/W grad X_k. Enthalpy flux: with
dh = sum_k Y_k dh_k + h_k dY_k conduction is written on h, and no temperature is needed within the stages:

    q = -lambda grad T + sum_k h_k j_k = -(lambda/cp) grad h + sum_k h_k ((lambda/cp) grad Y_k + j_k)

With d_k and m_k the difference and the sum of both cells' Y_k, D_k and h_k the face values, c = lambda/cp and
g = (1/W_a - 1/W_b) / (1/W_a + 1/W_b), a face needs six sums over species before it can form any flux:

    s1 = sum D d    s2 = sum D m    s3 = sum h d    s4 = sum h D d    s5 = sum h D m    s6 = sum h m
    J = -sum_k j*_k = s1 + g s2
    j_k = -(D_k d_k + m_k (g D_k - J/2)),    q = c (s3 - dh) - s4 - g s5 + J s6 / 2

(times spacing). Fluxes are therefore formed from g and J when a row is advanced, and only those of the south faces are
kept, for the row that follows.
"""

from __future__ import annotations

from numba import njit

from cfd_coupling.kernels.rows import LEFT
from chemnet.runtime.simd import W, fma, kernel, load_at, prefetch_at, shifted, splat, store_at

N_WORK = 14  # rows of work beside those of K fluxes


@kernel
def _moles(y, at, n_species, columns, inverse_weights):
    """sum_k Y_k / W_k = 1 / W [kmol/kg] of the cells at `at`."""
    total = splat(0.0)
    for k in range(n_species):
        total = fma(load_at(y, at + k * columns), inverse_weights[k], total)
    return total


@kernel
def _put_face(y, ya, yb, half, pa, pb, lam_cp, la, lb, moles_a, moles_b, n_species, columns, g_J_q, at, width):
    """g, -J/2 and the enthalpy flux q of the faces from the cells at ya to those at yb, into three rows of `g_J_q`."""
    s1, s2, s3, s4, s5, s6 = splat(0.0), splat(0.0), splat(0.0), splat(0.0), splat(0.0), splat(0.0)
    for k in range(n_species):
        a, b, p = load_at(y, ya + k * columns), load_at(y, yb + k * columns), 2 * k * columns
        D = load_at(half, pa + p) + load_at(half, pb + p)
        h = load_at(half, pa + p + columns) + load_at(half, pb + p + columns)
        d, m = b - a, a + b
        D_d, D_m = D * d, D * m
        s1, s2, s3 = s1 + D_d, s2 + D_m, fma(h, d, s3)
        s4, s5, s6 = fma(h, D_d, s4), fma(h, D_m, s5), fma(h, m, s6)
    g = (moles_a - moles_b) / (moles_a + moles_b)
    J = fma(g, s2, s1)
    conduction = 0.5 * (load_at(lam_cp, la) + load_at(lam_cp, lb))
    d_enthalpy = load_at(y, yb + n_species * columns) - load_at(y, ya + n_species * columns)
    store_at(g_J_q, at, g)
    store_at(g_J_q, at + width, -0.5 * J)
    store_at(g_J_q, at + 2 * width, conduction * (s3 - d_enthalpy) - fma(g, s5, s4) + 0.5 * (J * s6))


@kernel
def _minus_flux(a, b, D, g, minus_half_J):
    """-j_k times spacing between the cells with mass fractions a and b."""
    return fma(a + b, fma(g, D, minus_half_J), D * (b - a))


@kernel
def _put_stage(at, here, gain, old, y0, rate0, coefficients, first):
    """The stage's value of the cells at `at` from `here`, its value before, and gain = dt L(here)."""
    mu, nu, mu_rate, gamma = coefficients
    if first:
        store_at(rate0, at, gain)
        store_at(old, at, here + mu_rate * gain)
    else:
        start = load_at(y0, at)
        change = fma(mu, here - start, nu * (load_at(old, at) - start))
        store_at(old, at, start + fma(mu_rate, gain, fma(gamma, load_at(rate0, at), change)))


@kernel
def _advance_row(
    j, a, b, now, y, old, y0, rate0, rho, width, half, K, columns,
    scale_x, scale_y, x_faces, y_faces, q_south, south, per_x, per_y, dt, coefficients, first,
):  # fmt: skip
    """The stage in the cells [a, b) of row j, whose faces are known; leaves the fluxes of the north faces in `south`."""
    row, half_row = (K + 1) * columns, 2 * K * columns
    J_x, q_x = now + 2 * columns, now + 4 * columns
    for i in range(a, b, W):
        scale = dt / load_at(rho, j * width + i - LEFT)
        store_at(scale_x, i, per_x * scale)
        store_at(scale_y, i, per_y * scale)
    for k in range(K):
        at, p = j * row + k * columns, j * half_row + 2 * k * columns
        i = a - W
        D = load_at(half, p + i) + load_at(half, p + i + 1)
        g, J = load_at(x_faces, now + i + 1), load_at(x_faces, J_x + i + 1)
        east = _minus_flux(load_at(y, at + i), load_at(y, at + i + 1), D, g, J)
        for i in range(a, b, W):
            value, D, west = load_at(y, at + i), load_at(half, p + i), east
            g, J = load_at(x_faces, now + i + 1), load_at(x_faces, J_x + i + 1)
            east = _minus_flux(value, load_at(y, at + i + 1), D + load_at(half, p + i + 1), g, J)
            g, J = load_at(y_faces, i), load_at(y_faces, columns + i)
            north = _minus_flux(value, load_at(y, at + row + i), D + load_at(half, p + half_row + i), g, J)
            along_x, along_y = east - shifted(west, east), north - load_at(south, k * columns + i)
            store_at(south, k * columns + i, north)
            gain = fma(along_x, load_at(scale_x, i), along_y * load_at(scale_y, i))
            _put_stage(at + i, value, gain, old, y0, rate0, coefficients, first)
            # the loops over faces jump from field to field, which the processor cannot foresee
            prefetch_at(y0, at + row + i)
            prefetch_at(rate0, at + row + i)
            prefetch_at(old, at + row + i)
            prefetch_at(y, at + 3 * row + i)
            prefetch_at(half, p + 2 * half_row + i)
            prefetch_at(half, p + 2 * half_row + columns + i)
    for i in range(a, b, W):
        at = j * row + K * columns + i
        along_x = load_at(x_faces, q_x + i) - load_at(x_faces, q_x + i + 1)
        along_y = load_at(q_south, i) - load_at(y_faces, 2 * columns + i)
        gain = fma(along_x, load_at(scale_x, i), along_y * load_at(scale_y, i))
        _put_stage(at, load_at(y, at), gain, old, y0, rate0, coefficients, first)


@njit(cache=True, error_model="numpy", _nrt=False, no_cfunc_wrapper=True)
def diffusion_stage(
    blocks, y, old, y0, rate0, rho, width, half, lam_cp, inverse_weights, columns, work, dx, dy, dt, coefficients, first
):
    """One stage of RKL2 for species and enthalpy (K + 1 fields) at fixed rho; the result replaces `old`.

    First stage: rate0 = dt L(y), old = y + mu~ rate0. Later: old = mu y + nu old + (1 - mu - nu) y0
    + mu~ dt L(y) + gamma~ rate0, with coefficients = (mu, nu, mu~, gamma~). In the second stage `old` would be y0,
    whose place in the sum any number may take when nu is 0.

            north
        west [ ] east      L = -(div flux) / rho
            south

    y, old, y0, rate0, half (2 K fields: half of rho D_k [kg/m/s] and half of h_k [J/kg] in turn) and lam_cp [kg/m/s]:
    flat arrays of `Rows` of `columns` columns; rho: flat, rows of `width` cells, ghosts counted; work: N_WORK + K rows
    of columns. Cells to
    the right of a block, up to the next vector, are overwritten where they are ghosts.
    """
    K = inverse_weights.shape[0]
    row, half_row = (K + 1) * columns, 2 * K * columns
    per_x, per_y = 1.0 / (dx * dx), 1.0 / (dy * dy)
    scale_x, scale_y, moles = work[:columns], work[columns : 2 * columns], work[2 * columns : 4 * columns]
    x_faces, y_faces = work[4 * columns : 10 * columns], work[10 * columns : 13 * columns]
    q_south, south = work[13 * columns : 14 * columns], work[N_WORK * columns :]
    for block in range(blocks.shape[0]):
        j_start, j_stop = blocks[block, 0], blocks[block, 1]
        a, b = blocks[block, 2] + LEFT, blocks[block, 3] + LEFT
        for j in range(j_start - 1, j_stop + 1):
            here, below = j * half_row, (j - 1) * half_row
            now, before = (j % 2) * columns, (1 - j % 2) * columns
            for i in range(a - W, b + W, W):
                store_at(moles, now + i, _moles(y, j * row + i, K, columns, inverse_weights))
            if j >= j_start:
                for i in range(a, b, W):
                    store_at(q_south, i, load_at(y_faces, 2 * columns + i))
                    _put_face(
                        y, (j - 1) * row + i, j * row + i, half, below + i, here + i,
                        lam_cp, (j - 1) * columns + i, j * columns + i,
                        load_at(moles, before + i), load_at(moles, now + i), K, columns, y_faces, i, columns,
                    )  # fmt: skip
            if j_start <= j < j_stop:
                for i in range(a, b + 1, W):
                    _put_face(
                        y, j * row + i - 1, j * row + i, half, here + i - 1, here + i,
                        lam_cp, j * columns + i - 1, j * columns + i,
                        load_at(moles, now + i - 1), load_at(moles, now + i), K, columns,
                        x_faces, now + i, 2 * columns,
                    )  # fmt: skip
            if j == j_start:
                for k in range(K):
                    for i in range(a, b, W):
                        at, p = j * row + k * columns + i, 2 * k * columns + i
                        D = load_at(half, below + p) + load_at(half, here + p)
                        g, J = load_at(y_faces, i), load_at(y_faces, columns + i)
                        store_at(south, k * columns + i, _minus_flux(load_at(y, at - row), load_at(y, at), D, g, J))
            if j > j_start:
                _advance_row(
                    j - 1, a, b, before, y, old, y0, rate0, rho, width, half, K, columns,
                    scale_x, scale_y, x_faces, y_faces, q_south, south, per_x, per_y, dt, coefficients, first,
                )  # fmt: skip
