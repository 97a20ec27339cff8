"""Analytic Jacobian of `rates.right_hand_side`, for W cells side by side.

With A_kj = d omega_k/d c_j at fixed temperature, S_k = sum_j c_j A_kj and N = sum n,

    d(dn_k/dt)/dn_j = A_kj + (dn_k/dt - S_k/rho) / N         (the density depends on every amount alike)
    d(dn_k/dt)/dT   = (d omega_k/dT at fixed c)/rho + (dn_k/dt - S_k/rho) / T

A rate of progress is a product of powers of concentrations, so its derivative is the rate times the power over the
concentration: the entries of A are sums over rates that are at hand already. Where a rate depends on a collider set,
M = default (P/RT) + sum_j e_j c_j, the first part depends on T alone and counts as such.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba.extending import register_jitable
from numpy.typing import NDArray

from chemnet.gas.nasa import one_species
from chemnet.gas.polynomials import PLAIN
from chemnet.kinetics.mechanism_tables import Tables
from chemnet.kinetics.rates import (
    GAS_CONSTANT,
    LOG_10,
    T_HIGHEST,
    T_LOWEST,
    arrhenius,
    level_rate,
    level_weight,
    reduced_pressure,
    sri_base,
    troe_argument,
    troe_center,
)
from chemnet.runtime.simd import aligned, exp, fma, kernel, load, log, maximum, minimum, select, splat, store


class JacobianLanes(NamedTuple):
    """Working memory of one thread beside `Lanes`."""

    warming: NDArray[np.float64]  # (R) d ln k_f/dT [1/K] at fixed concentrations
    theta: NDArray[np.float64]  # (R) d ln k_f/d ln M
    activity: NDArray[np.float64]  # (K) d ln up/dT [1/K]
    slope: NDArray[np.float64]  # (R) dq/dT at fixed concentrations
    spread: NDArray[np.float64]  # (R) sum_j c_j dq/dc_j
    inverse: NDArray[np.float64]  # (m) 1/c
    matrix: NDArray[np.float64]  # (n^2) row by row, n = m + 1 made even by a row and a column of the unit matrix


def new_jacobian_lanes(tables: Tables) -> JacobianLanes:
    """Memory for one thread."""
    K, R, n = len(tables.species), tables.order.shape[1], padded(len(tables.reactive) + 1)
    return JacobianLanes(*map(aligned, (R, R, K, R, R, len(tables.reactive), n * n)))


@register_jitable
def padded(n: int) -> int:
    """The even number that is n or follows it."""
    return n + n % 2


@kernel
def jacobian(tables, lanes, work, y, volume, cp):
    """d(dn/dt, dT/dt)/d(n, T) into `work.matrix`; `right_hand_side` at the same y has just returned volume and cp."""
    T = maximum(T_LOWEST, minimum(T_HIGHEST, load(y, tables.reactive.size)))
    inverse_T = 1.0 / T
    _rate_derivatives(tables, lanes, work, T, inverse_T)
    _progress_derivatives(tables, lanes, work, inverse_T)
    _dense_part(tables, lanes, work, volume, inverse_T)
    _sparse_part(tables, lanes, work)
    _temperature_row(tables, lanes, work, T, inverse_T, cp)


@kernel
def _rate_derivatives(tables, lanes, work, T, inverse_T):
    """d ln k_f/dT and d ln k_f/d ln M of every reaction."""
    rows, log_T = tables.arrhenius, log(T)
    for r in range(tables.order.shape[1]):
        store(work.warming, r, _warming(rows, r, inverse_T))
        store(work.theta, r, splat(0.0))
    for i in range(tables.three_body.item.size):
        store(work.theta, tables.three_body.item[i], splat(1.0))
    for i in range(tables.falloff.shape[0]):
        _falloff_derivatives(tables, lanes, work, i, T, log_T, inverse_T)
    for i in range(tables.plog.reaction.size):
        total = splat(0.0)
        for level in range(tables.plog.levels.start[i], tables.plog.levels.start[i + 1]):
            share = level_weight(tables, lanes, level)
            total = fma(share, _level_warming(tables, level, log_T, inverse_T), total)
        store(work.warming, tables.plog.reaction[i], total)


@kernel
def _warming(rows, i, inverse_T):
    """d ln k/dT of row i of Arrhenius parameters."""
    return fma(rows[i, 2], inverse_T, splat(rows[i, 1])) * inverse_T


@kernel
def _level_warming(tables, level, log_T, inverse_T):
    """d ln k/dT of the rates that are given at one PLOG pressure level."""
    total = splat(0.0)
    for i in range(tables.plog.rates.start[level], tables.plog.rates.start[level + 1]):
        slot = tables.plog.rates.item[i]
        rate = arrhenius(tables.plog.arrhenius, slot, log_T, inverse_T) * tables.plog.rates.factor[i]
        total = fma(rate, _warming(tables.plog.arrhenius, slot, inverse_T), total)
    return total / level_rate(tables, level, log_T, inverse_T)


@kernel
def _falloff_derivatives(tables, lanes, work, i, T, log_T, inverse_T):
    """Derivatives of ln k = ln k_inf + ln Pr - ln(1 + Pr) + ln F (chemically activated: ln k_0 - ln(1 + Pr) + ln F)."""
    row = tables.falloff[i]
    r, slot = int(row[0]), tables.order.shape[1] + i
    high_warming = _warming(tables.arrhenius, r, inverse_T)
    Pr_warming = _warming(tables.arrhenius, slot, inverse_T) - high_warming
    high = arrhenius(tables.arrhenius, r, log_T, inverse_T)
    Pr = reduced_pressure(load(lanes.constants, slot), high, load(lanes.colliders, int(row[1])))
    F_warming, F_theta = splat(0.0), splat(0.0)
    if row[2] == 1.0:
        F_warming, F_theta = _troe_derivatives(row, log(Pr), Pr_warming, T, inverse_T)
    elif row[2] == 2.0:
        F_warming, F_theta = _sri_derivatives(row, log(Pr), Pr_warming, T, inverse_T)
    limit = 1.0 / (1.0 + Pr)
    share = limit - row[3]  # d(ln Pr - ln(1 + Pr))/d ln Pr; less one for k_0 in place of k_inf
    base = fma(row[3], Pr_warming, high_warming)
    store(work.warming, r, fma(share, Pr_warming, base + F_warming))
    store(work.theta, r, share + F_theta)


@kernel
def _troe_derivatives(row, log_Pr, Pr_warming, T, inverse_T):
    """d ln F/dT and d ln F/d ln M of ln F = ln F_cent / (1 + f_1^2)."""
    center = troe_center(row, T, inverse_T)
    slope = (row[4] - 1.0) * row[5] * exp(-row[5] * T) - row[4] * row[6] * exp(-row[6] * T)
    if row[7] != 0.0:
        slope = fma(row[7] * inverse_T * inverse_T, exp(-row[7] * inverse_T), slope)
    log_center = log(center)
    center_warming = slope / center
    f1, n = troe_argument(log_center * (1 / LOG_10), log_Pr * (1 / LOG_10))
    width = 1.0 / fma(f1, f1, 1.0)
    # f_1 = x/n with x = lg Pr - 0.4 - 0.67 lg F_cent and n = 0.75 - 1.27 lg F_cent - 0.14 x
    from_f1 = -2.0 * log_center * f1 * width * width / (n * LOG_10)
    by_Pr = fma(0.14, f1, 1.0)
    by_center = fma(1.27 - 0.14 * 0.67, f1, -0.67)
    warming = fma(from_f1, fma(by_Pr, Pr_warming, by_center * center_warming), center_warming * width)
    return warming, from_f1 * by_Pr


@kernel
def _sri_derivatives(row, log_Pr, Pr_warming, T, inverse_T):
    """d ln F/dT and d ln F/d ln M of ln F = ln d + e ln T + X ln(base), X = 1/(1 + lg(Pr)^2)."""
    base = sri_base(row, T, inverse_T)
    slope = row[4] * row[5] * inverse_T * inverse_T * exp(-row[5] * inverse_T) - row[6] * exp(-row[6] * T)
    lg = log_Pr * (1 / LOG_10)
    X = 1.0 / fma(lg, lg, 1.0)
    theta = -2.0 * lg * X * X * log(base) * (1 / LOG_10)
    return fma(theta, Pr_warming, fma(X, slope / base, row[8] * inverse_T)), theta


@kernel
def _progress_derivatives(tables, lanes, work, inverse_T):
    """dq/dT at fixed concentrations, and sum_j c_j dq/dc_j, of every reaction."""
    n_reactions, order = tables.order.shape[1], tables.order
    for k in range(tables.species.shape[0]):
        store(work.activity, k, (1.0 - load(lanes.h, k)) * inverse_T)
    total = load(lanes.pressure, 0) * inverse_T * (1.0 / GAS_CONSTANT)
    for r in range(n_reactions):
        warming, forward = load(work.warming, r), load(lanes.progress, r)
        slope, spread = warming * load(lanes.net, r), order[0, r] * forward
        if order[1, r] > 0.0:
            reverse, change = load(lanes.progress, n_reactions + r), splat(0.0)
            for i in range(tables.products.start[r], tables.products.start[r + 1]):
                change = fma(tables.products.factor[i], load(work.activity, tables.products.item[i]), change)
            for i in range(tables.reactants.start[r], tables.reactants.start[r + 1]):
                change = fma(-tables.reactants.factor[i], load(work.activity, tables.reactants.item[i]), change)
            slope, spread = fma(-reverse, change, slope), fma(-order[1, r], reverse, spread)
        s = tables.derivatives.set_of[r]
        if s >= 0:
            M = load(lanes.colliders, s)
            by_M = load(work.theta, r) * load(lanes.net, r) / M
            fixed = tables.default[s] * total
            store(work.theta, r, by_M)
            slope = fma(-by_M, fixed * inverse_T, slope)
            spread = fma(by_M, M - fixed, spread)
        store(work.slope, r, slope)
        store(work.spread, r, spread)


@kernel
def _dense_part(tables, lanes, work, volume, inverse_T):
    """Part that all entries of a row share, and the column of T."""
    m, production, matrix = tables.reactive.size, tables.production, work.matrix
    n = padded(m + 1)
    amount = splat(0.0)
    for k in range(tables.species.shape[0]):
        amount = amount + load(lanes.amounts, k)
    for k in range(m):
        slope, spread = splat(0.0), splat(0.0)
        for i in range(production.start[k], production.start[k + 1]):
            r, factor = production.item[i], production.factor[i]
            slope = fma(factor, load(work.slope, r), slope)
            spread = fma(factor, load(work.spread, r), spread)
        excess = fma(-spread, volume, load(lanes.f, k))
        store(matrix, k * n + m, fma(slope, volume, excess * inverse_T))
        common = excess / amount
        for j in range(m):
            store(matrix, k * n + j, common)


@kernel
def _sparse_part(tables, lanes, work):
    """Add d omega_k/d c_j."""
    n, matrix, terms = padded(tables.reactive.size + 1), work.matrix, tables.derivatives.terms
    for j in range(tables.reactive.size):
        store(work.inverse, j, 1.0 / load(lanes.concentrations, tables.reactive[j]))
    for e in range(tables.derivatives.row.size):
        total = splat(0.0)
        for i in range(terms.start[e], terms.start[e + 1]):
            total = fma(terms.factor[i], load(lanes.progress, terms.item[i]), total)
        j = tables.derivatives.column[e]
        at = tables.derivatives.row[e] * n + j
        store(matrix, at, fma(total, load(work.inverse, j), load(matrix, at)))
    collision, partners = tables.derivatives.set_terms, tables.derivatives.partners
    for e in range(tables.derivatives.set_row.size):
        total = splat(0.0)
        for i in range(collision.start[e], collision.start[e + 1]):
            total = fma(collision.factor[i], load(work.theta, collision.item[i]), total)
        s, row = tables.derivatives.set_number[e], tables.derivatives.set_row[e] * n
        for i in range(partners.start[s], partners.start[s + 1]):
            at = row + partners.item[i]
            store(matrix, at, fma(partners.factor[i], total, load(matrix, at)))


@kernel
def _temperature_row(tables, lanes, work, T, inverse_T, cp):
    """Derivatives of dT/dt = - T sum (h/RT)_k f_k / sum (c_p/R)_k n_k."""
    m, matrix = tables.reactive.size, work.matrix
    n = padded(m + 1)
    inverse_cp = 1.0 / cp
    warming = load(lanes.f, m)
    for j in range(m):
        total = splat(0.0)
        for k in range(m):
            total = fma(load(lanes.h, tables.reactive[k]), load(matrix, k * n + j), total)
        total = fma(total, T, warming * load(lanes.cp, tables.reactive[j]))
        store(matrix, m * n + j, -total * inverse_cp)
    total = splat(0.0)
    for k in range(m):
        at = tables.reactive[k]
        total = fma(load(lanes.h, at) * T, load(matrix, k * n + m), total)
        total = fma(load(lanes.cp, at), load(lanes.f, k), total)
    if tables.species.shape[1] > PLAIN:
        total = fma(warming, _wide_heat_capacity_slope(tables, lanes, T), total)
    else:
        total = fma(warming, _heat_capacity_slope(tables, lanes, T), total)
    store(matrix, m * n + m, -total * inverse_cp)


@kernel
def _heat_capacity_slope(tables, lanes, T):
    """d(sum n_k c_p,k/R)/dT of the mixture."""
    total = splat(0.0)
    for k in range(tables.species.shape[0]):
        a = tables.species[k]
        low = a[0] >= T
        a1, a2 = select(low, a[2], a[9]), select(low, a[3], a[10])
        a3, a4 = select(low, a[4], a[11]), select(low, a[5], a[12])
        total = fma(load(lanes.amounts, k), fma(fma(fma(4.0 * a4, T, 3.0 * a3), T, 2.0 * a2), T, a1), total)
    return total


@kernel
def _wide_heat_capacity_slope(tables, lanes, T):
    """The same for tables with further ranges and powers of T below zero."""
    total = splat(0.0)
    for k in range(tables.species.shape[0]):
        _, a1, a2, a3, a4, _, c, d = one_species(tables.species[k], T)
        slope = fma(fma(fma(4.0 * a4, T, 3.0 * a3), T, 2.0 * a2), T, a1) - (2.0 * c / T + d) / (T * T)
        total = fma(load(lanes.amounts, k), slope, total)
    return total
