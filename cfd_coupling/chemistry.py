"""The chemistry of the flow: nobody, an exact integrator or a trained model, behind one call.

`apply(fields, dt)` advances the interior cells at constant p0 and h and changes Y and T in place; rho and h are
untouched. Cells at or below `min_temperature` are left out before anything is copied.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cfd_coupling.config import ChemistryConfig
from cfd_coupling.fields import Fields, interior
from chemnet.gas.mechanism import Mechanism
from chemnet.gas.status import Status, sentence
from chemnet.runtime.errors import NumericalError, UsageError

if TYPE_CHECKING:
    from chemnet.kinetics.cvodes import ChemistryStep

KINDS = ("frozen", "exact", "cvode", "neural", "fallback")

Floats = NDArray[np.float64]


@dataclass
class ChemistryReport:
    """What one call did on this rank.

    produced: sum over cells of rho * (change of Y) [kg/m3], (K,); cells: how many cells each kind advanced; retried:
    how many of them took a second attempt (`exact` hands them to CVODE, `cvode` shortens its steps); integrated: how
    many `neural` ones the model integrated, as too cold or too calm for its network; seconds: wall time.
    """

    produced: Floats
    cells: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    retried: int = 0
    integrated: int = 0
    seconds: float = 0.0


class Chemistry(Protocol):
    """What the time step needs of a chemistry."""

    def apply(self, fields: Fields, dt: float) -> ChemistryReport: ...


class Frozen:
    """No reactions."""

    def apply(self, fields: Fields, dt: float) -> ChemistryReport:
        """Change nothing; every interior cell counts as frozen."""
        report = ChemistryReport(np.zeros(len(fields.Y)))
        report.cells["frozen"] = interior(fields.T).size
        return report


class Reacting:
    """Reactions in every cell above `min_temperature`, advanced by `method`; a cell it leaves may go to `exact`.

    kind: under which name the cells of `method` are counted. exact: takes the rows that `method` does not answer for
    (any status but OK and RETRIED). freeze: without `exact`, those that are outside or failed stay as they are. Any
    other row raises NumericalError. substep: the only dt [s] that `method` takes, None for any. first_row: global
    index of this rank's first row, to name a cell in a message.
    """

    def __init__(
        self,
        kind: str,
        method: ChemistryStep,
        *,
        min_temperature: float,
        exact: ChemistryStep | None = None,
        freeze: bool = False,
        substep: float | None = None,
        first_row: int = 0,
    ) -> None:
        self.kind, self.method, self.exact, self.freeze = kind, method, exact, freeze
        self.min_temperature = min_temperature
        self.substep = substep
        self.first_row = first_row

    def apply(self, fields: Fields, dt: float) -> ChemistryReport:
        """Advance the hot cells by dt [s]. Raises NumericalError naming the first cell that nobody could advance."""
        start = time.perf_counter()
        T, Y, rho = interior(fields.T), interior(fields.Y), interior(fields.rho)
        hot = np.greater(T, self.min_temperature)
        states = _gather(T, Y, fields.p0, hot)
        report = ChemistryReport(np.zeros(len(Y)))
        report.cells["frozen"] = T.size - len(states)
        if len(states):
            after = self._advance(states, dt, hot, fields, report)
            report.produced = rho[hot] @ (after[:, 2:] - states[:, 2:])
            T[hot] = after[:, 0]
            Y[:, hot] = after[:, 2:].T
        report.seconds = time.perf_counter() - start
        return report

    def _advance(
        self, states: Floats, dt: float, hot: NDArray[np.bool_], fields: Fields, report: ChemistryReport
    ) -> Floats:
        """The rows after dt, in as many sub-calls as the method's own step asks for.

        A cell counts as `fallback` when `method` left it in one sub-call at least, so the kinds add up to all cells.
        """
        count = count_substeps(dt, self.substep)
        taken, retried = np.zeros((2, len(states)), dtype=bool)
        for _ in range(count):
            after, status = self.method.advance(states, dt / count)
            report.integrated = max(report.integrated, getattr(self.method, "integrated", 0))  # only models have it
            left = ~np.isin(status, (Status.OK, Status.RETRIED))
            if left.any() and self.exact is not None:
                after[left], status[left] = self.exact.advance(states[left], dt / count)
                taken |= left
            elif self.freeze:
                left &= status != Status.INVALID
                status[left] = Status.OK
                taken |= left
            self._check(status, states, hot, fields)
            retried |= status == Status.RETRIED
            states = after
        report.cells[self.kind] = len(states) - int(taken.sum())
        report.cells["fallback"] = int(taken.sum())
        report.retried = int(retried.sum())
        return states

    def _check(self, status: NDArray[np.integer], states: Floats, hot: NDArray[np.bool_], fields: Fields) -> None:
        failed = np.flatnonzero(~np.isin(status, (Status.OK, Status.RETRIED)))
        if not failed.size:
            return
        first = failed[0]
        j, i = np.argwhere(hot)[first]
        raise NumericalError(
            f"chemistry ({self.kind}) in cell (row {j + self.first_row}, column {i}), step {fields.step + 1}, "
            f"t = {fields.time:.3e} s:\n{sentence(Status(int(status[first])))} "
            f"T = {states[first, 0]:.1f} K, P = {states[first, 1]:.0f} Pa; {failed.size} such cells.\n"
            "Use chemistry.outside=exact, another model, or chemistry.kind=cvode; or a smaller dt."
        )


def _gather(T: Floats, Y: Floats, p0: float, hot: NDArray[np.bool_]) -> Floats:
    """Rows [T, P, Y] of the cells where `hot`, in row-major order of the cells."""
    states = np.empty((int(hot.sum()), 2 + len(Y)))
    states[:, 0] = T[hot]
    states[:, 1] = p0
    states[:, 2:] = Y[:, hot].T
    return states


def count_substeps(dt: float, substep: float | None) -> int:
    """How many steps of `substep` make dt (1 when any dt will do). Raises UsageError when none does."""
    if substep is None:
        return 1
    count = round(dt / substep)
    if abs(count * substep - dt) > 1e-9 * dt:
        raise UsageError(
            f"dt = {dt:g} s is no multiple of the model's time step, {substep:g} s;\n"
            f"set dt to {max(count, 1) * substep:g} or train a model for {dt:g} s."
        )
    return count


def build_chemistry(config: ChemistryConfig, mechanism: Mechanism, dt: float, first_row: int = 0) -> Chemistry:
    """The chemistry that a case asks for, checked against the flow's dt [s].

    Raises FileError for a missing or corrupt model, UsageError for one of another mechanism or another time step, or
    for a mechanism that `exact` does not cover.
    """
    if config.kind == "frozen":
        return Frozen()
    place: dict[str, Any] = {"min_temperature": config.min_temperature, "first_row": first_row}
    if config.kind != "neural":
        return Reacting(config.kind, _exact_step(config.kind, config, mechanism), **place)
    from chemnet.surrogate.model import Surrogate

    model = Surrogate.load(config.model, engine=config.engine)
    if model.mechanism.sha256 != mechanism.sha256:
        raise UsageError(
            f"model {config.model} was made for mechanism {model.mechanism.name}, the case uses {mechanism.name};\n"
            f"set mechanism to {model.mechanism.name} or name a model for {mechanism.name} in chemistry.model."
        )
    count_substeps(dt, model.dt)
    exact = _exact_step(config.outside, config, mechanism) if config.outside in ("exact", "cvode") else None
    return Reacting("neural", model, exact=exact, freeze=config.outside == "freeze", substep=model.dt, **place)


def _exact_step(kind: str, config: ChemistryConfig, mechanism: Mechanism) -> ChemistryStep:
    """`exact` or `cvode` at the tolerances of the case, on one thread: the ranks share the cores."""
    from chemnet.kinetics import RosenbrockReactor
    from chemnet.kinetics.cvodes import CvodesReactor

    given = {name: value for name in ("rtol", "atol") if (value := getattr(config, name)) is not None}
    return CvodesReactor(mechanism, **given) if kind == "cvode" else RosenbrockReactor(mechanism, **given)
