"""Latency of a network: measured, and predicted at other widths from a table of each of its layers.

Three things are measured on the example, with as many threads as torch uses:

* the whole network, and the time from each layer or follower to the next one in it, activations and whatever else lies
  between them included, at several shares of all widths;
* each layer alone at all combinations of those widths, as it may read few channels and make many.

What a layer needs is interpolated in its own table, what follows it between the shares. Widths that fill the vectors of
the processor are faster than those a little smaller or larger: both kinds are measured and interpolated by themselves.
The network at the widths that are chosen is measured as a whole (`measured`), and they are chosen anew if it is slower
or faster than predicted.
"""

from __future__ import annotations

import copy
import itertools
import statistics
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from chemnet.condensation.budgets import Numbers
from chemnet.condensation.called_layers import Watched
from chemnet.condensation.capture import duplicate, evaluating
from chemnet.condensation.channels import Channels
from chemnet.condensation.graph import Floats, Follower, Space, Transposed, is_depthwise
from chemnet.condensation.inputs import Inputs
from chemnet.condensation.surgery import Surgery, resize

Key = TypeVar("Key", bound=Hashable)
Clock = Callable[[], float]

_SHARES = (1.0, 0.6, 0.25, 0.05)
_VECTOR = 64  # bytes that the widest instructions take at once
_AT_LEAST = 0.05  # [s]; short calls are repeated in a turn until they take this long
_TURNS, _REPEATS = 5, 3
_LEAD = "before the first module"
_LAYER_AT_LEAST = 1e-3  # [s], the same for a layer alone


def latencies(calls: Mapping[Key, Callable[[], object]], turns: int = 7, device: str = "cpu") -> dict[Key, float]:
    """Latency [s] of each of some calls: the median of `turns`, which they take after one another, so that what
    disturbs them hits all. With one thread the processor's time counts, which other programs take nothing of."""
    clock = clock_of(device)
    repeats = {key: max(1, round(_AT_LEAST / _mean_time(call, clock, 2))) for key, call in calls.items()}
    times: dict[Key, list[float]] = {key: [] for key in calls}
    for _ in range(turns):
        for key, call in calls.items():
            times[key].append(_mean_time(call, clock, repeats[key]))
    return {key: statistics.median(values) for key, values in times.items()}


def clock_of(device: str) -> Clock:
    """Clock [s] for what a device does, whose queue is waited for: of this thread, if torch computes in it alone."""
    if device == "cuda":
        return _after_the_queue
    return time.thread_time if torch.get_num_threads() == 1 else time.perf_counter


def _after_the_queue() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()


def _mean_time(call: Callable[[], object], clock: Clock, repeats: int = 1) -> float:
    """Mean time of a call [s]."""
    start = clock()
    for _ in range(repeats):
        call()
    return (clock() - start) / repeats


class Latency:
    """Time of a call on an example [s], at its widths and predicted at others."""

    unit = "latency"

    def __init__(self, model: nn.Module, channels: Channels, example: Inputs) -> None:
        example, clock = example.like(model), clock_of(next(model.parameters()).device.type)
        self._model, self._channels, self._example = model, channels, example
        runs = [_Run(*narrowed, clock) for narrowed in _narrowed(model, channels)]
        for _ in range(_TURNS):
            for run in runs:
                run.turn(example)
        self.whole = runs[0].whole
        self._follows: dict[str, Floats] = {}  # by the number of channels
        self._alone: dict[str, _Table] = {}
        modules, vector = dict(model.named_modules()), vector_of(model)
        for name in channels.inputs.keys() & runs[0].given.keys():
            widths = [run.widths(name) for run in runs]
            if all(each == widths[0] for each in widths):
                continue  # it cannot be cut
            times = np.array([run.of(name) for run in runs])
            if not isinstance(modules[name], Follower) and not is_depthwise(modules[name]):
                layer = _Layer(modules[name], runs[0].given[name], clock)
                table = _Table(layer, widths, vector, most=times[0])
                times = np.maximum(times - [table(*each) for each in widths], 0.0)
                self._alone[name] = table
            self._follows[name] = _interpolated([made for _, made in widths], times, vector)

    def of(self, name: str, read: Numbers, made: Numbers) -> Any:
        """Time of a module and of what lies between it and the next one; 0 of one that cannot be cut."""
        if name not in self._follows:
            return 0.0
        alone = self._alone[name](read, made) if name in self._alone else 0.0
        return alone + self._follows[name][made]

    def measured(self, widths: Mapping[int, int]) -> float:
        """Time of a call at these widths of some spaces: their share of that of the whole, which is measured again."""
        narrow, _ = _cut_to(self._model, self._channels, widths)
        models = {"whole": self._model, "narrow": narrow}
        with evaluating(self._model), evaluating(narrow):
            calls = {name: partial(self._example, model) for name, model in models.items()}
            found = latencies(calls, device=next(narrow.parameters()).device.type)
        return self.whole * found["narrow"] / found["whole"]


