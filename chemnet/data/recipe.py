"""The recipe of a training set: what kinds of states, how many, over which ranges; a YAML file becomes a `Recipe`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, Field, model_validator

from chemnet.gas.canonical import PathPlaces
from chemnet.gas.mechanism import MechanismLike, MechanismName, as_mechanism, name_of
from chemnet.gas.state import Array
from chemnet.runtime.config import Config, override, parse, parse_yaml, read_yaml
from chemnet.runtime.errors import UsageError
from chemnet.runtime.files import shipped
from chemnet.runtime.nearest import hint

SOURCES = ("ignition", "kernel", "flames", "burnt")
PERTURBED = ("perturbed", "strongly_perturbed")
PLAIN = (*SOURCES, "flow")  # drawn as they were computed
KINDS = (*SOURCES, *PERTURBED, "mixed", "transported", "flow")
CHANGING = ("ignition", "kernel", "flames")  # sources in which chemistry is fast; others begin as such states


def _ascending(limits: tuple[float, float]) -> tuple[float, float]:
    if not 0.0 < limits[0] <= limits[1]:
        raise ValueError("a range is two positive numbers, the smaller one first")
    return limits


Range = Annotated[tuple[float, float], AfterValidator(_ascending)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


class Paths(Config):
    """Ignition paths: share of the rows, number, range of initial temperatures [K]."""

    share: Share
    trajectories: int = Field(ge=2)
    T0: Range


class Flames(Config):
    """Free flames: share of the rows, equivalence ratios, and (P [Pa], T unburnt [K]) to solve them at.

    A mechanism without transport data goes without: `flames: null`. A mixture of which Cantera finds no flame is an
    error, or with `missing: leave` left out.
    """

    share: Share
    phi: list[Positive] = Field(min_length=1)
    at: list[tuple[Positive, Positive]] = Field(min_length=1)
    missing: Literal["error", "leave"] = "error"

    @model_validator(mode="after")
    def _both_sides_of_the_split(self) -> Flames:
        if len(self.phi) * len(self.at) < 2:
            raise ValueError("at least two flames are needed, one to train on and one to validate with")
        return self


class Burnt(Config):
    """Gas in equilibrium: share of the rows, number of states, range of the unburnt temperature [K]."""

    share: Share
    states: int = Field(ge=2)
    T_unburnt: Range


class Perturbation(Config):
    """Perturbed source states: log-uniform amplitude, and the share evolved for a log-uniform time [s].

    Mass fractions vary as exp(amplitude N(0, 1)). T and P vary by the part `TP_factor` of the amplitude, since rates
    depend on T far more steeply than on Y, and by a factor exp(`TP_limit`) at most, to stay within valid states.
    """

    share: Share
    amplitude: Range
    evolved_share: Share
    evolution: Range
    TP_factor: Positive = 0.1
    TP_limit: Positive = 0.3


class Mixing(Config):
    """Mixtures of two states at equal pressure; unburnt gas takes part at a temperature in `T_unburnt` [K].

    Each of the two is burnt gas with the share `burnt`, unburnt gas as cold as it comes with `cold`, and heated unburnt
    gas, as at the edge of an ignition kernel, with `heated`: what meets in a flow. The others are states of paths and
    flames, where the chemistry is fast. Heating is `T_unburnt` at a uniform number to `heated_power`: the third power
    puts most of it near the cold end, as the edge of a kernel has it.
    """

    share: Share
    evolved_share: Share
    evolution: Range
    T_unburnt: Range
    burnt: Share = 0.2
    cold: Share = 0.15
    heated: Share = 0.15
    heated_power: Positive = 3.0

    @model_validator(mode="after")
    def _shares_of_partners(self) -> Mixing:
        if self.burnt + self.cold + self.heated > 1.0:
            raise ValueError("burnt, cold and heated are shares with a sum of at most 1")
        return self


class Transport(Config):
    """Flame states in time steps of transport and chemistry: up to `steps` of them, under `factor` times the transport
    that holds the steady flame."""

    share: Share
    steps: int = Field(ge=1)
    factor: Range


class Flow(Config):
    """Runs of small turbulent flames with exact chemistry: share of the rows, number of runs, and rows of each.

    A run is a `case` of the flow solver, or a `variant` of it. Its gas, phi and pressure are drawn as everywhere in the
    recipe, its seed is the number of the run from `first_seed` on; `set` gives other keys of the case, `between` those
    that are uniform in a range, `choose` those that take one of several values.
    """

    share: Share
    runs: int = Field(ge=2)
    rows_per_run: int = Field(ge=1)
    case: str = "turbulent_ignition"
    variant: str | None = None
    first_seed: int = Field(default=1000, ge=0)
    set: dict[str, Any] = {}
    between: dict[str, Range] = {}
    choose: dict[str, Annotated[list[Any], Field(min_length=1)]] = {}

    def draw(self, run: int, rng: np.random.Generator) -> dict[str, Any]:
        """Keys of the case of one run with their values."""
        uniform = {key: float(rng.uniform(*limits)) for key, limits in self.between.items()}
        chosen = {key: values[rng.integers(len(values))] for key, values in self.choose.items()}
        return {"seed": self.first_seed + run, **self.set, **uniform, **chosen}


class Oxidizer(Config):
    """Oxidizer, in moles by species, and its share of the paths, flames and unburnt gases."""

    share: Positive
    moles: dict[str, Positive] = Field(min_length=1)


class Integrator(Config):
    """Integrator of the labels, `exact` (all cells of a batch at once) or `cvode`, and its tolerances.

    CVODES computes the labels of the share `audit` of the rows again at 1e-10, 1e-16; the differences are kept.
    """

    kind: Literal["exact", "cvode"] = "exact"
    rtol: Positive = 1e-6
    atol: Positive = 1e-12
    audit: Share = 0.01


class Probing(Config):
    """States by which the domain of a trained model is probed; no rows.

    The share of burnt gas is uniform in `burnt_share` and then cut to 0 and 1: the range goes beyond both, so that two
    in nine states are unburnt gas itself and two burnt gas. Half of all react for one of the times `reacting` [s]: one
    step of a flow, or ten.
    """

    burnt_share: tuple[float, float] = (-0.4, 1.4)
    reacting: tuple[Positive, ...] = (1e-6, 1e-5)


class Recipe(Config):
    """Recipe of a training set; `datasets/drm19/recipe.yaml` gives the reason of each part.

    Each path and flame gives `rows_per_source` source states: more than the grid of a flame has points.
    """

    mechanism: MechanismName = "drm19"
    fuel: dict[str, Positive] = Field(min_length=1)
    oxidizers: list[Oxidizer] = Field(min_length=1)
    rows: int = Field(ge=1)
    dt: Positive
    seed: int = Field(ge=0)
    validation_share: Share
    integrator: Integrator = Integrator()
    phi: Range
    pressure: Range
    rows_per_source: int = Field(default=400, ge=1)
    paths: PathPlaces = PathPlaces()
    ignition: Paths
    kernel: Paths
    flames: Flames | None
    burnt: Burnt
    perturbed: Perturbation
    strongly_perturbed: Perturbation
    mixed: Mixing
    transported: Transport | None = None
    flow: Flow | None = None
    probes: Probing = Probing()

    def draw_oxidizer(self, rng: np.random.Generator) -> dict[str, float]:
        """One of the oxidizers, by their shares."""
        position = rng.random() * sum(oxidizer.share for oxidizer in self.oxidizers)
        for oxidizer in self.oxidizers:
            position -= oxidizer.share
            if position < 0.0:
                break
        return oxidizer.moles

    def shares(self) -> Array:
        """Share of the rows of each kind, in the order of KINDS, summing to 1; without flames none is transported."""
        without = () if self.flames else ("transported",)
        shares = np.array([0.0 if kind in without else getattr(getattr(self, kind), "share", 0.0) for kind in KINDS])
        return shares / shares.sum()

    def of_flows(self, changes: Mapping[str, Any], runs: int, rows: int, first_seed: int) -> Recipe:
        """The recipe of states of its flow alone: other runs, with `changes` of their case.

        Raises UsageError for a recipe without a flow.
        """
        if self.flow is None:
            raise UsageError("the recipe has no flow: take one that has, such as that of DRM19")
        own = {"share": 1.0, "runs": runs, "first_seed": first_seed, "set": {**self.flow.set, **changes}}
        none = {kind: getattr(self, kind).model_copy(update={"share": 0.0}) for kind in KINDS if getattr(self, kind)}
        return self.model_copy(update={**none, "rows": rows, "flow": self.flow.model_copy(update=own)})

    def sources(self) -> set[str]:
        """The kinds of sources that rows are drawn from, directly or to be changed."""
        drawn = {kind for kind, share in zip(KINDS, self.shares(), strict=True) if share > 0.0}
        used = drawn & set(PLAIN)
        if drawn & {*PERTURBED, "mixed"}:
            used.update(CHANGING)
        if "mixed" in drawn:
            used.add("burnt")
        if "transported" in drawn:
            used.add("flames")
        return used if self.flames else used - {"flames"}

    @property
    def needs_transport(self) -> bool:
        """Whether flames or flows are computed, which takes transport data."""
        return bool(self.sources() & {"flames", "flow"})


def load_recipe(
    path: str | Path | None = None,
    variant: str | None = None,
    changes: Sequence[str] = (),
    *,
    mechanism: MechanismLike | None = None,
    fuel: Mapping[str, float] | None = None,
    oxidizer: Mapping[str, float] | None = None,
) -> Recipe:
    """The recipe of a file (default: the shipped one of DRM19), with a variant and `key=value` changes applied.

    Another `mechanism`, `fuel` and `oxidizer` (moles by species) take the place of the file's; of the file's
    oxidizers another mechanism keeps those that it has the species of.
    Raises UsageError for unknown keys, variants, values or mechanisms, FileError when there is no such file.
    """
    path = path or shipped("datasets/drm19/recipe.yaml")
    data = read_yaml(path)
    variants = data.pop("variants", {})
    if variant is not None and variant not in variants:
        raise UsageError(f"{path} has no variant {variant}{hint(variant, variants, 'it has')}")
    for key, value in variants.get(variant, {}).items():
        data[key] = {**data[key], **value} if isinstance(value, dict) else value
    if mechanism is not None:
        data["mechanism"] = name_of(mechanism)
        known = set(as_mechanism(mechanism).species_names)
        oxidizers = data.get("oxidizers", [])
        data["oxidizers"] = [one for one in oxidizers if known.issuperset(one["moles"])] or oxidizers
    if fuel is not None:
        data["fuel"] = fuel
    if oxidizer is not None:
        data["oxidizers"] = [{"share": 1.0, "moles": oxidizer}]
    return parse(Recipe, override(data, changes), str(path))


def stored_recipe(facts: Mapping[str, Any]) -> Recipe | None:
    """The recipe in the attributes of a training set, keys it lacks at their defaults; None where none can be read."""
    try:
        return parse(Recipe, parse_yaml(str(facts["recipe"]), "recipe"), "recipe")
    except (UsageError, KeyError):
        return None
