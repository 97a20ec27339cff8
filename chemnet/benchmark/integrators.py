"""Cost and error of `exact`, the Rosenbrock integrator, beside CVODES: the same cells, one core, in one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chemnet.benchmark.cells import KINDS, Cells, Gas, usual_fuel
from chemnet.benchmark.errors import TRACE, Comparison, Truth, compare, percentile, trace_errors
from chemnet.benchmark.timing import in_fresh_process, machine_table, take_turns
from chemnet.gas.canonical import AIR
from chemnet.gas.mechanism import Mechanism, load_mechanism
from chemnet.gas.state import ONE_ATM, Array
from chemnet.kinetics import ChemistryStep, CvodesReactor, RosenbrockReactor
from chemnet.runtime.errors import UsageError
from chemnet.runtime.nearest import hint
from chemnet.runtime.tables import Table

DT = 1e-6  # [s]
LOOSE = (1e-4, 1e-8)  # rtol, atol of `exact` where traces in cold gas need not be as good as CVODES'
PRESSURES = (0.1, 1.0, 10.0, 40.0)  # [atm]
TIME_STEPS = (1e-8, 1e-7, 1e-6, 1e-5, 1e-4)  # [s]
SWEPT = ("mixed", "ignition")  # cells of the tables by time step and by pressure
CVODES_CURVE = ((1e-4, 1e-8), (1e-5, 1e-9), (1e-6, 1e-10), (1e-7, 1e-11), (1e-8, 1e-12), (1e-9, 1e-13))
EXACT_CURVE = ((1e-2, 1e-7), (1e-3, 1e-8), (1e-4, 1e-9), (1e-5, 1e-10), (1e-6, 1e-11), (1e-7, 1e-12))

_FEWER = 2  # the tables by time step and by pressure, and the curves, use one cell in this many
_CURVE_TURNS = 3
_THREADED_CELLS = 20_000  # enough that starting threads costs nothing beside the work
_WORST = 10  # species that the table of traces shows

Integrator = CvodesReactor | RosenbrockReactor
Curve = tuple[Array, Array, Array]
Curves = dict[str, dict[str, Curve]]
Costs = dict[tuple[str, ...], Comparison]


@dataclass(frozen=True)
class ExactTask:
    """Task of the benchmark: a mechanism with fuel (None: its usual one) and oxidizer as mole fractions, and pressure
    [Pa].

    `kinds` of cells, number of each, turns of each step; tables by time step, pressure and threads if `sweeps`;
    `curves` for a picture.
    """

    mechanism: str = "drm19"
    fuel: Mapping[str, float] | None = None
    oxidizer: Mapping[str, float] | None = None
    pressure: float = ONE_ATM
    kinds: Sequence[str] = tuple(KINDS)
    cells: int = 1000
    turns: int = 5
    sweeps: bool = True
    curves: bool = False


def bench_exact(
    tasks: Sequence[ExactTask], picture: Path | None = None, report: Callable[[str], None] = print
) -> list[Table]:
    """Tables of the machine and of every task; the curves of those tasks that have them are drawn at `picture`.

    Every task is measured in a fresh process. Raises UsageError for a wrong mechanism, species or kind of cells, before
    anything is measured.
    """
    for task in tasks:
        cells_of(task)
    reports = []
    for task in tasks:
        report(f"measuring {task.mechanism}: {task.cells} cells of each kind ({', '.join(task.kinds)})")
        reports.append(in_fresh_process(measure, task))
    if picture:
        from chemnet.runtime.plots import work_precision

        work_precision(picture, {task.mechanism: curves for task, (_, curves) in zip(tasks, reports, strict=True)})
    return [machine_table(), *(table for tables, _ in reports for table in tables)]


def cells_of(task: ExactTask, P: float | None = None, *, flames: bool = True) -> Cells:
    """The cells of a task at P [Pa], by default its own. Raises UsageError when there can be none."""
    unknown = [kind for kind in task.kinds if kind not in KINDS]
    if unknown:
        raise UsageError(f"no states {unknown[0]}{hint(unknown[0], KINDS)}")
    mechanism = load_mechanism(task.mechanism)
    fuel, P = task.fuel or usual_fuel(mechanism), task.pressure if P is None else P
    return Cells(Gas(mechanism, fuel, task.oxidizer or AIR, P), flames=flames)


def measure(task: ExactTask) -> tuple[list[Table], Curves]:
    """Tables of one mechanism, and its curves (see `work_and_precision`) by kind of cells and integrator."""
    cells = cells_of(task)
    mechanism = cells.gas.mechanism
    steps = named(CvodesReactor(mechanism), RosenbrockReactor(mechanism), RosenbrockReactor(mechanism, *LOOSE))
    states = {kind: cells.of(kind, task.cells) for kind in task.kinds}
    costs: Costs = {(kind,): compare(steps, rows, DT, task.turns) for kind, rows in states.items()}
    tables = [
        cost_table(f"dt = {DT:g} s, {task.pressure / ONE_ATM:g} atm", ("cells",), costs, task),
        mean_table(costs, task),
    ]
    if "burnt" in states:
        tables.append(trace_table(steps, states["burnt"], task))
    if task.sweeps:
        tables += sweep_tables(states, task)
    drawn = states if task.curves else {}
    return tables, {kind: work_and_precision(mechanism, rows[::_FEWER]) for kind, rows in drawn.items()}


def named(*steps: Integrator) -> dict[str, ChemistryStep]:
    """Steps by their names."""
    return {name_of(step): step for step in steps}


def name_of(step: Integrator) -> str:
    """The integrator and its tolerances, such as `CVODES 1e-6/1e-10`."""
    name = "exact" if isinstance(step, RosenbrockReactor) else "CVODES"
    return f"{name} {step.rtol:.0e}/{step.atol:.0e}".replace("e-0", "e-")


def sweep_tables(states: Mapping[str, Array], task: ExactTask) -> list[Table]:
    """By time step, by pressure and by threads. The cells of each pressure are made at that pressure, of ignition paths
    and burnt gas only: flames far from 1 atm take long."""
    mechanism = load_mechanism(task.mechanism)
    steps = named(CvodesReactor(mechanism), RosenbrockReactor(mechanism))
    kinds = [kind for kind in SWEPT if kind in task.kinds]
    by_time: Costs = {
        (f"{dt:g}", kind): compare(steps, states[kind][::_FEWER], dt, task.turns) for dt in TIME_STEPS for kind in kinds
    }
    by_pressure: Costs = {}
    for P in PRESSURES:
        cells = cells_of(task, P * ONE_ATM, flames=False)
        for kind in kinds:
            by_pressure[f"{P:g}", kind] = compare(steps, cells.of(kind, task.cells)[::_FEWER], DT, task.turns)
    tables = [thread_table(states, task)]
    if kinds:
        tables.append(cost_table(f"{task.pressure / ONE_ATM:g} atm", ("dt [s]", "cells"), by_time, task))
        tables.append(cost_table(f"dt = {DT:g} s", ("P [atm]", "cells"), by_pressure, task))
    return tables


def cost_table(where: str, leading: tuple[str, ...], costs: Costs, task: ExactTask) -> Table:
    """One row per set of cells and step; `leading` names the parts of the keys of `costs`."""
    rows = []
    for key, comparison in costs.items():
        first = next(iter(comparison.judged))
        for name, judged in comparison.judged.items():
            timing = comparison.timing
            cost = (1e6 * timing.per_cell(name)[0], timing.spread(name), timing.ratio(first, name))
            counts = (judged.n_steps, judged.handed_over, judged.refused)
            rows.append((*key, name, *cost, judged.temperature, judged.mass_fraction, judged.trace, *counts))
    errors_of = ("T error [K]", "Y error", "trace error")
    columns = (*leading, "step", "cost [us]", "from - to", "ratio", *errors_of, "steps", "handed over", "refused")
    n = next(iter(costs.values())).timing.cells
    title = f"{task.mechanism}, {where}: cost per cell of {n}, one thread, medians of {task.turns} turns; p99 of errors"
    return Table(title, columns, rows)


def mean_table(costs: Costs, task: ExactTask) -> Table:
    """The mean over the kinds of cells of how many times cheaper each step is than the first."""
    comparisons = list(costs.values())
    first, *others = comparisons[0].judged
    rows = []
    for name in others:
        ratios = [comparison.timing.ratio(first, name) for comparison in comparisons]
        rows.append((name, len(ratios), float(np.mean(ratios)), min(ratios), max(ratios)))
    columns = ("step", "kinds of cells", "mean ratio", "smallest", "largest")
    return Table(f"{task.mechanism}: how many times cheaper than {first}", columns, rows)


def trace_table(steps: Mapping[str, ChemistryStep], states: Array, task: ExactTask) -> Table:
    """Relative errors of the species that are traces in burnt gas; those with the largest errors first."""
    names = load_mechanism(task.mechanism).species_names
    truth = Truth(load_mechanism(task.mechanism), states, DT)
    known = truth.known
    found = [trace_errors(truth.next_states[known], step.advance(states, DT)[0][known]) for step in steps.values()]
    rows = []
    for k in np.unique(found[0][1]):
        of_species = [values[species == k] for values, species in found]
        rows.append((names[k], len(of_species[0]), *map(percentile, of_species)))
    rows.sort(key=lambda row: -np.max(row[2:]))
    low, high = TRACE
    title = f"{task.mechanism}, burnt gas: relative error of traces, {low:g} < Y < {high:g}, p99 by species"
    return Table(title, ("species", "cells", *steps), rows[:_WORST])


def thread_table(states: Mapping[str, Array], task: ExactTask) -> Table:
    """Cost of the exact integrator by one thread and by two, on cells repeated until they are many."""
    mechanism = load_mechanism(task.mechanism)
    threads = {"1 thread": RosenbrockReactor(mechanism), "2 threads": RosenbrockReactor(mechanism, n_threads=2)}
    rows = []
    for kind, some in states.items():
        many = np.resize(some, (max(_THREADED_CELLS, len(some)), some.shape[1]))
        timing = take_turns(threads, many, DT, task.turns)
        costs = [1e6 * timing.per_cell(name)[0] for name in threads]
        rows.append((kind, len(many), *costs, timing.ratio(*threads)))
    columns = ("cells", "number", "1 thread [us]", "2 threads [us]", "ratio")
    return Table(f"{task.mechanism}: threads of the exact integrator, cost per cell", columns, rows)


def work_and_precision(mechanism: Mechanism, states: Array) -> dict[str, Curve]:
    """p99 error of T [K], cost per cell [s] and rtol of both integrators at several tolerances, by their names."""
    truth = Truth(mechanism, states, DT)
    cvodes = [CvodesReactor(mechanism, *pair) for pair in CVODES_CURVE]
    exact = [RosenbrockReactor(mechanism, *pair) for pair in EXACT_CURVE]
    integrators: dict[str, Sequence[Integrator]] = {"CVODES": cvodes, "exact": exact}
    timing = take_turns(named(*cvodes, *exact), states, DT, _CURVE_TURNS)
    curves = {}
    for name, steps in integrators.items():
        errors = [truth.judge(step).temperature for step in steps]
        costs = [timing.per_cell(name_of(step))[0] for step in steps]
        curves[name] = np.array(errors, float), np.array(costs), np.array([step.rtol for step in steps])
    return curves
