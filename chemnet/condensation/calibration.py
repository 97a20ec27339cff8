"""Calibration: samples of what the layers of a network receive, and statistics of its normalisations."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from chemnet.condensation.channels import Channels
from chemnet.condensation.graph import Floats, Normalisation, Place, as_float64
from chemnet.condensation.surgery import Surgery
from chemnet.condensation.tracing import evaluating
from chemnet.runtime.errors import NumericalError, UsageError

Moments = dict[str, list[torch.Tensor]]

_BLOCK = 100  # inputs of one call
_ROWS = 8192  # rows of a sample, about


def received(
    model: nn.Module, channels: Channels, places: Sequence[Place], calibration: torch.Tensor
) -> dict[Place, torch.Tensor]:
    """For every place a sample (n, m) of the channels that the module reads there, over inputs and positions: at least
    one row of each input, in float64 where the model computes in it, otherwise in float32.

    The positions are drawn by the module's name, so that samples of two models belong together row by row. Raises
    NumericalError where they are not finite.
    """
    if not places:
        return {}
    parts: dict[Place, list[torch.Tensor]] = {place: [] for place in places}
    modules = dict(model.named_modules())
    blocks = _blocks(calibration)

    def keep(place: Place) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        generator = torch.Generator().manual_seed(zlib.crc32(place.module.encode()))

        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            rows = _rows(inputs[0].detach(), channels, place, isinstance(module, nn.Linear))
            wanted = min(len(rows), max(-(-_ROWS // blocks), len(inputs[0])))
            chosen = torch.randperm(len(rows), generator=generator)[:wanted]
            kept = rows[chosen.to(rows.device)].cpu()
            parts[place].append(kept if kept.dtype == torch.float64 else kept.float())
            if len({len(rows) for rows in parts.values()}) == 1:
                raise _Enough

        return hook

    hooks = [modules[place.module].register_forward_pre_hook(keep(place)) for place in places]
    with removed(hooks):
        _run(model, calibration)
    result = {place: torch.cat(rows) for place, rows in parts.items()}
    for place, rows in result.items():
        if not torch.isfinite(rows).all():
            raise NumericalError(f"what {place.module} receives of the calibration inputs is not all finite")
    return result


def constants(model: nn.Module, channels: Channels, places: Sequence[Place], example_input: Any) -> dict[Place, Floats]:
    """For every place the value (m,) that each channel has at all positions of all examples; nan where they differ."""
    modules, found = dict(model.named_modules()), dict[Place, Floats]()

    def keep(place: Place) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            rows = as_float64(_rows(inputs[0], channels, place, isinstance(module, nn.Linear)))
            found[place] = np.where((rows == rows[0]).all(axis=0), rows[0], np.nan)

        return hook

    hooks = [modules[place.module].register_forward_pre_hook(keep(place)) for place in places]
    with removed(hooks), evaluating(model):
        model(*(example_input if isinstance(example_input, tuple | list) else (example_input,)))
    return found


def output_change(before: nn.Module, after: nn.Module, x: torch.Tensor) -> float:
    """Mean absolute difference of two models' outputs for inputs x (n, ...), relative to the first's mean [-]."""
    expected, got = (np.concatenate(_run(model, x)) for model in (before, after))
    return float(np.abs(got - expected).mean() / max(np.abs(expected).mean(), np.finfo(float).tiny))


def moments(model: nn.Module, calibration: torch.Tensor) -> Moments:
    """Mean and mean square (2, m) of what every normalisation receives of each block of calibration inputs."""
    found: Moments = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            found.setdefault(name, []).append(_moments(inputs[0]))

        return hook

    hooks = [module.register_forward_pre_hook(watch(name)) for name, module in _normalisations(model).items()]
    if hooks:
        with removed(hooks):
            _run(model, calibration)
    return found


def move_statistics(surgery: Surgery, original: nn.Module, before: Moments, calibration: torch.Tensor) -> None:
    """Estimate the statistics of every normalisation anew (in place), as what the calibration inputs say they changed.

    The means move by the difference, and the variances by the ratio, of what the two networks show on the same inputs
    (`before` are the `moments` of the original): where merging has changed nothing, nothing moves, and few inputs are
    enough. Every normalisation already sees inputs that those before it have normalised by their moved statistics.
    """
    norms, originals = _normalisations(surgery.model), _normalisations(original)
    norms = {name: module for name, module in norms.items() if name not in surgery.rewritten}
    now: Moments = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[Any, ...], torch.Tensor], torch.Tensor]:
        left = torch.from_numpy(surgery.survivors[name])

        def hook(module: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
            x = inputs[0]
            seen = now.setdefault(name, [])
            seen.append(_moments(x))
            mean, variance = _moved(originals[name], left, before[name][len(seen) - 1], seen[-1])
            return F.batch_norm(x, mean.to(x), variance.to(x), module.weight, module.bias, eps=module.eps)

        return hook

    if norms:
        with removed([module.register_forward_hook(watch(name)) for name, module in norms.items()]):
            _run(surgery.model, calibration)
    for name, seen in now.items():
        left = torch.from_numpy(surgery.survivors[name])
        every = torch.stack(before[name]).mean(0), torch.stack(seen).mean(0)
        mean, variance = _moved(originals[name], left, *every)
        norms[name].running_mean.copy_(mean)
        norms[name].running_var.copy_(variance)


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
    x = x.detach().double()
    axes = [axis for axis in range(x.ndim) if axis != 1]
    return torch.stack([x.mean(axes), x.square().mean(axes)]).cpu()


def _variance(of: torch.Tensor) -> torch.Tensor:
    return (of[1] - of[0] ** 2).clamp(min=0.0)


def _normalisations(model: nn.Module) -> dict[str, nn.Module]:
    """Normalisations that keep running statistics, by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, Normalisation) and module.running_mean is not None
    }


def _rows(x: torch.Tensor, channels: Channels, place: Place, is_linear: bool) -> torch.Tensor:
    """The input of a module as rows (n, m) of the channels of one segment."""
    start, repeats = channels.offset(place), channels.repeats(place)
    width = channels.width_of(channels.inputs[place.module][place.segment])
    x = x if is_linear else x.movedim(1, -1)
    mine = x[..., start : start + width * repeats]
    return mine.reshape(-1, width, repeats).transpose(1, 2).reshape(-1, width)


def _blocks(inputs: torch.Tensor) -> int:
    return -(-len(inputs) // _BLOCK)


def _run(model: nn.Module, inputs: torch.Tensor) -> list[Floats]:
    """Outputs of a model on the inputs, in blocks of about the same size, of those that were not cut short.

    Raises UsageError if it does not take them.
    """
    outputs = []
    weight = next(model.parameters(), inputs)
    dtype = weight.dtype if inputs.is_floating_point() else inputs.dtype
    with evaluating(model):
        for block in inputs.tensor_split(_blocks(inputs)):
            try:
                output = model(block.to(weight.device, dtype))
            except _Enough:
                continue
            except Exception as error:  # whatever the model's own code raises
                reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
                raise UsageError(
                    f"{type(model).__name__} does not take calibration inputs of shape {tuple(inputs.shape)}\n{reason}"
                ) from None
            outputs += [as_float64(output)] if isinstance(output, torch.Tensor) else []
    return outputs


class _Enough(Exception):
    """End of a block of inputs: all of its samples are taken."""


@contextmanager
def removed(hooks: Sequence[torch.utils.hooks.RemovableHandle]) -> Iterator[None]:
    """Hooks that are gone afterwards."""
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
