"""`chemnet reduce`: from the names of a model, a config and stages to finished stages, their table and their page."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from chemnet.condensation import similarity
from chemnet.condensation.channel_vectors import layer_vectors
from chemnet.data import dataset
from chemnet.data.recipe import load_recipe
from chemnet.reduction.report import write_page
from chemnet.reduction.stage_run import (
    Bench,
    Delays,
    Say,
    StageReport,
    calibration,
    dashed,
    loss_function,
    run_stages,
)
from chemnet.reduction.stages import Stages, condense_layers, hidden_layers, read_stages
from chemnet.runtime.config import dump_yaml, parse
from chemnet.runtime.errors import FileError, UsageError
from chemnet.runtime.run_folder import how_to_finish, latest_run, unfinished_run
from chemnet.runtime.tables import Table
from chemnet.runtime.threads import threads_for
from chemnet.runtime.torch_threads import torch_threads
from chemnet.surrogate.hybrid import HybridStep
from chemnet.surrogate.model import Surrogate
from chemnet.surrogate.network import count, describe
from chemnet.training.batches import TrainingData
from chemnet.training.config import TrainConfig, load_config
from chemnet.training.loop import CHECKPOINT
from chemnet.training.rollout_score import ignition_judge, judging_cases
from chemnet.training.run import ensure_data
from chemnet.training.tensors import Data, files_of, learning_set_for
from chemnet.validation import IgnitionCases, validate_ignition
from chemnet.validation.metrics import largest, mean
from chemnet.validation.references import REFERENCES

_LOSSES_OF_A_RUN = "loss.csv"
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 1.0)

_SIZES = ("model", "widths", "weights", "with biases", "weights [%]")
_LOSSES = ("loss before", "at once", "retrained")
_COLUMNS = (*_SIZES, *_LOSSES, "delay error, mean [%]", "max [%]", "failed", "steps", "time [s]")


def reduce(
    model: str | Path | None = None,
    *,
    stage: int | None = None,
    stages: str | Path | None = None,
    config: TrainConfig | str | Path | None = None,
    data: Data | None = None,
    out: Path | None = None,
    seed: int = 0,
    device: str = "auto",
    max_minutes: float | None = None,
    n_threads: int | None = None,
    overwrite: bool = False,
    report: Say = print,
) -> Table:
    """Table of the stages up to `stage`, by default all; those that are missing are run.

    The model is a file, run folder or name, by default the latest training of `config`; the config is by default the
    one that the model was trained with. It names the stages and the training set unless these are given. Stage N is
    left in `out/stage-N`, by default beside the model of the config, in `runs/<name>`, with a page.
    A stage that is there and was made from something else is replaced with `overwrite` only.
    Raises FileError where there is no model or no data, UsageError for stages or a training set that does not fit the
    model, and for stages that would be lost.
    """
    original, config, settings, stage = _settled(model, config, stages, stage)
    data = find_data(original, config, data, report)
    changes = any(one.retrain.change_loss > 0.0 for one in settings.stages[:stage])
    learning = learning_set_for(original, data, changes, config.calm_share)
    facts = dataset.read_attributes(files_of(data)[0])
    judge = ignition_judge(learning, facts, original.cold_limit, original.calm_limit)
    bench = Bench(
        learning.tensors,
        seed=seed,
        device=device,
        max_minutes=max_minutes,
        n_threads=n_threads,
        overwrite=overwrite,
        judge=judge,
        delays=delays_by(judging_cases(facts, original.mechanism)) if judge else None,
        say=report,
    )
    out = out or Path("runs") / config.name
    with torch_threads(threads_for(count(original.network, biases=True), n_threads)):
        reports = run_stages(original, bench, settings, stage, out)
    sizes = table(original, reports)
    pages = write_page(out, original, settings, reports, sizes, _curves(model, config, out, reports))
    report(f"written: {', '.join(map(str, pages))}")
    return sizes


def _curves(
    model: str | Path | None, config: TrainConfig, out: Path, reports: Sequence[StageReport]
) -> dict[str, Path]:
    """The loss curves of the original, where its run folder is there, and of the stages."""
    run = latest_run(config.name) if model is None else Path(model)
    stages = {f"stage {r.stage}": out / f"stage-{r.stage}" / _LOSSES_OF_A_RUN for r in reports}
    if run is not None and (run / _LOSSES_OF_A_RUN).is_file():
        return {"original": run / _LOSSES_OF_A_RUN, **stages}
    return stages


def preview(
    model: str | Path | None = None,
    *,
    stage: int | None = None,
    stages: str | Path | None = None,
    config: TrainConfig | str | Path | None = None,
    data: Data | None = None,
    seed: int = 0,
) -> list[Table]:
    """Tables of a reduction without retraining; nothing is written, sampled or trained.

    First the widths that each similarity threshold gives in each hidden layer; then, where the training set is at hand,
    the stages cut one after the other, with the loss on a part of the validation states.
    Raises what `reduce` raises, but for data that are not there.
    """
    original, config, settings, stage = _settled(model, config, stages, stage)
    tables = [threshold_table(original)]
    data = data or config.data
    if all(path.exists() for path in files_of(data)):
        tensors = learning_set_for(original, data).tensors
        with torch_threads(threads_for(count(original.network, biases=True))):
            tables.append(cut_table(original, settings, stage, tensors, seed))
    return tables


def _settled(
    model: str | Path | None, config: TrainConfig | str | Path | None, stages: str | Path | None, stage: int | None
) -> tuple[Surrogate, TrainConfig, Stages, int]:
    """Model, config, stages that fit the model, and the last stage to run."""
    original, config = find_original(model, config)
    settings = stages_for(config, stages)
    stage = len(settings.stages) if stage is None else stage
    settings.check(describe(original.network).widths[1:-1], stage)
    return original, config, settings, stage


def threshold_table(original: Surrogate) -> Table:
    """Groups of similar neurons in each hidden layer, by similarity threshold."""
    rows = []
    for number, name in enumerate(hidden_layers(original.network), start=1):
        cosines = similarity.cosine_similarity(layer_vectors(original.network.get_submodule(name)))
        rows.append((number, len(cosines), *(similarity.n_groups(similarity.group(cosines, t)) for t in THRESHOLDS)))
    columns = ("hidden layer", "neurons", *(f"{threshold:g}" for threshold in THRESHOLDS))
    return Table("widths that similarity thresholds give", columns, rows)


def cut_table(original: Surrogate, settings: Stages, stage: int, data: TrainingData, seed: int) -> Table:
    """Stages 1 to `stage`, cut one after the other without retraining: their losses, and the time that a cut takes."""
    network = original.network
    full, loss = count(network, biases=False), loss_function(data, settings.stages[0].retrain.loss)
    rows = [(*_sizes("original", network, full), loss(network), None)]
    for number, one in enumerate(settings.stages[:stage], start=1):
        states = calibration(data, one.calibration_states, seed)
        start = time.perf_counter()
        network, _ = condense_layers(network, one.cuts, one, states, loss)
        seconds = time.perf_counter() - start
        rows.append((*_sizes(f"stage {number}", network, full), loss(network), seconds))
    return Table("stages without retraining", (*_SIZES, "loss at once", "time [s]"), rows)


def table(original: Surrogate, reports: Sequence[StageReport]) -> Table:
    """Sizes, losses and ignition delays of the original and of each stage, as in table 1 of the paper."""
    network, full = original.network, count(original.network, biases=False)
    first = reports[0]
    rows: list[tuple[Any, ...]] = [
        (*_sizes("original", network, full), None, None, first.loss_before, *_errors(first.delays_before), None, None)
    ]
    for r in reports:
        sizes = (f"stage {r.stage}", dashed(r.widths), r.weights, r.weights_and_biases, 100.0 * r.weights / full)
        losses = (r.loss_before, r.loss_at_once, r.loss_after)
        rows.append((*sizes, *losses, *_errors(r.delays_after), r.steps, r.seconds))
    return Table("reduction by condensation", _COLUMNS, rows)


def _sizes(name: str, network: torch.nn.Sequential, full: int) -> tuple[Any, ...]:
    weights = count(network, biases=False)
    return name, dashed(describe(network).widths), weights, count(network, biases=True), 100.0 * weights / full


def _errors(delays: Delays | None) -> tuple[Any, ...]:
    return (None, None, None) if delays is None else (delays.mean, delays.max, delays.failed)


def find_original(model: str | Path | None, config: TrainConfig | str | Path | None) -> tuple[Surrogate, TrainConfig]:
    """The model to reduce and its config, whichever of the two is given; without both, the latest training of drm19.

    Raises FileError where there is no model, UsageError for one without a config.
    """
    if isinstance(config, (str, Path)):
        config = load_config(config)
    if model is None:
        config = config or load_config()
        model = latest_run(config.name)
        if model is None:
            raise FileError(f"no finished training of {config.name} below runs/\n{_first(config.name)}")
    original = Surrogate.load(model)
    if config is None:
        if "config" not in original.metadata:
            raise UsageError(f"{model} does not say how it was trained\nName a config: --config quick")
        config = parse(TrainConfig, original.metadata["config"], str(model))
    return original, config


def _first(name: str) -> str:
    """The command that makes the training of a config that is missing, or goes on with one that is not finished."""
    begun = unfinished_run(name, CHECKPOINT)
    return f"First: chemnet train --config {name}" if begun is None else how_to_finish(begun)


def stages_for(config: TrainConfig, stages: str | Path | None) -> Stages:
    """Stages of a name or file, else the config's; where a model names some that are gone, those of its config today.

    Raises UsageError where there is none.
    """
    if stages is not None:
        return read_stages(stages)
    if config.reduction is None:
        raise UsageError(f"{config.name} names no stages; give some: --stages quick")
    try:
        return read_stages(config.reduction)
    except UsageError:
        today = load_config(config.name).reduction
        if today in (None, config.reduction):
            raise
        return read_stages(str(today))


def find_data(original: Surrogate, config: TrainConfig, data: Data | None, report: Say) -> Data:
    """The training set: `data`, a file or several, or the config's, sampled where it is not there and the recipe ships.

    Raises FileError where the model was trained on another recipe.
    """
    if data is not None:
        return data
    used = original.metadata.get("data", {}).get("recipe")
    shipped = dump_yaml(load_recipe(variant=config.data_variant))
    if used is not None and used != shipped and not config.data.exists():
        raise FileError(f"no training set {config.data}, and its recipe does not ship\nName it: --data FILE")
    ensure_data(config, config.data, report)
    return config.data


def delays_by(cases: IgnitionCases | None) -> Callable[[Surrogate], Delays] | None:
    """Function that measures a model's ignition-delay errors in these cases; None where there are none."""
    if cases is None:
        return None

    def delays(model: Surrogate) -> Delays:
        found = validate_ignition(HybridStep(model, outside="error"), model.dt, cases, lambda line: None, REFERENCES)
        errors = 100.0 * found.delay_error
        failed = int(found.failed.sum())
        return Delays(mean=mean(errors), max=largest(errors), failed=failed, cases=len(errors))

    return delays
