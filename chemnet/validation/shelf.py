"""The models that ship: what each is for, and what its validation found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chemnet.data.burning import METHANE, burning_of_facts
from chemnet.gas.state import ONE_ATM
from chemnet.runtime.tables import Table
from chemnet.surrogate.model import Surrogate
from chemnet.surrogate.model_file import shipped_models
from chemnet.surrogate.network import count

_MODELS = ("name", "mechanism", "species", "burns", "P [atm]", "dt [s]", "weights", "engine")
_FIGURES = {  # columns of the table of figures: check and name of each in a validation
    "failed ignitions": ("ignition", "failed cases"),
    "delay, mean [%]": ("ignition", "ignition delay error, mean [%]"),
    "delay, max [%]": ("ignition", "ignition delay error, max [%]"),
    "end T, max [K]": ("ignition", "end temperature error, max [K]"),
    "flame speed, phi 1 [%]": ("flames", "flame speed error at phi 1 [%]"),
    "turbulent T, L2 [%]": ("flow", "run, worst box: T, relative L2 [%]"),
    "burnt area [%]": ("flow", "run, worst box: burnt area [%]"),
    "front: CVODES / model": ("cost", "flame front: CVODES / model"),
    "exact / model": ("cost", "flame front: exact / model"),
    "integrated [%]": ("cost", "flame front: integrated by the model [%]"),
}


def models() -> list[Table]:
    """The models that ship, and the errors and costs that their validations found."""
    known, figures = [], []
    for name in shipped_models():
        model = Surrogate.load(name)
        burning = burning_of_facts(model.metadata.get("data", {})) or METHANE
        fuel = ", ".join(f"{species} {x:g}" for species, x in burning.fuel.items())
        P = tuple(P / ONE_ATM for P in dict.fromkeys(burning.pressure))
        weights = count(model.network, biases=False)
        mechanism = model.mechanism
        known.append((name, mechanism.name, mechanism.n_species, fuel, P, model.dt, weights, model.engine))
        figures.append((name, *figures_of(model).values()))
    return [
        Table("models that ship; more by `chemnet info NAME`", _MODELS, known),
        Table("errors and costs of a cell, as their cards say", ("name", *_FIGURES), figures),
    ]


def figures_of(model: Surrogate) -> dict[str, float | None]:
    """Errors and costs of a model by its validation; None where it has none."""
    found = model.metadata.get("ladder", {})
    return {name: _figure(found, *which) for name, which in _FIGURES.items()}


def _figure(found: Mapping[str, Any], check: str, name: str) -> float | None:
    """A figure of a validation; of a gas without flames that of cells of an ignition."""
    of_check = found.get(check, {})
    value: float | None = of_check.get(name, of_check.get(name.replace("flame front", "ignition")))
    return value
