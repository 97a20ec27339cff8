"""Spaces of a model as they are found: made by layers, joined where they can only be condensed alike, left alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from chemnet.condensation.graph import Indices, Layout, Space


class Spaces:
    """Spaces by number; two that are joined are one from then on. The outputs of every layer are atoms, by number, of
    which those that are joined are one channel."""

    def __init__(self) -> None:
        self.every: list[Space] = []
        self.partings: list[tuple[Indices, str]] = []  # parts (k, p) of atoms that keep as many each, and the reason
        self._parent: list[int] = []
        self._starts = np.zeros(1, dtype=np.int64)  # of the atoms of each space as it was made, and the end
        self._joined: list[tuple[Indices, Indices]] = []

    def new(self, space: Space) -> Indices:
        """The atoms of a new space."""
        self.every.append(space)
        self._parent.append(len(self._parent))
        start = self._starts[-1]
        self._starts = np.append(self._starts, start + space.width)
        return np.arange(start, start + space.width)

    def root(self, number: int) -> int:
        """The number of the space that has taken in this one."""
        while self._parent[number] != number:
            number = self._parent[number]
        return number

    def of_atoms(self, atoms: Indices) -> list[int]:
        """Numbers of the spaces that some atoms belong to."""
        owners = np.unique(np.searchsorted(self._starts, atoms[atoms >= 0], side="right") - 1)
        return list(dict.fromkeys(self.root(int(owner)) for owner in owners))

    def of(self, *layouts: Layout) -> list[Space]:
        """The spaces whose channels are in a tensor."""
        return [
            self.every[number]
            for number in dict.fromkeys(number for layout in layouts for number in self.of_atoms(layout.atoms))
        ]

    def unite(self, first: Indices, second: Indices) -> None:
        """Make one channel of every two atoms, and one space of theirs."""
        self._joined.append((first.ravel(), second.ravel()))
        kept, *others = self.of_atoms(np.concatenate([first.ravel(), second.ravel()]))
        for other in others:
            self._take_in(kept, other)

    def _take_in(self, number: int, other: int) -> None:
        kept, gone = self.every[number], self.every[other]
        kept.layers += gone.layers
        kept.activations += gone.activations
        kept.is_homogeneous &= gone.is_homogeneous
        if gone.reason:
            kept.leave_alone(gone.reason)
        self._parent[other] = number

    def part(self, parts: Indices, reason: str) -> None:
        """Parts (k, ...) of atoms that keep as many each, and whose channels are not mixed; why, where they cannot."""
        self.partings.append((parts.reshape(len(parts), -1), reason))

    def leave(self, layouts: Iterable[Layout], reason: str) -> None:
        """Leave the spaces of tensors alone."""
        for space in self.of(*layouts):
            space.leave_alone(reason)

    def components(self) -> Indices:
        """For every atom the number of the channel that it belongs to."""
        count = int(self._starts[-1])
        first, second = (np.concatenate([np.empty(0, dtype=np.int64), *side]) for side in self._sides())
        graph = coo_matrix((np.ones(len(first)), (first, second)), shape=(count, count))
        return connected_components(graph, directed=False)[1].astype(np.int64)

    def atoms_of(self, number: int) -> Indices:
        """Atoms of a space, of its first layer first."""
        mine = [each for each in range(len(self.every)) if self.root(each) == number]
        return np.concatenate([np.arange(self._starts[each], self._starts[each + 1]) for each in mine])

    def _sides(self) -> tuple[Sequence[Indices], Sequence[Indices]]:
        return [first for first, _ in self._joined], [second for _, second in self._joined]
