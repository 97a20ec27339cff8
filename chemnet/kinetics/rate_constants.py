"""Forward rate constants of W cells side by side; the formulas are those of Cantera, and so is what lies beyond a fit.

Below and above their pressure levels PLOG rates are those of the nearest one. Chebyshev rates are extrapolated.
"""

from __future__ import annotations

from chemnet.gas.state import GAS_CONSTANT
from chemnet.runtime.simd import (
    absolute,
    everywhere,
    exp,
    fma,
    kernel,
    load,
    log,
    maximum,
    minimum,
    rare_kernel,
    select,
    splat,
    store,
)

LOG_10 = 2.302585092994046
TINY = 1e-90  # [kmol/m3] stands for a concentration of zero, so that rates may be divided by it
TINY_RATIO = 1e-290


@kernel
def rate_constants(tables, lanes, T, log_T, inverse_T):
    """Forward rate constants into `lanes.constants` with all that multiplies them: fall-off, colliders, sign."""
    rates = tables.rates
    total = total_concentration(lanes, inverse_T)
    for s in range(tables.default.size):
        M = total * tables.default[s]
        for i in range(tables.colliders.start[s], tables.colliders.start[s + 1]):
            M = fma(tables.colliders.factor[i], load(lanes.concentrations, tables.colliders.item[i]), M)
        store(lanes.colliders, s, select(absolute(M) > TINY, M, splat(TINY)))
    for i in range(rates.arrhenius.shape[0]):
        store(lanes.constants, i, arrhenius(rates.arrhenius, i, log_T, inverse_T))
    if rates.laws.reaction.size > 0:
        _laws(rates, lanes, total, T, log_T, inverse_T)
    for i in range(rates.falloff.shape[0]):
        _falloff(tables, lanes, i, T, log_T, inverse_T)
    for i in range(rates.blowers_masel.reaction.size):
        _activate(rates.blowers_masel, lanes, i, T, inverse_T)
    for i in range(rates.three_body.item.size):
        r, M = rates.three_body.item[i], load(lanes.colliders, int(rates.three_body.factor[i]))
        store(lanes.constants, r, load(lanes.constants, r) * M)
    for i in range(rates.sign.item.size):
        r = rates.sign.item[i]
        store(lanes.constants, r, load(lanes.constants, r) * rates.sign.factor[i])


@kernel
def total_concentration(lanes, inverse_T):
    """P/RT [kmol/m3]."""
    return load(lanes.pressure, 0) * inverse_T * (1.0 / GAS_CONSTANT)


@kernel
def arrhenius(rows, i, log_T, inverse_T):
    """|A| T^b exp(-Ea/RT) of row i."""
    if rows[i, 1] == 0.0 and rows[i, 2] == 0.0:
        return splat(rows[i, 3])
    return exp(fma(rows[i, 1], log_T, fma(-rows[i, 2], inverse_T, rows[i, 0])))


@kernel
def activation(table, lanes, i, T):
    """Activation energy of Blowers and Masel over R [K], and its slope with the reaction's enthalpy H over R.

    0 where H <= -4 E_0, H where H > 4 E_0, else (w + H/2) (v - 2 w + H)^2/(v^2 - 4 w^2 + H^2).
    """
    H = splat(0.0)
    for j in range(table.change.start[i], table.change.start[i + 1]):
        H = fma(table.change.factor[j], load(lanes.h, table.change.item[j]), H)
    H, E0, w = H * T, table.energy[i, 0], table.energy[i, 1]
    half, base, below = fma(0.5, H, splat(w)), H + table.energy[i, 2], fma(H, H, splat(table.energy[i, 3]))
    between = half * base * base / below
    slope = fma(base, fma(0.5, base, 2.0 * half), -2.0 * H * between) / below
    energy = select(H > 4.0 * E0, H, between)
    slope = select(H > 4.0 * E0, splat(1.0), slope)
    return select(H <= -4.0 * E0, splat(0.0), energy), select(H <= -4.0 * E0, splat(0.0), slope)


@rare_kernel
def _activate(table, lanes, i, T, inverse_T):
    """Multiply by exp(-E_a/RT) of Blowers and Masel."""
    r, energy = table.reaction[i], activation(table, lanes, i, T)[0]
    store(lanes.constants, r, load(lanes.constants, r) * exp(-energy * inverse_T))


# ---- falloff


@kernel
def reduced_pressure(low, high, M):
    """k_0 M / k_inf, kept above zero."""
    return maximum(TINY_RATIO, low * M / high)


@kernel
def is_troe(row):
    """True where ln F = ln F_cent / (1 + f_1^2), of Troe or of Tsang."""
    return row[2] >= 2.0


