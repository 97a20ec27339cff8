"""A look at a gas before anything is sampled: what burns, from where on it ignites, how hot it gets, how fast it burns.

Equilibria, ignitions at constant pressure and free flames by Cantera, over the corners and the middle of the ranges of
the task; and the cost of an exact step, which says how many states a budget pays for.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product

import cantera as ct
import numpy as np

from chemnet.gas import canonical
from chemnet.gas.mechanism import Mechanism, load_mechanism
from chemnet.gas.state import T_MAX, Array
from chemnet.kinetics import RosenbrockReactor
from chemnet.making.task import MakeTask
from chemnet.runtime.config import Config
from chemnet.runtime.errors import NumericalError, UsageError
from chemnet.runtime.processes import ordered_map

RISE = 400.0  # [K] a gas that gets hotter by less does not burn
USUAL_PHI = (0.5, 2.0)
FLAME_PHI = (0.6, 1.6)  # equivalence ratios of the leanest and the richest flame, at most
UNBURNT = 300.0  # [K] of the gas ahead of a flame, where the polynomials of the mechanism begin no later
HOTTEST_PATH, HOTTEST_KERNEL = 2000.0, 3050.0  # [K]
_PHI_SCAN = np.geomspace(0.05, 20.0, 49)
_T_SCAN = 1000.0  # [K] of the gas whose rise of temperature tells whether it burns
_T0 = 1.0 / np.linspace(1.0 / HOTTEST_PATH, 1.0 / 700.0, 14)
_T0_BY = 10.0  # [K] the ends of the range of T0 are multiples of it
LATEST_DELAY, EARLIEST_DELAY = 10_000.0, 5.0  # time steps: ignition delays that roll-outs of the ladder can show
_LONGEST_PATH = 0.2  # [s]
_KERNEL_BY = 50.0  # [K]
_HEADROOM = 50.0  # [K] below the hottest valid state
_FAILING = 5.0  # times the time of the flames so far, which the next may take
_COST_STATES, _COST_CALLS = 400, 3


class Ignition(Config):
    """One ignition at constant pressure: delay [s], None where it comes too late, and T at the end [K]."""

    P: float
    phi: float
    T0: float
    delay: float | None
    end: float


class Burnt(Config):
    """Gas in equilibrium at the enthalpy of unburnt gas of temperature `T` [K]."""

    P: float
    phi: float
    T: float
    burnt: float


class Flame(Config):
    """A free flame of unburnt gas at `UNBURNT`: speed [m/s], thermal thickness [m]."""

    P: float
    phi: float
    speed: float
    thickness: float


class Survey(Config):
    """What a look at a gas found.

    * `phi`: the mixtures to make the model for; `burns`: all that burn
    * `T0` [K]: where delays are between 5 and 10,000 time steps at all pressures and mixtures; `kernel` [K]: the
      hottest unburnt gas whose burnt gas has a valid temperature
    * `unburnt` [K]: the coldest gas that the mechanism knows
    * `flames`, or `without_flames`, the reason why there are none
    * seconds of one ignition, of one flame and of one exact step of a reacting cell
    """

    phi: tuple[float, float]
    burns: tuple[float, float]
    unburnt: float
    T0: tuple[float, float]
    kernel: float
    ignitions: list[Ignition]
    burnt: list[Burnt]
    flames: list[Flame]
    without_flames: str | None
    notes: list[str]
    seconds_per_ignition: float
    seconds_per_flame: float
    seconds_per_step: float

    def flame_at(self, phi: float) -> Flame:
        """The flame nearest to an equivalence ratio."""
        return min(self.flames, key=lambda flame: abs(math.log(flame.phi / phi)))


def survey(
    task: MakeTask, workers: int = 1, report: Callable[[str], None] = print, flame_seconds: float = math.inf
) -> Survey:
    """Look at the gas of a task; at one flame alone where three would take more than `flame_seconds`.

    Raises UsageError where nothing burns or ignites, and names the mixtures that do.
    """
    mechanism = task.load()
    gas = mechanism.gas()
    unburnt = max(UNBURNT, math.ceil(gas.min_temp))
    burns = _burning(task, mechanism)
    phi = _range_of_phi(task, burns)
    report(f"{mechanism.name}: mixtures of phi {burns[0]:.2g} to {burns[1]:.2g} burn")
    burnt = _burnt(task, mechanism, phi, unburnt)
    kernel, top = _hottest(task, mechanism, phi)
    ignitions, seconds = _ignitions(task, phi, top, workers)
    T0 = _range_of_T0(task, ignitions, top)
    report(f"it ignites in 5 to 10,000 steps of {task.dt:g} s from {T0[0]:g} to {T0[1]:g} K")
    flames, reason, flame_seconds = _flames(task, mechanism, phi, unburnt, flame_seconds)
    report(reason or f"{len(flames)} flames, {flames[0].speed:.3g} m/s at phi {flames[0].phi:.3g}")
    return Survey(
        phi=phi,
        burns=burns,
        unburnt=unburnt,
        T0=T0,
        kernel=kernel,
        ignitions=ignitions,
        burnt=burnt,
        flames=flames,
        without_flames=reason,
        notes=notes_on_tables(gas, task.pressure),
        seconds_per_ignition=seconds,
        seconds_per_flame=flame_seconds,
        seconds_per_step=_cost(task, mechanism, phi, T0),
    )


def middle(limits: tuple[float, float]) -> float:
    """The geometric middle of a range; exactly 1 where that lies inside and the middle is near."""
    centre = math.sqrt(limits[0] * limits[1])
    return 1.0 if limits[0] < 1.0 < limits[1] and 0.5 < centre < 2.0 else centre


def some_phis(limits: tuple[float, float]) -> tuple[float, ...]:
    """Both ends and the middle of a range of equivalence ratios."""
    return tuple(dict.fromkeys((limits[0], middle(limits), limits[1])))


def some_pressures(limits: tuple[float, float]) -> tuple[float, ...]:
    """Both ends and the geometric middle of a range of pressures [Pa]."""
    return tuple(dict.fromkeys((limits[0], math.sqrt(limits[0] * limits[1]), limits[1])))


def _unburnt(task: MakeTask, mechanism: Mechanism, phi: float, T: float, P: float) -> Array:
    return np.hstack([T, P, canonical.premixed(mechanism, phi, task.fuel, task.oxidizer)])


def _burning(task: MakeTask, mechanism: Mechanism) -> tuple[float, float]:
    """Range of the equivalence ratios whose equilibrium is hotter by RISE. Raises UsageError if there is none."""
    gas = mechanism.gas()
    at = [_unburnt(task, mechanism, phi, _T_SCAN, task.pressure[0]) for phi in _PHI_SCAN]
    hot = [phi for phi, state in zip(_PHI_SCAN, at, strict=True) if canonical.burnt(gas, state)[0] > _T_SCAN + RISE]
    if not hot:
        fuel, oxidizer = " and ".join(task.fuel), " and ".join(task.oxidizer)
        raise UsageError(
            f"no mixture of {fuel} with {oxidizer} gets hotter by {RISE:g} K when it burns\n"
            "Choose another --fuel, or an --oxidizer that is less diluted."
        )
    return float(min(hot)), float(max(hot))


def _range_of_phi(task: MakeTask, burns: tuple[float, float]) -> tuple[float, float]:
    """The task's range, or of the usual one what burns. Raises UsageError for mixtures that do not burn."""
    if task.phi is None:
        low, high = max(USUAL_PHI[0], burns[0]), min(USUAL_PHI[1], burns[1])
        return (low, high) if low < high else burns
    if task.phi[0] < burns[0] or task.phi[1] > burns[1]:
        raise UsageError(
            f"phi {task.phi[0]:g} to {task.phi[1]:g}: not all of these mixtures burn (get hotter by {RISE:g} K)\n"
            f"Those that do: --phi {math.ceil(100 * burns[0]) / 100:g} {math.floor(100 * burns[1]) / 100:g}"
        )
    return task.phi


