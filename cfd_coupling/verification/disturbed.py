"""Small runs in this process to whose fields or files something happens in one step."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from cfd_coupling.checkpoint import FOLDER as CHECKPOINTS
from cfd_coupling.checkpoint import checkpoints, read_header
from cfd_coupling.chemistry import Chemistry, ChemistryReport
from cfd_coupling.config import CaseConfig, load_case
from cfd_coupling.fields import Fields
from cfd_coupling.monitors import Monitor
from cfd_coupling.simulation import RunOptions, set_up
from cfd_coupling.stepping import StepReport
from cfd_coupling.verification.states import COMM
from chemnet.runtime.errors import run_command

STEP = 4  # in which it happens; a row, a log line and a snapshot are due then, and a checkpoint after every step
_SETTINGS = (
    "grid.nx=32", "grid.ny=24", "grid.length_x=1.5e-3", "grid.length_y=1.125e-3", "initial.kernel_radius=2e-4",
    "initial.integral_length=5e-4", "end_time=6e-6", "chemistry.kind=frozen", "output.checkpoint_every=1",
    "output.snapshot_every=2", "output.history_every=2", "output.log_every=2", "output.fields=[T]",
)  # fmt: skip

Act = Callable[[Fields], None]


class _DuringChemistry:
    """A chemistry during whose call in step STEP `act` happens."""

    def __init__(self, chemistry: Chemistry, act: Act) -> None:
        self.chemistry, self.act = chemistry, act

    def apply(self, fields: Fields, dt: float) -> ChemistryReport:
        if fields.step == STEP - 1:
            self.act(fields)
        return self.chemistry.apply(fields, dt)


class _AfterStep(Monitor):
    """A monitor that lets `act` happen at the end of step STEP, before the others look."""

    def __init__(self, act: Act) -> None:
        self.act = act

    def see(self, fields: Fields, report: StepReport) -> None:
        if fields.step == STEP:
            self.act(fields)

    def row(self, fields: Fields) -> dict[str, float]:
        return {}


def disturbed_run(folder: Path, act: Act, after: bool = False) -> tuple[int, str]:
    """Exit code and message of a run to which `act` happens in the chemistry of step STEP, or `after` that step."""
    shown = io.StringIO()

    def run() -> int:
        simulation = set_up(_case(), folder, COMM)
        if after:
            simulation.history.monitors = [_AfterStep(act), *simulation.history.monitors]
        else:
            simulation.stepper.chemistry = _DuringChemistry(simulation.stepper.chemistry, act)
        return simulation.run().exit_code

    with redirect_stderr(shown), redirect_stdout(io.StringIO()):
        return run_command(run, "cfd_coupling"), shown.getvalue()


def last_checkpoint(folder: Path) -> int:
    """Step of the last checkpoint of a run."""
    return read_header(checkpoints(folder / CHECKPOINTS)[-1]).step


def goes_on(folder: Path) -> bool:
    """Whether a run comes to its end from its last checkpoint."""
    with redirect_stdout(io.StringIO()):
        return set_up(_case(), folder, COMM, RunOptions(resume=True)).run().finished


def _case() -> CaseConfig:
    return load_case("turbulent_ignition", assignments=_SETTINGS)
