"""Net production rates of W cells side by side: thermodynamics, rate constants, rates of progress.

The state of a cell is the amounts n_k = Y_k/W_k [kmol/kg] of the reactive species and T, at constant pressure. Every
function works on all lanes at once and on the arrays of `Lanes`, whose entries are vectors (`simd.py`).
"""

from __future__ import annotations

from typing import NamedTuple

import cantera as ct
import numpy as np
from numpy.typing import NDArray

from chemnet.gas.nasa import one_species
from chemnet.gas.polynomials import FURTHER, PLAIN, STRIDE
from chemnet.gas.state import GAS_CONSTANT
from chemnet.kinetics.mechanism_tables import Tables
from chemnet.runtime.simd import (
    W,
    absolute,
    aligned,
    exp,
    fma,
    kernel,
    load,
    log,
    maximum,
    minimum,
    select,
    splat,
    store,
)

_STANDARD_PRESSURE = ct.one_atm
LOG_10 = 2.302585092994046
T_LOWEST, T_HIGHEST = 50.0, 30000.0  # [K] rates are evaluated at the nearest of the two beyond them
_TINY = 1e-90  # [kmol/m3] stands for a concentration of zero, so that rates may be divided by it
_TINY_RATIO = 1e-290
_MAX_EXPONENT = 340.0


class Lanes(NamedTuple):
    """Working memory of one thread; each array is flat and holds one vector per entry."""

    pressure: NDArray[np.float64]  # P [Pa], its logarithm
    amounts: NDArray[np.float64]  # (K) n_k [kmol/kg]; those of inert species are set once per cell
    concentrations: NDArray[np.float64]  # (K) [kmol/m3]
    cp: NDArray[np.float64]  # (K) c_p/R
    h: NDArray[np.float64]  # (K) h/(RT)
    up: NDArray[np.float64]  # (K) exp(g/RT) RT/p0, up to what drops out of balanced reactions
    down: NDArray[np.float64]  # (K) 1 / up
    colliders: NDArray[np.float64]  # (collider sets) concentration of colliders [kmol/m3]
    constants: NDArray[np.float64]  # (R + falloffs) rate constants
    progress: NDArray[np.float64]  # (2 R) forward and reverse rates of progress [kmol/m3/s]
    net: NDArray[np.float64]  # (R) their difference
    f: NDArray[np.float64]  # (m + 1) dn/dt [kmol/kg/s], dT/dt [K/s]


def new_lanes(tables: Tables) -> Lanes:
    """Memory for one thread."""
    K, m = len(tables.species), len(tables.reactive)
    R, slots = tables.order.shape[1], len(tables.arrhenius)
    return Lanes(*map(aligned, (2, K, K, K, K, K, K, len(tables.default), slots, 2 * R, R, m + 1)))


@kernel
def set_state(tables, lanes, y, state, lane):
    """Put a row [T, P, Y] into one lane of `lanes` and of the state y (m + 1)."""
    lanes.pressure[lane] = state[1]
    lanes.pressure[W + lane] = np.log(state[1])
    for k in range(tables.species.shape[0]):
        lanes.amounts[k * W + lane] = state[2 + k] / tables.species[k, 15]
    m = tables.reactive.size
    for j in range(m):
        y[j * W + lane] = lanes.amounts[tables.reactive[j] * W + lane]
    y[m * W + lane] = state[0]


@kernel
def right_hand_side(tables, lanes, y):
    """dn/dt and dT/dt at the state y (m + 1) into `lanes.f`; returns 1/rho [m3/kg] and the mixture's c_p/R [kmol/kg].

    dn_k/dt = omega_k / rho,  dT/dt = - T sum_k (h_k/RT) dn_k/dt / sum_k (c_p,k/R) n_k
    """
    m = tables.reactive.size
    T = maximum(T_LOWEST, minimum(T_HIGHEST, load(y, m)))
    log_T, inverse_T = log(T), 1.0 / T
    volume = _concentrations(tables, lanes, y, T)
    if tables.species.shape[1] > PLAIN:
        _wide_species_functions(tables, lanes, T, log_T, inverse_T)
    else:
        _species_functions(tables, lanes, T, log_T, inverse_T)
    _rate_constants(tables, lanes, T, log_T, inverse_T)
    _progress(tables, lanes)
    return volume, _derivatives(tables, lanes, T, volume)


