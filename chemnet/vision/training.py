"""Training of a classifier of images: batches, shifted and mirrored at random, accuracy, and run folder.

The folder holds `config.yaml` as used, `loss.csv` and `last.pt` of the training loop, `classifier.pt`, and, after the
end of the training, `manifest.json`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from chemnet.runtime.config import dump_yaml
from chemnet.runtime.errors import UsageError
from chemnet.runtime.files import write_text
from chemnet.runtime.malloc import keep_freed_memory
from chemnet.runtime.run_folder import finish_run, sha256
from chemnet.training.checkpoint import check_no_run
from chemnet.training.loop import CHECKPOINT, fit
from chemnet.training.options import FitOptions, choose_device
from chemnet.training.steps import Training
from chemnet.vision.classifier import MODEL, Classifier
from chemnet.vision.config import ImageConfig
from chemnet.vision.images import Images, ImageSet, read_images
from chemnet.vision.networks import build, count

KIND = "image training"
_BLOCK = 100  # images of one call of a validation: their activations fit the cache
# Means and standard deviations of CIFAR-10's training pixels, in their usual rounding.
_MEAN, _DEVIATION = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


@dataclass(frozen=True)
class ImageBatches:
    """Training images, shifted by up to `shift` pixels and mirrored, and validation images."""

    training: Images
    validation: Images
    shift: int
    flip: bool
    label_smoothing: float
    measure: ClassVar[str] = "validation_accuracy"
    larger_is_better: ClassVar[bool] = True

    @classmethod
    def of(cls, images: ImageSet, config: ImageConfig) -> ImageBatches:
        """The training images of a set, the last ones for validation. Raises UsageError for too few of them."""
        kept = len(images.training) - config.validation
        if kept < config.batch_size:
            raise UsageError(
                f"{images.source} has {len(images.training)} training images: too few for {config.validation} to "
                f"validate and a batch of {config.batch_size}"
            )
        parts = images.training.part(slice(0, kept)), images.training.part(slice(kept, None))
        return cls(*parts, config.shift, config.flip, config.label_smoothing)

    def __len__(self) -> int:
        return len(self.training)

    def to(self, device: str) -> ImageBatches:
        """Copy on a device."""
        return replace(self, training=self.training.to(device), validation=self.validation.to(device))

    def batch(self, rows: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs (n, 3, h, w) and labels (n,) of some images, each shifted and mirrored anew."""
        pixels = varied(self.training.pixels[rows], self.shift, self.flip, generator)
        return prepared(pixels), self.training.labels[rows]

    def loss(self, outputs: torch.Tensor, labels: torch.Tensor, options: FitOptions) -> torch.Tensor:
        """Mean cross entropy."""
        return nn.functional.cross_entropy(outputs, labels, label_smoothing=self.label_smoothing)

    def validate(self, network: nn.Module, options: FitOptions) -> float:
        """Accuracy on the validation images."""
        return accuracy(network, self.validation)


class ImageTraining(Training):
    """A network in training on the images of a set, a step of the config at a time; `test` are its test images."""

    def __init__(
        self, network: nn.Module, images: ImageSet, config: ImageConfig, *, seed: int = 0, device: str = "cpu"
    ) -> None:
        batches = ImageBatches.of(images, config)
        super().__init__(channels_last(network), batches, config.options(len(batches)), seed=seed, device=device)
        self.test = images.test.to(device)


