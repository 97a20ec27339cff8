"""Check of a condensed model before it is given back.

What a cut promises is known without the cut: in the original model, at its original widths, every reader gets what the
channels that stay make of those that go (`_predicted`). The condensed model has to give the same outputs, in use and in
training, on the example and on other inputs; where all that was merged is equal, those of the original model, too; and
it has to come out of a file as it went in. Code that reads a width, a hook, a head for training alone, a tensor that is
known under two names: whatever is wrong about the trace or about the surgery is seen here.

How much two outputs may differ is measured as well: by how much they move with all weights of the one or the other
network in their last place.
"""

from __future__ import annotations

import copy
import io
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from chemnet.condensation.called_layers import After, Before, Watched
from chemnet.condensation.capture import duplicate, first_line
from chemnet.condensation.channels import Channels
from chemnet.condensation.cutting import Condensation
from chemnet.condensation.graph import Follower, Indices, Normalisation, Place, Space, Transposed, is_depthwise
from chemnet.condensation.inputs import Inputs, drawn, leaves
from chemnet.condensation.prediction import Substitution, over_some
from chemnet.condensation.surgery import Cut, Surgery, resize
from chemnet.condensation.vectors import parts_of

_INPUTS = 16
_TIMES = 8.0  # the change by the last place of all weights
_SIGNS = 65537  # up or down, which are drawn at random and repeated; a prime, so that the rows of a weight differ
_LEAST, _MOST = 8.0, 1e-4  # of the size of the outputs: in the last place, and the share that is no rounding any more


def faults(work: Condensation) -> dict[str, str]:
    """Layers with which a condensed model does not do what it should, each with the reason; none if all is well.

    They are found by cutting the cuts in halves: those of a half that is in order are in order; where both halves of
    some are, it is the last of these, until those before it are.
    """
    checks = _Checks(work)
    reason = checks.of(work.result, work.cuts, work.surgery)
    return {} if reason is None else _among(work, checks, work.cuts, reason)


def _among(work: Condensation, checks: _Checks, cuts: Sequence[Cut], reason: str) -> dict[str, str]:
    """The faults among cuts that are not in order for a reason."""
    found: dict[str, str] = {}
    middle = len(cuts) // 2
    for half in (cuts[:middle], cuts[middle:]) if middle else ():
        model, surgery = _with(work, half)
        fault = checks.of(model, half, surgery)
        if fault is not None:
            found |= _among(work, checks, half, fault)
    return found or {work.channels_before.spaces[cuts[-1].number].layers[0]: reason}


def _with(work: Condensation, cuts: Sequence[Cut]) -> tuple[nn.Module, Surgery]:
    """The original model with some of the cuts."""
    model, channels = duplicate(work.original), copy.deepcopy(work.channels_before)
    surgery = Surgery(model, channels)
    for cut in cuts:
        cut.apply(surgery, channels.spaces[cut.number])
    return model, surgery


class _Checks:
    """The checks of one condensation."""

    def __init__(self, work: Condensation) -> None:
        self._original, self._channels, self._is_exact = work.original, work.channels_before, work.is_exact
        self._inputs = [work.example.some(_INPUTS)]
        if work.calibration is not None:
            self._inputs.append(work.calibration.some(_INPUTS))
        else:
            self._inputs.append(drawn(work.example, work.original, work.example.room(_INPUTS)))
        self._inputs = [inputs.like(work.original) for inputs in self._inputs]

    def of(self, result: nn.Module, cuts: Sequence[Cut], surgery: Surgery) -> str | None:
        """Why a result is not what it should be; None if it is."""
        if not cuts:
            return None
        fault = self._merged(result, cuts, surgery)
        if fault is None and self._is_exact:
            fault = self._compared(self._original, result, training=False, than="those of the original")
        return fault or self._read_again(result)

    def _merged(self, result: nn.Module, cuts: Sequence[Cut], surgery: Surgery) -> str | None:
        """In use and in training."""
        expected = _predicted(self._original, self._channels, cuts, surgery)
        try:
            return self._compared(expected, result, training=False) or self._compared(expected, result, training=True)
        finally:
            del expected.forward  # which holds the model: its weights need not wait for the garbage collection

    def _compared(
        self, expected: nn.Module, got: nn.Module, *, training: bool, than: str = "what merging predicts"
    ) -> str | None:
        for inputs in self._inputs:
            fault = _difference(expected, got, inputs, training=training, than=than)
            if fault is not None:
                return f"{fault} in training" if training else fault
        return None

    def _read_again(self, result: nn.Module) -> str | None:
        """Saved and read again, by `resize` from the class and the weights, and as a whole if the original can be."""
        try:
            rebuilt = resize(duplicate(self._original), result.state_dict())
        except Exception as error:  # whatever the model's own code raises
            return f"the network cannot be built again from its weights: {' '.join(str(error).splitlines()[-1:])}"
        fault = self._compared(result, rebuilt, training=False)
        if fault is None and not _can_be_saved(result) and _can_be_saved(self._original):
            fault = "the network cannot be saved as a whole any more"
        return fault


