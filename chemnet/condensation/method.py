"""How the channels of a network are chosen and merged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from chemnet.condensation.budgets import Budget, Parameters
from chemnet.condensation.channels import Channels
from chemnet.condensation.choices import Choice, View
from chemnet.condensation.graph import Floats, Indices
from chemnet.condensation.inputs import Inputs
from chemnet.condensation.limits import Least
from chemnet.condensation.progress import Report, silent

Merge = Callable[[View, Indices], Floats]


@dataclass(frozen=True)
class Method:
    """Choice and merge of channels, with their options."""

    choice: Choice
    given: str | Choice
    merge: str | Merge
    ridge: float
    round_to: int
    least: Least | None = None
    budget: Callable[[nn.Module, Channels, Inputs], Budget] = Parameters.of_call  # what a ratio is a share of
    report: Report = silent

    @property
    def name(self) -> str:
        """Name of the choice in messages."""
        return self.given if isinstance(self.given, str) else getattr(self.given, "__name__", type(self.given).__name__)
