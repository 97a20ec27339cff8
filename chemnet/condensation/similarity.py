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

# Differences between copies that rounding makes, relative to what is typical of a column: 16 in the last place.
ROUNDING = 16.0 * 2.0**-23
_NEAR = 1e-6  # of a cosine of 1: no other rows can be copies of each other
_BLOCK = 4_000_000  # numbers that are compared at a time
_RESOLUTION = 1e-7  # of the threshold of a width
ALL_APART = 1.0 + 1e-6  # a threshold that nothing reaches

Floats = NDArray[np.float64]
Grouping = NDArray[np.int64]


def cosine_similarity(vectors: Floats, rounding: float = ROUNDING, *, by_column: bool = True) -> Floats:
    """Cosine similarity of the rows of `vectors` (m, n), as (m, m) [-] (eq. 4, 8, 9).

    It is 1 for rows that are parallel to `rounding`, and for those only: near 1 a cosine cannot tell, as that of rows
    1.4e-3 apart is within 1e-6 of it. A row of zeros has similarity 0 with every row, itself included.
    """
    vectors = np.asarray(vectors, dtype=np.float64)
    # scaling by the largest entry first keeps the squares of very small and very large weights finite
    largest = np.abs(vectors).max(axis=1, initial=0.0, keepdims=True)
    unit = vectors / np.where(largest > 0.0, largest, 1.0)
    norms = np.linalg.norm(unit, axis=1, keepdims=True)
    unit /= np.where(norms > 0.0, norms, 1.0)
    return with_copies(unit @ unit.T, unit, rounding, by_column=by_column)


def with_copies(similarity: Floats, rows: Floats, rounding: float = ROUNDING, *, by_column: bool = True) -> Floats:
    """Similarities (m, m) that are 1 for `rows` (m, n) that are equal to rounding, and below 1 for all others.

    Every column is judged by its own scale, the root mean square over the rows at length 1: large inputs, which make
    for small weights beside the biases, do not hide a difference. Values of one kind are judged by one scale for all
    columns instead.
    """
    result = np.minimum(similarity, np.nextafter(1.0, 0.0))
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = rows / np.where(lengths > 0.0, lengths, 1.0)
    scale = rounding * np.sqrt(np.mean(unit * unit, axis=0 if by_column else None))
    first, second = np.nonzero(np.triu(similarity > 1.0 - _NEAR, k=1))
    step = max(_BLOCK // max(rows.shape[1], 1), 1)
    for start in range(0, len(first), step):
        a, b = first[start : start + step], second[start : start + step]
        same = (np.abs(rows[a] - rows[b]) <= scale * lengths[a] + rounding * np.abs(rows[a])).all(axis=1)
        result[a[same], b[same]] = result[b[same], a[same]] = 1.0
    np.fill_diagonal(result, np.where(similarity.diagonal() > 1.0 - _NEAR, 1.0, result.diagonal()))
    return result


def group(similarity: Floats, threshold: float) -> Grouping:
    """Greedy grouping of condensed neurons (section 2.2.3): `main_of` (m,).

    Two neurons have condensed when their similarity is at least `threshold`. The ungrouped neuron
    with most condensed ungrouped neurons becomes a main neuron and takes them all; the lowest index wins a
    tie. Every neuron ends in exactly one group, rows of zeros in none.
    """
    alive = similarity.diagonal() > 0.5
    condensed = similarity >= threshold
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
    low, high = -1.0, ALL_APART  # all neurons in one group; none condensed
    best = group(similarity, high)
    found = high
    while high - low > _RESOLUTION and n_groups(best) > width:
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
