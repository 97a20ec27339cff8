"""Number of parameters of a network at other widths, and the best widths for a number of parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from torch import nn

from chemnet.condensation import similarity
from chemnet.condensation.channels import Channels
from chemnet.condensation.graph import Floats, Follower, Space, is_depthwise
from chemnet.condensation.vectors import parts_of
from chemnet.runtime.errors import UsageError

Widths = dict[Space, int]
Rounded = Callable[[Space, int], int]

_HALVINGS = 60
_ROUNDS = 4  # updates of the price of a channel, which depends on the widths around it


class Sizes:
    """Parameters of a model as a function of the widths of its spaces."""

    def __init__(self, model: nn.Module, channels: Channels) -> None:
        self._channels = channels
        self._modules = parts_of(model)
        self._counted = [*channels.inputs, *(channels.rows.keys() - channels.inputs.keys())]
        counted = sum(self._count(name, {}) for name in self._counted)
        self._rest = sum(p.numel() for p in model.parameters()) - counted

    def total(self, widths: Mapping[Space, int] | None = None) -> int:
        """Parameters at these widths; other spaces keep theirs."""
        return self._rest + sum(self._count(name, widths or {}) for name in self._counted)

    def _count(self, name: str, widths: Mapping[Space, int]) -> int:
        module = self._modules[name]
        if isinstance(module, nn.Embedding):
            return self._channels.made(name, widths) * module.num_embeddings
        read = self._channels.read(name, widths)
        if isinstance(module, Follower):
            return read * sum(p.numel() for p in module.parameters(recurse=False)) // self._channels.columns[name].count
        if is_depthwise(module):
            return read * (module.weight[0].numel() + (module.bias is not None))
        made = self._channels.made(name, widths)
        groups = 1 if isinstance(module, nn.Linear) else module.groups
        places = module.weight[0, 0].numel()
        return made * (read // groups * places + (module.bias is not None))

    def by_threshold(self, matrices: Mapping[Space, Floats], target: float, rounded: Rounded) -> Widths:
        """Widths of the groups at the largest common threshold at which at most `target` parameters are left."""

        def widths(threshold: float) -> Widths:
            return {
                space: rounded(space, similarity.n_groups(similarity.group(matrix, threshold)))
                for space, matrix in matrices.items()
            }

        return self._bisected(widths, target, rounded, -1.0, similarity.ALL_APART)

    def cheapest(self, curves: Mapping[Space, Floats], target: float, rounded: Rounded) -> Widths:
        """Widths with the smallest sum of what is left unexplained at most `target` parameters.

        `curves` are, for each space, the share of its readers' inputs that is left with no channel, with one, ... At a
        common price of a parameter every space takes the width with the smallest sum of that share and the price.
        """

        def widths(saving: float) -> Widths:
            price, found = 10.0**-saving, {space: space.width for space in curves}
            for _ in range(_ROUNDS):
                costs = {space: self._cost(space, found) for space in curves}
                found = {
                    space: rounded(space, 1 + int(np.argmin(left[1:] + price * costs[space] * np.arange(1, len(left)))))
                    for space, left in curves.items()
                }
            return found

        return self._bisected(widths, target, rounded, 0.0, 12.0)

    def _cost(self, space: Space, widths: Widths) -> float:
        """Parameters of one channel of a space, at these widths of the others."""
        full, half = space.width, max(space.width // 2, 1)
        if full == half:
            return 1.0
        around = {place.module for place in (*space.followers, *space.consumers)}.union(space.layers)
        with_full, with_half = ({**widths, space: width} for width in (full, half))
        return sum(self._count(name, with_full) - self._count(name, with_half) for name in around) / (full - half)

    def _bisected(
        self, widths: Callable[[float], Widths], target: float, rounded: Rounded, low: float, high: float
    ) -> Widths:
        """The widths at the largest argument at which they need at most `target` parameters, and what still fits."""
        best = widths(low)
        if self.total(best) > target:
            least = self.total(best) / self.total()
            raise UsageError(
                f"these layers can be condensed to no less than {least:.4g} of the parameters: raise the ratio"
            )
        beyond = {space: space.width for space in best}
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            found = widths(middle)
            if self.total(found) <= target:
                low, best = middle, found
            else:
                high, beyond = middle, found
        return self._filled(best, beyond, target, rounded)

    def _filled(self, widths: Widths, beyond: Widths, target: float, rounded: Rounded) -> Widths:
        """Widths on the way to those `beyond` as long as they fit: a threshold may bring many channels at once."""
        for space in widths:
            few, many = widths[space], beyond[space] + 1
            while many - few > 1:
                middle = (few + many) // 2
                fits = self.total({**widths, space: rounded(space, middle)}) <= target
                few, many = (middle, many) if fits else (few, middle)
            widths = {**widths, space: rounded(space, few)}
        return widths
