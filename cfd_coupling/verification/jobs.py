"""Commands as a user starts them, on one rank or several, and what they end with."""

from __future__ import annotations

import os
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
    command = [sys.executable, "-m", module, *words]
    if ranks > 1:
        command = [str(LAUNCHER), "-n", str(ranks), *command]
    if file_bytes is not None:
        limit = f"ulimit -f {file_bytes // 1024}; trap '' XFSZ; exec \"$@\""
        command = ["bash", "-c", limit, "limited", *command]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
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


def small_run(folder: Path, steps: int, *changes: str, kind: str = "frozen") -> list[str]:
    """Words of a run of a small kernel into `folder` for some steps of 1 us, with `key=value` changes."""
    settings = (*_SMALL, f"end_time={steps * 1e-6!r}", f"chemistry.kind={kind}", *changes)
    return ["run", *_CASE, "--out", str(folder), *(word for setting in settings for word in ("--set", setting))]
