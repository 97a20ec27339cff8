"""Mixture-averaged transport properties from fits in x = (T - T_ref) / (T + T_ref), a cheap stand-in for ln T.

Species: mu_k = sqrt(T) poly(x), lambda_k = sqrt(T) poly(x). Pairs: 1/D_kj = P T^-1.5 sum_r c_kjr B_r(x), with a few
functions B_r common to all pairs (`cfd_coupling.gas` makes the fits). Mixture rules: conductivity and diffusion as in
Cantera's mixture-averaged model (Kee, Coltrin and Glarborg 2003, eqs. 12.122 and 12.176); viscosity by Herning and
Zipperer (1936), sum(X mu sqrt(W)) / sum(X sqrt(W)), which needs no sum over pairs.
"""

from __future__ import annotations

from cfd_coupling.kernels.rows import LEFT
from chemnet.gas.nasa import enthalpy_and_cp, one_species
from chemnet.runtime.compilation import cached_njit
from chemnet.runtime.simd import W, fma, kernel, load, load_at, maximum, select, splat, sqrt, store, store_at

_TRACE = 1e-14  # mole fraction added to each species: a species alone then has its self-diffusion limit


@kernel
def _polynomial(fit, x):
    """fit[0] + x (fit[1] + ...)."""
    value = splat(fit[fit.shape[0] - 1])
    for n in range(fit.shape[0] - 2, -1, -1):
        value = fma(value, x, fit[n])
    return value


@cached_njit(error_model="numpy", _nrt=False, no_cfunc_wrapper=True)
def viscosity(T, Y, roots, T_ref, fit, out):
    """Viscosity [Pa s] of every cell, ghosts included, into `out`; fit (K, n), roots (K,): sqrt(1 / W).

    T, Y, out: flat, of fields, with room for one vector behind the end.
    """
    n = T.size
    for cell in range(0, n, W):
        t = load_at(T, cell)
        x, above, below = (t - T_ref) / (t + T_ref), splat(0.0), splat(0.0)
        for k in range(roots.shape[0]):
            part = load_at(Y, k * n + cell) * roots[k]
            above, below = fma(part, _polynomial(fit[k], x), above), below + part
        store_at(out, cell, sqrt(t) * above / below)


@kernel
def _put_mole_fractions(y, at, n_species, columns, inverse_weights, X):
    """Mole fractions into X (K vectors), each with its trace."""
    total = splat(0.0)
    for k in range(n_species):
        moles = load_at(y, at + k * columns) * inverse_weights[k]
        store(X, k, moles)
        total = total + moles
    mean_weight = 1.0 / total
    for k in range(n_species):
        store(X, k, maximum(load(X, k) * mean_weight, 0.0) + _TRACE)


@kernel
def _conductivity(X, x, fit, n_species):
    """Conductivity over sqrt(T): the mean of the arithmetic and the harmonic mean over species."""
    above, below = splat(0.0), splat(0.0)
    for k in range(n_species):
        pure, part = _polynomial(fit[k], x), load(X, k)
        above, below = fma(part, pure, above), below + part / pure
    return 0.5 * (above + 1.0 / below)


@kernel
def _put_drag(X, x, basis, pairs, n_species, drag):
    """drag[k] = sum over j other than k of X_j sum_r c_kjr B_r; each pair is evaluated once."""
    b0, b1, b2, b3 = (
        _polynomial(basis[0], x),
        _polynomial(basis[1], x),
        _polynomial(basis[2], x),
        _polynomial(basis[3], x),
    )
    for k in range(n_species):
        mine, X_k = splat(0.0), load(X, k)
        for j in range(k):
            c = pairs[k, j]
            value = fma(c[3], b3, fma(c[2], b2, fma(c[1], b1, c[0] * b0)))
            mine = fma(load(X, j), value, mine)
            store(drag, j, fma(X_k, value, load(drag, j)))
        store(drag, k, mine)


@cached_njit(error_model="numpy", _nrt=False, no_cfunc_wrapper=True)
def transport(
    segments, T, y, rho, width, columns, p0, weights, inverse_weights, nasa, T_ref,
    conductivity_fit, basis_fit, pairs, half, lam_cp, work,
):  # fmt: skip
    """Coefficients of the diffusion fluxes in the cells of `segments`, and the largest diffusivity [m2/s] there.

    Into half (2 K fields): half of rho D_k [kg/m/s], D_k = (1 - Y_k) / sum_{j != k} X_j / D_kj the mixture-averaged
    diffusivity, and half of h_k [J/kg] in turn; into lam_cp [kg/m/s]: conductivity over heat capacity. y, half, lam_cp:
    flat arrays of `Rows` of `columns` columns; T, rho: flat, rows of `width` cells, ghosts counted; work: 2 K + 2
    vectors, the last of them the numbers 0, 1, ... What is written to the right of a segment, up to the next vector,
    has no meaning.
    """
    K = weights.shape[0]
    X, drag, fastest, lanes = work[: K * W], work[K * W : 2 * K * W], work[2 * K * W :], load(work, 2 * K + 1)
    largest = 0.0
    for s in range(segments.shape[0]):
        j, a, b = segments[s, 0], segments[s, 1], segments[s, 2]
        for i in range(a, b, W):
            at, cell = j * (K + 1) * columns + i + LEFT, j * width + i
            t, density = load_at(T, cell), load_at(rho, cell)
            x, root = (t - T_ref) / (t + T_ref), sqrt(t)
            _put_mole_fractions(y, at, K, columns, inverse_weights, X)
            lam = root * _conductivity(X, x, conductivity_fit, K)
            _put_drag(X, x, basis_fit, pairs, K, drag)
            cp, total = splat(0.0), splat(0.0)
            for k in range(K):
                h_k, cp_k = enthalpy_and_cp(one_species(nasa[k], t), t, nasa)
                cp, total = fma(load_at(y, at + k * columns), cp_k, cp), fma(load(X, k), weights[k], total)
                store_at(half, 2 * (j * K + k) * columns + columns + i + LEFT, 0.5 * h_k)
            ratio = lam / cp
            store_at(lam_cp, j * columns + i + LEFT, ratio)
            scale, most = density * root * t / (p0 * total), ratio
            for k in range(K):
                rho_D = scale * (total - load(X, k) * weights[k]) / load(drag, k)
                store_at(half, 2 * (j * K + k) * columns + i + LEFT, 0.5 * rho_D)
                most = maximum(rho_D, most)
            store(fastest, 0, select(lanes < float(b - i), most / density, 0.0))
            for lane in range(W):
                largest = max(largest, fastest[lane])
    return largest
