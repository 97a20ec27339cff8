"""Cosine similarity of the neurons of a layer and their grouping around main neurons.

A neuron is a row vector v_k of the weights that lead into it, usually with its bias as the last entry (the
bias must belong to it if merging is to be exact). A grouping is an integer array `main_of` of shape (m,):
`main_of[k]` is the main neuron of k's group, `main_of[main] == main`. Rows of zeros have no direction and
belong to no group: `NO_GROUP`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NO_GROUP = -1

# "Exceeds the threshold", in floating point, would miss exact copies at a threshold of 1.
TOLERANCE = 1e-6

Floats = NDArray[np.float64]
Grouping = NDArray[np.int64]


def cosine_similarity(vectors: Floats) -> Floats:
    """Cosine similarity of the rows of `vectors` (m, n), as (m, m) [-] (eq. 4, 8, 9).

    A row of zeros has similarity 0 with every row, itself included.
    """
    vectors = np.asarray(vectors, dtype=np.float64)
    # scaling by the largest entry first keeps the squares of very small and very large weights finite
    largest = np.abs(vectors).max(axis=1, initial=0.0, keepdims=True)
    unit = vectors / np.where(largest > 0.0, largest, 1.0)
    norms = np.linalg.norm(unit, axis=1, keepdims=True)
    unit /= np.where(norms > 0.0, norms, 1.0)
    return unit @ unit.T


def group(similarity: Floats, threshold: float) -> Grouping:
    """Greedy grouping of condensed neurons (section 2.2.3): `main_of` (m,).

    Two neurons have condensed when their similarity is at least `threshold - 1e-6`. The ungrouped neuron
    with most condensed ungrouped neurons becomes a main neuron and takes them all; the lowest index wins a
    tie. Every neuron ends in exactly one group, rows of zeros in none.
    """
    alive = similarity.diagonal() > 0.5
    condensed = similarity >= threshold - TOLERANCE
    condensed &= alive & alive[:, None]
    main_of = np.full(len(similarity), NO_GROUP, dtype=np.int64)
    neighbours = condensed.sum(axis=1)
    while neighbours.max(initial=0) > 1:
        main = int(neighbours.argmax())
        members = np.flatnonzero(condensed[main] & alive)
        main_of[members] = main
        alive[members] = False
        # the matrix is symmetric: its rows are its columns, but contiguous
        neighbours -= condensed[members].sum(axis=0)
        neighbours[members] = 0
    alone = np.flatnonzero(alive)
    main_of[alone] = alone
    return main_of


def group_to_width(similarity: Floats, width: int) -> tuple[Grouping, float]:
    """Grouping with exactly `width` main neurons, and the threshold that it comes closest to.

    The number of groups jumps as the threshold moves: the threshold is bisected to the smallest number of
    groups that is not below `width`, then the most similar main neurons are joined. A layer with fewer
    non-zero rows than `width` keeps them all.
    """
    low, high = -1.0, 1.0 + 2.0 * TOLERANCE  # all neurons in one group; none condensed
    best = group(similarity, high)
    found = high
    while high - low > 0.1 * TOLERANCE and n_groups(best) > width:
        middle = 0.5 * (low + high)
        grouping = group(similarity, middle)
        if n_groups(grouping) < width:
            low = middle
            continue
        high = middle
        if n_groups(grouping) < n_groups(best):
            best, found = grouping, middle
    return _join(best, similarity, width), min(found, 1.0)


def n_groups(main_of: Grouping) -> int:
    """Number of groups of a grouping: the width of the reduced layer."""
    return len(mains(main_of))


def mains(main_of: Grouping) -> Grouping:
    """The main neurons of a grouping, ascending."""
    return np.flatnonzero(main_of == np.arange(len(main_of)))


def _join(main_of: Grouping, similarity: Floats, width: int) -> Grouping:
    """Join the most similar pairs of main neurons until `width` are left; the larger group keeps its main."""
    main = mains(main_of)
    surplus = len(main) - width
    if surplus <= 0:
        return main_of
    main_of = main_of.copy()
    first, second = np.triu_indices(len(main), k=1)
    order = np.argsort(-similarity[main[first], main[second]], kind="stable")
    sizes = np.bincount(main_of[main_of != NO_GROUP], minlength=len(main_of))
    for a, b in zip(main[first[order]], main[second[order]], strict=True):
        if main_of[a] != a or main_of[b] != b:
            continue
        kept, lost = (a, b) if sizes[a] >= sizes[b] else (b, a)
        main_of[main_of == lost] = kept
        sizes[kept] += sizes[lost]
        surplus -= 1
        if surplus == 0:
            break
    return main_of
