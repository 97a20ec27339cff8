"""Thermodynamics of an ideal gas in compiled form; `nasa` is `Mechanism.nasa`, per kilogram (`polynomials.py`).

Outside its temperature range a polynomial is extrapolated, as Cantera does.
"""

from __future__ import annotations

import math

from chemnet.gas.polynomials import FURTHER, PLAIN, STRIDE
from chemnet.runtime.compilation import cached_njit

SAFE_FASTMATH = {
    "contract",
    "reassoc",
    "arcp",
    "nsz",
}  # reorders sums but, unlike fastmath=True, keeps NaN checks
MAX_NEWTON = 50  # iterations
MAX_GAP = 1e-3  # [K], between the T of the last iterations where polynomials do not meet


@cached_njit()
def _inverse_powers(row, T):
    """Where in a wide row the coefficients a_0, a_1, ... at T [K] begin, and c, d: (o, c, d)."""
    o, p = (8, 19) if row[0] < T else (1, 17)
    for q in range(FURTHER, row.size, STRIDE):
        if row[q] < T:
            o, p = q + 1, q + 8
    return o, row[p], row[p + 1]


@cached_njit(fastmath=SAFE_FASTMATH)
def species_cp(T, nasa, out):
    """Heat capacities of all species [J/kg/K] at T [K] into `out` (K,)."""
    for k in range(nasa.shape[0]):
        o, c, d = 8 if nasa[k, 0] < T else 1, 0.0, 0.0
        if nasa.shape[1] > PLAIN:
            o, c, d = _inverse_powers(nasa[k], T)
        a = nasa[k]
        out[k] = a[o] + T * (a[o + 1] + T * (a[o + 2] + T * (a[o + 3] + T * a[o + 4])))
        if nasa.shape[1] > PLAIN:
            out[k] += (c / T + d) / T


@cached_njit(fastmath=SAFE_FASTMATH)
def species_enthalpies(T, nasa, out):
    """Enthalpies of all species, heat of formation included [J/kg], at T [K] into `out` (K,)."""
    for k in range(nasa.shape[0]):
        o, c, d = 8 if nasa[k, 0] < T else 1, 0.0, 0.0
        if nasa.shape[1] > PLAIN:
            o, c, d = _inverse_powers(nasa[k], T)
        a = nasa[k]
        out[k] = a[o + 5] + T * (a[o] + T * (a[o + 1] / 2 + T * (a[o + 2] / 3 + T * (a[o + 3] / 4 + T * a[o + 4] / 5))))
        if nasa.shape[1] > PLAIN:
            out[k] += d * math.log(T) - c / T


@cached_njit(fastmath=SAFE_FASTMATH)
def enthalpy_and_cp(T, Y, nasa):
    """Enthalpy [J/kg] and heat capacity [J/kg/K] of a mixture with mass fractions Y (K,) at T [K].

    The polynomials are mixed first and evaluated once.
    """
    a0 = a1 = a2 = a3 = a4 = a5 = c = d = 0.0
    for k in range(nasa.shape[0]):
        o = 8 if nasa[k, 0] < T else 1
        if nasa.shape[1] > PLAIN:
            o, c_k, d_k = _inverse_powers(nasa[k], T)
            c += Y[k] * c_k
            d += Y[k] * d_k
        a0 += Y[k] * nasa[k, o]
        a1 += Y[k] * nasa[k, o + 1]
        a2 += Y[k] * nasa[k, o + 2]
        a3 += Y[k] * nasa[k, o + 3]
        a4 += Y[k] * nasa[k, o + 4]
        a5 += Y[k] * nasa[k, o + 5]
    h = a5 + T * (a0 + T * (a1 / 2 + T * (a2 / 3 + T * (a3 / 4 + T * a4 / 5))))
    cp = a0 + T * (a1 + T * (a2 + T * (a3 + T * a4)))
    if nasa.shape[1] > PLAIN:
        h += d * math.log(T) - c / T
        cp += (c / T + d) / T
    return h, cp


@cached_njit()
def cp_mass(T, Y, nasa):
    """Heat capacity of a mixture [J/kg/K]; Y (K,), T [K]."""
    return enthalpy_and_cp(T, Y, nasa)[1]


@cached_njit()
def enthalpy_mass(T, Y, nasa):
    """Enthalpy of a mixture, heat of formation included [J/kg]; Y (K,), T [K]."""
    return enthalpy_and_cp(T, Y, nasa)[0]


@cached_njit()
def temperature_from_enthalpy(h, Y, T_guess, nasa):
    """Temperature [K] at which the mixture Y (K,) has enthalpy h [J/kg], by Newton's method to round-off.

    NaN when it does not converge. Polynomials of the two ranges can differ by some 1e-7 where they meet; an h inside
    such a gap has no solution, and T is then returned to within `MAX_GAP`.
    """
    T = T_guess
    step = math.inf
    for _ in range(MAX_NEWTON):
        value, cp = enthalpy_and_cp(T, Y, nasa)
        step = (h - value) / cp
        T += step
        if abs(step) <= 1e-8 * T:  # convergence is quadratic: the next step would be round-off
            return T
    return T if abs(step) < MAX_GAP else math.nan


# For loops along rows: without error_model="numpy" each division is checked and the loop stays scalar.
row_njit = cached_njit(fastmath=SAFE_FASTMATH, error_model="numpy")


@row_njit
def _ranges(nasa, k):
    """T_mid [K] of species k and its coefficients a_0..a_5 below and above it, as numbers for a loop over cells."""
    a = nasa[k]
    return a[0], (a[1], a[2], a[3], a[4], a[5], a[6]), (a[8], a[9], a[10], a[11], a[12], a[13])


@row_njit
def _species(T, T_mid, low, high):
    """Enthalpy [J/kg] and heat capacity [J/kg/K] of a species; with both ranges at hand no load depends on T."""
    below = T_mid >= T
    a0, a1, a2 = low[0] if below else high[0], low[1] if below else high[1], low[2] if below else high[2]
    a3, a4, a5 = low[3] if below else high[3], low[4] if below else high[4], low[5] if below else high[5]
    h = a5 + T * (a0 + T * (a1 / 2 + T * (a2 / 3 + T * (a3 / 4 + T * a4 / 5))))
    return h, a0 + T * (a1 + T * (a2 + T * (a3 + T * a4)))


@row_njit
def row_enthalpy_cp(T, Y, j, start, nasa, h, cp):
    """Enthalpy [J/kg] and heat capacity [J/kg/K] of the mixture in a run of cells, into h and cp (>= n,).

    T (n,): of the cells [start, start + n) of row j; Y (K or more, rows, columns).
    """
    n = T.shape[0]
    h[:n] = 0.0
    cp[:n] = 0.0
    if nasa.shape[1] > PLAIN:
        for i in range(n):
            h[i], cp[i] = enthalpy_and_cp(T[i], Y[:, j, start + i], nasa)
        return
    for k in range(nasa.shape[0]):
        y = Y[k, j, start : start + n]
        T_mid, low, high = _ranges(nasa, k)
        for i in range(n):
            h_k, cp_k = _species(T[i], T_mid, low, high)
            h[i] += y[i] * h_k
            cp[i] += y[i] * cp_k
