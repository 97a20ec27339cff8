"""The ladder: its rungs one after the other for a model, a table for each, and all figures beside their targets."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chemnet.benchmark.model import BenchTask, cost_table, measure
from chemnet.benchmark.timing import in_fresh_process
from chemnet.data.dataset import Pairs, read, read_attributes
from chemnet.gas.canonical import has_transport
from chemnet.gas.mechanism import load_mechanism
from chemnet.kinetics import RosenbrockReactor
from chemnet.kinetics.cvodes import ChemistryStep
from chemnet.runtime.errors import UsageError
from chemnet.runtime.tables import Table
from chemnet.surrogate.model import Surrogate
from chemnet.validation import cold, flames, ignition, single_steps
from chemnet.validation.ignition import FULL, QUICK, IgnitionCases
from chemnet.validation.metrics import Figure, summary
from chemnet.validation.rollouts import Report

EXACT = "exact"  # the model that is the batched integrator
QUICK_RUNGS = ("steps", "ignition")
_PRESSURES = (81060.0, 202650.0)  # [Pa] of the exact step, which has no domain
_PRESSURE_POINTS = 5
_MARGIN = 1e-3  # of the pressure range: cases at its ends lie inside

Rung = tuple[list[Table], list[Figure]]


@dataclass(frozen=True)
class Climb:
    """What the ladder is climbed with.

    `model` is a name, a path or `exact`, the batched integrator for any `mechanism` and `dt` [s] (default drm19,
    1e-6). `data` is the training set of the single steps; without it `usual_data` is, if it is there and was made
    with the model's mechanism and time step. `cache` is where references are kept; `burn` burns flames, and `solver`
    says which solver that is, for the key of what is kept.
    """

    model: str
    cases: IgnitionCases = FULL
    data: Path | None = None
    usual_data: Path | None = None
    mechanism: str | None = None
    dt: float | None = None
    cache: Path | None = None
    burn: flames.Burn | None = None
    solver: str = ""
    report: Report = print


def climb(ladder: Climb, rungs: Sequence[str] | None = None, usual: Sequence[str] | None = None) -> list[Table]:
    """A table or two per rung, and the summary at the end. Without `rungs` those of the `usual` ones (default all) for
    which there is what they need.

    Raises UsageError for an unknown rung, for one that lacks what it needs, or when the training set belongs to
    another mechanism or time step, and FileError for a missing model or a damaged training set, before anything runs.
    """
    unknown = [name for name in rungs or () if name not in RUNGS]
    if unknown:
        raise UsageError(f"no rung {unknown[0]}; there are {', '.join(RUNGS)}")
    judge = _Judge(ladder)
    for name in rungs or ():
        lacking = judge.lacks(name)
        if lacking is not None:
            raise UsageError(f"the rung {name} needs {lacking}")
    wanted = rungs or [name for name in usual or RUNGS if judge.lacks(name) is None]
    chosen = [name for name in RUNGS if name in wanted]
    tables, figures = [], []
    for name in chosen:
        more, found = RUNGS[name](judge)
        tables += more
        figures += found
    return [*tables, summary(figures, ladder.model)]


class _Judge:
    """A loaded model, and its rungs; each gives tables and figures."""

    def __init__(self, ladder: Climb) -> None:
        self.ladder = ladder
        self.step, self.dt = load(ladder.model, ladder.mechanism, ladder.dt)
        self.pairs, self.kinds = self._pairs()
        ladder.cases.states(self.step.mechanism)

    def _pairs(self) -> tuple[Pairs | None, list[str]]:
        """The training set and its kinds."""
        data, usual = self.ladder.data, self.ladder.usual_data
        if data is None and usual is not None and usual.exists() and self._fits(usual):
            data = usual
        if data is None:
            return None, []
        if not self._fits(data):
            raise UsageError(
                f"{data} was made with another mechanism or dt than {self.ladder.model}; choose another --data"
            )
        return read(data), list(read_attributes(data)["kinds"])

    def _fits(self, data: Path) -> bool:
        facts = read_attributes(data)
        return facts["mechanism_sha256"] == self.step.mechanism.sha256 and bool(facts["dt"] == self.dt)

    def lacks(self, rung: str) -> str | None:
        """What a rung needs and has not."""
        if rung == "steps" and self.pairs is None:
            return "a training set: --data FILE"
        if rung == "flames" and self.ladder.burn is None:
            return "the flow solver"
        if rung == "flames" and not has_transport(self.step.mechanism):
            return "transport data of the mechanism"
        if rung == "cost" and self.ladder.model == EXACT:
            return f"a network; what the exact step costs is told by `chemnet bench {EXACT}`"
        return None

    def steps(self) -> Rung:
        """Single steps by region."""
        assert self.pairs is not None
        table, figures = single_steps.validate_steps(self.step, self.pairs, self.kinds, self.dt)
        return [table], figures

    def ignition(self) -> Rung:
        """Ignitions, by temperature and case by case."""
        ladder = self.ladder
        found = ignition.validate_ignition(self.step, self.dt, ladder.cases, ladder.report, ladder.cache)
        return [ignition.group_table(found, 0, "T0 [K]"), ignition.case_table(found)], ignition.figures(found)

    def pressure(self) -> Rung:
        """Ignitions at the ends of the pressure range and between them."""
        ladder = self.ladder
        low, high = self.step.domain.limits["P"] if isinstance(self.step, Surrogate) else _PRESSURES
        margin = _MARGIN * (high - low)
        pressures = np.linspace(low + margin, high - margin, _PRESSURE_POINTS).tolist()
        phis = (0.7, 1.0, 1.3)
        changes = {"pressures": tuple(pressures), "temperatures": (1450.0, 1750.0), "equivalence_ratios": phis}
        cases = QUICK.model_copy(update={"fuel": ladder.cases.fuel, **changes})
        found = ignition.validate_ignition(self.step, self.dt, cases, ladder.report, ladder.cache)
        return [ignition.group_table(found, 2, "P [kPa]", 1e3)], ignition.figures(found, "pressure")

    def cold(self) -> Rung:
        """False heat in cold mixtures."""
        ladder = self.ladder
        mixtures = cold.ColdMixtures(fuel=tuple(ladder.cases.fuel.items()))
        found = cold.validate_cold(self.step, self.dt, mixtures, ladder.report, ladder.cache)
        return [cold.cold_table(found)], cold.figures(found)

    def flames(self) -> Rung:
        """Speeds of planar flames."""
        ladder, mechanism = self.ladder, self.step.mechanism
        assert ladder.burn is not None
        model = [f"chemistry.kind={EXACT}"]
        if ladder.model != EXACT:
            model = ["chemistry.kind=neural", f"chemistry.model={json.dumps(ladder.model)}"]
        gas = flames.changes_of_gas(mechanism.name, ladder.cases.fuel, self.dt)
        key = {"solver": ladder.solver, "mechanism": mechanism.sha256}
        found = flames.validate_flames(model, gas, ladder.burn, key, ladder.report, ladder.cache)
        return [flames.flame_table(found)], flames.figures(found)

    def cost(self) -> Rung:
        """Cost per cell beside CVODES and the exact step, in a process of its own."""
        task = BenchTask(self.ladder.model)
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


RUNGS: dict[str, Callable[[_Judge], Rung]] = {
    "steps": _Judge.steps,
    "ignition": _Judge.ignition,
    "pressure": _Judge.pressure,
    "cold": _Judge.cold,
    "flames": _Judge.flames,
    "cost": _Judge.cost,
}


def load(model: str, mechanism: str | None = None, dt: float | None = None) -> tuple[ChemistryStep, float]:
    """What is judged, and its time step [s]. Raises UsageError where a model is given a mechanism or a step."""
    if model == EXACT:
        return RosenbrockReactor(load_mechanism(mechanism or "drm19")), dt if dt is not None else 1e-6
    if mechanism is not None or dt is not None:
        raise UsageError(f"--mechanism and --dt are for `chemnet validate {EXACT}`; a model has its own")
    surrogate = Surrogate.load(model)
    return surrogate, surrogate.dt
