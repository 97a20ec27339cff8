"""Training of a model from a training set to its run folder.

The folder holds `config.yaml` as used, `loss.csv` and `loss.png`, the checkpoints `last.pt` and `best.pt`,
`model.safetensors`, and `manifest.json`, which is written last: a folder without it is not finished.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chemnet.data import dataset
from chemnet.data.recipe import load_recipe
from chemnet.data.sampling import sample
from chemnet.gas.mechanism import Mechanism
from chemnet.runtime.config import dump_yaml
from chemnet.runtime.files import write_text
from chemnet.runtime.lazy import installed
from chemnet.runtime.processes import available_cores
from chemnet.runtime.run_folder import clear_run, finish_run, sha256
from chemnet.surrogate.model import Surrogate
from chemnet.surrogate.network import build, count, describe
from chemnet.training.batches import few
from chemnet.training.checkpoint import check_no_run
from chemnet.training.config import TrainConfig, load_config
from chemnet.training.distributed import join_team
from chemnet.training.domain_fit import probe
from chemnet.training.loop import CHECKPOINT, FitReport, fit
from chemnet.training.options import choose_device
from chemnet.training.rollout_score import ignition_judge
from chemnet.training.tensors import files_of, learning_set_for, load_learning_set
from chemnet.validation import IgnitionCases

KIND = "training"
# What a training, and reductions of its model, leave in its folder, but for what the loop itself writes.
_OF_A_TRAINING = ("config.yaml", "loss.png", "model.safetensors", "stage-*", "reduction.*", "pictures")


def ensure_data(config: TrainConfig, path: Path, report: Callable[[str], None] = print) -> None:
    """Sample the config's training set at `path` if it is missing, with a report."""
    if path.exists():
        return
    variant = f" (variant {config.data_variant})" if config.data_variant else ""
    report(f"no training set {path}: sampling the shipped recipe{variant} first")
    sample(load_recipe(variant=config.data_variant), path, workers=available_cores(), report=report)


def train(
    config: TrainConfig | str | Path = "drm19",
    *,
    data: Path | Sequence[Path] | None = None,
    out: Path | None = None,
    start_from: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    max_minutes: float | None = None,
    n_threads: int | None = None,
    cases: IgnitionCases | None = None,
    report: Callable[[str], None] = print,
) -> Path:
    """Train by a config, given as such, by name or as a file; returns the run folder.

    The config's training set is sampled if it is missing; one that is given as `data`, a file or several, must exist.
    `start_from` is a model, by name or path, whose weights, transform and limits the training begins with, in place of
    the config's network. `cases` are the ignitions that its weights are judged by, by default the quick ones. With
    `resume` an interrupted training of the same folder goes on; with `overwrite` the training in it, and the stages
    that were made of its model, are replaced. Raises what sampling and `fit` raise, FileError for a missing model,
    UsageError where model and data are of different mechanisms or steps.
    """
    if not isinstance(config, TrainConfig):
        config = load_config(config)
    start = None if start_from is None else Surrogate.load(start_from)
    if start is not None:
        config = config_of(start, config)
    out = out or Path("runs") / config.name
    if not resume:
        check_no_run(out, CHECKPOINT, KIND, overwrite)
    with join_team(choose_device(device)) as (team, device):
        if data is None:
            data = config.data
            if team.leads:
                ensure_data(config, data, report)
            team.wait()
        facts, changes = dataset.read_attributes(files_of(data)[0]), config.fit.change_loss > 0.0
        if start is None:
            learning = load_learning_set(data, config.label, changes=changes, calm_share=config.calm_share)
            config = _for_mechanism(config, learning.mechanism)
            network = build(config.network, seed)
        else:
            learning, network = learning_set_for(start, data, changes, config.calm_share), start.network
        tensors = few(learning.tensors, config.rows)
        judge = None
        if config.fit.rollouts and team.leads:
            judge = ignition_judge(learning, facts, config.cold_limit, config.calm_limit, cases)
        if team.leads:
            report(
                f"{config.name}: {count(network, biases=False):,} weights, {len(tensors.x):,} rows, "
                f"device {device}, seed {seed}"
            )

        def begin() -> None:
            """Write the config of this training; what an earlier one left goes."""
            if team.leads:
                if not resume:
                    clear_run(out, _OF_A_TRAINING)
                write_text(out / "config.yaml", dump_yaml(config))

        result = fit(
            network,
            tensors,
            config.fit,
            out,
            seed=seed,
            resume=resume,
            overwrite=overwrite,
            kind=KIND,
            max_minutes=max_minutes,
            device=device,
            n_threads=n_threads,
            judge=judge,
            facts=_facts_to_resume(config, facts, start),
            team=team,
            begin=begin,
            report=report,
        )
        if team.leads:
            metadata = _metadata(config, facts, seed, max_minutes, result)
            if start_from is not None:
                metadata["start_from"] = Path(start_from).name
            if further := [_of_data(dataset.read_attributes(path)) for path in files_of(data)[1:]]:
                metadata["further_data"] = further
            network.cpu()
            domain = probe(learning.domain, facts, learning.mechanism)
            Surrogate(
                *(network, learning.transform, learning.mechanism, learning.dt, domain, metadata),
                cold_limit=config.cold_limit,
                calm_limit=config.calm_limit,
            ).save(out / "model.safetensors")
            draw_losses(out, config.name)
            finish_run(out, KIND, config.name, metadata)
        team.wait()
    return out


