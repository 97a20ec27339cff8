"""Thermodynamic polynomials of a mixture, for W cells side by side: they are mixed first and evaluated once.

Rows of tables are those of `polynomials.py`; what a table of NASA7 data has not, depends on its width alone.
"""

from __future__ import annotations

from chemnet.gas.polynomials import FURTHER, PLAIN, STRIDE
from chemnet.runtime.simd import fma, kernel, log, select, splat


@kernel
def no_species():
    """Mixed coefficients a_0..a_5, c, d of no species: zeros."""
    zero = splat(0.0)
    return zero, zero, zero, zero, zero, zero, zero, zero


@kernel
def one_species(row, T):
    """Coefficients a_0..a_5, c, d of a species at T [K]; row: of `Mechanism.nasa`."""
    low = row[0] >= T
    a0, a1, a2 = select(low, row[1], row[8]), select(low, row[2], row[9]), select(low, row[3], row[10])
    a3, a4, a5 = select(low, row[4], row[11]), select(low, row[5], row[12]), select(low, row[6], row[13])
    c, d = splat(0.0), splat(0.0)
    if row.size > PLAIN:
        c, d = select(low, row[17], row[19]), select(low, row[18], row[20])
        for q in range(FURTHER, row.size, STRIDE):
            above = row[q] < T
            a0, a1 = select(above, row[q + 1], a0), select(above, row[q + 2], a1)
            a2, a3 = select(above, row[q + 3], a2), select(above, row[q + 4], a3)
            a4, a5 = select(above, row[q + 5], a4), select(above, row[q + 6], a5)
            c, d = select(above, row[q + 8], c), select(above, row[q + 9], d)
    return a0, a1, a2, a3, a4, a5, c, d


@kernel
def add_species(mixed, amount, row, T):
    """Mixed coefficients with the amount of one more species; row as in `one_species`."""
    a0, a1, a2, a3, a4, a5, c, d = mixed
    b0, b1, b2, b3, b4, b5, e, f = one_species(row, T)
    a0, a1, a2 = fma(amount, b0, a0), fma(amount, b1, a1), fma(amount, b2, a2)
    a3, a4, a5 = fma(amount, b3, a3), fma(amount, b4, a4), fma(amount, b5, a5)
    if row.size > PLAIN:
        c, d = fma(amount, e, c), fma(amount, f, d)
    return a0, a1, a2, a3, a4, a5, c, d


@kernel
def enthalpy_and_cp(mixed, T, table):
    """Enthalpy and heat capacity at T [K], in the units of the coefficients, which are of this table."""
    a0, a1, a2, a3, a4, a5, c, d = mixed
    cp = fma(fma(fma(fma(a4, T, a3), T, a2), T, a1), T, a0)
    h = fma(fma(fma(fma(fma(a4 * 0.2, T, a3 * 0.25), T, a2 * (1 / 3)), T, a1 * 0.5), T, a0), T, a5)
    if table.shape[1] > PLAIN:
        inverse_T = 1.0 / T
        cp = fma(fma(c, inverse_T, d), inverse_T, cp)
        h = h + fma(d, log(T), -(c * inverse_T))
    return h, cp
