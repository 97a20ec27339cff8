"""The validation of a model: its checks one after the other, a table for each, and all figures beside their targets."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cantera as ct
import numpy as np

from chemnet.benchmark.model import BenchTask, FlameCells, cost_table, measure
from chemnet.benchmark.timing import in_fresh_process
from chemnet.data.burning import burning_of_facts
from chemnet.data.dataset import Pairs, read, read_attributes
from chemnet.gas.canonical import has_transport
from chemnet.gas.mechanism import MechanismLike
from chemnet.kinetics import ChemistryStep, RosenbrockReactor
from chemnet.runtime.config import parse
from chemnet.runtime.errors import UsageError
from chemnet.runtime.nearest import hint
from chemnet.runtime.tables import Table
from chemnet.surrogate.hybrid import HybridStep
from chemnet.surrogate.model import Surrogate
from chemnet.validation import cold, flames, flow, flow_steps, ignition, single_steps
from chemnet.validation.flame_scales import METHANE, FlameScales
from chemnet.validation.ignition import FULL, QUICK, IgnitionCases, cases_of
from chemnet.validation.metrics import Figure, summary
from chemnet.validation.references import REFERENCES
from chemnet.validation.rollouts import Report

QUICK_CHECKS = ("steps", "ignition")
_USUAL_DATA = Path("datasets/drm19/states.h5")
_PRESSURES = (81060.0, 202650.0)  # [Pa] of the exact step, which has no domain
_PRESSURE_POINTS = 5
_MARGIN = 1e-3  # of the pressure range: cases at its ends lie inside

Found = tuple[list[Table], list[Figure]]


@dataclass(frozen=True)
class Suite:
    """Model, cases and data of a validation.

    `model` is a name or a path; None is the exact step for any `mechanism` and `dt` [s] (default drm19, 1e-6). `data`
    is the training set of the single steps; without it `usual_data` is, if it is there and was made with the model's
    mechanism and time step. `cache` is where references are kept; `burn` burns flames, and `solver` names the solver
    that does, for the key of the references; `flow` burns small turbulent flames. Both kinds have the `scales` of the
    gas, without which they are those of methane; of the turbulent ones the first `n_boxes` (default all) are burnt.
    """

    model: str | None
    cases: IgnitionCases = FULL
    data: Path | None = None
    usual_data: Path | None = None
    mechanism: MechanismLike | None = None
    dt: float | None = None
    cache: Path | None = None
    burn: flames.Burn | None = None
    solver: str = ""
    flow: flow.FlowSolver | None = None
    scales: FlameScales | None = None
    n_boxes: int | None = None
    report: Report = print


def run(suite: Suite, checks: Sequence[str] | None = None, usual: Sequence[str] | None = None) -> list[Table]:
    """A table or two per check, and the summary at the end. Without `checks` those of the `usual` ones (default all)
    run that have all they need.

    Raises UsageError for an unknown check, for one that lacks what it needs, or when the training set belongs to
    another mechanism or time step, and FileError for a missing model or a damaged training set, before anything runs.
    """
    unknown = [name for name in checks or () if name not in CHECKS]
    if unknown:
        raise UsageError(f"no check {unknown[0]}{hint(unknown[0], CHECKS)}")
    loaded = Checks(suite)
    for name in checks or ():
        lacking = loaded.lacks(name)
        if lacking is not None:
            raise UsageError(f"the check {name} needs {lacking}")
    wanted = checks or [name for name in usual or CHECKS if loaded.lacks(name) is None]
    tables, figures = [], []
    for name, check in CHECKS.items():
        if name in wanted:
            more, found = check(loaded)
            tables += more
            figures += found
    return [*tables, summary(figures, suite.model or "exact")]


class Checks:
    """The checks of a model that is loaded; each gives tables and figures."""

    def __init__(self, suite: Suite) -> None:
        self.suite = suite
        self.step, self.dt = load(suite.model, suite.mechanism, suite.dt)
        self.pairs, self.kinds = self._pairs()
        suite.cases.states(self.step.mechanism)

    def _pairs(self) -> tuple[Pairs | None, list[str]]:
        """The training set and its kinds."""
        data, usual = self.suite.data, self.suite.usual_data
        if data is None and usual is not None and usual.exists() and self._fits(usual):
            data = usual
        if data is None:
            return None, []
        if not self._fits(data):
            raise UsageError(f"{data} was made with another mechanism or dt than the model's; choose another --data")
        return read(data), list(read_attributes(data)["kinds"])

    def _fits(self, data: Path) -> bool:
        facts = read_attributes(data)
        return facts["mechanism_sha256"] == self.step.mechanism.sha256 and bool(facts["dt"] == self.dt)

    def lacks(self, check: str) -> str | None:
        """The requirement of a check that is missing; None if it can run."""
        if check == "steps" and self.pairs is None:
            return "a training set: --data FILE"
        solvers = {"flames": self.suite.burn, "flow": self.suite.flow}
        if check in solvers and solvers[check] is None:
            return "the flow solver"
        if check in solvers and not has_transport(self.step.mechanism):
            return "transport data of the mechanism"
        if check == "cost" and self.suite.model is None:
            return "a network; `chemnet bench exact` measures the exact step"
        return None

    def steps(self) -> Found:
        """Single steps by region."""
        assert self.pairs is not None
        table, figures = single_steps.validate_steps(self.step, self.pairs, self.kinds, self.dt)
        return [table], figures

    def ignition(self) -> Found:
        """Ignitions, by temperature and case by case."""
        suite = self.suite
        found = ignition.validate_ignition(self.step, self.dt, suite.cases, suite.report, suite.cache)
        return [ignition.group_table(found, 0, "T0 [K]"), ignition.case_table(found)], ignition.figures(found)

    def pressure(self) -> Found:
        """Ignitions at the ends of the pressure range and between them."""
        suite = self.suite
        low, high = self.step.model.domain.limits["P"] if isinstance(self.step, HybridStep) else _PRESSURES
        margin = _MARGIN * (high - low)
        pressures = np.linspace(low + margin, high - margin, _PRESSURE_POINTS).tolist()
        phis = (0.7, 1.0, 1.3)
        changes = {"pressures": tuple(pressures), "temperatures": (1450.0, 1750.0), "equivalence_ratios": phis}
        cases = QUICK.model_copy(update={"fuel": suite.cases.fuel, "oxidizer": suite.cases.oxidizer, **changes})
        found = ignition.validate_ignition(self.step, self.dt, cases, suite.report, suite.cache)
        return [ignition.group_table(found, 2, "P [kPa]", 1e3)], ignition.figures(found, "pressure")

    def cold(self) -> Found:
        """False heat in cold mixtures."""
        suite = self.suite
        fuel, oxidizer = (tuple(moles.items()) for moles in (suite.cases.fuel, suite.cases.oxidizer))
        temperatures, warm = cold.levels(min(suite.cases.temperatures))
        mixtures = cold.ColdMixtures(temperatures, warm, pressure=self._pressure(), fuel=fuel, oxidizer=oxidizer)
        found = cold.validate_cold(self.step, self.dt, mixtures, suite.report, suite.cache)
        return [cold.cold_table(found)], cold.figures(found)

    def flames(self) -> Found:
        """Speeds of planar flames."""
        suite, mechanism = self.suite, self.step.mechanism
        assert suite.burn is not None
        key = {"solver": suite.solver, "mechanism": mechanism.sha256}
        gas = [*self._gas(), *(flames.box_of(suite.scales, self.dt) if suite.scales else ())]
        phis = suite.scales.phis if suite.scales else tuple(flames.TARGETS)
        found = flames.validate_flames(self._chemistry(), gas, suite.burn, key, suite.report, suite.cache, phis)
        return [flames.flame_table(found)], flames.figures(found)

    def flow(self) -> Found:
        """Small turbulent flames: single steps on their states, and their runs repeated."""
        suite = self.suite
        assert suite.flow is not None
        gas = self._gas()
        boxes = flow.boxes_of(suite.scales or METHANE, self.dt)[: suite.n_boxes]
        exact, failed = flow.references(self.step, self.dt, gas, suite.flow, suite.report, suite.cache, boxes)
        if not exact:
            return [flow.run_table(failed)], []
        steps = flow_steps.validate_steps(self.step, flow.states_of(exact), self.dt, list(suite.cases.fuel))
        runs = flow.repeat(self._chemistry(), exact, gas, suite.flow, suite.report, boxes)
        tables = [flow_steps.step_table(steps), flow.run_table([*runs, *failed])]
        return tables, [*flow_steps.figures(steps), *flow.figures(runs)]

    def _chemistry(self) -> list[str]:
        """The changes of a case of the flow solver for the model."""
        if self.suite.model is None:
            return ["chemistry.kind=exact"]
        return ["chemistry.kind=neural", f"chemistry.model={json.dumps(self.suite.model)}"]

    def _gas(self) -> list[str]:
        """The changes of a case of the flow solver for mechanism, fuel and dt."""
        return flames.changes_of_gas(
            self.step.mechanism.name, self.suite.cases.fuel, self.dt, self.suite.cases.oxidizer
        )

    def _pressure(self) -> float:
        """One atmosphere, or the end of the model's domain that is nearest to it [Pa]."""
        if not isinstance(self.step, HybridStep):
            return ct.one_atm
        return float(np.clip(ct.one_atm, *self.step.model.domain.limits["P"]))

    def cost(self) -> Found:
        """Cost per cell beside CVODES and the exact step, in a process of its own."""
        assert self.suite.model is not None
        cases = self.suite.cases
        flame = FlameCells(fuel=cases.fuel, oxidizer=cases.oxidizer, P=self._pressure())
        task = BenchTask(self.suite.model, flame=flame)
        timings = in_fresh_process(measure, task)
        figures = []
        for kind, timing in timings.items():
            figures += [
                Figure("cost", f"{kind}: model [us per cell]", 1e6 * timing.per_cell("model")[0]),
                Figure("cost", f"{kind}: CVODES / model", timing.ratio("CVODES", "model")),
                Figure("cost", f"{kind}: exact / model", timing.ratio("exact", "model")),
                Figure("cost", f"{kind}: integrated by the model [%]", 100.0 * timing.integrated / timing.cells),
            ]
        return [cost_table(task, timings)], figures


