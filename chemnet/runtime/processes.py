"""Ordered map over worker processes or MPI ranks: the same results in the same order for any number of them."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import pickle
import platform
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from chemnet.runtime.errors import ChemnetError, UsageError

_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # "max 100000", or microseconds of CPU time per period

_LAUNCHER_SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
_LAUNCHER_RANKS = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "CHEMNET_NUM_THREADS")

# Options of glibc's mallopt: M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD [bytes].
_KEEP = ((-1, 1 << 29), (-2, 1 << 26), (-3, 1 << 25))
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}  # number of the system call; the C library has no name for it
_SHORTEST_SLICE = 100_000  # [ns], the least that Linux grants

_PATIENCE = 4.0  # [s] for a worker to leave what it is at

_ranks: Any | None = None  # executor of rank 0, while the other ranks wait for tasks

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(function: Callable[[Item], Result], items: Iterable[Item], n_workers: int) -> Iterator[Result]:
    """Results of `function`, in the order of the items; one worker is this process.

    Inside `other_ranks` the ranks compute them, for any `n_workers`. Workers are spawned (numba, torch and MPI do not
    survive a fork) with one thread each and end with this process; `function` and items must pickle. Exceptions of a
    worker are raised here, ChemnetError when one is killed or none can be started. What ends the map ends the workers
    within seconds, whatever they are at.
    """
    if _ranks is not None:
        yield from _ranks.map(function, items)
    elif n_workers == 1:
        yield from map(function, items)
    else:
        others = set(multiprocessing.active_children())
        pool = _worker_pool(n_workers)
        try:
            with _scripts_not_run_again(function):
                tasks = [pool.submit(_run_task, function, item) for item in items]
            while tasks:
                yield tasks.pop(0).result()
        except BrokenProcessPool:
            raise ChemnetError("a worker process was killed, perhaps out of memory\nTake fewer workers.") from None
        except BaseException:
            _stop(set(multiprocessing.active_children()) - others)
            raise
        finally:
            pool.shutdown()


def _worker_pool(n_workers: int) -> ProcessPoolExecutor:
    try:
        return ProcessPoolExecutor(n_workers, multiprocessing.get_context("spawn"), _begin_worker)
    except OSError as error:
        raise ChemnetError(
            f"worker processes need shared memory, which is not to be had here: /dev/shm, {error.strerror}\n"
            "Take one worker, or start the container with --shm-size=1g."
        ) from None


@contextmanager
def _scripts_not_run_again(function: Callable[..., Any]) -> Iterator[None]:
    """Workers that start in the body do not run the user's script again, as spawned ones do to find what it defines.

    So a flat script needs no `if __name__ == "__main__":`. Where the function is one of the script, they do run it.
    """
    script: dict[str, Any] = vars(sys.modules["__main__"])
    if b"__main__" in pickle.dumps(function):
        yield
        return
    kept = {name: value for name, value in script.items() if name in ("__spec__", "__file__")}
    script.update(dict.fromkeys(kept))
    try:
        yield
    finally:
        script.update(kept)


@contextmanager
def other_ranks() -> Iterator[bool]:
    """Let the other ranks of a launcher compute what rank 0 gives to `ordered_map`.

    True on rank 0 and without a launcher; on the other ranks False, after rank 0 has left the body. Raises UsageError
    as `mpi_world` does.
    """
    global _ranks
    world = mpi_world()
    if world is None:
        yield True
        return
    from mpi4py.futures import MPICommExecutor

    for name in _THREADS:
        os.environ.setdefault(name, "1")
    with MPICommExecutor(world, root=0) as executor:
        _ranks = executor
        try:
            yield executor is not None
        finally:
            _ranks = None


def number_of_workers(n_workers: int) -> int:
    """Number of processes that compute what `ordered_map` is given."""
    return n_workers if _ranks is None else int(_ranks.num_workers)


def is_first_rank() -> bool:
    """Whether this is the first of the processes of a launcher, or one without a launcher; known before MPI is."""
    return all(os.environ.get(name, "0") == "0" for name in _LAUNCHER_RANKS)


def mpi_world() -> Any | None:
    """mpi4py's communicator of all processes of a launcher; None for one process.

    Raises UsageError when the launcher belongs to another MPI than mpi4py's.
    """
    launched = max((int(os.environ.get(name, "1") or 1) for name in _LAUNCHER_SIZES), default=1)
    if launched == 1:
        return None
    import mpi4py

    mpi4py.rc.initialize, mpi4py.rc.finalize = False, True  # MPICH aborts at once where Open MPI's launcher started it
    from mpi4py import MPI

    library = MPI.get_vendor()[0]
    is_foreign = library == "MPICH" and bool(os.environ.get("OMPI_COMM_WORLD_SIZE"))
    if not is_foreign and not MPI.Is_initialized():
        MPI.Init_thread()
    if is_foreign or MPI.COMM_WORLD.size == 1:
        launcher = Path(sys.executable).parent / "mpiexec"
        found = str(launcher) if launcher.exists() else f"the mpiexec of {library}"
        raise UsageError(
            f"the launcher started {launched} processes, but mpi4py's MPI library ({library}) does not know it:\n"
            f"the launcher belongs to another MPI; use {found}."
        )
    return MPI.COMM_WORLD


def shorten_time_slices() -> bool:
    """Ask the scheduler to run this process in slices of 0.1 ms instead of about 3 ms; whether it does.

    Its share of the processor stays as it is, but it waits less for each turn, which counts for processes that wait
    for one another. Linux from 6.12 on; elsewhere, and for a process with a policy of its own, nothing changes.
    """
    number = _SCHED_SETATTR.get(platform.machine())
    if sys.platform != "linux" or number is None or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return False
    # struct sched_attr: size, policy, flags, nice, priority, runtime (the slice), deadline, period, two clamps
    attributes = struct.pack(
        "=IIQiIQQQII", 56, os.SCHED_OTHER, 0, os.getpriority(os.PRIO_PROCESS, 0), 0, _SHORTEST_SLICE, 0, 0, 0, 0
    )
    return ctypes.CDLL(None).syscall(number, 0, attributes, 0) == 0


def keep_freed_memory() -> bool:
    """Keep memory that arrays give back for the next ones, up to 0.5 GB; whether the allocator does.

    By itself glibc returns arrays of 0.1 MB and more to the system, and getting such pages anew costs as much as a
    Fourier transform of what they hold. With another C library nothing changes.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    return set_option is not None and all(set_option(*option) == 1 for option in _KEEP)


