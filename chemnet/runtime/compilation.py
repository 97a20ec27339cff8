"""Compilation of kernels by numba, which takes seconds, once per machine: its cache, and its announcement."""

from __future__ import annotations

import functools
import hashlib
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numba
from numba import njit
from numba.core import event
from numba.core.caching import CompileResultCacheImpl, FunctionCache

from chemnet.runtime.caches import refuse_missing_home, temporary_cache
from chemnet.runtime.processes import is_first_rank


def cached_njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """`njit(**options)` whose results are kept from one process to the next, until a kernel is changed.

    numba itself looks at the function's own file only. A kernel that is inlined from another one could change, by an
    update of the package, and its callers would go on with what it was.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        dispatcher = njit(**options)(function)
        with suppress(_NoFolder):
            dispatcher._cache = _Cache(function)
        return dispatcher

    return decorate


class _NoFolder(Exception):
    """Nothing can be written to, not even a temporary folder."""


class _CacheImpl(CompileResultCacheImpl):  # type: ignore[misc]
    def __init__(self, function: Callable[..., Any]) -> None:
        refuse_missing_home()
        try:
            super().__init__(function)
        except RuntimeError:  # NUMBA_CACHE_DIR, the module's folder and the one at home cannot be written to
            folder = temporary_cache()
            if folder is None:
                raise _NoFolder from None
            numba.config.CACHE_DIR = str(folder / "numba")
            super().__init__(function)
        root = Path(__file__).parents[1], Path(function.__code__.co_filename).parent
        self.locator.get_source_stamp = functools.partial(_checksum_of_kernels, *root)


class _Cache(FunctionCache):  # type: ignore[misc]
    _impl_class = _CacheImpl


def cache_folder() -> tuple[Path | None, bool]:
    """Folder for compiled kernels, such as those of this module (None: none), and whether it is a temporary one."""
    try:
        folder = Path(_Cache(cache_folder).cache_path)
    except _NoFolder:
        return None, True
    return folder, os.environ.get("NUMBA_CACHE_DIR", "") != numba.config.CACHE_DIR


@functools.cache
def _checksum_of_kernels(*folders: Path) -> str:
    """SHA-256 of the sources in some folders, and below, that are compiled."""
    checksum = hashlib.sha256()
    for path in sorted({path for folder in folders for path in folder.rglob("*.py")}):
        source = path.read_bytes()
        if b"njit" in source or b"@kernel" in source:
            checksum.update(source)
    return checksum.hexdigest()


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
