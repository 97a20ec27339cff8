"""Compiled loops on arrays and numbers; nothing else crosses into them.

Fields are q[k, j, i]: species, row, column, contiguous in i, with GHOSTS ghost cells. A kernel works on `segments`,
an (n, 3) integer array of runs of cells [j, i_start, i_stop), or on `blocks`, (n, 4), of rectangles
[j_start, j_stop) x [i_start, i_stop); indices count the ghosts. Inner loops run over slices of one row, from 0, which
is what the compiler turns into SIMD code.
"""
