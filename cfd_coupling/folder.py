"""The folder of a run: one process has it, a run in it is not lost by accident, and a run goes on where it was saved.

manifest.json says whether the run is finished; run.lock names the process that works in the folder.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import socket
from pathlib import Path
from typing import Any, TextIO

from cfd_coupling.checkpoint import FOLDER as CHECKPOINTS
from cfd_coupling.checkpoint import checkpoints
from cfd_coupling.output import remove_snapshots, snapshots
from chemnet.runtime.errors import FileError, UsageError
from chemnet.runtime.files import is_running, is_temporary, read_json, write_json, write_text

LOCK = "run.lock"
MANIFEST = "manifest.json"
SNAPSHOTS = "snapshots"


class RunFolder:
    """The folder of one run, used by rank 0 alone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.snapshots, self.checkpoints = path / SNAPSHOTS, path / CHECKPOINTS
        self._lock: TextIO | None = None

    @property
    def manifest(self) -> dict[str, Any] | None:
        """The manifest, None when there is no run in the folder."""
        return dict(read_json(self.path / MANIFEST)) if (self.path / MANIFEST).exists() else None

    @property
    def is_finished(self) -> bool:
        """Whether the run in it is finished."""
        return bool((self.manifest or {}).get("finished"))

    def begin(self, overwrite: bool) -> None:
        """Lock the folder and empty it.

        Raises UsageError when another process has it, or it holds what may be dear: a finished run, an unfinished one
        that got beyond its start (both only without `overwrite`), anything that is no run.
        """
        if self.manifest is None and any(path.is_file() for path in self._content()):
            raise UsageError(f"{self.path} is not empty and holds no run; name another folder with --out")
        self.lock()
        try:
            if not overwrite:
                self._check_nothing_is_lost()
            self._empty()
        except BaseException:
            self.release()
            raise

    def _content(self) -> list[Path]:
        """What the folder holds, but for the lock and what a killed process left half written."""
        return [path for path in self.path.rglob("*") if path.name != LOCK and not is_temporary(path)]

    def _empty(self) -> None:
        """Remove all but the lock, the manifest at last: until then the folder is known as that of a run."""
        for path in sorted(self.path.iterdir(), key=lambda path: path.name == MANIFEST):
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != LOCK:
                path.unlink()
        for folder in (self.snapshots, self.checkpoints):
            folder.mkdir()

    def _check_nothing_is_lost(self) -> None:
        if self.is_finished:
            raise UsageError(f"{self.path} holds a finished run; add --overwrite, or name another folder with --out")
        saved, seen = checkpoints(self.checkpoints), snapshots(self.snapshots)[1:]
        if saved:
            raise UsageError(
                f"{self.path} holds an unfinished run with a checkpoint at step {step_of(saved[-1])};\n"
                "go on with --resume, or replace it with --overwrite."
            )
        if seen:
            raise UsageError(
                f"{self.path} holds an unfinished run of {step_of(seen[-1])} steps without a checkpoint;\n"
                "replace it with --overwrite, or name another folder with --out."
            )

    def lock(self) -> None:
        """Take the folder, making it if need be. Raises UsageError, naming process and machine, when another has it.

        The operating system gives the lock of a process that has ended free.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        name = self.path / LOCK
        while self._lock is None:
            file = open(name, "a+", encoding="utf-8")  # noqa: SIM115 (open as long as the run)
            free = _flock(file)
            if free and not _is_at(file, name):
                file.close()  # its owner has removed it just now
                continue
            file.seek(0)
            owner = _owner(file.read())
            here = owner.get("host", socket.gethostname()) == socket.gethostname()
            if free is None:
                free = not is_running(str(owner.get("pid", "")))
            if not (free and here):
                file.close()
                raise UsageError(
                    f"process {owner.get('pid', '?')} on {owner.get('host', '?')} is running in {self.path};\n"
                    f"name another folder with --out, or remove {name} if that run has ended."
                )
            file.truncate(0)
            json.dump({"pid": os.getpid(), "host": socket.gethostname()}, file)
            file.flush()
            self._lock = file

    def release(self) -> None:
        """Give the folder free."""
        if self._lock is not None:
            (self.path / LOCK).unlink(missing_ok=True)
            self._lock.close()
            self._lock = None

    def go_back(self, step: int, *, row: bool, snapshot: bool) -> None:
        """Remove what is later than `step`; its own row and snapshot stay when a run to a later end has them too."""
        for path in self.path.rglob("*"):
            if is_temporary(path):
                path.unlink()
        remove_snapshots(self.snapshots, step if snapshot else step - 1)
        _cut_history(self.path / "history.csv", step if row else step - 1)

    def write_manifest(self, case_text: str, content: dict[str, Any]) -> None:
        """Write the manifest, which makes the folder that of a run, and case.yaml."""
        write_json(self.path / MANIFEST, content)
        write_text(self.path / "case.yaml", case_text)


def step_of(path: Path) -> int:
    """Step of a checkpoint or snapshot, by its name."""
    return int(path.stem.removeprefix("step_"))


def is_run(path: Path) -> bool:
    """Whether a path is the folder of a run."""
    manifest = path / MANIFEST
    return manifest.is_file() and read_json(manifest).get("kind") == "run"


def _flock(file: TextIO) -> bool | None:
    """Lock an open file; False when another process holds it, None on a file system without locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else None
    return True


def _is_at(file: TextIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _owner(text: str) -> dict[str, Any]:
    try:
        return dict(json.loads(text))
    except ValueError:
        return {}


def _cut_history(path: Path, step: int) -> None:
    """Drop the rows later than `step`, and a last line that was cut off while it was written."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FileError(f"no file {path}; the run cannot go on without its history") from None
    header, *rows = text[: text.rfind("\n") + 1].splitlines()
    kept = [row for row in rows if float(row.partition(",")[0]) <= step]
    write_text(path, "\n".join([header, *kept]) + "\n")
