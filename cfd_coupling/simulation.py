"""One run: owns the parts of a simulation, runs the loop and fills the run folder; it does no arithmetic.

The folder holds case.yaml (the configuration as used), log.txt, history.csv, snapshots/*.vtkhdf, checkpoints/*.h5 and,
first and last, manifest.json.
"""

from __future__ import annotations

import platform
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cfd_coupling import initial, monitors
from cfd_coupling.boundary import build as build_edges
from cfd_coupling.checkpoint import Header, check_there_are_some, keep_last, latest, read_fields, write_checkpoint
from cfd_coupling.chemistry import build_chemistry, chemistry_facts
from cfd_coupling.config import CaseConfig
from cfd_coupling.control import Control, Request, Signals
from cfd_coupling.fields import Fields
from cfd_coupling.folder import RunFolder
from cfd_coupling.gas import Gas
from cfd_coupling.grid import Grid
from cfd_coupling.output import SnapshotWriter
from cfd_coupling.parallel import Communicator
from cfd_coupling.progress import Log, Progress
from cfd_coupling.stepping import Stepper, StepReport
from cfd_coupling.summary import Summary
from chemnet.gas.mechanism import load_mechanism
from chemnet.runtime.config import dump_yaml
from chemnet.runtime.errors import UsageError
from chemnet.runtime.run_folder import check_same
from chemnet.version import __version__

# Keys of a case that a resumed run may have otherwise.
_MAY_CHANGE: Any = {"end_time": True, "output": True, "chemistry": {"share": True}}


@dataclass(frozen=True)
class RunOptions:
    """How a run is begun and ended, apart from its case.

    overwrite: replace a run in the folder; resume: go on from its last checkpoint. max_minutes: of wall time, counted
    from `start` (of time.monotonic, default: now). signals: of this process. log_to_stderr: leave standard output free.
    """

    overwrite: bool = False
    resume: bool = False
    max_minutes: float | None = None
    start: float | None = None
    signals: Signals | None = None
    log_to_stderr: bool = False


def run(case: CaseConfig, folder: Path, comm: Communicator, overwrite: bool = False) -> Path:
    """Run a case from its start to end_time into `folder`, and return the folder. Every rank calls it.

    Raises what `set_up` raises, and NumericalError when a step fails.
    """
    set_up(case, folder, comm, RunOptions(overwrite=overwrite)).run()
    return folder


def set_up(case: CaseConfig, folder: Path, comm: Communicator, options: RunOptions = RunOptions()) -> Simulation:  # noqa: B008 (immutable)
    """The simulation of a case, ready to run, and its run folder, empty or to be resumed. Every rank calls it.

    Raises UsageError for a configuration that does not fit together, for a folder in use, one that holds a run which
    may not be replaced, or a checkpoint of another case; FileError for a missing model or checkpoint. Nothing was
    removed or written then.
    """
    simulation = Simulation(case, folder, comm, options)
    if comm.rank == 0:
        simulation.claim_folder()
    return simulation


