"""Announcement of the compilation of kernels by numba, which takes seconds, once per machine."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

from numba.core import event

from chemnet.runtime.processes import is_first_rank


class _Announcement(event.Listener):
    """Announcement, made once, that a function is being compiled."""

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
    """Print a line when a function is compiled; of the processes of a launcher, only the first one prints it."""
    if is_first_rank():
        text = f"compiling {what} for this machine, once (some {seconds} s)"
        event.register("numba:compile", _Announcement(function, text))
