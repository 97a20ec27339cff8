"""NASA7 thermodynamics of an ideal gas in compiled form; `nasa` is `Mechanism.nasa`, (K, 15), per kilogram.

Outside its temperature range a polynomial is extrapolated, as Cantera does.
"""

from __future__ import annotations

import math

from numba import njit

SAFE_FASTMATH = {
    "contract",
    "reassoc",
    "arcp",
    "nsz",
}  # reorders sums but, unlike fastmath=True, keeps NaN checks
_MAX_NEWTON = 50
_MAX_GAP = 1e-3  # [K]


@njit(cache=True, fastmath=SAFE_FASTMATH)
def species_cp(T, nasa, out):
    """Heat capacities of all species [J/kg/K] at T [K] into `out` (K,)."""
    for k in range(nasa.shape[0]):
        o = 8 if nasa[k, 0] < T else 1
        a = nasa[k]
        out[k] = a[o] + T * (a[o + 1] + T * (a[o + 2] + T * (a[o + 3] + T * a[o + 4])))


@njit(cache=True, fastmath=SAFE_FASTMATH)
def species_enthalpies(T, nasa, out):
    """Enthalpies of all species, heat of formation included [J/kg], at T [K] into `out` (K,)."""
    for k in range(nasa.shape[0]):
        o = 8 if nasa[k, 0] < T else 1
        a = nasa[k]
        out[k] = a[o + 5] + T * (a[o] + T * (a[o + 1] / 2 + T * (a[o + 2] / 3 + T * (a[o + 3] / 4 + T * a[o + 4] / 5))))


@njit(cache=True, fastmath=SAFE_FASTMATH)
def enthalpy_and_cp(T, Y, nasa):
    """Enthalpy [J/kg] and heat capacity [J/kg/K] of a mixture with mass fractions Y (K,) at T [K].

    The polynomials are mixed first and evaluated once.
    """
    a0 = a1 = a2 = a3 = a4 = a5 = 0.0
    for k in range(nasa.shape[0]):
        o = 8 if nasa[k, 0] < T else 1
        a0 += Y[k] * nasa[k, o]
        a1 += Y[k] * nasa[k, o + 1]
        a2 += Y[k] * nasa[k, o + 2]
        a3 += Y[k] * nasa[k, o + 3]
        a4 += Y[k] * nasa[k, o + 4]
        a5 += Y[k] * nasa[k, o + 5]
    h = a5 + T * (a0 + T * (a1 / 2 + T * (a2 / 3 + T * (a3 / 4 + T * a4 / 5))))
    cp = a0 + T * (a1 + T * (a2 + T * (a3 + T * a4)))
    return h, cp


@njit(cache=True)
def cp_mass(T, Y, nasa):
    """Heat capacity of a mixture [J/kg/K]; Y (K,), T [K]."""
    return enthalpy_and_cp(T, Y, nasa)[1]


@njit(cache=True)
def enthalpy_mass(T, Y, nasa):
    """Enthalpy of a mixture, heat of formation included [J/kg]; Y (K,), T [K]."""
    return enthalpy_and_cp(T, Y, nasa)[0]


@njit(cache=True)
def temperature_from_enthalpy(h, Y, T_guess, nasa):
    """Temperature [K] at which the mixture Y (K,) has enthalpy h [J/kg], by Newton's method to round-off.

    NaN when it does not converge. Polynomials of the two ranges can differ by some 1e-7 where they meet; an h inside
    such a gap has no solution, and T is then returned to within `_MAX_GAP`.
    """
    T = T_guess
    step = math.inf
    for _ in range(_MAX_NEWTON):
        value, cp = enthalpy_and_cp(T, Y, nasa)
        step = (h - value) / cp
        T += step
        if abs(step) <= 1e-8 * T:  # convergence is quadratic: the next step would be round-off
            return T
    return T if abs(step) < _MAX_GAP else math.nan


# For loops along rows: without error_model="numpy" each division is checked and the loop stays scalar.
row_njit = njit(cache=True, fastmath=SAFE_FASTMATH, error_model="numpy")


