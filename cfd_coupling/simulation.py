"""One run: owns the parts of a simulation, runs the loop and fills the run folder; it does no arithmetic.

The folder holds case.yaml (the configuration as used), log.txt, history.csv, snapshots/*.vtkhdf and, first and last,
manifest.json.
"""

from __future__ import annotations

import platform
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cfd_coupling import initial, monitors
from cfd_coupling.chemistry import build_chemistry
from cfd_coupling.config import CaseConfig
from cfd_coupling.gas import Gas
from cfd_coupling.grid import Grid
from cfd_coupling.output import SnapshotWriter
from cfd_coupling.parallel import Communicator
from cfd_coupling.progress import Log, Progress
from cfd_coupling.stepping import Stepper
from chemnet.gas.mechanism import load_mechanism
from chemnet.runtime.config import dump_yaml
from chemnet.runtime.errors import UsageError
from chemnet.runtime.files import read_json, write_json, write_text
from chemnet.version import __version__


def run(case: CaseConfig, folder: Path, comm: Communicator, overwrite: bool = False) -> Path:
    """Run a case from its start to end_time into `folder`, and return the folder. Every rank calls it.

    Raises what `set_up` raises, and NumericalError when a step fails.
    """
    set_up(case, folder, comm, overwrite).run()
    return folder


def set_up(case: CaseConfig, folder: Path, comm: Communicator, overwrite: bool = False) -> Simulation:
    """The simulation of a case, ready to run, and its empty run folder. Every rank calls it.

    Raises UsageError for a configuration that does not fit together or a folder that holds a finished run, FileError
    for a missing model. Nothing was removed or written then.
    """
    simulation = Simulation(case, folder, comm)
    if comm.rank == 0:
        prepare_folder(folder, overwrite)
    return simulation


def prepare_folder(folder: Path, overwrite: bool) -> None:
    """Make an empty run folder; files of an unfinished run are removed, a finished one only when `overwrite`.

    Raises UsageError when a finished run, or anything that is no run, is in the way.
    """
    manifest = folder / "manifest.json"
    if folder.exists() and any(folder.iterdir()):
        if not manifest.exists():
            raise UsageError(f"{folder} is not empty and holds no run; name another folder with --out")
        if read_json(manifest).get("finished") and not overwrite:
            raise UsageError(f"{folder} holds a finished run; add --overwrite, or name another folder with --out")
        shutil.rmtree(folder)
    (folder / "snapshots").mkdir(parents=True)


class Simulation:
    """The parts of one run. Building it raises every error of the configuration before anything is written."""

    def __init__(self, case: CaseConfig, folder: Path, comm: Communicator) -> None:
        self.case, self.folder, self.comm = case, folder, comm
        self.created = datetime.now(UTC).isoformat(timespec="seconds")
        self.mechanism = load_mechanism(case.mechanism)
        initial.unburnt(self.mechanism, case.mixture)
        self.grid = Grid(**case.grid.model_dump(), rank=comm.rank, size=comm.size)
        self.snapshots = SnapshotWriter(
            folder / "snapshots", self.grid, comm, case.output.fields, self.mechanism.species_names, dump_yaml(case)
        )
        self.chemistry = build_chemistry(case.chemistry, self.mechanism, case.dt, self.grid.j_start, comm)
        self.gas = Gas.from_mechanism(self.mechanism)
        self.stepper = Stepper(self.grid, comm, self.gas, self.chemistry, case.flow)
        self.history = monitors.History(folder / "history.csv", comm, self._monitors(), case.output.history_every)
        self.log = Log(folder / "log.txt", comm)

    def _monitors(self) -> list[monitors.Monitor]:
        case, grid, comm = self.case, self.grid, self.comm
        return [
            monitors.Clock(comm, case.dt),
            monitors.Condition(grid, comm),
            monitors.Conserved(grid, comm, self.mechanism),
            monitors.Combustion(grid, comm, self.mechanism, case.dt, case.consumption_speed),
            monitors.Work(comm),
        ]

    def run(self) -> None:
        """The loop: step, watch, write; then the finished manifest."""
        case, start = self.case, time.perf_counter()
        self._write_manifest(finished=False)
        fields = initial.build(case, self.grid, self.comm, self.gas)
        self.history.write(fields)
        self.snapshots.write(fields)
        progress = Progress(self.comm, self.log, case.output.log_every, case.n_steps, case.dt)
        for _ in range(case.n_steps):
            report = self.stepper.step(fields, case.dt)
            last = fields.step == case.n_steps
            self.history.see(fields, report, due=last)
            progress.see(fields, report)
            if last or fields.step % case.output.snapshot_every == 0:
                self.snapshots.write(fields)
        seconds = round(time.perf_counter() - start, 3)
        self._write_manifest(finished=True, steps=fields.step, time=fields.time, wall_seconds=seconds)

    def _write_manifest(self, **state: Any) -> None:
        if self.comm.rank != 0:
            return
        write_text(self.folder / "case.yaml", dump_yaml(self.case))
        write_json(
            self.folder / "manifest.json",
            {
                "kind": "run",
                "name": self.case.name,
                "chemistry": self.case.chemistry.kind,
                "created": self.created,
                "ranks": self.comm.size,
                "mechanism_sha256": self.mechanism.sha256,
                "transport_fit_error": self.gas.fit_error,
                "chemnet": __version__,
                "python": platform.python_version(),
                **state,
            },
        )
