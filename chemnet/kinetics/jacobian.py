"""Analytic Jacobian of `rates.right_hand_side`, for W cells side by side.

With A_kj = d omega_k/d c_j at fixed temperature, S_k = sum_j c_j A_kj and N = sum n,

    d(dn_k/dt)/dn_j = A_kj + (dn_k/dt - S_k/rho) / N         (the density depends on every amount alike)
    d(dn_k/dt)/dT   = (d omega_k/dT at fixed c)/rho + (dn_k/dt - S_k/rho) / T

At a given volume the density is fixed and the pressure depends on every amount alike: d omega_k/d ln P then takes the
place of rho dn_k/dt - S_k.

A rate of progress is a product of powers of concentrations, so its derivative is the rate times the power over the
concentration: the entries of A are sums over rates that are at hand already. Where a rate depends on a collider set,
M = default (P/RT) + sum_j e_j c_j, the first part depends on T alone and counts as such. So does P/RT in the mole
fractions c_j RT/P of linear-Burke reactions.

Where an entry goes says `tables.layout` (`elimination.py`). In a matrix that is one dense block the part that a row's
entries share is added to each; in a sparse one it is the column of the total amount N.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba.extending import register_jitable
from numpy.typing import NDArray

from chemnet.gas.nasa import one_species
from chemnet.gas.polynomials import PLAIN
from chemnet.kinetics.elimination import places
from chemnet.kinetics.mechanism_tables import Tables
from chemnet.kinetics.rate_constants import total_concentration
from chemnet.kinetics.rate_slopes import rate_slopes
from chemnet.kinetics.rates import T_HIGHEST, T_LOWEST, heat_capacity, heat_content, scarcity
from chemnet.runtime.simd import aligned, fma, kernel, load, log, maximum, minimum, select, splat, store


class JacobianLanes(NamedTuple):
    """Working memory of one thread beside `Lanes`."""

    warming: NDArray[np.float64]  # (R) d ln k_f/dT [1/K] at fixed concentrations
    theta: NDArray[np.float64]  # (R) d ln k_f/d ln M
    law_warming: NDArray[np.float64]  # (laws) d ln k/dT [1/K] at fixed pressure
    law_theta: NDArray[np.float64]  # (laws) d ln k/d ln P
    activity: NDArray[np.float64]  # (K) d ln up/dT [1/K]
    slope: NDArray[np.float64]  # (R) dq/dT at fixed concentrations
    by_pressure: NDArray[np.float64]  # (R) dq/d ln P at fixed T and concentrations
    spread: NDArray[np.float64]  # (R) sum_j c_j dq/dc_j; at a given volume -dq/d ln P
    inverse: NDArray[np.float64]  # (m) 1/c
    own: NDArray[np.float64]  # (m + 1) diagonal of the Jacobian before it is factorised
    matrix: NDArray[np.float64]  # as `tables.layout` says


def new_jacobian_lanes(tables: Tables) -> JacobianLanes:
    """Memory for one thread."""
    K, R, m = len(tables.species), tables.order.shape[1], len(tables.reactive)
    laws = len(tables.rates.laws.reaction)
    return JacobianLanes(*map(aligned, (R, R, laws, laws, K, R, R, R, m, m + 1, places(tables.layout))))


@register_jitable
def padded(n: int) -> int:
    """The even number that follows n: room for n unknowns, the total amount, and a row that makes their number even."""
    return n + 2 - n % 2


@kernel
def jacobian(tables, lanes, work, y, volume, cp):
    """d(dn/dt, dT/dt)/d(n, T) into `work.matrix`; `right_hand_side` at the same y has just returned volume and cp."""
    T = maximum(T_LOWEST, minimum(T_HIGHEST, load(y, tables.reactive.size)))
    inverse_T = 1.0 / T
    rate_slopes(tables, lanes, work, T, log(T), inverse_T)
    _progress_derivatives(tables, lanes, work, inverse_T)
    _add_to_slopes_of_singular_rates(tables, lanes, work, inverse_T)
    _common_part(tables, lanes, work, volume, inverse_T)
    _sparse_part(tables, lanes, work)
    _singular_part(tables, lanes, work, inverse_T)
    _temperature_row(tables, lanes, work, T, inverse_T, cp)
    _total_row(tables, work)


@kernel
def _progress_derivatives(tables, lanes, work, inverse_T):
    """dq/dT at fixed concentrations, and sum_j c_j dq/dc_j, of every reaction."""
    n_reactions, order = tables.order.shape[1], tables.order
    for k in range(tables.species.shape[0]):
        store(work.activity, k, (1.0 - load(lanes.h, k)) * inverse_T)
    total = total_concentration(lanes, inverse_T)
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
            store(work.by_pressure, r, fma(by_M, fixed, load(work.by_pressure, r)))
        store(work.slope, r, slope)
        store(work.spread, r, spread)
    burke = tables.rates.burke
    for q in range(burke.reaction.size):
        spread = load(work.spread, burke.reaction[q])
        for i in range(burke.colliders.start[q], burke.colliders.start[q + 1]):
            spread = spread + load(lanes.progress, 2 * n_reactions + np.int64(i))
        store(work.spread, burke.reaction[q], spread)
    if tables.held.volume == 1.0:
        for r in range(n_reactions):
            store(work.spread, r, -load(work.by_pressure, r))


@kernel
def _excess_of_scarce(tables, lanes, i, inverse_T):
    """Rate of progress whose power of species i of `orders` is 1 in place of p < 1 since it is scarce, else zero."""
    c, r = load(lanes.concentrations, tables.orders.item[i]), tables.derivatives.singular_of[i]
    return select(c < scarcity(lanes, inverse_T), load(lanes.progress, r), 0.0)


@kernel
def _add_to_slopes_of_singular_rates(tables, lanes, work, inverse_T):
    """What is scarce depends on the density: the parts of dq/dT and of sum_j c_j dq/dc_j that come with it."""
    for i in range(tables.orders.item.size):
        if tables.orders.factor[i] < 1.0:
            r = tables.derivatives.singular_of[i]
            excess = _excess_of_scarce(tables, lanes, i, inverse_T) * (1.0 - tables.orders.factor[i])
            store(work.slope, r, fma(excess, inverse_T, load(work.slope, r)))
            store(work.spread, r, load(work.spread, r) + excess)


@kernel
def _singular_part(tables, lanes, work, inverse_T):
    """Add the parts of d omega_k/d c_j that come with powers below one of what is scarce."""
    singular = tables.derivatives.singular
    for i in range(tables.orders.item.size):
        j = tables.derivatives.singular_column[i]
        if tables.orders.factor[i] < 1.0 and j >= 0:
            slope = _excess_of_scarce(tables, lanes, i, inverse_T) * load(work.inverse, j)
            for e in range(singular.start[i], singular.start[i + 1]):
                at = singular.item[e]
                store(work.matrix, at, fma(singular.factor[e], slope, load(work.matrix, at)))


@kernel
def _common_part(tables, lanes, work, volume, inverse_T):
    """Part that all entries of a row share, and the column of T; all else is zero then."""
    m, production, matrix, layout = tables.reactive.size, tables.production, work.matrix, tables.layout
    for at in range(layout.block + layout.total * layout.order**2):
        store(matrix, at, 0.0)
    amount = splat(0.0)
    for k in range(tables.species.shape[0]):
        amount = amount + load(lanes.amounts, k)
    for k in range(m):
        slope, spread = splat(0.0), splat(0.0)
        for i in range(production.start[k], production.start[k + 1]):
            r, factor = production.item[i], production.factor[i]
            slope = fma(factor, load(work.slope, r), slope)
            spread = fma(factor, load(work.spread, r), spread)
        excess = fma(-spread, volume, load(lanes.f, k) * (1.0 - tables.held.volume))
        store(matrix, layout.of_T[k], fma(slope, volume, excess * inverse_T))
        common = excess / amount
        if layout.total > 0:
            store(matrix, layout.of_total[k], common)
        else:
            for j in range(m):
                store(matrix, layout.block + k * layout.order + j, common)


@kernel
def _sparse_part(tables, lanes, work):
    """Add d omega_k/d c_j."""
    matrix, terms = work.matrix, tables.derivatives.terms
    for j in range(tables.reactive.size):
        store(work.inverse, j, 1.0 / load(lanes.concentrations, tables.reactive[j]))
    for e in range(tables.derivatives.at.size):
        total = splat(0.0)
        for i in range(terms.start[e], terms.start[e + 1]):
            total = fma(terms.factor[i], load(lanes.progress, terms.item[i]), total)
        at = tables.derivatives.at[e]
        store(matrix, at, fma(total, load(work.inverse, tables.derivatives.column[e]), load(matrix, at)))
    collision, partners, next_one = tables.derivatives.set_terms, tables.derivatives.partners, 0
    for e in range(tables.derivatives.set_number.size):
        total = splat(0.0)
        for i in range(collision.start[e], collision.start[e + 1]):
            total = fma(collision.factor[i], load(work.theta, collision.item[i]), total)
        s = tables.derivatives.set_number[e]
        for i in range(partners.start[s], partners.start[s + 1]):
            at = tables.derivatives.set_at[next_one]
            next_one += 1
            store(matrix, at, fma(partners.factor[i], total, load(matrix, at)))


@kernel
def _temperature_row(tables, lanes, work, T, inverse_T, cp):
    """Derivatives of dT/dt = - T sum (h/RT)_k f_k / sum (c_p/R)_k n_k."""
    m, matrix, layout = tables.reactive.size, work.matrix, tables.layout
    first, order = layout.sparse, layout.order
    left, right = int(layout.lower[m]), layout.block + (m - first) * order - first  # places of columns of this row
    inverse_cp = tables.held.heating / cp
    warming = load(lanes.f, m)
    _add_sparse_heat(tables, lanes, work, left, right)
    for j in range(m):
        at = (left if j < first else right) + j
        total = load(matrix, at) if layout.total > 0 else splat(0.0)
        if j >= first:
            for k in range(first, m):
                entry = layout.block + (k - first) * order + j - first
                total = fma(heat_content(tables, lanes, tables.reactive[k]), load(matrix, entry), total)
        total = fma(total, T, warming * heat_capacity(tables, lanes, tables.reactive[j]))
        store(matrix, at, -total * inverse_cp)
    total = splat(0.0)
    for k in range(m):
        at = tables.reactive[k]
        total = fma(heat_content(tables, lanes, at) * T, load(matrix, layout.of_T[k]), total)
        total = fma(heat_capacity(tables, lanes, at), load(lanes.f, k), total)
    if tables.species.shape[1] > PLAIN:
        total = fma(warming, _wide_heat_capacity_slope(tables, lanes, T), total)
    else:
        total = fma(warming, _heat_capacity_slope(tables, lanes, T), total)
    store(matrix, layout.diagonal[m], -total * inverse_cp)
    if layout.total > 0:
        total = splat(0.0)
        for k in range(m):
            total = fma(heat_content(tables, lanes, tables.reactive[k]), load(matrix, layout.of_total[k]), total)
        store(matrix, layout.of_total[m], -(total * T) * inverse_cp)


@kernel
def _add_sparse_heat(tables, lanes, work, left, right):
    """Add sum_k (h/RT)_k J_kj of the entries outside the block to the row of T."""
    matrix, layout = work.matrix, tables.layout
    for k in range(tables.reactive.size * layout.total):
        h = heat_content(tables, lanes, tables.reactive[k])
        for e in range(layout.lower[k], layout.lower[k + 1]):
            _add_to(matrix, left + layout.column[e], h * load(matrix, e))
        if k < layout.sparse:
            _add_to(matrix, left + k, h * load(matrix, layout.diagonal[k]))
            for e in range(int(layout.upper[k]), int(layout.upper[k + 1]) - 2):
                j = layout.column[e]
                _add_to(matrix, (left if j < layout.sparse else right) + j, h * load(matrix, e))


@kernel
def _add_to(a, at, value):
    store(a, at, load(a, at) + value)


@kernel
def _total_row(tables, work):
    """Row of the total amount N: sum n - N = 0."""
    m, matrix, layout = tables.reactive.size, work.matrix, tables.layout
    if layout.total > 0:
        left, right = int(layout.lower[m + 1]), layout.block + (m + 1 - layout.sparse) * layout.order
        for j in range(layout.sparse):
            store(matrix, left + j, 1.0)
        for j in range(m - layout.sparse):
            store(matrix, right + j, 1.0)
        store(matrix, layout.diagonal[m + 1], -1.0)


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
