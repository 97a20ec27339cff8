"""Domain of validity of a model, fitted to a training set, and its rates of false alarms and of detection.

States from outside have one parameter beyond the recipe's range by a tenth of the range: the temperature of the unburnt
gas, the pressure, the equivalence ratio, or the mixture fraction. They are unburnt, burnt, mixed of the two, or mixed
and reacting, as in a flow.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from chemnet.data import dataset
from chemnet.data.dataset import Pairs
from chemnet.data.recipe import PERTURBED, Recipe, stored_recipe
from chemnet.gas import canonical
from chemnet.gas.mechanism import Mechanism
from chemnet.gas.state import ONE_ATM, Array, enthalpy, valid_rows
from chemnet.gas.thermo import temperature_from_enthalpy
from chemnet.kinetics import RosenbrockReactor
from chemnet.runtime.errors import UsageError
from chemnet.runtime.tables import Table
from chemnet.surrogate.domain import Domain, fit_domain
from chemnet.surrogate.model import Surrogate
from chemnet.surrogate.model_file import PRETRAINED, find_model

BEYOND = 0.1  # of a parameter's range
PARAMETERS = ("T", "P", "phi", "mixture fraction")
_STATES = 10_000
_GASES = 60  # pairs of unburnt and burnt gas in the states of one parameter
_SEED = 1


def learn_domain(pairs: Pairs, kinds: Sequence[str], mechanism: Mechanism) -> Domain:
    """Domain of a training set's training rows, with the rate of false alarms among its validation rows.

    kinds: names of the set's kinds of states. Perturbed states are left out: no mixture passes through them.
    """
    perturbed = [i for i, kind in enumerate(kinds) if kind in PERTURBED]
    on_paths, training = ~np.isin(pairs.kind, perturbed), pairs.split == 0
    domain = fit_domain(pairs.states[on_paths & training], pairs.states[training], mechanism)
    held_out = pairs.states[on_paths & ~training]
    alarms = _outside(domain, held_out, mechanism) if len(held_out) else None
    return replace(domain, measured={"held_out_states": len(held_out), "false_alarms": alarms})


def probe(domain: Domain, facts: Mapping[str, Any], mechanism: Mechanism) -> Domain:
    """Domain with the shares of detected states from outside the recipe, and of false alarms inside, in `measured`.

    facts: attributes of the training set; without a recipe in them the domain stays unchanged.
    """
    recipe = stored_recipe(facts)
    if recipe is None:
        return domain
    found = {name: _outside(domain, Probes(recipe, mechanism, name).draw(_STATES), mechanism) for name in PARAMETERS}
    alarms = _outside(domain, Probes(recipe, mechanism).draw(_STATES), mechanism)
    rates = {"states_from_outside": _STATES, "found": found, "false_alarms_on_fresh_states": alarms}
    return replace(domain, measured={**domain.measured, **rates})


def _outside(domain: Domain, states: Array, mechanism: Mechanism) -> float:
    """Share of states that the domain reports as outside."""
    return float((~domain.contains(states, mechanism)).mean())


class Probes:
    """Random states of a recipe, with the parameter `beyond` outside its range; by default all from inside."""

    def __init__(self, recipe: Recipe, mechanism: Mechanism, beyond: str | None = None) -> None:
        """Raises UsageError for an unknown parameter."""
        if beyond is not None and beyond not in PARAMETERS:
            raise UsageError(f"no parameter {beyond}; there are {', '.join(PARAMETERS)}")
        self.recipe, self.mechanism, self.beyond = recipe, mechanism, beyond
        self._rng = np.random.default_rng([_SEED, *(beyond or "").encode()])
        self._gas = mechanism.gas()
        self._step = RosenbrockReactor(mechanism)

    def draw(self, n: int) -> Array:
        """n valid states (n, 2 + K)."""
        gases = [self._gases() for _ in range(_GASES)]
        found: list[Array] = []
        while sum(map(len, found)) < n:
            states = self._states(gases, n)
            found.append(states[valid_rows(states)])
        return np.concatenate(found)[:n]

    def _gases(self) -> tuple[Array, Array, float]:
        """Unburnt gas, its burnt gas, and the rise of their enthalpy that a T outside 300 to 3000 K needs [J/kg]."""
        recipe, rng = self.recipe, self._rng
        T, P = self._value("T", recipe.mixed.T_unburnt), self._value("P", recipe.pressure)
        oxidizer = recipe.draw_oxidizer(rng)
        if self.beyond == "mixture fraction":
            Y = self._mixed(oxidizer)
        else:
            Y = canonical.premixed(self.mechanism, self._value("phi", recipe.phi), recipe.fuel, oxidizer)
        unburnt = np.hstack([np.clip(T, 300.0, 3000.0), P, Y])  # the range of Cantera's polynomials
        both = np.array([unburnt, np.hstack([T, P, Y])])
        raised = float(np.diff(enthalpy(both, self.mechanism))[0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Cantera's, for burnt gas above 3000 K
            return unburnt, np.maximum(canonical.burnt(self._gas, unburnt), 0.0), raised

    def _value(self, name: str, limits: tuple[float, float]) -> float:
        """Random value of a parameter between its limits, or a tenth of the range beyond one of them."""
        low, high = limits
        if name != self.beyond:
            return float(self._rng.uniform(low, high))
        sides = [low - BEYOND * (high - low), high + BEYOND * (high - low)]
        return float(self._rng.choice([side for side in sides if side > 0.0]))

    def _mixed(self, oxidizer: dict[str, float]) -> Array:
        """Mass fractions at a mixture fraction beyond those of the recipe's limits of phi."""
        fuel, air = (self._pure(moles) for moles in (self.recipe.fuel, oxidizer))
        direction = fuel - air
        lean, rich = (canonical.premixed(self.mechanism, phi, self.recipe.fuel, oxidizer) for phi in self.recipe.phi)
        limits = tuple(float((Y - air) @ direction / (direction @ direction)) for Y in (lean, rich))
        return air + self._value("mixture fraction", (limits[0], limits[1])) * direction

    def _pure(self, moles: dict[str, float]) -> Array:
        self._gas.X = moles
        Y: Array = self._gas.Y
        return Y

    def _states(self, gases: Sequence[tuple[Array, Array, float]], n: int) -> Array:
        """Mixtures (n, 2 + K) of these gases, some of them not valid."""
        rng, mechanism, probes = self._rng, self.mechanism, self.recipe.probes
        unburnt, burnt, raised = (np.array(values) for values in zip(*gases, strict=True))
        chosen = rng.integers(len(gases), size=n)
        share = np.clip(rng.uniform(*probes.burnt_share, n), 0.0, 1.0)[:, None]  # of burnt gas
        states = (1.0 - share) * unburnt[chosen] + share * burnt[chosen]
        h = (enthalpy(unburnt, mechanism) + raised)[chosen]
        for state, h_state in zip(states, h, strict=True):
            state[0] = temperature_from_enthalpy(h_state, state[2:], state[0], mechanism.nasa)
        reacting = rng.integers(2 * len(probes.reacting), size=n)  # half of them for a while
        for i, duration in enumerate(probes.reacting):
            rows = np.flatnonzero((reacting == i) & valid_rows(states))
            states[rows], _ = self._step.advance(states[rows], duration)
        return states


