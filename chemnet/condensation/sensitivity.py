"""Sensitivity of the outputs of a network to its channels: how much they change when one space is cut alone.

What the readers of a space lack does not say what the outputs lack: a skip connection has many readers, and the last
layers of a residual network hardly reach the outputs. So each space is cut alone, to some widths, and the outputs are
looked at. Li et al. (ICLR 2017, arXiv 1608.08710), section 3.2, divide a budget over the layers by the accuracy after
such cuts; here no labels are needed, and the readers have been fitted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from chemnet.condensation.called_layers import Hooks
from chemnet.condensation.capture import evaluating
from chemnet.condensation.graph import Floats, as_float64
from chemnet.condensation.inputs import Inputs, leaves
from chemnet.condensation.resuming import Resuming, Unfollowed

_INPUTS, _NUMBERS = 1024, 2**20  # of the calibration inputs that are used, at most and about
_SHARES = (0.75, 0.5, 0.25, 0.125, 0.0625)  # of the channels, at which the outputs are looked at
TIE = 1e-3  # weight of what the readers lack where the outputs do not tell
_LOST = 0.5  # change of the outputs from which on fewer channels are not tried


class Sensitivity:
    """Changes of the outputs of a model in use, by what is put into it, on some of the calibration inputs."""

    def __init__(self, model: nn.Module, calibration: Inputs) -> None:
        most = calibration.room(_INPUTS, _NUMBERS)
        spread = np.unique(np.linspace(0, calibration.count - 1, most).astype(np.int64))
        self._model, self._inputs = model, calibration.rows(torch.from_numpy(spread)).like(model)
        self._resuming: Resuming | None = Resuming()  # None once the model cannot be resumed
        self._before = self._outputs()

    def change(self, hooks: Hooks, touched: Iterable[torch.Tensor] | None = None) -> float:
        """Squared change of the outputs, relative to how much they vary over the inputs [-]: the mean of all outputs.

        `hooks` are the functions to be called before and after layers. What does not depend on the tensors `touched` by
        this cut, or by one that is tried later, is computed once; without them everything is, each time.
        """
        with hooks.watching(self._model):
            # statistics are known by the number of their call, and so by all calls
            after = None if touched is None or hooks.over else self._resumed(touched)
            after = self._outputs() if after is None else after
        changes = [_relative(*pair) for pair in zip(self._before, after, strict=True)]
        return float(np.mean(changes)) if changes else 0.0

    def _outputs(self, call: Callable[[nn.Module, Inputs], Any] = lambda model, inputs: inputs(model)) -> list[Floats]:
        """All outputs; random numbers are the same each time."""
        with torch.random.fork_rng(devices=[]), evaluating(self._model):
            torch.manual_seed(0)
            return [as_float64(x) for x in leaves(call(self._model, self._inputs.map(torch.clone)))]

    def _resumed(self, touched: Iterable[torch.Tensor]) -> list[Floats] | None:
        """The outputs, from where the last forward has got to that is the same; None if that cannot be known."""
        resuming = self._resuming
        if resuming is None:
            return None
        resuming.begin(touched, ())
        try:
            outputs = self._outputs(lambda model, inputs: resuming(model, inputs, 0, 1))
            resuming.end()
        except Unfollowed:
            self._resuming = None
            return None
        return outputs


def _relative(before: Floats, after: Floats) -> float:
    known = np.isfinite(before) & np.isfinite(after)
    centred = before - (np.where(known, before, 0.0).mean(axis=0) if before.ndim > 1 else 0.0)
    varying = float(np.square(centred[known]).sum())
    change = float(np.square((after - before)[known]).sum())
    return change / varying if change > 0.0 else 0.0


def tried(width: int, rounded: Callable[[int], int]) -> list[int]:
    """Widths at which to look, from many channels to few, without the whole width."""
    found = [rounded(max(round(share * width), 1)) for share in _SHARES]
    return sorted({each for each in found if each < width}, reverse=True)


def measured(widths: Iterable[int], change: Callable[[int], float]) -> dict[int, float]:
    """Changes of the outputs at widths that decrease, as far as it is worth knowing."""
    found = dict[int, float]()
    for width in widths:
        found[width] = change(width)
        if found[width] > _LOST:
            break
    return found


def by_width(left: Floats, changes: Mapping[int, float]) -> Floats:
    """Change of the outputs by number of channels (m + 1,), where it is known at a few widths.

    In between it is linear in `left` (m + 1,), the share of what the readers receive that the channels do not explain,
    and beyond proportional to it.
    """
    points = sorted((float(left[width]), change) for width, change in changes.items())
    lacks = np.array([0.0, *(lack for lack, _ in points)])
    change = np.maximum.accumulate([0.0, *(each for _, each in points)])
    curve: Floats = np.interp(left, lacks, change)
    beyond = left > lacks[-1]
    if lacks[-1] > 0.0:
        curve[beyond] = change[-1] * left[beyond] / lacks[-1]
    return curve
