"""Derivatives of the logarithms of rate constants with T, with the concentration of colliders, and with composition."""

from __future__ import annotations

import numpy as np

from chemnet.kinetics.rate_constants import (
    LOG_10,
    TINY_RATIO,
    activation,
    arrhenius,
    chebyshev,
    collider_law,
    falloff_center,
    is_troe,
    level_weight,
    reduced_pressure,
    sri_base,
    total_concentration,
    troe_argument,
    troe_limits,
)
from chemnet.runtime.simd import (
    absolute,
    everywhere,
    exp,
    fma,
    kernel,
    load,
    log,
    maximum,
    rare_kernel,
    select,
    splat,
    store,
)


@kernel
def rate_slopes(tables, lanes, work, T, log_T, inverse_T):
    """d ln k_f/dT and d ln k_f/d ln M of every reaction; of linear-Burke reactions also dq/d ln c of the colliders."""
    rates = tables.rates
    for r in range(tables.order.shape[1]):
        store(work.warming, r, _warming(rates.arrhenius, r, inverse_T))
        store(work.theta, r, splat(0.0))
        store(work.by_pressure, r, splat(0.0))
    for i in range(rates.three_body.item.size):
        store(work.theta, rates.three_body.item[i], splat(1.0))
    for i in range(rates.falloff.shape[0]):
        _falloff(tables, lanes, work, i, T, log_T, inverse_T)
    for i in range(rates.blowers_masel.reaction.size):
        _blowers_masel(rates.blowers_masel, lanes, work, i, T, inverse_T)
    if rates.laws.reaction.size > 0:
        _laws(rates.laws, lanes, work, tables.held.volume == 1.0, T, log_T, inverse_T)
    for q in range(rates.burke.reaction.size):
        _mixing(tables, lanes, work, q, inverse_T)


@kernel
def _warming(rows, i, inverse_T):
    """d ln k/dT of row i of Arrhenius parameters."""
    return fma(rows[i, 2], inverse_T, splat(rows[i, 1])) * inverse_T


@rare_kernel
def _blowers_masel(table, lanes, work, i, T, inverse_T):
    """Add -d(E_a/RT)/dT, with dH/dT = sum nu c_p."""
    energy, slope = activation(table, lanes, i, T)
    change = splat(0.0)
    for j in range(table.change.start[i], table.change.start[i + 1]):
        change = fma(table.change.factor[j], load(lanes.cp, table.change.item[j]), change)
    r = table.reaction[i]
    store(work.warming, r, fma(fma(energy, inverse_T, -slope * change), inverse_T, load(work.warming, r)))


# ---- falloff


@kernel
def _falloff(tables, lanes, work, i, T, log_T, inverse_T):
    row, rows = tables.rates.falloff[i], tables.rates.arrhenius
    r, slot = int(row[0]), tables.order.shape[1] + i
    high_warming = _warming(rows, r, inverse_T)
    Pr_warming = _warming(rows, slot, inverse_T) - high_warming
    high = arrhenius(rows, r, log_T, inverse_T)
    Pr = reduced_pressure(load(lanes.constants, slot), high, load(lanes.colliders, int(row[1])))
    warming, theta = _blend_slopes(row, Pr, high_warming, Pr_warming, T, inverse_T)
    store(work.warming, r, warming)
    store(work.theta, r, theta)


@kernel
def _blend_slopes(row, Pr, high_warming, Pr_warming, T, inverse_T):
    """Derivatives of ln k = ln k_inf + ln Pr - ln(1 + Pr) + ln F (chemically activated: ln k_0 - ln(1 + Pr) + ln F)."""
    F_warming, F_theta = splat(0.0), splat(0.0)
    if is_troe(row):
        F_warming, F_theta = _troe(row, log(Pr), Pr_warming, T, inverse_T)
    elif row[2] == 1.0:
        F_warming, F_theta = _sri(row, log(Pr), Pr_warming, T, inverse_T)
    share = 1.0 / (1.0 + Pr) - row[3]  # d(ln Pr - ln(1 + Pr))/d ln Pr; less one for k_0 in place of k_inf
    base = fma(row[3], Pr_warming, high_warming)
    return fma(share, Pr_warming, base + F_warming), share + F_theta


