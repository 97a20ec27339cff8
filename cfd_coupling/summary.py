"""What a run has come to: its totals as text and table, and the commands that come next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cfd_coupling.control import Request
from cfd_coupling.output import SERIES
from cfd_coupling.progress import duration
from chemnet.runtime.tables import Table


@dataclass(frozen=True)
class Summary:
    """Totals of a run.

    step, time [s]: what it has come to; seconds: wall time over all its parts; parts: seconds of each part of the time
    step on the slowest rank; drift: largest relative one of a conserved total, None where no row was written; request:
    what ended it.
    """

    folder: Path
    ranks: int
    step: int
    n_steps: int
    time: float
    seconds: float
    parts: Mapping[str, float]
    drift: float | None
    request: Request

    @property
    def finished(self) -> bool:
        """Whether the run has reached its end."""
        return self.step == self.n_steps

    @property
    def exit_code(self) -> int:
        """Exit code of the command."""
        return 0 if self.finished else self.request.exit_code

    @property
    def flow(self) -> float:
        """Seconds in all parts of the time step but chemistry and waiting for it."""
        return sum(seconds for part, seconds in self.parts.items() if part not in ("chemistry", "waiting"))

    def text(self) -> str:
        """The totals in one line, and what can be done next."""
        drift = "" if self.drift is None else f", largest drift {self.drift:.1e}"
        totals = (
            f"t {self.time * 1e3:.4g} ms, wall {duration(self.seconds)}: chemistry {self.parts['chemistry']:.1f} s, "
            f"flow {self.flow:.1f} s, waiting {self.parts['waiting']:.1f} s{drift}"
        )
        if not self.finished:
            launcher = f"mpiexec -n {self.ranks} " if self.ranks > 1 else ""
            return (
                f"stopped by {self.request.reason} with a checkpoint at step {self.step}/{self.n_steps}, {totals}\n"
                f"go on: {launcher}python -m cfd_coupling run {self.folder} --resume"
            )
        return (
            f"finished: {self.step} steps, {totals}\n"
            f"look: paraview {self.folder / 'snapshots' / SERIES}; compare: chemnet compare flow OTHER {self.folder}"
        )

    def table(self) -> Table:
        """The totals as a table."""
        rows: list[list[Any]] = [
            ["folder", str(self.folder)],
            ["ended by", "end_time" if self.finished else self.request.reason],
            ["ranks", self.ranks],
            ["steps", self.step],
            ["steps to end_time", self.n_steps],
            ["time [s]", self.time],
            ["wall [s]", self.seconds],
            *([f"{part} [s]", seconds] for part, seconds in self.parts.items()),
            ["largest drift of mass, elements, energy", self.drift],
        ]
        return Table("Run", ["quantity", "value"], rows)