CHECKS: dict[str, Callable[[Checks], Found]] = {
    "steps": Checks.steps,
    "ignition": Checks.ignition,
    "pressure": Checks.pressure,
    "cold": Checks.cold,
    "flames": Checks.flames,
    "flow": Checks.flow,
    "cost": Checks.cost,
}


def load(
    model: str | None, mechanism: MechanismLike | None = None, dt: float | None = None
) -> tuple[ChemistryStep, float]:
    """The step of a model, which refuses states outside its domain, and its dt [s].

    Raises UsageError where a model is given a mechanism or a time step.
    """
    if model is None:
        return RosenbrockReactor("drm19" if mechanism is None else mechanism), dt if dt is not None else 1e-6
    if mechanism is not None or dt is not None:
        raise UsageError("mechanism and dt are for the exact step; a model has its own")
    step = HybridStep.load(model, outside="error")
    return step, step.dt


def cases_of_model(model: str | Path, quick: bool = False) -> IgnitionCases:
    """The ignitions that a model was made for, if it says; else the usual ones of what it burns.

    Raises FileError where there is no such model.
    """
    metadata = Surrogate.load(model).metadata
    if "cases" in metadata:
        own = parse(IgnitionCases, metadata["cases"], f"cases of {model}")
        return own.model_copy(update={"steps": QUICK.steps, "delays": QUICK.delays}) if quick else own
    usual = QUICK if quick else FULL
    burning = burning_of_facts(metadata.get("data", {}))
    return usual if burning is None else cases_of(burning, usual)


