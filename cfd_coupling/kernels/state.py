"""Equation of state and other cell by cell work: temperature from enthalpy, density error, uniformity, copies."""

from __future__ import annotations

import math

import numpy as np

from cfd_coupling.grid import GHOSTS
from chemnet.gas.nasa import add_species, enthalpy_and_cp, no_species
from chemnet.gas.thermo import MAX_GAP, MAX_NEWTON, row_njit
from chemnet.runtime.compilation import cached_njit
from chemnet.runtime.simd import W, absolute, fma, kernel, load, load_at, select, splat, store, store_at


@kernel
def _mixed(scalars, cell, plane, nasa, T):
    """Coefficients of the mixture's polynomials in the cells at `cell`."""
    mixed = no_species()
    for k in range(nasa.shape[0]):
        mixed = add_species(mixed, load_at(scalars, k * plane + cell), nasa[k], T)
    return mixed


@cached_njit(error_model="numpy", _nrt=False, no_cfunc_wrapper=True)
def temperatures(segments, scalars, nasa, T, width, work):
    """T [K] of the cells of `segments` from species and enthalpy (K + 1, ...), by Newton's method from the T at hand.

    Rules as of `gas.thermo.temperature_from_enthalpy`. Returns the number of cells where the method did not converge;
    their T is NaN. scalars, T: flat, of fields with rows of `width` cells, ghosts counted; work: two vectors, the
    second one of the numbers 0, 1, ...
    """
    plane, lanes, failed = T.size, load(work, 1), 0
    for s in range(segments.shape[0]):
        j, a, b = segments[s, 0], segments[s, 1], segments[s, 2]
        for i in range(a, b, W):
            cell, inside = j * width + i, lanes < float(b - i)
            start, h = load_at(T, cell), load_at(scalars, nasa.shape[0] * plane + cell)
            t, step, moving = start, splat(0.0), W
            for _ in range(MAX_NEWTON):
                value, cp = enthalpy_and_cp(_mixed(scalars, cell, plane, nasa, t), t, nasa)
                step = (h - value) / cp
                t = t + step
                moving = _count(work, inside, absolute(step) <= 1e-8 * t)
                if moving == 0:
                    break
            if moving > 0:
                failed += _count(work, inside, absolute(step) < MAX_GAP)
                t = select(absolute(step) < MAX_GAP, t, math.nan)
            store_at(T, cell, select(inside, t, start))
    return failed


@kernel
def _count(work, inside, done):
    """Number of lanes inside that are not done."""
    store(work, 0, select(inside, select(done, 0.0, 1.0), 0.0))
    total = 0.0
    for lane in range(W):
        total += work[lane]
    return int(total)


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


@cached_njit(error_model="numpy", _nrt=False, no_cfunc_wrapper=True)
def compressibility(scalars, rho, T, p0, specific, nasa, rho_R, sums, width, work):
    """rho_R = rho R in the interior, R = 8314 / W [J/kg/K]; sums[j]: row sums of (rho / rho_EOS) / gamma.

    specific (K,): R of the species; arrays and work as of `temperatures`.
    """
    plane, lanes = T.size, load(work, 1)
    for j in range(sums.shape[0]):
        row, total = (j + GHOSTS) * width, splat(0.0)
        for i in range(GHOSTS, width - GHOSTS, W):
            cell, t, R = row + i, load_at(T, row + i), splat(0.0)
            for k in range(specific.shape[0]):
                R = fma(load_at(scalars, k * plane + cell), specific[k], R)
            cp = enthalpy_and_cp(_mixed(scalars, cell, plane, nasa, t), t, nasa)[1]
            product = load_at(rho, cell) * R
            inside = lanes < float(width - GHOSTS - i)
            total = total + select(inside, product * t / p0 * (cp - R) / cp, 0.0)
            store_at(rho_R, cell, select(inside, product, 0.0))
        store(work, 0, total)
        sums[j] = 0.0
        for lane in range(W):
            sums[j] += work[lane]


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