def _burnt(task: MakeTask, mechanism: Mechanism, phi: tuple[float, float], unburnt: float) -> list[Burnt]:
    gas = mechanism.gas()
    at = product(some_pressures(task.pressure), some_phis(phi))
    return [
        Burnt(P=P, phi=f, T=unburnt, burnt=canonical.burnt(gas, _unburnt(task, mechanism, f, unburnt, P))[0])
        for P, f in at
    ]


def _hottest(task: MakeTask, mechanism: Mechanism, phi: tuple[float, float]) -> tuple[float, float]:
    """The hottest unburnt gas of kernels and of ignition paths [K], so that what it burns to is valid.

    Raises UsageError where that leaves no range.
    """
    gas = mechanism.gas()
    limit = T_MAX - _HEADROOM
    kernel = HOTTEST_KERNEL
    mixtures = [_unburnt(task, mechanism, f, 300.0, P) for P, f in product(task.pressure, some_phis(phi))]
    for state in mixtures:
        while kernel > _T_SCAN and _burnt_temperature(gas, state, kernel) > limit:
            kernel -= _KERNEL_BY
    if kernel <= _T_SCAN:
        raise UsageError(
            f"unburnt gas of {_T_SCAN:g} K burns to more than {limit:g} K, the hottest valid state\n"
            "Dilute the --oxidizer, or narrow --phi."
        )
    return kernel, min(kernel, HOTTEST_PATH)


