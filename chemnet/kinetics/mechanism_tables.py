"""Reactions of a mechanism as flat arrays for the kernels of this package; nothing is compiled per mechanism.

Reactions are renumbered so that loops over them seldom change their length: reversible ones, irreversible ones, and
last those with powers that are no whole numbers. Inside each, they are ordered by the number of their participants.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cantera as ct
import numpy as np
from numpy.typing import NDArray

from chemnet.gas.conditions import Conditions, check_conditions
from chemnet.gas.mechanism import Mechanism
from chemnet.gas.polynomials import FREE, coefficients
from chemnet.gas.thermo import species_enthalpies
from chemnet.kinetics.elimination import Layout, Places, eliminate
from chemnet.kinetics.lists import Floats, Indices, Lists, lists
from chemnet.kinetics.rate_tables import Rates, rates_of
from chemnet.kinetics.reactions import Colliders, GasReaction, read_reactions


class Derivatives(NamedTuple):
    """Sparsity pattern of the Jacobian, and the rates that its entries consist of."""

    row: Indices  # reactive species of each entry; ordered by the number of terms, so that loops keep their length
    column: Indices
    at: Indices  # place in the matrix
    terms: Lists  # per entry: r (forward), R + r (reverse) or 2 R + a collider; net coefficient times power
    set_row: Indices  # reactive species whose production depends on a collider set
    set_number: Indices
    set_terms: Lists  # per such pair: reactions and net coefficient
    partners: Lists  # per collider set: reactive species; efficiency minus default
    set_at: Indices  # per such pair and partner: place in the matrix
    singular: Lists  # per entry of `orders` with a power p < 1: places in the matrix; net coefficient times 1 - p
    singular_column: Indices  # (entries of `orders`,) their species among the reactive ones, -1 for an inert one
    singular_of: Indices  # (entries of `orders`,) their reactions
    set_of: Indices  # (R,) collider set that the reaction's rate depends on, -1 for none


class Held(NamedTuple):
    """What the gas is held at, as numbers for the kernels: at a given pressure and, unless heated, enthalpy."""

    volume: float = 0.0  # 1 where the volume is given in place of the pressure, and the energy in place of the enthalpy
    heating: float = 1.0  # 0 where the temperature is given


class Tables(NamedTuple):
    """Tables of a mechanism for the kernels: K species, of which m react, listed in `reactive`; R reactions.

    Units are Cantera's (kmol, m, s, K, Pa). `species` (K, 17 or more): `Mechanism.nasa`, but per mole and divided by
    R; in the free column the shift of `_balance`.
    """

    species: Floats
    reactive: Indices  # (m,) in the order of the unknowns
    place: Indices  # (K,) of a species among the reactive ones, -1 for an inert one
    n_reversible: int
    n_plain: int  # reactions from here on have powers that are no whole numbers
    reactants: Lists  # per reaction: species, one that counts twice twice; from n_plain on once, with its power
    products: Lists  # the same
    orders: Lists  # per reaction from n_plain on: species and powers of the forward rate
    colliders: Lists  # per collider set: species and efficiency minus the default
    default: Floats  # (collider sets,)
    rates: Rates
    production: Lists  # per reactive species: reactions and net stoichiometric coefficient
    order: Floats  # (2, R): sum of the powers of the forward and the reverse rate
    derivatives: Derivatives
    layout: Layout  # of the Jacobian and its factors
    T_max: float  # [K] of valid states
    held: Held = Held()


def held_at(conditions: Conditions) -> Held:
    """What a gas is held at. Raises UsageError for conditions that do not exist."""
    check_conditions(conditions)
    return Held(float(conditions == "constant volume"), float(conditions != "given temperature"))


@functools.cache
def tables_of(mechanism: Mechanism) -> Tables:
    """Tables of a mechanism, built once. Raises UsageError that names a reaction whose kind is not covered."""
    reactions = read_reactions(mechanism.gas())
    sets = list(dict.fromkeys(r.colliders for r in reactions if r.colliders is not None))
    rates = rates_of(reactions, sets)
    reactive = np.flatnonzero(~mechanism.inert)
    n_plain = sum(r.whole for r in reactions)
    derivatives = _derivatives(reactions, _place(reactive, mechanism.n_species), sets, n_plain, rates)
    order, layout = eliminate(_coupled(derivatives, reactive.size))
    reactive = reactive[order]
    place = _place(reactive, mechanism.n_species)
    changes = _changes(reactions, place)
    return Tables(
        species=_species(mechanism),
        reactive=reactive.astype(np.int32),
        place=place.astype(np.int32),
        n_reversible=sum(r.whole and r.reversible for r in reactions),
        n_plain=n_plain,
        reactants=lists(_repeated(r.orders) if i < n_plain else r.reactants.items() for i, r in enumerate(reactions)),
        products=lists(
            _repeated(r.products) if i < n_plain else (r.products.items() if r.reversible else ())
            for i, r in enumerate(reactions)
        ),
        orders=lists(r.orders.items() for r in reactions[n_plain:]),
        colliders=lists(efficiencies for _, efficiencies in sets),
        default=np.array([default for default, _ in sets]),
        rates=rates,
        production=lists(_transposed(changes, reactive.size)),
        order=_orders(reactions),
        derivatives=_placed(derivatives, np.argsort(order), layout),
        layout=layout,
        T_max=mechanism.T_max,
    )


def _place(reactive: NDArray[np.intp], n_species: int) -> NDArray[np.intp]:
    """Place of every species among the reactive ones, -1 for an inert one."""
    place = np.full(n_species, -1)
    place[reactive] = np.arange(reactive.size)
    return place


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


# ---- structure of the Jacobian


def _orders(reactions: Sequence[GasReaction]) -> Floats:
    """Sums of the powers of the forward and of the reverse rate."""
    forward = [sum(r.orders.values()) for r in reactions]
    return np.array([forward, [sum(r.products.values()) if r.reversible else 0.0 for r in reactions]])


def _derivatives(
    reactions: Sequence[GasReaction],
    place: NDArray[np.intp],
    sets: Sequence[Colliders],
    n_plain: int,
    rates: Rates,
) -> Derivatives:
    """Entries of d(production)/d(concentration), as sums of rates over the concentration; see `jacobian.py`."""
    changes = _changes(reactions, place)
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
    burke = rates.burke
    for q, r in enumerate(burke.reaction):
        for i in range(int(burke.colliders.start[q]), int(burke.colliders.start[q + 1])):
            j = int(place[burke.colliders.item[i]])
            for k, value in changes[r].items() if j >= 0 else ():
                entries.setdefault((j, k), []).append((2 * len(reactions) + i, value))
    pairs, groups = sorted(entries, key=lambda pair: (len(entries[pair]), pair)), sorted(by_set)
    partners = [[(int(place[k]), e) for k, e in efficiencies if place[k] >= 0] for _, efficiencies in sets]
    general = [(r, j, p) for r in range(n_plain, len(reactions)) for j, p in reactions[r].orders.items()]

    def changes_by_power(r: int, species: int, power: float) -> list[tuple[int, float]]:
        singular = power < 1.0 and place[species] >= 0
        return [(k, value * (1.0 - power)) for k, value in changes[r].items()] if singular else []

    return Derivatives(
        singular=lists(changes_by_power(*entry) for entry in general),
        singular_column=np.array([place[j] for _, j, _ in general], np.int32),
        singular_of=np.array([r for r, _, _ in general], np.int32),
        row=np.array([k for _, k in pairs], np.int32),
        column=np.array([j for j, _ in pairs], np.int32),
        at=np.zeros(0, np.int32),
        terms=lists(entries[pair] for pair in pairs),
        set_row=np.array([k for _, k in groups], np.int32),
        set_number=np.array([g for g, _ in groups], np.int32),
        set_terms=lists(by_set[group] for group in groups),
        partners=lists(partners),
        set_at=np.zeros(0, np.int32),
        set_of=np.array([-1 if r.colliders is None else sets.index(r.colliders) for r in reactions], np.int32),
    )


def _changes(reactions: Sequence[GasReaction], place: NDArray[np.intp]) -> list[dict[int, float]]:
    """Net stoichiometric coefficients of the reactive species, by their places."""
    return [{int(place[k]): value for k, value in r.net().items()} for r in reactions]


def _set_entries(derivatives: Derivatives) -> Iterator[tuple[int, int]]:
    """Row and column of what a collider set adds to, for each of `set_row` and each partner."""
    partners = derivatives.partners
    for row, s in zip(derivatives.set_row, derivatives.set_number, strict=True):
        for column in partners.item[int(partners.start[s]) : int(partners.start[s + 1])]:
            yield int(row), int(column)


def _coupled(derivatives: Derivatives, m: int) -> NDArray[np.bool_]:
    """Whether the production of a species depends on the concentration of another (m, m)."""
    coupled = np.zeros((m, m), np.bool_)
    coupled[derivatives.row, derivatives.column] = True
    for entry in _set_entries(derivatives):
        coupled[entry] = True
    return coupled


def _placed(derivatives: Derivatives, place: NDArray[np.intp], layout: Layout) -> Derivatives:
    """The same with the species renumbered, and with the places of the entries in the matrix."""
    number, at = place.astype(np.int32), Places(layout)
    derivatives = derivatives._replace(
        row=number[derivatives.row],
        column=number[derivatives.column],
        set_row=number[derivatives.set_row],
        partners=derivatives.partners._replace(item=number[derivatives.partners.item]),
    )
    entries = zip(derivatives.row.tolist(), derivatives.column.tolist(), strict=True)
    singular, column = derivatives.singular, derivatives.singular_column
    columns = np.repeat(column, np.diff(singular.start).astype(np.intp))
    singular_at = [at(int(number[i]), int(number[j])) for i, j in zip(singular.item, columns, strict=True)]
    return derivatives._replace(
        at=np.array([at(i, j) for i, j in entries], np.int32),
        set_at=np.array([at(i, j) for i, j in _set_entries(derivatives)], np.int32),
        singular=singular._replace(item=np.array(singular_at, np.int32)),
        singular_column=np.where(column >= 0, number[column], -1).astype(np.int32),
    )


def _transposed(changes: Sequence[dict[int, float]], n: int) -> list[list[tuple[int, float]]]:
    """Per species the reactions that change it."""
    result: list[list[tuple[int, float]]] = [[] for _ in range(n)]
    for r, change in enumerate(changes):
        for k, value in change.items():
            result[k].append((r, value))
    return result
