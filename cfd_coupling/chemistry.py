"""The chemistry of the flow: none, an integrator or a trained model, behind one call.

`apply(fields, dt)` advances the interior cells at constant p0 and h and changes Y and T in place; rho and h are
untouched. Cells at or below `min_temperature` are left out before anything is copied.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from cfd_coupling.config import ChemistryConfig
from cfd_coupling.fields import Fields, interior
from cfd_coupling.load_balance import LoadBalance
from cfd_coupling.parallel import Communicator
from chemnet.gas.mechanism import Mechanism
from chemnet.gas.status import Status, sentence
from chemnet.gas.thermo import species_enthalpies
from chemnet.runtime.errors import NumericalError, UsageError
from chemnet.runtime.run_folder import sha256

if TYPE_CHECKING:
    from chemnet.kinetics.step import ChemistryStep

KINDS = ("frozen", "exact", "cvode", "neural", "fallback")
REFERENCE_TEMPERATURE = 298.15  # [K], of the enthalpies of formation

Floats = NDArray[np.float64]


@dataclass
class ChemistryReport:
    """Report of one call on this rank.

    hot: which cells (ny_local, nx) reacted; change: of rho Y in these n cells, row by row, (n, K) [kg/m3]; kinds:
    which of KINDS advanced each of them, (n,). cells: how many cells each kind advanced; retried: how many of them
    took a second attempt (`exact` hands them to CVODES, `cvode` shortens its steps); integrated: how many `neural`
    ones were too cold or too calm for the network, and integrated; moved: how many another rank advanced; waiting:
    seconds in which this rank waited for the others; seconds: wall time, waiting included.
    """

    hot: NDArray[np.bool_]
    change: Floats
    kinds: NDArray[np.int8]
    cells: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    retried: int = 0
    integrated: int = 0
    moved: int = 0
    waiting: float = 0.0
    seconds: float = 0.0

    @classmethod
    def of_no_reaction(cls, fields: Fields) -> ChemistryReport:
        """The report of a call that changed nothing."""
        hot = np.zeros(interior(fields.T).shape, dtype=np.bool_)
        return cls(hot, np.zeros((0, len(fields.Y))), np.zeros(0, dtype=np.int8))

    def weighed(self, weights: Floats) -> Floats:
        """Sum over the species of weights (K,) times the change of rho Y in each cell, (ny_local, nx).

        Cell by cell in one order, so that a value does not depend on what else the rank holds.
        """
        result = np.zeros(self.hot.shape)
        result[self.hot] = np.einsum("nk,k->n", self.change, weights)
        return result

    def kind_of_cells(self) -> NDArray[np.int8]:
        """Which of KINDS advanced each cell (ny_local, nx), as its place in KINDS."""
        result = np.zeros(self.hot.shape, dtype=np.int8)
        result[self.hot] = self.kinds
        return result


def formation_enthalpies(mechanism: Mechanism) -> Floats:
    """Specific enthalpies of formation (K,) [J/kg] at REFERENCE_TEMPERATURE."""
    formation = np.empty(mechanism.n_species)
    species_enthalpies(REFERENCE_TEMPERATURE, mechanism.nasa, formation)
    return formation


class Chemistry(Protocol):
    """Chemistry of the time step."""

    def apply(self, fields: Fields, dt: float) -> ChemistryReport: ...


class Frozen:
    """No reactions."""

    def apply(self, fields: Fields, dt: float) -> ChemistryReport:
        """Change nothing; every interior cell counts as frozen."""
        report = ChemistryReport.of_no_reaction(fields)
        report.cells["frozen"] = report.hot.size
        return report


class Reacting:
    """Reactions in every cell above `min_temperature` [K], advanced by `step`.

    kind: name under which the cells of `step` are counted; those that a model left count as `fallback`. substep: the
    only dt [s] that `step` takes, None for any. first_row: global index of this rank's first row, to name a cell in a
    message. comm: the ranks that share the cells out, so that all have the same work; the work of a cell is what it
    took in the step before, which moves by one cell at most.
    """

    def __init__(
        self,
        kind: str,
        step: ChemistryStep,
        *,
        min_temperature: float,
        substep: float | None = None,
        first_row: int = 0,
        comm: Communicator | None = None,
    ) -> None:
        self.kind, self.step = kind, step
        self.min_temperature = min_temperature
        self.substep = substep
        self.first_row = first_row
        self.balance = LoadBalance(comm or Communicator())
        self._work: Floats | None = None

    def apply(self, fields: Fields, dt: float) -> ChemistryReport:
        """Advance the hot cells by dt [s]. Raises NumericalError naming the first cell that could not be advanced."""
        start = time.perf_counter()
        T, Y, rho = interior(fields.T), interior(fields.Y), interior(fields.rho)
        hot = np.greater(T, self.min_temperature)
        states = _gather(T, Y, fields.p0, hot)
        after, noted = self._advance_shared(states, self._expected_work(hot), dt)
        self._check(noted.status, after, hot, fields)
        self._work = np.where(hot, 0.0, 1.0)
        self._work[hot] = noted.work
        report = self._report(hot, noted)
        report.change = rho[hot][:, None] * (after[:, 2:] - states[:, 2:])
        T[hot] = after[:, 0]
        Y[:, hot] = after[:, 2:].T
        report.seconds = time.perf_counter() - start
        return report

    def _expected_work(self, hot: NDArray[np.bool_]) -> Floats:
        """Work of the hot cells in the step before; one step of an integrator for cells that were cold then."""
        return np.ones(int(hot.sum())) if self._work is None else self._work[hot]

    def _advance_shared(self, states: Floats, work: Floats, dt: float) -> tuple[Floats, _Noted]:
        """States of this rank's rows after dt, advanced by whichever rank has time for them."""
        n = states.shape[1]
        rows = self.balance.hand_out(np.column_stack([states, work]), work)
        longest_first = np.argsort(-rows[:, n], kind="stable")  # else some lanes of the integrator idle at the end
        results = np.empty((len(rows), n + len(_Noted._fields)))
        results[longest_first] = self._advance(rows[longest_first, :n], dt)
        results = self.balance.hand_back(results)
        return results[:, :n], _Noted(*results[:, n:].T)

    def _advance(self, states: Floats, dt: float) -> Floats:
        """Rows after dt, in as many sub-calls as the step's own dt asks for, beside them the columns of `_Noted`.

        Sub-calls end with the first that fails.
        """
        count = count_substeps(dt, self.substep)
        status, retried, integrated, left, work = noted = _Noted(*np.zeros((len(_Noted._fields), len(states))))
        for _ in range(count if len(states) else 0):
            result = self.step.advance(states, dt / count)
            states, status[:] = result
            retried[status == Status.RETRIED] = 1.0
            integrated[result.stats.slow] = 1.0
            left[result.stats.left] = 1.0
            work += 1.0 if result.stats.work is None else result.stats.work
            if not _advanced(status).all():
                break
        return np.column_stack([states, *noted])

    def _report(self, hot: NDArray[np.bool_], noted: _Noted) -> ChemistryReport:
        """Kinds and counts, which add up to all cells."""
        left = noted.left > 0.0
        report = ChemistryReport(
            hot,
            change=np.zeros((0, 0)),
            kinds=np.where(left, KINDS.index("fallback"), KINDS.index(self.kind)).astype(np.int8),
            retried=int(noted.retried.sum()),
            integrated=int(noted.integrated.sum()),
            moved=self.balance.moved,
            waiting=self.balance.waiting,
        )
        report.cells |= {"frozen": hot.size - len(left), "fallback": int(left.sum())}
        report.cells[self.kind] = len(left) - int(left.sum())
        return report

    def _check(self, status: Floats, states: Floats, hot: NDArray[np.bool_], fields: Fields) -> None:
        failed = np.flatnonzero(~_advanced(status))
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


