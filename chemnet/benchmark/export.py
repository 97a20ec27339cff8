"""Cost and answers of a model that is exported to C, beside the same model in Python: on the same cells of a flame, or
of an ignition where the mechanism has no transport data, one core, in one run."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from chemnet.benchmark.model import FlameCells, cells_of
from chemnet.benchmark.timing import Timing, in_fresh_process, machine_table, take_turns
from chemnet.gas.mechanism import Mechanism
from chemnet.gas.state import Array, as_states, elements, enthalpy, heat_capacity
from chemnet.gas.status import Status
from chemnet.kinetics import ChemistryStep, StepResult
from chemnet.runtime.errors import ChemnetError, FileError, UsageError
from chemnet.runtime.tables import Table
from chemnet.surrogate.export import advance_in_double, export
from chemnet.surrogate.model import Surrogate
from chemnet.surrogate.model_file import find_model

COMPILERS = ("gcc", "clang")
PYTHON = "Python"
_LEAST_CHANGE = 1e-12  # [K] or [kg/kg] below it the change of a column is round-off
_MESSAGE = 256  # bytes


class CompiledStep:
    """The step of a model file of `chemnet export --to c`, by a library that `built` made.

    Raises FileError for a file that the library refuses.
    """

    def __init__(self, mechanism: Mechanism, library: Path, file: Path) -> None:
        self.mechanism = mechanism
        self._library = ctypes.CDLL(str(library))
        for name, result in _RESULTS.items():
            getattr(self._library, name).restype = result
        reason = ctypes.create_string_buffer(_MESSAGE)
        self._model = ctypes.c_void_p(self._library.chemnet_load(str(file).encode(), reason, ctypes.c_size_t(_MESSAGE)))
        if not self._model:
            raise FileError(reason.value.decode())

    def __del__(self) -> None:
        if hasattr(self, "_model"):
            self._library.chemnet_free(self._model)

    def advance(self, states: ArrayLike, dt: float | None = None) -> StepResult[Array]:
        """States (n, 2 + K) after the model's dt, and a `Status` per row (n,). Raises UsageError for another dt."""
        states = as_states(states, self.mechanism)
        own = float(self._library.chemnet_dt(self._model))
        if dt is not None and dt != own:
            raise UsageError(f"this model advances by dt = {own:g} s, not by {dt:g} s")
        T, P, Y = states[:, 0].copy(), states[:, 1].copy(), states[:, 2:].copy()
        status = np.empty(len(states), np.intc)
        pointers = (ctypes.c_void_p(array.ctypes.data) for array in (T, P, Y, status))
        self._library.chemnet_step(self._model, ctypes.c_size_t(len(states)), *pointers)
        return StepResult(np.column_stack([T, P, Y]), status.astype(np.int8))


_RESULTS = {
    "chemnet_load": ctypes.c_void_p,
    "chemnet_free": None,
    "chemnet_dt": ctypes.c_double,
    "chemnet_step": ctypes.c_size_t,
}


def built(folder: Path, compiler: str) -> Path:
    """The shared library of an exported folder, made by its Makefile. Raises ChemnetError that says what failed."""
    library = folder / "libchemnet_step.so"
    if shutil.which("make") is None or shutil.which(compiler) is None:
        raise ChemnetError(f"a library needs make and {compiler}: install them")
    library.unlink(missing_ok=True)
    command = ["make", "-C", str(folder), f"CC={compiler}", library.name]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        raise ChemnetError(f"{' '.join(command)} failed:\n{made.stderr.strip().splitlines()[0][:200]}")
    return library


@dataclass(frozen=True)
class ExportTask:
    """Task of the benchmark: model by name or path, number of cells, turns of each step."""

    model: str
    cells: int = 1000
    turns: int = 7


@dataclass(frozen=True)
class Answers:
    """How a step's answers differ from those of Python, on cells for which both have one.

    `T`, `Y`: largest difference of a change, in shares of the largest change of T, or of that species; `species` whose;
    `statuses` that differ; `elements` [kg/kg] and `enthalpy` (in cp T) that are lost; and `in_double`, the largest
    difference of Y from the network in double precision.
    """

    statuses: int
    T: float
    Y: float
    species: str
    elements: float
    enthalpy: float
    in_double: float


