"""Hidden layers of a trained network at smaller widths: what most baselines share.

The hidden layers are those that go through an activation, are made by one layer and can be condensed: of a fully
connected network all, of MobileNetV2 those inside of the blocks and the one before the classifier, of a residual
network the first convolutions of the blocks, of a transformer the feed-forward ones; not the outputs of blocks. A share
of the parameters becomes widths by one factor for all hidden layers, which is bisected as closely as whole channels
allow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from chemnet.condensation.channels import Channels
from chemnet.condensation.choices import Alike, Ranked, View
from chemnet.condensation.condenser import condense
from chemnet.condensation.graph import Floats, Indices, Space
from chemnet.condensation.similarity import Grouping
from chemnet.condensation.surgery import Surgery
from chemnet.condensation.widths import Sizes
from chemnet.runtime.errors import UsageError

Target = Sequence[int] | float
Choose = Callable[[View, int], tuple[Indices, Floats]]
T = TypeVar("T")

_HALVINGS = 24


class Narrowing:
    """A trained network, and the `widths` of its hidden layers that a target means, by the name of the layer."""

    def __init__(self, network: nn.Module, target: Target, calibration: torch.Tensor) -> None:
        self.weight = next(network.parameters())
        self._network, self._calibration = network, calibration.to(self.weight)
        self._channels = Channels(network, self._calibration[:2])
        self._hidden = [space for space in self._channels.spaces if _is_hidden(space)]
        full = [space.width for space in self._hidden]
        widths = self._within(target) if isinstance(target, int | float) else target
        if len(widths) != len(full) or not all(1 <= w <= m for w, m in zip(widths, full, strict=True)):
            raise UsageError(f"hidden widths {list(widths)} do not fit into a network of {full}")
        self.widths = {space.layers[0]: width for space, width in zip(self._hidden, widths, strict=True)}

    def _within(self, share: float) -> list[int]:
        """The largest widths in proportion to the given ones with which the share is not exceeded."""
        sizes = Sizes(self._network, self._channels)

        def make(kept: float) -> list[int]:
            return [max(1, round(kept * space.width)) for space in self._hidden]

        def size(widths: list[int]) -> float:
            return sizes.total(dict(zip(self._hidden, widths, strict=True)))

        return largest_within(make, size, budget_of(self._network, share), _HALVINGS)

    def merged(
        self, group: Callable[[View, int], Grouping], merge: Callable[[Surgery, Space, Grouping], None]
    ) -> nn.Module:
        """The network with the groups of each hidden layer that `group` makes at a width, each merged by `merge`."""
        found = {layer: group(view, width) for layer, view, width in self._views()}
        return condense(
            self._network,
            self._calibration[:2],
            widths=self.widths,
            choice=lambda view: Alike(_together(found[view.layer]), view.folded.magnitudes, merge=merge),
        )

    def reduced(self, choose: Choose, *, refit: bool = False) -> nn.Module:
        """The network with the channels that `choose` keeps of each hidden layer, and with its shares; or refitted."""
        found = {layer: choose(view, width) for layer, view, width in self._views()}
        return condense(
            self._network,
            self._calibration[:2],
            widths=self.widths,
            choice=lambda view: Ranked(lambda count: found[view.layer][0]),
            merge="refit" if refit else lambda view, kept: found[view.layer][1],
            calibration=self._calibration if refit else None,
        )

    def _views(self) -> Iterator[tuple[str, View, int]]:
        """Name, view and width to be of each hidden layer of the network as it was trained."""
        surgery = Surgery(self._network, self._channels)
        for space, (layer, width) in zip(self._hidden, self.widths.items(), strict=True):
            yield layer, View(surgery, space, None, dict, lambda place: False), width


def _is_hidden(space: Space) -> bool:
    return bool(space.activations) and space.reason is None and len(space.layers) == 1


def _together(groups: Grouping) -> Floats:
    """Similarities (m, m) of channels by their groups (m,): 1 within one, -1 across."""
    return np.where(groups[:, None] == groups, 1.0, -1.0)


def alone(kept: Indices, view: View) -> tuple[Indices, Floats]:
    """These channels with their own outgoing weights and nothing of the others'."""
    return kept, np.eye(view.width)[:, kept]


def largest(scores: Floats, width: int) -> Indices:
    """Places of the `width` largest scores, ascending; the lower place wins a tie."""
    return np.sort(np.argsort(-scores, kind="stable")[:width])


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def budget_of(network: nn.Module, share: Target) -> int:
    """The largest number of parameters that is not above the share."""
    if not isinstance(share, int | float) or not 0.0 < share <= 1.0:
        raise UsageError(f"share {share} of the parameters: choose one in (0, 1]")
    return int(share * count(network) + 1e-6)


def largest_within(make: Callable[[float], T], size: Callable[[T], float], budget: int, halvings: int) -> T:
    """Result of `make` at the largest number in (0, 1] at which its size is within the budget."""
    best = make(1.0)
    if size(best) <= budget:
        return best
    found: T | None = None
    low, high = 0.0, 1.0
    for _ in range(halvings):
        middle = 0.5 * (low + high)
        result = make(middle)
        if size(result) <= budget:
            found, low = result, middle
        else:
            high = middle
    if found is None:
        raise out_of_reach(budget)
    return found


def out_of_reach(budget: int) -> UsageError:
    return UsageError(f"{budget} parameters are too few for this baseline: ask for a larger share")
