"""Rate constants of reactions as flat arrays: Arrhenius, falloff, PLOG, Chebyshev, linear-Burke, Blowers-Masel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import cantera as ct
import numpy as np
from numpy.typing import NDArray

from chemnet.kinetics.lists import Floats, Indices, Lists, lists, rows
from chemnet.kinetics.reactions import (
    BLOWERS_MASEL,
    CHEBYSHEV,
    FALLOFF,
    LINEAR_BURKE,
    PLOG,
    Colliders,
    GasReaction,
)
from chemnet.runtime.errors import UsageError

_NEVER = -1e3  # logarithm of a pre-exponential factor of zero
_MAX_INVERSE = 1e30  # [1/K] stands for the inverse of a temperature of zero in Troe's formula
_SCANNED = np.arange(200.0, 6001.0)  # [K] where sums of rate constants must be positive
_LEAST_SUM = -1e-300  # what Cantera adds to a sum before it takes the logarithm
_BY_PRESSURE = (PLOG, CHEBYSHEV, LINEAR_BURKE)

_Row = tuple[float, float, float, float]


class Plog(NamedTuple):
    """Rate constants that are interpolated between pressure levels; the laws [0, n)."""

    levels: Lists  # per law
    level: Floats  # (levels, 3): 1 / distance in ln P to the level before and after (0 at the ends), ln P
    rates: Lists  # per level: rows of `arrhenius`; the factor is the sign of A
    arrhenius: Floats  # (rates, 4): ln|A|, b, Ea/R [K], |A|


class Chebyshev(NamedTuple):
    """Rate constants whose lg is a polynomial of 1/T and lg P; the laws after those of `Plog`."""

    scale: Floats  # (laws, 4): s_0/T + s_1 and s_2 ln P + s_3 are within [-1, 1] in the range of the fit
    size: Indices  # (laws, 2): number of polynomials in 1/T and in lg P
    coefficients: Floats  # (laws, largest size)


class Troe(NamedTuple):
    """Falloff of colliders, at a concentration of P/RT; the laws after those of `Chebyshev`."""

    falloff: Floats  # (laws, 9), as in `Tables`, but of no reaction
    limits: Floats  # (2 laws, 4): rows of Arrhenius parameters, low-pressure and high-pressure limit


class Laws(NamedTuple):
    """Rate constants as functions of T and a pressure: of reactions, or of colliders of linear-Burke reactions."""

    reaction: Indices  # (laws,) -1 for those of colliders
    plog: Plog
    chebyshev: Chebyshev
    troe: Troe


class Burke(NamedTuple):
    """Linear-Burke reactions: rate constants of colliders, each at a pressure of equal effect, weighted by efficiency.

    A collider without a law of its own has that of M, which stands for all species that are not listed.
    """

    reaction: Indices
    law: Indices  # of M
    colliders: Lists  # per linear-Burke reaction: species, law (-1: that of M)
    efficiency: Floats  # (colliders, 4): Arrhenius parameters


class BlowersMasel(NamedTuple):
    """Reactions whose activation energy follows their enthalpy; their rows of `arrhenius` have none."""

    reaction: Indices
    energy: Floats  # (reactions, 4): E_0, w, v - 2 w [K], v^2 - 4 w^2 [K^2], v = 2 w (w + E_0)/(w - E_0)
    change: Lists  # per reaction: species and net stoichiometric coefficient


class Rates(NamedTuple):
    """Rate constants of R reactions."""

    arrhenius: Floats  # (R + falloffs, 4): ln|A|, b, Ea/R [K], |A|; the low-pressure limits follow the reactions
    sign: Lists  # one list: reactions whose A is not positive, with its sign
    three_body: Lists  # one list: reactions; the factor is their collider set
    falloff: Floats  # (falloffs, 9): reaction, collider set, kind, activated, five parameters
    laws: Laws
    burke: Burke
    blowers_masel: BlowersMasel


def rates_of(reactions: Sequence[GasReaction], sets: Sequence[Colliders]) -> Rates:
    """Tables of the rate constants. Raises UsageError for one that is not positive, with reaction, T and P."""
    falloffs = [i for i, reaction in enumerate(reactions) if reaction.falloff]
    low = [arrhenius_row(reactions[i].rate.low_rate) for i in falloffs]
    laws, burke = _laws(reactions)
    return Rates(
        arrhenius=rows([_high(reaction) for reaction in reactions] + low, 4),
        sign=lists([_signs(reactions)]),
        three_body=lists([_three_bodies(reactions, sets)]),
        falloff=rows([_falloff_row(i, sets.index(reactions[i].colliders), reactions[i].rate) for i in falloffs], 9),
        laws=laws,
        burke=burke,
        blowers_masel=_blowers_masel(reactions),
    )


# ---- Arrhenius and falloff


def arrhenius_row(rate: Any) -> _Row:
    """ln|A|, b, Ea/R [K], |A| of one of Cantera's Arrhenius rates."""
    A = abs(rate.pre_exponential_factor)
    log_A = math.log(A) if A > 0.0 else _NEVER
    return log_A, rate.temperature_exponent, rate.activation_energy / ct.gas_constant, A


