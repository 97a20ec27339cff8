"""MobileNetV2 as the automatic reduction needs it: the paper's layers, each condensed at a threshold."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from chemnet.condensation.condenser import condense
from chemnet.condensation.surgery import resize
from chemnet.runtime.errors import UsageError
from chemnet.vision.images import ImageSet
from chemnet.vision.mobilenet import LAST_LAYER, MobileNetV2, count, hidden_layers
from chemnet.vision.recipe import TrainingRecipe
from chemnet.vision.training import ImageTraining, accuracy, prepared

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
        images_seen = recipe.reduction.calibration
        chosen = torch.randperm(len(self.training), generator=torch.Generator().manual_seed(seed))[:images_seen]
        self._calibration = prepared(self.training.pixels[chosen.to(device)]) if images_seen else None
        self._example = prepared(self.training.pixels[:1])

    def layers(self) -> Sequence[str]:
        """Layers 2 to 18."""
        return list(_LAYERS)

    def parameters(self, layer: str | None = None) -> int:
        """Parameters of the network, or of the block or convolution that is a layer."""
        part = self.network if layer is None else self.network.get_submodule(".".join(_module(layer).split(".")[:2]))
        return count(part)

    def condense(self, layer: str, threshold: float) -> None:
        """Condense the channels of a layer; one that is left stays. Raises UsageError for a layer that there is not."""
        rule = self.recipe.reduction.rule
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
