"""Cells of a benchmark by kind: flame, ignition, mixed, burnt, cold; always the same ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from chemnet.data import dataset
from chemnet.data.augmentation import Drawer, mix
from chemnet.data.dataset import Pairs
from chemnet.data.recipe import KINDS as RECIPE_KINDS
from chemnet.data.recipe import Oxidizer, load_recipe
from chemnet.gas import canonical
from chemnet.gas.mechanism import Mechanism
from chemnet.gas.state import ONE_ATM, T_MAX, T_MIN, Array
from chemnet.kinetics.cvodes import CvodesReactor
from chemnet.runtime.errors import NumericalError, UsageError

HOT, COLD = 800.0, 600.0  # [K] mixed states are hotter than the one, cold states colder than the other

_PHI = (0.5, 1.6)
_FLAME_PHI = (0.8, 1.0, 1.2)
_T_UNBURNT = 300.0  # [K] of the flames
_T_IGNITION = (1000.0, 2000.0)  # [K]
_T_BURNING = (300.0, 1000.0)  # [K] of the unburnt gas that burnt gas is made of
_PATHS, _ROWS_PER_SOURCE, _BURNT = 24, 400, 200
_NEIGHBOURS = 10  # burnt gas mixes with one of those that are leaner or richer by no more than 0.055
_RELAXATION = (1e-6, 1e-5, 1e-4)  # [s] how long burnt gases have been mixed, in equal shares
_MOST_DRAWS = 100
_SEED = 1


@dataclass(frozen=True)
class Gas:
    """Gas of a benchmark: mechanism, fuel and oxidizer as mole fractions, pressure [Pa]."""

    mechanism: Mechanism
    fuel: Mapping[str, float]
    oxidizer: Mapping[str, float] = field(default_factory=lambda: canonical.AIR)
    P: float = ONE_ATM


def usual_fuel(mechanism: Mechanism) -> dict[str, float]:
    """Methane where a mechanism has it, else hydrogen. Raises UsageError, which says how to name another, if it has
    neither."""
    for species in ("CH4", "H2"):
        if species in mechanism.species_names:
            return {species: 1.0}
    raise UsageError(f"{mechanism.name} has neither CH4 nor H2: say what burns, for example --fuel C2H4:1")


class Cells:
    """Cells of one gas by kind; `of(kind, n)` are n states (n, 2 + K).

    * flame: free flames of three equivalence ratios, evenly over their adaptive grids, the cold side included
    * mixed: mixtures of flames, ignition paths, burnt and unburnt gas, most of them reacting for a while; T > 800 K
    * ignition: along ignition paths at constant pressure from 1000-2000 K
    * burnt: mixtures of two gases in equilibrium, of similar phi, 1e-6 to 1e-4 s later: radicals are still on their way
    * cold: as mixed, T < 600 K

    Without `flames`, which take Cantera long, or transport data, there are none in the mixtures.
    """

    def __init__(self, gas: Gas, *, flames: bool = True) -> None:
        """Raises UsageError for unknown species."""
        self.gas = gas
        self.flames = flames and canonical.has_transport(gas.mechanism)
        canonical.premixed(gas.mechanism, 1.0, gas.fuel, gas.oxidizer)

    def of(self, kind: str, n: int) -> Array:
        """n states of one kind (a key of KINDS).

        Raises UsageError for flames without transport data, NumericalError when Cantera finds no flame or when
        mixtures are hardly ever as hot or cold as that.
        """
        return KINDS[kind](self, n)

    def _rng(self, stream: str) -> np.random.Generator:
        return np.random.default_rng([_SEED, *stream.encode()])

    def _relaxed(self, n: int) -> Array:
        """n mixtures of two gases in equilibrium, a little later."""
        rng = self._rng("burnt")
        chosen = rng.integers(_BURNT, size=n)
        partner = np.clip(chosen + rng.integers(-_NEIGHBOURS, _NEIGHBOURS, size=n, endpoint=True), 0, _BURNT - 1)
        gases = np.maximum(self._equilibria, 0.0)
        states = mix(gases[chosen], gases[partner], self.gas.mechanism, rng)
        reactor = CvodesReactor(self.gas.mechanism, rtol=1e-8, atol=1e-14)
        pieces = np.array_split(states, len(_RELAXATION))
        return np.concatenate([reactor.advance(piece, t)[0] for piece, t in zip(pieces, _RELAXATION, strict=True)])

    def _mixtures(self, kind: str, n: int, coldest: float, hottest: float) -> Array:
        """n mixtures as a training set has them, between two temperatures [K]."""
        rng, found = self._rng(kind), list[Array]()
        for _ in range(_MOST_DRAWS):
            states = self._drawer.draw("mixed", n, 0, rng).states
            found.append(states[(states[:, 0] > coldest) & (states[:, 0] < hottest)])
            if sum(map(len, found)) >= n:
                return np.concatenate(found)[:n]
        raise NumericalError(f"mixtures of this gas are hardly ever at {coldest:.0f}-{hottest:.0f} K; leave them out")

    @cached_property
    def _drawer(self) -> Drawer:
        """Drawer of mixtures: the shipped recipe with this gas, and its source states."""
        changes = {
            "mechanism": self.gas.mechanism.name,
            "fuel": dict(self.gas.fuel),
            "oxidizers": [Oxidizer(share=1.0, moles=dict(self.gas.oxidizer))],
            "phi": _PHI,
            "pressure": (self.gas.P, self.gas.P),
        }
        rows = {"ignition": self._path_rows, "burnt": self._equilibria}
        if self.flames:
            rows["flames"] = self._flame_rows
        pairs = dataset.concatenate([_pairs(kind, states) for kind, states in rows.items()])
        return Drawer(load_recipe().model_copy(update=changes), pairs, CvodesReactor(self.gas.mechanism))

    @cached_property
    def _flame_rows(self) -> Array:
        gas = self.gas
        profiles = canonical.flames(gas.mechanism, _FLAME_PHI, gas.P, _T_UNBURNT, gas.fuel, gas.oxidizer)
        rng = self._rng("flames")
        return np.concatenate([canonical.states_across(*profile, _ROWS_PER_SOURCE, rng) for profile in profiles])

    @cached_property
    def _path_rows(self) -> Array:
        rng = self._rng("paths")
        cantera = self.gas.mechanism.gas()
        rows = []
        for start in self._unburnt(_PATHS, _T_IGNITION, rng):
            times, states = canonical.ignition_path(cantera, start)
            rows.append(canonical.states_along(times, states, _ROWS_PER_SOURCE, rng))
        return np.concatenate(rows)

    @cached_property
    def _equilibria(self) -> Array:
        """Gases in equilibrium, from lean to rich."""
        cantera = self.gas.mechanism.gas()
        return np.array(
            [canonical.burnt(cantera, s) for s in self._unburnt(_BURNT, _T_BURNING, self._rng("equilibria"))]
        )

    def _unburnt(self, n: int, temperatures: tuple[float, float], rng: np.random.Generator) -> Array:
        """n fresh mixtures (n, 2 + K) from lean to rich, at random temperatures."""
        gas = self.gas
        phis = np.linspace(*_PHI, n)
        Y = np.array([canonical.premixed(gas.mechanism, phi, gas.fuel, gas.oxidizer) for phi in phis])
        return np.column_stack([rng.uniform(*temperatures, n), np.full(n, gas.P), Y])


KINDS: dict[str, Callable[[Cells, int], Array]] = {
    "flame": lambda cells, n: _some(cells._flame_rows, n, cells._rng("flame")),
    "mixed": lambda cells, n: cells._mixtures("mixed", n, HOT, T_MAX),
    "ignition": lambda cells, n: _some(cells._path_rows, n, cells._rng("ignition")),
    "burnt": Cells._relaxed,
    "cold": lambda cells, n: cells._mixtures("cold", n, T_MIN, COLD),
}


def _some(rows: Array, n: int, rng: np.random.Generator) -> Array:
    """n random rows, as the integrator would never leave them: without traces like -1e-14."""
    return np.maximum(rows[rng.integers(len(rows), size=n)], 0.0)


def _pairs(kind: str, rows: Array) -> Pairs:
    """Source rows of a drawer, all on its first side of the split."""
    states = np.maximum(rows, 0.0)
    n = len(states)
    return Pairs(
        states, states, np.zeros(n, np.int8), np.zeros(n, np.int32), np.full(n, RECIPE_KINDS.index(kind), np.int8)
    )
