"""What the tests of the flow solver share: the states of its verification, and runs on several ranks."""

import os
import subprocess
import sys
from pathlib import Path

from cfd_coupling.verification.states import (
    ATMOSPHERE,
    COMM,
    HotConversion,
    drm19,
    kernel,
    methane_air,
    mixture,
)

__all__ = ["ATMOSPHERE", "COMM", "HotConversion", "drm19", "kernel", "methane_air", "mixture", "run_ranks"]


def run_ranks(n, script, *arguments, timeout=120.0):
    """Run a Python script on n ranks with the mpiexec beside this Python; returns the finished process."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    launcher = Path(sys.executable).parent / "mpiexec"
    command = [str(launcher), "-n", str(n), sys.executable, str(script), *map(str, arguments)]
    return subprocess.run(command, env=environment, timeout=timeout, capture_output=True, text=True)
