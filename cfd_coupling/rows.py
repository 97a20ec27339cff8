"""Arrays of stencil sweeps: the fields of a rank row by row, aligned for vectors (see `kernels.rows`)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cfd_coupling.fields import Floats
from cfd_coupling.grid import Grid
from cfd_coupling.kernels.rows import LEFT
from chemnet.runtime.simd import W, aligned


class Rows:
    """Fields of one rank as rows[j, field, i]; `single` keeps them in float32.

    array (rows, n_fields, columns), C-contiguous; flat: the same with room for one vector more behind its end, which is
    what vector code takes; fields (n_fields, ny_local + 2 GHOSTS, nx + 2 GHOSTS): a view in the layout of `Fields`.
    """

    def __init__(self, grid: Grid, n_fields: int, single: bool = False) -> None:
        height, width = grid.shape
        shape = (height, n_fields, (-(-grid.nx // W) + 2) * W)
        size = int(np.prod(shape))
        vectors = size // W + 1
        self.flat: NDArray[Any] = aligned(-(-vectors // 2)).view(np.float32) if single else aligned(vectors)
        self.array = self.flat[:size].reshape(shape)
        self.fields: Floats = self.array[:, :, LEFT : LEFT + width].transpose(1, 0, 2)
