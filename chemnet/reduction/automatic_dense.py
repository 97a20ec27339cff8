"""A fully connected network as the automatic reduction needs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from chemnet.reduction.recipe import Cut, Rule, condense_layers, hidden_layers
from chemnet.runtime.errors import UsageError
from chemnet.surrogate.network import NetConfig, build, count, describe
from chemnet.training.loop import FitOptions, TrainingData, copied, loss_of, optimizers_for, validation_loss

_CALIBRATION_STATES = 8192


class DenseTraining:
    """Trains a network for `options.steps` optimiser steps at a time; `automatic.Reducible` says what for.

    Batches are drawn at random; the rate is that of the latest `begin`. The metric is `reference` over the validation
    loss: with the loss of the unreduced network as reference, its own metric is 1, and criteria are shares of it.
    """

    def __init__(
        self,
        network: nn.Sequential,
        data: TrainingData,
        options: FitOptions,
        *,
        reference: float,
        rule: Rule = Rule(merge="refit"),  # noqa: B008 (immutable)
        seed: int = 0,
    ) -> None:
        self.network, self._data, self._options = network, data, options
        self._reference, self._rule = reference, rule
        self._generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(data.x), generator=self._generator)
        self._states = data.x[order[:_CALIBRATION_STATES].to(data.x.device)]
        self.begin(options.learning_rate)

    def layers(self) -> Sequence[str]:
        """The hidden layers, counted from 1."""
        return [f"hidden layer {i}" for i in range(1, len(hidden_layers(self.network)) + 1)]

    def parameters(self, layer: str | None = None) -> int:
        """Weights and biases, of all layers or of one hidden layer."""
        if layer is None:
            return count(self.network, biases=True)
        return sum(p.numel() for p in self._linears()[self._number(layer)].parameters())

    def condense(self, layer: str, threshold: float) -> None:
        """Merge a hidden layer. Raises UsageError for a name that is not one of `layers`."""
        cut = Cut(layer=self._number(layer) + 1, threshold=threshold)
        self.network, _ = condense_layers(self.network, [cut], self._rule, self._states)

    def _number(self, layer: str) -> int:
        names = list(self.layers())
        if layer not in names:
            raise UsageError(f"no {layer}; there are {', '.join(names)}")
        return names.index(layer)

    def _linears(self) -> list[nn.Linear]:
        return [module for module in self.network if isinstance(module, nn.Linear)]

    def begin(self, rate: float) -> None:
        """New optimisers with this learning rate."""
        self._rate = rate
        self._optimizers = optimizers_for(self.network, self._options.model_copy(update={"learning_rate": rate}))

    def train(self) -> float:
        """As many optimiser steps as the options say; their mean loss."""
        data, loss, total = self._data, loss_of(self._options.loss), 0.0
        for _ in range(self._options.steps):
            rows = torch.randint(len(data.x), (self._options.batch_size,), generator=self._generator).to(data.x.device)
            for optimizer in self._optimizers:
                optimizer.zero_grad(set_to_none=True)
            value = loss(self.network(data.x[rows])[:, data.active], data.y[rows][:, data.active])
            value.backward()
            total += value.item()
            for optimizer in self._optimizers:
                optimizer.step()
        return total / self._options.steps

    def metric(self) -> float:
        """The reference over the validation loss."""
        return self._reference / validation_loss(self.network, self._data, self._options.loss)

    def verdict(self) -> float:
        """The metric: there are no other data."""
        return self.metric()

    def state(self) -> dict[str, Any]:
        """Description and weights of the network, optimisers, rate, random state."""
        return {
            "network": describe(self.network).model_dump(mode="json"),
            "weights": {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()},
            "optimizers": [copied(optimizer.state_dict()) for optimizer in self._optimizers],
            "rate": self._rate,
            "generator": self._generator.get_state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Return to a state of this network, whatever its widths were."""
        self.network = build(NetConfig(**state["network"])).to(self._data.x)
        self.network.load_state_dict(state["weights"])
        self.begin(state["rate"])
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(copied(saved))
        self._generator.set_state(state["generator"])