def config_of(model: Surrogate, config: TrainConfig) -> TrainConfig:
    """Config with the network, label and limits of a model."""
    own = {
        "network": describe(model.network),
        "label": model.transform.label,
        "cold_limit": model.cold_limit,
        "calm_limit": model.calm_limit,
    }
    return config.model_copy(update=own)


def _for_mechanism(config: TrainConfig, mechanism: Mechanism) -> TrainConfig:
    """Config with the numbers of inputs and outputs of the data's mechanism."""
    width = mechanism.n_species + 2
    network = config.network.model_copy(update={"widths": (width, *config.network.widths[1:-1], width)})
    return config.model_copy(update={"network": network})


def _facts_to_resume(
    config: TrainConfig, facts: Mapping[str, Any], start: Surrogate | None = None
) -> dict[str, object]:
    """Facts that a resumed training must share with its first part, besides the options of its fit."""
    network = config.network
    begun = {}
    if start is not None:
        begun["start from weights of SHA-256"] = sha256(*(p.detach() for p in start.network.parameters()))[:12]
    return {
        "network.widths": list(network.widths),
        "network.activation": network.activation,
        "label": config.label,
        "calm_share": config.calm_share,
        "data of SHA-256": sha256(f"{facts['rows']} {facts['seed']} {facts['recipe']}")[:12],
        **begun,
    }


def _metadata(
    config: TrainConfig, facts: Mapping[str, Any], seed: int, max_minutes: float | None, result: FitReport
) -> dict[str, object]:
    return {
        "config": config.model_dump(mode="json"),
        "data": _of_data(facts),
        "seed": seed,
        "max_minutes": max_minutes,
        "steps": result.steps,
        "seconds": result.seconds,
        "validation_loss": result.validation_loss,
        "best_step": result.best_step,
        "quick_delay_error": result.judgement,
        "largest_batch": result.largest_batch,
    }


def _of_data(facts: Mapping[str, Any]) -> dict[str, object]:
    """What a model says of a training set."""
    return {key: np.asarray(facts[key]).item() for key in ("rows", "seed", "rtol", "atol", "recipe")}


def draw_losses(folder: Path, name: str) -> None:
    """Draw the history of a training as `loss.png` if matplotlib is installed."""
    if installed("matplotlib"):
        from chemnet.runtime import plots

        plots.losses(folder / "loss.png", {name: folder / "loss.csv"})
