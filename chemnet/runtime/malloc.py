"""Freed memory kept in the process.

By default glibc returns large freed tensors to the kernel; the page faults of the next ones take half of a step's time.
"""

from __future__ import annotations

import ctypes
import functools

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # malloc.h
_LARGEST = 2**31 - 1
_PAD = 256 * 2**20


@functools.cache
def keep_freed_memory() -> bool:
    """Keep freed memory for the rest of the process; False where there is no glibc."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _LARGEST), (_M_TOP_PAD, _PAD))
    return all([mallopt(name, value) == 1 for name, value in settings])
