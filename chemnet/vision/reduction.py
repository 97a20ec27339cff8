"""Automatic reduction of a trained classifier, layer by layer as in the paper, and its run folder.

The folder holds the log `automatic.csv` and the checkpoint `automatic.pt` of the algorithm, the classifier of every
stage, the pictures `steps.png` and `layers.png`, the page `reduction.md` and `.html`, and at last `manifest.json`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from chemnet.condensation.condenser import condense
from chemnet.reduction.automatic import CHECKPOINT, KIND, LOG, Reducible, reduce_automatically
from chemnet.runtime.lazy import installed
from chemnet.runtime.malloc import keep_freed_memory
from chemnet.runtime.report import Picture, write_report
from chemnet.runtime.run_folder import clear_run, finish_run
from chemnet.runtime.tables import Table
from chemnet.training.checkpoint import check_no_run
from chemnet.training.options import choose_device
from chemnet.vision.classifier import load_classifier
from chemnet.vision.config import ImageConfig
from chemnet.vision.costs import multiply_adds
from chemnet.vision.images import ImageSet, read_images
from chemnet.vision.mobilenet import LAST_LAYER
from chemnet.vision.networks import count, hidden_layers
from chemnet.vision.training import ImageBatches, accuracy, channels_last, fingerprint, prepared

STEPS_PICTURE, LAYERS_PICTURE, PAGE = "steps.png", "layers.png", "reduction"


class CondensingTraining(Reducible):
    """A classifier in training that can be condensed.

    Its layers are those inside of the blocks (`networks.hidden_layers`). Those of MobileNetV2 are named as in the
    paper: 2 to 17 are the blocks with an expansion, condensed by their depthwise channels, 18 is the convolution in
    front of the classifier. The metric is the accuracy on the validation images, the verdict that on the test images.
    """

    def __init__(
        self, network: nn.Module, images: ImageSet, config: ImageConfig, *, seed: int = 0, device: str = "cpu"
    ) -> None:
        config = config.for_reduction()
        batches = ImageBatches.of(images, config).to(device)
        number = config.reduction.calibration
        chosen = torch.randperm(len(batches), generator=torch.Generator().manual_seed(seed))[:number]
        calibration = prepared(batches.training.pixels[chosen.to(device)]) if number else None
        example = prepared(batches.training.pixels[:1])

        def condensed(network: nn.Module, module: str, threshold: float) -> nn.Module:
            """The network with a module condensed; a single channel stays."""
            rule = config.reduction.rule
            if len(network.get_submodule(module).weight) == 1:  # type: ignore[arg-type]
                return network
            if rule.choice == "published" and module in LAST_LAYER.values():
                rule = rule.model_copy(update={"choice": "folded"})  # it has no depthwise filters
            options = {"layers": [module], "calibration": calibration, **rule.model_dump()}
            return condense(network, example, threshold=threshold, **options)

        of, modules = config.options(len(batches)), hidden_layers(network)
        super().__init__(channels_last(network), batches, of, modules, condensed, seed=seed, device=device)
        self._test = images.test.to(device)

    def parameters(self, layer: str | None = None) -> int:
        """Number of parameters of the network, or of the block or convolution of a layer."""
        if layer is None:
            return super().parameters()
        return count(self.network.get_submodule(".".join(self.module(layer).split(".")[:2])))

    def verdict(self) -> float:
        """Accuracy on the test images."""
        return accuracy(self.network, self._test)


def reduce(
    config: ImageConfig,
    data: Path,
    *,
    model: Path | None = None,
    out: Path | None = None,
    seed: int = 0,
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    report: Callable[[str], None] = print,
) -> Table:
    """Reduce a classifier by the automatic algorithm of section 2.4.2; returns table 3.

    `model` is a file or a run folder (default: the config's training), `out` defaults to the folder `reduction` beside
    the classifier. With `resume` an interrupted reduction goes on; one that is there is replaced with `overwrite` only.
    Raises UsageError for a reduction of another config, classifier, seed or set of images, FileError for missing or
    damaged files, NumericalError for a loss not finite.
    """
    keep_freed_memory()
    source = model or Path("runs") / f"vision-{config.name}"
    folder = out or (source if source.is_dir() else source.parent) / "reduction"
    if not resume:
        check_no_run(folder, CHECKPOINT, KIND, overwrite)
    classifier, images = load_classifier(source), read_images(data)
    facts = {
        "config": config.model_dump(mode="json"),
        "images": fingerprint(images),
        "seed": seed,
        "classifier": classifier.fingerprint(),
    }
    training = CondensingTraining(classifier.network, images, config, seed=seed, device=choose_device(device))

    def keep(stage: str) -> None:
        """Save the classifier of a stage."""
        of_stage = {**classifier.facts, "test_accuracy": training.verdict(), "stage": stage}
        replace(classifier, network=training.network, facts=of_stage).save(_file(folder, stage))

    if not resume:
        clear_run(
            folder, ("original.pt", "reduction-*.pt", "final-cut.pt", "reduction.*", STEPS_PICTURE, LAYERS_PICTURE)
        )
    how = {"resume": resume, "overwrite": overwrite, "report": report, "keep": keep, "about": facts}
    stages = reduce_automatically(training, config.reduction.automatic, folder, **how)  # type: ignore[arg-type]
    table = _table(stages, folder)
    pictures = []
    if installed("matplotlib"):
        from chemnet.runtime import plots

        plots.reduction_steps(folder / STEPS_PICTURE, folder / LOG)
        plots.first_main_reduction(folder / LAYERS_PICTURE, folder / LOG)
        pictures.append(Picture(folder / STEPS_PICTURE, "Metric and parameters over the steps, as figure 6"))
        pictures.append(Picture(folder / LAYERS_PICTURE, "Layers in the first main reduction, as figure 7"))
    lead = f"{config.name}: {config.description}"
    files = write_report(folder / PAGE, "Automatic reduction of a classifier", lead, [table, *pictures])
    report(f"written: {', '.join(map(str, files))}")
    finish_run(folder, KIND, config.name, {**facts, "stages": table.as_json()["rows"]})
    return table


def _file(folder: Path, stage: str) -> Path:
    return folder / f"{stage.replace(' ', '-')}.pt"


def _table(stages: Table, folder: Path) -> Table:
    """Table 3, with the multiply-adds of each stage beside its parameters."""
    names, parameters, shares, metrics, verdicts, steps = zip(*stages.rows, strict=True)
    costs = [multiply_adds(load_classifier(_file(folder, name)).network) for name in names]
    columns = {
        "network": names,
        "parameters": parameters,
        "parameters [%]": shares,
        "multiply-adds [M]": [1e-6 * cost for cost in costs],
        "multiply-adds [%]": [100.0 * cost / costs[0] for cost in costs],
        "best validation [%]": [100.0 * metric for metric in metrics],
        "test accuracy [%]": [100.0 * verdict for verdict in verdicts],
        "from step": steps,
    }
    return Table.of("automatic reduction", columns)
