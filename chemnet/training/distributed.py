"""Processes that train one network together: `torchrun` starts them, each takes its rows of every batch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed, nn


@dataclass(frozen=True)
class Team:
    """The place of this process among `size`; by default it is alone. The one of rank 0 leads: it alone writes."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process reports and writes."""
        return self.rank == 0

    def sum(self, parameters: Iterable[nn.Parameter], numbers: Sequence[float]) -> list[float]:
        """Gradients become their sums over the team, in place; returned are the sums of the numbers."""
        if self.size == 1:
            return list(numbers)
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([g.flatten() for g in gradients] + [gradients[0].new_tensor(numbers)])
        distributed.all_reduce(flat)
        *sums, last = flat.split([*(g.numel() for g in gradients), len(numbers)])
        for gradient, total in zip(gradients, sums, strict=True):
            gradient.copy_(total.view_as(gradient))
        return last.tolist()

    def wait(self) -> None:
        """Until all have come here."""
        if self.size > 1:
            distributed.barrier()


def leads() -> bool:
    """Whether this process is alone or the first of those that `torchrun` started."""
    return not distributed.is_torchelastic_launched() or os.environ["RANK"] == "0"


@contextmanager
def join_team(device: str) -> Iterator[tuple[Team, str]]:
    """The team that `torchrun` started this process for, if any, and the device (`cpu`, `cuda`) of this process."""
    if not distributed.is_torchelastic_launched():
        yield Team(), device
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        yield Team(distributed.get_rank(), distributed.get_world_size()), device
    finally:
        distributed.destroy_process_group()