class Simulation:
    """The parts of one run. Building it raises every error of the configuration before anything is written."""

    def __init__(self, case: CaseConfig, folder: Path, comm: Communicator, options: RunOptions) -> None:
        self.case, self.comm, self.options = case, comm, options
        self.folder = RunFolder(folder)
        self.facts_of_start: dict[str, Any] = {"created": datetime.now(UTC).isoformat(timespec="seconds")}
        self.mechanism = load_mechanism(case.mechanism)
        initial.unburnt(self.mechanism, case.mixture)
        self.grid = Grid(**case.grid.model_dump(), rank=comm.rank, size=comm.size)
        self.snapshots = SnapshotWriter(
            self.folder.snapshots,
            self.grid,
            comm,
            case.output.fields,
            self.mechanism,
            case.dt,
            dump_yaml(case),
            case.boundary.y,
        )
        self.chemistry = build_chemistry(case.chemistry, self.mechanism, case.dt, self.grid.j_start, comm)
        self.gas = Gas.from_mechanism(self.mechanism)
        stream = initial.inflow(case, self.grid, self.gas)
        self.edges = build_edges(case.boundary, self.grid, comm, self.gas, stream)
        self.stepper = Stepper(self.grid, comm, self.gas, self.chemistry, case.flow, self.edges)
        self.history = monitors.History(folder / "history.csv", comm, self._monitors(), case.output.history_every)
        self.log = Log(folder / "log.txt", comm, options.log_to_stderr)
        self.checkpoint: tuple[Path, Header] | None = None  # to go on from, on rank 0

    def _monitors(self) -> list[monitors.Monitor]:
        case, grid, comm = self.case, self.grid, self.comm
        return [
            monitors.Clock(comm, case.dt),
            monitors.Condition(grid, comm),
            self._balance(),
            monitors.Combustion(grid, comm, self.mechanism, case.dt, case.consumption_speed, self.edges.closed),
            monitors.Work(comm),
        ]

    def _balance(self) -> monitors.Monitor:
        """What the box keeps: all of it, no energy where walls heat or cool, or mass up to what enters and leaves."""
        boundary = self.case.boundary
        if boundary.y == "flow":
            return monitors.Throughflow(self.grid, self.comm, self.mechanism, self.case.dt)
        isolated = boundary.wall_temperatures == (None, None)
        return monitors.Conserved(self.grid, self.comm, self.mechanism, isolated)

    def claim_folder(self) -> None:
        """Lock the folder, and empty it or find the checkpoint to go on from; on rank 0. Raises as `set_up` does."""
        if self.options.signals is not None:
            self.options.signals.last_acts.append(self.folder.release)
        if not self.options.resume:
            self.folder.begin(self.options.overwrite)
            return
        check_there_are_some(self.folder.checkpoints)
        self.folder.lock()
        try:
            path, header = latest(self.folder.checkpoints, self.log)
            check_same(path, header.facts, self._facts(), "Resume with the case of the run, or start anew.")
            if header.step > self.case.n_steps:
                raise UsageError(
                    f"{path} is of step {header.step}, end_time is at step {self.case.n_steps};\nset a later end_time."
                )
            self.checkpoint = path, header
            before = self.folder.manifest or {}
            self.facts_of_start |= {name: before[name] for name in ("created", "history_units") if name in before}
        except BaseException:
            self.folder.release()
            raise

    def _facts(self) -> dict[str, Any]:
        """What the coming steps depend on; a resumed run must have it in common with its first part."""
        return {
            "case": self.case.model_dump(mode="json", exclude=_MAY_CHANGE),
            "mechanism_sha256": self.mechanism.sha256,
            **chemistry_facts(self.case.chemistry),
        }

    def run(self) -> Summary:
        """The loop: step, watch, write, until the end or a request to stop; then the manifest, if it is finished."""
        try:
            return self._run()
        finally:
            self.folder.release()

    def _run(self) -> Summary:
        case, control = self.case, self._control()
        begun = time.perf_counter()
        header = self.comm.broadcast(self.checkpoint[1] if self.checkpoint else None)
        if header is not None and header.step == case.n_steps:
            return self._already_there(header)
        fields = self._begin() if header is None else self._go_on(header)
        before = 0.0 if header is None else header.seconds
        progress = Progress(self.comm, self.log, case.output.log_every, case.n_steps, case.dt)
        request = Request.NONE
        while fields.step < case.n_steps and not request.stops:
            report = self.stepper.step(fields, case.dt)
            self.history.see(fields, report)
            progress.see(fields, report)
            if self._snapshot_is_due(fields.step):
                self.snapshots.write(fields, report.chemistry)
            request = control.agree(fields.step)
            if request is not Request.NONE or fields.step == case.n_steps:
                self._save(fields, report, before + time.perf_counter() - begun)
                control.checkpointed()
            if request is Request.CHECKPOINT:
                self.log(f"checkpoint at step {fields.step}")
        summary = self._summary(fields, before + time.perf_counter() - begun, request)
        if summary.finished:
            self._write_manifest(finished=True, steps=fields.step, time=fields.time, wall_seconds=summary.seconds)
        self.log(summary.text())
        return summary

    def _control(self) -> Control:
        output, options = self.case.output, self.options
        return Control(
            self.comm,
            self.folder.path,
            every=output.checkpoint_every,
            minutes=output.checkpoint_minutes,
            max_minutes=options.max_minutes,
            start=options.start,
            signals=options.signals,
        )

    def _begin(self) -> Fields:
        """The initial state, in a new folder."""
        self._write_manifest(finished=False)
        self._open_log()
        fields = initial.build(self.case, self.grid, self.comm, self.gas)
        self.edges.fill(fields)
        units = {name: monitors.unit(name) for name in self.history.write(fields)}
        self.snapshots.write(fields)
        self.facts_of_start["history_units"] = units
        self._write_manifest(finished=False)
        return fields

    def _go_on(self, header: Header) -> Fields:
        """The state of the checkpoint; what the folder holds of later steps is removed."""
        path = self.checkpoint[0] if self.checkpoint else self.folder.checkpoints
        fields = read_fields(path, header, self.grid, self.comm, self.gas.n_species)
        self.history.restore(header.monitors)
        self._write_manifest(finished=False)
        if self.comm.rank == 0:
            self.folder.go_back(header.step, row=header.row, snapshot=header.snapshot)
        self._open_log()
        self.log(f"going on from {path}, t = {header.time * 1e3:.4g} ms")
        return fields

    def _already_there(self, header: Header) -> Summary:
        """The summary of a run whose checkpoint is that of its last step."""
        if self.comm.rank == 0 and not self.folder.is_finished:  # it was killed before it could write this
            self._write_manifest(finished=True, steps=header.step, time=header.time, wall_seconds=header.seconds)
        self.log(f"{self.folder.path} is finished at step {header.step}; to go on, add --set end_time=...")
        return self._summary_of(header.step, header.time, header.seconds, header.monitors, Request.NONE)

    def _snapshot_is_due(self, step: int) -> bool:
        return step % self.case.output.snapshot_every == 0

    def _save(self, fields: Fields, report: StepReport, seconds: float) -> None:
        """Write a checkpoint; in the last step first the row and the snapshot that are due only because it is the last.

        The checkpoint knows nothing of these two, so that a run to a later end goes on as if it had never ended here.
        """
        row, snapshot = self.history.is_due(fields.step), self._snapshot_is_due(fields.step)
        states = self.history.state()
        if fields.step == self.case.n_steps:
            if not row:
                self.history.write(fields)
            if not snapshot:
                self.snapshots.write(fields, report.chemistry)
        write_checkpoint(
            self.folder.checkpoints,
            fields,
            self.comm,
            facts=self._facts(),
            monitors=states,
            row=row,
            snapshot=snapshot,
            seconds=round(seconds, 3),
        )
        if self.comm.rank == 0:
            keep_last(self.folder.checkpoints, self.case.output.keep_checkpoints)

    def _summary(self, fields: Fields, seconds: float, request: Request) -> Summary:
        return self._summary_of(fields.step, fields.time, seconds, self.history.state(), request)

    def _summary_of(
        self, step: int, time: float, seconds: float, states: Mapping[str, Any], request: Request
    ) -> Summary:
        leaks = self.case.flow.box == "open" and not self.edges.closed  # into the sink, which is no drift
        drift = [abs(value) for name, value in self.history.last.items() if name.startswith("drift_") and not leaks]
        return Summary(
            folder=self.folder.path,
            ranks=self.comm.size,
            step=step,
            n_steps=self.case.n_steps,
            time=time,
            seconds=round(seconds, 3),
            parts=states["Work"]["seconds"],
            drift=max(drift, default=None),
            request=request,
        )

    def _open_log(self) -> None:
        case, grid, output = self.case, self.case.grid, self.case.output
        chemistry = case.chemistry
        model = f" by {chemistry.model}" if chemistry.kind == "neural" else ""
        minutes = f"every {output.checkpoint_minutes:g} min" if output.checkpoint_minutes else "at the end"
        often = f"every {output.checkpoint_every} steps" if output.checkpoint_every else minutes
        self.log(
            f"{case.name}: {grid.nx} x {grid.ny} cells of {1e6 * self.grid.dx:.3g} x {1e6 * self.grid.dy:.3g} um, "
            f"{case.n_steps} steps of {case.dt:.3g} s to {case.n_steps * case.dt * 1e3:.4g} ms\n"
            f"mechanism {self.mechanism.name} ({self.mechanism.n_species} species), chemistry {chemistry.kind}{model}, "
            f"box {case.flow.box}, {case.boundary.y} in y, splitting {case.flow.splitting}\n"
            f"{self.comm.size} rank{'s' * (self.comm.size > 1)} on {socket.gethostname()}, folder {self.folder.path}, "
            f"checkpoints {often}"
        )

    def _write_manifest(self, **state: Any) -> None:
        if self.comm.rank != 0:
            return
        content = {
            "kind": "run",
            "name": self.case.name,
            "chemistry": self.case.chemistry.kind,
            **self.facts_of_start,
            "ranks": self.comm.size,
            "mechanism_sha256": self.mechanism.sha256,
            "transport_fit_error": self.gas.fit_error,
            "chemnet": __version__,
            "python": platform.python_version(),
            **state,
        }
        self.folder.write_manifest(dump_yaml(self.case), content)
