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
from chemnet.kinetics.rate_constants import TINY, rate_constants, total_concentration
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
T_LOWEST, T_HIGHEST = 50.0, 30000.0  # [K] rates are evaluated at the nearest of the two beyond them
_SCARCE = 1e-14  # mole fraction
_MAX_EXPONENT = 340.0


class Lanes(NamedTuple):
    """Working memory of one thread; each array is flat and holds one vector per entry."""

    pressure: NDArray[np.float64]  # P [Pa], its logarithm, 1/rho [m3/kg] where that is given
    amounts: NDArray[np.float64]  # (K) n_k [kmol/kg]; those of inert species are set once per cell
    concentrations: NDArray[np.float64]  # (K) [kmol/m3]
    cp: NDArray[np.float64]  # (K) c_p/R
    h: NDArray[np.float64]  # (K) h/(RT)
    up: NDArray[np.float64]  # (K) exp(g/RT) RT/p0, up to what drops out of balanced reactions
    down: NDArray[np.float64]  # (K) 1 / up
    colliders: NDArray[np.float64]  # (collider sets) concentration of colliders [kmol/m3]
    constants: NDArray[np.float64]  # (R + falloffs) rate constants
    law_pressure: NDArray[np.float64]  # (laws) ln P of the laws of pressure
    law: NDArray[np.float64]  # (laws) their rate constants
    efficiency: NDArray[np.float64]  # (colliders) of linear-Burke reactions
    mean_efficiency: NDArray[np.float64]  # (linear-Burke reactions)
    progress: NDArray[np.float64]  # (2 R + colliders) forward and reverse rates of progress [kmol/m3/s]; `rate_slopes`
    net: NDArray[np.float64]  # (R) their difference
    f: NDArray[np.float64]  # (m + 1) dn/dt [kmol/kg/s], dT/dt [K/s]


def new_lanes(tables: Tables) -> Lanes:
    """Memory for one thread."""
    K, m = len(tables.species), len(tables.reactive)
    R, rates = tables.order.shape[1], tables.rates
    laws, colliders, mixed = len(rates.laws.reaction), len(rates.burke.efficiency), len(rates.burke.reaction)
    of_rates = (len(tables.default), len(rates.arrhenius), laws, laws, colliders, mixed)
    return Lanes(*map(aligned, (3, K, K, K, K, K, K, *of_rates, 2 * R + colliders, R, m + 1)))


@kernel
def set_state(tables, lanes, y, state, lane):
    """Put a row [T, P, Y] into one lane of `lanes` and of the state y (m + 1)."""
    lanes.pressure[lane] = state[1]
    lanes.pressure[W + lane] = np.log(state[1])
    total = 0.0
    for k in range(tables.species.shape[0]):
        lanes.amounts[k * W + lane] = state[2 + k] / tables.species[k, 15]
        total += lanes.amounts[k * W + lane]
    lanes.pressure[2 * W + lane] = GAS_CONSTANT * state[0] * total / state[1]
    m = tables.reactive.size
    for j in range(m):
        y[j * W + lane] = lanes.amounts[tables.reactive[j] * W + lane]
    y[m * W + lane] = state[0]


@kernel
def right_hand_side(tables, lanes, y):
    """dn/dt and dT/dt at the state y (m + 1) into `lanes.f`; returns 1/rho [m3/kg] and the mixture's c_p/R [kmol/kg].

    dn_k/dt = omega_k / rho,  dT/dt = - T sum_k (h_k/RT) dn_k/dt / sum_k (c_p,k/R) n_k

    At a given volume u_k = h_k - RT and c_v,k = c_p,k - R take the places of h_k and c_p,k, here and in all that
    follows, and the pressure comes from the state. At a given temperature dT/dt = 0.
    """
    m = tables.reactive.size
    T = maximum(T_LOWEST, minimum(T_HIGHEST, load(y, m)))
    log_T, inverse_T = log(T), 1.0 / T
    volume = _concentrations(tables, lanes, y, T)
    if tables.species.shape[1] > PLAIN:
        _wide_species_functions(tables, lanes, T, log_T, inverse_T)
    else:
        _species_functions(tables, lanes, T, log_T, inverse_T)
    rate_constants(tables, lanes, T, log_T, inverse_T)
    _progress(tables, lanes, inverse_T)
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
    if tables.held.volume == 1.0:
        volume = load(lanes.pressure, 2)
        P = GAS_CONSTANT * T * total / volume
        store(lanes.pressure, 0, P)
        store(lanes.pressure, 1, log(maximum(P, 1e-300)))
    density = 1.0 / volume
    for k in range(tables.species.shape[0]):
        c = load(lanes.amounts, k) * density
        store(lanes.concentrations, k, select(absolute(c) > TINY, c, splat(TINY)))
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
def _progress(tables, lanes, inverse_T):
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
        _general_progress(tables, lanes, r, inverse_T)


@kernel
def scarcity(lanes, inverse_T):
    """Concentration [kmol/m3] below which a species is scarce, at 1/T [1/K]."""
    return _SCARCE * total_concentration(lanes, inverse_T)


@kernel
def _general_progress(tables, lanes, r, inverse_T):
    """The same with powers that are no whole numbers: zero without a species that the rate depends on, as in Cantera.

    A power below one, which may be negative, would be singular there: of what is scarce the rate is linear.
    """
    n_reactions, c = tables.order.shape[1], lanes.concentrations
    orders, products = tables.orders, tables.products
    exponent, share, q = splat(0.0), splat(1.0), r - tables.n_plain
    for i in range(orders.start[q], orders.start[q + 1]):
        concentration = load(c, orders.item[i])
        if orders.factor[i] < 1.0:
            least = scarcity(lanes, inverse_T)
            share = share * minimum(1.0, concentration / least)
        else:
            least = splat(TINY)
            share = select(concentration > least, share, 0.0)
        exponent = fma(orders.factor[i], log(maximum(least, concentration)), exponent)
    forward = load(lanes.constants, r) * exp(exponent) * share
    store(lanes.progress, r, forward)
    store(lanes.net, r, forward)
    if products.start[r + 1] == products.start[r]:
        return
    exponent = splat(0.0)
    for i in range(orders.start[q], orders.start[q + 1]):
        exponent = fma(orders.factor[i], log(load(lanes.down, orders.item[i])), exponent)
    for i in range(products.start[r], products.start[r + 1]):
        k = products.item[i]
        exponent = fma(products.factor[i], log(maximum(TINY, load(c, k)) * load(lanes.up, k)), exponent)
    reverse = load(lanes.constants, r) * exp(exponent)
    store(lanes.progress, n_reactions + r, reverse)
    store(lanes.net, r, forward - reverse)


@kernel
def heat_content(tables, lanes, k):
    """h_k/RT, at a given volume u_k/RT."""
    return load(lanes.h, k) - tables.held.volume


@kernel
def heat_capacity(tables, lanes, k):
    """c_p,k/R, at a given volume c_v,k/R."""
    return load(lanes.cp, k) - tables.held.volume


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
        heat = fma(heat_content(tables, lanes, tables.reactive[k]), rate, heat)
    cp = splat(0.0)
    for k in range(tables.species.shape[0]):
        cp = fma(heat_capacity(tables, lanes, k), load(lanes.amounts, k), cp)
    store(lanes.f, m, -(T * heat) / cp * tables.held.heating)
    return cp