def vector_of(model: nn.Module) -> int:
    """Numbers of the model's type in a vector of the processor."""
    return _VECTOR // next(model.parameters()).element_size()


# ---- the whole network at several widths


def _narrowed(model: nn.Module, channels: Channels) -> Iterator[tuple[nn.Module, Channels]]:
    """A model as it is, and copies with shares of the channels of each space, in full vectors and not."""
    yield model, channels
    spaces = {number: space for number, space in enumerate(channels.spaces) if space.reason is None}
    for share in _SHARES:
        for fills in (True, False):
            widths = {number: _near(share, space, vector_of(model), fills=fills) for number, space in spaces.items()}
            yield _cut_to(model, channels, widths)


def _cut_to(model: nn.Module, channels: Channels, widths: Mapping[int, int]) -> tuple[nn.Module, Channels]:
    """A copy of a model with the first channels of some spaces, which are given by their numbers."""
    surgery = Surgery(duplicate(model), copy.deepcopy(channels))
    for number, width in widths.items():
        space = surgery.channels.spaces[number]
        if width < space.width:
            _narrow(surgery, space, width)
    return surgery.model, surgery.channels


def _near(share: float, space: Space, vector: int, *, fills: bool) -> int:
    """The width of about a share of a space that fills vectors or does not, if there is one."""
    step, wanted = space.blocks, share * space.width
    possible = [width for width in range(step, space.width + 1, step) if (width % vector == 0) is fills]
    return min(possible, key=lambda width: abs(width - wanted)) if possible else step * max(1, round(wanted / step))


def _narrow(surgery: Surgery, space: Space, width: int) -> None:
    """Keep the first channels of every block of a space, with their weights."""
    m, k = space.width // space.blocks, width // space.blocks
    kept = np.concatenate([np.arange(block * m, block * m + k) for block in range(space.blocks)])
    surgery.cut(space, kept, dict.fromkeys(space.consumers, np.eye(space.width)[:, kept]), {})


class _Run:
    """Times of a network on an example: of the whole, and of each module until the next begins; the shortest count.

    `given` are the inputs of the modules, without their numbers.
    """

    def __init__(self, model: nn.Module, channels: Channels, clock: Clock) -> None:
        self.whole, self.given, self._seconds = np.inf, dict[str, _Given](), dict[str, float]()
        self._model, self._channels, self._clock = model, channels, clock
        self._modules = dict(model.named_modules())

    def widths(self, name: str) -> tuple[int, int]:
        """Channels that a module reads and makes."""
        read = self._channels.read(name, {})
        return read, self._channels.made(name, {}) if name in self._channels.rows else read

    def of(self, name: str) -> float:
        """Time of a module until the next begins [s], so that those of all make the whole."""
        return self._seconds[name] * self.whole / sum(self._seconds.values())

    def turn(self, example: Inputs) -> None:
        """Measure once, without and with a look at the modules."""
        stamps: list[tuple[str, float]] = []

        def stamp(name: str, module: nn.Module, x: torch.Tensor) -> None:
            self.given.setdefault(name, _Given.of(x))
            stamps.append((name, self._clock()))

        watched = [(m, partial(stamp, name)) for name, m in self._modules.items() if name in self._channels.inputs]

        with evaluating(self._model):
            if not self.given:
                example(self._model)  # what is made at the first call
            plain = _mean_time(lambda: example(self._model), self._clock)
            with Watched(self._model, watched):
                start = self._clock()
                example(self._model)
                end = self._clock()
        self.whole = min(self.whole, plain)
        begins, seconds = [(_LEAD, start), *stamps], dict[str, float]()
        for (name, begin), (_, until) in itertools.pairwise([*begins, ("", end)]):
            seconds[name] = seconds.get(name, 0.0) + until - begin
        for name, value in seconds.items():
            self._seconds[name] = min(self._seconds.get(name, np.inf), value)