def _burnt_temperature(gas: ct.Solution, state: Array, T: float) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Cantera's, for burnt gas hotter than its data
        try:
            return float(canonical.burnt(gas, np.hstack([T, state[1:]]))[0])
        except ct.CanteraError:
            return math.inf


def _ignitions(task: MakeTask, phi: tuple[float, float], top: float, workers: int) -> tuple[list[Ignition], float]:
    """Ignitions at all corners, and the seconds that one takes a core."""
    levels = _T0[top >= _T0].tolist()
    at = [(P, f, T) for P, f in product(some_pressures(task.pressure), some_phis(phi)) for T in levels]
    found = list(ordered_map(partial(_ignite, task), at, workers))
    return [ignition for ignition, _ in found], float(np.mean([seconds for _, seconds in found]))


def _ignite(task: MakeTask, at: tuple[float, float, float]) -> tuple[Ignition, float]:
    start = time.perf_counter()
    P, phi, T0 = at
    mechanism = load_mechanism(task.mechanism)
    longest = max(_LONGEST_PATH, LATEST_DELAY * task.dt)
    times, states = canonical.ignition_path(mechanism.gas(), _unburnt(task, mechanism, phi, T0, P), longest)
    rates = np.diff(states[:, 0]) / np.diff(times)
    steepest = int(np.argmax(rates))
    ignites = states[:, 0].max() > T0 + RISE and times[steepest + 1] < longest
    delay = float(times[steepest + 1]) if ignites else None
    found = Ignition(P=P, phi=phi, T0=T0, delay=delay, end=float(states[-1, 0]))
    return found, time.perf_counter() - start


def _range_of_T0(task: MakeTask, ignitions: Sequence[Ignition], top: float) -> tuple[float, float]:
    """T0 [K] from which on all delays are below 10,000 steps, and up to which they are above 5.

    Where the two meet, because delays differ by more than that between the pressures, those at which most mixtures
    have such delays. Raises UsageError where nothing ignites.
    """
    levels = sorted({ignition.T0 for ignition in ignitions})
    usable = {T0: [_shown(ignition, task.dt) for ignition in ignitions if ignition.T0 == T0] for T0 in levels}
    best = max(sum(shown) for shown in usable.values())
    if best == 0:
        ends = f"{task.pressure[0]:g} to {task.pressure[1]:g} Pa, {levels[0]:.0f} to {levels[-1]:.0f} K"
        raise UsageError(
            f"no mixture ignites within {EARLIEST_DELAY:g} to {LATEST_DELAY:g} steps of {task.dt:g} s at {ends}\n"
            "Choose another --dt, --pressure or --fuel."
        )
    good = [T0 for T0 in levels if sum(usable[T0]) == best]
    low, high = _refined(ignitions, task.dt, good, top)
    return _T0_BY * math.ceil(low / _T0_BY), max(_T0_BY * math.floor(high / _T0_BY), _T0_BY * math.ceil(low / _T0_BY))


def _shown(ignition: Ignition, dt: float) -> bool:
    """Whether a roll-out of the ladder can show this ignition."""
    return ignition.delay is not None and EARLIEST_DELAY * dt <= ignition.delay <= LATEST_DELAY * dt


