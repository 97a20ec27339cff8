"""Diffusion of species and enthalpy: Runge-Kutta-Legendre stages on vectors of cells, several in one sweep.

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

from cfd_coupling.grid import GHOSTS
from cfd_coupling.kernels.rows import LEFT
from chemnet.runtime.compilation import cached_njit
from chemnet.runtime.simd import W, fma, kernel, load_at, prefetch_at, shifted, splat, store_at

N_WORK = 11  # rows of work of a stage beside those of K fluxes


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
def _put_north_faces(
    j, a, b, y, half, lam_cp, K, columns, moles, below, above, y_faces,
):  # fmt: skip
    """g, -J/2 and q of the faces between the rows j and j + 1; moles of row j at `below`, of row j + 1 at `above`."""
    row, half_row = (K + 1) * columns, 2 * K * columns
    for i in range(a, b, W):
        _put_face(
            y, j * row + i, (j + 1) * row + i, half, j * half_row + i, (j + 1) * half_row + i,
            lam_cp, j * columns + i, (j + 1) * columns + i,
            load_at(moles, below + i), load_at(moles, above + i), K, columns, y_faces, i, columns,
        )  # fmt: skip


@kernel
def _put_moles(j, a, b, y, inverse_weights, columns, moles, place):
    """1 / W of the cells around [a, b) in row j."""
    K = inverse_weights.shape[0]
    for i in range(a - W, b + W, W):
        store_at(moles, place + i, _moles(y, j * (K + 1) * columns + i, K, columns, inverse_weights))


@kernel
def _put_south_fluxes(j, a, b, y, half, lam_cp, inverse_weights, columns, moles, y_faces, q_south, south):
    """What the row below would have left for row j: fluxes of its south faces, and 1 / W of its cells."""
    K = inverse_weights.shape[0]
    row, half_row = (K + 1) * columns, 2 * K * columns
    here, below = (j % 2) * columns, (1 - j % 2) * columns
    _put_moles(j - 1, a, b, y, inverse_weights, columns, moles, below)
    _put_moles(j, a, b, y, inverse_weights, columns, moles, here)
    _put_north_faces(j - 1, a, b, y, half, lam_cp, K, columns, moles, below, here, y_faces)
    for k in range(K):
        for i in range(a, b, W):
            at, p = j * row + k * columns + i, j * half_row + 2 * k * columns + i
            D = load_at(half, p - half_row) + load_at(half, p)
            g, J = load_at(y_faces, i), load_at(y_faces, columns + i)
            store_at(south, k * columns + i, _minus_flux(load_at(y, at - row), load_at(y, at), D, g, J))
    for i in range(a, b, W):
        store_at(q_south, i, load_at(y_faces, 2 * columns + i))


@kernel
def _put_faces(j, a, b, y, half, lam_cp, inverse_weights, columns, moles, x_faces, y_faces):
    """The north faces of row j and its west faces, the east face of its last cell with them."""
    K = inverse_weights.shape[0]
    row, half_row = (K + 1) * columns, 2 * K * columns
    here, above = (j % 2) * columns, (1 - j % 2) * columns
    _put_moles(j + 1, a, b, y, inverse_weights, columns, moles, above)
    _put_north_faces(j, a, b, y, half, lam_cp, K, columns, moles, here, above, y_faces)
    for i in range(a, b + 1, W):
        _put_face(
            y, j * row + i - 1, j * row + i, half, j * half_row + i - 1, j * half_row + i,
            lam_cp, j * columns + i - 1, j * columns + i,
            load_at(moles, here + i - 1), load_at(moles, here + i), K, columns, x_faces, i, columns,
        )  # fmt: skip


@kernel
def _advance_row(
    j, a, b, y, old, y0, rate0, rho, width, half, K, columns,
    scale_x, scale_y, x_faces, y_faces, q_south, south, per_x, per_y, dt, coefficients, first,
):  # fmt: skip
    """The stage in the cells [a, b) of row j, whose faces are known; leaves the north faces' fluxes in `south`."""
    row, half_row = (K + 1) * columns, 2 * K * columns
    for i in range(a, b, W):
        scale = dt / load_at(rho, j * width + i - LEFT)
        store_at(scale_x, i, per_x * scale)
        store_at(scale_y, i, per_y * scale)
    for k in range(K):
        at, p = j * row + k * columns, j * half_row + 2 * k * columns
        i = a - W
        D = load_at(half, p + i) + load_at(half, p + i + 1)
        g, J = load_at(x_faces, i + 1), load_at(x_faces, columns + i + 1)
        east = _minus_flux(load_at(y, at + i), load_at(y, at + i + 1), D, g, J)
        for i in range(a, b, W):
            value, D, west = load_at(y, at + i), load_at(half, p + i), east
            g, J = load_at(x_faces, i + 1), load_at(x_faces, columns + i + 1)
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
        at, north = j * row + K * columns + i, load_at(y_faces, 2 * columns + i)
        along_x = load_at(x_faces, 2 * columns + i) - load_at(x_faces, 2 * columns + i + 1)
        gain = fma(along_x, load_at(scale_x, i), (load_at(q_south, i) - north) * load_at(scale_y, i))
        store_at(q_south, i, north)
        _put_stage(at, load_at(y, at), gain, old, y0, rate0, coefficients, first)


