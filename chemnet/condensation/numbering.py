"""Numbers of the channels of every space, found from its atoms when a whole graph has been traced.

Channels may be merged where everything treats them alike: what a layer makes in groups, what is split into parts or
read by some readers only is divided into blocks of equal size, which are numbered one after the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from chemnet.condensation.columns import Columns, numbered
from chemnet.condensation.graph import Indices, Layout
from chemnet.condensation.spaces import Spaces


class Numbering:
    """The channel of every atom in its space, whose width and blocks are set; `rows` are the atoms that a layer makes,
    `inputs` the layouts that modules read."""

    def __init__(self, spaces: Spaces, rows: Mapping[str, Indices], inputs: Mapping[str, Layout]) -> None:
        self._spaces, self._rows, self._inputs = spaces, rows, inputs
        self._component = spaces.components()
        self._channel = np.zeros(len(self._component), dtype=np.int64)
        self._owner = np.empty(len(self._component), dtype=np.int64)
        self.roots = [number for number in range(len(spaces.every)) if spaces.root(number) == number]
        for root in self.roots:
            self._number(root)
        keys: dict[int, list[Indices]] = {root: [] for root in self.roots}
        self._part(keys)
        self._use(keys)
        for root, columns in keys.items():
            if spaces.every[root].reason is None and columns:
                self._divide(root, np.column_stack(columns))

    def made(self, layer: str) -> Columns:
        """The channels of the rows of a layer."""
        atoms = self._rows[layer]
        return self._columns(atoms, np.zeros(len(atoms), dtype=np.int64))

    def read(self, module: str) -> Columns:
        """The channels of the columns of a module's input."""
        layout = self._inputs[module]
        return self._columns(layout.atoms.ravel(), layout.segments.ravel())

    def space_of(self, module: str, segment: int) -> int | None:
        """Number of the space that a segment of a module's input belongs to; None if it is no layer's."""
        layout = self._inputs[module]
        return next(iter(self._owners(layout.atoms[layout.segments == segment])), None)

    def _owners(self, atoms: Indices) -> list[int]:
        """Numbers of the spaces that some atoms belong to."""
        return [int(root) for root in np.unique(self._owner[atoms[atoms >= 0]])]

    def _columns(self, atoms: Indices, segments: Indices) -> Columns:
        channels = np.where(atoms >= 0, self._channel[atoms], np.arange(len(atoms)))
        places = np.zeros(len(atoms), dtype=np.int64)
        for segment in np.unique(segments):
            mine = segments == segment
            places[mine] = numbered(atoms[mine], channels[mine])
        return Columns(segments.copy(), channels, places)

    def _number(self, root: int) -> None:
        """In the order of the atoms."""
        atoms = self._spaces.atoms_of(root)
        self._owner[atoms] = root
        _, first, inverse = np.unique(self._component[atoms], return_index=True, return_inverse=True)
        ranks = np.empty(len(first), dtype=np.int64)
        ranks[np.argsort(first)] = np.arange(len(first))
        self._channel[atoms] = ranks[inverse]
        self._spaces.every[root].width = len(first)

    def _counts(self, root: int, parts: Sequence[Indices]) -> Indices:
        """How often each channel of a space is in each of some parts (m, k)."""
        result = np.zeros((self._spaces.every[root].width, len(parts)), dtype=np.int64)
        for number, part in enumerate(parts):
            named = part[part >= 0]
            np.add.at(result[:, number], self._channel[named[self._owner[named] == root]], 1)
        return result

    def _part(self, keys: dict[int, list[Indices]]) -> None:
        """Parts of which each has as many of every space."""
        for parts, reason in self._spaces.partings:
            every = self._owners(parts)
            counts = {root: self._counts(root, list(parts)) for root in every}
            unnamed = (parts < 0).sum(axis=1)
            for root in every:
                total = counts[root].sum(axis=0)
                if (total != total[0]).any() or (unnamed != unnamed[0]).any():
                    for each in every:
                        self._spaces.every[each].leave_alone(reason)
                keys[root].append(counts[root])

    def _use(self, keys: dict[int, list[Indices]]) -> None:
        """How many rows and columns modules have for each channel."""
        used = list(self._rows.values())
        for layout in self._inputs.values():
            used += [layout.atoms[layout.segments == segment] for segment in range(len(layout.signals))]
        for atoms in used:
            for root in self._owners(atoms):
                keys[root].append(self._counts(root, [atoms]))

    def _divide(self, root: int, keys: Indices) -> None:
        """Blocks of channels that are treated alike, as large as they can be of equal size."""
        space = self._spaces.every[root]
        _, first, cells, sizes = np.unique(keys, axis=0, return_index=True, return_inverse=True, return_counts=True)
        if len(sizes) == 1:
            return
        size = math.gcd(*sizes.tolist())
        if size == 1:
            space.leave_alone(f"no two of its {space.width} channels belong to the same groups")
            return
        order = np.argsort(first[cells.ravel()], kind="stable")
        numbers = np.empty(space.width, dtype=np.int64)
        numbers[order] = np.arange(space.width)
        mine = self._owner == root
        self._channel[mine] = numbers[self._channel[mine]]
        space.blocks = space.width // size
