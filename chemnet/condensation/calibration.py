"""Inputs of the layers and of the normalisations of a network for given calibration inputs."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from chemnet.condensation.called_layers import Watched
from chemnet.condensation.capture import evaluating, first_line
from chemnet.condensation.channels import Channels
from chemnet.condensation.columns import gathered
from chemnet.condensation.graph import Floats, Indices, Normalisation, Place, as_float64
from chemnet.condensation.inputs import Inputs, leaves
from chemnet.condensation.resuming import Resuming, Unfollowed
from chemnet.condensation.surgery import Surgery
from chemnet.condensation.vectors import parts_of
from chemnet.runtime.errors import NumericalError, UsageError

Moments = dict[str, list[torch.Tensor]]

_BLOCK = 100  # inputs of one call, at most
_AT_ONCE = 2**18  # numbers of a tensor that are made double at a time, about
_NUMBERS = 2**20  # of the inputs of one call, about: with large images activations take most of the memory


def received(
    model: nn.Module,
    channels: Channels,
    places: Sequence[Place],
    calibration: Inputs,
    count: int = 8192,
    *,
    is_whole: bool = False,
    resuming: Resuming | None = None,
) -> dict[Place, torch.Tensor]:
    """Sample (n, m) of the channels that a module reads, by place, over inputs and positions: about `count` rows, at
    least one of each input, in float64 where the model computes in it, otherwise in float32.

    The model is run as far as the last of these modules, or as a `whole`, and may be `resuming`. The positions are
    drawn by the module's name, so that samples of two models belong together row by row. Raises NumericalError where
    they are not finite.
    """
    if not places:
        return {}
    modules = parts_of(model)
    blocks = -(-calibration.count // _block(calibration))
    found = {place: _Gathered(blocks) for place in places}
    seeds = {place: torch.Generator().manual_seed(zlib.crc32(place.module.encode())) for place in places}

    def keep(place: Place, module: nn.Module, x: torch.Tensor) -> None:
        x, table = _by_position(x.detach(), isinstance(module, nn.Linear)), channels.columns_of(place)
        every = x[..., 0].numel() * table.shape[1]
        wanted = min(every, max(-(-count // blocks), len(x)))
        chosen = torch.randperm(every, generator=seeds[place])[:wanted].to(x.device)
        kept = _rows(x, table, chosen).cpu()
        found[place].add(kept if kept.dtype == torch.float64 else kept.float())
        if not is_whole and len({rows.parts for rows in found.values()}) == 1:
            raise _Enough

    with Watched(model, [(modules[place.module], partial(keep, place)) for place in places]):
        run(model, calibration, resuming)
    result = {place: rows.whole() for place, rows in found.items()}
    for place, rows in result.items():
        if not torch.isfinite(rows).all():
            raise NumericalError(f"the input of {place.module} for the calibration inputs is not all finite")
    return result


class _Gathered:
    """Rows (n, m) that come in so many parts of about the same number, in one tensor, as many small ones would leave
    holes in the memory when they are joined."""

    def __init__(self, parts: int) -> None:
        self.parts, self._expected, self._count = 0, parts, 0
        self._rows = torch.empty(0, 0)

    def add(self, rows: torch.Tensor) -> None:
        """Add a part."""
        first, end = self._count, self._count + len(rows)
        if end > len(self._rows):  # memory that is not written to is not taken
            larger = rows.new_empty(max(end, 2 * first, self._expected * len(rows)), rows.shape[1])
            if first:
                larger[:first] = self._rows[:first]
            self._rows = larger
        self._rows[first:end] = rows
        self._count, self.parts = end, self.parts + 1

    def whole(self) -> torch.Tensor:
        """All rows."""
        return self._rows[: self._count]


def constants(model: nn.Module, channels: Channels, places: Sequence[Place], example: Inputs) -> dict[Place, Floats]:
    """Values (m,) of the channels that are the same at all positions of all examples, by place; nan for the others."""
    modules, found = parts_of(model), dict[Place, Floats]()

    def keep(place: Place, module: nn.Module, x: torch.Tensor) -> None:
        x, table = _by_position(x, isinstance(module, nn.Linear)), channels.columns_of(place)
        every = torch.arange(x[..., 0].numel() * table.shape[1], device=x.device)
        rows = as_float64(_rows(x, table, every))
        found[place] = np.where((rows == rows[0]).all(axis=0), rows[0], np.nan)

    with Watched(model, [(modules[place.module], partial(keep, place)) for place in places]), evaluating(model):
        example.map(torch.clone)(model)
    return found


def output_change(before: nn.Module, after: nn.Module, inputs: Any) -> float:
    """Mean absolute difference of two models' outputs for some inputs, relative to the first's mean [-]."""
    given = Inputs.of(inputs, before)
    outputs: tuple[list[Floats], list[Floats]] = [], []
    for model, found in zip((before, after), outputs, strict=True):
        run(model, given, outputs=found)
    expected, got = (np.concatenate([each.ravel() for each in found]) for found in outputs)
    return float(np.abs(got - expected).mean() / max(np.abs(expected).mean(), np.finfo(float).tiny))


@contextmanager
def measuring(model: nn.Module) -> Iterator[Moments]:
    """Context in which a run notes mean and mean square (2, m) of the input of every normalisation, for each block of
    calibration inputs."""
    found: Moments = {}

    def watch(name: str, module: nn.Module, x: torch.Tensor) -> None:
        found.setdefault(name, []).append(_moments(x))

    with Watched(model, [(module, partial(watch, name)) for name, module in normalisations(model).items()]):
        yield found


@contextmanager
def correcting(surgery: Surgery, original: nn.Module, before: Moments) -> Iterator[None]:
    """Context in which a run corrects the statistics of the normalisations for the change of their inputs, in place.

    The means move by the difference, and the variances by the ratio, of the moments of the two networks on the same
    calibration inputs (`before` are those of the original): where merging has changed nothing, nothing moves, and few
    inputs are enough. Every normalisation receives inputs that those before it have normalised by their corrected
    statistics. Those that a run does not come to keep theirs.
    """
    norms, originals = normalisations(surgery.model), normalisations(original)
    norms = {name: module for name, module in norms.items() if name not in surgery.rewritten}
    left = {name: torch.from_numpy(surgery.survivors[name]) for name in norms}
    now: Moments = {}

    def move(name: str, then: torch.Tensor, seen: torch.Tensor) -> None:
        mean, variance = _moved(originals[name], left[name], then, seen)
        norms[name].running_mean.copy_(mean)
        norms[name].running_var.copy_(variance)

    def watch(name: str, module: nn.Module, x: torch.Tensor) -> None:
        seen = now.setdefault(name, [])
        seen.append(_moments(x))
        move(name, before[name][len(seen) - 1], seen[-1])

    with Watched(surgery.model, [(module, partial(watch, name)) for name, module in norms.items()]):
        yield
    for name, seen in now.items():
        move(name, torch.stack(before[name]).mean(0), torch.stack(seen).mean(0))


def _moved(
    norm: nn.Module, left: torch.Tensor, before: torch.Tensor, now: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance of the channels `left` of a normalisation, whose inputs have changed."""
    old, new = _variance(before)[left], _variance(now)
    tiny = torch.finfo(torch.float32).tiny
    ratio = torch.where(old > tiny, new / old.clamp(min=tiny), torch.ones_like(new))
    mean, variance = (tensor.detach().cpu().double()[left] for tensor in (norm.running_mean, norm.running_var))
    return mean + now[0] - before[0][left], variance * ratio


