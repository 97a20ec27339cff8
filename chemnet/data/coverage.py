"""Coverage of a training set in the terms of combustion: T, P, equivalence ratio, heat release, kinds of states."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chemnet.data import dataset
from chemnet.data.dataset import Pairs
from chemnet.gas.mechanism import Mechanism, load_mechanism
from chemnet.gas.state import Array, densities, enthalpy, equivalence_ratios
from chemnet.runtime.tables import Table

_SHARES = (0.0, 0.01, 0.5, 0.99, 1.0)
_QUANTITIES = {"T [K]": "T", "P [Pa]": "P", "phi": "phi", "heat release [W/m3]": "heat_release"}


@dataclass(frozen=True)
class Coverage:
    """Of each row (n,) of a training set: T [K], P [Pa], equivalence ratio, heat release over its step [W/m3], and
    its kind, an index into `kinds`."""

    T: Array
    P: Array
    phi: Array
    heat_release: Array
    kind: NDArray[np.int8]
    kinds: tuple[str, ...]


def coverage(path: str | Path) -> Coverage:
    """Coverage of a file. Raises FileError as `dataset.read` does, UsageError when there is no such mechanism here."""
    facts = dataset.read_attributes(path)
    mechanism, dt = load_mechanism(facts["mechanism"]), float(facts["dt"])
    columns = [_columns(block, mechanism, dt) for block in dataset.blocks(path)]
    T, P, phi, heat, kind = (np.concatenate(parts) for parts in zip(*columns, strict=True))
    return Coverage(T, P, phi, heat, kind, tuple(facts["kinds"]))


def _columns(pairs: Pairs, mechanism: Mechanism, dt: float) -> tuple[NDArray, ...]:
    states = pairs.states
    phi = equivalence_ratios(states, mechanism)
    return states[:, 0].copy(), states[:, 1].copy(), phi, heat_release(pairs, mechanism, dt), pairs.kind


def heat_release(pairs: Pairs, mechanism: Mechanism, dt: float) -> Array:
    """Mean heat release rate of each pair's step (n,) [W/m3]: the enthalpy that its reactions free at its first T."""
    reacted = np.hstack([pairs.states[:, :2], pairs.next_states[:, 2:]])
    freed = enthalpy(pairs.states, mechanism) - enthalpy(reacted, mechanism)
    return densities(pairs.states, mechanism) * freed / dt


def coverage_tables(found: Coverage, title: str) -> list[Table]:
    """Ranges of each quantity, of all rows and of each kind of states."""
    values = {name: getattr(found, attribute) for name, attribute in _QUANTITIES.items()}
    ranges = [(name, *np.quantile(column, _SHARES)) for name, column in values.items()]
    rows = []
    for index, kind in enumerate(found.kinds):
        of_kind = found.kind == index
        if of_kind.any():
            rows.append((kind, int(of_kind.sum()), *(_range(column[of_kind]) for column in values.values())))
    return [
        Table(f"coverage of {title}", ("quantity", "min", "1 %", "median", "99 %", "max"), ranges),
        Table("by kind of states, 1 to 99 %", ("kind", "rows", *values), rows),
    ]


def _range(column: Array) -> tuple[float, float]:
    low, high = np.quantile(column, (0.01, 0.99))
    return float(low), float(high)


def draw(path: Path, picture: Path) -> None:
    """Draw the coverage of a file. Needs matplotlib."""
    from chemnet.runtime import plots

    found = coverage(path)
    columns = {name: getattr(found, name) for name in _QUANTITIES.values()}
    kinds = {name: found.kind == index for index, name in enumerate(found.kinds)}
    plots.coverage(picture, columns, kinds, f"{path.name}: {len(found.T):,} states")
