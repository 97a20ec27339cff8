"""The published experiment: an original network, three reductions, and what they have to be compared with.

Source: section 3.1 and table 1 of the condensation paper. For each seed, below one folder:

* `original`: 23-3200-1600-800-400-23 by the published schedule (config `paper`);
* `thresholds`: its three reductions to the groups at 0.9, 0.8 and 0.999, each trained on as published;
* `widths`: the same to the published widths, the thresholds being searched;
* `unreduced`: the original with the same further training, uncut;
* `control`: a network of the widths of the third reduction, trained directly with the same settings and, so that its
  steps are as many, trained on like the others;
* `forward`: the widths of `thresholds`, by forward selection and refit, with the same further training.

A `scale` shortens every training to that share of its steps, with the growth of the batch and the fall of the rate
after the same shares. A `max_batch` keeps the steps and takes rows away: no batch grows beyond it. Every network is the
one at the end of its training, as published, not the best of it. What is finished is taken as it is, what was
interrupted goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from chemnet.data import dataset
from chemnet.gas.mechanism import load_mechanism
from chemnet.reduction.stage_run import Bench, StageReport, calibration, loss_function, run_stages
from chemnet.reduction.stages import Cut, Stage, Stages, condense_layers, read_stages
from chemnet.runtime.config import Config
from chemnet.runtime.errors import UsageError
from chemnet.runtime.files import check_writable, read_json, write_json
from chemnet.runtime.run_folder import MANIFEST, check_same, clear_run
from chemnet.runtime.threads import threads_for
from chemnet.runtime.torch_threads import torch_threads
from chemnet.surrogate.model import Surrogate
from chemnet.surrogate.network import count, describe
from chemnet.training.config import TrainConfig, load_config
from chemnet.training.loop import CHECKPOINT
from chemnet.training.options import FitOptions, Precision, choose_device
from chemnet.training.run import ensure_data, train
from chemnet.training.tensors import learning_set_for

THRESHOLDS = (0.9, 0.8, 0.999)  # section 3.1.3, of layers 1, 1 and 2
ORIGINAL, CONTROL = "original", "control"
SERIES = ("thresholds", "widths", "unreduced", CONTROL, "forward")
USUAL = ("thresholds", "unreduced", CONTROL)

_MECHANISM = "drm19"
_SETTINGS = "experiment.json"
_OF_AN_EXPERIMENT = (_SETTINGS, "seed-*", "table-1.*", "pictures")

Say = Callable[[str], None]


class Settings(Config):
    """What must not change between the parts of an experiment."""

    scale: float
    max_batch: int | None
    precision: Precision
    data: str
    rows: int


@dataclass(frozen=True)
class Result:
    """The original of a seed and the stages of its series, by name; `folder` holds them.

    `at_once` are the networks of the series `thresholds` as the cuts left them, before they were trained on.
    """

    seed: int
    folder: Path
    original: Surrogate
    stages: Mapping[str, Sequence[StageReport]]
    at_once: Sequence[nn.Sequential]

    def begun(self, series: str) -> Surrogate:
        """The network that a series begins with."""
        return Surrogate.load(self.folder / series / ORIGINAL) if series == CONTROL else self.original

    def models(self, series: str) -> list[Surrogate]:
        """The networks of a series, as its stages left them."""
        return [Surrogate.load(self.stage(series, report.stage)) for report in self.stages[series]]

    def stage(self, series: str, number: int) -> Path:
        """The folder of a stage."""
        return self.folder / series / f"stage-{number}"


def reproduce(
    out: Path,
    *,
    scale: float = 1.0,
    max_batch: int | None = None,
    seeds: Sequence[int] = (0,),
    series: Sequence[str] = USUAL,
    data: Path | None = None,
    device: str = "auto",
    n_threads: int | None = None,
    precision: Precision = "bf16",
    config: TrainConfig | str | Path = "paper",
    stages: Stages | str | Path = "published",
    overwrite: bool = False,
    report: Say = print,
) -> list[Result]:
    """Run the published experiment for each seed, below `out`; what it gave.

    `series` are those of `SERIES` that are wanted; `control` and `forward` take the widths that `thresholds` gives. No
    batch grows beyond `max_batch` rows, at least 1; by default they grow as published. The training set is that of the
    `config`, sampled where it is missing, or `data`; the three `stages` say which layers are cut, the published widths
    and how to train on. Raises UsageError for a scale that is not in (0, 1], an unknown series, a device that is not
    there, a training set of another mechanism, and for an experiment with other settings in `out`, unless it is to be
    replaced (`overwrite`).
    """
    config = config if isinstance(config, TrainConfig) else load_config(config)
    stages = stages if isinstance(stages, Stages) else read_stages(stages)
    config, stages = _limited(config, stages, scale, max_batch, precision)
    _check(series)
    device = choose_device(device)
    if data is None:
        data = config.data
        ensure_data(config, data, report)
    settings = _settings(scale, max_batch, precision, data)
    _take(out, settings, overwrite)
    results = []
    for seed in seeds:
        batches = f"batches of at most {max_batch} rows, " if max_batch else ""
        report(f"seed {seed}, {scale:g} of the published steps, {batches}{device}, {precision}")
        run = _Run(seed, out / f"seed-{seed}", config, stages, data, device, n_threads, report)
        results.append(run.result(series))
    return results


def _limited(
    config: TrainConfig, stages: Stages, scale: float, max_batch: int | None, precision: Precision
) -> tuple[TrainConfig, Stages]:
    """A config and stages at a share of their steps, with batches of at most so many rows."""

    def shorter(options: FitOptions) -> FitOptions:
        largest = min(max_batch or options.max_batch_size, options.max_batch_size)
        changes = {"max_batch_size": largest, "batch_size": min(options.batch_size, largest), "grows_on_cpu": True}
        return options.scaled(scale).model_copy(update={"precision": precision, "rollouts": 0, **changes})

    shortened = [stage.model_copy(update={"retrain": shorter(stage.retrain)}) for stage in stages.stages]
    return (
        config.model_copy(update={"fit": shorter(config.fit)}),
        stages.model_copy(update={"stages": tuple(shortened)}),
    )


def _check(series: Sequence[str]) -> None:
    for name in series:
        if name not in SERIES:
            raise UsageError(f"series {name}: choose of {', '.join(SERIES)}")
        if name in (CONTROL, "forward") and "thresholds" not in series:
            raise UsageError(f"series {name} takes the widths of the series thresholds: name that one, too")


def _settings(scale: float, max_batch: int | None, precision: Precision, data: Path) -> Settings:
    """The settings of an experiment on a training set. UsageError where that was made with another mechanism."""
    facts = dataset.read_attributes(data)
    if facts["mechanism_sha256"] != load_mechanism(_MECHANISM).sha256:
        raise UsageError(
            f"{data} was made with {facts['mechanism']}; the published experiment is one of {_MECHANISM}\n"
            "Name another training set with --data, or none to have one sampled."
        )
    rows = int(facts["rows"])
    return Settings(scale=scale, max_batch=max_batch, precision=precision, data=str(data), rows=rows)


def _take(out: Path, settings: Settings, overwrite: bool) -> None:
    """Take a folder for an experiment, or go on with the one that is there."""
    path, content = out / _SETTINGS, settings.model_dump(mode="json")
    check_writable(path)
    if overwrite and path.is_file():
        clear_run(out, _OF_AN_EXPERIMENT)
    if path.is_file():
        check_same(path, read_json(path), content, "Name another folder with --out, or replace it with --overwrite.")
    write_json(path, content)


@dataclass(frozen=True)
class _Run:
    """The experiment of one seed."""

    seed: int
    folder: Path
    config: TrainConfig
    published: Stages
    data: Path
    device: str
    n_threads: int | None
    say: Say

    def result(self, series: Sequence[str]) -> Result:
        """Everything of this seed; what is missing is run."""
        original = self._trained(self.config, self.folder / ORIGINAL)
        learning = learning_set_for(original, self.data)
        how = {"seed": self.seed, "device": self.device, "n_threads": self.n_threads, "say": self.say}
        bench = Bench(learning.tensors, **how)  # type: ignore[arg-type]
        done: dict[str, list[StageReport]] = {}
        for name in (each for each in SERIES if each in series):
            self.say(f"series {name}")
            start, stages = self._begun(name, original, done)
            with torch_threads(threads_for(count(start.network, biases=True), self.n_threads)):
                done[name] = run_stages(start, bench, stages, len(stages.stages), self.folder / name)
        at_once = self._at_once(original, bench) if "thresholds" in done else []
        return Result(self.seed, self.folder, original, done, at_once)

    def _at_once(self, original: Surrogate, bench: Bench) -> list[nn.Sequential]:
        """The networks as the cuts of the series `thresholds` left them."""
        found, before = [], original.network
        stages = self._cut([{"threshold": threshold} for threshold in THRESHOLDS]).stages
        for number, stage in enumerate(stages, start=1):
            inputs = calibration(bench.data, stage.calibration_states, bench.seed)
            loss = loss_function(bench.data, stage.retrain.loss)
            found.append(condense_layers(before, stage.cuts, stage, inputs, loss)[0])
            before = Surrogate.load(self.folder / "thresholds" / f"stage-{number}").network
        return found

    def _begun(
        self, name: str, original: Surrogate, done: Mapping[str, Sequence[StageReport]]
    ) -> tuple[Surrogate, Stages]:
        """The network that a series begins with, and its stages."""
        if name == "widths":
            return original, self.published
        if name == "thresholds":
            return original, self._cut([{"threshold": threshold} for threshold in THRESHOLDS])
        if name == "unreduced":
            return original, _uncut(self.published, original)
        widths = [report.widths for report in done["thresholds"]]
        if name == CONTROL:
            network = self.config.network.model_copy(update={"widths": widths[-1]})
            small = self.config.model_copy(update={"network": network, "name": CONTROL})
            start = self._trained(small, self.folder / name / ORIGINAL)
            return start, _uncut(self.published, start)
        layers = [stage.cuts[0].layer for stage in self.published.stages]
        measures = [{"width": width[layer]} for width, layer in zip(widths, layers, strict=True)]
        return original, self._cut(measures, choice="forward", merge="refit")

    def _cut(self, measures: Sequence[Mapping[str, float]], **rule: str) -> Stages:
        """The published stages with other measures of their cuts, or another rule."""
        cut = []
        for stage, measure in zip(self.published.stages, measures, strict=True):
            cuts = [{"layer": stage.cuts[0].layer, **measure}]
            cut.append(Stage(**{**stage.model_dump(), "cuts": cuts, **rule}))
        return self.published.model_copy(update={"stages": tuple(cut)})

    def _trained(self, config: TrainConfig, folder: Path) -> Surrogate:
        """The network of a training, trained, or trained to the end, where it is not finished."""
        if not (folder / MANIFEST).is_file():
            train(
                config,
                data=self.data,
                out=folder,
                seed=self.seed,
                device=self.device,
                n_threads=self.n_threads,
                resume=(folder / CHECKPOINT).is_file(),
                report=self.say,
            )
        return Surrogate.load(folder)


def _uncut(stages: Stages, model: Surrogate) -> Stages:
    """Stages that leave a network as wide as it is and train on alike."""
    whole = (Cut(layer=1, width=describe(model.network).widths[1]),)
    return stages.model_copy(update={"stages": tuple(one.model_copy(update={"cuts": whole}) for one in stages.stages)})