def scales_of_model(model: str | Path) -> FlameScales | None:
    """The scales of the flame that a model was made for, if it says. Raises FileError where there is no such model."""
    metadata = Surrogate.load(model).metadata
    return parse(FlameScales, metadata["scales"], f"scales of {model}") if "scales" in metadata else None


def validate(
    model: str | Path | None,
    *,
    mechanism: MechanismLike | None = None,
    dt: float | None = None,
    quick: bool = False,
    checks: Sequence[str] | None = None,
    cases: IgnitionCases | None = None,
    fuel: Mapping[str, float] | None = None,
    oxidizer: Mapping[str, float] | None = None,
    pressures: Sequence[float] | None = None,
    data: Path | None = None,
    burn: flames.Burn | None = None,
    solver: str = "",
    flow: flow.FlowSolver | None = None,
    report: Report = print,
) -> list[Table]:
    """Tables of a model's checks, by default all of them (`quick`: single steps and 25 ignitions), and the summary.

    `model` is a name, file or run folder; None is the exact step for a `mechanism` (default drm19) and `dt` [s]
    (default 1e-6). `cases` are the ignitions, by default those that the model was made for, or the usual ones of what
    it burns (of the exact step, methane in air); `fuel`, `oxidizer` (moles by species) and `pressures` [Pa] take the
    place of theirs; flames have the scales of the flame that the model was made for, or those of methane. `data` is the
    training set of the single steps, by default `datasets/drm19/states.h5` where it is there and fits. Flames need
    `burn`, such as `cfd_coupling.flame_speed.flame_speed`, and the identity of their `solver`, small turbulent flames
    the functions of `flow`. References are kept in `runs/references`. Raises what `run` raises.
    """
    given = {"fuel": fuel, "oxidizer": oxidizer, "pressures": pressures}
    if cases is None:
        cases = (QUICK if quick else FULL) if model is None else cases_of_model(model, quick)
    suite = Suite(
        None if model is None else str(model),
        parse(IgnitionCases, {**cases.model_dump(), **{k: v for k, v in given.items() if v is not None}}, "cases"),
        data=data,
        usual_data=_USUAL_DATA,
        mechanism=mechanism,
        dt=dt,
        cache=REFERENCES,
        burn=burn,
        solver=solver,
        flow=flow,
        scales=None if model is None else scales_of_model(model),
        report=report,
    )
    return run(suite, checks, QUICK_CHECKS if quick else None)
