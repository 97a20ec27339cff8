"""What the tests of the flow solver share: one gas, small boxes, a simple chemistry, and runs on two ranks."""

import functools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from cfd_coupling import initial
from cfd_coupling.boundary import Stream
from cfd_coupling.chemistry import ChemistryReport
from cfd_coupling.compare import read_history
from cfd_coupling.fields import interior
from cfd_coupling.gas import Gas
from cfd_coupling.output import read_image, snapshots
from cfd_coupling.parallel import Communicator
from chemnet.gas.mechanism import load_mechanism
from chemnet.gas.thermo import temperature_from_enthalpy

ATMOSPHERE = 101325.0
COMM = Communicator()


@functools.cache
def drm19() -> Gas:
    return Gas.from_mechanism(load_mechanism("drm19"))


def mixture(gas: Gas, **mole_fractions: float):
    """Mass fractions (K,) of a mixture given by mole fractions."""
    Y = np.zeros(gas.n_species)
    for name, x in mole_fractions.items():
        k = gas.mechanism.index(name)
        Y[k] = x * gas.weights[k]
    return Y / Y.sum()


def methane_air(gas: Gas):
    return mixture(gas, CH4=1.0, O2=2.0, N2=7.52)


def kernel(grid, comm=COMM, **changes):
    """A small turbulent box with a hot kernel."""
    options = {
        "Y": methane_air(drm19()),
        "temperature": 300.0,
        "pressure": ATMOSPHERE,
        "rms_velocity": 3.0,
        "integral_length": 5e-4,
        "kernel_radius": 2.5e-4,
        "kernel_temperature": 1800.0,
        "kernel_edge_cells": 2.0,
        "seed": 1,
    } | changes
    return initial.ignition(grid, comm, drm19(), **options)


def hot_jet(grid):
    """The inflow of a hot, fast jet in a cold stream."""
    x = grid.x - 0.5 * grid.length_x
    shape = 0.5 * (np.tanh((x + 2e-4) / 1e-4) - np.tanh((x - 2e-4) / 1e-4))
    gas, T = drm19(), 300.0 + 300.0 * shape
    rows = np.broadcast_to(T, (grid.ny_local, grid.nx))
    fields = initial.at_rest(grid, COMM, gas, rows, methane_air(gas), ATMOSPHERE)
    return Stream(0.3 + 2.0 * shape, T, interior(fields.rho)[0], interior(fields.scalars)[:, 0])


class HotConversion:
    """CH4 + 2 O2 -> CO2 + 2 H2O at a fixed rate in hot cells, at constant p0 and h: stiff-free, exact in elements."""

    def __init__(self, gas: Gas, rate: float = 2e4, above: float = 1000.0) -> None:
        self.gas, self.rate, self.above = gas, rate, above
        self.calls = []
        change = dict(zip(("CH4", "O2", "CO2", "H2O"), (-1.0, -2.0, 1.0, 2.0), strict=True))
        self.change = np.zeros(gas.n_species)
        for name, moles in change.items():
            k = gas.mechanism.index(name)
            self.change[k] = moles * gas.weights[k]
        self.fuel = gas.mechanism.index("CH4")

    def apply(self, fields, dt):
        self.calls.append((dt, fields.p0))
        Y, T, h = interior(fields.Y), interior(fields.T), interior(fields.h)
        report, hot = ChemistryReport.of_no_reaction(fields), np.greater(T, self.above)
        for j, i in zip(*np.nonzero(hot), strict=True):
            burnt = (1.0 - np.exp(-self.rate * dt)) * Y[self.fuel, j, i] / -self.change[self.fuel]
            Y[:, j, i] += burnt * self.change
            T[j, i] = temperature_from_enthalpy(h[j, i], Y[:, j, i].copy(), T[j, i], self.gas.nasa)
        return report


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
