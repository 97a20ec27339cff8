"""Keep freed memory in the process: the tensors of a convolutional network are large, and glibc gives each of them back
to the kernel when it is freed, whose pages are then faulted in again one by one, for half of the time of a step."""

from __future__ import annotations

import ctypes
import functools

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # malloc.h
_LARGEST = 2**31 - 1
_PAD = 256 * 2**20


@functools.cache
def keep_freed_memory() -> bool:
    """Tell malloc to keep what is freed, for the rest of the process; False where there is no glibc to tell it to."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _LARGEST), (_M_TOP_PAD, _PAD))
    return all([mallopt(name, value) == 1 for name, value in settings])