# ---- a layer alone


@dataclass(frozen=True)
class _Given:
    """Shape, type and order in memory of the input of a module."""

    shape: Sequence[int]
    dtype: torch.dtype
    device: torch.device
    is_last: bool

    @classmethod
    def of(cls, x: torch.Tensor) -> _Given:
        is_last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
        return cls(tuple(x.shape), x.dtype, x.device, is_last)


class _Layer:
    """A layer with its input, at other widths."""

    def __init__(self, module: nn.Module, given: _Given, clock: Clock) -> None:
        self._module, self._given, self._clock = module, given, clock
        self._axis = len(given.shape) - 1 if isinstance(module, nn.Linear) else 1

    def seconds(self, reads: Sequence[int], makes: Sequence[int]) -> Floats:
        """Shortest times of a call [s], by what it reads and makes."""
        full = torch.randn(self._given.shape, dtype=self._given.dtype, device=self._given.device)
        result = np.zeros((len(reads), len(makes)))
        for i, read in enumerate(reads):
            layout = torch.channels_last if self._given.is_last else torch.contiguous_format
            x = full.narrow(self._axis, 0, read).contiguous(memory_format=layout)
            for j, made in enumerate(makes):
                result[i, j] = _shortest(partial(self._resized(read, made), x), self._clock)
        return result

    def _resized(self, read: int, made: int) -> nn.Module:
        weights = {}
        for key, tensor in self._module.state_dict().items():
            shape = list(tensor.shape)
            if key == "weight":
                transposed = isinstance(self._module, Transposed)
                groups = getattr(self._module, "groups", 1)
                shape[:2] = (read, made // groups) if transposed else (made, read // groups)
            else:
                shape[0] = made
            weights[key] = torch.randn(shape, dtype=tensor.dtype, device=tensor.device)
        return resize(duplicate(self._module), weights).eval()


def _shortest(call: Callable[[], object], clock: Clock) -> float:
    with torch.no_grad():
        call()
        times = [_mean_time(call, clock)]
        while len(times) < _REPEATS or sum(times) < _LAYER_AT_LEAST:
            times.append(_mean_time(call, clock))
    return min(times)


# ---- interpolation


def _interpolated(widths: Sequence[int], values: Floats, vector: int) -> Floats:
    """Values (largest width + 1, ...) at every width, of values (n, ...) at some; widths that fill vectors by
    themselves, and all others."""
    knots, places = np.unique(widths, return_inverse=True)
    means = np.array([values[places == place].mean(axis=0) for place in range(len(knots))])
    every = np.arange(knots[-1] + 1)
    result = np.empty((len(every), *means.shape[1:]))
    for fills in (False, True):
        mine, given = (every % vector == 0) == fills, (knots % vector == 0) == fills
        given = given if given.any() else np.ones_like(given)
        result[mine] = _linear(every[mine], knots[given], means[given])
    return result


def _linear(x: NDArray[np.int64], knots: NDArray[np.int64], values: Floats) -> Floats:
    """Values (len(x), ...) between those at the knots, and beyond them the next one."""
    weights = np.column_stack([np.interp(x, knots, row) for row in np.eye(len(knots))])
    return np.tensordot(weights, values, axes=1)


class _Table:
    """Times of a layer alone by the channels that it reads and makes; at its own widths, which come first, at `most`
    what it needs in the network."""

    def __init__(self, layer: _Layer, widths: Sequence[tuple[int, int]], vector: int, most: float) -> None:
        reads, makes = (sorted(set(numbers)) for numbers in zip(*widths, strict=True))
        times = layer.seconds(reads, makes)
        alone = times[reads.index(widths[0][0]), makes.index(widths[0][1])]
        times *= min(alone, most) / max(alone, np.finfo(float).tiny)
        self._shares = _interpolated(reads, np.eye(len(reads)), vector)  # of the measured numbers
        self._times = _interpolated(makes, times.T, vector)

    def __call__(self, read: Numbers, made: Numbers) -> Any:
        """Time [s] at these numbers, of which each may be an array."""
        return (self._shares[read] * self._times[made]).sum(axis=-1)