def _rate_or_limit(reaction: GasReaction) -> Any:
    """The Arrhenius rate of a reaction, in falloff its high-pressure limit."""
    return reaction.rate.high_rate if reaction.falloff else reaction.rate


def _high(reaction: GasReaction) -> _Row:
    if reaction.kind in _BY_PRESSURE:
        return 0.0, 0.0, 0.0, 1.0
    if reaction.kind == BLOWERS_MASEL:
        log_A, b, _, A = arrhenius_row(reaction.rate)
        return log_A, b, 0.0, A
    return arrhenius_row(_rate_or_limit(reaction))


def _signs(reactions: Sequence[GasReaction]) -> list[tuple[int, float]]:
    """Reactions whose pre-exponential factor is negative or zero."""
    factors = [1.0 if r.kind in _BY_PRESSURE else _rate_or_limit(r).pre_exponential_factor for r in reactions]
    return [(i, float(np.sign(A))) for i, A in enumerate(factors) if A <= 0.0]


def _three_bodies(reactions: Sequence[GasReaction], sets: Sequence[Colliders]) -> list[tuple[int, float]]:
    """Reactions whose rate is multiplied by the concentration of a collider set, and their sets."""
    return [(i, float(sets.index(r.colliders))) for i, r in enumerate(reactions) if r.three_body]


def _falloff_row(reaction: int, colliders: int, rate: ct.FalloffRate) -> tuple[float, ...]:
    way, _, name = f"{rate.type}-{rate.sub_type}".rpartition("-")
    kind, given = FALLOFF[name], [float(value) for value in rate.falloff_coeffs]
    parameters = [0.0] * 5
    if name == "Troe":
        a, T3, T1 = given[:3]
        inverse = [1.0 / T if abs(T) > 1.0 / _MAX_INVERSE else _MAX_INVERSE for T in (T3, T1)]
        parameters = [a, *inverse, given[3] if len(given) == 4 else 0.0, 0.0]
    elif name == "SRI":
        parameters = [*given, *(1.0, 0.0)[len(given) - 3 :]]
        parameters[2] = 1.0 / parameters[2] if parameters[2] != 0.0 else _MAX_INVERSE
    elif name == "Tsang":
        parameters[: len(given)] = given
    return (reaction, colliders, kind, float(way.startswith("chemically-activated")), *parameters)


def _blowers_masel(reactions: Sequence[GasReaction]) -> BlowersMasel:
    numbers = [i for i, reaction in enumerate(reactions) if reaction.kind == BLOWERS_MASEL]
    energies = []
    for i in numbers:
        rate = reactions[i].rate.input_data["rate-constant"]
        E0, w = rate["Ea0"] / ct.gas_constant, rate["w"] / ct.gas_constant
        if w == E0:
            raise UsageError(f"{reactions[i].label}: w equals Ea0, for which Blowers and Masel's formula has no value")
        v = 2.0 * w * ((w + E0) / (w - E0))
        energies.append((E0, w, v - 2.0 * w, v * v - 4.0 * w * w))
    return BlowersMasel(
        np.array(numbers, np.int32), rows(energies, 4), lists(reactions[i].net().items() for i in numbers)
    )


