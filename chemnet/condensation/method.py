"""How the channels of a network are chosen and merged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chemnet.condensation.choices import Choice, View
from chemnet.condensation.graph import Floats, Indices

Merge = Callable[[View, Indices], Floats]


@dataclass(frozen=True)
class Method:
    """Choice and merge of channels, with their options."""

    choice: Choice
    given: str | Choice
    merge: str | Merge
    ridge: float
    round_to: int

    @property
    def name(self) -> str:
        """Name of the choice in messages."""
        return self.given if isinstance(self.given, str) else getattr(self.given, "__name__", type(self.given).__name__)
