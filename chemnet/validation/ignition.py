"""How well a model replaces CVODES: ignition at constant pressure, step after step on the model's own states.

One-step errors mislead, so the model is rolled out from the unburnt mixture through ignition to the burnt
state. The oracle is one Cantera reactor per case, integrated without a break at tight tolerances; so it is
independent of the batched integrator, which can be judged too, and it is quicker than tight steps restarted every dt.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import cantera as ct
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from chemnet.config import Config, override, parse, read_yaml
from chemnet.errors import NumericalError, UsageError
from chemnet.kinetics import RosenbrockReactor
from chemnet.mechanism import Mechanism, load_mechanism
from chemnet.reactor import ChemistryStep, new_reactor
from chemnet.sources import premixed
from chemnet.state import Array, check_time_step, elements, enthalpy, heat_capacity
from chemnet.status import Status
from chemnet.store import Pairs, read, read_attributes
from chemnet.surrogate import Surrogate
from chemnet.tables import Table

EXACT = "exact"  # the model that is the batched integrator
ORACLE_RTOL, ORACLE_ATOL = 1e-9, 1e-15
REPORT_EVERY = 10.0  # [s]
_CALM = 1e-8  # [kg/kg] rows that change less on average are in equilibrium, and no share of it can be told


class IgnitionCases(Config):
    """Initial mixtures (every combination) and the length of the roll-out."""

    temperatures: tuple[float, ...] = (1400.0, 1500.0, 1600.0, 1700.0, 1800.0)  # [K]
    equivalence_ratios: tuple[float, ...] = (0.6, 0.8, 1.0, 1.2, 1.4)
    pressures: tuple[float, ...] = (ct.one_atm,)  # [Pa]
    fuel: dict[str, float] = {"CH4": 1.0}  # mole fractions; the oxidizer is air
    steps: int = Field(default=5000, ge=1)
    ignition_rise: float = 400.0  # [K] a smaller rise over the whole roll-out is no ignition

    def mixtures(self) -> list[tuple[float, float, float]]:
        """(T [K], equivalence ratio, P [Pa]) of each case."""
        return list(product(self.temperatures, self.equivalence_ratios, self.pressures))

    def states(self, mechanism: Mechanism) -> Array:
        """Initial states (cases, 2 + K). Raises UsageError when the mechanism lacks fuel or air."""
        rows = [[T, P, *premixed(mechanism, phi, self.fuel)] for T, phi, P in self.mixtures()]
        return np.array(rows)


QUICK = IgnitionCases()
FULL = IgnitionCases(
    temperatures=(1300.0, 1400.0, 1500.0, 1600.0, 1700.0, 1800.0, 1900.0, 2000.0),
    equivalence_ratios=(0.5, 0.7, 1.0, 1.3, 1.6),
    pressures=(0.9 * ct.one_atm, ct.one_atm, 1.2 * ct.one_atm),
    steps=20_000,
)


def load_cases(quick: bool = False, path: str | None = None, changes: Sequence[str] = ()) -> IgnitionCases:
    """The quick or the full cases, those of a YAML file in their place, and `key=value` changes of them."""
    start = read_yaml(path) if path else (QUICK if quick else FULL).model_dump(mode="json")
    return parse(IgnitionCases, override(start, changes), path or "cases")


@dataclass(frozen=True)
class RollOut:
    """Trajectories of n cases: `temperature` (n, steps + 1) [K], and what happened on the way, each (n,)."""

    temperature: Array
    worst_status: NDArray[np.integer]
    element_drift: Array  # [kg/kg]
    enthalpy_drift: Array  # relative to cp T
    seconds: float


@dataclass(frozen=True)
class IgnitionReport:
    """Model and oracle over the same cases; errors are (n,), nan where one of the two does not ignite."""

    cases: IgnitionCases
    dt: float  # [s]
    model: RollOut
    delay: Array  # [s] of the model
    reference_delay: Array  # [s]
    end_temperature_error: Array  # [K]

    @property
    def delay_error(self) -> Array:
        """Relative error of the ignition delay (n,)."""
        return np.abs(self.delay / self.reference_delay - 1.0)

    @property
    def failed(self) -> NDArray[np.bool_]:
        """(n,) True where a step failed, a state is not finite, or only the oracle ignites."""
        broken = (self.model.worst_status >= Status.FAILED) | ~np.isfinite(self.model.temperature[:, -1])
        return broken | (np.isfinite(self.reference_delay) & np.isnan(self.delay))


def validate(
    model: str,
    cases: IgnitionCases = QUICK,
    data: Path | None = None,
    report: Callable[[str], None] = print,
    mechanism: str | None = None,
    dt: float | None = None,
) -> list[Table]:
    """Tables about a model by name or path: ignition, case by case, and single steps if there is a training set.

    The model `exact` is the batched integrator, for any `mechanism` and `dt` [s] (default drm19, 1e-6).

    Raises UsageError when the training set belongs to another mechanism or time step, FileError for a damaged one,
    both before the roll-outs begin.
    """
    step, dt = _step(model, mechanism, dt)
    single_steps = [_one_step_table_of(step, dt, model, data)] if data is not None else []
    ignition = validate_ignition(step, dt, cases, report)
    return [summary(ignition, model), case_table(ignition), *single_steps]


def _step(model: str, mechanism: str | None, dt: float | None) -> tuple[ChemistryStep, float]:
    """What is judged, and its time step [s]."""
    if model == EXACT:
        return RosenbrockReactor(load_mechanism(mechanism or "drm19")), dt if dt is not None else 1e-6
    if mechanism is not None or dt is not None:
        raise UsageError(f"--mechanism and --dt are for `chemnet validate {EXACT}`; a model has its own")
    surrogate = Surrogate.load(model)
    return surrogate, surrogate.dt


def _one_step_table_of(step: ChemistryStep, dt: float, model: str, data: Path) -> Table:
    facts = read_attributes(data)
    if facts["mechanism_sha256"] != step.mechanism.sha256 or facts["dt"] != dt:
        raise UsageError(f"{data} was made with another mechanism or dt than {model}; choose another --data")
    return one_step_table(step, read(data), list(facts["kinds"]), dt)


def validate_ignition(
    model: ChemistryStep, dt: float, cases: IgnitionCases = QUICK, report: Callable[[str], None] = print
) -> IgnitionReport:
    """Roll `model` out over `cases` in steps of dt [s] and compare with the oracle."""
    check_time_step(dt)
    states = cases.states(model.mechanism)
    reference = oracle_temperatures(states, model.mechanism, dt, cases.steps)
    model_run = roll_out(model, states, dt, cases.steps, report)
    return IgnitionReport(
        cases=cases,
        dt=dt,
        model=model_run,
        delay=ignition_delay(model_run.temperature, dt, cases.ignition_rise),
        reference_delay=ignition_delay(reference, dt, cases.ignition_rise),
        end_temperature_error=np.abs(model_run.temperature[:, -1] - reference[:, -1]),
    )


def oracle_temperatures(states: Array, mechanism: Mechanism, dt: float, steps: int) -> Array:
    """Temperatures (n, steps + 1) [K] at constant pressure and enthalpy, one CVODES integration a row.

    Raises NumericalError when an integration fails.
    """
    gas = mechanism.gas()
    temperature = np.empty((len(states), steps + 1))
    for history, row in zip(temperature, states, strict=True):
        reactor = new_reactor(gas, row)
        network = ct.ReactorNet([reactor])
        network.rtol, network.atol = ORACLE_RTOL, ORACLE_ATOL
        history[0] = row[0]
        try:
            for step in range(1, steps + 1):
                network.advance(step * dt)
                history[step] = reactor.T
        except ct.CanteraError:
            raise NumericalError(f"CVODES fails from T = {row[0]} K, P = {row[1]} Pa; leave this case out") from None
    return temperature


def roll_out(
    model: ChemistryStep, states: Array, dt: float, steps: int, report: Callable[[str], None] = print
) -> RollOut:
    """Advance all rows together `steps` times by `dt` [s], each step from the model's own last states.

    Every ten seconds or so `report` is given a line with the time still needed.
    """
    model.advance(states[:1], dt)  # the first call may compile, which is not timed
    start = last = time.perf_counter()
    mechanism = model.mechanism
    n = len(states)
    temperature = np.empty((n, steps + 1))
    temperature[:, 0] = states[:, 0]
    worst = np.zeros(n, dtype=np.int64)
    drift = np.zeros(n)
    totals = elements(states, mechanism)
    current = states
    for step in range(1, steps + 1):
        current, status = model.advance(current, dt)
        worst = np.maximum(worst, status)
        temperature[:, step] = current[:, 0]
        drift = np.maximum(drift, np.abs(elements(current, mechanism) - totals).max(axis=1))
        if time.perf_counter() - last > REPORT_EVERY:
            last = time.perf_counter()
            report(f"step {step} of {steps}, {(last - start) / step * (steps - step):.0f} s left")
    heat = heat_capacity(current, mechanism) * current[:, 0]
    enthalpy_drift = np.abs(enthalpy(current, mechanism) - enthalpy(states, mechanism)) / heat
    return RollOut(temperature, worst, drift, enthalpy_drift, time.perf_counter() - start)


def ignition_delay(temperature: Array, dt: float, ignition_rise: float = QUICK.ignition_rise) -> Array:
    """Time of steepest temperature rise (n,) [s] of histories (n, steps + 1) sampled every dt [s].

    The slopes lie half way between the samples; a parabola through the largest slope and its neighbours
    places the maximum between them. nan where T rises by less than `ignition_rise` [K], is not finite, or is
    steepest at an end.
    """
    slope = np.diff(temperature, axis=1)
    delay = np.full(len(temperature), np.nan)
    for i, (history, rise) in enumerate(zip(temperature, slope, strict=True)):
        if not np.isfinite(history).all() or history.max() - history[0] < ignition_rise:
            continue
        k = int(np.argmax(rise))
        if 0 < k < len(rise) - 1:
            left, middle, right = rise[k - 1 : k + 2]
            delay[i] = dt * (k + 0.5 + 0.5 * (left - right) / (left - 2.0 * middle + right))
    return delay


def summary(report: IgnitionReport, name: str) -> Table:
    """The figures that a model is judged by."""
    ignited = np.isfinite(report.reference_delay)
    if not ignited.any():
        raise UsageError(f"no case ignites in {report.cases.steps} steps: take more steps or hotter mixtures")
    errors = 100.0 * report.delay_error[np.isfinite(report.delay_error)]
    rows = [
        ("cases", len(ignited)),
        ("cases that ignite with CVODES", int(ignited.sum())),
        ("cases that ignite with the model", int(np.isfinite(report.delay).sum())),
        ("failed cases", int(report.failed.sum())),
        ("ignition delay error, mean [%]", errors.mean() if errors.size else None),
        ("ignition delay error, max [%]", errors.max() if errors.size else None),
        ("end temperature error, mean [K]", report.end_temperature_error.mean()),
        ("end temperature error, max [K]", report.end_temperature_error.max()),
        ("element drift, max [kg/kg]", report.model.element_drift.max()),
        ("enthalpy drift, max [h/(cp T)]", report.model.enthalpy_drift.max()),
        ("seconds of the roll-outs", report.model.seconds),
    ]
    steps = f"{report.cases.steps} steps of {report.dt:g} s"
    title = f"{name} against CVODES: ignition at constant pressure, {steps}"
    return Table(title, ("figure", "value"), rows)


def case_table(report: IgnitionReport) -> Table:
    """One row per case."""
    rows = [
        (
            T,
            phi,
            P / ct.one_atm,
            1e6 * reference,
            1e6 * delay,
            100.0 * error,
            end_error,
            Status(worst).name.lower(),
        )
        for (T, phi, P), reference, delay, error, end_error, worst in zip(
            report.cases.mixtures(),
            report.reference_delay,
            report.delay,
            report.delay_error,
            report.end_temperature_error,
            report.model.worst_status,
            strict=True,
        )
    ]
    columns = (
        "T0 [K]",
        "phi",
        "P [atm]",
        "CVODES [us]",
        "model [us]",
        "error [%]",
        "end T error [K]",
        "status",
    )
    return Table("ignition delay by case", columns, rows)


def one_step_table(
    model: ChemistryStep, pairs: Pairs, kinds: Sequence[str], dt: float, max_rows: int = 20_000
) -> Table:
    """Errors of single steps on the validation rows of a training set, per kind of state.

    The error of the change is sum abs(Y_model - Y_exact) / sum abs(Y_exact - Y_before); a model that
    changes nothing has 1, and burnt gas, where nothing changes, has none. At most `max_rows` rows are used, evenly
    spread.
    """
    chosen = pairs.where(pairs.split == 1)
    chosen = chosen.where(np.arange(len(chosen)) % max(1, len(chosen) // max_rows) == 0)
    predicted, status = model.advance(chosen.states, dt)
    taken = status < Status.FAILED
    rows = []
    for index, kind in enumerate(kinds):
        of_kind = chosen.kind == index
        used = of_kind & taken
        if used.any():
            refused = np.count_nonzero(of_kind & ~taken)
            rows.append((kind, np.count_nonzero(of_kind), refused, *_errors(chosen, predicted, used)))
    columns = (
        "kind",
        "rows",
        "refused",
        "T error, mean [K]",
        "T error, p99 [K]",
        "T error, max [K]",
        "error of the change",
    )
    return Table("one step against the training set's validation rows", columns, rows)


def _errors(exact: Pairs, predicted: Array, rows: NDArray[np.bool_]) -> tuple[float, float, float, float | None]:
    before, after, model = exact.states[rows], exact.next_states[rows], predicted[rows]
    error = np.abs(model[:, 0] - after[:, 0])
    change = np.abs(after[:, 2:] - before[:, 2:]).sum()
    wrong = np.abs(model[:, 2:] - after[:, 2:]).sum()
    return error.mean(), np.quantile(error, 0.99), error.max(), wrong / change if change > _CALM * len(model) else None
