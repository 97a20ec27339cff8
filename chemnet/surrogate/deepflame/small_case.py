"""A small case for DeepFlame: one cell of what a model burns, hot enough to ignite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chemnet.gas.state import ONE_ATM
from chemnet.runtime.config import parse_yaml
from chemnet.runtime.files import write_text
from chemnet.surrogate.model import Surrogate

_T0 = 1500.0  # [K] of a model that does not say which ignitions it was made for
_STEPS = 2000


@dataclass(frozen=True)
class SmallCase:
    """Fuel and oxidizer in moles by species at an equivalence ratio of 1, T [K], P [Pa], mass fractions by name."""

    fuel: Mapping[str, float]
    oxidizer: Mapping[str, float]
    T: float
    P: float
    Y: Mapping[str, float]
    steps: int = _STEPS

    def in_words(self) -> str:
        """One line for a reader."""
        fuel, oxidizer = (" + ".join(self.fuel), " + ".join(self.oxidizer))
        return f"one cell of {fuel} and {oxidizer}, phi 1, {self.T:g} K, {self.P:g} Pa, {self.steps} steps in df0DFoam"


def small_case(model: Surrogate) -> SmallCase | None:
    """The small case of a model; None where it does not say what it burns."""
    own = model.metadata.get("cases")
    recipe = model.metadata.get("data", {}).get("recipe")
    if own:
        fuel, oxidizer, T = own["fuel"], own["oxidizer"], max(own["temperatures"])
    elif recipe:
        content = parse_yaml(recipe, "the recipe of the model")
        fuel, oxidizer, T = content["fuel"], content["oxidizers"][0]["moles"], _T0
    else:
        return None
    P = float(np.clip(ONE_ATM, *model.domain.limits["P"]))
    gas = model.mechanism.gas()
    gas.set_equivalence_ratio(1.0, dict(fuel), dict(oxidizer))
    return SmallCase(fuel, oxidizer, float(T), P, gas.mass_fraction_dict())


def write_fields(folder: Path, case: SmallCase, species: list[str]) -> None:
    """Write the fields at the start: U, T, p and the mass fractions of all species (`Ydefault` of those not there)."""
    pressure, fraction = "[1 -1 -2 0 0 0 0]", "[0 0 0 0 0 0 0]"
    fields = {"T": ("[0 0 0 1 0 0 0]", case.T), "p": (pressure, case.P), "Ydefault": (fraction, 0.0)}
    fields |= {name: (fraction, case.Y[name]) for name in species if case.Y.get(name, 0.0) > 0.0}
    for name, (dimensions, value) in fields.items():
        write_text(folder / name, _field("volScalarField", name, dimensions, f"{value:.12g}", "zeroGradient"))
    write_text(folder / "U", _field("volVectorField", "U", "[0 1 -1 0 0 0 0]", "(0 0 0)", "noSlip"))


def _field(kind: str, name: str, dimensions: str, value: str, boundary: str) -> str:
    return f"""FoamFile
{{
    version     2.0;
    format      ascii;
    class       {kind};
    location    "0";
    object      {name};
}}

dimensions      {dimensions};
internalField   uniform {value};

boundaryField
{{
    sides
    {{
        type        {boundary};
    }}
}}
"""
