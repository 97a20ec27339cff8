"""NASA7 polynomials of a mixture, for W cells side by side: the polynomials are mixed first and evaluated once."""

from __future__ import annotations

from chemnet.runtime.simd import fma, kernel, select, splat


@kernel
def no_species():
    """Mixed coefficients a_0..a_5 of no species: zeros."""
    return splat(0.0), splat(0.0), splat(0.0), splat(0.0), splat(0.0), splat(0.0)


@kernel
def one_species(row, T):
    """Coefficients a_0..a_5 of a species at T [K]; row: T_mid, a_0..a_6 below it, a_0..a_6 above it."""
    low = row[0] >= T
    a0, a1, a2 = select(low, row[1], row[8]), select(low, row[2], row[9]), select(low, row[3], row[10])
    a3, a4, a5 = select(low, row[4], row[11]), select(low, row[5], row[12]), select(low, row[6], row[13])
    return a0, a1, a2, a3, a4, a5


@kernel
def add_species(mixed, amount, row, T):
    """Mixed coefficients with the amount of one more species; row as in `one_species`."""
    a0, a1, a2, a3, a4, a5 = mixed
    b0, b1, b2, b3, b4, b5 = one_species(row, T)
    a0, a1, a2 = fma(amount, b0, a0), fma(amount, b1, a1), fma(amount, b2, a2)
    a3, a4, a5 = fma(amount, b3, a3), fma(amount, b4, a4), fma(amount, b5, a5)
    return a0, a1, a2, a3, a4, a5


@kernel
def enthalpy_and_cp(mixed, T):
    """Enthalpy and heat capacity at T [K], in the units of the coefficients."""
    a0, a1, a2, a3, a4, a5 = mixed
    cp = fma(fma(fma(fma(a4, T, a3), T, a2), T, a1), T, a0)
    h = fma(fma(fma(fma(fma(a4 * 0.2, T, a3 * 0.25), T, a2 * (1 / 3)), T, a1 * 0.5), T, a0), T, a5)
    return h, cp
