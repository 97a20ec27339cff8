"""Manual reduction (section 2.4.1): a recipe of stages, each condenses some layers and trains on.

A stage starts from the model that the stage before it left, stage 1 from the original. Its folder `stage-N` holds the
reduced model, the loss curve of its retraining, the stage as it was run, its report, and a manifest, written last.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field

from chemnet.condensation.cuts import Cut, Rule, check_cuts
from chemnet.condensation.dense import condense_layers, hidden_widths
from chemnet.config import Config, dump_yaml, parse, read_yaml, shipped_yaml
from chemnet.errors import FileError, UsageError
from chemnet.files import read_json, write_json, write_text
from chemnet.learning import TrainConfig, ensure_data, finish_run, latest_run, load_config
from chemnet.learning_set import load_learning_set
from chemnet.network import count, describe
from chemnet.surrogate import Surrogate
from chemnet.tables import Table
from chemnet.training import FitOptions, FitReport, TrainingData, choose_device, fit, validation_loss

_MODEL, _MANIFEST = "model.safetensors", "manifest.json"
_SIZES = ("model", "widths", "weights", "with biases", "weights [%]")
_COLUMNS = (*_SIZES, "loss before", "at once", "retrained", "steps", "time [s]")

Say = Callable[[str], None]
Train = Callable[[torch.nn.Module, FitOptions, Path], FitReport]


class Stage(Rule):
    """One stage: where to cut, by which rule, on how many calibration states, and how to train on."""

    cuts: Annotated[tuple[Cut, ...], Field(min_length=1)]
    calibration_states: Annotated[int, Field(ge=1)] = 8192
    retrain: FitOptions


class Recipe(Config):
    """Stages that are run one after the other."""

    description: str = ""
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]

    def check(self, widths: Sequence[int], stage: int) -> None:
        """UsageError unless stages 1 to `stage` exist and fit a network with these hidden widths."""
        if not 1 <= stage <= len(self.stages):
            raise UsageError(f"stage {stage}: the recipe has stages 1 to {len(self.stages)}")
        for number, entry in enumerate(self.stages[:stage], start=1):
            try:
                widths = check_cuts(entry.cuts, entry, widths)
            except UsageError as error:
                raise UsageError(f"stage {number}: {error}") from None


class StageReport(Config):
    """What one stage came to; losses are on the validation states, before the cut, at once, and after retraining."""

    stage: int
    widths: tuple[int, ...]
    weights: int
    weights_and_biases: int
    loss_before: float
    loss_at_once: float
    loss_after: float
    steps: int
    seconds: float


def read_recipe(name: str | Path) -> Recipe:
    """A recipe by the name of one that ships or by the path of a YAML file."""
    path = shipped_yaml(name, "recipe")
    return parse(Recipe, read_yaml(path), str(path))


def reduce(
    stage: int,
    model: str | Path | None = None,
    config: TrainConfig | None = None,
    *,
    recipe: str | Path | None = None,
    data: Path | None = None,
    out: Path | None = None,
    seed: int = 0,
    device: str = "auto",
    max_minutes: float | None = None,
    report: Say = print,
) -> Table:
    """Run stage `stage` of a recipe, and before it the earlier stages that are missing; the table of all of them.

    The model is a file, run folder or name, by default the latest training of `config`; the config is by default the
    one that the model was trained with. It names the recipe and the training set unless these are given. Stage N is
    left in `out/stage-N`, by default beside the model of the config, in `runs/<name>`.
    Raises FileError where there is no model, UsageError for a recipe or training set that does not fit the model.
    """
    original, config = find_original(model, config)
    recipe = recipe or config.reduction
    if recipe is None:
        raise UsageError(f"{config.name} names no reduction; give one: --recipe quick")
    settings = read_recipe(recipe)
    settings.check(hidden_widths(original.network), stage)
    data = data or config.data
    ensure_data(config, data, report)
    tensors = tensors_for(original, data)
    out = out or Path("runs") / config.name
    reports = run_stages(
        original, tensors, settings, stage, out, seed=seed, device=device, max_minutes=max_minutes, report=report
    )
    return table(original, reports)


def run_stages(
    original: Surrogate,
    data: TrainingData,
    recipe: Recipe,
    stage: int,
    out: Path,
    *,
    seed: int = 0,
    device: str = "cpu",
    max_minutes: float | None = None,
    report: Say = print,
) -> list[StageReport]:
    """As `reduce`, for a model, tensors and recipe at hand; returns the reports of stages 1 to `stage`.

    An earlier stage is taken as it is when its folder is finished and was made from the same weights and data with the
    same settings and seed. `max_minutes` limits each retraining.
    """
    recipe.check(hidden_widths(original.network), stage)
    device = choose_device(device)
    data = data.to(device)

    def train(network: torch.nn.Module, options: FitOptions, folder: Path) -> FitReport:
        return fit(network, data, options, folder, seed=seed, device=device, max_minutes=max_minutes, report=report)

    model, reports = original, []
    for number, settings in enumerate(recipe.stages[:stage], start=1):
        job = _Job(number, settings, out / f"stage-{number}", data, seed)
        done = job.finished(model) if number < stage else None
        if done is None:
            model, done = job.run(model, train, report)
        else:
            report(f"stage {number}: taken from {job.folder}")
            model = Surrogate.load(job.folder, model.mechanism)
        reports.append(done)
    return reports


def table(original: Surrogate, reports: Sequence[StageReport]) -> Table:
    """Widths, sizes and losses of the original and of each stage, as in table 1 of the paper."""
    network, full = original.network, count(original.network, biases=False)
    sizes = (_dashed(describe(network).widths), full, count(network, biases=True), 100.0)
    rows: list[tuple[Any, ...]] = [("original", *sizes, None, None, reports[0].loss_before, None, None)]
    for r in reports:
        sizes = (_dashed(r.widths), r.weights, r.weights_and_biases, 100.0 * r.weights / full)
        rows.append((f"stage {r.stage}", *sizes, r.loss_before, r.loss_at_once, r.loss_after, r.steps, r.seconds))
    return Table("reduction by condensation", _COLUMNS, rows)


def find_original(model: str | Path | None, config: TrainConfig | None) -> tuple[Surrogate, TrainConfig]:
    """The model to reduce and its config, whichever of the two is given; without both, the latest training of drm19.

    Raises FileError where there is no model, UsageError for one that does not tell its config.
    """
    if model is None:
        config = config or load_config()
        model = latest_run(config.name)
        if model is None:
            raise FileError(
                f"no finished training of {config.name} below runs/\nFirst: chemnet train --config {config.name}"
            )
    original = Surrogate.load(model)
    if config is None:
        if "config" not in original.metadata:
            raise UsageError(f"{model} does not tell how it was trained\nName a config: --config quick")
        config = parse(TrainConfig, original.metadata["config"], str(model))
    return original, config


def tensors_for(model: Surrogate, path: Path) -> TrainingData:
    """A training set as the model sees it. UsageError when it was made for another mechanism or time step."""
    learning = load_learning_set(path, transform=model.transform)
    if learning.mechanism.sha256 != model.mechanism.sha256:
        raise UsageError(f"{path} was made with {learning.mechanism.name}, the model with {model.mechanism.name}")
    model.check_dt(learning.dt)
    return learning.tensors


@dataclass(frozen=True)
class _Job:
    """One stage and its folder."""

    number: int
    settings: Stage
    folder: Path
    data: TrainingData
    seed: int

    def finished(self, parent: Surrogate) -> StageReport | None:
        """The report of this stage, if its folder holds it made from these weights with these settings."""
        path = self.folder / _MANIFEST
        if not path.is_file() or read_json(path).get("origin") != self._origin(parent):
            return None
        return parse(StageReport, read_json(self.folder / "report.json"), str(self.folder))

    def run(self, parent: Surrogate, train: Train, say: Say) -> tuple[Surrogate, StageReport]:
        """Condense, train on, save; the reduced model and its report."""
        (self.folder / _MANIFEST).unlink(missing_ok=True)
        data, options = self.data, self.settings.retrain
        before = copy.deepcopy(parent.network).to(data.x.device)
        network = condense_layers(before, self.settings.cuts, self.settings, self._calibration())
        losses = [validation_loss(each, data, options.loss) for each in (before, network)]
        say(
            f"stage {self.number}: {_dashed(describe(before).widths)} to {_dashed(describe(network).widths)}, "
            f"loss {losses[0]:.5f}, at once {losses[1]:.5f}"
        )
        result = train(network, options, self.folder)
        done = StageReport(
            stage=self.number,
            widths=describe(network).widths,
            weights=count(network, biases=False),
            weights_and_biases=count(network, biases=True),
            loss_before=losses[0],
            loss_at_once=losses[1],
            loss_after=result.validation_loss,
            steps=result.steps,
            seconds=result.seconds,
        )
        return self._save(parent, network.cpu(), done), done

    def _save(self, parent: Surrogate, network: torch.nn.Sequential, done: StageReport) -> Surrogate:
        """Write everything, the manifest last; the model tells all stages that it went through."""
        entry = {"settings": self.settings.model_dump(mode="json"), "seed": self.seed, **done.model_dump(mode="json")}
        model = parent.with_network(network, stages=[*parent.metadata.get("stages", []), entry])
        model.save(self.folder / _MODEL)
        write_text(self.folder / "stage.yaml", dump_yaml(self.settings))
        write_json(self.folder / "report.json", done.model_dump(mode="json"))
        facts = {"kind": "reduction", "origin": self._origin(parent), **done.model_dump(mode="json")}
        finish_run(self.folder, f"{self.folder.parent.name}/{self.folder.name}", facts)
        return model

    def _calibration(self) -> torch.Tensor:
        """Training inputs drawn at random, the same for the same seed."""
        generator = torch.Generator().manual_seed(self.seed)
        x = self.data.x
        return x[torch.randperm(len(x), generator=generator)[: self.settings.calibration_states].to(x.device)]

    def _origin(self, parent: Surrogate) -> str:
        """SHA-256 of what this stage is made from: settings, seed, data, and the parent's weights."""
        digest = hashlib.sha256(f"{self.seed} {len(self.data.x)} {self.settings.model_dump_json()}".encode())
        for tensor in (self.data.x_val, self.data.y_val, *parent.network.state_dict().values()):
            digest.update(tensor.cpu().numpy().tobytes())
        return digest.hexdigest()


def _dashed(widths: Sequence[int]) -> str:
    return "-".join(map(str, widths))