def _can_be_saved(model: nn.Module) -> bool:
    """Whether a model can be saved as a whole, and read again."""
    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.save(model, buffer)
            buffer.seek(0)
            torch.load(buffer, weights_only=False)
    except Exception:  # whatever the model's own code raises
        return False
    return True


# ---- what merging predicts


def _predicted(original: nn.Module, channels: Channels, cuts: Sequence[Cut], surgery: Surgery) -> nn.Module:
    """The original model, in which every reader of a cut space gets what its share makes of the channels that stay;
    its normalisations have the statistics of the condensed model."""
    model = duplicate(original)
    modules, results = parts_of(model), parts_of(surgery.model)
    after = list[tuple[nn.Module, After]]()
    over = [(each, surgery.survivors[name]) for name, each in channels.statistics.items()]
    for name, left in surgery.survivors.items():
        if name in channels.statistics:
            continue
        if not isinstance(modules[name], Normalisation):
            after.append((modules[name], over_some(left)))
        elif modules[name].running_mean is not None:
            for key in ("running_mean", "running_var"):
                getattr(modules[name], key)[torch.from_numpy(left)] = getattr(results[name], key).detach()
    before = list[tuple[nn.Module, Before]]()
    _transplant(modules, results, channels, [cut for cut in cuts if cut.by_place is None])
    for cut in cuts:
        space = channels.spaces[cut.number]
        if cut.by_place is None:
            continue
        for place, (share, shift) in zip(space.consumers, cut.by_place, strict=True):
            takes_up = shift is not None and results[place.module].bias is not None
            substitution = Substitution(channels, place, share, cut.kept, shift if takes_up else None)
            before.append((modules[place.module], substitution))
    model.forward = _under(Watched(model, before, after, over), model.forward)
    return model


def _under(context: Watched, forward: Callable[..., Any]) -> Callable[..., Any]:
    """A forward in a context."""

    def instead(*args: Any, **kwargs: Any) -> Any:
        with context:
            return forward(*args, **kwargs)

    return instead


def _transplant(
    modules: dict[str, nn.Module], results: dict[str, nn.Module], channels: Channels, cuts: Sequence[Cut]
) -> None:
    """The new weights of rules of their own in the original modules; channels that go are not read."""
    kept = {channels.spaces[cut.number]: cut.kept for cut in cuts}
    rows = {name: channels.rows_of(name)[left].ravel() for space, left in kept.items() for name in space.layers}
    touched = {place.module for space in kept for place in (*space.followers, *space.consumers)}.union(rows)
    with torch.no_grad():
        for name in touched:
            module, result = modules[name], results[name]
            if isinstance(module, Follower) or is_depthwise(module):
                left = _columns_left(channels, name, kept, len(module.weight))
                _put(module, "weight", result, left)
                _put(module, "bias", result, left)
                continue
            axis = 1 if isinstance(module, Transposed) else 0
            weight, new = (each.weight.transpose(0, axis) for each in (module, result))
            made = rows.get(name, np.arange(len(weight)))
            _put(module, "bias", result, made)
            weight.zero_()
            left = _columns_left(channels, name, kept, weight.shape[1])
            weight[torch.from_numpy(made)[:, None], torch.from_numpy(left)] = new


def _put(module: nn.Module, key: str, result: nn.Module, places: Indices) -> None:
    tensor = getattr(module, key, None)
    if tensor is not None:
        tensor[torch.from_numpy(places)] = getattr(result, key)


def _columns_left(channels: Channels, name: str, kept: Mapping[Space, Indices], count: int) -> Indices:
    """Columns of the `count` of a module's input that are left of it."""
    stays = np.ones(count, dtype=bool)
    for number, segment in enumerate(channels.inputs[name]):
        space = None if segment.space is None else channels.spaces[segment.space]
        if space is not None and space in kept:
            gone = np.delete(channels.columns_of(Place(name, number)), kept[space], axis=0)
            stays[gone[gone >= 0]] = False
    return np.flatnonzero(stays)


# ---- comparison of two models