class _Noted(NamedTuple):
    """What is noted of rows (n,), as numbers that travel with their states.

    status: of the last sub-call; work: the sum over sub-calls, in internal steps of the exact integrator; for the
    others 1 where it was so in one sub-call at least: `retried`, `integrated` (slow gas), `left` by a model.
    """

    status: Floats
    retried: Floats
    integrated: Floats
    left: Floats
    work: Floats


def _advanced(status: Floats) -> NDArray[np.bool_]:
    """Whether the rows of a `Status` have been advanced."""
    return np.isin(status, (Status.OK, Status.RETRIED))


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


def build_chemistry(
    config: ChemistryConfig, mechanism: Mechanism, dt: float, first_row: int = 0, comm: Communicator | None = None
) -> Chemistry:
    """The chemistry that a case asks for, checked against the flow's dt [s]; the ranks of `comm` may share its cells.

    Raises FileError for a missing or corrupt model, UsageError for one of another mechanism or another time step, or
    for a mechanism that `exact` does not cover.
    """
    if config.kind == "frozen":
        return Frozen()
    from chemnet.kinetics import integrator_of

    place: dict[str, Any] = {"min_temperature": config.min_temperature, "first_row": first_row}
    if config.share:
        place["comm"] = comm
    if config.kind != "neural":
        return Reacting(config.kind, integrator_of(config.kind, mechanism, config.rtol, config.atol), **place)
    from chemnet.surrogate.hybrid import HybridStep
    from chemnet.surrogate.model import Surrogate

    model = Surrogate.load(config.model, engine=config.engine)
    if model.mechanism.sha256 != mechanism.sha256:
        raise UsageError(
            f"model {config.model} was made for mechanism {model.mechanism.name}, the case uses {mechanism.name};\n"
            f"set mechanism to {model.mechanism.name} or name a model for {mechanism.name} in chemistry.model."
        )
    count_substeps(dt, model.dt)
    outside: Any = config.outside
    if outside in ("exact", "cvode"):
        outside = integrator_of(outside, mechanism, config.rtol, config.atol)
    return Reacting("neural", HybridStep(model, outside=outside), substep=model.dt, **place)


def chemistry_facts(config: ChemistryConfig) -> dict[str, Any]:
    """What tells the chemistry of a case from another of the same configuration: the content of its model's file."""
    if config.kind != "neural":
        return {}
    from chemnet.surrogate.model_file import find_model

    return {"model_sha256": sha256(find_model(config.model))}
