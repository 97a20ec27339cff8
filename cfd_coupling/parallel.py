"""The only door to MPI: ghost cells, sums, transposes and abort, with the same verbs for one process without MPI.

Sums over cells go row by row and then over all rows of the box in one order, so that a result does not depend on the
number of ranks, not even in its last bit.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cfd_coupling.grid import GHOSTS, slab_bounds
from chemnet.runtime.errors import ChemnetError
from chemnet.runtime.processes import mpi_world

Floats = NDArray[np.float64]

_THREADS = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
_LAST_WORDS = 0.5  # [s] for the launcher to read them: it drops what still waits when a job is aborted


class Communicator:
    """One process with the whole box: the verbs of `MpiCommunicator` without MPI. `step` is named in messages."""

    rank = 0
    size = 1

    def __init__(self) -> None:
        self.step = 0

    def barrier(self) -> None:
        """Wait until every rank is here."""

    def sum(self, x: float) -> float:
        """Sum of one number per rank."""
        return x

    def max(self, x: float) -> float:
        """Largest of one number per rank."""
        return x

    def each(self, x: NDArray[Any]) -> NDArray[Any]:
        """The arrays of all ranks (size, ...), for an x of one shape and type."""
        return x[None]

    def any(self, flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Elementwise or over the ranks, of arrays of one shape."""
        return flags

    def sum_rows(self, rows: Floats, ny: int) -> Floats:
        """Sum over the ny rows of the box of `rows` (..., ny_local), bitwise the same for any number of ranks."""
        return np.ascontiguousarray(rows).sum(axis=-1)

    def update(self, q: Floats, width: int = GHOSTS) -> None:
        """Fill `width` layers of ghost cells of q (..., ny_local + 2 GHOSTS, nx + 2 GHOSTS), periodic both ways."""
        _wrap_columns(q, width)
        first, last, below, above = _edges(q, width)
        above[...] = first
        below[...] = last

    def gather(self, q: Floats) -> Floats | None:
        """The interior (..., ny, nx) of a local array with ghosts, of the whole box on rank 0; None elsewhere."""
        return q[..., GHOSTS:-GHOSTS, GHOSTS:-GHOSTS].copy()

    def to_columns(self, rows: NDArray[Any], ny: int) -> NDArray[Any]:
        """From a slab of rows (ny_local, n) to a slab of columns (ny, n_local) of the same ny x n array."""
        return rows

    def to_rows(self, columns: NDArray[Any], n: int) -> NDArray[Any]:
        """The inverse of `to_columns`: from (ny, n_local) to (ny_local, n)."""
        return columns

    def exchange(self, blocks: list[NDArray[Any]], shapes: list[tuple[int, int]]) -> list[NDArray[Any]]:
        """Send block r (n, m) to rank r, and receive one of shape shapes[r] from it."""
        return blocks

    def abort(self, message: str, code: int) -> None:
        """End the whole job with a message and an exit code."""
        print(message, file=sys.stderr, flush=True)
        raise SystemExit(code)


