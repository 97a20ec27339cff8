"""Reference rows of a training set: a manifest holds its recipe and some of its rows.

A manifest is itself a training set of evenly spaced rows of a large one, small enough for version control. A
later sample of the recipe, by another version or on another machine, is compared with its states and labels. The
last bits of draws and flames depend on the kind of processor, and with them which states come out; `recompute` labels
the manifest's own states.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chemnet.data import dataset
from chemnet.data.recipe import stored_recipe
from chemnet.gas.mechanism import load_mechanism
from chemnet.gas.state import Array
from chemnet.kinetics import RosenbrockReactor
from chemnet.runtime.errors import FileError, UsageError
from chemnet.runtime.files import shipped

TOLERANCE = 1e-6  # relative of T and P, absolute of mass fractions
_ROWS = 1000
_FACTS = ("mechanism", "mechanism_sha256", "dt", "integrator", "rtol", "atol", "seed", "kinds", "recipe")


@dataclass(frozen=True)
class Agreement:
    """Agreement of a training set with its manifest: rows compared, rows with equal state, with equal label, and the
    largest difference of the labels of equal states."""

    rows: int
    states: int
    labels: int
    largest: float

    def text(self) -> str:
        """One line."""
        if self.states == 0:
            return f"none of {self.rows} states is that of the manifest: computed on another kind of machine?"
        met = f"{self.labels} of {self.rows} labels met to {TOLERANCE:g}"
        return f"{met}; largest difference of equal states {self.largest:.1e}"


def write(path: str | Path, source: str | Path, rows: int = _ROWS) -> None:
    """Write the manifest of the training set `source`. Raises UsageError when that has fewer rows."""
    facts, pairs = dataset.read_attributes(source), dataset.read(source)
    if len(pairs) < rows:
        raise UsageError(f"{source} has {len(pairs)} rows; a manifest takes {rows}")
    chosen = pairs.where(_places(len(pairs), rows))
    kept = {name: facts[name] for name in (*_FACTS, "cantera-version", "generator")}
    kept["rows_of_the_set"] = len(pairs)
    dataset.write(path, [chosen], kept)


def find(source: Path) -> Path | None:
    """The manifest beside a training set, or the shipped one of its mechanism; None where it has none."""
    beside = source.with_name("manifest")
    if beside.is_file():
        return beside
    try:
        return shipped(f"datasets/{Path(str(dataset.read_attributes(source)['mechanism'])).stem}/manifest")
    except FileError:
        return None


def compare(source: str | Path, manifest: str | Path) -> Agreement | None:
    """Agreement of a training set with a manifest; None when it was made by another recipe or mechanism."""
    facts, wanted = dataset.read_attributes(source), dataset.read_attributes(manifest)
    recipe = stored_recipe(facts)
    if recipe is None or recipe != stored_recipe(wanted) or facts.get("mechanism_sha256") != wanted["mechanism_sha256"]:
        return None
    expected = dataset.read(manifest)
    if facts["rows"] != wanted["rows_of_the_set"]:
        return Agreement(len(expected), 0, 0, np.nan)
    places = _places(int(facts["rows"]), len(expected))
    found = dataset.read(source).where(places)
    return _agreement(found.states, found.next_states, expected)


def recompute(manifest: str | Path) -> Agreement:
    """Agreement of the manifest's labels with those computed here and now of its states by the exact step."""
    facts, expected = dataset.read_attributes(manifest), dataset.read(manifest)
    step = RosenbrockReactor(load_mechanism(facts["mechanism"]), float(facts["rtol"]), float(facts["atol"]))
    return _agreement(expected.states, step.advance(expected.states, float(facts["dt"]))[0], expected)


def _places(rows: int, chosen: int) -> NDArray[np.intp]:
    """Evenly spaced rows (chosen,) of a file."""
    return np.arange(chosen) * rows // chosen


def _agreement(states: Array, next_states: Array, expected: dataset.Pairs) -> Agreement:
    same = _difference(states, expected.states) <= TOLERANCE
    label = _difference(next_states, expected.next_states)
    largest = float(label[same].max()) if same.any() else np.nan
    return Agreement(len(label), int(same.sum()), int((same & (label <= TOLERANCE)).sum()), largest)


def _difference(found: Array, expected: Array) -> Array:
    """Largest difference of each row (n,): relative of T and P, absolute of mass fractions."""
    scale = np.ones(expected.shape)
    scale[:, :2] = expected[:, :2]
    return (np.abs(found - expected) / scale).max(axis=1)
