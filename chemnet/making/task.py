"""The task of a make: the gas that a model is to be made for, and its time step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field

from chemnet.data.recipe import Positive, Range
from chemnet.gas.canonical import AIR
from chemnet.gas.mechanism import Mechanism, MechanismName, load_mechanism
from chemnet.gas.state import ONE_ATM
from chemnet.runtime.config import Config

_USUAL = {"dt": 1e-6, "seed": 0}


class MakeTask(Config):
    """Gas and time step of the model to make.

    * `mechanism`: name, Cantera file or object; `fuel` and `oxidizer` in moles by species
    * `pressure` [Pa] and `phi`: the ranges in which the model is to be used; without `phi` the mixtures between 0.5 and
      2 that burn
    * `dt` [s]: the time step that the model takes and no other; `seed` of states and network
    """

    mechanism: MechanismName
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

    @property
    def command(self) -> str:
        """The command of this task, without its budget."""
        parts = ["chemnet make", "--mechanism", self.mechanism, "--fuel", _mixture(self.fuel)]
        if self.oxidizer != AIR:
            parts += ["--oxidizer", _mixture(self.oxidizer)]
        parts += ["--pressure", *(f"{P / ONE_ATM:.4g}" for P in dict.fromkeys(self.pressure))]
        if self.phi:
            parts += ["--phi", *(f"{phi:g}" for phi in self.phi)]
        parts += [
            f"--{name} {value:g}" for name, value in (("dt", self.dt), ("seed", self.seed)) if value != _USUAL[name]
        ]
        return " ".join(parts)

    def load(self) -> Mechanism:
        """The mechanism. Raises UsageError for a file or a species that is not there."""
        mechanism = load_mechanism(self.mechanism)
        for species in (*self.fuel, *self.oxidizer):
            mechanism.index(species)
        return mechanism


def _mixture(moles: Mapping[str, float]) -> str:
    """A mixture as the command line takes it."""
    if list(moles.values()) == [1.0]:
        return next(iter(moles))
    return ",".join(f"{name}:{x:g}" for name, x in moles.items())