# ---- laws of pressure


@dataclass
class _Collected:
    """Laws of one kind with the reactions that they are the rate constants of (-1 for those of colliders)."""

    reactions: list[int] = field(default_factory=list)
    rates: list[Any] = field(default_factory=list)

    def add(self, reaction: int, rate: Any) -> int:
        self.reactions.append(reaction)
        self.rates.append(rate)
        return len(self.rates) - 1


def _laws(reactions: Sequence[GasReaction]) -> tuple[Laws, Burke]:
    kinds = {PLOG: _Collected(), CHEBYSHEV: _Collected(), "Troe": _Collected()}
    for i, reaction in enumerate(reactions):
        if reaction.kind in (PLOG, CHEBYSHEV):
            _check(reaction.label, reaction.rate)
            kinds[reaction.kind].add(i, reaction.rate)
    colliders = {i: _read_colliders(r, kinds) for i, r in enumerate(reactions) if r.kind == LINEAR_BURKE}
    first = dict(zip(kinds, np.cumsum([0, *(len(kind.rates) for kind in kinds.values())]), strict=False))

    def number(law: tuple[str, int] | None) -> int:
        return -1 if law is None else int(first[law[0]]) + law[1]

    of_reactions = [i for kind in kinds.values() for i in kind.reactions]
    laws = Laws(
        reaction=np.array(of_reactions, np.int32),
        plog=_plog(kinds[PLOG].rates),
        chebyshev=_chebyshev(kinds[CHEBYSHEV].rates),
        troe=_troe(kinds["Troe"].rates),
    )
    burke = Burke(
        reaction=np.array(list(colliders), np.int32),
        law=np.array([number(read[0].law) for read in colliders.values()], np.int32),
        colliders=lists([(c.species, float(number(c.law))) for c in read[1:]] for read in colliders.values()),
        efficiency=rows([c.efficiency for read in colliders.values() for c in read[1:]], 4),
    )
    return laws, burke


class _Collider(NamedTuple):
    """One collider of a linear-Burke reaction; the first stands for M."""

    species: int
    efficiency: _Row
    law: tuple[str, int] | None  # kind and number within it


def _read_colliders(reaction: GasReaction, kinds: dict[str, _Collected]) -> list[_Collider]:
    """Colliders of a linear-Burke reaction; Cantera shows them as input data in SI units (kmol, J/kmol) alone."""
    colliders = []
    for place, given in enumerate(reaction.rate.input_data["colliders"]):
        name, strength = given["name"], given.get("efficiency", {"A": 1.0, "b": 0.0, "Ea": 0.0})
        species = -1 if place == 0 else reaction.species.get(name, -1)
        if place > 0 and species < 0:
            raise UsageError(f"{reaction.label}: its collider {name} is no species of the gas; remove it")
        efficiency = arrhenius_row(ct.ArrheniusRate(strength["A"], strength["b"], strength["Ea"]))
        law = None
        if "type" in given:
            node: Any = {k: v for k, v in given.items() if k not in ("name", "efficiency")}
            rate = ct.ReactionRate.from_dict(node)
            _check(f"{reaction.label}, collider {name}", rate)
            if efficiency[3] == 0.0:
                raise UsageError(f"{reaction.label}: collider {name} has rate constants, but an efficiency of zero")
            kind = rate.type if rate.type in kinds else "Troe"
            law = kind, kinds[kind].add(-1, rate)
        colliders.append(_Collider(species, efficiency, law))
    return colliders