@rare_kernel
def _tsang_center(row, T):
    """F_cent = a + b T of Tsang's formula; row: a, b from column 4."""
    return maximum(TINY_RATIO, fma(row[5], T, splat(row[4])))


@kernel
def falloff_center(row, T, inverse_T):
    """F_cent of Tsang's or of Troe's formula; the row of the latter: a, 1/T3, 1/T1, T2 (0 for none) from column 4."""
    if row[2] == 3.0:
        return _tsang_center(row, T)
    center = fma(1.0 - row[4], exp(-row[5] * T), row[4] * exp(-row[6] * T))
    if row[7] != 0.0:
        center = center + exp(-row[7] * inverse_T)
    return maximum(TINY_RATIO, center)


@kernel
def troe_argument(log_center, log_Pr):
    """f_1 of Troe's formula, F = F_cent^(1/(1 + f_1^2)), and its denominator; decimal logarithms."""
    x = log_Pr + fma(-0.67, log_center, -0.4)
    n = fma(-0.14, x, fma(-1.27, log_center, 0.75))
    return x / n, n


@kernel
def sri_base(row, T, inverse_T):
    """a exp(-b/T) + exp(-T/c) of the SRI formula; row: a, b, 1/c, d, e from column 4."""
    return maximum(TINY_RATIO, fma(row[4], exp(-row[5] * inverse_T), exp(-row[6] * T)))


@kernel
def _blend(row, Pr, T, log_T, inverse_T):
    """F/(1 + Pr)."""
    blend = 1.0 / (1.0 + Pr)
    if is_troe(row):
        log_center = log(falloff_center(row, T, inverse_T)) * (1 / LOG_10)
        f1, _ = troe_argument(log_center, log(Pr) * (1 / LOG_10))
        blend = blend * exp(log_center * LOG_10 / fma(f1, f1, 1.0))
    elif row[2] == 1.0:
        log_Pr = log(Pr) * (1 / LOG_10)
        power = 1.0 / fma(log_Pr, log_Pr, 1.0)
        blend = blend * row[7] * exp(fma(row[8], log_T, power * log(sri_base(row, T, inverse_T))))
    return blend


@kernel
def _falloff(tables, lanes, i, T, log_T, inverse_T):
    """k = k_inf Pr/(1 + Pr) F, or k_0/(1 + Pr) F for a chemically activated reaction, in place of k_inf."""
    row = tables.rates.falloff[i]
    r = int(row[0])
    low, high = load(lanes.constants, tables.order.shape[1] + i), load(lanes.constants, r)
    Pr = reduced_pressure(low, high, load(lanes.colliders, int(row[1])))
    blend = _blend(row, Pr, T, log_T, inverse_T)
    store(lanes.constants, r, high * Pr * blend if row[3] == 0.0 else low * blend)


# ---- laws of pressure


@rare_kernel
def _laws(rates, lanes, total, T, log_T, inverse_T):
    """Rate constants that depend on pressure: of reactions, and of the colliders of linear-Burke reactions."""
    laws, burke = rates.laws, rates.burke
    for law in range(laws.reaction.size):
        store(lanes.law_pressure, law, load(lanes.pressure, 1))
    for q in range(burke.reaction.size):
        _collider_pressures(burke, lanes, q, total, log_T, inverse_T)
    n_plog, n_chebyshev = laws.plog.levels.start.size - 1, laws.chebyshev.scale.shape[0]
    for i in range(n_plog):
        store(lanes.law, i, _plog(laws.plog, i, load(lanes.law_pressure, i), log_T, inverse_T))
    for i in range(n_chebyshev):
        lg = chebyshev(laws.chebyshev, i, load(lanes.law_pressure, n_plog + i), inverse_T)[0]
        store(lanes.law, n_plog + i, exp(lg * LOG_10))
    for i in range(laws.troe.falloff.shape[0]):
        law = n_plog + n_chebyshev + i
        high, Pr = troe_limits(laws.troe, i, load(lanes.law_pressure, law), log_T, inverse_T)
        store(lanes.law, law, high * Pr * _blend(laws.troe.falloff[i], Pr, T, log_T, inverse_T))
    for law in range(laws.reaction.size):
        if laws.reaction[law] >= 0:
            store(lanes.constants, laws.reaction[law], load(lanes.law, law))
    for q in range(burke.reaction.size):
        store(lanes.constants, burke.reaction[q], _mixed(burke, lanes, q, 1.0 / total))


@kernel
def level_weight(plog, level, log_P):
    """Share of a PLOG pressure level in ln k: a hat function of ln P, constant beyond the last level."""
    row = plog.level[level]
    rising = fma(log_P - row[2], row[0], 1.0)
    falling = fma(row[2] - log_P, row[1], 1.0)
    return maximum(0.0, minimum(1.0, minimum(rising, falling)))


