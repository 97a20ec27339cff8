"""The only door to MPI: ghost cells, sums, transposes and abort, with the same verbs for one process without MPI.

Sums over cells go row by row and then over all rows of the box in one order, so that a result does not depend on the
number of ranks, not even in its last bit.

No verb blocks inside MPI. A rank that waits yields its core, and has asked for short time slices, so that it is back as
soon as its message is there. Mean time of a step of 128 x 128 cells on two ranks and two cores, with other processes
beside them that only compute:

    others  waits that spin  MPICH's own waits  these
    0                        43 ms              43 ms
    2                        170                122
    some 5  1120             390                190
"""

from __future__ import annotations

import os
import pickle
import sys
import time
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cfd_coupling.grid import GHOSTS, slab_bounds
from chemnet.runtime.errors import exit_code, expected
from chemnet.runtime.processes import keep_freed_memory, mpi_world, shorten_time_slices, yield_core

Floats = NDArray[np.float64]

_THREADS = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
_SPIN = 3e-5  # [s] of waiting before the core is offered to others; most messages are there by then
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

    def scatter(self, whole: Floats | None, q: Floats) -> None:
        """The inverse of `gather`: fill the interior of q from the whole box (..., ny, nx), given on rank 0."""
        q[..., GHOSTS:-GHOSTS, GHOSTS:-GHOSTS] = whole

    def broadcast(self, content: Any) -> Any:
        """The plain data of rank 0, on every rank."""
        return content

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

    def _wait(self, *requests: Any) -> None:
        """Wait for all of `requests`, and let other processes have the core meanwhile.

        Between processes that only compute, a rank that spins keeps the core that its neighbour needs to send what it
        waits for; one that sleeps gets the core back too late. Signals are answered while it waits.
        """
        done, start = self._mpi.Request.Testall, time.perf_counter()
        while not done(requests):
            if time.perf_counter() - start > _SPIN:
                yield_core()

    def barrier(self) -> None:
        self._wait(self._comm.Ibarrier())

    def sum(self, x: float) -> float:
        return float(sum(self.each(np.array([float(x)]))[:, 0].tolist()))

    def max(self, x: float) -> float:
        return float(self.each(np.array([float(x)])).max())

    def each(self, x: NDArray[Any]) -> NDArray[Any]:
        result = np.empty((self.size, *x.shape), dtype=x.dtype)
        self._wait(self._comm.Iallgather(np.ascontiguousarray(x), result))
        return result

    def any(self, flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
        result = np.empty_like(flags)
        self._wait(self._comm.Iallreduce(np.ascontiguousarray(flags), result, op=self._mpi.LOR))
        return result

    def sum_rows(self, rows: Floats, ny: int) -> Floats:
        flat = rows.reshape(-1, rows.shape[-1])
        counts = np.diff(slab_bounds(ny, self.size)) * len(flat)
        every = np.empty((ny, len(flat)))
        self._wait(self._comm.Iallgatherv(np.ascontiguousarray(flat.T), (every, counts)))
        return np.ascontiguousarray(every.T).sum(axis=-1).reshape(rows.shape[:-1])

    def update(self, q: Floats, width: int = GHOSTS) -> None:
        _wrap_columns(q, width)
        first, last, below, above = _edges(q, width)
        down, up = (self.rank - 1) % self.size, (self.rank + 1) % self.size
        sent = np.ascontiguousarray(first), np.ascontiguousarray(last)
        received = np.empty(first.shape), np.empty(first.shape)
        self._wait(
            self._comm.Irecv(received[0], up, 1),
            self._comm.Irecv(received[1], down, 2),
            self._comm.Isend(sent[0], down, 1),
            self._comm.Isend(sent[1], up, 2),
        )
        above[...], below[...] = received

    def gather(self, q: Floats) -> Floats | None:
        mine = q[..., GHOSTS:-GHOSTS, GHOSTS:-GHOSTS].copy()
        heights = self.each(np.array([mine.shape[-2]]))[:, 0]
        if self.rank != 0:
            self._wait(self._comm.Isend(mine, 0, 3))
            return None
        slabs = [np.empty((*mine.shape[:-2], height, mine.shape[-1]), mine.dtype) for height in heights[1:]]
        self._wait(*(self._comm.Irecv(slab, rank, 3) for rank, slab in enumerate(slabs, start=1)))
        return np.concatenate([mine, *slabs], axis=-2)

    def scatter(self, whole: Floats | None, q: Floats) -> None:
        height = q.shape[-2] - 2 * GHOSTS
        heights = self.each(np.array([height]))[:, 0]
        if whole is None:
            mine = np.empty((*q.shape[:-2], height, q.shape[-1] - 2 * GHOSTS), q.dtype)
            self._wait(self._comm.Irecv(mine, 0, 4))
        else:
            mine, *others = np.split(whole.astype(q.dtype, copy=False), np.cumsum(heights)[:-1], axis=-2)
            sent = enumerate(map(np.ascontiguousarray, others), start=1)
            self._wait(*(self._comm.Isend(slab, rank, 4) for rank, slab in sent))
        super().scatter(mine, q)

    def broadcast(self, content: Any) -> Any:
        text = pickle.dumps(content) if self.rank == 0 else b""
        buffer = np.empty(int(self.max(len(text))), dtype=np.uint8)
        buffer[: len(text)] = np.frombuffer(text, np.uint8)
        self._wait(self._comm.Ibcast(buffer))
        return pickle.loads(buffer.tobytes())

    def to_columns(self, rows: NDArray[Any], ny: int) -> NDArray[Any]:
        heights, widths = _slices(ny, self.size), _slices(rows.shape[1], self.size)
        mine = widths[self.rank]
        columns = np.empty((ny, mine.stop - mine.start), rows.dtype)
        sent = {rank: np.ascontiguousarray(rows[:, widths[rank]]) for rank in self._others()}
        self._swap(sent, {rank: columns[heights[rank]] for rank in self._others()})
        columns[heights[self.rank]] = rows[:, mine]
        return columns

    def to_rows(self, columns: NDArray[Any], n: int) -> NDArray[Any]:
        heights, widths = _slices(columns.shape[0], self.size), _slices(n, self.size)
        mine = heights[self.rank]
        height = mine.stop - mine.start
        rows = np.empty((height, n), columns.dtype)
        received = {rank: np.empty((height, w.stop - w.start), columns.dtype) for rank, w in enumerate(widths)}
        received[self.rank] = columns[mine]
        others = {rank: block for rank, block in received.items() if rank != self.rank}
        self._swap({rank: columns[heights[rank]] for rank in others}, others)
        for rank, block in received.items():
            rows[:, widths[rank]] = block
        return rows

    def _others(self) -> list[int]:
        return [rank for rank in range(self.size) if rank != self.rank]

    def _swap(self, sent: dict[int, NDArray[Any]], received: dict[int, NDArray[Any]]) -> None:
        """Send contiguous arrays to ranks and fill others with what they send."""
        receive = [self._comm.Irecv(block, rank, 5) for rank, block in received.items()]
        self._wait(*receive, *(self._comm.Isend(block, rank, 5) for rank, block in sent.items()))

    def exchange(self, blocks: list[NDArray[Any]], shapes: list[tuple[int, int]]) -> list[NDArray[Any]]:
        sent = np.concatenate([block.ravel() for block in blocks])
        sizes = np.array([height * width for height, width in shapes])
        received = np.empty(int(sizes.sum()), dtype=sent.dtype)
        kind = self._mpi._typedict[sent.dtype.char]
        counts = np.array([block.size for block in blocks])
        self._wait(self._comm.Ialltoallv([sent, counts, kind], [received, sizes, kind]))
        parts = np.split(received, np.cumsum(sizes)[:-1])
        return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]

    def abort(self, message: str, code: int) -> None:
        print(message, file=sys.stderr, flush=True)
        time.sleep(_LAST_WORDS)
        self._comm.Abort(code)


def _slices(n: int, size: int) -> list[slice]:
    """The slabs of n rows or columns on `size` ranks."""
    cuts = slab_bounds(n, size).tolist()
    return [slice(first, last) for first, last in zip(cuts[:-1], cuts[1:], strict=True)]


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
    keep_freed_memory()
    world = mpi_world()
    if world is None:
        return Communicator()
    from mpi4py import MPI

    comm = MpiCommunicator(MPI, world)
    sys.excepthook = _abort_all(comm)
    _share_threads(world.Split_type(MPI.COMM_TYPE_SHARED).size)
    shorten_time_slices()
    return comm


def _abort_all(comm: Communicator) -> Callable[[type[BaseException], BaseException, TracebackType | None], None]:
    """An excepthook that names rank and step and ends the job; without it the other ranks would wait for ever."""

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        told = expected(error)
        if told is None:
            traceback.print_exception(kind, error, trace)
        comm.abort(f"[rank {comm.rank}] step {comm.step}: {told or error}", exit_code(error) or 1)

    return hook


def _share_threads(ranks_here: int) -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for name in _THREADS:
        os.environ.setdefault(name, str(max(1, cores // ranks_here)))