def _check(label: str, rate: Any) -> None:
    """Raise UsageError for a rate constant that is somewhere not positive, of which Cantera makes NaN."""
    if isinstance(rate, ct.FalloffRate):
        if min(limit.pre_exponential_factor for limit in (rate.low_rate, rate.high_rate)) <= 0.0:
            raise UsageError(f"{label}: a limit of its falloff is not positive; give both a positive A")
        return
    for pressure, rates in _by_pressure(rate).items() if isinstance(rate, ct.PlogRate) else ():
        if min(one.pre_exponential_factor for one in rates) > 0.0:
            continue
        total = _sum_of_rates(rates)
        wrong = np.flatnonzero(total < _LEAST_SUM if len(rates) > 1 else total <= 0.0)
        if wrong.size:
            raise UsageError(
                f"{label}: its rate constants at P = {pressure:.6g} Pa add up to less than zero at T = "
                f"{_SCANNED[wrong[0]]:.0f} to {_SCANNED[wrong[-1]]:.0f} K,\nwhere Cantera gives NaN. "
                "Mend those of that pressure: their sum must be positive at all temperatures."
            )


def _sum_of_rates(rates: Sequence[Any]) -> NDArray[np.float64]:
    """Sum of Arrhenius rates at the temperatures of `_SCANNED`."""
    total = np.zeros(_SCANNED.size)
    for one in rates:
        log_A, b, Ea, A = arrhenius_row(one)
        if A > 0.0:
            total += math.copysign(1.0, one.pre_exponential_factor) * np.exp(
                np.minimum(log_A + b * np.log(_SCANNED) - Ea / _SCANNED, 700.0)
            )
    return total


def _by_pressure(rate: ct.PlogRate) -> dict[float, list[Any]]:
    """Arrhenius rates of each pressure, which rises."""
    found: dict[float, list[Any]] = {}
    for pressure, one in sorted(rate.rates, key=lambda pair: pair[0]):
        found.setdefault(pressure, []).append(one)
    return found


def _plog(rates: Sequence[ct.PlogRate]) -> Plog:
    levels_of: list[list[tuple[int, float]]] = []
    rates_of_level: list[list[tuple[int, float]]] = []
    level_rows: list[tuple[float, float, float]] = []
    arrhenius: list[_Row] = []
    for rate in rates:
        by_pressure = {math.log(pressure): found for pressure, found in _by_pressure(rate).items()}
        at = list(by_pressure)
        levels_of.append([(len(level_rows) + j, 1.0) for j in range(len(at))])
        for j, level in enumerate(at):
            before = 1.0 / (level - at[j - 1]) if j > 0 else 0.0
            after = 1.0 / (at[j + 1] - level) if j + 1 < len(at) else 0.0
            level_rows.append((before, after, level))
            found = by_pressure[level]
            signs = [float(np.sign(one.pre_exponential_factor)) for one in found]
            rates_of_level.append([(len(arrhenius) + i, sign) for i, sign in enumerate(signs)])
            arrhenius += [arrhenius_row(one) for one in found]
    return Plog(lists(levels_of), rows(level_rows, 3), lists(rates_of_level), rows(arrhenius, 4))


def _chebyshev(rates: Sequence[ct.ChebyshevRate]) -> Chebyshev:
    scale, sizes = [], [rate.data.shape for rate in rates]
    coefficients = np.zeros((len(rates), max((n * m for n, m in sizes), default=0)))
    for i, rate in enumerate(rates):
        T, P = (np.array(limits) for limits in (rate.temperature_range, rate.pressure_range))
        by_T, by_P = 1.0 / (1.0 / T[1] - 1.0 / T[0]), 1.0 / math.log(P[1] / P[0])
        scale.append((2.0 * by_T, -(1.0 / T).sum() * by_T, 2.0 * by_P, -np.log(P).sum() * by_P))
        coefficients[i, : rate.data.size] = rate.data.ravel()
    return Chebyshev(rows(scale, 4), np.array(sizes, np.int32).reshape(len(rates), 2), coefficients)


def _troe(rates: Sequence[ct.TroeRate]) -> Troe:
    limits = [arrhenius_row(limit) for rate in rates for limit in (rate.low_rate, rate.high_rate)]
    return Troe(rows([_falloff_row(-1, -1, rate) for rate in rates], 9), rows(limits, 4))