@row_njit
def row_species_enthalpy_cp(T, Y, j, start, nasa, h_k, cp):
    """Species enthalpies [J/kg] and the mixture's heat capacity [J/kg/K] of a run of cells of one row of fields.

    T (n,): the temperatures of the cells [start, start + n) of row j; Y, h_k (K, rows, columns): mass fractions, and
    where the enthalpies go; cp (>= n,): where the heat capacity goes, from 0.
    """
    n = T.shape[0]
    cp[:n] = 0.0
    for k in range(nasa.shape[0]):
        y, out = Y[k, j, start : start + n], h_k[k, j, start : start + n]
        T_mid, l0, l1, l2, l3, l4, l5 = (
            nasa[k, 0],
            nasa[k, 1],
            nasa[k, 2],
            nasa[k, 3],
            nasa[k, 4],
            nasa[k, 5],
            nasa[k, 6],
        )
        u0, u1, u2, u3, u4, u5 = nasa[k, 8], nasa[k, 9], nasa[k, 10], nasa[k, 11], nasa[k, 12], nasa[k, 13]
        for i in range(n):
            t = T[i]
            low = t <= T_mid
            a0, a1, a2 = (l0 if low else u0), (l1 if low else u1), (l2 if low else u2)
            a3, a4, a5 = (l3 if low else u3), (l4 if low else u4), (l5 if low else u5)
            out[i] = a5 + t * (a0 + t * (a1 / 2 + t * (a2 / 3 + t * (a3 / 4 + t * a4 / 5))))
            cp[i] += y[i] * (a0 + t * (a1 + t * (a2 + t * (a3 + t * a4))))


@row_njit
def row_enthalpy_cp(T, Y, j, start, nasa, h, cp):
    """Enthalpy [J/kg] and heat capacity [J/kg/K] of the mixture in a run of cells, into h and cp (>= n,).

    T (n,): of the cells [start, start + n) of row j; Y (K or more, rows, columns).
    """
    n = T.shape[0]
    h[:n] = 0.0
    cp[:n] = 0.0
    for k in range(nasa.shape[0]):
        y = Y[k, j, start : start + n]
        T_mid, l0, l1, l2, l3, l4, l5 = (
            nasa[k, 0],
            nasa[k, 1],
            nasa[k, 2],
            nasa[k, 3],
            nasa[k, 4],
            nasa[k, 5],
            nasa[k, 6],
        )
        u0, u1, u2, u3, u4, u5 = nasa[k, 8], nasa[k, 9], nasa[k, 10], nasa[k, 11], nasa[k, 12], nasa[k, 13]
        for i in range(n):
            t = T[i]
            low = t <= T_mid
            a0, a1, a2 = (l0 if low else u0), (l1 if low else u1), (l2 if low else u2)
            a3, a4, a5 = (l3 if low else u3), (l4 if low else u4), (l5 if low else u5)
            h[i] += y[i] * (a5 + t * (a0 + t * (a1 / 2 + t * (a2 / 3 + t * (a3 / 4 + t * a4 / 5)))))
            cp[i] += y[i] * (a0 + t * (a1 + t * (a2 + t * (a3 + t * a4))))


@row_njit
def row_temperatures(h, Y, j, start, nasa, T, value, cp):
    """T [K] of a run of cells of one row of fields from h [J/kg], by Newton's method from the T at hand.

    h, T (n,): of the cells [start, start + n) of row j; Y (K or more, rows, columns): mass fractions; value, cp
    (>= n,): scratch. The rules of `temperature_from_enthalpy`; returns the number of cells that became NaN.
    """
    n = T.shape[0]
    for _ in range(_MAX_NEWTON):
        row_enthalpy_cp(T, Y, j, start, nasa, value, cp)
        moving = 0
        for i in range(n):
            value[i] = (h[i] - value[i]) / cp[i]
            T[i] += value[i]
            moving += 0 if abs(value[i]) <= 1e-8 * T[i] else 1
        if moving == 0:
            return 0
    failed = 0
    for i in range(n):
        if not abs(value[i]) < _MAX_GAP:
            T[i] = math.nan
            failed += 1
    return failed