def _moments(x: torch.Tensor) -> torch.Tensor:
    """Mean and mean square (2, m) in double precision, of some numbers at a time, which stay in the cache."""
    axes = [axis for axis in range(x.ndim) if axis != 1]
    sums = x.new_zeros(2, x.shape[1], dtype=torch.float64)
    for some in x.detach().split(max(1, _AT_ONCE * len(x) // max(x.numel(), 1))):
        numbers = some.double()
        sums[0] += numbers.sum(axes)
        sums[1] += numbers.square().sum(axes)
    return (sums * (x.shape[1] / x.numel())).cpu()


def _variance(of: torch.Tensor) -> torch.Tensor:
    return (of[1] - of[0] ** 2).clamp(min=0.0)


def normalisations(model: nn.Module) -> dict[str, nn.Module]:
    """Normalisations that keep running statistics, by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, Normalisation) and module.running_mean is not None
    }


def _by_position(x: torch.Tensor, is_linear: bool) -> torch.Tensor:
    """The input of a module with its channels behind."""
    return x if is_linear else x.movedim(1, -1)


def _rows(x: torch.Tensor, table: Indices, chosen: torch.Tensor) -> torch.Tensor:
    """Rows (n, m), by their numbers, of channels that lie in columns (m, r) of each position: one of each position and
    place among the columns of a channel; zeros for what is not read."""
    count = table.shape[1]
    some = x[torch.unravel_index(chosen // count, x.shape[:-1])]
    mine = gathered(some.T, table)  # (m, r, n)
    return mine[:, chosen % count, torch.arange(len(chosen), device=x.device)].T


def run(
    model: nn.Module, inputs: Inputs, resuming: Resuming | None = None, outputs: list[Floats] | None = None
) -> None:
    """Run a model in use on calibration inputs, in blocks of about the same size, perhaps `resuming` it; its outputs
    are appended to a list, if there is one.

    Raises UsageError if it does not take the inputs.
    """
    count = -(-inputs.count // _block(inputs))
    with evaluating(model):
        for number, block in enumerate(inputs.blocks(_block(inputs))):
            given = block.like(model).map(torch.clone)
            try:
                if resuming is not None:
                    resuming(model, given, number, count)
                elif outputs is None:
                    given(model)
                else:
                    outputs += [as_float64(x) for x in leaves(given(model))]
            except _Enough:
                pass
            except Exception as error:  # whatever the model's own code raises
                if resuming is not None:
                    raise Unfollowed from None
                raise UsageError(
                    f"{type(model).__name__} does not take calibration inputs of shape {inputs.shapes}\n"
                    f"{first_line(error)}"
                ) from None
            if resuming is not None:
                resuming.end()


def _block(inputs: Inputs) -> int:
    """Number of inputs of one call."""
    return inputs.room(_BLOCK, _NUMBERS)


class _Enough(Exception):
    """All samples of this block of inputs are complete."""
