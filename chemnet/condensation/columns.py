"""Places of the channels of spaces among the columns, or the rows, of a module, as channels go.

A module may have several columns for one channel, and their order need not be that of the channels, as after a channel
shuffle. A cut keeps the same number of channels in every block of a space, so what a forward makes of fewer channels is
what it makes of the first of every block: these columns stay, with those that are kept in the place of the first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from chemnet.condensation.graph import Indices


@dataclass
class Columns:
    """Of every column its segment, the number of its channel in the space, and which of the channel's columns it is."""

    segments: Indices
    channels: Indices
    places: Indices

    @property
    def count(self) -> int:
        """Number of columns."""
        return len(self.segments)

    def count_of(self, segment: int) -> int:
        """Number of columns of a segment."""
        return int(np.count_nonzero(self.segments == segment))

    def table(self, segment: int, width: int) -> Indices:
        """Columns (m, r) of the m channels of a segment's space; -1 where a channel has fewer than others, or none."""
        mine = np.flatnonzero(self.segments == segment)
        result = np.full((width, int(self.places[mine].max(initial=-1)) + 1), -1)
        result[self.channels[mine], self.places[mine]] = mine
        return result

    def cut(self, segments: set[int], kept: Indices, width: int, blocks: int) -> Indices:
        """Keep the channels `kept` of a space that is at some segments; the columns (n,) that stay, by their number
        before, in the order that the forward gives them then."""
        before, after = width // blocks, len(kept) // blocks
        mine = np.isin(self.segments, list(segments))
        block, rank = np.divmod(self.channels, before)
        stays = np.flatnonzero(~mine | (rank < after))
        numbers = np.where(mine, block * after + rank, self.channels)
        taken = np.arange(self.count)
        for segment in segments:
            table = self.table(segment, width)
            of_segment = stays[self.segments[stays] == segment]
            taken[of_segment] = table[kept[numbers[of_segment]], self.places[of_segment]]
        self.segments, self.channels, self.places = self.segments[stays], numbers[stays], self.places[stays]
        return taken[stays]


def numbered(atoms: Indices, channels: Indices) -> Indices:
    """Which of its channel's columns each column is (n,), in the order of their atoms."""
    order = np.lexsort((np.arange(len(atoms)), atoms, channels))
    starts = np.concatenate([[True], np.diff(channels[order]) != 0]) if len(order) else np.empty(0, dtype=bool)
    first = np.maximum.accumulate(np.where(starts, np.arange(len(order)), 0))
    places = np.empty(len(atoms), dtype=np.int64)
    places[order] = np.arange(len(order)) - first
    return places


def gathered(values: torch.Tensor, table: Indices) -> torch.Tensor:
    """Values (n, ...) by the columns of a table (m, r, ...), zeros where it has none."""
    result = values[torch.from_numpy(np.maximum(table, 0)).to(values.device)]
    if (table < 0).any():
        result[torch.from_numpy(table < 0).to(values.device)] = 0
    return result