@kernel
def _plog(plog, i, log_P, log_T, inverse_T):
    """Rate constant that is interpolated in ln P between the levels of a law."""
    log_rate = splat(0.0)
    for level in range(plog.levels.start[i], plog.levels.start[i + 1]):
        share = level_weight(plog, level, log_P)
        if everywhere(share <= 0.0):
            continue
        total = splat(0.0)
        for j in range(plog.rates.start[level], plog.rates.start[level + 1]):
            rate = arrhenius(plog.arrhenius, plog.rates.item[j], log_T, inverse_T)
            total = fma(plog.rates.factor[j], rate, total)
        log_rate = fma(share, log(maximum(TINY_RATIO, total)), log_rate)
    return exp(log_rate)


@kernel
def chebyshev(table, i, log_P, inverse_T):
    """lg k of a law and its slopes with 1/T and with ln P, by Clenshaw's recurrence in lg P inside that in 1/T."""
    scale, n, m = table.scale[i], table.size[i, 0], table.size[i, 1]
    x, y = fma(scale[0], inverse_T, scale[1]), fma(scale[2], log_P, scale[3])
    value, slope_x, slope_y = splat(0.0), splat(0.0), splat(0.0)
    last, last_x, last_y = splat(0.0), splat(0.0), splat(0.0)
    for row in range(n - 1, -1, -1):
        a, slope, before, slope_before = splat(0.0), splat(0.0), splat(0.0), splat(0.0)
        for column in range(m - 1, 0, -1):
            here = fma(2.0 * y, a, table.coefficients[i, row * m + column] - before)
            slope, slope_before = fma(2.0 * y, slope, fma(2.0, a, -slope_before)), slope
            a, before = here, a
        slope = fma(y, slope, a - slope_before)
        a = fma(y, a, table.coefficients[i, row * m] - before)
        factor = x if row == 0 else 2.0 * x
        of_x = value if row == 0 else 2.0 * value
        slope_x, last_x = fma(factor, slope_x, of_x - last_x), slope_x
        slope_y, last_y = fma(factor, slope_y, slope - last_y), slope_y
        value, last = fma(factor, value, a - last), value
    return value, slope_x * scale[0], slope_y * scale[2]


@kernel
def troe_limits(table, i, log_P, log_T, inverse_T):
    """High-pressure limit and reduced pressure of a collider's falloff, at a concentration of P/RT."""
    low, high = (arrhenius(table.limits, 2 * i, log_T, inverse_T), arrhenius(table.limits, 2 * i + 1, log_T, inverse_T))
    return high, reduced_pressure(low, high, exp(log_P) * inverse_T * (1.0 / GAS_CONSTANT))


# ---- linear-Burke: k = sum_i k_i(P_i) eps_i X_i / eps, eps = sum_i eps_i X_i, P_i = P eps / eps_i


@kernel
def _collider_pressures(burke, lanes, q, total, log_T, inverse_T):
    """Efficiencies and their mean, and the pressures at which the laws of a reaction's colliders are taken."""
    mean, inverse_total = splat(1.0), 1.0 / total
    first, end = burke.colliders.start[q], burke.colliders.start[q + 1]
    for i in range(first, end):
        efficiency = arrhenius(burke.efficiency, i, log_T, inverse_T)
        share = load(lanes.concentrations, burke.colliders.item[i]) * inverse_total
        mean = fma(efficiency - 1.0, share, mean)
        store(lanes.efficiency, i, efficiency)
    mean = maximum(TINY_RATIO, mean)
    store(lanes.mean_efficiency, q, mean)
    log_P = load(lanes.pressure, 1) + log(mean)
    store(lanes.law_pressure, burke.law[q], log_P)
    for i in range(first, end):
        law = int(burke.colliders.factor[i])
        if law >= 0:
            store(lanes.law_pressure, law, log_P - log(load(lanes.efficiency, i)))


@kernel
def collider_law(burke, lanes, q, i):
    """Rate constant of a collider: its own, or that of M."""
    law = int(burke.colliders.factor[i])
    return load(lanes.law, law if law >= 0 else burke.law[q])


@kernel
def _mixed(burke, lanes, q, inverse_total):
    """Rate constant of a linear-Burke reaction."""
    rest, gain = splat(1.0), splat(0.0)
    for i in range(burke.colliders.start[q], burke.colliders.start[q + 1]):
        share = load(lanes.concentrations, burke.colliders.item[i]) * inverse_total
        rest = rest - share
        gain = fma(share * load(lanes.efficiency, i), collider_law(burke, lanes, q, i), gain)
    return fma(rest, load(lanes.law, burke.law[q]), gain) / load(lanes.mean_efficiency, q)