@kernel
def _concentrations(tables, lanes, y, T):
    """Concentrations [kmol/m3] from amounts; returns the specific volume."""
    total = splat(0.0)
    for j in range(tables.reactive.size):
        store(lanes.amounts, tables.reactive[j], load(y, j))
    for k in range(tables.species.shape[0]):
        total = total + load(lanes.amounts, k)
    volume = GAS_CONSTANT * T * total / load(lanes.pressure, 0)
    density = 1.0 / volume
    for k in range(tables.species.shape[0]):
        c = load(lanes.amounts, k) * density
        store(lanes.concentrations, k, select(absolute(c) > _TINY, c, splat(_TINY)))
    return volume


@kernel
def _species_functions(tables, lanes, T, log_T, inverse_T):
    """c_p/R, h/RT and exp(+-g/RT) of every species; ranges are blended coefficient by coefficient."""
    log_unit = log_T + np.log(GAS_CONSTANT / _STANDARD_PRESSURE)
    for k in range(tables.species.shape[0]):
        a = tables.species[k]
        low = a[0] >= T
        a0, a1, a2 = select(low, a[1], a[8]), select(low, a[2], a[9]), select(low, a[3], a[10])
        a3, a4, a5 = select(low, a[4], a[11]), select(low, a[5], a[12]), select(low, a[6], a[13])
        a6 = select(low, a[7], a[14])
        store(lanes.cp, k, fma(fma(fma(fma(a4, T, a3), T, a2), T, a1), T, a0))
        warm = fma(fma(fma(a4 * 0.2, T, a3 * 0.25), T, a2 * (1 / 3)), T, a1 * 0.5)
        store(lanes.h, k, fma(warm, T, fma(a5, inverse_T, a0)))
        cold = fma(fma(fma(a4 * 0.05, T, a3 * (1 / 12)), T, a2 * (1 / 6)), T, a1 * 0.5)
        g = fma(a5 - a[16], inverse_T, fma(a0, 1.0 - log_T, -a6)) - cold * T
        exponent = maximum(-_MAX_EXPONENT, minimum(_MAX_EXPONENT, g + log_unit))
        store(lanes.up, k, exp(exponent))
        store(lanes.down, k, exp(-exponent))


@kernel
def _wide_species_functions(tables, lanes, T, log_T, inverse_T):
    """The same for tables with further ranges and powers of T below zero."""
    log_unit = log_T + np.log(GAS_CONSTANT / _STANDARD_PRESSURE)
    for k in range(tables.species.shape[0]):
        a = tables.species[k]
        a6 = select(a[0] >= T, a[7], a[14])
        for q in range(FURTHER, a.size, STRIDE):
            a6 = select(a[q] < T, a[q + 7], a6)
        a0, a1, a2, a3, a4, a5, c, d = one_species(a, T)
        c, d = c * (inverse_T * inverse_T), d * inverse_T
        store(lanes.cp, k, fma(fma(fma(fma(a4, T, a3), T, a2), T, a1), T, a0) + (c + d))
        warm = fma(fma(fma(a4 * 0.2, T, a3 * 0.25), T, a2 * (1 / 3)), T, a1 * 0.5)
        store(lanes.h, k, fma(warm, T, fma(a5, inverse_T, a0)) + fma(d, log_T, -c))
        cold = fma(fma(fma(a4 * 0.05, T, a3 * (1 / 12)), T, a2 * (1 / 6)), T, a1 * 0.5)
        g = fma(a5 - a[16], inverse_T, fma(a0, 1.0 - log_T, -a6)) - cold * T + fma(d, log_T + 1.0, c * -0.5)
        exponent = maximum(-_MAX_EXPONENT, minimum(_MAX_EXPONENT, g + log_unit))
        store(lanes.up, k, exp(exponent))
        store(lanes.down, k, exp(-exponent))


@kernel
def arrhenius(rows, i, log_T, inverse_T):
    """|A| T^b exp(-Ea/RT) of row i."""
    if rows[i, 1] == 0.0 and rows[i, 2] == 0.0:
        return splat(rows[i, 3])
    return exp(fma(rows[i, 1], log_T, fma(-rows[i, 2], inverse_T, rows[i, 0])))


