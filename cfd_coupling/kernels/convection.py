"""Convection: WENO5 for species and enthalpy with given mass fluxes, and a skew-symmetric form for momentum."""

from __future__ import annotations

import math

from chemnet.gas.thermo import row_njit
from chemnet.runtime.compilation import cached_njit
from chemnet.runtime.simd import W, fma, kernel, load_at, maximum, minimum, select, splat, store_at

_SMALLEST = 1e-36  # keeps the weights finite in a uniform field


@row_njit
def mass_flux(velocity, rho, flux):
    """Mass flux [kg/m2/s] through west and south faces into `flux` (2, ...), density as the mean of both cells."""
    rows, n = rho.shape
    for j in range(1, rows):
        u, v, fx, fy = velocity[0, j, 1:], velocity[1, j, 1:], flux[0, j, 1:], flux[1, j, 1:]
        here, west, south = rho[j, 1:], rho[j, : n - 1], rho[j - 1, 1:]
        for i in range(n - 1):
            fx[i] = 0.5 * (west[i] + here[i]) * u[i]
            fy[i] = 0.5 * (south[i] + here[i]) * v[i]


@row_njit
def carry_density(rho, flux, sink, dx, dy, dt, out):
    """out = rho - dt (div flux + rho sink) in the interior; sink [1/s] takes gas away at its local composition."""
    for j in range(3, rho.shape[0] - 3):
        n = rho.shape[1] - 6
        here, taken, new = rho[j, 3 : 3 + n], sink[j, 3 : 3 + n], out[j, 3 : 3 + n]
        west, east = flux[0, j, 3 : 3 + n], flux[0, j, 4 : 4 + n]
        south, north = flux[1, j, 3 : 3 + n], flux[1, j + 1, 3 : 3 + n]
        for i in range(n):
            out_flow = (east[i] - west[i]) / dx + (north[i] - south[i]) / dy
            new[i] = here[i] - dt * (out_flow + here[i] * taken[i])


@kernel
def _weno(q0, q1, q2, q3, q4, q5, rightward, floor):
    """Upwind WENO5-Z value at the face between q2 and q3 (Borges et al. 2008), and by how much it differs from upwind.

        q0  q1  q2 | q3  q4  q5        flux > 0: from q2, stencil q0..q4;  else from q3, stencil q5..q1

    In a uniform field the difference is exactly zero. The value does not fall below `floor` unless the upwind cell
    does.
    """
    centre = select(rightward, q2, q3)
    d1, d2 = select(rightward, q1 - q0, q4 - q5), select(rightward, q2 - q1, q3 - q4)
    d3, d4 = select(rightward, q3 - q2, q2 - q3), select(rightward, q4 - q3, q1 - q2)
    s1, s2, s3 = d2 - d1, d3 - d2, d4 - d3
    t1, t2, t3 = fma(3.0, d2, -d1), d3 + d2, fma(3.0, d3, -d4)
    left = fma(13.0 / 12.0 * s1, s1, fma(0.25 * t1, t1, _SMALLEST))
    middle = fma(13.0 / 12.0 * s2, s2, fma(0.25 * t2, t2, _SMALLEST))
    right = fma(13.0 / 12.0 * s3, s3, fma(0.25 * t3, t3, _SMALLEST))
    spread = (left - right) * (left - right)
    left2, middle2, right2 = left * left, middle * middle, right * right
    w0 = 0.1 * (left2 + spread) * (middle2 * right2)
    w1 = 0.6 * (middle2 + spread) * (left2 * right2)
    w2 = 0.3 * (right2 + spread) * (left2 * middle2)
    above = fma(w0, fma(5.0, d2, -2.0 * d1), fma(w1, fma(2.0, d3, d2), w2 * fma(4.0, d3, -d4)))
    value = maximum(centre + above / (6.0 * (w0 + w1 + w2)), minimum(centre, floor))
    return value, value - centre


