"""Automatic reduction (section 2.4.2): a network is trained, and whenever it is good enough all its layers are reduced.

The algorithm uses the interface `Reducible` alone, so it serves fully connected and convolutional networks, and
any metric. A step is one bout of training, an epoch for example::

    train until the metric meets the main criterion
      for each layer: save point, condense at its threshold, train until the metric meets the layer's criterion;
                      within the limit of steps it is the next layer's turn, otherwise back to the save point
    repeat with lower criteria, as often as wanted; at the end, where asked for, one cut of one layer

Every step is a row of `automatic.csv`, and a checkpoint from which an interrupted reduction goes on.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from torch import nn

from chemnet.condensation.surgery import resize
from chemnet.runtime.config import Config
from chemnet.runtime.errors import UsageError, end_by, signals_wait
from chemnet.runtime.run_folder import begin_run, clear_run
from chemnet.runtime.tables import Table, write_csv
from chemnet.training.batches import Batches
from chemnet.training.checkpoint import check_no_run, read_checkpoint, write_checkpoint
from chemnet.training.options import FitOptions
from chemnet.training.steps import Training

LOG, CHECKPOINT = "automatic.csv", "automatic.pt"
KIND = "automatic reduction"

_UNCHANGED = 1.0 - 1e-4  # a layer is not cut at a threshold above this
_COLUMNS = (
    *("step", "event", "layer", "threshold", "parameters", "layer_left", "metric", "loss"),
    *("main_criterion", "layer_criterion", "rate"),
)

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=1)]


class Reducible(Training):
    """A network in training whose layers can be condensed between two bouts, each of which is a step.

    `modules` are the names of the network's modules by layer, in the order in which they are reduced, and `condense`
    gives a network with the module of a layer condensed at a threshold. The metric is what the batches measure, or the
    inverse of a loss.
    """

    def __init__(
        self,
        network: nn.Module,
        batches: Batches,
        options: FitOptions,
        modules: Mapping[str, str],
        condense: Callable[[nn.Module, str, float], nn.Module],
        *,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        super().__init__(network, batches, options, seed=seed, device=device)
        self._modules, self._condense = dict(modules), condense
        self._whole = copy.deepcopy(self.network)  # a depthwise layer of one channel cannot be recognised as one

    def layers(self) -> Sequence[str]:
        """Names of the layers to reduce; they stay the same."""
        return list(self._modules)

    def module(self, layer: str) -> str:
        """Name of the module of a layer. Raises UsageError for a layer that there is not."""
        if layer not in self._modules:
            raise UsageError(f"no {layer}; there are {', '.join(self._modules)}")
        return self._modules[layer]

    def parameters(self, layer: str | None = None) -> int:
        """Number of parameters, of the network or of a layer."""
        part = self.network if layer is None else self.network.get_submodule(self.module(layer))
        return sum(p.numel() for p in part.parameters())

    def condense(self, layer: str, threshold: float) -> None:
        """Condense a layer. Raises UsageError for a layer that there is not."""
        self.network = self._condense(self.network, self.module(layer), threshold)

    def metric(self) -> float:
        """Metric of the network as it is; larger is better."""
        measured = super().metric()
        return measured if self.batches.larger_is_better else 1.0 / measured

    def verdict(self) -> float:
        """Metric for the table, on data that no decision uses; without such data the same as `metric`."""
        return self.metric()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Return to a state, whose layers may be wider or narrower."""
        self.network = copy.deepcopy(self._whole)
        resize(self.network, state["network"])
        super().restore(state)


class Falling(Config):
    """A number that falls along half a cosine from `highest` to `lowest` over a number of reductions (eq. 21, 22)."""

    highest: float
    lowest: float
    over: Count

    def at(self, reductions: int) -> float:
        """Value after a number of reduced layers; t_reduction is 0 until the first has been reduced."""
        t = max(reductions - 1, 0)
        if t >= self.over:
            return self.lowest
        return self.lowest + 0.5 * (self.highest - self.lowest) * (1.0 + math.cos(math.pi * t / self.over))