@kernel
def _rate_constants(tables, lanes, T, log_T, inverse_T):
    """Forward rate constants with everything that multiplies them: fall-off, colliders, sign."""
    total = load(lanes.pressure, 0) * inverse_T * (1.0 / GAS_CONSTANT)
    for s in range(tables.default.size):
        M = total * tables.default[s]
        for i in range(tables.colliders.start[s], tables.colliders.start[s + 1]):
            M = fma(tables.colliders.factor[i], load(lanes.concentrations, tables.colliders.item[i]), M)
        store(lanes.colliders, s, select(absolute(M) > _TINY, M, splat(_TINY)))
    for i in range(tables.arrhenius.shape[0]):
        store(lanes.constants, i, arrhenius(tables.arrhenius, i, log_T, inverse_T))
    for i in range(tables.plog.reaction.size):
        store(lanes.constants, tables.plog.reaction[i], _plog(tables, lanes, i, log_T, inverse_T))
    for i in range(tables.falloff.shape[0]):
        _blend_falloff(tables, lanes, i, T, log_T, inverse_T)
    for i in range(tables.three_body.item.size):
        r, M = tables.three_body.item[i], load(lanes.colliders, int(tables.three_body.factor[i]))
        store(lanes.constants, r, load(lanes.constants, r) * M)
    for i in range(tables.sign.item.size):
        r = tables.sign.item[i]
        store(lanes.constants, r, load(lanes.constants, r) * tables.sign.factor[i])


@kernel
def level_weight(tables, lanes, level):
    """Share of a PLOG pressure level in ln k: a hat function of ln P, constant beyond the last level."""
    log_P, row = load(lanes.pressure, 1), tables.plog.level[level]
    rising = fma(log_P - row[2], row[0], 1.0)
    falling = fma(row[2] - log_P, row[1], 1.0)
    return maximum(0.0, minimum(1.0, minimum(rising, falling)))


@kernel
def level_rate(tables, level, log_T, inverse_T):
    """Sum of the rates that are given at one PLOG pressure level."""
    total = splat(0.0)
    for i in range(tables.plog.rates.start[level], tables.plog.rates.start[level + 1]):
        slot = tables.plog.rates.item[i]
        rate = arrhenius(tables.plog.arrhenius, slot, log_T, inverse_T)
        total = fma(tables.plog.rates.factor[i], rate, total)
    return maximum(_TINY_RATIO, total)


@kernel
def _plog(tables, lanes, i, log_T, inverse_T):
    """Rate constant that is interpolated in ln P between the levels of a reaction."""
    log_rate = splat(0.0)
    for level in range(tables.plog.levels.start[i], tables.plog.levels.start[i + 1]):
        share = level_weight(tables, lanes, level)
        log_rate = fma(share, log(level_rate(tables, level, log_T, inverse_T)), log_rate)
    return exp(log_rate)


@kernel
def reduced_pressure(low, high, M):
    """k_0 M / k_inf, kept above zero."""
    return maximum(_TINY_RATIO, low * M / high)


@kernel
def troe_center(row, T, inverse_T):
    """F_cent of Troe's formula; row: a, 1/T3, 1/T1, T2 (0 for none) from column 4."""
    center = fma(1.0 - row[4], exp(-row[5] * T), row[4] * exp(-row[6] * T))
    if row[7] != 0.0:
        center = center + exp(-row[7] * inverse_T)
    return maximum(_TINY_RATIO, center)


@kernel
def troe_argument(log_center, log_Pr):
    """f_1 of Troe's formula, F = F_cent^(1/(1 + f_1^2)), and its denominator; decimal logarithms."""
    x = log_Pr + fma(-0.67, log_center, -0.4)
    n = fma(-0.14, x, fma(-1.27, log_center, 0.75))
    return x / n, n


@kernel
def sri_base(row, T, inverse_T):
    """a exp(-b/T) + exp(-T/c) of the SRI formula; row: a, b, 1/c, d, e from column 4."""
    return maximum(_TINY_RATIO, fma(row[4], exp(-row[5] * inverse_T), exp(-row[6] * T)))


