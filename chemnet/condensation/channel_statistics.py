"""Statistics over channels that a forward takes by functions of tensors, as the mean in a normalisation of its own."""

from __future__ import annotations

from torch import nn


class Statistic(nn.Module):
    """The call of a function that is the `ordinal`-th of this name in a forward, over channels along an axis; without
    weights it follows these as a normalisation of several channels does."""

    def __init__(self, function: str, ordinal: int, axis: int, width: int) -> None:
        super().__init__()
        self.call, self.axis, self.num_features = (function, ordinal), axis, width
