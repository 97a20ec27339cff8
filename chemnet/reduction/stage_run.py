"""Manual reduction (section 2.4.1): stages, each of which condenses some layers and trains on.

A stage starts from the model that the stage before it left, stage 1 from the original. Its folder `stage-N` holds the
reduced model, the loss curve and the checkpoints of its retraining, the stage as it was run, its report, and a
manifest, written last. A finished stage is taken as it is, an interrupted one goes on, where the weights, data and
settings that it is made from are still the same.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from chemnet.condensation.calibration import output_change
from chemnet.reduction.stages import Stage, Stages, condense_layers
from chemnet.runtime.config import Config, dump_yaml, parse
from chemnet.runtime.errors import UsageError
from chemnet.runtime.files import check_writable, read_json, write_json, write_text
from chemnet.runtime.run_folder import MANIFEST, begin_run, clear_run, finish_run, read_kept, sha256, write_kept
from chemnet.surrogate.model import Surrogate
from chemnet.surrogate.network import count, describe
from chemnet.training.batches import TrainingData, validation_loss
from chemnet.training.loop import CHECKPOINT, Judge, fit
from chemnet.training.options import choose_device
from chemnet.training.run import draw_losses

KIND = "reduction"
_MODEL, _START = "model.safetensors", "start.json"
_OF_A_STAGE = (_MODEL, "loss.png", "stage.yaml", "report.json")
_LOSS_ROWS = 8192  # validation rows that a cut by a permitted loss increase looks at

Say = Callable[[str], None]


class Delays(Config):
    """Errors of the ignition delays [%] of some `cases`, of which `failed` do not ignite or leave the domain."""

    mean: float | None
    max: float | None
    failed: int
    cases: int


class StageReport(Config):
    """Result of one stage.

    Losses are on the validation states: before the cut, at once after it, and after retraining. `output_change` is the
    change of the outputs by the cut alone on the calibration states, relative to their mean size; `exact`: whether the
    activation makes the merging of parallel neurons exact. The delays are those of the model before and after.
    """

    stage: int
    widths: tuple[int, ...]
    weights: int
    weights_and_biases: int
    loss_before: float
    loss_at_once: float
    loss_after: float
    output_change: float
    exact: bool
    delays_before: Delays | None
    delays_after: Delays | None
    steps: int
    seconds: float


@dataclass(frozen=True)
class Bench:
    """Inputs that all stages of a reduction share: data, seed, device, limits of time and threads, judge of models, and
    whether stages that were made from something else may be replaced (`overwrite`).

    `judge` picks the best weights of a retraining by roll-outs, where its options ask for it; `delays` measures
    the delay errors of a model for the report.
    """

    data: TrainingData
    seed: int = 0
    device: str = "cpu"
    max_minutes: float | None = None
    n_threads: int | None = None
    overwrite: bool = False
    judge: Judge | None = None
    delays: Callable[[Surrogate], Delays] | None = None
    say: Say = print

    def errors_of(self, model: Surrogate) -> Delays | None:
        """Errors of the ignition delays of a model, where `delays` is given."""
        return self.delays(model) if self.delays else None


def run_stages(original: Surrogate, bench: Bench, stages: Stages, stage: int, out: Path) -> list[StageReport]:
    """Reports of stages 1 to `stage`; those that are not there yet in `out/stage-N` are run.

    Raises UsageError for stages that do not fit, before anything is done, and for folders of stages that were made from
    something else, and what training raises.
    """
    stages.check(describe(original.network).widths[1:-1], stage)
    check_writable(out / MANIFEST)
    device = choose_device(bench.device)
    bench = dataclasses.replace(bench, device=device, data=bench.data.to(device))
    model, reports = original, list[StageReport]()
    jobs = [_Job(n, settings, out / f"stage-{n}", bench) for n, settings in enumerate(stages.stages[:stage], start=1)]
    for number, job in enumerate(jobs, start=1):
        done = job.finished(model)
        if done is None:
            if not bench.overwrite:
                _check_nothing_is_lost(jobs[number:] if job.resumes(model) else jobs[number - 1 :])
            delays = reports[-1].delays_after if reports else bench.errors_of(model)
            model, done = job.run(model, delays)
        else:
            bench.say(f"stage {number}: taken from {job.folder}")
            model = Surrogate.load(job.folder, model.mechanism)
        reports.append(done)
    return reports


def _check_nothing_is_lost(jobs: Sequence[_Job]) -> None:
    """Raise UsageError where the folder of a stage that is to be made holds one."""
    for folder in (job.folder for job in jobs):
        if any((folder / name).is_file() for name in (MANIFEST, CHECKPOINT)):
            raise UsageError(
                f"{folder} was made from another model, data, seed or other settings\n"
                "Name another folder with --out, or replace it with --overwrite."
            )


def calibration(data: TrainingData, count: int, seed: int) -> torch.Tensor:
    """Training inputs drawn at random (count, m_in), the same for the same seed."""
    order = torch.randperm(len(data.x), generator=torch.Generator().manual_seed(seed))
    return data.x[order[:count].to(data.x.device)]


def loss_function(data: TrainingData, loss: str) -> Callable[[torch.nn.Module], float]:
    """The validation loss on a part of the rows, for cuts by a permitted loss increase."""
    part = dataclasses.replace(data, x_val=data.x_val[:_LOSS_ROWS], y_val=data.y_val[:_LOSS_ROWS])
    return lambda network: validation_loss(network, part, loss)


@dataclass(frozen=True)
class _Job:
    """One stage and its folder."""

    number: int
    settings: Stage
    folder: Path
    bench: Bench

    def finished(self, parent: Surrogate) -> StageReport | None:
        """The report of this stage, if its folder holds it made from these weights with these settings."""
        if not self._was_made_from(parent, MANIFEST):
            return None
        return parse(StageReport, read_json(self.folder / "report.json"), str(self.folder))

    def run(self, parent: Surrogate, delays: Delays | None) -> tuple[Surrogate, StageReport]:
        """Condense, train on, save; the reduced model and its report. `delays` are those of the parent."""
        data, options, bench = self.bench.data, self.settings.retrain, self.bench
        resume = self.resumes(parent)
        begin_run(self.folder, {})
        if not resume:
            clear_run(self.folder, _OF_A_STAGE)
        write_kept(self.folder / _START, self._origin(parent), {})
        before = copy.deepcopy(parent.network).to(data.x.device)
        network, change = self._cut(before)
        losses = [validation_loss(each, data, options.loss) for each in (before, network)]
        bench.say(
            f"stage {self.number}: {dashed(describe(before).widths)} to {dashed(describe(network).widths)}, "
            f"loss {losses[0]:.5f}, at once {losses[1]:.5f}, outputs changed by {100.0 * change:.2g} %"
        )
        sizes = {"weights": count(network, biases=False), "weights_and_biases": count(network, biases=True)}
        result = fit(
            network,
            data,
            options,
            self.folder,
            seed=bench.seed,
            resume=resume,
            overwrite=True,
            kind=KIND,
            device=bench.device,
            max_minutes=bench.max_minutes,
            n_threads=bench.n_threads,
            judge=bench.judge if options.rollouts else None,
            report=bench.say,
        )
        model = parent.with_network(network.cpu())
        done = StageReport(
            stage=self.number,
            widths=describe(network).widths,
            **sizes,
            loss_before=losses[0],
            loss_at_once=losses[1],
            loss_after=result.validation_loss,
            output_change=change,
            exact=describe(network).activation == "relu",
            delays_before=delays,
            delays_after=bench.errors_of(model),
            steps=result.steps,
            seconds=result.seconds,
        )
        return self._save(parent, model, done), done

    def _cut(self, before: torch.nn.Sequential) -> tuple[torch.nn.Sequential, float]:
        """The network after the cuts, and the relative change of its outputs; a warning where merging is not exact."""
        settings, bench = self.settings, self.bench
        states = calibration(bench.data, settings.calibration_states, bench.seed)
        loss = loss_function(bench.data, settings.retrain.loss)
        network, messages = condense_layers(before, settings.cuts, settings, states, loss)
        for message in messages:
            bench.say(f"warning: {message}")
        return network, output_change(before, network, states)

    def _save(self, parent: Surrogate, model: Surrogate, done: StageReport) -> Surrogate:
        """Write everything, the manifest last; the model's metadata lists all stages."""
        report = done.model_dump(mode="json")
        entry = {"settings": self.settings.model_dump(mode="json"), "seed": self.bench.seed, **report}
        error = done.delays_after.mean if done.delays_after else None
        model = parent.with_network(
            model.network,
            stages=[*parent.metadata.get("stages", []), entry],
            validation_loss=done.loss_after,
            quick_delay_error=None if error is None else 0.01 * error,
        )
        model.save(self.folder / _MODEL)
        write_text(self.folder / "stage.yaml", dump_yaml(self.settings))
        write_json(self.folder / "report.json", report)
        name = f"{self.folder.parent.name}/{self.folder.name}"
        draw_losses(self.folder, name)
        finish_run(self.folder, KIND, name, {"origin": self._origin(parent), **report})
        return model

    def resumes(self, parent: Surrogate) -> bool:
        """Whether the folder holds a part of this stage, made from these weights with these settings."""
        return self._was_made_from(parent, _START) and (self.folder / CHECKPOINT).is_file()

    def _was_made_from(self, parent: Surrogate, file: str) -> bool:
        """Whether the stage was made, or begun, from the same origin, by a file of its folder."""
        return read_kept(self.folder / file, self._origin(parent)) is not None

    def _origin(self, parent: Surrogate) -> str:
        """SHA-256 of what this stage is made from: settings, seed, data, and the parent's weights."""
        data, bench = self.bench.data, self.bench
        plain = f"{bench.seed} {bench.max_minutes} {len(data.x)} {self.settings.model_dump_json()}"
        return sha256(plain, data.x_val, data.y_val, *parent.network.state_dict().values())


def dashed(widths: Sequence[int]) -> str:
    """Widths as the paper writes them: 23-3200-...-23."""
    return "-".join(map(str, widths))
