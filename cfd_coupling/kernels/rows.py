"""The layout of stencil sweeps, rows[j, field, i], and copies between it and that of fields, q[field, j, i].

All fields of a row lie together, so that a sweep reads each array as one stream. Column i of a field, ghosts counted,
is column LEFT + i here: the first interior cell begins a vector, and a vector that overlaps either end of the interior
stays within the columns of its row.
"""

from __future__ import annotations

from cfd_coupling.grid import GHOSTS
from chemnet.gas.thermo import row_njit
from chemnet.runtime.simd import W

LEFT = W - GHOSTS


@row_njit
def pack(segments, fields, rows):
    """Copy fields (K, ...) to rows (rows, K, columns) in the cells of `segments`."""
    for s in range(segments.shape[0]):
        j, a, b = segments[s, 0], segments[s, 1], segments[s, 2]
        for k in range(fields.shape[0]):
            rows[j, k, a + LEFT : b + LEFT] = fields[k, j, a:b]


@row_njit
def unpack(segments, rows, fields):
    """Copy rows (rows, K, columns) to fields (K, ...) in the cells of `segments`."""
    for s in range(segments.shape[0]):
        j, a, b = segments[s, 0], segments[s, 1], segments[s, 2]
        for k in range(fields.shape[0]):
            fields[k, j, a:b] = rows[j, k, a + LEFT : b + LEFT]
