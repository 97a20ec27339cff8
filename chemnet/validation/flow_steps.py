"""Single steps on states of a flow: by how much a model changes each quantity too much or too little."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chemnet.gas.mechanism import Mechanism
from chemnet.gas.state import Array, densities
from chemnet.gas.status import Status
from chemnet.kinetics.exponential import WIDEST
from chemnet.kinetics.step import ChemistryStep
from chemnet.runtime.tables import Table
from chemnet.surrogate.hybrid import HybridStep, slow_step
from chemnet.validation.metrics import Figure

CHECK = "flow"
SPECIES = ("O2", "CO", "CO2", "H2O", "H2", "OH", "H", "CH2O")  # those of them that change
LEAST = 1e-9  # of the largest change of a species; less is no change
OTHERS = 3  # species beside the fuel and these, whose mass changes most
TEMPERATURES = (1000.0, 1500.0, 1800.0)  # [K] edges of the bands
FRONT = 0.1  # [K] states whose T an exact step changes by more, either way, are in the flame front
FLOOR, SHARE = 1e-15, 0.1  # [kg/kg] and of the exact change: bound of the error of each species in the front
ANSWER = "step"  # of a model as it is used
NETWORK = "network everywhere"  # without limits of slow gas
INTEGRATOR, SINGLE = "its integrator alone", "one exponential step"  # in place of the network; in nearly all states
BIAS_TARGETS = {"T": 0.2, "CO": 1.0, "H2": 1.0, "OH": 1.0}  # [%]
FUEL_TARGET = 1.0  # [%]
T_TARGET, FRONT_TARGET = 1.0, 90.0  # [%]

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class FlowStates:
    """States of a flow and the exact ones after a step, both (n, 2 + K), and the box that each comes from (n,)."""

    states: Array
    exact: Array
    box: NDArray[np.str_]

    @property
    def front(self) -> Mask:
        """Which states are in the flame front (n,)."""
        return np.abs(self.exact[:, 0] - self.states[:, 0]) > FRONT


@dataclass(frozen=True, eq=False)
class Answer:
    """States after a step (n, 2 + K), and which of them are judged (n,); those `refused` are the old ones."""

    next_states: Array
    judged: Mask
    refused: int = 0


@dataclass(frozen=True, eq=False)
class FlowSteps:
    """Answers to the states of a flow by their names, and the columns of the quantities that they are judged by."""

    given: FlowStates
    answers: Mapping[str, Answer]
    columns: Mapping[str, int]
    fuel: Sequence[str]
    density: Array  # [kg/m3]


def validate_steps(model: ChemistryStep, given: FlowStates, dt: float, fuel: Sequence[str]) -> FlowSteps:
    """The steps of a model by dt [s] from the states of a flow; of its network and of its integrator alone where it has
    them.

    States that the model refuses count with no change; the network is judged where it answers.
    """
    after, status = model.advance(given.states, dt)
    everywhere = np.ones(len(status), np.bool_)
    answers = {ANSWER: Answer(after, everywhere, int((status >= Status.FAILED).sum()))}
    if isinstance(model, HybridStep):
        after, status = model.model.with_limits(0.0, 0.0).advance(given.states, dt)
        answers[NETWORK] = Answer(after, status == Status.OK, int((status != Status.OK).sum()))
        for name, step in ((INTEGRATOR, model.integrator), (SINGLE, slow_step(model.mechanism, WIDEST))):
            after, status = step.advance(given.states, dt)
            answers[name] = Answer(after, everywhere, int((status >= Status.FAILED).sum()))
    density = densities(given.states, model.mechanism)
    columns = _columns(model.mechanism, fuel, density @ np.abs(given.exact - given.states)[:, 2:])
    return FlowSteps(given, answers, columns, tuple(fuel), density)


def _columns(mechanism: Mechanism, fuel: Sequence[str], change: Array) -> dict[str, int]:
    """Columns of the rows [T, P, Y] by quantity: T, the fuel, and of the species that `change` (K,) the usual ones and
    those that do most."""
    least = LEAST * change.max(initial=0.0)
    names = [name for name, amount in zip(mechanism.species_names, change, strict=True) if amount > least]
    usual = [*fuel, *(name for name in SPECIES if name in names)]
    most = sorted(set(names) - set(usual), key=lambda name: -change[mechanism.index(name)])[:OTHERS]
    return {"T": 0, **{name: 2 + mechanism.index(name) for name in dict.fromkeys((*usual, *most))}}


def errors(steps: FlowSteps, answer: Answer, rows: Mask) -> tuple[Array, Array]:
    """Signed and absolute error [%] of the changes by quantity (m,), over some rows.

    They are sum(model - exact) and sum|model - exact| over sum|exact change|, each row weighed by its density; nan
    where nothing changes.
    """
    used, columns = rows & answer.judged, list(steps.columns.values())
    weights, exact = steps.density[used], steps.given.exact[used][:, columns]
    wrong = answer.next_states[used][:, columns] - exact
    change = np.abs(exact - steps.given.states[used][:, columns])
    with np.errstate(divide="ignore", invalid="ignore"):
        share = 100.0 / (weights @ change)
        return weights @ wrong * share, weights @ np.abs(wrong) * share


def share_within(steps: FlowSteps, answer: Answer) -> float | None:
    """Share [%] of the states in the front where every species is within FLOOR + SHARE of its exact change; None if
    there are none."""
    used = steps.given.front & answer.judged
    exact = steps.given.exact[used, 2:]
    bound = FLOOR + SHARE * np.abs(exact - steps.given.states[used, 2:])
    within = (np.abs(answer.next_states[used, 2:] - exact) <= bound).all(axis=1)
    return 100.0 * float(within.mean()) if within.size else None


def step_table(steps: FlowSteps) -> Table:
    """The errors by answer and region: two rows each."""
    rows = []
    for name, answer in steps.answers.items():
        for region, inside in _regions(steps.given):
            n = np.count_nonzero(inside & answer.judged)
            if n:
                signed, absolute = (map(_finite, error) for error in errors(steps, answer, inside))
                rows += [(name, region, n, "signed", *signed), (name, region, n, "absolute", *absolute)]
    columns = ("by", "region", "states", "error", *(f"{name} [%]" for name in steps.columns))
    return Table("errors of the changes of one step, states of small flames", columns, rows)


def _regions(given: FlowStates) -> Iterator[tuple[str, Mask]]:
    """Name and states (n,) of each region: T bands, the front, boxes, all."""
    T = given.states[:, 0]
    edges = (0.0, *TEMPERATURES, np.inf)
    names = (
        f"below {TEMPERATURES[0]:g} K",
        *(f"{low:g} - {high:g} K" for low, high in zip(TEMPERATURES, TEMPERATURES[1:], strict=False)),
        f"from {TEMPERATURES[-1]:g} K",
    )
    for name, low, high in zip(names, edges, edges[1:], strict=False):
        yield name, (low <= T) & (high > T)
    yield f"front, dT > {FRONT:g} K", given.front
    for box in dict.fromkeys(given.box.tolist()):
        yield box, given.box == box
    yield "all", np.ones(len(T), np.bool_)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def figures(steps: FlowSteps) -> list[Figure]:
    """Errors over all states (the bias is the size of the signed one), and the shares of the front within the bound; of
    what could take the place of the step, too."""
    answer = steps.answers[ANSWER]
    signed, absolute = errors(steps, answer, answer.judged)
    targets = BIAS_TARGETS | dict.fromkeys(steps.fuel, FUEL_TARGET)
    found = [
        Figure(CHECK, f"one step: bias of {name} [%]", _finite(abs(value)), targets[name])
        for name, value in zip(steps.columns, signed, strict=True)
        if name in targets
    ]
    found.append(Figure(CHECK, "one step: absolute error of T [%]", _finite(absolute[0]), T_TARGET))
    found.append(Figure(CHECK, "one step: states refused", answer.refused))
    within = f"one step: front states with every species within {SHARE:.0%} of its change [%]"
    found.append(Figure(CHECK, within, share_within(steps, answer), FRONT_TARGET, lower=True))
    for name, other in steps.answers.items():
        if name != ANSWER:
            error = _finite(errors(steps, other, other.judged)[1][0])
            found.append(Figure(CHECK, f"one step: absolute error of T [%], {name}", error))
            found.append(Figure(CHECK, f"{within}, {name}", share_within(steps, other)))
    return found
