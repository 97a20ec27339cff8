"""Thermodynamic polynomials of species as one table: NASA7, NASA9, Shomate and constant heat capacities.

A row is `[T_1, a_0..a_6 below it, a_0..a_6 above it, W, free]`, the whole of it where all species have two ranges at
most and no powers of T below zero. Else `[c, d below T_1, c, d above it]` follow, and for each further range
`[T_i, a_0..a_6, c, d]`, from T_i on; T_i is infinite where a species has fewer ranges. Then

    cp = a_0 + a_1 T + a_2 T^2 + a_3 T^3 + a_4 T^4 + c/T^2 + d/T
    h = a_5 + a_0 T + a_1 T^2/2 + a_2 T^3/3 + a_3 T^4/4 + a_4 T^5/5 - c/T + d ln T
    s = a_6 + a_0 ln T + a_1 T + a_2 T^2/2 + a_3 T^3/3 + a_4 T^4/4 - c/(2 T^2) - d/T    (at 1 atm)
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cantera as ct
import numpy as np
from numpy.typing import NDArray

from chemnet.runtime.errors import UsageError

Floats = NDArray[np.float64]

WEIGHT, FREE, PLAIN = 15, 16, 17  # columns; PLAIN is the width of a table without more ranges and powers
_INVERSE = (17, 19)  # of c below and above T_1; d is the next one
FURTHER, STRIDE = 21, 10  # first further range, and the columns of each
_ANY_T = 1000.0  # [K] where the two ranges of a species meet that has one


class _Range(NamedTuple):
    start: float  # [K]
    a: Floats  # (7,) over the gas constant
    inverse: tuple[float, float]  # c, d


def table_of(gas: ct.Solution) -> Floats:
    """Table of a gas per kilogram, in J and K. Raises UsageError that names a species of another kind."""
    ranges = [_ranges(gas.name, species) for species in gas.species()]
    further = max(0, max(map(len, ranges)) - 2)
    plain = further == 0 and not any(one.inverse != (0.0, 0.0) for of_one in ranges for one in of_one)
    table = np.zeros((len(ranges), PLAIN if plain else FURTHER + STRIDE * further))
    to_one_atm = math.log(gas.reference_pressure / ct.one_atm)
    for row, of_one, weight in zip(table, ranges, gas.molecular_weights, strict=True):
        _fill(row, of_one if len(of_one) > 1 else [of_one[0], of_one[0]._replace(start=_ANY_T)], to_one_atm)
        row[coefficients(row.size)] *= ct.gas_constant / weight
        row[WEIGHT] = weight
    return table


def coefficients(width: int) -> NDArray[np.int64]:
    """Columns of a table of this width that are per kilogram: all but temperatures, weights and the free one."""
    temperatures = range(FURTHER, width, STRIDE)
    return np.array([c for c in range(1, width) if c not in (WEIGHT, FREE, *temperatures)])


def enthalpy_jumps(gas: ct.Solution) -> list[tuple[str, float, float]]:
    """Species, T [K] and jump of h/(RT) where two ranges of a species meet."""
    jumps = []
    for species in gas.species():
        ranges = _ranges(gas.name, species)
        for below, above in zip(ranges, ranges[1:], strict=False):
            T = above.start
            jumps.append((species.name, T, (_enthalpy(above, T) - _enthalpy(below, T)) / T))
    return jumps


def _enthalpy(one: _Range, T: float) -> float:
    """h/R [K]."""
    powers = np.array([T, T**2 / 2, T**3 / 3, T**4 / 4, T**5 / 5, 1.0])
    return float(one.a[:6] @ powers) - one.inverse[0] / T + one.inverse[1] * math.log(T)


def _fill(row: Floats, ranges: list[_Range], to_one_atm: float) -> None:
    row[0] = ranges[1].start
    row[FURTHER::STRIDE] = math.inf
    for i, one in enumerate(ranges):
        a = np.r_[one.a[:6], one.a[6] + to_one_atm]
        if i < 2:
            row[1 + 7 * i : 8 + 7 * i] = a
            if row.size > PLAIN:
                row[_INVERSE[i] : _INVERSE[i] + 2] = one.inverse
        else:
            start = FURTHER + STRIDE * (i - 2)
            row[start : start + STRIDE] = [one.start, *a, *one.inverse]


def _ranges(name: str, species: ct.Species) -> list[_Range]:
    thermo, R = species.thermo, ct.gas_constant
    given = np.asarray(thermo.coeffs)
    if isinstance(thermo, ct.NasaPoly2):  # T_mid, high range, low range
        return [_Range(0.0, given[8:15], (0.0, 0.0)), _Range(given[0], given[1:8], (0.0, 0.0))]
    if isinstance(thermo, ct.Nasa9PolyMultiTempRegion):  # number; T_min, T_max, nine coefficients each
        zones = given[1:].reshape(-1, 11)
        return [_Range(zone[0], zone[4:11], (zone[2], zone[3])) for zone in zones]
    if isinstance(thermo, ct.ShomatePoly2):  # T_mid, low range, high range; of T/1000, per mole
        return [_shomate(0.0, given[1:8]), _shomate(given[0], given[8:15])]
    if isinstance(thermo, ct.ConstantCp):
        T, h, s, cp = given / [1.0, R, R, R]
        return [_Range(0.0, np.array([cp, 0.0, 0.0, 0.0, 0.0, h - cp * T, s - cp * math.log(T)]), (0.0, 0.0))]
    raise UsageError(
        f"{name}: the thermodynamic data of species {species.name} are of another kind ({type(thermo).__name__})\n"
        "chemnet takes NASA7, NASA9, Shomate and constant-cp; write them as one of these."
    )


def _shomate(start: float, given: Floats) -> _Range:
    A, B, C, D, E, F, G = given * 1e3 / ct.gas_constant
    a = np.array([A, B * 1e-3, C * 1e-6, D * 1e-9, 0.0, F * 1e3, G - A * math.log(1e3)])
    return _Range(start, a, (E * 1e6, 0.0))