@kernel
def _put_face(y, at, step, rightward, floor, faces, place):
    value, difference = _weno(
        load_at(y, at - 3 * step), load_at(y, at - 2 * step), load_at(y, at - step),
        load_at(y, at), load_at(y, at + step), load_at(y, at + 2 * step), rightward, floor,
    )  # fmt: skip
    store_at(faces, place, value)
    return difference


@kernel
def _put_faces(y, at, plane, step, flux, flux_at, n_fields, a, b, columns, faces, share):
    """Values of all fields at the faces behind the cells [a, b) of the row that begins at `at`, into rows of `faces`.

    step: to the cell across the face, 1 for west faces and a row for south ones. Species are still to be multiplied by
    `share`, one over their sum. The sum is taken as 1 plus that of the differences from the upwind cell, so a uniform
    mixture stays as it is to the last bit.
    """
    for i in range(a, b, W):
        store_at(share, i, splat(1.0))
    for k in range(n_fields - 1):
        for i in range(a, b, W):
            rightward = load_at(flux, flux_at + i) > 0.0
            difference = _put_face(y, k * plane + at + i, step, rightward, 0.0, faces, k * columns + i)
            store_at(share, i, load_at(share, i) + difference)
    k = n_fields - 1
    for i in range(a, b, W):
        store_at(share, i, 1.0 / load_at(share, i))
        rightward = load_at(flux, flux_at + i) > 0.0
        _put_face(y, k * plane + at + i, step, rightward, -math.inf, faces, k * columns + i)


@cached_njit(error_model="numpy", _nrt=False, no_cfunc_wrapper=True)
def convection_stage(
    blocks, y, y0, flux, rho0, rho1, rows, width, n_fields, columns, work, dx, dy, dt, weight, out
):  # fmt: skip
    """One stage of SSP-RK2 for species and enthalpy (K + 1, ...): out = y + weight (rho0 (y0 - y) - dt S) / rho1.

    S = sum over faces of outward flux times (face value - y), rho0 and rho1 the density before and after the step:
    weight 1 from y = y0, then weight 1/2, is SSP-RK2 for rho y with the density that the same fluxes carry. In this
    form what is uniform stays uniform to the last bit. `out` may be y0.

    y, y0, flux, rho0, rho1, out: flat, of fields of `rows` rows of `width` cells, ghosts counted, with room for one
    vector behind the end. work: 3 (n_fields + 1) + 5 rows of `columns` >= width + 2 W, and the numbers 0, 1, ...
    """
    plane, some = rows * width, (n_fields + 1) * columns
    x_faces, y_faces, scale = work[:some], work[some : 3 * some], work[3 * some : 3 * some + 5 * columns]
    lanes, species = load_at(work, 3 * some + 5 * columns), n_fields - 1
    x_share, share_at = x_faces[n_fields * columns :], n_fields * columns
    for block in range(blocks.shape[0]):
        j_start, j_stop, a, b = blocks[block, 0], blocks[block, 1], blocks[block, 2], blocks[block, 3]
        for j in range(j_start, j_stop + 1):
            at, lower, upper = j * width, (1 - j % 2) * some, (j % 2) * some
            _put_faces(
                y, at, plane, width, flux, plane + at, n_fields, a, b, columns,
                y_faces[upper:], y_faces[upper + share_at :],
            )  # fmt: skip
            if j == j_start:
                continue
            at -= width
            _put_faces(y, at, plane, 1, flux, at, n_fields, a, b + 1, columns, x_faces, x_share)
            for i in range(a, b, W):
                per_mass = weight / load_at(rho1, at + i)
                per_x, per_y = -dt / dx * per_mass, -dt / dy * per_mass
                store_at(scale, i, per_x * load_at(flux, at + i))
                store_at(scale, columns + i, per_x * load_at(flux, at + i + 1))
                store_at(scale, 2 * columns + i, per_y * load_at(flux, plane + at + i))
                store_at(scale, 3 * columns + i, per_y * load_at(flux, plane + at + width + i))
                store_at(scale, 4 * columns + i, load_at(rho0, at + i) * per_mass)
            for k in range(n_fields):
                row = k * columns
                for i in range(a, b, W):
                    west, east = load_at(x_faces, row + i), load_at(x_faces, row + i + 1)
                    south, north = load_at(y_faces, lower + row + i), load_at(y_faces, upper + row + i)
                    if k < species:
                        west, east = west * load_at(x_share, i), east * load_at(x_share, i + 1)
                        south = south * load_at(y_faces, lower + share_at + i)
                        north = north * load_at(y_faces, upper + share_at + i)
                    cell = k * plane + at + i
                    q = load_at(y, cell)
                    along_x = load_at(scale, columns + i) * (east - q) - load_at(scale, i) * (west - q)
                    along_y = load_at(scale, 3 * columns + i) * (north - q) - load_at(scale, 2 * columns + i) * (
                        south - q
                    )
                    new = q + fma(load_at(scale, 4 * columns + i), load_at(y0, cell) - q, along_x + along_y)
                    if b - i < W:  # beyond the block begins the next row
                        new = select(lanes < float(b - i), new, load_at(out, cell))
                    store_at(out, cell, new)


