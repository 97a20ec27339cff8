"""Cost of a model's step beside CVODES and `exact`, the Rosenbrock integrator, the baseline of any network: on the
same cells of a flame, or of an ignition where the mechanism has no transport data, one core, in one run. Measured is
the whole call: checks, transform, network, closure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from chemnet.benchmark.timing import Timing, in_fresh_process, machine_table, take_turns
from chemnet.data.burning import METHANE, Burning, burning_of_facts
from chemnet.gas import canonical
from chemnet.gas.mechanism import Mechanism
from chemnet.gas.state import Array
from chemnet.kinetics import ChemistryStep, CvodesReactor, RosenbrockReactor
from chemnet.kinetics.exponential import WIDEST
from chemnet.runtime.config import Config
from chemnet.runtime.errors import NumericalError
from chemnet.runtime.tables import Table
from chemnet.surrogate.hybrid import HybridStep, slow_step
from chemnet.surrogate.inference import available_engines
from chemnet.surrogate.model import Surrogate
from chemnet.surrogate.model_file import find_model
from chemnet.surrogate.network import NetConfig, build

IGNITION = 1400.0  # [K] of the unburnt gas, where there are no flames
_BURNING, _LEAST_RISE = (0.01, 0.99), 400.0  # of the rise of T; [K]
COLDEST = 500.0  # [K] a flow solver leaves colder cells alone (`chemistry.min_temperature`)
ALONE = "network everywhere"  # the network of the model for cold and calm gas, too
INTEGRATOR = "its integrator alone"
SINGLE = "one exponential step"  # of its integrator, in nearly all cells
AROUND = "no network"


class FlameCells(Config):
    """The free flame whose cells are advanced; `fuel` and `oxidizer` as mole fractions. What is None is the model's."""

    phi: float | None = None
    T: float = 300.0  # [K] of the unburnt gas
    P: float | None = None  # [Pa]
    fuel: dict[str, float] | None = None
    oxidizer: dict[str, float] | None = None

    def of(self, burning: Burning) -> FlameCells:
        """The flame with what a model burns in the places of None."""
        given = self.model_dump()
        own = {
            "phi": burning.usual_phi,
            "P": burning.usual_pressure,
            "fuel": dict(burning.fuel),
            "oxidizer": dict(burning.oxidizer),
        }
        return FlameCells(**{**given, **{key: value for key, value in own.items() if given[key] is None}})


@dataclass(frozen=True)
class BenchTask:
    """Task of the benchmark: model by name or path, number of cells, turns of each step."""

    model: str
    cells: int = 1000
    turns: int = 7
    flame: FlameCells = FlameCells()


def bench(task: BenchTask) -> list[Table]:
    """Tables of the machine and of the costs, measured in a fresh process that has one thread.

    Raises what loading the model and solving the flame raise.
    """
    find_model(task.model)  # a wrong name is refused at once
    timings = in_fresh_process(measure, task)
    return [machine_table(), cost_table(task, timings), engine_table(task, timings)]


def measure(task: BenchTask) -> dict[str, Timing]:
    """Costs by kind of cells: of CVODES, of the exact integrator, of the model, and of it with each engine."""
    model = Surrogate.load(task.model)
    columns = model.mechanism.n_species + 2
    alone = model.with_limits(0.0, 0.0)
    steps: dict[str, ChemistryStep] = {
        "CVODES": CvodesReactor(model.mechanism),
        "exact": RosenbrockReactor(model.mechanism),
        "model": HybridStep(model, outside="error"),
        **{engine: HybridStep(model.with_engine(engine), outside="error") for engine in available_engines()},
        ALONE: alone,
        INTEGRATOR: slow_step(model.mechanism),
        SINGLE: slow_step(model.mechanism, WIDEST),
        AROUND: alone.with_network(build(NetConfig(widths=(columns, columns), initialisation=None))),
    }
    kinds = cells_of(model, task.flame, task.cells)
    return {kind: take_turns(steps, states, model.dt, task.turns, "model") for kind, states in kinds.items()}


def cells_of(model: Surrogate, flame: FlameCells, n: int) -> dict[str, Array]:
    """n states of each kind (n, 2 + K) of what a model burns: of a flame, or of an ignition where there are none."""
    flame = flame.of(burning_of_facts(model.metadata.get("data", {})) or METHANE)
    cells = flame_cells if canonical.has_transport(model.mechanism) else ignition_cells
    return cells(model.mechanism, flame, n)


