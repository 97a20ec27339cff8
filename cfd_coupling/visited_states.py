"""States that a flow hands to its chemistry, from the snapshots of a run.

With the splitting `lie` a step begins with chemistry, so a snapshot of all species holds what the next step's chemistry
gets, bit by bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from cfd_coupling.config import CaseConfig, load_case
from cfd_coupling.output import ALL_SPECIES, Snapshot, read_image, snapshots
from cfd_coupling.parallel import Communicator
from cfd_coupling.simulation import run
from chemnet.gas.mechanism import Mechanism, load_mechanism
from chemnet.runtime.errors import NumericalError, UsageError

_BIN = 50.0  # [K] width of the classes of T that get equal numbers of rows

Floats = NDArray[np.float64]


def states_of(snapshot: Snapshot, mechanism: Mechanism) -> Floats:
    """States (cells, 2 + K) of a snapshot, row by row.

    Raises UsageError where it lacks T or a species.
    """
    names = ("T", *mechanism.species_names)
    missing = [name for name in names if name not in snapshot.arrays]
    if missing:
        raise UsageError(f"the snapshot holds no {missing[0]}: states need output.fields=[T, {ALL_SPECIES}]")
    T, *Y = (snapshot.arrays[name].ravel() for name in names)
    return np.column_stack([T, np.full(T.size, snapshot.p0), *Y])


def burn(case: CaseConfig) -> Iterator[Snapshot]:
    """The snapshots of a run of a case of this process alone, in a folder that vanishes, without the initial one.

    A run that breaks off gives those that it wrote, and then raises its NumericalError. Raises what
    `cfd_coupling.simulation.set_up` raises.
    """
    with TemporaryDirectory() as folder:
        out, failure = Path(folder) / "run", None
        try:
            with redirect_stdout(StringIO()):
                run(case, out, Communicator())
        except NumericalError as error:
            failure = error
        for path in snapshots(out / "snapshots")[1:]:
            yield read_image(path)
        if failure:
            raise failure


def visited_states(
    case: str, variant: str | None, changes: Sequence[str], rows: int, rng: np.random.Generator
) -> Floats:
    """At most `rows` states (n, 2 + K) that a run of a case with `key=value` changes hands to its chemistry.

    They are spread over the snapshots after the first one, and over T in classes of 50 K from the case's
    `chemistry.min_temperature` on: most cells of a flow are alike. A run that breaks off gives what it had visited.
    Raises UsageError and FileError as `load_case` does.
    """
    loaded = load_case(case, variant, [f"output.fields=[T, {ALL_SPECIES}]", *changes])
    mechanism = load_mechanism(loaded.mechanism)
    each = -(-rows // max(1, loaded.n_steps // loaded.output.snapshot_every))
    found = [np.empty((0, 2 + mechanism.n_species))]
    with suppress(NumericalError):
        for snapshot in burn(loaded):
            states = states_of(snapshot, mechanism)
            hot = states[states[:, 0] > loaded.chemistry.min_temperature]
            found.append(hot[spread(hot[:, 0], each, rng)])
    return np.concatenate(found)[:rows]


def spread(T: Floats, n: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Numbers of at most n rows, drawn so that classes of T (m,) [K] have equal numbers of them, or all they have."""
    order = rng.permutation(len(T))
    bins = (T[order] / _BIN).astype(np.int64)
    by_bin = np.argsort(bins, kind="stable")
    starts = np.searchsorted(bins[by_bin], bins[by_bin])
    place_in_bin = np.empty(len(T), np.int64)
    place_in_bin[by_bin] = np.arange(len(T)) - starts
    return order[np.argsort(place_in_bin, kind="stable")[:n]]
