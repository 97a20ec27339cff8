"""Atomic writing of files, and the paths of the files that ship with the package."""

from __future__ import annotations

import errno
import glob
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chemnet.runtime.errors import FileError, UsageError


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Temporary path beside `path`, which on success is flushed to disk and moved into place.

    After a crash `path` is either the old file or the new one, never a part; temporary files of killed processes are
    removed when `path` is written again.
    """
    path = Path(path)
    _make_folder(path.parent)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    _remove_leftovers(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.touch()  # libraries that fill it say less well why they cannot
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)
        _flush(path.parent)
    except OSError as error:
        _name(error, temporary, path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path, replace: bool = False) -> Iterator[Path]:
    """Temporary folder beside `path`, empty, which on success is moved into its place.

    With `replace`, a folder that is there gives way; else, unless it is empty, OSError is raised. After a crash `path`
    is either the old folder or the new one, never a part, or in the moment of the change missing.
    """
    path = Path(path)
    _make_folder(path.parent)
    _remove_leftovers(path)
    temporary, old = (path.with_name(f".{path.name}.{os.getpid()}.{kind}") for kind in ("tmp", "old"))
    try:
        temporary.mkdir()
        yield temporary
        if replace and path.is_dir():
            os.rename(path, old)
        os.replace(temporary, path)
        _flush(path.parent)
    except OSError as error:
        _name(error, temporary, path)
        raise
    finally:
        if old.exists() and not path.exists():
            os.rename(old, path)
        for left in (temporary, old):
            shutil.rmtree(left, ignore_errors=True)


def _remove_leftovers(path: Path) -> None:
    """Remove the temporary files and folders that killed processes have left of `path`."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        if not is_running(left.name.split(".")[-2]):
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)


def _name(error: OSError, temporary: Path, path: Path) -> None:
    """Let an error name the path that is written, not the temporary one, or none, as that of a full disk does."""
    if error.filename is None or str(error.filename) == str(temporary):
        error.filename = str(path)


def _make_folder(path: Path) -> None:
    """Make a folder and those above it. Raises FileError where one of them is a file."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise FileError(f"{_lowest_there(path)} is a file, not a folder\nChoose another folder.") from None


def check_new(
    path: str | Path, overwrite: bool = False, way_out: str = "Choose another name, or add --overwrite."
) -> None:
    """Raise UsageError for a file, or a folder that is not empty, that is there and must not be replaced, and FileError
    for one that cannot be written; `way_out` is the last line of the message.

    To be called before work whose result goes there.
    """
    path = Path(path)
    if not overwrite and (path.is_file() or (path.is_dir() and any(path.iterdir()))):
        raise UsageError(f"{path} is there already\n{way_out}")
    check_writable(path)


def check_writable(path: str | Path) -> None:
    """Raise FileError, naming the folder, unless a file or folder can be made at `path`."""
    path = Path(path).absolute()
    folder = _lowest_there(path.parent)
    if not folder.is_dir():
        raise FileError(f"{folder} is a file, not a folder\nChoose another folder.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise FileError(f"{folder} cannot be written to\nChoose another folder, or change its permissions.")


def _lowest_there(path: Path) -> Path:
    """The path, or the lowest of the folders above it that exists, or is a file in the place of one."""
    return next(place for place in (path, *path.parents) if os.path.lexists(place))


def is_temporary(path: Path) -> bool:
    """Whether a file is one that `atomic` fills; outside of it, what a killed process has left."""
    return path.name.startswith(".") and path.name.endswith(".tmp")


def is_running(process: str) -> bool:
    """Whether there is a process of this number on this machine."""
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` (UTF-8) atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def append_text(path: str | Path, text: str) -> None:
    """Append `text` (UTF-8) to a file. Raises OSError, naming the file, when it cannot be written."""
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def write_json(path: str | Path, content: Any) -> None:
    """Write `content` as indented JSON, atomically."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def read_json(path: str | Path) -> Any:
    """The content of a JSON file. Raises FileError when it is missing or cannot be parsed."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileError(f"no file {path}") from None
    except ValueError as error:
        raise FileError(f"{path} is not valid JSON: {error}") from None


def shipped(relative: str) -> Path:
    """Path of a file or folder that ships with the project, such as `cases/turbulent_ignition`.

    In a checkout it lies beside the package, in an installation under `share/chemnet`.
    Raises FileError when it is in neither place.
    """
    for root in (Path(__file__).resolve().parents[2], Path(sys.prefix) / "share" / "chemnet"):
        if (root / relative).exists():
            return root / relative
    raise FileError(f"{relative} ships with chemnet but is missing here; reinstall the package")
