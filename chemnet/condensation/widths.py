"""What a network needs at other widths, and the best widths for a budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from chemnet.condensation import similarity
from chemnet.condensation.budgets import Budget, Numbers, Parameters
from chemnet.condensation.channels import Channels
from chemnet.condensation.graph import Floats, Follower, Space, is_depthwise
from chemnet.condensation.vectors import parts_of
from chemnet.runtime.errors import UsageError

Widths = dict[Space, int]
Rounded = Callable[[Space, int], int]

_HALVINGS = 60
_ROUNDS = 4  # updates of the costs of a space, which depend on the widths around it
_SWEEPS = 10  # over all spaces, of exchanges between two
_NAMED = 2  # spaces in a message
_CORRECTIONS, _CLOSE = 4, 0.01  # of the target of what is measured, and the deviation that is as good as none
_SAVING = 9.0  # power of ten of the highest and, negative, of the lowest price of the whole


class OutOfReach(UsageError):
    """A share of a budget that is smaller than what the smallest widths need."""


class Sizes:
    """What a model needs of a budget, by default of parameters, as a function of the widths of its spaces."""

    def __init__(self, model: nn.Module, channels: Channels, budget: Budget | None = None) -> None:
        self._channels, self._budget = channels, budget or Parameters(model, channels)
        self._modules = parts_of(model) | channels.statistics
        self._counted = [*channels.inputs, *(channels.rows.keys() - channels.inputs.keys())]
        self._around = {space: self._modules_around(space) for space in channels.spaces}
        counted = sum(self.of(name) for name in self._counted)
        self._rest = self._budget.whole - counted

    def total(self, widths: Mapping[Space, int] | None = None) -> float:
        """What the model needs at these widths; other spaces keep theirs."""
        return self._rest + sum(self.of(name, widths) for name in self._counted)

    def of(self, name: str, widths: Mapping[Space, Numbers] | None = None) -> Any:
        """What a module needs at these widths, of which one may be an array; other spaces keep theirs."""
        module, widths = self._modules[name], widths or {}
        read = 0 if isinstance(module, nn.Embedding) else self._channels.read(name, widths)
        if isinstance(module, Follower) or is_depthwise(module):
            return self._budget.of(name, read, read)
        return self._budget.of(name, read, self._channels.made(name, widths))

    def held(self, reasons: Mapping[Space, str]) -> list[str]:
        """Lines of a message: what the spaces need that are left alone, those first that need most, each with its
        reason."""
        needs = {space: sum(self.of(name) for name in space.layers if name in self._counted) for space in reasons}
        order = sorted(needs, key=needs.__getitem__, reverse=True)
        lines = [
            f"left alone: {space.layers[0]} ({100.0 * needs[space] / self._budget.whole:.2g} % of the "
            f"{self._budget.unit}): {reasons[space]}"
            for space in order[:_NAMED]
        ]
        if len(order) > _NAMED:
            lines[-1] += f"; and {len(order) - _NAMED} others, which survey lists"
        return lines

    def _modules_around(self, space: Space) -> list[str]:
        places = (*space.followers, *space.consumers)
        every = dict.fromkeys([*space.layers, *(place.module for place in places)])
        return [name for name in every if name in self._counted]

    def measured(self, find: Callable[[float], Widths], target: float) -> Widths:
        """What `find` makes of a target. Where the budget is measured, its predictions deviate, and the target that is
        given is corrected until what the widths need is the wanted one; of all tries the closest, if possible below."""
        aim, tries = target, list[tuple[bool, float, Widths]]()
        for _ in range(_CORRECTIONS):
            try:
                widths = find(aim)
            except OutOfReach:
                if not tries:
                    raise
                break
            needed = self._budget.measured({self._channels.spaces.index(each): w for each, w in widths.items()})
            if needed is None:
                return widths
            deviation = needed / target - 1.0
            tries.append((deviation > _CLOSE, abs(deviation), widths))
            if abs(deviation) < _CLOSE:
                break
            aim /= 1.0 + deviation
        return min(tries, key=lambda each: each[:2])[2]

    def by_threshold(self, matrices: Mapping[Space, Floats], target: float, rounded: Rounded) -> Widths:
        """Widths of the groups at the largest common threshold at which at most `target` is needed."""

        def widths(threshold: float) -> Widths:
            return {
                space: rounded(space, similarity.n_groups(similarity.group(matrix, threshold)))
                for space, matrix in matrices.items()
            }

        return self._bisected(widths, target, rounded, -1.0, similarity.ALL_APART)

    def cheapest(self, curves: Mapping[Space, Floats], target: float, rounded: Rounded) -> Widths:
        """Widths with the smallest sum of what is left unexplained at which at most `target` is needed.

        `curves` are, for each space, the share of its readers' inputs that is left with no channel, with one, ... At a
        common price of the budget every space takes the width with the smallest sum of that share and the price.
        """
        possible = {
            space: np.unique([rounded(space, width) for width in range(1, len(left))]) for space, left in curves.items()
        }

        def widths(saving: float) -> Widths:
            price, found = 10.0**-saving / self._budget.whole, {space: space.width for space in curves}
            for _ in range(_ROUNDS):
                costs = {space: self._costs(space, found, possible[space]) for space in curves}
                found = {
                    space: int(possible[space][np.argmin(left[possible[space]] + price * costs[space])])
                    for space, left in curves.items()
                }
            return found

        found = self._bisected(widths, target, rounded, -_SAVING, _SAVING)
        for _ in range(_SWEEPS):
            before = found
            for space in curves:
                found = self._exchanged(space, curves, found, target, possible)
            if found == before:
                break
        return found

    def _exchanged(
        self,
        space: Space,
        curves: Mapping[Space, Floats],
        widths: Widths,
        target: float,
        possible: Mapping[Space, NDArray[np.int64]],
    ) -> Widths:
        """Widths with more channels of a space, for which another one has less, if that leaves less unexplained.

        No price leads to all of the best divisions: those off the convex hull have to be looked for.
        """
        more = possible[space][possible[space] > widths[space]]
        if not len(more):
            return widths
        now, *costs = self._costs(space, widths, np.append(widths[space], more))
        gains, extra = curves[space][widths[space]] - curves[space][more], np.array(costs) - now
        best = int(np.argmax(gains / np.maximum(extra, np.finfo(float).tiny)))
        wider, gain = {**widths, space: int(more[best])}, gains[best]
        beyond = self.total(wider) - target
        if beyond <= 0.0:
            return wider if gain > 0.0 else widths
        result = widths
        for other in [each for each in curves if each is not space]:
            less = possible[other][possible[other] < widths[other]]
            now, *costs = self._costs(other, wider, np.append(widths[other], less))
            fitting = less[now - np.array(costs) >= beyond]
            if len(fitting):
                losses = curves[other][fitting] - curves[other][widths[other]]
                if losses.min() < gain:
                    result, gain = {**wider, other: int(fitting[losses.argmin()])}, losses.min()
        return result

    def _costs(self, space: Space, widths: Widths, possible: Numbers) -> Any:
        """What the modules around a space need at its possible widths and at these of the others."""
        return sum(self.of(name, {**widths, space: possible}) for name in self._around[space])

    def _bisected(
        self, widths: Callable[[float], Widths], target: float, rounded: Rounded, low: float, high: float
    ) -> Widths:
        """The widths at the largest argument at which they need at most `target`, and what still fits."""
        best = widths(low)
        if self.total(best) > target:
            least = self.total(best) / self._budget.whole
            raise OutOfReach(
                f"these layers can be condensed to no less than {least:.4g} of the {self._budget.unit}: raise the ratio"
            )
        beyond = {space: space.width for space in best}
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            found = widths(middle)
            if self.total(found) <= target:
                low, best = middle, found
            else:
                high, beyond = middle, found
            if best == beyond:
                break
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
