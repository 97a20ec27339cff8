"""Errors for users, and the exit code that each kind of error ends a command with."""

from __future__ import annotations

import argparse
import errno
import io
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

from chemnet.runtime.nearest import nearest


class ChemnetError(Exception):
    """A failure with a message for the user (at most three lines: what, where, what to do)."""

    exit_code = 1


class UsageError(ChemnetError):
    """Wrong arguments or configuration: a bad key or value, another mechanism, another time step."""

    exit_code = 2


class NumericalError(ChemnetError):
    """A computation failed or was given invalid states."""

    exit_code = 3


class FileError(ChemnetError):
    """A named data, model or checkpoint file is missing or corrupt, or cannot be written."""

    exit_code = 4


class Parser(argparse.ArgumentParser):
    """Argument parser that raises usage errors of two lines, with the nearest name for one that does not exist."""

    def error(self, message: str) -> NoReturn:
        """Raises UsageError."""
        raise UsageError(f"{message}{self._meant(message)}\nTry: {self.prog} --help")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Arguments, of which none may be unknown to the command that they belong to."""
        found, others = super().parse_known_args(args, namespace)
        if others:
            self.error(f"unrecognized arguments: {' '.join(others)}")
        return found, others

    def _meant(self, message: str) -> str:
        """What may have been meant by a wrong choice or option."""
        option = re.match(r"unrecognized arguments: (--[\w-]+)", message)
        if option is not None:
            close = nearest(option[1], self._option_string_actions)
            return f"; did you mean {close}?" if close else ""
        choice = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        if choice is None:
            return ""
        names = re.findall(r"[\w-]+", choice[2])
        close = nearest(choice[1], names)
        if close is None and "model" in names:
            return f"; for a model: {self.prog} model {choice[1]}"
        return f"; did you mean {close}?" if close else ""


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DISK_ERRORS = (
    *_FULL,
    errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG,
)  # fmt: skip


def expected(error: BaseException) -> ChemnetError | None:
    """The error as one with a message for the user: a ChemnetError, or an OSError of a disk, or that names a file, as
    FileError; else None."""
    if isinstance(error, OSError) and error.errno and (error.errno in _DISK_ERRORS or error.filename):
        where = f": {error.filename}" if error.filename else ""
        way_out = "Free space or choose another folder." if error.errno in _FULL else "Choose another file or folder."
        return FileError(f"{error.strerror}{where}\n{way_out}")
    if isinstance(error, FileNotFoundError) and "temporary directory" in str(error):
        return FileError("no temporary folder can be written to\nName one that can: export TMPDIR=FOLDER")
    return error if isinstance(error, ChemnetError) else None


def exit_code(error: BaseException) -> int:
    """Exit code of a process that ends by this error, see `run_command`."""
    if isinstance(error, KeyboardInterrupt):
        return 128 + signal.SIGINT
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        return error.code
    told = expected(error)
    return 70 if told is None else told.exit_code


def _raise_on_sigterm(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + signum)


@contextmanager
def signals_wait() -> Iterator[list[int]]:
    """Signals SIGINT and SIGTERM, kept in the yielded list so that a loop can end between two steps; a second one acts.

    Only the main thread receives signals; in others the list stays empty.
    """
    waiting: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield waiting
        return

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def keep(signum: int, frame: FrameType | None) -> None:
        waiting.append(signum)
        restore()

    before = {number: signal.signal(number, keep) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield waiting
    finally:
        restore()


def end_by(signum: int) -> NoReturn:
    """End by a signal that has waited, also where it is ignored, as SIGINT is by the background jobs of a shell."""
    signal.raise_signal(signum)
    raise KeyboardInterrupt


def run_command(main: Callable[[], int | None], name: str) -> int:
    """Exit code of a command with the body `main`; messages go to standard error.

    0 ok, 1 other, 2 usage, 3 numerical failure, 4 file missing or corrupt or disk full, 70 internal (the only
    one with a traceback), 130 and 143 for SIGINT and SIGTERM.
    """
    signal.signal(signal.SIGTERM, _raise_on_sigterm)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # a log file shows where a command is
    try:
        code = main() or 0
        sys.stdout.flush()  # a pipe without a reader must break here, not when the interpreter shuts down
        return code
    except BrokenPipeError:  # `head` and the like close the output early
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        told = expected(error)
        if told is not None:
            print(f"{name}: {told}", file=sys.stderr)
            return told.exit_code
        traceback.print_exc()
        print(f"{name}: internal error; please report the lines above.", file=sys.stderr)
        return 70
