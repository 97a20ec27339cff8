"""Kernels are compiled when the disk has no copy of them, once per machine; as it takes seconds, it is said."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import Any

from numba.core import event

_LAUNCHERS = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID")


class _Announcement(event.Listener):
    """Says once that a function is being compiled."""

    def __init__(self, function: Callable[..., Any], text: str) -> None:
        self.function, self.text, self.made = function, text, False

    def on_start(self, event: event.Event) -> None:
        if event.data["dispatcher"] is self.function and not self.made:
            self.made = True
            print(self.text, file=sys.stderr)

    def on_end(self, event: event.Event) -> None:
        pass


@functools.cache
def announce_compilation(function: Callable[..., Any], what: str, seconds: int) -> None:
    """From now on, say when this compiled function has to be compiled.

    Of several processes that a launcher started, the first speaks.
    """
    if all(os.environ.get(name, "0") == "0" for name in _LAUNCHERS):
        text = f"compiling {what} for this machine, once (some {seconds} s)"
        event.register("numba:compile", _Announcement(function, text))
