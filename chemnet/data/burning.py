"""What a model was made to burn: fuel, oxidizer and ranges, as the recipe of its training states says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from chemnet.data.recipe import Recipe, stored_recipe
from chemnet.gas.canonical import AIR
from chemnet.gas.state import ONE_ATM


@dataclass(frozen=True)
class Burning:
    """Fuel and oxidizer in moles by species, and the ranges of pressure [Pa] and equivalence ratio."""

    fuel: Mapping[str, float]
    oxidizer: Mapping[str, float]
    pressure: tuple[float, float]
    phi: tuple[float, float]

    @property
    def usual_pressure(self) -> float:
        """One atmosphere, or the end of the range that is nearest to it [Pa]."""
        return float(np.clip(ONE_ATM, *self.pressure))

    @property
    def usual_phi(self) -> float:
        """1, or the end of the range that is nearest to it."""
        return float(np.clip(1.0, *self.phi))

    def pressures(self, usual: tuple[float, ...]) -> tuple[float, ...]:
        """The usual pressures [Pa] if all are in the range, else its ends and its geometric middle."""
        low, high = self.pressure
        if all(low <= P <= high for P in usual):
            return usual
        return tuple(dict.fromkeys((low, float(np.sqrt(low * high)), high)))


def burning_of(recipe: Recipe) -> Burning:
    """What a recipe burns; of several oxidizers the one with the largest share, of equal ones the first."""
    main = max(recipe.oxidizers, key=lambda one: one.share)
    return Burning(recipe.fuel, main.moles, recipe.pressure, recipe.phi)


def burning_of_facts(facts: Mapping[str, Any]) -> Burning | None:
    """What the states with these attributes, or the model that was trained on them, burn; None where none says."""
    recipe = stored_recipe(facts)
    return None if recipe is None else burning_of(recipe)


METHANE = Burning({"CH4": 1.0}, AIR, (ONE_ATM, ONE_ATM), (1.0, 1.0))
"""What a model burns that does not say."""