@kernel
def _center_slope(row, T, inverse_T):
    """dF_cent/dT."""
    if row[2] == 3.0:
        return splat(row[5])
    slope = (row[4] - 1.0) * row[5] * exp(-row[5] * T) - row[4] * row[6] * exp(-row[6] * T)
    if row[7] != 0.0:
        slope = fma(row[7] * inverse_T * inverse_T, exp(-row[7] * inverse_T), slope)
    return slope


@kernel
def _troe(row, log_Pr, Pr_warming, T, inverse_T):
    """d ln F/dT and d ln F/d ln M of ln F = ln F_cent / (1 + f_1^2)."""
    center = falloff_center(row, T, inverse_T)
    log_center = log(center)
    center_warming = select(center > TINY_RATIO, _center_slope(row, T, inverse_T) / center, splat(0.0))
    f1, n = troe_argument(log_center * (1 / LOG_10), log_Pr * (1 / LOG_10))
    width = 1.0 / fma(f1, f1, 1.0)
    # f_1 = x/n with x = lg Pr - 0.4 - 0.67 lg F_cent and n = 0.75 - 1.27 lg F_cent - 0.14 x
    from_f1 = -2.0 * log_center * f1 * width * width / (n * LOG_10)
    by_Pr = fma(0.14, f1, 1.0)
    by_center = fma(1.27 - 0.14 * 0.67, f1, -0.67)
    warming = fma(from_f1, fma(by_Pr, Pr_warming, by_center * center_warming), center_warming * width)
    return warming, from_f1 * by_Pr


@kernel
def _sri(row, log_Pr, Pr_warming, T, inverse_T):
    """d ln F/dT and d ln F/d ln M of ln F = ln d + e ln T + X ln(base), X = 1/(1 + lg(Pr)^2)."""
    base = sri_base(row, T, inverse_T)
    slope = row[4] * row[5] * inverse_T * inverse_T * exp(-row[5] * inverse_T) - row[6] * exp(-row[6] * T)
    lg = log_Pr * (1 / LOG_10)
    X = 1.0 / fma(lg, lg, 1.0)
    theta = -2.0 * lg * X * X * log(base) * (1 / LOG_10)
    return fma(theta, Pr_warming, fma(X, slope / base, row[8] * inverse_T)), theta


# ---- laws of pressure


@rare_kernel
def _laws(laws, lanes, work, at_volume, T, log_T, inverse_T):
    """d ln k/dT at fixed pressure and d ln k/d ln P of the laws; the latter of colliders, at a given volume of all."""
    n_plog, n_chebyshev = laws.plog.levels.start.size - 1, laws.chebyshev.scale.shape[0]
    for i in range(n_plog):
        _plog(laws, lanes, work, i, at_volume, log_T, inverse_T)
    for i in range(n_chebyshev):
        law = n_plog + i
        _, by_inverse_T, by_pressure = chebyshev(laws.chebyshev, i, load(lanes.law_pressure, law), inverse_T)
        store(work.law_warming, law, by_inverse_T * inverse_T * inverse_T * -LOG_10)
        store(work.law_theta, law, by_pressure * LOG_10)
    for i in range(laws.troe.falloff.shape[0]):
        law, limits = n_plog + n_chebyshev + i, laws.troe.limits
        _, Pr = troe_limits(laws.troe, i, load(lanes.law_pressure, law), log_T, inverse_T)
        high_warming = _warming(limits, 2 * i + 1, inverse_T)
        Pr_warming = _warming(limits, 2 * i, inverse_T) - high_warming - inverse_T
        warming, theta = _blend_slopes(laws.troe.falloff[i], Pr, high_warming, Pr_warming, T, inverse_T)
        store(work.law_warming, law, warming)
        store(work.law_theta, law, theta)
    for law in range(laws.reaction.size):
        r = laws.reaction[law]
        if r >= 0:
            store(work.warming, r, load(work.law_warming, law))
            store(work.by_pressure, r, load(work.law_theta, law) * load(lanes.net, r))