def yield_core() -> None:
    """Let another process that waits for this core have it now."""
    if hasattr(os, "sched_yield"):
        os.sched_yield()
    else:
        time.sleep(0.0)


def _stop(workers: Iterable[multiprocessing.process.BaseProcess]) -> None:
    """End workers: they may leave what they are at, and are killed where that takes too long."""
    end = time.monotonic() + _PATIENCE
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.join(max(0.0, end - time.monotonic()))
        worker.kill()


def _begin_worker() -> None:
    """Limit the libraries of a worker to one thread, since workers share the cores.

    Ctrl-C reaches all processes of a terminal: it is the first process that ends the others, by SIGTERM.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    for name in _THREADS:
        os.environ[name] = "1"
    signal.signal(signal.SIGTERM, _leave)


def _run_task(function: Callable[[Item], Result], item: Item) -> Result:
    """Result of a task in a worker, which ends where it has been told to leave."""
    try:
        return function(item)
    except SystemExit as end:
        os._exit(end.code if isinstance(end.code, int) else 1)


def _leave(signum: int, frame: FrameType | None) -> None:
    """Leave all bodies, so that temporary folders vanish, and end; the pool ends those that are left a second time."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(128 + signum)


def _end_with_parent() -> None:
    """End this worker when its parent is killed, instead of waiting for a next task."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def available_cores() -> int:
    """Number of cores this process may use: its CPU affinity, and the quota of its control group."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if _QUOTA.exists():
        quota, period = _QUOTA.read_text().split()
        if quota != "max":
            cores = min(cores, max(1, round(int(quota) / int(period))))
    return cores
