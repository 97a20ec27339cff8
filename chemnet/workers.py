"""An ordered map over worker processes: the same results in the same order for any number of workers."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # "max 100000", or microseconds of CPU time per period

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(function: Callable[[Item], Result], items: Iterable[Item], n_workers: int) -> Iterator[Result]:
    """`function` of each item, in the order of the items; with one worker in this process.

    Workers are started afresh (never forked: numba, torch and MPI do not survive a fork) with one thread each, and
    end with this process, however it ends; `function` and items must pickle. An exception in a worker is raised here.
    """
    if n_workers == 1:
        yield from map(function, items)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n_workers, context, _begin_worker) as pool:
        yield from pool.map(function, items)


def _begin_worker() -> None:
    """Workers share the cores among themselves, so no library may start threads of its own in them."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = "1"


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for its next task for ever."""
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