def _refined(ignitions: Sequence[Ignition], dt: float, good: Sequence[float], top: float) -> tuple[float, float]:
    """The ends of the range of T0 between the levels of the survey: log(delay) is nearly linear in 1/T0."""
    low, high = good[0], good[-1]
    for P, phi in {(ignition.P, ignition.phi) for ignition in ignitions}:
        mine = [i for i in ignitions if i.P == P and i.phi == phi and i.delay is not None]
        if len(mine) < 2:
            continue
        inverse, delays = np.array([(1.0 / i.T0, math.log(i.delay or 1.0)) for i in mine]).T
        order = np.argsort(delays)
        latest = 1.0 / np.interp(math.log(LATEST_DELAY * dt), delays[order], inverse[order])
        earliest = 1.0 / np.interp(math.log(EARLIEST_DELAY * dt), delays[order], inverse[order])
        low, high = (max(low, latest) if latest < good[0] else low), high
        high = min(high, earliest) if earliest > good[-1] else high
    return low, min(high, top)


def _flames(
    task: MakeTask, mechanism: Mechanism, phi: tuple[float, float], unburnt: float, most_seconds: float
) -> tuple[list[Flame], str | None, float]:
    """Flames at the middle of the pressures, the reason why there are none, and the seconds that one takes.

    The middle of the mixtures comes first; leaner and richer ones than of FLAME_PHI burn slowly, and take long to find.
    """
    if not canonical.has_transport(mechanism):
        return [], f"{mechanism.name} has no transport data: flames are left out", 0.0
    P, start, found = middle_pressure(task), time.perf_counter(), list[Flame]()
    gas = mechanism.gas()
    ends = (float(np.clip(end, *FLAME_PHI)) for end in phi)
    for f in dict.fromkeys((middle(phi), *(end for end in ends if phi[0] <= end <= phi[1]))):
        if _FAILING * (time.perf_counter() - start) > most_seconds:
            break
        try:
            flame = canonical.solve_flame(gas, _unburnt(task, mechanism, f, unburnt, P))
        except NumericalError:
            continue
        thickness = float(np.ptp(flame.T) / np.abs(np.gradient(flame.T, flame.grid)).max())
        found.append(Flame(P=P, phi=f, speed=float(flame.velocity[0]), thickness=thickness))
    if not found:
        return [], f"Cantera finds no flame at phi {phi[0]:g} to {phi[1]:g}: flames are left out", 0.0
    return found, None, (time.perf_counter() - start) / len(found)


def middle_pressure(task: MakeTask) -> float:
    """One atmosphere where it is in the range, else the geometric middle [Pa]."""
    low, high = task.pressure
    return ct.one_atm if low <= ct.one_atm <= high else math.sqrt(low * high)


def notes_on_tables(gas: ct.Solution, pressure: tuple[float, float]) -> list[str]:
    """What a user should know of a gas whose rates are tables over pressure, in a range of pressures [Pa]."""
    low, high = pressure
    beyond = [
        limits for limits in map(_pressures_of, gas.reactions()) if limits and (limits[0] > low or limits[1] < high)
    ]
    if not beyond:
        return []
    lowest, highest = min(a for a, _ in beyond), max(b for _, b in beyond)
    return [
        f"{len(beyond)} rates are tables over pressure that the range of {low:g} to {high:g} Pa exceeds (they go from "
        f"{lowest:g} to {highest:g} Pa): beyond its table a rate is held at its last pressure"
    ]


def _pressures_of(reaction: ct.Reaction) -> tuple[float, float] | None:
    """Range of pressures [Pa] of the table of a rate; None where it has none."""
    rate = reaction.rate
    if isinstance(rate, ct.PlogRate):
        pressures = [P for P, _ in rate.rates]
        return min(pressures), max(pressures)
    if isinstance(rate, ct.ChebyshevRate):
        low, high = rate.pressure_range
        return float(low), float(high)
    return None


def _cost(task: MakeTask, mechanism: Mechanism, phi: tuple[float, float], T0: tuple[float, float]) -> float:
    """Seconds of an exact step of a cell on its way through an ignition."""
    times, states = canonical.ignition_path(
        mechanism.gas(), _unburnt(task, mechanism, middle(phi), T0[1], middle_pressure(task))
    )
    rows = np.maximum(canonical.states_along(times, states, _COST_STATES, np.random.default_rng(0)), 0.0)
    step = RosenbrockReactor(mechanism, 1e-6, 1e-12)
    step.advance(rows, task.dt)
    start = time.perf_counter()
    for _ in range(_COST_CALLS):
        step.advance(rows, task.dt)
    return (time.perf_counter() - start) / (_COST_CALLS * len(rows))
