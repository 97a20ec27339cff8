"""Training of one network by several processes of `torchrun`, each with its rows of every batch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed, nn


@dataclass(frozen=True)
class Team:
    """Place of this process among `size` (default: a single one); rank 0 leads: it alone reports and writes."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process reports and writes."""
        return self.rank == 0

    def sum(self, parameters: Iterable[nn.Parameter], numbers: Sequence[float]) -> list[float]:
        """Sum gradients over the team, in place; returns the sums of the numbers."""
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
        """Wait for all processes of the team."""
        if self.size > 1:
            distributed.barrier()


def leads() -> bool:
    """Whether this process is the only one or the first that `torchrun` started."""
    return not distributed.is_torchelastic_launched() or os.environ["RANK"] == "0"


@contextmanager
def join_team(device: str) -> Iterator[tuple[Team, str]]:
    """Team of this process (of one without `torchrun`) and its device, `cpu` or `cuda`."""
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
