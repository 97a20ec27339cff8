"""Steps of a training: a network, its batches, optimisers, schedule and random state.

On a GPU the rows, their order and the losses stay there: no step waits for it, and whether the loss is finite is asked
where a mean loss is wanted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from chemnet.runtime.errors import NumericalError, UsageError
from chemnet.training.batches import Batches, TrainingData
from chemnet.training.checkpoint import copied
from chemnet.training.distributed import Team
from chemnet.training.optimizers import optimizers_for
from chemnet.training.options import FitOptions

_NO_MEMORY = "can't allocate memory"  # what torch says of the memory of a CPU


class Training:
    """A network in training: its batches, optimisers, schedule and random state.

    `fit` trains it to the end of its options; an automatic reduction trains it by bouts of `report_every` steps,
    begins its schedule anew, and returns to earlier states.
    """

    def __init__(
        self,
        network: nn.Module,
        batches: Batches,
        options: FitOptions,
        *,
        seed: int = 0,
        device: str = "cpu",
        team: Team = Team(),  # noqa: B008 (immutable)
    ) -> None:
        self.network, self.batches = network.to(device), batches.to(device)
        self.options, self.device, self.team = options, device, team
        self.waits = device == "cpu" or team.size > 1  # for the loss of each step
        self.step = self.saved = 0  # `saved` is the step of the latest checkpoint
        self._fitted = 0  # rows of the largest batch so far
        self._generator = torch.Generator().manual_seed(seed)
        self.order = torch.empty(0, dtype=torch.int64)
        self.position = 0
        self.begin(options.learning_rate)

    def begin(self, rate: float) -> None:
        """Start the schedule anew with this initial learning rate, and the optimisers with it."""
        self.rate, self.begun = rate, self.step
        self._enter_phase(0)

    def _enter_phase(self, number: int) -> None:
        self.phase = number
        self._optimizers = optimizers_for(self.network, self.options.schedule_phases()[number], self.rate)

    def train(self) -> float:
        """Train for one bout; returns its mean loss. Raises NumericalError when the loss is not finite."""
        mean = float(sum(self.take_step()[0] for _ in range(self.options.report_every)) / self.options.report_every)
        self.check(mean)
        return mean

    def metric(self) -> float:
        """Measure of the batches on the validation rows."""
        return self.batches.validate(self.network, self.options)

    def take_step(self, share: float = 0.0, numbers: Callable[[], Sequence[float]] = tuple) -> list[float]:
        """Take one step after `share` of the training; returns the loss and the sums of `numbers` over the team.

        Raises NumericalError, before the weights change, when the loss is not finite; where the step does not wait for
        its loss, which is a tensor then, that is left to the caller.
        """
        taken = self.step - self.begun
        rows = self._rows(self.options.batch_at(taken))
        phase, rate = self.options.phase_at(taken, share, self.rate)
        if phase != self.phase:
            self._enter_phase(phase)
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)
            for group in optimizer.param_groups:
                group["lr"] = rate
        if not self.network.training:
            self.network.train()
        mine = rows[self.team.rank :: self.team.size]
        with self._memory_for(len(rows)):
            inputs, labels = self.batches.batch(mine, self._generator)
            with torch.autocast(inputs.device.type, torch.bfloat16, enabled=self.options.precision == "bf16"):
                outputs = self.network(inputs)
            loss = self.batches.loss(outputs.float(), labels, self.options) * (len(mine) / len(rows))
            loss.backward()
        own = loss.item() if self.waits else loss.detach()
        sums = self.team.sum(self.network.parameters(), (own, *numbers()))
        if self.waits:
            self.check(sums[0])
        for optimizer in self._optimizers:
            optimizer.step()
        self.step += 1
        return sums

    @contextmanager
    def _memory_for(self, rows: int) -> Iterator[None]:
        """Raise UsageError where the memory does not suffice for a batch, with the largest one that fitted."""
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            is_torchs = isinstance(error, torch.OutOfMemoryError) or _NO_MEMORY in str(error)
            if not is_torchs and not isinstance(error, MemoryError):
                raise
            fits = self._fitted or max(1, rows // 2)
            tried = f"; {fits} did" if self._fitted else ""
            raise UsageError(
                f"a batch of {rows} rows does not fit into the memory of {self.device} at step {self.step}{tried}\n"
                f"Start anew with a smaller one: --set fit.max_batch_size={fits}"
            ) from None
        self._fitted = max(self._fitted, rows)

    def check(self, loss: float) -> None:
        """Raise NumericalError unless a loss of this step is finite."""
        if not math.isfinite(loss):
            kept = f"; the checkpoint of step {self.saved} is kept" if self.saved else ""
            raise NumericalError(
                f"the loss is {loss} at step {self.step}{kept}\n"
                f"Start anew with a smaller learning rate (--set), such as {0.5 * self.rate:g}"
            )

    def _rows(self, size: int) -> torch.Tensor:
        """Rows of the next batch: every row once per pass, in random order."""
        if self.position + size > len(self.order):
            self.order = torch.randperm(len(self.batches), generator=self._generator).to(self.device)
            self.position = 0
        rows = self.order[self.position : self.position + size]
        self.position += size
        return rows

    def state(self) -> dict[str, Any]:
        """Copy of weights, optimisers, random state and place in the schedule, as tensors and plain data."""
        content = {
            "network": self.network.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "generator": self._generator.get_state(),
            **{name: getattr(self, name) for name in _PLAIN},
        }
        return {name: copied(value) for name, value in content.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Return to a state."""
        self.network.load_state_dict(state["network"])
        for name in _PLAIN:
            setattr(self, name, copied(state[name]))
        self.order = self.order.to(self.device)
        self._enter_phase(self.phase)
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(copied(saved))
        self._generator.set_state(state["generator"])
        self.saved = self.step


_PLAIN = ("step", "order", "position", "rate", "begun", "phase")


def bare_steps(network: nn.Module, data: TrainingData, options: FitOptions) -> None:
    """Take the steps of `fit` and nothing around them, at a constant rate: the baseline of `chemnet bench training`."""
    optimizers = optimizers_for(network, options.schedule_phases()[0], options.learning_rate)
    order = torch.randperm(len(data))
    for step in range(options.steps):
        size = options.batch_at(step)
        start = step * size % (len(order) - size)
        rows = order[start : start + size]
        with torch.autocast(data.x.device.type, torch.bfloat16, enabled=options.precision == "bf16"):
            outputs = network(data.x[rows])
        loss = data.loss(outputs.float(), data.y[rows], options)
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