def bench_export(task: ExportTask) -> list[Table]:
    """Tables of the machine, of the costs and of the answers, measured in a fresh process that has one thread.

    Raises UsageError where there is no compiler, and what loading the model and solving the flame raise.
    """
    find_model(task.model)
    if not found_compilers():
        raise UsageError(f"there is no {' or '.join(COMPILERS)}, or no make: install one to build the exported model")
    measured = in_fresh_process(measure, task)
    return [machine_table(), _cost_table(task, measured), _answer_table(task, measured)]


def found_compilers() -> list[str]:
    """Which COMPILERS there are, if there is a make."""
    return [name for name in COMPILERS if shutil.which(name)] if shutil.which("make") else []


Measured = Mapping[str, tuple[Timing, Mapping[str, Answers]]]


def measure(task: ExportTask) -> Measured:
    """Costs and answers by kind of cells."""
    model = Surrogate.load(task.model)
    in_single = model.with_engine("fp32")
    with tempfile.TemporaryDirectory() as folder:
        steps = dict(_steps(model, Path(folder)))
        result = {}
        for kind, states in cells_of(model, FlameCells(), task.cells).items():
            timing = take_turns(steps, states, model.dt, task.turns, PYTHON)
            judged = {name: judge(step, in_single, states) for name, step in steps.items()}
            result[kind] = timing, judged
    return result


def _steps(model: Surrogate, folder: Path) -> Iterator[tuple[str, ChemistryStep]]:
    yield PYTHON, model.with_engine("fp32")
    if model.engine != "fp32":
        yield f"{PYTHON}, {model.engine}", model
    for compiler in found_compilers():
        export(model, "c", folder / compiler)
        library = built(folder / compiler, compiler)
        yield f"C by {compiler}", CompiledStep(model.mechanism, library, folder / compiler / "model.bin")


def judge(step: ChemistryStep, model: Surrogate, states: Array) -> Answers:
    """Answers of a step for states (n, 2 + K) beside those of its model."""
    expected, found = model.advance(states), step.advance(states)
    both = (expected.status == Status.OK) & (found.status == Status.OK)
    states, answers = states[both], found.states[both]
    shares = shares_of_change(states, expected.states[both], answers)
    lost = elements(answers, model.mechanism) - elements(states, model.mechanism)
    gained = enthalpy(answers, model.mechanism) - enthalpy(states, model.mechanism)
    heat = heat_capacity(states, model.mechanism) * states[:, 0]
    return Answers(
        statuses=int((expected.status != found.status).sum()),
        T=float(shares[0]),
        Y=float(shares[2:].max()),
        species=model.mechanism.species_names[int(shares[2:].argmax())],
        elements=float(np.abs(lost).max()),
        enthalpy=float(np.abs(gained / heat).max()),
        in_double=float(shares_of_change(states, advance_in_double(model, states), answers)[2:].max()),
    )


def shares_of_change(states: Array, expected: Array, found: Array) -> Array:
    """(2 + K,) largest difference of `found` from `expected`, in shares of the largest change from `states`, each
    (n, 2 + K) and n > 0; columns that hardly change count as if they did by 1e-12."""
    change = np.abs(expected - states).max(axis=0)
    return np.asarray(np.abs(found - expected).max(axis=0) / np.maximum(change, _LEAST_CHANGE))


def _cost_table(task: ExportTask, measured: Measured) -> Table:
    rows = []
    for kind, (timing, judged) in measured.items():
        for name in judged:
            cost = 1e6 * timing.per_cell(name)[0], timing.spread(name)
            rows.append((kind, timing.cells, name, *cost, timing.ratio(name, PYTHON)))
    columns = ("cells", "number", "step", "cost [us]", "from - to", f"of {PYTHON}'s")
    title = f"one step of {task.model} in C, the copies to and from its arrays included; per cell, one thread"
    return Table(f"{title}, medians of {task.turns} turns", columns, rows)


def _answer_table(task: ExportTask, measured: Measured) -> Table:
    rows = []
    for kind, (_, judged) in measured.items():
        for name, one in judged.items():
            lost = one.elements, one.enthalpy
            rows.append((kind, name, one.statuses, one.T, one.Y, one.species, one.in_double, *lost))
    columns = ("cells", "step", "other statuses", "T", "worst Y", "of", "Y, from double", "elements", "enthalpy")
    title = f"answers of {task.model} beside those of {PYTHON}, and of the network in double precision"
    return Table(f"{title}; in shares of the largest change, of 1 kg/kg and of cp T", columns, rows)