@kernel
def _plog(laws, lanes, work, i, at_volume, log_T, inverse_T):
    plog, log_P = laws.plog, load(lanes.law_pressure, i)
    warming, theta = splat(0.0), splat(0.0)
    for level in range(plog.levels.start[i], plog.levels.start[i + 1]):
        share = level_weight(plog, level, log_P)
        if everywhere(share <= 0.0):
            continue
        total, slope = splat(0.0), splat(0.0)
        for j in range(plog.rates.start[level], plog.rates.start[level + 1]):
            row = plog.rates.item[j]
            rate = arrhenius(plog.arrhenius, row, log_T, inverse_T) * plog.rates.factor[j]
            total = total + rate
            slope = fma(rate, _warming(plog.arrhenius, row, inverse_T), slope)
        total = maximum(TINY_RATIO, total)
        warming = fma(share, slope / total, warming)
        if at_volume or laws.reaction[i] < 0:
            theta = fma(_level_slope(plog, level, log_P), log(total), theta)
    store(work.law_warming, i, warming)
    store(work.law_theta, i, theta)


@kernel
def _level_slope(plog, level, log_P):
    """Slope of a level's share with ln P; at a level that towards higher pressures."""
    row = plog.level[level]
    rising = fma(log_P - row[2], row[0], 1.0)
    falling = fma(row[2] - log_P, row[1], 1.0)
    up = select((rising >= 0.0) & (rising < 1.0), splat(row[0]), splat(0.0))
    return up - select((falling > 0.0) & (falling <= 1.0), splat(row[1]), splat(0.0))


@rare_kernel
def _mixing(tables, lanes, work, q, inverse_T):
    """Of k = S/eps, S = sum_i k_i(P_i) eps_i X_i with X_i = c_i RT/P: d ln k/dT at fixed c, and dq/d ln c_i.

    The latter follow the rates of progress, and are of use in the same way.
    """
    burke, n_reactions = tables.rates.burke, tables.order.shape[1]
    r, of_M, first, end = burke.reaction[q], burke.law[q], burke.colliders.start[q], burke.colliders.start[q + 1]
    inverse_total, inverse_mean = 1.0 / total_concentration(lanes, inverse_T), 1.0 / load(lanes.mean_efficiency, q)
    rest, S, S_warming, S_theta, mean_warming = splat(1.0), splat(0.0), splat(0.0), splat(0.0), splat(0.0)
    for i in range(first, end):
        law = int(burke.colliders.factor[i])
        own = law if law >= 0 else of_M
        share = load(lanes.concentrations, burke.colliders.item[i]) * inverse_total
        part = share * load(lanes.efficiency, i)
        gain, change = part * load(lanes.law, own), _warming(burke.efficiency, i, inverse_T)
        theta = load(work.law_theta, own)
        rest, S, S_theta = rest - share, S + gain, fma(gain, theta, S_theta)
        # the efficiency weights the rate constant; where that is the collider's own, it also divides the pressure
        by_change = fma(-theta, change, change) if law >= 0 else change
        S_warming = fma(gain, load(work.law_warming, own) + by_change, S_warming)
        mean_warming = fma(part, change, mean_warming)
    mean_warming = mean_warming * inverse_mean
    gain = rest * load(lanes.law, of_M)
    S, S_theta = S + gain, fma(gain, load(work.law_theta, of_M), S_theta)
    S_warming = fma(gain, load(work.law_warming, of_M), fma(S_theta, mean_warming, S_warming))
    inverse_S = 1.0 / select(absolute(S) > TINY_RATIO, S, splat(TINY_RATIO))
    spread = splat(0.0)
    for i in range(first, end):
        efficiency = load(lanes.efficiency, i)
        share = load(lanes.concentrations, burke.colliders.item[i]) * inverse_total
        direct = fma(efficiency, collider_law(burke, lanes, q, i), -load(lanes.law, of_M))
        by_mean = (efficiency - 1.0) * inverse_mean * (S_theta - S)
        part = (direct + by_mean) * share * inverse_S
        spread = spread + part
        store(lanes.progress, 2 * n_reactions + np.int64(i), part * load(lanes.net, r))
    store(work.by_pressure, r, fma(S_theta, inverse_S, -spread) * load(lanes.net, r))
    store(work.warming, r, fma(S_warming, inverse_S, fma(spread, inverse_T, -mean_warming)))