def train(
    config: ImageConfig,
    data: Path,
    *,
    out: Path | None = None,
    seed: int = 0,
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    max_minutes: float | None = None,
    report: Callable[[str], None] = print,
) -> Path:
    """Train the network of a config on the images at `data`; returns the run folder.

    With `max_minutes` the schedule is stretched over the steps or the minutes, whichever end sooner. With `resume` a
    training that was interrupted, or has fewer steps, goes on, on the CPU bitwise; with `overwrite` the training in the
    folder is replaced. Raises what `fit` raises, and FileError for images that cannot be read.
    """
    out, device = out or Path("runs") / f"vision-{config.name}", choose_device(device)
    if not resume:
        check_no_run(out, CHECKPOINT, KIND, overwrite)
    keep_freed_memory()
    images = read_images(data)
    network, batches = network_of(config, len(images.classes), seed), ImageBatches.of(images, config)
    report(f"{config.name}: {count(network):,} parameters, {len(batches):,} images, {device}, seed {seed}")
    facts: dict[str, Any] = {
        "config": config.model_dump(mode="json", exclude={"steps", "description", "reduction"}),
        "images": fingerprint(images),
    }

    def begin() -> None:
        (out / MODEL).unlink(missing_ok=True)
        write_text(out / "config.yaml", dump_yaml(config))

    result = fit(
        channels_last(network),
        batches,
        config.options(len(batches)),
        out,
        seed=seed,
        resume=resume,
        overwrite=overwrite,
        kind=KIND,
        max_minutes=max_minutes,
        device=device,
        facts=facts,
        begin=begin,
        report=report,
    )
    right = accuracy(network, images.test.to(device))
    facts |= {"seed": seed, "test_accuracy": right, "seconds": result.seconds}
    Classifier(network.cpu(), images.classes, config.network, config.downsampling, facts).save(out / MODEL)
    finish_run(out, KIND, config.name, {**facts, "max_minutes": max_minutes, "steps": result.steps})
    report(f"test accuracy {100 * right:.2f} %, {out / MODEL}")
    return out


def channels_last(network: nn.Module) -> nn.Module:
    """The network itself, with its weights in channels-last memory, which is faster."""
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def network_of(config: ImageConfig, classes: int, seed: int) -> nn.Module:
    """The untrained network of a config; the same seed gives the same weights."""
    options = {name: getattr(config, name) for name in ("downsampling", "dropout", "initialisation")}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(config.network, classes, **options)


def fingerprint(images: ImageSet) -> str:
    """Fingerprint of a set of images, of 12 digits."""
    return sha256(images.training.labels, images.training.pixels[:: max(1, len(images.training) // 64)])[:12]


def varied(pixels: torch.Tensor, shift: int, flip: bool, generator: torch.Generator) -> torch.Tensor:
    """Images (n, 3, h, w), each shifted at random over a black border and half of them mirrored."""
    n, _, height, width = pixels.shape
    offsets = torch.randint(0, 2 * shift + 1, (2, n, 1), generator=generator)
    mirrored = torch.rand((n, 1), generator=generator) < (0.5 if flip else 0.0)
    rows = torch.arange(height) + offsets[0]
    columns = torch.where(mirrored, torch.arange(width).flip(0), torch.arange(width)) + offsets[1]
    padded = nn.functional.pad(pixels, (shift,) * 4)
    every, rows, columns = (index.to(pixels.device) for index in (torch.arange(n)[:, None, None], rows, columns))
    return padded.permute(0, 2, 3, 1)[every, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def prepared(pixels: torch.Tensor) -> torch.Tensor:
    """Pixels (n, 3, h, w) uint8 as the float32 input of a network, in channels-last memory."""
    mean, deviation = (torch.tensor(values, device=pixels.device)[:, None, None] for values in (_MEAN, _DEVIATION))
    scaled = (pixels.float() / 255.0 - mean) / deviation
    return scaled.contiguous(memory_format=torch.channels_last)


def accuracy(network: nn.Module, images: Images) -> float:
    """Share of the images with the largest output at their label."""
    right = 0
    for start in range(0, len(images), _BLOCK):
        part = images.part(slice(start, start + _BLOCK))
        right += int((outputs_of(network, prepared(part.pixels)).argmax(dim=1) == part.labels).sum())
    return right / len(images)


def outputs_of(network: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """Outputs of a network in evaluation mode."""
    network.eval()
    with torch.inference_mode():
        outputs: torch.Tensor = network(inputs)
    return outputs
