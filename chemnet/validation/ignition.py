"""Ignition at constant pressure: a model rolled out from the unburnt mixture to the burnt gas.

The reference is the exact integrator at tight tolerances, stepped as the model is. It is audited: one CVODES
integration per case, without a break, gives the delay as well, and the largest difference is among the figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import cantera as ct
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from chemnet.data.burning import Burning
from chemnet.gas.canonical import AIR, ignition_path, premixed
from chemnet.gas.mechanism import Mechanism
from chemnet.gas.state import Array, check_time_step
from chemnet.gas.status import Status
from chemnet.kinetics.step import ChemistryStep
from chemnet.runtime.config import Config, override, parse, read_yaml
from chemnet.runtime.errors import NumericalError, UsageError
from chemnet.runtime.tables import Table
from chemnet.validation.metrics import Figure, largest, mean
from chemnet.validation.references import array, cached, key_of, plain, reference_step
from chemnet.validation.rollouts import IGNITION_RISE, Report, RollOut, ignition_delay, roll_out

_LATEST = 0.5  # [s] a case that ignites later takes no more than the least steps
CASES = "ignition delay by case"
TARGETS = {"mean": 0.3, "max": 1.2, "end": 3.0}  # [%], [%], [K]


class IgnitionCases(Config):
    """Initial mixtures (every combination) and the length of the roll-outs: the larger of `steps` and of `delays`
    times the ignition delay."""

    temperatures: tuple[float, ...] = (1400.0, 1500.0, 1600.0, 1700.0, 1800.0)  # [K]
    equivalence_ratios: tuple[float, ...] = (0.6, 0.8, 1.0, 1.2, 1.4)
    pressures: tuple[float, ...] = (ct.one_atm,)  # [Pa]
    fuel: dict[str, float] = {"CH4": 1.0}  # mole fractions
    oxidizer: dict[str, float] = AIR
    steps: int = Field(default=5000, ge=1)
    delays: float = Field(default=0.0, ge=0.0)
    ignition_rise: float = IGNITION_RISE  # [K] a smaller rise over the whole roll-out is no ignition

    def mixtures(self) -> list[tuple[float, float, float]]:
        """(T [K], equivalence ratio, P [Pa]) of each case."""
        return list(product(self.temperatures, self.equivalence_ratios, self.pressures))

    def states(self, mechanism: Mechanism) -> Array:
        """Initial states (cases, 2 + K). Raises UsageError when the mechanism lacks a species of fuel or oxidizer."""
        rows = [[T, P, *premixed(mechanism, phi, self.fuel, self.oxidizer)] for T, phi, P in self.mixtures()]
        return np.array(rows)


QUICK = IgnitionCases()
FULL = IgnitionCases(
    temperatures=(1200.0, 1300.0, 1400.0, 1600.0, 1800.0, 2000.0),
    equivalence_ratios=(0.5, 0.75, 1.0, 1.5, 2.0),
    pressures=(0.8 * ct.one_atm, ct.one_atm, 2.0 * ct.one_atm),
    steps=50_000,
    delays=3.0,
)


def cases_of(burning: Burning, usual: IgnitionCases) -> IgnitionCases:
    """The usual cases with what a model burns; at its own pressures where the usual ones are not all in its range."""
    gas = {"fuel": dict(burning.fuel), "oxidizer": dict(burning.oxidizer)}
    return usual.model_copy(update={**gas, "pressures": burning.pressures(usual.pressures)})


def load_cases(
    quick: bool = False, path: str | None = None, changes: Sequence[str] = (), usual: IgnitionCases | None = None
) -> IgnitionCases:
    """The quick or the full cases, or other `usual` ones; those of a YAML file in their place, and `key=value` changes
    of them."""
    start = read_yaml(path) if path else (usual or (QUICK if quick else FULL)).model_dump(mode="json")
    return parse(IgnitionCases, override(start, changes), path or "cases")


@dataclass(frozen=True)
class Reference:
    """Reference of n cases, each (n,): steps to take, ignition delay and the one by CVODES [s], nan where there is
    none, and the temperature at the end [K]."""

    steps: NDArray[np.integer]
    delay: Array
    cvodes_delay: Array
    end_temperature: Array


@dataclass(frozen=True)
class IgnitionReport:
    """Model and reference over the same cases; errors are (n,), nan where one of the two does not ignite."""

    cases: IgnitionCases
    dt: float  # [s]
    model: RollOut
    delay: Array  # [s] of the model
    reference: Reference
    end_temperature_error: Array  # [K]

    @property
    def delay_error(self) -> Array:
        """Relative error of the ignition delay (n,)."""
        return np.abs(self.delay / self.reference.delay - 1.0)

    @property
    def failed(self) -> NDArray[np.bool_]:
        """(n,) True where a step failed, a state is not finite, or only the reference ignites."""
        broken = (self.model.worst_status >= Status.FAILED) | ~np.isfinite(self.model.temperature[:, -1])
        return broken | (np.isfinite(self.reference.delay) & np.isnan(self.delay))


def validate_ignition(
    model: ChemistryStep,
    dt: float,
    cases: IgnitionCases = QUICK,
    report: Report = print,
    cache: Path | None = None,
) -> IgnitionReport:
    """Roll `model` out over `cases` in steps of dt [s] and compare with the reference, which is kept in `cache`.

    Raises UsageError when no case ignites, NumericalError when the reference cannot be computed.
    """
    check_time_step(dt)
    states = cases.states(model.mechanism)
    reference = ignition_reference(states, model.mechanism, dt, cases, report, cache)
    if not np.isfinite(reference.delay).any():
        raise UsageError(f"no case ignites in {cases.steps} steps: take more steps or hotter mixtures")
    model_run = roll_out(model, states, dt, reference.steps, lambda line: report(f"ignition: {line}"))
    return IgnitionReport(
        cases=cases,
        dt=dt,
        model=model_run,
        delay=ignition_delay(model_run.temperature, dt, cases.ignition_rise),
        reference=reference,
        end_temperature_error=np.abs(model_run.temperature[:, -1] - reference.end_temperature),
    )


def ignition_reference(
    states: Array,
    mechanism: Mechanism,
    dt: float,
    cases: IgnitionCases,
    report: Report = print,
    cache: Path | None = None,
) -> Reference:
    """Reference of initial states (n, 2 + K); taken from `cache` if it was computed before."""

    def compute() -> dict[str, list[float | None]]:
        cvodes = cvodes_delays(states, mechanism, dt, max(_LATEST if cases.delays else 0.0, cases.steps * dt), cases)
        wanted = np.ceil(cases.delays * np.nan_to_num(cvodes) / dt).astype(np.int64)
        steps = np.maximum(cases.steps, wanted)
        run = roll_out(
            reference_step(mechanism), states, dt, steps, lambda line: report(f"reference of the ignitions: {line}")
        )
        if (run.worst_status >= Status.FAILED).any():
            raise NumericalError("the exact integrator fails in one of the cases; leave out the extreme ones")
        delay = ignition_delay(run.temperature, dt, cases.ignition_rise)
        found = {"steps": steps, "delay": delay, "cvodes_delay": cvodes, "end_temperature": run.temperature[:, -1]}
        return {name: plain(values) for name, values in found.items()}

    settings = cases.model_dump(mode="json", include={"steps", "delays", "ignition_rise"})
    stored = cached(cache, "ignition", key_of(mechanism, states, dt, **settings), compute)
    found = {name: array(values) for name, values in stored.items()}
    steps = found.pop("steps").astype(np.int64)
    return Reference(steps, found["delay"], found["cvodes_delay"], found["end_temperature"])


def cvodes_delays(states: Array, mechanism: Mechanism, dt: float, end_time: float, cases: IgnitionCases) -> Array:
    """Ignition delays (n,) [s] of one CVODES integration a row, read off every dt as a roll-out's are.

    nan for what does not ignite before `end_time` [s]. Raises NumericalError when an integration fails.
    """
    gas = mechanism.gas()
    delays = np.empty(len(states))
    for i, row in enumerate(states):
        try:
            times, path = ignition_path(gas, row, end_time)
        except ct.CanteraError:
            raise NumericalError(f"CVODES fails from T = {row[0]} K, P = {row[1]} Pa; leave this case out") from None
        samples = np.arange(0.0, min(times[-1], end_time), dt)
        history = np.interp(samples, times, path[:, 0])
        delays[i] = ignition_delay(history[None], dt, cases.ignition_rise)[0]
    return delays


def figures(report: IgnitionReport, check: str = "ignition") -> list[Figure]:
    """Figures of the ignitions."""
    errors = 100.0 * report.delay_error
    reference = report.reference
    audit = 100.0 * np.abs(reference.delay / reference.cvodes_delay - 1.0)
    ignites = int(np.isfinite(reference.delay).sum())
    return [
        Figure(check, "cases", len(errors)),
        Figure(check, "cases that ignite by the reference", ignites),
        Figure(check, "cases that ignite by the model", int(np.isfinite(report.delay).sum())),
        Figure(check, "failed cases", int(report.failed.sum()), 0),
        Figure(check, "ignition delay error, mean [%]", mean(errors), TARGETS["mean"]),
        Figure(check, "ignition delay error, max [%]", largest(errors), TARGETS["max"]),
        Figure(check, "end temperature error, mean [K]", mean(report.end_temperature_error)),
        Figure(check, "end temperature error, max [K]", largest(report.end_temperature_error), TARGETS["end"]),
        Figure(check, "element drift, max [kg/kg]", largest(report.model.element_drift)),
        Figure(check, "enthalpy drift, max [h/(cp T)]", largest(report.model.enthalpy_drift)),
        Figure(check, "delays of the reference against CVODES, max [%]", largest(audit)),
        Figure(check, "seconds of the roll-outs", report.model.seconds),
    ]


def case_table(report: IgnitionReport) -> Table:
    """One row per case."""
    T, phi, P = np.array(report.cases.mixtures()).T
    columns = {
        "T0 [K]": T,
        "phi": phi,
        "P [atm]": P / ct.one_atm,
        "reference [us]": 1e6 * report.reference.delay,
        "model [us]": 1e6 * report.delay,
        "error [%]": 100.0 * report.delay_error,
        "end T error [K]": report.end_temperature_error,
        "steps": report.reference.steps,
        "status": [Status(worst).name.lower() for worst in report.model.worst_status],
    }
    return Table.of(CASES, columns)


def group_table(report: IgnitionReport, column: int, name: str, scale: float = 1.0) -> Table:
    """The errors by one of the coordinates of the cases: `column` of the mixtures, shown over `scale`."""
    coordinate = np.array(report.cases.mixtures())[:, column]
    values = np.unique(coordinate)
    groups = [coordinate == value for value in values]
    delay, end = 100.0 * report.delay_error, report.end_temperature_error
    columns = {
        name: values / scale,
        "cases": [at.sum() for at in groups],
        "failed": [report.failed[at].sum() for at in groups],
        "delay error, mean [%]": [mean(delay[at]) for at in groups],
        "delay error, max [%]": [largest(delay[at]) for at in groups],
        "end T error, mean [K]": [mean(end[at]) for at in groups],
        "end T error, max [K]": [largest(end[at]) for at in groups],
    }
    steps = f"at least {report.cases.steps} steps of {report.dt:g} s"
    return Table.of(f"ignition at constant pressure by {name.split()[0]}, {steps}", columns)
