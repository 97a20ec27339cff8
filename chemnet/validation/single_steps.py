"""Single steps on the validation rows of a training set, by kind of state, temperature, equivalence ratio and heat."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from chemnet.data.dataset import Pairs
from chemnet.gas.mechanism import Mechanism
from chemnet.gas.state import Array, equivalence_ratios
from chemnet.gas.status import Status
from chemnet.kinetics.step import ChemistryStep
from chemnet.runtime.tables import Table
from chemnet.validation.metrics import Figure

CHECK = "steps"
TEMPERATURES = (700.0, 1200.0, 1800.0, 2300.0)  # [K] edges of the regions
EQUIVALENCE_RATIOS = (0.5, 0.8, 1.2, 1.6)
HEATING = (1e-3, 1e-2, 0.1, 1.0)  # [K] edges of the change of T in one exact step, either way
_CALM = 1e-8  # [kg/kg] rows that change less on average are in equilibrium, and have no share of it

Mask = NDArray[np.bool_]


def validate_steps(
    model: ChemistryStep, pairs: Pairs, kinds: Sequence[str], dt: float, max_rows: int = 20_000
) -> tuple[Table, list[Figure]]:
    """Errors of single steps on the validation rows, by region.

    The error of the change is sum abs(Y_model - Y_exact) / sum abs(Y_exact - Y_before); a model that
    changes nothing has 1, and burnt gas, where nothing changes, has none. At most `max_rows` rows are used, evenly
    spread.
    """
    chosen = pairs.where(pairs.split == 1)
    chosen = chosen.where(np.arange(len(chosen)) % max(1, -(-len(chosen) // max_rows)) == 0)
    predicted, status = model.advance(chosen.states, dt)
    taken = status < Status.FAILED
    rows = []
    for region, name, inside in _regions(chosen, kinds, model.mechanism):
        used = inside & taken
        if used.any():
            refused = np.count_nonzero(inside & ~taken)
            rows.append((region, name, np.count_nonzero(inside), refused, *_errors(chosen, predicted, used)))
    errors = ("T error, mean [K]", "T error, p99 [K]", "T error, max [K]", "error of the change")
    columns = ("region", "of", "rows", "refused", *errors)
    table = Table("one step against the training set's validation rows, by region", columns, rows)
    _, p99, worst, change = _errors(chosen, predicted, taken) if taken.any() else (None, None, None, None)
    figures = [
        Figure(CHECK, "rows refused", int(np.count_nonzero(~taken))),
        Figure(CHECK, "T error of one step, p99 [K]", p99),
        Figure(CHECK, "T error of one step, max [K]", worst),
        Figure(CHECK, "error of the change", change),
    ]
    return table, figures


def _regions(pairs: Pairs, kinds: Sequence[str], mechanism: Mechanism) -> Iterator[tuple[str, str, Mask]]:
    """Quantity, name of a region of it, and the region's rows (n,)."""
    for index, kind in enumerate(kinds):
        yield "kind", kind, pairs.kind == index
    heating = np.abs(pairs.next_states[:, 0] - pairs.states[:, 0])
    yield from _bins("T [K]", pairs.states[:, 0], TEMPERATURES)
    yield from _bins("phi", equivalence_ratios(pairs.states, mechanism), EQUIVALENCE_RATIOS)
    yield from _bins("change of T [K]", heating, HEATING)


def _bins(region: str, values: Array, edges: Sequence[float]) -> Iterator[tuple[str, str, Mask]]:
    """Rows below the first edge, between each two, and from the last on."""
    place = np.searchsorted(edges, values, side="right")
    names = [
        f"below {edges[0]:g}",
        *(f"{low:g} - {high:g}" for low, high in zip(edges, edges[1:], strict=False)),
        f"from {edges[-1]:g}",
    ]
    for index, name in enumerate(names):
        yield region, name, place == index


def _errors(exact: Pairs, predicted: Array, rows: Mask) -> tuple[float, float, float, float | None]:
    before, after, model = exact.states[rows], exact.next_states[rows], predicted[rows]
    error = np.abs(model[:, 0] - after[:, 0])
    change = np.abs(after[:, 2:] - before[:, 2:]).sum()
    wrong = np.abs(model[:, 2:] - after[:, 2:]).sum()
    share = wrong / change if change > _CALM * len(model) else None
    return float(error.mean()), float(np.quantile(error, 0.99)), float(error.max()), share