class AutomaticOptions(Config):
    """Criteria and limits; the defaults are those of section 3.2.2, whose metric is an accuracy.

    * `main` and `layer` are the criteria, `rate` the initial learning rate after a reduction. Where `relative`, all
      that is compared with the metric is a share of that of the network at the start.
    * A layer has `limit` steps to meet its criterion; each failure adds `limit_growth` for good. The last layer has
      limit and criterion of its own.
    * A metric below `deviation` after `deviation_steps` ends an attempt at once.
    * A reduction that leaves more than `too_little` of the parameters lowers the layer's threshold for the next time.
    * A layer's first threshold is `first_threshold`; failures raise it, and reductions that are too small lower it.
    * It ends after `main_reductions`, or when `target` of the parameters are left, or after `most_steps`; then
      `final_layer`, which main reductions leave out, is cut once at `final_threshold`, and `final_steps` of training
      follow.
    """

    relative: bool = False
    main: Falling = Falling(highest=0.88, lowest=0.85, over=100)
    layer: Falling = Falling(highest=0.84, lowest=0.81, over=100)
    rate: Falling = Falling(highest=0.01, lowest=1e-4, over=200)
    first_threshold: Annotated[float, Field(gt=0.0, lt=1.0)] = 1.0 / (1.0 + math.exp(-2.0))
    limit: Count = 20
    limit_growth: Annotated[int, Field(ge=0)] = 10
    last_limit: Count = 200
    last_criterion: float = 0.8
    deviation: float = 0.5
    deviation_steps: Count = 10
    too_little: Share = 0.999
    main_reductions: Count = 6
    target: Share = 0.0
    most_steps: Count = 20_000
    final_layer: str | None = None
    final_threshold: Annotated[float, Field(gt=0.0, le=1.0)] = 0.4
    final_steps: Count = 200

    def threshold_after(self, failures: int) -> float:
        """Threshold of a layer by its failures less its reductions that were too small (eq. 23-25)."""
        first = math.log(self.first_threshold / (1.0 - self.first_threshold))
        return 1.0 / (1.0 + math.exp(-first - 0.1 * failures))


def reduce_automatically(
    network: Reducible,
    options: AutomaticOptions,
    folder: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    report: Callable[[str], None] = print,
    keep: Callable[[str], None] = lambda stage: None,
    about: Mapping[str, Any] | None = None,
) -> Table:
    """Train and reduce `network` in place; the table of its main reductions, as table 3 of the paper.

    `folder` receives the log `automatic.csv` and the checkpoint `automatic.pt`, from which it goes on with `resume`; a
    reduction that is there is replaced with `overwrite` only. `keep` is called at the end of every stage, with its
    name, before the network is cut further; `about` is plain data that a reduction which goes on must have in common
    with its first part. SIGINT and SIGTERM end it after the step, with a checkpoint. Raises UsageError for a final
    layer that the network does not have or a checkpoint of other options, FileError for one that is missing or damaged.
    """
    layers = list(network.layers())
    if options.final_layer is not None and options.final_layer not in layers:
        raise UsageError(f"no layer {options.final_layer}; there are {', '.join(layers)}")
    layers = [layer for layer in layers if layer != options.final_layer]
    run = _Run(network, options, folder, layers, report, keep, dict(about or {}))
    if resume:
        run.load()
    else:
        check_no_run(folder, CHECKPOINT, KIND, overwrite)
        run.start()
    with signals_wait() as signals:
        while run.phase != "done" and not signals:
            run.take_step()
            run.save()
    if signals:
        report(f"stopped after step {run.step}; it goes on from {folder / CHECKPOINT}")
        end_by(signals[0])
    return run.table()


