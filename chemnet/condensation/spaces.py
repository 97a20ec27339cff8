"""Spaces of a model as they are found: made by layers, joined where they can only be condensed alike, left alone."""

from __future__ import annotations

import math
from collections.abc import Iterable

from chemnet.condensation.graph import Layout, Space


class Spaces:
    """Spaces by number; two that are joined are one from then on."""

    def __init__(self) -> None:
        self.every: list[Space] = []
        self._parent: list[int] = []

    def new(self, space: Space) -> int:
        """The number of a new space."""
        self.every.append(space)
        self._parent.append(len(self._parent))
        return len(self.every) - 1

    def root(self, number: int) -> int:
        """The number of the space that has taken in this one."""
        while self._parent[number] != number:
            number = self._parent[number]
        return number

    def of(self, *layouts: Layout) -> list[Space]:
        """The spaces whose channels are in a tensor."""
        numbers = [s.space for layout in layouts for s in layout.segments if s.space is not None]
        return [self.every[root] for root in dict.fromkeys(map(self.root, numbers))]

    def unite(self, first: int, second: int) -> None:
        """Make one space of two."""
        a, b = self.root(first), self.root(second)
        if a == b:
            return
        kept, other = self.every[a], self.every[b]
        kept.layers += other.layers
        kept.activations += other.activations
        kept.is_homogeneous &= other.is_homogeneous
        if other.reason:
            kept.leave_alone(other.reason)
        self._parent[b] = a
        divide(kept, other.blocks)

    def leave(self, layouts: Iterable[Layout], reason: str) -> None:
        """Leave the spaces of tensors alone."""
        for space in self.of(*layouts):
            space.leave_alone(reason)


def divide(space: Space, groups: int) -> None:
    """Channels of different groups are never merged, and every group keeps as many."""
    space.blocks = math.lcm(space.blocks, groups)
    if space.blocks == space.width:
        space.leave_alone(f"no two of its {space.width} channels belong to the same groups")
