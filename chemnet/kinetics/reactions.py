"""Reactions of a mechanism as the integrator reads them from Cantera, and the kinds of them that it covers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cantera as ct

from chemnet.runtime.errors import UsageError

ARRHENIUS, BLOWERS_MASEL = "Arrhenius", "Blowers-Masel"
PLOG, CHEBYSHEV, LINEAR_BURKE = "pressure-dependent-Arrhenius", "Chebyshev", "linear-Burke"
FALLOFF = {"Lindemann": 0, "SRI": 1, "Troe": 2, "Tsang": 3}
_FALLOFF_KINDS = {f"{way}-{name}" for way in ("falloff", "chemically-activated") for name in FALLOFF}
_COVERED = {ARRHENIUS, BLOWERS_MASEL, PLOG, CHEBYSHEV, LINEAR_BURKE, *_FALLOFF_KINDS}
_REASONS = {
    "two-temperature-plasma": "whose rate depends on a temperature of the electrons, which an ideal gas has not",
    "electron-collision-plasma": "whose rate depends on the energies of the electrons, which an ideal gas has not",
    "custom-rate-function": "whose rate is a Python function, which no table can hold",
}
_OTHER = "whose rate is not one of those of Cantera's ideal-gas kinetics"
_SUPPORTED = "elementary, three-body, falloff, chemically activated, PLOG, Chebyshev, linear-Burke and Blowers-Masel"
_THREE_BODY = "three-body-"

Colliders = tuple[float, tuple[tuple[int, float], ...]]  # default efficiency; species with another, less the default


@dataclass
class GasReaction:
    """One reaction of a mechanism, species by number."""

    label: str  # mechanism, number and equation, for messages
    rate: Any  # of Cantera; its attributes depend on the kind
    kind: str  # Cantera's word, less what it puts in front of it where there is a third body
    reversible: bool
    reactants: dict[int, float]
    products: dict[int, float]
    orders: dict[int, float]
    colliders: Colliders | None  # on whose concentration the rate depends
    three_body: bool  # True where it is proportional to it
    species: dict[str, int]  # numbers of all species of the gas

    @property
    def whole(self) -> bool:
        """True if all powers are small whole numbers."""
        powers = [*self.orders.values(), *(self.products.values() if self.reversible else ())]
        return all(power in (1.0, 2.0, 3.0) for power in powers)

    @property
    def sort_key(self) -> tuple[int, float, float]:
        """Order in the tables."""
        return (
            (2 if not self.whole else int(not self.reversible)),
            sum(self.orders.values()),
            sum(self.products.values()),
        )

    @property
    def falloff(self) -> bool:
        """True if the rate constant blends a low-pressure and a high-pressure limit."""
        return self.kind in _FALLOFF_KINDS

    def net(self) -> dict[int, float]:
        """Net stoichiometric coefficients."""
        change = {k: -power for k, power in self.reactants.items()}
        for k, power in self.products.items():
            change[k] = change.get(k, 0.0) + power
        return {k: value for k, value in sorted(change.items()) if value != 0.0}


def read_reactions(gas: ct.Solution) -> list[GasReaction]:
    """Reactions that change the gas, in the order of the tables. Raises UsageError for a kind that is not covered.

    Those that make as much of every species as they consume are left out: their rate changes nothing.
    """
    numbers = {name: gas.species_index(name) for name in gas.species_names}
    read = [_read(gas.name, numbers, i, reaction) for i, reaction in enumerate(gas.reactions())]
    changing = [reaction for reaction in read if reaction.net()]
    for reaction in changing:
        _check_kind(reaction)
    return sorted(changing, key=lambda reaction: reaction.sort_key)


def _read(gas: str, numbers: dict[str, int], number: int, reaction: ct.Reaction) -> GasReaction:
    def by_number(powers: dict[str, float]) -> dict[int, float]:
        return {numbers[name]: float(power) for name, power in powers.items()}

    reactants, kind = by_number(reaction.reactants), reaction.reaction_type.removeprefix(_THREE_BODY)
    body = reaction.third_body
    three_body = body is not None and body.mass_action
    colliders = _colliders(body, numbers) if body is not None and (three_body or kind in _FALLOFF_KINDS) else None
    return GasReaction(
        label=f"{gas}: reaction {number + 1}, {reaction.equation}",
        rate=reaction.rate,
        kind=kind,
        reversible=reaction.reversible,
        reactants=reactants,
        products=by_number(reaction.products),
        orders={k: power for k, power in {**reactants, **by_number(reaction.orders)}.items() if power != 0.0},
        colliders=colliders,
        three_body=three_body,
        species=numbers,
    )


def _colliders(body: ct.ThirdBody, numbers: dict[str, int]) -> Colliders:
    efficiencies = [(numbers[s], e - body.default_efficiency) for s, e in body.efficiencies.items() if s in numbers]
    return body.default_efficiency, tuple(sorted((k, e) for k, e in efficiencies if e != 0.0))


def _check_kind(reaction: GasReaction) -> None:
    if reaction.kind not in _COVERED:
        raise UsageError(
            f"{reaction.label}, is of type {reaction.kind}, {_REASONS.get(reaction.kind, _OTHER)};\n"
            f"the exact integrator covers {_SUPPORTED} reactions.\n"
            "Use CVODES for it: CvodesReactor, integrator.kind=cvode, chemistry.kind=cvode, chemistry.outside=cvode."
        )
