"""From a training set to a model file: configs, the data as tensors, and the run folder that a training leaves.

A run folder holds `config.yaml` as used, `loss.csv` and `loss.png`, the checkpoints `last.pt` and `best.pt`,
`model.safetensors`, and `manifest.json`, which is written last: a folder without it is not finished.
"""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field

from chemnet.data import dataset
from chemnet.data.recipe import load_recipe
from chemnet.data.sampling import sample
from chemnet.gas.mechanism import Mechanism
from chemnet.gas.state import Array
from chemnet.kinetics import RosenbrockReactor
from chemnet.kinetics.cvodes import ChemistryStep
from chemnet.runtime.config import Config, dump_yaml, override, parse, parse_yaml, read_yaml, shipped_yaml
from chemnet.runtime.errors import ChemnetError, NumericalError
from chemnet.runtime.files import read_json, write_text
from chemnet.runtime.processes import available_cores
from chemnet.runtime.run_folder import finish_run, sha256
from chemnet.runtime.tables import Table
from chemnet.surrogate.model import Surrogate
from chemnet.surrogate.network import NetConfig, build, count
from chemnet.surrogate.transform import Label
from chemnet.training.distributed import join_team
from chemnet.training.domain_fit import probe
from chemnet.training.loop import FitOptions, FitReport, Judge, choose_device, few, fit
from chemnet.training.tensors import LearningSet, load_learning_set
from chemnet.validation import QUICK, IgnitionCases, ignition_delay, roll_out

_SCAN = (0.25, 0.5, 1.0, 2.0, 4.0)  # times the config's learning rate


class TrainConfig(Config):
    """A training: which data, label and network, how to fit, and the reduction recipe that belongs to it.

    `data` is the training set; when it does not exist it is made by the variant `data_variant` of the shipped recipe.
    With `rows` only so many of its rows are trained on, drawn at random.
    `cold_limit` [K] and `calm_limit` are those of the model: colder and calmer gas is integrated (`Surrogate`).
    """

    name: str
    description: str = ""
    data: Path
    data_variant: str | None = None
    rows: int | None = Field(None, ge=1)
    label: Label = "signed_root"
    cold_limit: float = Field(800.0, ge=0)
    calm_limit: float = Field(0.01, ge=0)
    network: NetConfig
    fit: FitOptions
    reduction: str | None = None


def load_config(name_or_path: str | Path = "drm19", changes: Sequence[str] = ()) -> TrainConfig:
    """The config of a name that ships or of a YAML file, with `key=value` changes. Raises UsageError, FileError."""
    path = shipped_yaml(name_or_path, "config", Path(__file__).parent)
    return parse(TrainConfig, override(read_yaml(path), changes), str(path))


def ensure_data(config: TrainConfig, path: Path, report: Callable[[str], None] = print) -> None:
    """Sample the config's training set at `path` if it is not there, saying so."""
    if path.exists():
        return
    variant = f" (variant {config.data_variant})" if config.data_variant else ""
    report(f"no training set {path}: sampling the shipped recipe{variant} first")
    sample(load_recipe(variant=config.data_variant), path, available_cores(), report)


def train(
    config: TrainConfig,
    *,
    data: Path | None = None,
    out: Path | None = None,
    seed: int = 0,
    device: str = "auto",
    resume: bool = False,
    max_minutes: float | None = None,
    report: Callable[[str], None] = print,
) -> Path:
    """Train the network of a config, sampling first if the config's data is not there; returns the run folder.

    A training set that is named by `data` must exist. With `resume` an interrupted training of the same folder goes
    on. Raises what sampling and fit raise.
    """
    out = out or Path("runs") / config.name
    with join_team(choose_device(device)) as (team, device):
        if data is None:
            data = config.data
            if team.leads:
                ensure_data(config, data, report)
            team.wait()
        facts, learning = dataset.read_attributes(data), load_learning_set(data, config.label)
        config = _for_mechanism(config, learning.mechanism)
        network, tensors = build(config.network, seed), few(learning.tensors, config.rows)
        if team.leads:
            report(
                f"{config.name}: {count(network, biases=False):,} weights, {len(tensors.x):,} rows, "
                f"device {device}, seed {seed}"
            )

        def begin() -> None:
            """The folder now belongs to this training, which is not finished."""
            if team.leads:
                (out / "manifest.json").unlink(missing_ok=True)
                write_text(out / "config.yaml", dump_yaml(config))

        result = fit(
            network,
            tensors,
            config.fit,
            out,
            seed=seed,
            resume=resume,
            max_minutes=max_minutes,
            device=device,
            judge=ignition_judge(learning, facts) if config.fit.rollouts and team.leads else None,
            about=_about(config, facts),
            team=team,
            begin=begin,
            report=report,
        )
        if team.leads:
            metadata = _metadata(config, facts, seed, max_minutes, result)
            network.cpu()
            domain = probe(learning.domain, dataset.read_attributes(data), learning.mechanism)
            Surrogate(
                *(network, learning.transform, learning.mechanism, learning.dt, domain, metadata),
                cold_limit=config.cold_limit,
                calm_limit=config.calm_limit,
            ).save(out / "model.safetensors")
            draw_losses(out, config.name)
            finish_run(out, "training", config.name, metadata)
        team.wait()
    return out


