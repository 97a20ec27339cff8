"""Canonical problems, solved by Cantera: premixed gas, equilibrium, ignition at constant pressure, free flames."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import cantera as ct
import numpy as np
from pydantic import NonNegativeFloat, PositiveFloat, model_validator

from chemnet.gas.conditions import Conditions
from chemnet.gas.mechanism import Mechanism, MechanismLike, as_mechanism
from chemnet.gas.state import Array
from chemnet.runtime.config import Config
from chemnet.runtime.errors import NumericalError, UsageError

AIR = {"O2": 1.0, "N2": 3.76}
_TRAJECTORY_TOLERANCES = (1e-8, 1e-14)
_MAX_STEPS = 20_000
_TRANSPORT = "mixture-averaged"
PATH_END, AFTER_IGNITION = 5.0, 2e-3  # [s]


class PathPlaces(Config):
    """End of an ignition path, and shares of the states drawn from it by place.

    | key | meaning, and why |
    |---|---|
    | `end_time`, `after_ignition` | end of the path [s], and time after ignition [s], as of `ignition_path` |
    | `steps` | at internal steps of CVODES, which crowd where the chemistry is fast |
    | `induction` | evenly in time: the induction decides the delay but has few steps |
    | `onset` | log-uniform up to ignition: the first moments, when the radicals rise from nothing |
    | `relaxation` | log-uniform after ignition: the long way from the flame to equilibrium |
    | `induction_end` | end of `induction` in ignition delays: a little beyond 1, to take in the ignition itself |
    | `first_time` | shortest time [s] of the log-uniform ones: a tenth of a flow step of 1e-6 s |
    """

    end_time: PositiveFloat = PATH_END
    after_ignition: PositiveFloat = AFTER_IGNITION
    steps: NonNegativeFloat = 0.4
    induction: NonNegativeFloat = 0.28
    onset: NonNegativeFloat = 0.2
    relaxation: NonNegativeFloat = 0.12
    induction_end: PositiveFloat = 1.05
    first_time: PositiveFloat = 1e-7

    @model_validator(mode="after")
    def _shares_sum_to_one(self) -> PathPlaces:
        if abs(sum(self.shares) - 1.0) > 1e-9:
            raise ValueError("steps, induction, onset and relaxation are shares that sum to 1")
        return self

    @property
    def shares(self) -> tuple[float, float, float, float]:
        """Shares of `steps`, `induction`, `onset` and `relaxation`."""
        return self.steps, self.induction, self.onset, self.relaxation


def premixed(
    mechanism: MechanismLike, phi: float, fuel: Mapping[str, float], oxidizer: Mapping[str, float] = AIR
) -> Array:
    """Mass fractions (K,) of fuel and oxidizer (mole fractions by species) at equivalence ratio phi.

    Raises UsageError for an unknown species, phi <= 0, or if the two do not burn.
    """
    if not phi > 0.0:
        raise UsageError(f"phi = {phi}: an equivalence ratio is positive")
    mechanism = as_mechanism(mechanism)
    _check_mixture(mechanism, tuple(fuel), tuple(oxidizer), tuple(fuel.values()), tuple(oxidizer.values()))
    gas = _gas(mechanism)
    gas.set_equivalence_ratio(phi, dict(fuel), dict(oxidizer))
    return gas.Y


@functools.cache
def _check_mixture(
    mechanism: Mechanism, fuel: tuple[str, ...], oxidizer: tuple[str, ...], *moles: tuple[float, ...]
) -> None:
    """Raises UsageError unless the species of fuel and oxidizer (mole fractions) exist and the two burn."""
    for species in (*fuel, *oxidizer):
        mechanism.index(species)
    mixtures = (dict(zip(names, x, strict=True)) for names, x in zip((fuel, oxidizer), moles, strict=True))
    try:
        burns = _gas(mechanism).stoich_air_fuel_ratio(*mixtures) > 0.0
    except ct.CanteraError:
        burns = False
    if not burns:
        raise UsageError(f"{', '.join(fuel)} does not burn with {', '.join(oxidizer)}: which is fuel, which oxidizer?")


@functools.cache
def _gas(mechanism: Mechanism) -> ct.Solution:
    """A gas to compute compositions with; making one costs ten milliseconds."""
    return mechanism.gas()


def new_reactor(gas: ct.Solution, state: Array, conditions: Conditions = "constant pressure") -> ct.Reactor:
    """A reactor that starts at one row `[T, P, Y]` and shares `gas`."""
    gas.set_unnormalized_mass_fractions(state[2:])
    gas.TP = state[0], state[1]
    kind = ct.IdealGasReactor if conditions == "constant volume" else ct.IdealGasConstPressureReactor
    return kind(gas, clone=False, energy="off" if conditions == "given temperature" else "on")


def constant_volume_end(gas: ct.Solution, state: Array, end_time: float) -> tuple[float, float]:
    """T [K] and P [Pa] of the state (2 + K,) `[T, P, Y]` after `end_time` [s] of reactions at constant volume."""
    gas.TPY = state[0], state[1], state[2:]
    reactor = ct.IdealGasReactor(gas, clone=False)
    network = ct.ReactorNet([reactor])
    network.rtol, network.atol = 1e-10, 1e-16
    network.advance(end_time)
    return float(gas.T), float(gas.P)


def burnt(gas: ct.Solution, state: Array) -> Array:
    """The state (2 + K,) in equilibrium at the enthalpy and pressure of `state`."""
    gas.TPY = state[0], state[1], state[2:]
    gas.equilibrate("HP", solver="auto", rtol=1e-9)
    return np.hstack([gas.T, gas.P, gas.Y])


def ignition_path(
    gas: ct.Solution, state: Array, end_time: float = PATH_END, after_ignition: float = AFTER_IGNITION
) -> tuple[Array, Array]:
    """Times (m,) [s] and states (m, 2 + K) at the internal steps of CVODES, from `state` on at constant pressure.

    The path ends at `end_time`, or if that is sooner `after_ignition` seconds after the fastest rise of temperature, at
    least two more delays later: what rich mixtures burn to takes as long as they need to ignite.
    """
    reactor = new_reactor(gas, state)
    network = ct.ReactorNet([reactor])
    network.rtol, network.atol = _TRAJECTORY_TOLERANCES
    times, states = [0.0], [np.hstack([reactor.T, state[1], gas.Y])]
    fastest, ignition = 0.0, np.inf
    while times[-1] < min(end_time, ignition + max(after_ignition, 2.0 * ignition)) and len(times) < _MAX_STEPS:
        network.step()
        times.append(network.time)
        states.append(np.hstack([reactor.T, state[1], gas.Y]))
        rate = (states[-1][0] - states[-2][0]) / (times[-1] - times[-2])
        if rate > max(fastest, 1e4):  # [K/s]; slower is no ignition
            fastest, ignition = rate, times[-1]
    return np.array(times), np.array(states)


def states_along(
    times: Array, states: Array, n: int, rng: np.random.Generator, places: PathPlaces | None = None
) -> Array:
    """(n, 2 + K) random states of a path, placed along it as `places` says; the first is its start."""
    places = places or PathPlaces()
    ignition = times[1 + np.argmax(np.diff(states[:, 0]) / np.diff(times))]
    after = max(times[-1] - ignition, places.first_time)
    counts = rng.multinomial(n, places.shares)
    positions = rng.uniform(0, len(times) - 1, counts[0])
    drawn = np.concatenate(
        [
            np.interp(positions, np.arange(len(times)), times),
            rng.uniform(0.0, places.induction_end * ignition, counts[1]),
            _log_uniform(places.first_time, ignition, counts[2], rng),
            ignition + _log_uniform(places.first_time, after, counts[3], rng),
        ]
    )
    drawn = np.minimum(drawn, times[-1])
    drawn[0] = 0.0
    return _interpolate(drawn, times, states)


def _log_uniform(first: float, last: float, n: int, rng: np.random.Generator) -> Array:
    """n random times [s] between two, uniform in their logarithm."""
    return np.exp(rng.uniform(np.log(first), np.log(last), n))


def _interpolate(at: Array, points: Array, rows: Array) -> Array:
    return np.stack([np.interp(at, points, column) for column in rows.T], axis=1)


def flames(
    mechanism: Mechanism,
    phis: Sequence[float],
    P: float,
    T: float,
    fuel: Mapping[str, float],
    oxidizer: Mapping[str, float],
    *,
    may_miss: bool = False,
) -> list[tuple[Array, Array]]:
    """Grid (m,) [m] and states (m, 2 + K) of a free flame for each phi, each started from the one before.

    Raises UsageError for a mechanism without transport data, NumericalError when Cantera finds no solution; where some
    `may_miss`, when it finds none at all.
    """
    check_transport(mechanism)
    gas = mechanism.gas()
    profiles: list[tuple[Array, Array]] = []
    flame: ct.FreeFlame | None = None
    for phi in phis:
        try:
            flame = solve_flame(gas, np.hstack([T, P, premixed(mechanism, phi, fuel, oxidizer)]), flame)
        except NumericalError:
            if may_miss and (profiles or phi != phis[-1]):
                continue
            raise
        profiles.append((flame.grid.copy(), np.column_stack([flame.T, np.full(flame.T.size, P), flame.Y.T])))
    return profiles


def check_transport(mechanism: Mechanism) -> None:
    """Raises UsageError unless flames of the mechanism can be computed."""
    if not has_transport(mechanism):
        raise UsageError(
            f"{mechanism.name} has no transport data for flames\nSample without: --set flames=null --set flow=null"
        )


def has_transport(mechanism: Mechanism) -> bool:
    """Whether the species of a mechanism have the data that flames need."""
    try:
        mechanism.gas().transport_model = _TRANSPORT
    except ct.CanteraError:
        return False
    return True


def solve_flame(
    gas: ct.Solution,
    state: Array,
    start: ct.FreeFlame | None = None,
    *,
    width: float = 0.03,
    ratio: float = 3.0,
    slope: float = 0.1,
    curve: float = 0.2,
    max_points: int = 1000,
) -> ct.FreeFlame:
    """Cantera's free flame of the unburnt `state` (2 + K,), mixture-averaged, on a grid refined to its criteria.

    It goes on from the flame `start` if that converges, else from Cantera's own guess in a box of `width` [m].
    Raises NumericalError where neither does.
    """
    gas.TPY = state[0], state[1], state[2:]
    inlet = gas.TPY
    for guess in (start, None):
        flame = guess
        if flame is None:
            gas.transport_model = _TRANSPORT
            flame = ct.FreeFlame(gas, width=width)
        flame.inlet.T, flame.inlet.Y = inlet[0], inlet[2]
        flame.P = inlet[1]
        flame.max_grid_points = max_points
        flame.set_refine_criteria(ratio=ratio, slope=slope, curve=curve)
        try:
            flame.solve(loglevel=0, auto=guess is None)
        except ct.CanteraError:
            gas.TPY = inlet
            continue
        return flame
    mixture = f"phi = {gas.equivalence_ratio():.4g}, T = {inlet[0]} K, P = {inlet[1]} Pa"
    raise NumericalError(f"no flame found at {mixture}\nLeave this mixture out.")


def production_rates(gas: ct.Solution, states: Array) -> Array:
    """Rates of change of the mass fractions (n, K) [1/s] by reactions at constant pressure, of states (n, 2 + K)."""
    rates = np.empty((len(states), gas.n_species))
    for state, rate in zip(states, rates, strict=True):
        gas.TPY = state[0], state[1], state[2:]
        rate[:] = gas.net_production_rates * gas.molecular_weights / gas.density
    return rates


def states_across(grid: Array, states: Array, n: int, rng: np.random.Generator) -> Array:
    """(n, 2 + K) states of a flame, drawn evenly over its adaptive grid and interpolated between the points."""
    positions = rng.uniform(0, len(grid) - 1, n)
    return _interpolate(positions, np.arange(len(grid), dtype=np.float64), states)
