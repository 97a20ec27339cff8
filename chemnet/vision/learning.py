"""A training of a classifier as a run folder: checkpoints, history, and at the end the classifier with its figures.

A run folder holds `recipe.yaml` as used, `history.csv`, the checkpoint `last.pt`, and `classifier.pt`, which is written
when the training has come to its end.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from chemnet.runtime.config import dump_yaml
from chemnet.runtime.errors import signals_wait
from chemnet.runtime.files import write_text
from chemnet.runtime.run_folder import check_same, sha256
from chemnet.runtime.tables import Table, write_csv
from chemnet.training.checkpoint import read_checkpoint, write_checkpoint
from chemnet.training.options import choose_device
from chemnet.vision.classifier import MODEL, Classifier, load_classifier
from chemnet.vision.images import ImageSet, read_images
from chemnet.vision.mobilenet import MobileNetV2, count
from chemnet.vision.recipe import TrainingRecipe
from chemnet.vision.training import ImageTraining, accuracy

HISTORY, CHECKPOINT = "history.csv", "last.pt"
_COLUMNS = ("step", "epoch", "training_loss", "validation_accuracy", "rate", "seconds")


def train(
    recipe: TrainingRecipe,
    data: Path,
    *,
    out: Path | None = None,
    seed: int = 0,
    device: str = "auto",
    resume: bool = False,
    max_minutes: float | None = None,
    report: Callable[[str], None] = print,
) -> Path:
    """Train MobileNetV2 on the images at `data`; returns the run folder.

    With `max_minutes` it stops after so long with a checkpoint; with `resume` it goes on from there, on the CPU bit by
    bit. SIGINT and SIGTERM end it after the step. Raises UsageError where the folder belongs to another training,
    FileError for images or a checkpoint that cannot be read, NumericalError for a loss that is not finite.
    """
    out = out or Path("runs") / f"vision-{recipe.name}"
    images = read_images(data)
    loop = _Loop(recipe, images, out, seed, choose_device(device), report)
    if resume:
        loop.load()
    else:
        (out / MODEL).unlink(missing_ok=True)
        write_text(out / "recipe.yaml", dump_yaml(recipe))
    loop.run(float("inf") if max_minutes is None else 60.0 * max_minutes)
    return out


def network_of(recipe: TrainingRecipe, classes: int, seed: int) -> MobileNetV2:
    """The untrained network of a recipe; the same seed gives the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MobileNetV2(
            classes,
            downsampling=recipe.downsampling,
            dropout=recipe.dropout,
            initialisation=recipe.initialisation,
        )


def fingerprint(images: ImageSet) -> str:
    """Twelve digits that tell one set of images from another."""
    return sha256(images.training.labels, images.training.pixels[:: max(1, len(images.training) // 64)])[:12]


class _Loop:
    """State of one training beside that of the network itself."""

    def __init__(
        self,
        recipe: TrainingRecipe,
        images: ImageSet,
        folder: Path,
        seed: int,
        device: str,
        report: Callable[[str], None],
    ) -> None:
        self.recipe, self.images, self.folder, self.seed, self.report = recipe, images, folder, seed, report
        network = network_of(recipe, len(images.classes), seed)
        self.training = ImageTraining(network, images, recipe, seed=seed, device=device)
        self.history: list[list[float]] = []
        self.seconds = 0.0
        images_seen = len(self.training.training)
        report(f"{recipe.name}: {count(network):,} parameters, {images_seen:,} images, {device}, seed {seed}")

    def run(self, limit: float) -> None:
        """Train to the end of the recipe, or for `limit` seconds, then write the classifier."""
        begun = time.monotonic()
        with signals_wait() as signals:
            while self.training.step < self.recipe.steps and not signals:
                if time.monotonic() - begun >= limit:
                    self.report(f"stopped after step {self.training.step} of {self.recipe.steps}; --resume goes on")
                    return
                self._take_step()
        if signals:
            self.report(f"stopped after step {self.training.step}; --resume goes on")
            signal.raise_signal(signals[0])
        self._finish()

    def _take_step(self) -> None:
        start = time.monotonic()
        rate = self.training.rate()
        loss = self.training.train()
        right = self.training.metric()
        self.seconds += time.monotonic() - start
        step = self.training.step
        epoch = step * self.training.batches * self.recipe.batch_size / len(self.training.training)
        self.history.append([step, epoch, loss, right, rate, self.seconds])
        self.report(f"step {step}, epoch {epoch:.2f}, loss {loss:.4f}, validation {100 * right:.2f} %")
        self._save()

    def _finish(self) -> None:
        right = accuracy(self.training.network, self.training.test)
        facts = {**self._facts(), "test_accuracy": right, "seconds": self.seconds}
        network = self.training.network.cpu()
        Classifier(network, self.images.classes, self.recipe.downsampling, facts).save(self.folder / MODEL)
        self.report(f"test accuracy {100 * right:.2f} %, {self.folder / MODEL}")

    def _facts(self) -> dict[str, Any]:
        """What a training that goes on has in common with its first part. More steps only continue it."""
        recipe = self.recipe.model_dump(mode="json", exclude={"steps", "description", "reduction"})
        return {"recipe": recipe, "seed": self.seed, "images": fingerprint(self.images)}

    def _save(self) -> None:
        write_csv(self.folder / HISTORY, _COLUMNS, self.history)
        content = {"facts": self._facts(), "history": self.history, "seconds": self.seconds}
        write_checkpoint(self.folder / CHECKPOINT, {**content, "training": self.training.state()})

    def load(self) -> None:
        """Go on from the checkpoint."""
        path = self.folder / CHECKPOINT
        saved = read_checkpoint(path)
        check_same(path, saved["facts"], self._facts())
        self.history, self.seconds = saved["history"], saved["seconds"]
        self.training.restore(saved["training"])


def classifier_table(path: Path) -> Table:
    """What a classifier, or the training in a run folder, came to."""
    classifier = load_classifier(path)
    facts = classifier.facts
    rows = [
        ("parameters", f"{count(classifier.network):,}"),
        ("classes", " ".join(classifier.classes)),
        ("downsampling", str(classifier.downsampling)),
        ("test accuracy [%]", f"{100 * facts['test_accuracy']:.2f}"),
        ("recipe", str(facts["recipe"]["name"])),
        ("seed", str(facts["seed"])),
        ("images", str(facts["images"])),
        ("seconds of training", f"{facts['seconds']:.0f}"),
    ]
    if "stage" in facts:
        rows.insert(0, ("stage of an automatic reduction", str(facts["stage"])))
    return Table(f"classifier {path}", ("fact", "value"), rows)
