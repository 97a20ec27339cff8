"""Groups of the channels of a space, and what each channel counts in its group."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from chemnet.condensation import similarity
from chemnet.condensation.choices import Alike, Ranked, View
from chemnet.condensation.graph import Floats, Place, Space

_APART = -1.0  # the similarity of channels that must not be merged


def prepared(view: View, found: Alike) -> Floats:
    """Similarities with -1 between blocks of channels that are not mixed, and 0 for channels that are idle."""
    matrix, blocks = found.similarity, view.space.blocks
    if blocks > 1:
        block = np.arange(len(matrix)) // (len(matrix) // blocks)
        matrix = np.where(block[:, None] == block, matrix, _APART)
    idle = view.idle if found.idle is None else view.idle | found.idle
    if idle.any():
        matrix = np.where(idle | idle[:, None], 0.0, matrix)
    return matrix


def grouped(
    space: Space, matrix: Floats, threshold: float | None, width: int | None, rounded: Callable[[Space, int], int]
) -> similarity.Grouping:
    """Groups at a threshold or of a width; blocks of channels that are not mixed keep as many each."""
    blocks, m = space.blocks, space.width // space.blocks
    ranges = [slice(start, start + m) for start in range(0, space.width, m)]
    if width is None:
        assert threshold is not None
        counts = [similarity.n_groups(similarity.group(matrix[mine, mine], threshold)) for mine in ranges]
        width = rounded(space, blocks * max(counts))
        if blocks == 1 and width == counts[0]:
            return similarity.group(matrix, threshold)
    parts = []
    for mine in ranges:
        part = similarity.group_to_width(matrix[mine, mine], width // blocks)[0]
        idle = np.flatnonzero(part == similarity.NO_GROUP)
        idle = idle[: max(width // blocks - similarity.n_groups(part), 0)]
        part[idle] = idle  # idle channels stay where a block has too few others
        parts.append(np.where(part == similarity.NO_GROUP, similarity.NO_GROUP, part + mine.start))
    return np.concatenate(parts)


def even(
    space: Space, main_of: similarity.Grouping, most: int, rounded: Callable[[Space, int], int]
) -> similarity.Grouping:
    """Groups of equal size, at most of `most` channels, within groups; channels in none are by themselves."""
    groups = np.where(main_of == similarity.NO_GROUP, np.arange(len(main_of)), main_of)
    common = int(np.gcd.reduce(np.unique(groups, return_counts=True)[1]))
    width = space.width
    possible = [size for size in range(1, min(common, most) + 1) if common % size == 0]
    size = max(size for size in possible if rounded(space, width // size) * size == width)
    result = np.empty_like(groups)
    for main in np.unique(groups):
        members = np.flatnonzero(groups == main)
        result[members] = np.repeat(members[::size], size)
    return result


def published_share(found: Alike | Ranked, main_of: similarity.Grouping, place: Place) -> Floats:
    """Eq. 36: a channel is its main one, times the ratio of their lengths (m, k)."""
    kept = similarity.mains(main_of)
    members = np.flatnonzero(main_of != similarity.NO_GROUP)
    lengths = np.ones(len(main_of)) if isinstance(found, Ranked) else found.lengths(place)
    mains = lengths[main_of[members]]
    share = np.zeros((len(main_of), len(kept)))
    share[members, np.searchsorted(kept, main_of[members])] = np.divide(
        lengths[members], mains, out=np.ones_like(mains), where=mains > 0.0
    )
    return share
