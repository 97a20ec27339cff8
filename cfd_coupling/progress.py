"""The log of a run: lines on standard output and in log.txt, from rank 0."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from cfd_coupling.fields import Fields, interior
from cfd_coupling.parallel import Communicator
from cfd_coupling.stepping import StepReport
from chemnet.runtime.files import append_text


class Log:
    """Prints a line on rank 0 and appends it to a file; other ranks stay silent.

    to_stderr: print on standard error, where standard output is for something else.
    """

    def __init__(self, path: Path, comm: Communicator, to_stderr: bool = False) -> None:
        self.path, self.comm, self.to_stderr = path, comm, to_stderr

    def __call__(self, line: str) -> None:
        if self.comm.rank != 0:
            return
        print(line, flush=True, file=sys.stderr if self.to_stderr else sys.stdout)
        append_text(self.path, line + "\n")


class Progress:
    """A log line every `every` steps and in the last one: step and time, cost, and the expected end."""

    def __init__(self, comm: Communicator, log: Log, every: int, n_steps: int, dt: float) -> None:
        self.comm, self.log = comm, log
        self.every, self.n_steps, self.dt = every, n_steps, dt
        self.start = time.perf_counter()
        self.first: int | None = None
        self.chemistry = self.flow = 0.0
        self.cfl = 0.0

    def see(self, fields: Fields, report: StepReport) -> None:
        """Take note of one step; every rank calls it. The first one of a process is not timed: it may compile."""
        if self.first is None:
            self.first, self.start = fields.step, time.perf_counter()
        else:
            self.chemistry += report.seconds["chemistry"]
            self.flow += sum(spent for part, spent in report.seconds.items() if part not in ("chemistry", "waiting"))
        self.cfl = max(self.cfl, report.cfl)
        if fields.step % self.every == 0 or fields.step == self.n_steps:
            self._write(fields, self.first)
            self.cfl = 0.0

    def _write(self, fields: Fields, first: int) -> None:
        hottest = self.comm.max(float(interior(fields.T).max()))
        chemistry, flow = self.comm.max(self.chemistry), self.comm.max(self.flow)
        left = (time.perf_counter() - self.start) / max(fields.step - first, 1) * (self.n_steps - fields.step)
        self.log(
            f"step {fields.step:5d}/{self.n_steps}  t {fields.time * 1e3:.4f} ms  dt {self.dt:.3g} s  "
            f"CFL {self.cfl:.2f}  Tmax {hottest:6.1f} K  p0 {fields.p0 * 1e-3:.2f} kPa  "
            f"chemistry {chemistry:.1f} s  flow {flow:.1f} s  ETA {duration(left)}"
        )


def duration(seconds: float) -> str:
    """`seconds` as hours, minutes and seconds, such as 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