def flame_cells(mechanism: Mechanism, flame: FlameCells, n: int) -> dict[str, Array]:
    """n states hotter than COLDEST of a free flame (n, 2 + K), spread evenly over its refined grid, and in space.
    Whatever of the flame is None is that of methane.

    The first are mostly reacting, as at the front of a flow solver; the second mostly burnt.
    """
    flame = flame.of(METHANE)
    assert flame.phi and flame.P and flame.fuel and flame.oxidizer
    ((grid, states),) = canonical.flames(mechanism, [flame.phi], flame.P, flame.T, flame.fuel, flame.oxidizer)
    hot = states[:, 0] > COLDEST
    grid, states = grid[hot], states[hot]
    index = np.arange(len(grid))
    positions = {
        "flame front": np.linspace(0.0, index[-1], n),
        "front and burnt gas": np.interp(np.linspace(grid[0], grid[-1], n), grid, index),
    }
    return {
        kind: np.column_stack([np.interp(at, index, column) for column in states.T]) for kind, at in positions.items()
    }


def ignition_cells(mechanism: Mechanism, flame: FlameCells, n: int) -> dict[str, Array]:
    """n states on the way of an ignition at constant pressure (n, 2 + K), spread evenly over the internal steps of
    CVODES while T rises; of the unburnt gas of a flame, but as hot as IGNITION.

    For a mechanism without transport data, which has no flames. Raises NumericalError where it does not ignite.
    """
    flame = flame.of(METHANE)
    assert flame.phi and flame.P and flame.fuel and flame.oxidizer
    fresh = canonical.premixed(mechanism, flame.phi, flame.fuel, flame.oxidizer)
    _, states = canonical.ignition_path(mechanism.gas(), np.hstack([IGNITION, flame.P, fresh]))
    rise = states[:, 0] - IGNITION
    burning = np.flatnonzero((rise > _BURNING[0] * rise.max()) & (rise < _BURNING[1] * rise.max()))
    if rise.max() < _LEAST_RISE or not burning.size:
        raise NumericalError(f"this gas does not ignite at {IGNITION:g} K; choose another --phi or --pressure")
    at = np.linspace(burning[0], burning[-1], n)
    index = np.arange(len(states))
    return {"ignition": np.column_stack([np.interp(at, index, column) for column in states.T])}


def cost_table(task: BenchTask, timings: Mapping[str, Timing]) -> Table:
    """One row per kind of cells."""
    names = ("CVODES", "exact", "model")
    rows = []
    for kind, timing in timings.items():
        costs = [figure for name in names for figure in (1e6 * timing.per_cell(name)[0], timing.spread(name))]
        ratios = [timing.ratio(name, "model") for name in names[:2]]
        rows.append((kind, timing.cells, timing.refused, 100.0 * timing.integrated / timing.cells, *costs, *ratios))
    figures = [column for name in names for column in (f"{name} [us]", f"{name}, from - to")]
    columns = ("cells", "number", "refused", "integrated by the model [%]", *figures, "CVODES / model", "exact / model")
    title = f"one step of {task.model} against CVODES and `exact`, the Rosenbrock integrator; per cell, one thread"
    return Table(f"{title}, medians of {task.turns} turns", columns, rows)


def engine_table(task: BenchTask, timings: Mapping[str, Timing]) -> Table:
    """One row per kind of cells and engine, then for cold and calm gas, too, by the model's own engine; by the
    integrator of slow gas, which takes all cells, and by its step for calm gas in nearly all of them; and without a
    network: checks, transform and closure."""
    rows = []
    for kind, timing in timings.items():
        for engine in (*available_engines(), ALONE, INTEGRATOR, SINGLE, AROUND):
            cost = 1e6 * timing.per_cell(engine)[0], timing.spread(engine)
            rows.append((kind, engine, *cost, *(timing.ratio(name, engine) for name in ("CVODES", "exact"))))
    columns = ("cells", "engine", "cost [us]", "from - to", "CVODES / engine", "exact / engine")
    return Table(f"one step of {task.model} by engine, in the same turns", columns, rows)