@kernel
def _blend_falloff(tables, lanes, i, T, log_T, inverse_T):
    """k = k_inf Pr/(1 + Pr) F, or k_0/(1 + Pr) F for a chemically activated reaction, in place of k_inf."""
    row = tables.falloff[i]
    r = int(row[0])
    low, high = load(lanes.constants, tables.order.shape[1] + i), load(lanes.constants, r)
    Pr = reduced_pressure(low, high, load(lanes.colliders, int(row[1])))
    blend = 1.0 / (1.0 + Pr)
    if row[2] == 1.0:
        log_center = log(troe_center(row, T, inverse_T)) * (1 / LOG_10)
        f1, _ = troe_argument(log_center, log(Pr) * (1 / LOG_10))
        blend = blend * exp(log_center * LOG_10 / fma(f1, f1, 1.0))
    elif row[2] == 2.0:
        log_Pr = log(Pr) * (1 / LOG_10)
        power = 1.0 / fma(log_Pr, log_Pr, 1.0)
        blend = blend * row[7] * exp(fma(row[8], log_T, power * log(sri_base(row, T, inverse_T))))
    store(lanes.constants, r, high * Pr * blend if row[3] == 0.0 else low * blend)


@kernel
def _progress(tables, lanes):
    """Forward and reverse rates of progress.

    k_r/k_f = exp(sum nu g/RT) (RT/p0)^(sum nu) is a product over the species, so that no reaction needs an exponential
    for its equilibrium constant.
    """
    n_reactions, c = tables.order.shape[1], lanes.concentrations
    for r in range(tables.n_reversible):
        forward = load(lanes.constants, r)
        reverse = forward
        for i in range(tables.reactants.start[r], tables.reactants.start[r + 1]):
            k = tables.reactants.item[i]
            forward = forward * load(c, k)
            reverse = reverse * load(lanes.down, k)
        for i in range(tables.products.start[r], tables.products.start[r + 1]):
            k = tables.products.item[i]
            reverse = reverse * (load(c, k) * load(lanes.up, k))
        store(lanes.progress, r, forward)
        store(lanes.progress, n_reactions + r, reverse)
        store(lanes.net, r, forward - reverse)
    for r in range(tables.n_reversible, tables.n_plain):
        forward = load(lanes.constants, r)
        for i in range(tables.reactants.start[r], tables.reactants.start[r + 1]):
            forward = forward * load(c, tables.reactants.item[i])
        store(lanes.progress, r, forward)
        store(lanes.net, r, forward)
    for r in range(tables.n_plain, n_reactions):
        _general_progress(tables, lanes, r)


@kernel
def _general_progress(tables, lanes, r):
    """The same with powers that are no whole numbers."""
    n_reactions, c = tables.order.shape[1], lanes.concentrations
    orders, products = tables.orders, tables.products
    exponent, q = splat(0.0), r - tables.n_plain
    for i in range(orders.start[q], orders.start[q + 1]):
        exponent = fma(orders.factor[i], log(maximum(_TINY, load(c, orders.item[i]))), exponent)
    forward = load(lanes.constants, r) * exp(exponent)
    store(lanes.progress, r, forward)
    store(lanes.net, r, forward)
    if products.start[r + 1] == products.start[r]:
        return
    exponent = splat(0.0)
    for i in range(orders.start[q], orders.start[q + 1]):
        exponent = fma(orders.factor[i], log(load(lanes.down, orders.item[i])), exponent)
    for i in range(products.start[r], products.start[r + 1]):
        k = products.item[i]
        exponent = fma(products.factor[i], log(maximum(_TINY, load(c, k)) * load(lanes.up, k)), exponent)
    reverse = load(lanes.constants, r) * exp(exponent)
    store(lanes.progress, n_reactions + r, reverse)
    store(lanes.net, r, forward - reverse)


@kernel
def _derivatives(tables, lanes, T, volume):
    """Sum the rates of progress into `lanes.f`; returns the mixture's c_p/R."""
    m, production = tables.reactive.size, tables.production
    heat = splat(0.0)
    for k in range(m):
        omega = splat(0.0)
        for i in range(production.start[k], production.start[k + 1]):
            omega = fma(production.factor[i], load(lanes.net, production.item[i]), omega)
        rate = omega * volume
        store(lanes.f, k, rate)
        heat = fma(load(lanes.h, tables.reactive[k]), rate, heat)
    cp = splat(0.0)
    for k in range(tables.species.shape[0]):
        cp = fma(load(lanes.cp, k), load(lanes.amounts, k), cp)
    store(lanes.f, m, -(T * heat) / cp)
    return cp