class _Run:
    """State of one automatic reduction; the plain parts that a checkpoint holds are in `_PLAIN`."""

    def __init__(
        self,
        network: Reducible,
        options: AutomaticOptions,
        folder: Path,
        layers: list[str],
        report: Callable[[str], None],
        keep: Callable[[str], None],
        about: dict[str, Any],
    ) -> None:
        self.network, self.options, self.folder, self.layers = network, options, folder, layers
        self.report, self.keep = report, keep
        self.facts = {"options": options.model_dump(mode="json"), "layers": layers, **about}
        self.phase = "train"  # train, layer, final, done
        self.step = self.reductions = self.main_done = 0
        self.position = self.tried = 0  # the layer in work, and the steps since it was cut
        self.limit = options.limit
        self.scale = 1.0  # of the criteria
        self.before = 0  # parameters before that cut
        self.full = {layer: network.parameters(layer) for layer in layers}
        self.failures = dict.fromkeys(layers, 0)
        self.rate = options.rate.at(0)
        self.rows: list[list[Any]] = []
        self.stages: list[list[Any]] = []  # name, parameters, best metric since, step, verdict at its end
        self.save_point: dict[str, Any] = {}

    def start(self) -> None:
        """Begin with the network as it is."""
        begin_run(self.folder, self.facts)
        clear_run(self.folder, (CHECKPOINT,))
        self.network.begin(self.rate)
        metric = self.network.metric()
        self.scale = metric if self.options.relative else 1.0
        self._open("original", metric)
        self._log("start", metric)

    def take_step(self) -> None:
        """Train for one step and act on the metric."""
        loss = self.network.train()
        self.step += 1
        metric = self.network.metric()
        self._log("step", metric, loss=loss)
        if self.phase == "layer":
            self._judge_layer(metric)
        else:
            self.stages[-1][2] = max(self.stages[-1][2], metric)
            if self.phase == "final":
                self.tried += 1
                if self.tried >= self.options.final_steps:
                    self._end()
            elif metric >= self._criterion(self.options.main):
                self.report(f"step {self.step}: metric {metric:.4g}, main reduction {self.main_done + 1}")
                self._close()
                self.phase, self.position = "layer", 0
                self._cut_next()
        if self.step >= self.options.most_steps and self.phase == "train":
            self._finish()

    def _criterion(self, falling: Falling) -> float:
        return self.scale * falling.at(self.reductions)

    def _cut_next(self) -> None:
        """Cut the layer in work, or the first one after it that can still be cut; without one, end the reduction."""
        while self.position < len(self.layers):
            layer = self.layers[self.position]
            threshold = self.options.threshold_after(self.failures[layer])
            if threshold <= _UNCHANGED:
                self.save_point = self.network.state()
                self._cut(layer, threshold, "cut")
                return
            self._log("skipped", math.nan, layer, threshold)
            self.position += 1
        self._end_main_reduction()

    def _cut(self, layer: str, threshold: float, event: str) -> None:
        self.before, self.tried = self.network.parameters(), 0
        self.network.condense(layer, threshold)
        self.rate = self.options.rate.at(self.reductions + 1)
        self.network.begin(self.rate)
        metric = self.network.metric()
        self._log(event, metric, layer, threshold)
        left = f"{100 * self.network.parameters() / self.before:.1f} % left"
        self.report(f"step {self.step}: {layer} at {threshold:.5f}, {left}, metric {metric:.4g} at once")

    def _judge_layer(self, metric: float) -> None:
        """Accept the cut, return to the save point, or train on."""
        options, layer = self.options, self.layers[self.position]
        self.tried += 1
        is_last = self.position == len(self.layers) - 1
        criterion = self.scale * options.last_criterion if is_last else self._criterion(options.layer)
        if metric >= criterion:
            if self.network.parameters() > options.too_little * self.before:
                self.failures[layer] -= 1
            self.reductions += 1
            self._log("accepted", metric, layer)
            self.position += 1
            self._cut_next()
        elif self.tried == options.deviation_steps and metric < self.scale * options.deviation:
            self._go_back("deviated", metric)
        elif self.tried >= (options.last_limit if is_last else self.limit):
            self.limit += 0 if is_last else options.limit_growth
            self._go_back("failed", metric)

    def _go_back(self, event: str, metric: float) -> None:
        """Return to the save point and cut the layer again, less."""
        layer = self.layers[self.position]
        self.network.restore(self.save_point)
        self.failures[layer] += 1
        self._log(event, metric, layer)
        self._cut_next()

    def _end_main_reduction(self) -> None:
        self.main_done += 1
        self.phase, self.save_point = "train", {}
        parameters = self.network.parameters()
        self._open(f"reduction {self.main_done}", self.network.metric())
        small_enough = parameters <= self.options.target * self.stages[0][1]
        if self.main_done >= self.options.main_reductions or small_enough or self.step >= self.options.most_steps:
            self._finish()

    def _finish(self) -> None:
        """The final cut, where one is asked for."""
        layer = self.options.final_layer
        if layer is None:
            self._end()
            return
        self._close()
        self.phase = "final"
        self._cut(layer, self.options.final_threshold, "final cut")
        self._open("final cut", self.network.metric())

    def _end(self) -> None:
        self._close()
        self.phase = "done"

    def _open(self, name: str, metric: float) -> None:
        """Begin a stage, a row of the table."""
        self.stages.append([name, self.network.parameters(), metric, self.step, math.nan])

    def _close(self) -> None:
        """End a stage with the verdict of its network."""
        self.stages[-1][4] = self.network.verdict()
        self.keep(self.stages[-1][0])

    def _log(
        self, event: str, metric: float, layer: str = "", threshold: float = math.nan, loss: float = math.nan
    ) -> None:
        criteria = self._criterion(self.options.main), self._criterion(self.options.layer)
        left = self.network.parameters(layer) / self.full[layer] if layer in self.full else math.nan
        facts = [self.network.parameters(), left, metric, loss]
        self.rows.append([self.step, event, layer, threshold, *facts, *criteria, self.rate])
        write_csv(self.folder / LOG, _COLUMNS, self.rows)

    def save(self) -> None:
        """Write the checkpoint of this step."""
        content = {name: getattr(self, name) for name in _PLAIN}
        networks = {"network": self.network.state(), "save_point": self.save_point}
        write_checkpoint(self.folder / CHECKPOINT, {"facts": self.facts, **content, **networks})

    def load(self) -> None:
        """Go on from the checkpoint."""
        saved = read_checkpoint(self.folder / CHECKPOINT)
        begin_run(self.folder, self.facts, saved["facts"], source=CHECKPOINT)
        for name in _PLAIN:
            setattr(self, name, saved[name])
        self.save_point = saved["save_point"]
        self.network.restore(saved["network"])

    def table(self) -> Table:
        """Parameters and best metric of the original and after each main reduction."""
        full = self.stages[0][1]
        rows = [(name, n, 100.0 * n / full, metric, verdict, step) for name, n, metric, step, verdict in self.stages]
        columns = ("network", "parameters", "parameters [%]", "best metric", "verdict at its end", "from step")
        return Table("automatic reduction", columns, rows)


_PLAIN = (
    *("phase", "step", "reductions", "main_done", "position", "tried", "limit", "before", "failures", "rate"),
    *("rows", "stages", "full", "scale"),
)
