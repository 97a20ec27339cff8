"""Reactions of a mechanism as flat arrays for the kernels of this package; nothing is compiled per mechanism.

Reactions are renumbered so that loops over them seldom change their length: reversible ones, irreversible ones, and
last those with powers that are no whole numbers. Inside each, they are ordered by the number of their participants.
Lists of lists are stored as `start` (n + 1,) and one flat list.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import cantera as ct
import numpy as np
from numpy.typing import NDArray

from chemnet.gas.mechanism import Mechanism
from chemnet.gas.polynomials import FREE, coefficients
from chemnet.gas.thermo import species_enthalpies
from chemnet.runtime.errors import UsageError

Floats = NDArray[np.float64]
Indices = NDArray[np.int32]

_FALLOFF = {
    "falloff-Lindemann": (0, 0.0),
    "falloff-Troe": (1, 0.0),
    "falloff-SRI": (2, 0.0),
    "chemically-activated-Lindemann": (0, 1.0),
    "chemically-activated-Troe": (1, 1.0),
    "chemically-activated-SRI": (2, 1.0),
}
_Colliders = tuple[float, tuple[tuple[int, float], ...]]  # default efficiency; species with another, less the default
_ARRHENIUS = ("Arrhenius", "three-body-Arrhenius")
_PLOG = "pressure-dependent-Arrhenius"
_SUPPORTED = "elementary, three-body, falloff (Lindemann, Troe, SRI), chemically activated and PLOG reactions"
_NEVER = -1e3  # logarithm of a pre-exponential factor of zero
_MAX_INVERSE = 1e30  # [1/K] stands for the inverse of a temperature of zero in Troe's formula


class Lists(NamedTuple):
    """Lists of (index, factor): entry i is [start[i], start[i + 1])."""

    start: NDArray[np.uint64]  # unsigned: numba would look for negative ones, which count from the end
    item: Indices
    factor: Floats


class Plog(NamedTuple):
    """Reactions whose rate constants are interpolated between pressure levels."""

    reaction: Indices
    levels: Lists  # per PLOG reaction
    level: Floats  # (levels, 3): 1 / distance in ln P to the level before and after (0 at the ends), ln P
    rates: Lists  # per level: rows of `arrhenius`; the factor is the sign of A
    arrhenius: Floats  # (rates, 4): ln|A|, b, Ea/R [K], |A|


class Derivatives(NamedTuple):
    """Sparsity pattern of the Jacobian, and the rates that its entries consist of."""

    row: Indices  # reactive species of each entry; ordered by the number of terms, so that loops keep their length
    column: Indices
    terms: Lists  # per entry: r (forward) or R + r (reverse); net coefficient times power
    set_row: Indices  # reactive species whose production depends on a collider set
    set_number: Indices
    set_terms: Lists  # per such pair: reactions and net coefficient
    partners: Lists  # per collider set: places of reactive species; efficiency minus default
    set_of: Indices  # (R,) collider set that the reaction's rate depends on, -1 for none


class Tables(NamedTuple):
    """Tables of a mechanism for the kernels: K species, of which m react, listed in `reactive`; R reactions.

    Units are Cantera's (kmol, m, s, K, Pa). `species` (K, 17 or more): `Mechanism.nasa`, but per mole and divided by
    R; in the free column the shift of `_balance`.
    """

    species: Floats
    reactive: Indices  # (m,)
    place: Indices  # (K,) of a species among the reactive ones, -1 for an inert one
    arrhenius: Floats  # (R + falloffs, 4): ln|A|, b, Ea/R [K], |A|; the low-pressure limits follow the reactions
    sign: Lists  # one list: reactions whose A is not positive, with its sign
    n_reversible: int
    n_plain: int  # reactions from here on have powers that are no whole numbers
    reactants: Lists  # per reaction: species, one that counts twice twice; from n_plain on once, with its power
    products: Lists  # the same
    orders: Lists  # per reaction from n_plain on: species and powers of the forward rate
    colliders: Lists  # per collider set: species and efficiency minus the default
    default: Floats  # (collider sets,)
    three_body: Lists  # one list: reactions; the factor is their collider set
    falloff: Floats  # (falloffs, 9): reaction, collider set, kind, activated, five parameters
    plog: Plog
    production: Lists  # per reactive species: reactions and net stoichiometric coefficient
    order: Floats  # (2, R): sum of the powers of the forward and the reverse rate
    derivatives: Derivatives
    T_max: float  # [K] of valid states


@dataclass
class _Reaction:
    """One reaction of the mechanism, species by number."""

    rate: Any  # of Cantera; its attributes depend on the kind
    kind: str
    reversible: bool
    reactants: dict[int, float]
    products: dict[int, float]
    orders: dict[int, float]
    colliders: _Colliders | None

    @property
    def whole(self) -> bool:
        """True if all powers are small whole numbers."""
        powers = [*self.orders.values(), *(self.products.values() if self.reversible else ())]
        return all(power in (1.0, 2.0, 3.0) for power in powers)

    @property
    def sort_key(self) -> tuple[int, float, float]:
        return (
            (2 if not self.whole else int(not self.reversible)),
            sum(self.orders.values()),
            sum(self.products.values()),
        )

    def net(self) -> dict[int, float]:
        """Net stoichiometric coefficients."""
        change = {k: -power for k, power in self.reactants.items()}
        for k, power in self.products.items():
            change[k] = change.get(k, 0.0) + power
        return {k: value for k, value in sorted(change.items()) if value != 0.0}


@functools.cache
def tables_of(mechanism: Mechanism) -> Tables:
    """Tables of a mechanism, built once. Raises UsageError that names a reaction whose kind is not covered."""
    gas = mechanism.gas()
    reactions = sorted((_read(gas, i, r) for i, r in enumerate(gas.reactions())), key=lambda r: r.sort_key)
    reactive = np.flatnonzero(~mechanism.inert)
    place = np.full(mechanism.n_species, -1)
    place[reactive] = np.arange(reactive.size)
    sets = list(dict.fromkeys(r.colliders for r in reactions if r.colliders is not None))
    falloffs = [i for i, r in enumerate(reactions) if r.kind in _FALLOFF]
    changes = [{int(place[k]): value for k, value in r.net().items()} for r in reactions]
    n_plain = sum(r.whole for r in reactions)
    return Tables(
        species=_species(mechanism),
        reactive=reactive.astype(np.int32),
        place=place.astype(np.int32),
        n_reversible=sum(r.whole and r.reversible for r in reactions),
        n_plain=n_plain,
        reactants=_lists(_repeated(r.orders) if i < n_plain else r.reactants.items() for i, r in enumerate(reactions)),
        products=_lists(
            _repeated(r.products) if i < n_plain else (r.products.items() if r.reversible else ())
            for i, r in enumerate(reactions)
        ),
        orders=_lists(r.orders.items() for r in reactions[n_plain:]),
        colliders=_lists(efficiencies for _, efficiencies in sets),
        default=np.array([default for default, _ in sets]),
        three_body=_lists([_three_bodies(reactions, sets)]),
        arrhenius=np.array([_high(r) for r in reactions] + [_arrhenius(reactions[i].rate.low_rate) for i in falloffs]),
        sign=_lists([_signs(reactions)]),
        falloff=_rows([_falloff_row(i, reactions[i], sets) for i in falloffs], 9),
        plog=_plog(reactions),
        production=_lists(_transposed(changes, reactive.size)),
        order=_orders(reactions),
        derivatives=_derivatives(reactions, changes, place, sets),
        T_max=mechanism.T_max,
    )


# ---- reading


def _read(gas: ct.Solution, number: int, reaction: ct.Reaction) -> _Reaction:
    kind = reaction.reaction_type
    if kind not in (*_ARRHENIUS, *_FALLOFF, _PLOG):
        raise UsageError(
            f"{gas.name}: reaction {number + 1}, {reaction.equation}, is of type {kind}; the exact integrator covers\n"
            f"{_SUPPORTED}.\n"
            "Use CVODES for it: CvodesReactor, integrator.kind=cvode, chemistry.kind=cvode, chemistry.outside=cvode."
        )
    numbers = {name: gas.species_index(name) for name in gas.species_names}

    def by_number(powers: dict[str, float]) -> dict[int, float]:
        return {numbers[name]: float(power) for name, power in powers.items()}

    reactants = by_number(reaction.reactants)
    colliders = None
    if reaction.third_body is not None and kind != _PLOG:
        body = reaction.third_body
        efficiencies = [(numbers[s], e - body.default_efficiency) for s, e in body.efficiencies.items() if s in numbers]
        colliders = (body.default_efficiency, tuple(sorted((k, e) for k, e in efficiencies if e != 0.0)))
    return _Reaction(
        rate=reaction.rate,
        kind=kind,
        reversible=reaction.reversible,
        reactants=reactants,
        products=by_number(reaction.products),
        orders={**reactants, **by_number(reaction.orders)},
        colliders=colliders,
    )


def _three_bodies(reactions: Sequence[_Reaction], sets: Sequence[_Colliders]) -> list[tuple[int, float]]:
    """Reactions whose rate is multiplied by the concentration of a collider set, and their sets."""
    bodies = [(i, r.colliders) for i, r in enumerate(reactions) if r.kind in _ARRHENIUS]
    return [(i, float(sets.index(colliders))) for i, colliders in bodies if colliders is not None]


def _repeated(powers: dict[int, float]) -> list[tuple[int, float]]:
    """Species of a reaction, each repeated as often as its integer power."""
    return [(k, 1.0) for k, power in powers.items() for _ in range(round(power))]


# ---- species


def _species(mechanism: Mechanism) -> Floats:
    """See `Tables`; all per mole and divided by the gas constant."""
    table = mechanism.nasa.copy()
    table[:, coefficients(table.shape[1])] *= (mechanism.molecular_weights / ct.gas_constant)[:, None]
    table[:, FREE] = _balance(mechanism, table)
    return table


def _balance(mechanism: Mechanism, table: Floats) -> Floats:
    """What is taken off h/R [K] of each species in equilibrium constants.

    A combination of the species' atoms drops out of every balanced reaction. The one that fits the enthalpies at
    298 K best keeps exp(g/RT) and the products of a few of them within the range of doubles.
    """
    h = np.empty(len(table))
    species_enthalpies(298.15, table, h)
    potentials = np.linalg.lstsq(mechanism.atoms.T, h, rcond=None)[0]
    return np.asarray(mechanism.atoms.T @ potentials)


# ---- rates


_Row = tuple[float, float, float, float]


def _arrhenius(rate: ct.ArrheniusRate) -> _Row:
    A = abs(rate.pre_exponential_factor)
    log_A = math.log(A) if A > 0.0 else _NEVER
    return log_A, rate.temperature_exponent, rate.activation_energy / ct.gas_constant, A


def _rate_or_limit(reaction: _Reaction) -> Any:
    """The Arrhenius rate of a reaction, in fall-off its high-pressure limit."""
    return reaction.rate.high_rate if reaction.kind in _FALLOFF else reaction.rate


def _high(reaction: _Reaction) -> _Row:
    return (0.0, 0.0, 0.0, 1.0) if reaction.kind == _PLOG else _arrhenius(_rate_or_limit(reaction))


def _signs(reactions: Sequence[_Reaction]) -> list[tuple[int, float]]:
    """Reactions whose pre-exponential factor is negative or zero."""
    factors = [1.0 if r.kind == _PLOG else _rate_or_limit(r).pre_exponential_factor for r in reactions]
    return [(i, float(np.sign(A))) for i, A in enumerate(factors) if A <= 0.0]


def _falloff_row(number: int, reaction: _Reaction, sets: Sequence[Any]) -> tuple[float, ...]:
    kind, activated = _FALLOFF[reaction.kind]
    given = [float(value) for value in reaction.rate.falloff_coeffs]
    parameters = [0.0] * 5
    if kind == 1:
        a, T3, T1 = given[:3]
        inverse = [1.0 / T if abs(T) > 1.0 / _MAX_INVERSE else _MAX_INVERSE for T in (T3, T1)]
        parameters = [a, *inverse, given[3] if len(given) == 4 else 0.0, 0.0]
    elif kind == 2:
        parameters = [*given, *(1.0, 0.0)[len(given) - 3 :]]
        parameters[2] = 1.0 / parameters[2] if parameters[2] != 0.0 else _MAX_INVERSE
    return (number, sets.index(reaction.colliders), kind, activated, *parameters)


def _plog(reactions: Sequence[_Reaction]) -> Plog:
    levels_of: list[list[tuple[int, float]]] = []
    rates_of: list[list[tuple[int, float]]] = []
    level_rows: list[tuple[float, float, float]] = []
    rows: list[_Row] = []
    numbers = [i for i, reaction in enumerate(reactions) if reaction.kind == _PLOG]
    for i in numbers:
        by_pressure: dict[float, list[tuple[int, float]]] = {}
        for pressure, rate in reactions[i].rate.rates:
            entry = (len(rows), float(np.sign(rate.pre_exponential_factor)))
            by_pressure.setdefault(math.log(pressure), []).append(entry)
            rows.append(_arrhenius(rate))
        at = sorted(by_pressure)
        levels_of.append([(len(level_rows) + j, 1.0) for j in range(len(at))])
        for j, level in enumerate(at):
            before = 1.0 / (level - at[j - 1]) if j > 0 else 0.0
            after = 1.0 / (at[j + 1] - level) if j + 1 < len(at) else 0.0
            level_rows.append((before, after, level))
            rates_of.append(by_pressure[level])
    numbers_array = np.array(numbers, np.int32)
    return Plog(numbers_array, _lists(levels_of), _rows(level_rows, 3), _lists(rates_of), _rows(rows, 4))


# ---- structure of the Jacobian


def _orders(reactions: Sequence[_Reaction]) -> Floats:
    """Sums of the powers of the forward and of the reverse rate."""
    forward = [sum(r.orders.values()) for r in reactions]
    return np.array([forward, [sum(r.products.values()) if r.reversible else 0.0 for r in reactions]])


def _derivatives(
    reactions: Sequence[_Reaction],
    changes: Sequence[dict[int, float]],
    place: NDArray[np.intp],
    sets: Sequence[_Colliders],
) -> Derivatives:
    """Entries of d(production)/d(concentration), as sums of rates over the concentration; see `jacobian.py`."""
    entries: dict[tuple[int, int], list[tuple[int, float]]] = {}
    by_set: dict[tuple[int, int], list[tuple[int, float]]] = {}
    for r, (reaction, change) in enumerate(zip(reactions, changes, strict=True)):
        ways = [(r, 1.0, reaction.orders)]
        if reaction.reversible:
            ways.append((len(reactions) + r, -1.0, reaction.products))
        for way, sign, powers in ways:
            for species, power in powers.items():
                if place[species] >= 0:
                    for k, value in change.items():
                        entries.setdefault((int(place[species]), k), []).append((way, sign * value * power))
        if reaction.colliders is not None:
            for k, value in change.items():
                by_set.setdefault((sets.index(reaction.colliders), k), []).append((r, value))
    pairs, groups = sorted(entries, key=lambda pair: (len(entries[pair]), pair)), sorted(by_set)
    partners = [[(int(place[k]), e) for k, e in efficiencies if place[k] >= 0] for _, efficiencies in sets]
    return Derivatives(
        row=np.array([k for _, k in pairs], np.int32),
        column=np.array([j for j, _ in pairs], np.int32),
        terms=_lists(entries[pair] for pair in pairs),
        set_row=np.array([k for _, k in groups], np.int32),
        set_number=np.array([g for g, _ in groups], np.int32),
        set_terms=_lists(by_set[group] for group in groups),
        partners=_lists(partners),
        set_of=np.array([-1 if r.colliders is None else sets.index(r.colliders) for r in reactions], np.int32),
    )


def _transposed(changes: Sequence[dict[int, float]], n: int) -> list[list[tuple[int, float]]]:
    """Per species the reactions that change it."""
    result: list[list[tuple[int, float]]] = [[] for _ in range(n)]
    for r, change in enumerate(changes):
        for k, value in change.items():
            result[k].append((r, value))
    return result


def _lists(lists: Iterable[Iterable[tuple[int, float]]]) -> Lists:
    kept = [list(entries) for entries in lists]
    start = np.concatenate([[0], np.cumsum([len(entries) for entries in kept])])
    flat = [pair for entries in kept for pair in entries]
    index = np.array([i for i, _ in flat], np.int32)
    return Lists(start.astype(np.uint64), index, np.array([value for _, value in flat], np.float64))


def _rows(rows: Sequence[Sequence[float]], width: int) -> Floats:
    return np.array(rows, np.float64).reshape(len(rows), width)
