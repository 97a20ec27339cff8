"""Train a classifier of images, step by step; the automatic reduction drives the same object (`automatic.Reducible`).

Everything that is random, the order of the images, their shifts and flips, comes from one generator, so that a
training that goes on from its checkpoint on the CPU gives the same bits as one that was never interrupted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from chemnet.runtime.errors import NumericalError, UsageError
from chemnet.runtime.malloc import keep_freed_memory
from chemnet.training.checkpoint import copied
from chemnet.vision.images import Images, ImageSet
from chemnet.vision.recipe import Phase, TrainingRecipe

_BLOCK = 100  # images of one call when a network is judged: what it makes of them fits the cache
_MOMENTUM = 0.9
# Means and standard deviations of CIFAR-10's training pixels, as everyone's code has them.
_MEAN, _DEVIATION = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


class ImageTraining:
    """A network in training on the images of a set; `train` takes one step of the recipe."""

    def __init__(
        self,
        network: nn.Module,
        images: ImageSet,
        recipe: TrainingRecipe,
        *,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        kept = len(images.training) - recipe.validation
        if kept < recipe.batch_size:
            raise UsageError(
                f"{images.source} has {len(images.training)} training images: too few for {recipe.validation} to "
                f"validate and a batch of {recipe.batch_size}"
            )
        keep_freed_memory()
        self.network = network.to(device, memory_format=torch.channels_last)
        self.recipe, self.device = recipe, device
        self.training = images.training.part(slice(0, kept)).to(device)
        self.validation = images.training.part(slice(kept, None)).to(device)
        self.test = images.test.to(device)
        self.step = 0
        self._generator = torch.Generator().manual_seed(seed)
        self._order = torch.empty(0, dtype=torch.int64)
        self._position = 0
        self.begin(recipe.initial_rate)

    @property
    def batches(self) -> int:
        """Batches of a step."""
        return self.recipe.batches or len(self.training) // self.recipe.batch_size

    def begin(self, rate: float) -> None:
        """Start the strategy anew with this initial rate."""
        self._initial, self._taken, self._phase = rate, 0, 0
        self._optimizer = _optimizer(self.network, self.recipe.strategy[0])

    def train(self) -> float:
        """Train for one step; the mean loss. Raises NumericalError when the loss is no longer finite."""
        self.network.train()
        total = 0.0
        for _ in range(self.batches):
            self._set_rate()
            images, labels = self._batch()
            smoothing = self.recipe.label_smoothing
            loss = nn.functional.cross_entropy(self.network(images), labels, label_smoothing=smoothing)
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self._optimizer.step()
            self._taken += 1
            total += loss.item()
            if not math.isfinite(total):
                kept = f"; the checkpoint of step {self.step} is kept" if self.step else ""
                raise NumericalError(
                    f"the loss is {loss.item()} in step {self.step + 1}{kept}\n"
                    f"Start anew with a smaller rate: --set initial_rate={0.5 * self._initial:g}"
                )
        self.step += 1
        return total / self.batches

    def metric(self) -> float:
        """Accuracy on the images that are kept aside to validate."""
        return accuracy(self.network, self.validation)

    def rate(self) -> float:
        """The learning rate now."""
        number, since = self.recipe.phase_at(self._taken / self.batches)
        return self.recipe.strategy[number].rate_at(since, self._initial)

    def state(self) -> dict[str, Any]:
        """Weights, optimiser, random state and place in the strategy, as tensors and plain data of its own."""
        return {
            "network": {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()},
            "optimizer": copied(self._optimizer.state_dict()),
            "generator": self._generator.get_state(),
            "order": self._order.clone(),
            **{name: getattr(self, name) for name in _PLAIN},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Return to a state."""
        self.network.load_state_dict(state["network"])
        for name in _PLAIN:
            setattr(self, name, state[name])
        self._optimizer = _optimizer(self.network, self.recipe.strategy[self._phase])
        self._optimizer.load_state_dict(copied(state["optimizer"]))
        self._generator.set_state(state["generator"])
        self._order = state["order"].clone()

    def _set_rate(self) -> None:
        number, _ = self.recipe.phase_at(self._taken / self.batches)
        if number != self._phase:
            self._phase = number
            self._optimizer = _optimizer(self.network, self.recipe.strategy[number])
        for group in self._optimizer.param_groups:
            group["lr"] = self.rate()

    def _batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The next images, each once per epoch in random order, and their labels."""
        size = self.recipe.batch_size
        if self._position + size > len(self._order):
            self._order = torch.randperm(len(self.training), generator=self._generator)
            self._position = 0
        rows = self._order[self._position : self._position + size].to(self.device)
        self._position += size
        pixels = self._varied(self.training.pixels[rows])
        return prepared(pixels), self.training.labels[rows]

    def _varied(self, pixels: torch.Tensor) -> torch.Tensor:
        """The same images (n, 3, h, w), each shifted over a black border and half of them mirrored."""
        n, _, height, width = pixels.shape
        shift = self.recipe.shift
        offsets = torch.randint(0, 2 * shift + 1, (2, n, 1), generator=self._generator)
        mirrored = torch.rand((n, 1), generator=self._generator) < (0.5 if self.recipe.flip else 0.0)
        rows = torch.arange(height) + offsets[0]
        columns = torch.where(mirrored, torch.arange(width).flip(0), torch.arange(width)) + offsets[1]
        padded = nn.functional.pad(pixels, (shift,) * 4)
        every = torch.arange(n)[:, None, None].to(self.device)
        cut = padded.permute(0, 2, 3, 1)[every, rows[:, :, None].to(self.device), columns[:, None, :].to(self.device)]
        return cut.permute(0, 3, 1, 2)


_PLAIN = ("step", "_position", "_initial", "_taken", "_phase")


def prepared(pixels: torch.Tensor) -> torch.Tensor:
    """Pixels (n, 3, h, w) uint8 as the float32 input of a network, in channels-last memory."""
    mean, deviation = (torch.tensor(values, device=pixels.device)[:, None, None] for values in (_MEAN, _DEVIATION))
    scaled = (pixels.float() / 255.0 - mean) / deviation
    return scaled.contiguous(memory_format=torch.channels_last)


def accuracy(network: nn.Module, images: Images) -> float:
    """Share of the images whose largest output is that of their label."""
    right = 0
    for inputs, labels in blocks(images):
        right += int((outputs_of(network, inputs).argmax(dim=1) == labels).sum())
    return right / len(images)


def blocks(images: Images) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The images as inputs of a network, and their labels, a few hundred at a time."""
    for start in range(0, len(images), _BLOCK):
        part = images.part(slice(start, start + _BLOCK))
        yield prepared(part.pixels), part.labels


def outputs_of(network: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """Outputs of a network in use, not in training."""
    network.eval()
    with torch.inference_mode():
        outputs: torch.Tensor = network(inputs)
    return outputs


def _optimizer(network: nn.Module, phase: Phase) -> torch.optim.Optimizer:
    """The optimiser of a phase; weights decay, biases and the scales of normalisations do not."""
    parameters = list(network.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": phase.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if phase.optimizer == "sgd":
        return torch.optim.SGD(groups, 1.0, momentum=_MOMENTUM, nesterov=phase.nesterov)
    return torch.optim.Adam(groups, 1.0)
