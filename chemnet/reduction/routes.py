"""Routes from a trained large network to a small one: how it is made, what it learns from, for how long.

A route's time is one of four, where `steps` are those that every reduced network is trained on for:

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
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from chemnet.reduction.baselines import BASELINES, lacks
from chemnet.runtime.errors import FileError
from chemnet.runtime.files import read_json, write_json
from chemnet.surrogate.network import Initialisation, NetConfig, build, describe
from chemnet.training.loop import FitOptions, TrainingData, bare_steps

Budget = Literal["retraining", "all steps", "time after", "all time"]

_BLOCK = 8192  # rows that the large network answers at a time
_WARM_UP, _TIMED, _TURNS = 10, 20, 7  # steps, steps that are timed together, how often
_LAST_PART = 0.5  # of the time, at the final widths, where a network becomes narrower while it is trained


@dataclass(frozen=True)
class Route:
    """One of the ways that are compared.

    `rival` is one of `BASELINES`, `teacher` the share of the large network's answers in the labels. With `cuts` the
    widths fall in so many steps, evenly on a log scale, while the network is trained; it is the large one, or with
    `fresh` an untrained one of its widths, initialised like this.
    """

    rival: str
    budget: Budget = "retraining"
    teacher: float = 0.0
    cuts: int = 0
    fresh: Initialisation | None = None

    @property
    def tuning(self) -> str:
        """Name of the scan for its learning rate, which routes share that are alike and train for about as long."""
        longer = self.budget if self.budget.startswith("all") else None
        marks = {"teacher": self.teacher, "cuts": self.cuts, "fresh": self.fresh, "for": longer}
        return "-".join([self.rival, *(f"{name}-{value}".replace(" ", "-") for name, value in marks.items() if value)])

    def lacks(self) -> str | None:
        """What has to be installed before this route can be gone."""
        return lacks(self.rival)

    def description(self) -> dict[str, Any]:
        """The route as plain data."""
        return dataclasses.asdict(self)


# Two have routes of their own, two take a share of the parameters.
_NO_METHODS = ("unreduced", "scratch", "torch-pruning-magnitude", "torch-pruning-group-norm")

ROUTES: dict[str, Route] = {
    "unreduced": Route("unreduced"),
    "scratch-steps": Route("scratch", "all steps"),
    "scratch-total": Route("scratch", "all time"),
    "scratch-after": Route("scratch", "time after"),
    "distillation": Route("scratch", "time after", teacher=1.0),
    "distillation-half": Route("scratch", "time after", teacher=0.5),
    **{name: Route(name) for name in BASELINES if name not in _NO_METHODS},
    "condensation-taught": Route("condensation", teacher=0.5),
    "qr-taught": Route("qr", teacher=0.5),
    "forward-taught": Route("forward", teacher=0.5),
    "condensation-gradual": Route("condensation", "time after", cuts=3),
    "qr-gradual": Route("qr", "time after", cuts=3),
    "forward-gradual": Route("forward", "time after", cuts=3),
    "condensation-while-training": Route("condensation", "all time", cuts=3, fresh="paper"),
    "qr-while-training": Route("qr", "all time", cuts=3, fresh="default"),
    "forward-while-training": Route("forward", "all time", cuts=3, fresh="default"),
}

# What a comparison takes unless told otherwise; the others are attempts to make condensation win.
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
    """The large network and what its training took."""

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
        self._kept: dict[str, Any] = {"origin": origin, "seconds": {}}
        try:
            kept = read_json(path)
            if kept["origin"] == origin:
                self._kept = kept
        except (FileError, KeyError, TypeError):
            pass

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
        if name not in self._kept["seconds"]:
            self._kept["seconds"][name] = measure()
            write_json(self._path, self._kept)
        return float(self._kept["seconds"][name])

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
    """Until a GPU has done what it was told to."""
    if data.x.is_cuda:
        torch.cuda.synchronize()


def plan(
    route: Route, widths: Sequence[int], steps: int, large: Large, clock: Clock, calibration: torch.Tensor
) -> list[Part]:
    """The parts of a route's training, where a reduced network of these hidden widths is retrained for `steps`."""
    target = tuple(widths)
    if route.budget == "retraining":
        total = steps
    elif route.budget == "all steps":
        total = steps + large.steps
    else:
        seconds = clock.reduction(target, calibration) + steps * clock.step(target)
        seconds += large.seconds if route.budget == "all time" else 0.0
        total = max(1, round(seconds / clock.step(target)))
    if not route.cuts:
        return [Part(target, total)]
    return _falling(route, target, total * clock.step(target), large.widths, clock)


def _falling(route: Route, target: tuple[int, ...], seconds: float, start: tuple[int, ...], clock: Clock) -> list[Part]:
    """Parts of ever narrower networks that take `seconds` together, the last one half of them."""
    shares = np.arange(0 if route.fresh else 1, route.cuts + 1) / route.cuts
    stages = [tuple(round(a ** (1.0 - t) * b**t) for a, b in zip(start, target, strict=True)) for t in shares]
    early = (1.0 - _LAST_PART) / max(len(stages) - 1, 1)
    times = [*(seconds * early for _ in stages[:-1]), seconds * (_LAST_PART if len(stages) > 1 else 1.0)]
    return [Part(w, max(1, round(t / clock.step(w)))) for w, t in zip(stages, times, strict=True)]


def taught(data: TrainingData, teacher: nn.Module, share: float) -> TrainingData:
    """The same data with `share` of a network's answers in the training labels; those to validate with stay.

    The answers are float32, computed in blocks where the data are.
    """
    if share == 0.0:
        return data
    with torch.no_grad():
        answers = torch.cat([teacher(block) for block in data.x.split(_BLOCK)])
        return dataclasses.replace(data, y=torch.lerp(data.y, answers, share))


def start_of(route: Route, large: Large, seed: int) -> nn.Sequential:
    """The network that a route makes its first one from."""
    if route.fresh is None:
        return large.network
    description = describe(large.network)
    config = description.model_copy(update={"initialisation": route.fresh})
    return build(config, seed)