@cached_njit(error_model="numpy", _nrt=False, no_cfunc_wrapper=True)
def diffusion_stages(
    runs, first_run, alike, y0, stage_a, stage_b, rate0, rho, width, half, lam_cp, inverse_weights, columns, work,
    dx, dy, dt, factors, stage,
):  # fmt: skip
    """Stages `stage`, `stage` + 1, ... of RKL2, one for each row of `factors` (n, 4), n <= GHOSTS, at fixed rho.

    For species and enthalpy (K + 1 fields), y_1 = y_0 + mu~ dt L(y_0) and then

        y_s = mu y_{s-1} + nu y_{s-2} + (1 - mu - nu) y_0 + mu~ dt L(y_{s-1}) + gamma~ dt L(y_0)

            north
        west [ ] east      L = -(div flux) / rho
            south

    with factors (mu, nu, mu~, gamma~). Odd stages lie in stage_a, even ones in stage_b, each in the place of y_{s-2},
    which may be anything where nu is 0. A row is advanced by all stages before the next but n is touched, which leaves
    most of what a stage reads in the cache; stage m of the sweep lags m rows behind the first:

        row j      first stage           To have neighbours at the edges of the slab, the sweep begins and ends
        row j - 1  second                n - 1 - m rows outside of it, in ghosts: n layers of y_{s-1} and n - 1 of
        row j - 2  third                 y_{s-2} must be up to date. Those of the results are not, except at the sides.

    runs (n, 3) [j, i_start, i_stop) by row, those of row j from first_run[j] on; alike[j]: row j has the runs of the
    row below. y0, stages, rate0 (dt L(y_0), made by the first stage), half (2 K fields: half of rho D_k [kg/m/s] and
    half of h_k [J/kg] in turn) and lam_cp [kg/m/s]: flat arrays of `Rows` of `columns` columns; rho: flat, rows of
    `width` cells, ghosts counted; work: N_WORK + K rows of columns for each stage.
    """
    K, n_rows, depth = inverse_weights.shape[0], alike.shape[0], factors.shape[0]
    per_x, per_y, some = 1.0 / (dx * dx), 1.0 / (dy * dy), (N_WORK + K) * columns
    row, last = (K + 1) * columns, width - 2 * GHOSTS + LEFT + GHOSTS - 1
    for front in range(GHOSTS - depth + 1, n_rows - GHOSTS + depth):
        for m in range(depth):
            j, number, outside = front - m, stage + m, depth - 1 - m
            if j < GHOSTS - outside or j >= n_rows - GHOSTS + outside:
                continue
            y = y0 if number == 1 else (stage_b if number % 2 else stage_a)
            old = stage_a if number % 2 else stage_b
            mine = work[m * some : (m + 1) * some]
            scale_x, scale_y, moles = mine[:columns], mine[columns : 2 * columns], mine[2 * columns : 4 * columns]
            x_faces, y_faces = mine[4 * columns : 7 * columns], mine[7 * columns : 10 * columns]
            q_south, south = mine[10 * columns : 11 * columns], mine[N_WORK * columns :]
            coefficients = factors[m, 0], factors[m, 1], factors[m, 2], factors[m, 3]
            for run in range(first_run[j], first_run[j + 1]):
                a, b = runs[run, 1] + LEFT, runs[run, 2] + LEFT
                if j == GHOSTS - outside or not alike[j]:
                    _put_south_fluxes(
                        j, a, b, y, half, lam_cp, inverse_weights, columns, moles, y_faces, q_south, south
                    )
                _put_faces(j, a, b, y, half, lam_cp, inverse_weights, columns, moles, x_faces, y_faces)
                _advance_row(
                    j, a, b, y, old, y0, rate0, rho, width, half, K, columns, scale_x, scale_y, x_faces, y_faces,
                    q_south, south, per_x, per_y, dt, coefficients, number == 1,
                )  # fmt: skip
            for k in range(K + 1):
                at = j * row + k * columns
                old[at + LEFT + GHOSTS - 1] = old[at + last]
                old[at + last + 1] = old[at + LEFT + GHOSTS]
