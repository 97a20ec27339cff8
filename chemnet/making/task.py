"""The task of a make: the gas that a model is to be made for, and its time step."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from chemnet.data.recipe import Positive, Range
from chemnet.gas.canonical import AIR
from chemnet.gas.mechanism import Mechanism, load_mechanism
from chemnet.runtime.config import Config


class MakeTask(Config):
    """Gas and time step of the model to make.

    * `mechanism`: name or Cantera file; `fuel` and `oxidizer` in moles by species
    * `pressure` [Pa] and `phi`: the ranges in which the model is to be used; without `phi` the mixtures between 0.5 and
      2 that burn
    * `dt` [s]: the time step that the model takes and no other; `seed` of states and network
    """

    mechanism: str
    fuel: Annotated[dict[str, Positive], Field(min_length=1)]
    oxidizer: Annotated[dict[str, Positive], Field(min_length=1)] = AIR
    pressure: Range
    phi: Range | None = None
    dt: Positive = 1e-6
    seed: int = Field(default=0, ge=0)

    @property
    def name(self) -> str:
        """Name of the model: its mechanism and its fuel."""
        return "-".join([Path(self.mechanism).stem, *self.fuel])

    def load(self) -> Mechanism:
        """The mechanism. Raises UsageError for a file or a species that is not there."""
        mechanism = load_mechanism(self.mechanism)
        for species in (*self.fuel, *self.oxidizer):
            mechanism.index(species)
        return mechanism
