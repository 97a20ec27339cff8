"""The command line with a fault put in: `python -m cfd_coupling.verification.faulty FAULT RANK CLOCK run ...`.

FAULT, in step 3 of rank RANK: `raises` an exception, `exits` the interpreter, `killed` by signal 9, `nan` in the mass
fraction of OH of one cell. The time of the fault goes into the file CLOCK.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import time
from pathlib import Path

import numpy as np

from cfd_coupling.chemistry import ChemistryReport, Frozen
from cfd_coupling.fields import Fields, interior
from cfd_coupling.verification.states import drm19
from chemnet.runtime.processes import mpi_world

STEP = 3


def put_in(fault: str, rank: int, clock: Path) -> None:
    """Let frozen chemistry fail in step STEP of one rank."""
    world, unbroken = mpi_world(), Frozen.apply

    def broken(self: Frozen, fields: Fields, dt: float) -> ChemistryReport:
        if fields.step + 1 == STEP and (world.rank if world else 0) == rank:
            clock.write_text(repr(time.time()))
            _fail(fault, fields)
        return unbroken(self, fields, dt)

    Frozen.apply = broken  # type: ignore[method-assign]


def _fail(fault: str, fields: Fields) -> None:
    if fault == "raises":
        raise RuntimeError("a fault was put in")
    if fault == "exits":
        sys.exit(9)
    if fault == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    interior(fields.Y)[drm19().mechanism.index("OH"), 4, 5] = np.nan


if __name__ == "__main__":
    put_in(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
    del sys.argv[1:4]
    runpy.run_module("cfd_coupling", run_name="__main__")
