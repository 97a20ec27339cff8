"""Where libraries keep what they have made for the next process: at home, or else below the temporary folder."""

from __future__ import annotations

import functools
import multiprocessing
import os
import stat
import sys
import tempfile
from pathlib import Path

from chemnet.runtime.processes import is_first_rank


@functools.cache
def temporary_cache() -> Path | None:
    """This user's folder for caches below the temporary one; None where there is none. Says so on its first use.

    The folder is that of the next process, too, unless another user could have written to it.
    """
    try:
        folder = Path(tempfile.gettempdir()) / f"chemnet-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        if not _is_private(folder):
            folder = Path(tempfile.mkdtemp(prefix="chemnet-"))
    except OSError:
        _say("no folder can be written to, at home or elsewhere: kernels are compiled anew by each process")
        return None
    _say(f"the usual folders for caches cannot be written to: they are kept in {folder}")
    return folder


def _is_private(folder: Path) -> bool:
    """Whether a folder is no link, this user's own, and can be written to by this user alone."""
    found = folder.lstat()
    others_write = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not others_write and writable(folder)


def _say(text: str) -> None:
    if is_first_rank() and multiprocessing.parent_process() is None:
        print(f"chemnet: {text}", file=sys.stderr)


def writable(folder: Path) -> bool:
    """Whether this user can write to a folder, or make it."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def refuse_missing_home() -> None:
    """Without a home, as of a container's user, keep libraries from writing to a folder called `~` here."""
    if not os.environ.get("XDG_CACHE_HOME") and not os.path.isabs(os.path.expanduser("~")):
        os.environ["XDG_CACHE_HOME"] = os.devnull  # no folder can be made in it


def redirect_matplotlib() -> None:
    """Have matplotlib, before it is imported, keep its list of fonts in the temporary cache if it cannot at home."""
    if os.environ.get("MPLCONFIGDIR"):
        return
    home = os.path.expanduser("~")
    for name, usual in (("XDG_CONFIG_HOME", ".config"), ("XDG_CACHE_HOME", ".cache")):
        folder = Path(os.environ.get(name) or os.path.join(home, usual), "matplotlib")
        if not (folder.is_absolute() and writable(folder)) and (cache := temporary_cache()) is not None:
            os.environ["MPLCONFIGDIR"] = str(cache / "matplotlib")
