"""The automatic reduction of a trained classifier: MobileNetV2 with the paper's layers, and the folder that is left.

The folder holds the log `automatic.csv` and the checkpoint `automatic.pt` of the algorithm, the classifier of every
stage as it was at its end, `table.md`, the pictures `steps.png` and `layers.png`, and at last `manifest.json`.
"""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from chemnet.condensation.condenser import condense
from chemnet.condensation.surgery import resize
from chemnet.reduction.automatic import LOG, reduce_automatically
from chemnet.runtime.errors import FileError, UsageError
from chemnet.runtime.files import write_text
from chemnet.runtime.malloc import keep_freed_memory
from chemnet.runtime.run_folder import finish_run
from chemnet.runtime.tables import Table
from chemnet.training.options import choose_device
from chemnet.vision.classifier import Classifier, load_classifier
from chemnet.vision.costs import multiply_adds
from chemnet.vision.images import ImageSet, read_images
from chemnet.vision.mobilenet import LAST_LAYER, MobileNetV2, count, hidden_layers
from chemnet.vision.recipe import TrainingRecipe
from chemnet.vision.training import ImageTraining, accuracy, fingerprint, prepared

STEPS_PICTURE, LAYERS_PICTURE = "steps.png", "layers.png"

_LAYERS = {**hidden_layers(), **LAST_LAYER}


class CondensingTraining(ImageTraining):
    """A network in training that can be condensed: `automatic.Reducible`.

    Layers are named as in the paper: 2 to 17 are the blocks with an expansion, of which the depthwise channels are
    condensed, 18 is the convolution in front of the classifier. The metric is the accuracy on the images to validate
    with, the verdict that on the test images.
    """

    def __init__(
        self, network: MobileNetV2, images: ImageSet, recipe: TrainingRecipe, *, seed: int = 0, device: str = "cpu"
    ) -> None:
        super().__init__(network, images, recipe.for_reduction(), seed=seed, device=device)
        self._whole = copy.deepcopy(network)  # a depthwise layer of one channel no longer tells that it is one
        self._rule, images_seen = recipe.reduction.rule, recipe.reduction.calibration
        training = images.training.to(device)
        chosen = torch.randperm(len(self.batches), generator=torch.Generator().manual_seed(seed))[:images_seen]
        self._calibration = prepared(training.pixels[chosen.to(device)]) if images_seen else None
        self._example = prepared(training.pixels[:1])

    def layers(self) -> Sequence[str]:
        """Layers 2 to 18."""
        return list(_LAYERS)

    def parameters(self, layer: str | None = None) -> int:
        """Parameters of the network, or of the block or convolution that is a layer."""
        part = self.network if layer is None else self.network.get_submodule(".".join(_module(layer).split(".")[:2]))
        return count(part)

    def condense(self, layer: str, threshold: float) -> None:
        """Condense the channels of a layer; one that is left stays. Raises UsageError for a layer that there is not."""
        rule = self._rule
        if self.network.get_submodule(_module(layer)).out_channels == 1:
            return
        if rule.choice == "published" and layer in LAST_LAYER:
            rule = rule.model_copy(update={"choice": "folded"})  # it has no depthwise filters
        self.network = condense(
            self.network,
            self._example,
            threshold=threshold,
            layers=[_module(layer)],
            calibration=self._calibration,
            **rule.model_dump(),
        )

    def verdict(self) -> float:
        """Accuracy on the test images."""
        return accuracy(self.network, self.test)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Return to a state, whose layers may be wider or narrower."""
        self.network = copy.deepcopy(self._whole).to(self.device, memory_format=torch.channels_last)
        resize(self.network, state["network"])
        super().restore(state)


def _module(layer: str) -> str:
    if layer not in _LAYERS:
        raise UsageError(f"no {layer}; there are {', '.join(_LAYERS)}")
    return _LAYERS[layer]


def reduce(
    recipe: TrainingRecipe,
    data: Path,
    *,
    model: Path | None = None,
    out: Path | None = None,
    seed: int = 0,
    device: str = "auto",
    resume: bool = False,
    report: Callable[[str], None] = print,
) -> Table:
    """Reduce a classifier (default: the recipe's training) by the automatic algorithm of section 2.4.2; table 3.

    `model` is a file or a run folder, `out` defaults to the folder `reduction` beside the classifier. With `resume` an
    interrupted reduction goes on. Raises UsageError for a reduction of another recipe, classifier, seed or set of
    images, FileError for a file that is missing or damaged, NumericalError for a loss that is not finite.
    """
    keep_freed_memory()
    source = model or Path("runs") / f"vision-{recipe.name}"
    classifier, images = load_classifier(source), read_images(data)
    folder = out or (source if source.is_dir() else source.parent) / "reduction"
    about = {
        "recipe": recipe.model_dump(mode="json"),
        "images": fingerprint(images),
        "seed": seed,
        "classifier": classifier.fingerprint(),
    }
    training = CondensingTraining(classifier.network, images, recipe, seed=seed, device=choose_device(device))

    def keep(stage: str) -> None:
        """The classifier of a stage, as a file of its own."""
        facts = {**classifier.facts, "test_accuracy": training.verdict(), "stage": stage}
        Classifier(training.network, classifier.classes, classifier.downsampling, facts).save(_file(folder, stage))

    options = recipe.reduction.automatic
    stages = reduce_automatically(training, options, folder, resume=resume, report=report, keep=keep, about=about)
    table = _table(stages, folder, classifier.downsampling)
    write_text(folder / "table.md", f"{table.markdown()}\n")
    if importlib.util.find_spec("matplotlib"):
        draw_steps(folder, folder / STEPS_PICTURE)
        draw_layers(folder, folder / LAYERS_PICTURE)
        report(f"pictures: {folder / STEPS_PICTURE}, {folder / LAYERS_PICTURE}")
    finish_run(folder, "automatic reduction", recipe.name, {**about, "stages": table.as_json()["rows"]})
    return table


def draw_steps(folder: Path, picture: Path) -> None:
    """Figure 6: accuracy, training loss and parameters over the steps of a reduction."""
    from chemnet.runtime import plots

    plots.reduction_steps(picture, _log(folder))


def draw_layers(folder: Path, picture: Path) -> None:
    """Figure 7: what the first main reduction did to each layer."""
    from chemnet.runtime import plots

    plots.first_main_reduction(picture, _log(folder))


def _log(folder: Path) -> Path:
    if not (folder / LOG).is_file():
        raise FileError(f"{folder} holds no automatic reduction\nMake one: chemnet vision reduce --data IMAGES")
    return folder / LOG


def _file(folder: Path, stage: str) -> Path:
    return folder / f"{stage.replace(' ', '-')}.pt"


def _table(stages: Table, folder: Path, downsampling: int) -> Table:
    """Table 3, with the multiply-adds of each stage beside its parameters."""
    rows = []
    full = None
    for name, parameters, share, metric, verdict, step in stages.rows:
        cost = multiply_adds(load_classifier(_file(folder, name)).network)
        full = full or cost
        rows.append(
            (name, parameters, share, 1e-6 * cost, 100.0 * cost / full, *(100.0 * metric, 100.0 * verdict), step)
        )
    columns = (
        *("network", "parameters", "parameters [%]", "multiply-adds [M]", "multiply-adds [%]"),
        *("best validation [%]", "test accuracy [%]", "from step"),
    )
    return Table("automatic reduction", columns, rows)
