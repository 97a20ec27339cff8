"""Commands as a user starts them, on one rank or several, and what they end with."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

LAUNCHER = Path(sys.executable).parent / "mpiexec"
NO_LAUNCHER = "no mpiexec beside this Python; install the package with its extra for MPI"

_CASE = ("turbulent_ignition", "--variant", "demo")
_SMALL = (
    "grid.nx=32", "grid.ny=24", "grid.length_x=1.5e-3", "grid.length_y=1.125e-3", "initial.kernel_radius=2e-4",
    "initial.integral_length=5e-4", "output.history_every=1", "output.snapshot_every=1000",
)  # fmt: skip


@dataclass(frozen=True)
class Ended:
    """Exit code of a job (None: it was ended after its time), both its outputs, and its wall time [s] of the end."""

    code: int | None
    out: str
    err: str
    at: float


def job(module: str, *words: str, ranks: int = 1, seconds: float = 120.0, file_bytes: int | None = None) -> Ended:
    """Run `python -m module words` on some ranks; `file_bytes` is the most that a file may hold, as on a full disk."""
    command = _on_ranks(ranks, "-m", module, *words)
    if file_bytes is not None:
        limit = f"ulimit -f {file_bytes // 1024}; trap '' XFSZ; exec \"$@\""
        command = ["bash", "-c", limit, "limited", *command]
    process = subprocess.Popen(
        command, env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    code: int | None
    try:
        out, err = process.communicate(timeout=seconds)
        code = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        code = None
    return Ended(code, out, err, time.time())


def begin(ranks: int, *words: object, **variables: str) -> subprocess.Popen[str]:
    """Start `python -m cfd_coupling words` with variables of the environment; output and errors are one pipe."""
    return subprocess.Popen(
        _on_ranks(ranks, "-m", "cfd_coupling", *map(str, words)),
        env=_environment() | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def end(process: subprocess.Popen[str], seconds: float) -> tuple[str, float]:
    """Output and time [s] to the end of a process that should end by itself within `seconds`.

    Raises AssertionError, and kills it, when it does not.
    """
    start = time.monotonic()
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        raise AssertionError(f"it hung:\n{output}") from None
    return output, time.monotonic() - start


def until_step(process: subprocess.Popen[str], step: int) -> str:
    """Read the log of a run until it has come to a step; returns what was read."""
    read = ""
    for line in process.stdout or ():
        read += line
        reached = re.match(r"step\s+(\d+)/", line)
        if reached and int(reached[1]) >= step:
            return read
    raise AssertionError(f"it ended before step {step}:\n{read}")


def _on_ranks(ranks: int, *words: str) -> list[str]:
    """The command of Python with some words on a number of ranks."""
    launcher = [str(LAUNCHER), "-n", str(ranks)] if ranks > 1 else []
    return [*launcher, sys.executable, *words]


def _environment() -> dict[str, str]:
    """Environment of a process that finds what this one finds, with one thread a rank."""
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}


def small_run(folder: Path, steps: int, *changes: str, kind: str = "frozen") -> list[str]:
    """Words of a run of a small kernel into `folder` for some steps of 1 us, with `key=value` changes."""
    settings = (*_SMALL, f"end_time={steps * 1e-6!r}", f"chemistry.kind={kind}", *changes)
    return ["run", *_CASE, "--out", str(folder), *(word for setting in settings for word in ("--set", setting))]