class MpiCommunicator(Communicator):
    """Slabs of rows over the ranks of an mpi4py communicator; rank r's upper neighbour is r + 1, periodic."""

    def __init__(self, mpi: Any, comm: Any) -> None:
        super().__init__()
        self._mpi, self._comm = mpi, comm
        self.rank, self.size = comm.rank, comm.size

    def barrier(self) -> None:
        self._comm.Barrier()

    def sum(self, x: float) -> float:
        return float(sum(self._comm.allgather(x)))

    def max(self, x: float) -> float:
        return float(self._comm.allreduce(x, op=self._mpi.MAX))

    def each(self, x: NDArray[Any]) -> NDArray[Any]:
        result = np.empty((self.size, *x.shape), dtype=x.dtype)
        self._comm.Allgather(np.ascontiguousarray(x), result)
        return result

    def any(self, flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
        result = np.empty_like(flags)
        self._comm.Allreduce(np.ascontiguousarray(flags), result, op=self._mpi.LOR)
        return result

    def sum_rows(self, rows: Floats, ny: int) -> Floats:
        flat = rows.reshape(-1, rows.shape[-1])
        counts = np.diff(slab_bounds(ny, self.size)) * len(flat)
        every = np.empty((ny, len(flat)))
        self._comm.Allgatherv(np.ascontiguousarray(flat.T), (every, counts))
        return np.ascontiguousarray(every.T).sum(axis=-1).reshape(rows.shape[:-1])

    def update(self, q: Floats, width: int = GHOSTS) -> None:
        _wrap_columns(q, width)
        first, last, below, above = _edges(q, width)
        down, up = (self.rank - 1) % self.size, (self.rank + 1) % self.size
        sent = np.ascontiguousarray(first), np.ascontiguousarray(last)
        received = np.empty(first.shape), np.empty(first.shape)
        self._comm.Sendrecv(sent[0], down, 1, received[0], up, 1)
        self._comm.Sendrecv(sent[1], up, 2, received[1], down, 2)
        above[...], below[...] = received

    def gather(self, q: Floats) -> Floats | None:
        slabs = self._comm.gather(super().gather(q))
        return None if slabs is None else np.concatenate(slabs, axis=-2)

    def to_columns(self, rows: NDArray[Any], ny: int) -> NDArray[Any]:
        cuts = slab_bounds(rows.shape[1], self.size)
        width = int(cuts[self.rank + 1] - cuts[self.rank])
        shapes = [(int(height), width) for height in np.diff(slab_bounds(ny, self.size))]
        return np.concatenate(self.exchange(np.split(rows, cuts[1:-1], axis=1), shapes), axis=0)

    def to_rows(self, columns: NDArray[Any], n: int) -> NDArray[Any]:
        cuts = slab_bounds(columns.shape[0], self.size)
        height = int(cuts[self.rank + 1] - cuts[self.rank])
        shapes = [(height, int(width)) for width in np.diff(slab_bounds(n, self.size))]
        return np.concatenate(self.exchange(np.split(columns, cuts[1:-1], axis=0), shapes), axis=1)

    def exchange(self, blocks: list[NDArray[Any]], shapes: list[tuple[int, int]]) -> list[NDArray[Any]]:
        sent = np.concatenate([block.ravel() for block in blocks])
        sizes = np.array([height * width for height, width in shapes])
        received = np.empty(int(sizes.sum()), dtype=sent.dtype)
        kind = self._mpi._typedict[sent.dtype.char]
        counts = np.array([block.size for block in blocks])
        self._comm.Alltoallv([sent, counts, kind], [received, sizes, kind])
        parts = np.split(received, np.cumsum(sizes)[:-1])
        return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]

    def abort(self, message: str, code: int) -> None:
        print(message, file=sys.stderr, flush=True)
        time.sleep(_LAST_WORDS)
        self._comm.Abort(code)


def _wrap_columns(q: Floats, width: int) -> None:
    g, w = GHOSTS, width
    q[..., g:-g, g - w : g] = q[..., g:-g, -g - w : -g]
    q[..., g:-g, q.shape[-1] - g : q.shape[-1] - g + w] = q[..., g:-g, g : g + w]


def _edges(q: Floats, width: int) -> tuple[Floats, Floats, Floats, Floats]:
    """Views of `width` rows: the first and the last of the interior, and the ghosts below and above it."""
    g, w, n = GHOSTS, width, q.shape[-2]
    return (
        q[..., g : g + w, :],
        q[..., n - g - w : n - g, :],
        q[..., g - w : g, :],
        q[..., n - g : n - g + w, :],
    )


def connect() -> Communicator:
    """The communicator of this job: MPI when a launcher started more than one process, else a stand-in without MPI.

    Under MPI an uncaught exception on any rank ends the whole job, and thread counts are divided among the ranks of
    the machine unless the user set them. Raises UsageError when the launcher belongs to another MPI than mpi4py's.
    """
    world = mpi_world()
    if world is None:
        return Communicator()
    from mpi4py import MPI

    comm = MpiCommunicator(MPI, world)
    sys.excepthook = _abort_all(comm)
    _share_threads(world.Split_type(MPI.COMM_TYPE_SHARED).size)
    return comm


def _abort_all(comm: Communicator) -> Callable[[type[BaseException], BaseException, TracebackType | None], None]:
    """An excepthook that names rank and step and ends the job; without it the other ranks would wait for ever."""

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not isinstance(error, ChemnetError):
            traceback.print_exception(kind, error, trace)
        comm.abort(f"[rank {comm.rank}] step {comm.step}: {error}", getattr(error, "exit_code", 70))

    return hook


def _share_threads(ranks_here: int) -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for name in _THREADS:
        os.environ.setdefault(name, str(max(1, cores // ranks_here)))
