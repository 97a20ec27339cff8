"""Equation of state and other cell by cell work: temperature from enthalpy, density error, uniformity, copies."""

from __future__ import annotations

import numpy as np

from chemnet.gas.state import GAS_CONSTANT
from chemnet.gas.thermo import row_enthalpy_cp, row_njit, row_temperatures


@row_njit
def temperatures(segments, scalars, nasa, T):
    """T [K] of the cells of `segments` from species and enthalpy (K + 1, ...), starting from the T at hand.

    Returns the number of cells where Newton's method did not converge; their T is NaN.
    """
    width = T.shape[1]
    value, cp = np.empty(width), np.empty(width)
    h, failed = scalars[scalars.shape[0] - 1], 0
    for s in range(segments.shape[0]):
        j, a, b = segments[s, 0], segments[s, 1], segments[s, 2]
        failed += row_temperatures(h[j, a:b], scalars, j, a, nasa, T[j, a:b], value, cp)
    return failed


@row_njit
def density_excess(rho_R, T, p0, out, sums):
    """out = rho / rho_EOS - 1 = rho R T / p0 - 1 in the interior; sums[j]: row sums. rho_R: rho times R of the gas."""
    n = T.shape[1] - 6
    for j in range(3, T.shape[0] - 3):
        t, product, excess, total = T[j, 3 : 3 + n], rho_R[j, 3 : 3 + n], out[j, 3 : 3 + n], 0.0
        for i in range(n):
            excess[i] = product[i] * t[i] / p0 - 1.0
            total += excess[i]
        sums[j - 3] = total


@row_njit
def compressibility(scalars, rho, T, p0, weights, nasa, rho_R, sums):
    """rho_R = rho R in the interior, R = 8314 / W [J/kg/K]; sums[j]: row sums of (rho / rho_EOS) / gamma."""
    n_species, n = weights.shape[0], T.shape[1] - 6
    specific, enthalpy, cp = np.empty(n), np.empty(n), np.empty(n)
    for j in range(3, T.shape[0] - 3):
        t, density, product, total = T[j, 3 : 3 + n], rho[j, 3 : 3 + n], rho_R[j, 3 : 3 + n], 0.0
        row_enthalpy_cp(t, scalars, j, 3, nasa, enthalpy, cp)
        specific[:] = 0.0
        for k in range(n_species):
            y, R_k = scalars[k, j, 3 : 3 + n], GAS_CONSTANT / weights[k]
            for i in range(n):
                specific[i] += y[i] * R_k
        for i in range(n):
            product[i] = density[i] * specific[i]
            total += product[i] * t[i] / p0 * (cp[i] - specific[i]) / cp[i]
        sums[j - 3] = total


@row_njit
def add_enthalpy(h, rho, dp):
    """h += dp / rho everywhere: what compression by dp [Pa] does to the gas."""
    for j in range(h.shape[0]):
        enthalpy, density = h[j], rho[j]
        for i in range(h.shape[1]):
            enthalpy[i] += dp / density[i]


@row_njit
def mark_gradients(q, tolerance, first_row, tile_rows, tile_columns, candidates, tiles):
    """Set tiles[J, I] where a field of q (K, ...) differs by more than tolerance[k] from its east or north neighbour.

    Only where candidates[J, I]. Tile (J, I) holds the cells of global rows J tile_rows.. and columns
    I tile_columns..; first_row: global row of the first interior row here. What is no number marks its tile.
    """
    rows, columns = q.shape[1] - 6, q.shape[2] - 6
    for j in range(rows):
        J = (first_row + j) // tile_rows
        for tile in range(tiles.shape[1]):
            a = 3 + tile * tile_columns
            n = min(tile_columns, columns - tile * tile_columns)
            k = 0 if candidates[J, tile] else q.shape[0]
            while k < q.shape[0] and not tiles[J, tile]:
                here, east, north = q[k, j + 3, a : a + n], q[k, j + 3, a + 1 : a + n + 1], q[k, j + 4, a : a + n]
                limit, count = tolerance[k], 0
                for i in range(n):
                    flat = (abs(east[i] - here[i]) <= limit) & (abs(north[i] - here[i]) <= limit)
                    count += 0 if flat else 1
                if count > 0:
                    tiles[J, tile] = True
                k += 1


@row_njit
def copy_segments(segments, source, target):
    """target = source (K, ...) in the cells of `segments`."""
    for s in range(segments.shape[0]):
        j, a, b = segments[s, 0], segments[s, 1], segments[s, 2]
        for k in range(source.shape[0]):
            target[k, j, a:b] = source[k, j, a:b]


@row_njit
def first_bad_cell(scalars, T):
    """(field, j, i) of the first interior cell that holds no number: species, h (field K) or T (field K + 1).

    (-1, -1, -1) when there is none. Rows are added up first, which is quick; only a bad one is searched.
    """
    n_fields, n = scalars.shape[0], T.shape[1] - 6
    total = np.empty(n)
    for j in range(3, T.shape[0] - 3):
        total[:] = T[j, 3 : 3 + n]
        for k in range(n_fields):
            row = scalars[k, j, 3 : 3 + n]
            for i in range(n):
                total[i] += row[i]
        for i in range(n):
            if not np.isfinite(total[i]):
                for k in range(n_fields):
                    if not np.isfinite(scalars[k, j, i + 3]):
                        return k, j, i + 3
                return n_fields, j, i + 3
    return -1, -1, -1