class _WithoutDropout(TorchFunctionMode):
    """Dropout does nothing: what it drops depends on the widths."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "scaled_dot_product_attention":
            kwargs = {**kwargs, "dropout_p": 0.0}
        elif "dropout" in name and (args or "input" in kwargs):
            x = args[0] if args else kwargs["input"]
            return x.clone() if not name.endswith("_") else x
        return func(*args, **kwargs)


@contextmanager
def _tried(model: nn.Module, *, training: bool) -> Iterator[None]:
    """A model in use or in training, without gradients, dropout, warnings, and a trace in torch's random numbers."""
    modes = {module: module.training for module in model.modules()}
    model.train(training)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), warnings.catch_warnings(), _WithoutDropout():
            warnings.simplefilter("ignore")
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _outputs(model: nn.Module, inputs: Inputs, *, training: bool, seed: int = 0) -> list[torch.Tensor]:
    """All tensors that a model gives; buffers that it changes get their values back."""
    kept = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        with _tried(model, training=training):
            torch.manual_seed(seed)
            return [x.detach().clone() for x in leaves(inputs.map(torch.clone)(model))]
    finally:
        for buffer, value in kept:
            buffer.copy_(value)


def _difference(expected: nn.Module, got: nn.Module, inputs: Inputs, *, training: bool, than: str) -> str | None:
    """How the outputs of two models differ beyond rounding; None if they do not, or if the first gives none."""
    try:
        wanted = _outputs(expected, inputs, training=training)
    except Exception:  # the original does not take these inputs, as a BatchNorm in training does not take a single one
        return None
    try:
        given = _outputs(got, inputs, training=training)
    except Exception as error:  # whatever the model's own code raises
        return f"the network does not run: {first_line(error)}"
    if [x.shape for x in wanted] != [x.shape for x in given]:
        return "the outputs of the network have other shapes"
    if all(torch.equal(a, b) for a, b in zip(wanted, given, strict=True)):
        return None
    wanted_moved, given_moved = (_moved(model, inputs, training=training) for model in (expected, got))
    eps = torch.finfo(next(expected.parameters()).dtype).eps
    most = math.inf if training else max(_MOST, 64.0 * eps)  # statistics of a few inputs may make much of rounding
    worst = max(_excess(*each, eps, most) for each in zip(wanted, given, wanted_moved, given_moved, strict=True))
    if worst <= 0.0 or (training and _is_random(expected, inputs, wanted, eps)):
        return None
    return f"the outputs of the network differ from {than}, by {100.0 * worst:.2g} %"


def _excess(
    wanted: torch.Tensor,
    given: torch.Tensor,
    wanted_moved: torch.Tensor,
    given_moved: torch.Tensor,
    eps: float,
    most: float,
) -> float:
    """Relative root mean square difference of two outputs, 0 where it is rounding: as much as the network moves that
    moves more with its weights in their last place; merged weights may be large and cancel each other."""
    a, b, *moved = (x.double().flatten() for x in (wanted, given, wanted_moved, given_moved))
    finite = a.isfinite()
    if not torch.equal(finite, b.isfinite()):
        return float("inf")
    size, change = _rms(a[finite]), _rms((b - a)[finite])
    by_rounding = max(
        _rms(torch.where(finite & c.isfinite(), c - x, 0.0)[finite]) for x, c in zip((a, b), moved, strict=True)
    )
    allowed = min(_TIMES * by_rounding, most * size) + _LEAST * eps * size
    return change / size if change > allowed else 0.0


def _rms(x: torch.Tensor) -> float:
    return float(x.square().mean().sqrt()) if x.numel() else 0.0


def _is_random(model: nn.Module, inputs: Inputs, first: Sequence[torch.Tensor], eps: float) -> bool:
    """Whether a model draws random numbers, other than to drop channels."""
    again = _outputs(model, inputs, training=True, seed=1)
    return any(_excess(a, b, a, b, eps, _MOST) > 0.0 for a, b in zip(first, again, strict=True))


def _moved(model: nn.Module, inputs: Inputs, *, training: bool) -> list[torch.Tensor]:
    """All tensors that a model gives whose weights are changed in their last place, up or down at random."""
    some = 2.0 * torch.randint(2, (_SIGNS,), generator=torch.Generator().manual_seed(0)) - 1.0
    kept = [(weight, weight.detach().clone()) for weight in model.parameters() if weight.is_floating_point()]
    try:
        with torch.no_grad():
            for weight, value in kept:
                signs = some.to(weight).repeat(-(-weight.numel() // _SIGNS))[: weight.numel()].reshape(weight.shape)
                weight.add_(value.abs().mul_(signs).mul_(torch.finfo(weight.dtype).eps))
        return _outputs(model, inputs, training=training)
    finally:
        with torch.no_grad():
            for weight, value in kept:
                weight.copy_(value)