@row_njit
def momentum_stage(start, velocity, flux, rho, p, dx, dy, dt, out):
    """out = start + dt (-(m . grad) velocity - grad p) / rho for both components (2, ...), in the interior.

    Convection as the mean over opposite faces of mass flux times velocity difference: with d(rho)/dt = -div m this
    is the skew-symmetric form, which keeps kinetic energy and leaves a uniform velocity alone.

              N                  u at the west face; its control volume reaches from
          W - u - E              cell centre to cell centre, m at its sides is a mean of
              S                  two neighbouring faces; v likewise
    """
    rows, columns = rho.shape
    n = columns - 6
    for j in range(3, rows - 3):
        for axis in range(2):
            west_j, west_i = (j, 2) if axis == 0 else (j - 1, 3)  # the cell on the other side of the face
            spacing = dx if axis == 0 else dy
            q = velocity[axis]
            here, west, east, south, north = q[j, 3:], q[j, 2:], q[j, 4:], q[j - 1, 3:], q[j + 1, 3:]
            fx, fx_other = flux[0, j, 3:], flux[0, west_j, west_i:]
            fx_east, fx_east_other = flux[0, j, 4:], flux[0, west_j, west_i + 1 :]
            fy, fy_other = flux[1, j, 3:], flux[1, west_j, west_i:]
            fy_north, fy_north_other = flux[1, j + 1, 3:], flux[1, west_j + 1, west_i:]
            rho_here, rho_other, p_here, p_other = rho[j, 3:], rho[west_j, west_i:], p[j, 3:], p[west_j, west_i:]
            base, new = start[axis, j, 3:], out[axis, j, 3:]
            for i in range(n):
                along_x = (fx_east[i] + fx_east_other[i]) * (east[i] - here[i]) + (fx[i] + fx_other[i]) * (
                    here[i] - west[i]
                )
                along_y = (fy_north[i] + fy_north_other[i]) * (north[i] - here[i]) + (fy[i] + fy_other[i]) * (
                    here[i] - south[i]
                )
                force = 0.25 * (along_x / dx + along_y / dy) + (p_here[i] - p_other[i]) / spacing
                new[i] = base[i] - 2.0 * dt * force / (rho_here[i] + rho_other[i])


@row_njit
def largest_cfl(velocity, dx, dy, dt):
    """Largest dt (|u|/dx + |v|/dy) over the interior faces, and its cell (j, i), ghosts counted.

    A velocity that is not a number is returned at once.
    """
    largest, row, column = 0.0, 3, 3
    for j in range(3, velocity.shape[1] - 3):
        for i in range(3, velocity.shape[2] - 3):
            cfl = dt * (abs(velocity[0, j, i]) / dx + abs(velocity[1, j, i]) / dy)
            if cfl > largest:
                largest, row, column = cfl, j, i
            elif cfl != cfl:
                return cfl, j, i
    return largest, row, column
