"""What the tests of the flow solver share: the states of its verification, and runs on several ranks."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from cfd_coupling import initial
from cfd_coupling.boundary import Stream
from cfd_coupling.compare import read_history
from cfd_coupling.fields import interior
from cfd_coupling.output import read_image, snapshots
from cfd_coupling.verification.states import (
    ATMOSPHERE,
    COMM,
    HotConversion,
    drm19,
    kernel,
    methane_air,
    mixture,
)

__all__ = [
    "ATMOSPHERE",
    "COMM",
    "HotConversion",
    "assert_same_run",
    "drm19",
    "hot_jet",
    "kernel",
    "methane_air",
    "mixture",
    "run_ranks",
]


def hot_jet(grid):
    """The inflow of a hot, fast jet in a cold stream."""
    x = grid.x - 0.5 * grid.length_x
    shape = 0.5 * (np.tanh((x + 2e-4) / 1e-4) - np.tanh((x - 2e-4) / 1e-4))
    gas, T = drm19(), 300.0 + 300.0 * shape
    rows = np.broadcast_to(T, (grid.ny_local, grid.nx))
    fields = initial.at_rest(grid, COMM, gas, rows, methane_air(gas), ATMOSPHERE)
    return Stream(0.3 + 2.0 * shape, T, interior(fields.rho)[0], interior(fields.scalars)[:, 0])


def run_ranks(n, script, *arguments, timeout=120.0):
    """Run a Python script on n ranks with the mpiexec beside this Python; returns the finished process."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    launcher = Path(sys.executable).parent / "mpiexec"
    command = [str(launcher), "-n", str(n), sys.executable, str(script), *map(str, arguments)]
    return subprocess.run(command, env=environment, timeout=timeout, capture_output=True, text=True)


def assert_same_run(one, other):
    """The snapshots of two run folders and their histories, columns of clock and ranks aside, agree bit for bit."""
    (mine, theirs) = (read_history(folder / "history.csv") for folder in (one, other))
    for name in mine:
        if not name.startswith(("seconds_", "cells_moved")):
            np.testing.assert_array_equal(mine[name], theirs[name], err_msg=name)
    mine, theirs = (snapshots(folder / "snapshots") for folder in (one, other))
    assert [path.name for path in mine] == [path.name for path in theirs]
    for path, its_path in zip(mine, theirs, strict=True):
        arrays, others = read_image(path).arrays, read_image(its_path).arrays
        for name in arrays:
            np.testing.assert_array_equal(arrays[name], others[name], err_msg=f"{name} in {path.name}")
