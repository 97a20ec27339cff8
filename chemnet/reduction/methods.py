"""Methods that lead from a trained large network to a small one: construction, labels, budget of training.

The budget is one of four, where `steps` are those that every reduced network is trained on for:

* `retraining`: these steps
* `all steps`: these and as many as the large network was trained for
* `time after`: as long as a reduction and these steps take; counts from when the large network is there
* `all time`: that, and as long as the training of the large network took

Times become steps by the seconds that a step takes here, so that every schedule ends where it should.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from chemnet.reduction.baselines import BASELINES
from chemnet.runtime.run_folder import read_kept, write_kept
from chemnet.surrogate.network import Initialisation, NetConfig, build, describe
from chemnet.training.batches import TrainingData
from chemnet.training.options import FitOptions
from chemnet.training.steps import bare_steps

Budget = Literal["retraining", "all steps", "time after", "all time"]

_BLOCK = 8192  # rows of one call of the large network
_WARM_UP, _TIMED, _TURNS = 10, 20, 7  # steps, steps that are timed together, how often
_LAST_PART = 0.5  # of the time, at the final widths, where a network becomes narrower while it is trained


@dataclass(frozen=True)
class Method:
    """Construction of a method's network, its labels and the length of its training.

    `baseline` is one of `BASELINES`, `teacher` the share of the large network's outputs in the labels. With `cuts` the
    widths fall in that number of steps, evenly on a log scale, while the network is trained; it starts as the large
    one, or with `fresh` as an untrained one of the large widths with this initialisation.
    """

    baseline: str
    budget: Budget = "retraining"
    teacher: float = 0.0
    cuts: int = 0
    fresh: Initialisation | None = None


# The first two have methods of their own, the last two take a share of the parameters.
_NO_METHODS = ("unreduced", "scratch", "torch-pruning-magnitude", "torch-pruning-group-norm")

METHODS: dict[str, Method] = {
    "unreduced": Method("unreduced"),
    "scratch-steps": Method("scratch", "all steps"),
    "scratch-total": Method("scratch", "all time"),
    "scratch-after": Method("scratch", "time after"),
    "distillation": Method("scratch", "time after", teacher=1.0),
    **{name: Method(name) for name in BASELINES if name not in _NO_METHODS},
    "forward-taught": Method("forward", teacher=0.5),
    "forward-gradual": Method("forward", "time after", cuts=3),
    "condensation-while-training": Method("condensation", "all time", cuts=3, fresh="paper"),
    "qr-while-training": Method("qr", "all time", cuts=3, fresh="default"),
    "forward-while-training": Method("forward", "all time", cuts=3, fresh="default"),
}

# Methods of a comparison that names none.
USUAL = (
    *("unreduced", "scratch-steps", "scratch-total", "scratch-after", "distillation"),
    *("condensation", "condensation-paper", "qr", "random", "magnitude", "torch-pruning", "neuron-merging", "svd"),
)


@dataclass(frozen=True)
class Part:
    """Steps of training at some hidden widths."""

    widths: tuple[int, ...]
    steps: int


@dataclass(frozen=True)
class Large:
    """The large network, and the steps and seconds of its training."""

    network: nn.Sequential
    steps: int
    seconds: float

    @property
    def widths(self) -> tuple[int, ...]:
        """Its hidden widths."""
        return describe(self.network).widths[1:-1]


class Clock:
    """Seconds of a step by hidden widths, and of a reduction; measured once and kept in a file for as long as `origin`,
    a hash of what they depend on, stays the same."""

    def __init__(self, path: Path, origin: str, large: Large, data: TrainingData, options: FitOptions) -> None:
        self._path, self._large, self._data, self._options = path, large, data, options
        self._origin = origin
        self._seconds: dict[str, float] = (read_kept(path, origin) or {"seconds": {}})["seconds"]

    def step(self, widths: Sequence[int]) -> float:
        """Seconds of one step of training at these hidden widths."""
        return self._measured(f"step at {'-'.join(map(str, widths))}", lambda: self._time_steps(widths))

    def reduction(self, widths: Sequence[int], calibration: torch.Tensor) -> float:
        """Seconds of a condensation with refit to these hidden widths."""

        def reduce() -> float:
            start = time.perf_counter()
            BASELINES["condensation"](self._large.network, widths, calibration, 0)
            return time.perf_counter() - start

        return self._measured(f"reduction to {'-'.join(map(str, widths))}", reduce)

    def _measured(self, name: str, measure: Callable[[], float]) -> float:
        if name not in self._seconds:
            self._seconds[name] = measure()
            write_kept(self._path, self._origin, {"seconds": self._seconds})
        return self._seconds[name]

    def _time_steps(self, widths: Sequence[int]) -> float:
        large = describe(self._large.network)
        config = NetConfig(widths=(large.widths[0], *widths, large.widths[-1]), activation=large.activation)
        network = build(config).to(self._data.x.device)
        bare_steps(network, self._data, self._options.model_copy(update={"steps": _WARM_UP}))
        seconds = []
        for _ in range(_TURNS):
            _wait(self._data)
            start = time.perf_counter()
            bare_steps(network, self._data, self._options.model_copy(update={"steps": _TIMED}))
            _wait(self._data)
            seconds.append((time.perf_counter() - start) / _TIMED)
        return float(np.median(seconds))


def _wait(data: TrainingData) -> None:
    """Wait until a GPU has finished its work."""
    if data.x.is_cuda:
        torch.cuda.synchronize()


def plan(
    method: Method, widths: Sequence[int], steps: int, large: Large, clock: Clock, calibration: torch.Tensor
) -> list[Part]:
    """The parts of a method's training, where a reduced network of these hidden widths is retrained for `steps`."""
    target = tuple(widths)
    if method.budget == "retraining":
        total = steps
    elif method.budget == "all steps":
        total = steps + large.steps
    else:
        seconds = clock.reduction(target, calibration) + steps * clock.step(target)
        seconds += large.seconds if method.budget == "all time" else 0.0
        total = max(1, round(seconds / clock.step(target)))
    if not method.cuts:
        return [Part(target, total)]
    return _falling(method, target, total * clock.step(target), large.widths, clock)


def _falling(
    method: Method, target: tuple[int, ...], seconds: float, start: tuple[int, ...], clock: Clock
) -> list[Part]:
    """Parts of ever narrower networks that take `seconds` together, the last one half of them."""
    shares = np.arange(0 if method.fresh else 1, method.cuts + 1) / method.cuts
    stages = [tuple(round(a ** (1.0 - t) * b**t) for a, b in zip(start, target, strict=True)) for t in shares]
    early = (1.0 - _LAST_PART) / max(len(stages) - 1, 1)
    times = [*(seconds * early for _ in stages[:-1]), seconds * (_LAST_PART if len(stages) > 1 else 1.0)]
    return [Part(w, max(1, round(t / clock.step(w)))) for w, t in zip(stages, times, strict=True)]


def taught(data: TrainingData, teacher: nn.Module, share: float) -> TrainingData:
    """The same data with `share` of a network's outputs (float32) in the training labels, not in those of validation.

    The outputs are computed in blocks on the device of the data.
    """
    if share == 0.0:
        return data
    with torch.no_grad():
        outputs = torch.cat([teacher(block) for block in data.x.split(_BLOCK)])
        return dataclasses.replace(data, y=torch.lerp(data.y, outputs, share))


def start_of(method: Method, large: Large, seed: int) -> nn.Sequential:
    """Network from which the first one of a method is made."""
    if method.fresh is None:
        return large.network
    return build(describe(large.network).model_copy(update={"initialisation": method.fresh}), seed)