def _for_mechanism(config: TrainConfig, mechanism: Mechanism) -> TrainConfig:
    """The config with as many inputs and outputs as the mechanism of the data has columns, which need not be DRM19."""
    width = mechanism.n_species + 2
    network = config.network.model_copy(update={"widths": (width, *config.network.widths[1:-1], width)})
    return config.model_copy(update={"network": network})


def _about(config: TrainConfig, facts: Mapping[str, Any]) -> dict[str, object]:
    """What a training that is resumed shares with its first part, besides the options of its fit."""
    network = config.network
    return {
        "network.widths": list(network.widths),
        "network.activation": network.activation,
        "label": config.label,
        "data of SHA-256": sha256(f"{facts['rows']} {facts['seed']} {facts['recipe']}")[:12],
    }


def judging_cases(facts: Mapping[str, Any], mechanism: Mechanism) -> IgnitionCases | None:
    """The quick cases with the fuel of the data's recipe, one of its `facts`; None where the mechanism lacks it."""
    try:
        fuel = parse_yaml(str(facts["recipe"]), "recipe")["fuel"]
        cases = QUICK.model_copy(update={"fuel": fuel})
        cases.states(mechanism)
    except (ChemnetError, KeyError):
        return None
    return cases


def ignition_judge(learning: LearningSet, facts: Mapping[str, Any]) -> Judge | None:
    """Judges a network by roll-outs: the mean relative error of its ignition delays over the quick cases.

    A case that does not ignite counts as an error of 1, and none counts as more. The reference is the exact step at
    tight tolerances. None where there is nothing to judge by: no `judging_cases`, a mechanism that the exact step does
    not cover, or nothing ignites.
    """
    mechanism, dt = learning.mechanism, learning.dt
    cases = judging_cases(facts, mechanism)
    try:
        exact = RosenbrockReactor(mechanism, 1e-6, 1e-12)
    except ChemnetError:
        return None
    if cases is None:
        return None
    states = cases.states(mechanism)

    def delays(step: ChemistryStep) -> Array:
        return ignition_delay(roll_out(step, states, dt, QUICK.steps, lambda line: None).temperature, dt)

    reference = delays(exact)
    ignites = np.isfinite(reference)
    if not ignites.any():
        return None

    def judge(network: torch.nn.Module) -> float:
        model = Surrogate(copy.deepcopy(network).cpu(), learning.transform, mechanism, dt, learning.domain)
        error = np.abs(delays(model) / reference - 1.0)[ignites]
        return float(np.minimum(np.nan_to_num(error, nan=1.0), 1.0).mean())

    return judge


def scan_rates(
    config: TrainConfig,
    rates: Sequence[float] = (),
    *,
    data: Path | None = None,
    out: Path | None = None,
    seed: int = 0,
    device: str = "auto",
    max_minutes: float | None = None,
    report: Callable[[str], None] = print,
) -> Table:
    """The same short training (of a minute, unless told otherwise) at several learning rates, and what came of each.

    The rates are by default a quarter to four times the config's. Each training is left in `rate-<rate>` below the run
    folder. Raises what `train` raises, but for a training that diverges, which is a result.
    """
    start = config.fit.learning_rate
    out = out or Path("runs") / config.name
    rows = []
    for rate in rates or [factor * start for factor in _SCAN]:
        fit_options = parse(
            FitOptions, config.fit.model_dump() | {"learning_rate": rate, "rollouts": 1}, "--scan-rates"
        )
        trial = config.model_copy(update={"fit": fit_options})
        try:
            run = train(
                trial,
                data=data,
                out=out / f"rate-{rate:g}",
                seed=seed,
                device=device,
                max_minutes=1.0 if max_minutes is None else max_minutes,
                report=report,
            )
        except NumericalError:
            rows.append((rate, None, None, None))
            continue
        facts = read_json(run / "manifest.json")
        error = facts["quick_delay_error"]
        rows.append((rate, facts["steps"], facts["validation_loss"], None if error is None else 100.0 * error))
    columns = ("learning rate", "steps", "validation loss", "delay error, 25 ignitions [%]")
    return Table(f"learning rates of {config.name}; a rate without figures diverged", columns, rows)


def _metadata(
    config: TrainConfig, facts: Mapping[str, Any], seed: int, max_minutes: float | None, result: FitReport
) -> dict[str, object]:
    return {
        "config": config.model_dump(mode="json"),
        "data": {key: _plain(facts[key]) for key in ("rows", "seed", "rtol", "atol", "recipe")},
        "seed": seed,
        "max_minutes": max_minutes,
        "steps": result.steps,
        "seconds": result.seconds,
        "validation_loss": result.validation_loss,
        "best_step": result.best_step,
        "quick_delay_error": result.judgement,
        "largest_batch": result.largest_batch,
    }


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value


def draw_losses(folder: Path, name: str) -> None:
    """Draw the history of a training as `loss.png`, where matplotlib is installed."""
    if importlib.util.find_spec("matplotlib"):
        from chemnet.runtime import plots

        plots.losses(folder / "loss.png", {name: folder / "loss.csv"})
