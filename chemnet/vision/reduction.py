"""The automatic reduction of a trained classifier as a folder: table 3, figures 6 and 7, and a classifier per stage.

The folder holds the log `automatic.csv` and the checkpoint `automatic.pt` of the algorithm, the classifier of every
stage as it was at its end, `table.md`, and the pictures `steps.png` and `layers.png`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

from chemnet.reduction.automatic import LOG, reduce_automatically
from chemnet.runtime.errors import FileError
from chemnet.runtime.files import write_text
from chemnet.runtime.tables import Table
from chemnet.training.options import choose_device
from chemnet.vision.classifier import Classifier, load_classifier
from chemnet.vision.costs import multiply_adds
from chemnet.vision.images import read_images
from chemnet.vision.learning import fingerprint
from chemnet.vision.recipe import TrainingRecipe
from chemnet.vision.reducing import CondensingTraining

STEPS_PICTURE, LAYERS_PICTURE = "steps.png", "layers.png"


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
    stages = reduce_automatically(training, options, folder, resume=resume, say=report, keep=keep, about=about)
    table = _table(stages, folder, classifier.downsampling)
    write_text(folder / "table.md", f"{table.markdown()}\n")
    if importlib.util.find_spec("matplotlib"):
        draw_steps(folder, folder / STEPS_PICTURE)
        draw_layers(folder, folder / LAYERS_PICTURE)
        report(f"pictures: {folder / STEPS_PICTURE}, {folder / LAYERS_PICTURE}")
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
    for name, parameters, share, metric, accuracy, step in stages.rows:
        cost = multiply_adds(load_classifier(_file(folder, name)).network)
        full = full or cost
        rows.append(
            (name, parameters, share, 1e-6 * cost, 100.0 * cost / full, *(100.0 * metric, 100.0 * accuracy), step)
        )
    columns = (
        *("network", "parameters", "parameters [%]", "multiply-adds [M]", "multiply-adds [%]"),
        *("best validation [%]", "test accuracy [%]", "from step"),
    )
    return Table("automatic reduction", columns, rows)
