"""Widths that a space may have: multiples of its blocks and of a step, and no smaller than the least."""

from __future__ import annotations

import math
from collections.abc import Mapping

from chemnet.condensation.channels import Channels
from chemnet.condensation.graph import Space
from chemnet.runtime.errors import UsageError

Least = float | Mapping[str, float]


class Limits:
    """Limits of the widths of some spaces; a whole number is a width, any other a share of the layer's."""

    def __init__(self, channels: Channels, round_to: int, least: Least | None) -> None:
        self._round_to, self._least = round_to, dict[Space, int]()
        named = least if isinstance(least, Mapping) else {}
        for layer, value in named.items():
            space = channels.named(layer)
            if value > space.width:
                raise UsageError(f"least {value}: layer {layer} has {space.width} channels")
            self._least[space] = max(self._least.get(space, 1), _width(value, space))
        if least is not None and not isinstance(least, Mapping):
            self._least = {space: _width(least, space) for space in channels.spaces}

    def rounded(self, space: Space, width: int) -> int:
        """The smallest width that is allowed and not smaller than this one; that of the space, if there is none."""
        step = math.lcm(space.blocks, self._round_to)
        return min(-(-max(width, self._least.get(space, 1)) // step) * step, space.width)

    def check(self, space: Space, width: int) -> None:
        """Raise UsageError for a width that the space cannot have."""
        layer = f"layer {space.layers[0]}: width {width}"
        if width > space.width:
            raise UsageError(f"{layer} of {space.width} neurons")
        if width < self._least.get(space, 1):
            raise UsageError(f"{layer} is smaller than the least, {self._least[space]}")
        if self.rounded(space, width) != width:
            raise UsageError(f"{layer} is no multiple of {math.lcm(space.blocks, self._round_to)}")


def _width(value: float, space: Space) -> int:
    return min(value if isinstance(value, int) else math.ceil(value * space.width - 1e-9), space.width)