def guard(model: str | Path, data: str | Path, out: str | Path | None = None) -> Table:
    """Write a model with the domain of a training set to `out` (default: its own file); returns the domain's table.

    Raises UsageError when the set was made for another mechanism, and without `out` for a model that ships; FileError
    for missing or damaged files.
    """
    path = find_model(model)
    if out is None and path.parent == PRETRAINED:
        raise UsageError(f"{path.stem} ships with chemnet, and is not changed\nName a file for the new one: --out FILE")
    surrogate = Surrogate.load(path)
    facts, pairs = dataset.read_attributes(data), dataset.read(data)
    if facts["mechanism_sha256"] != surrogate.mechanism.sha256:
        raise UsageError(f"{data} was made for {facts['mechanism']}, the model for {surrogate.mechanism.name}")
    domain = learn_domain(pairs, list(facts.get("kinds", ())), surrogate.mechanism)
    domain = probe(domain, facts, surrogate.mechanism)
    target = Path(out) if out is not None else path
    surrogate.with_domain(domain).save(target)
    return Table(f"domain of {target}", ("fact", "value"), domain_facts(domain))


def domain_facts(domain: Domain) -> list[tuple[str, Any]]:
    """Limits and measured rates of a domain, as rows of a table."""
    T, P = domain.limits["T"], domain.limits["P"]
    rows: list[tuple[str, Any]] = [
        ("T [K]", (float(T[0]), float(T[1]))),
        ("P [atm]", (float(P[0]) / ONE_ATM, float(P[1]) / ONE_ATM)),
        ("bounds of elements and enthalpy", len(domain.bounds)),
    ]
    measured = domain.measured
    rates = {
        "false alarms, held-out states": measured.get("false_alarms"),
        "false alarms, fresh states": measured.get("false_alarms_on_fresh_states"),
        **{f"found with {name} beyond by a tenth": share for name, share in measured.get("found", {}).items()},
    }
    return rows + [(f"{text} [%]", 100.0 * share) for text, share in rates.items() if share is not None]
