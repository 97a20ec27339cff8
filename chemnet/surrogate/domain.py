"""Domain of a model: bounds fitted to the states of its training set.

A network answers anything, and outside its data it answers nonsense. Chemistry conserves elements and enthalpy, so
whatever a mixture goes through, it keeps the coordinates in which the training data end: its element masses and how
much enthalpy it has for them. They detect a mixture that is too rich, too hot or cooled by a wall at any stage of its
burning, which bounds of T and Y alone do not. A row is inside when

* T, P and every Y are between `low` and `high`
* sums of h and Y, each given by a row of `directions`, are between `bounds`: the principal axes of the element masses,
  and two planes that enclose the enthalpy as a function of them
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from chemnet.gas.mechanism import Mechanism
from chemnet.gas.state import NEGATIVE_TOLERANCE, T_MAX, T_MIN, Array, enthalpy
from chemnet.runtime.errors import UsageError

_MARGIN = 0.02  # of each range, added on both sides
_MINOR_MARGIN = 0.1  # of the range of the main axis of elements: curved flames part elements more than any in the data
_ENTHALPY_MARGIN = 0.035  # the same for enthalpy, whose corners, such as hot and rich, few states reach
_CONSTANT = 1e-6  # [kg/kg] element masses that deviate less do not vary
_MAIN_AXIS = 0.01  # share of the variance from which on an axis bends the planes of enthalpy
_LP_ROWS = 4000
_LP_ROUNDS = 8
_INSET = 0.05  # of each range, that random states keep away from its ends
_CORNERS = 4  # that a random state is mixed of
_DRAWS = 20  # of T and P for each random state, most of which a narrow domain may not have
_HIGHEST_PRESSURE = 1e12  # [Pa] stands for no bound


@dataclass(frozen=True, eq=False)
class Domain:
    """Bounds of a model's states; K species, D sums.

    * `low`, `high` (2 + K,): bounds of T [K], P [Pa] and Y
    * `directions` (D, 1 + K): factors of h [J/kg] and of Y in each sum; `bounds` (D, 2) of the sums
    * `measured`: what is known of its quality, plain data (`domain_fit.py`)
    """

    low: Array
    high: Array
    directions: Array
    bounds: Array
    measured: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def box(cls, mechanism: Mechanism, T: tuple[float, float], P: tuple[float, float]) -> Domain:
        """Bounds of T [K] and P [Pa] and nothing else. Raises UsageError unless they are ranges."""
        for name, limits in (("T", T), ("P", P)):
            if not limits[0] < limits[1]:
                raise UsageError(f"domain: {name} from {limits[0]} to {limits[1]} is no range")
        K = mechanism.n_species
        low, high = np.full(2 + K, -NEGATIVE_TOLERANCE), np.full(2 + K, 2.0)
        (low[0], high[0]), (low[1], high[1]) = T, P
        return cls(*_valid(low, high), np.empty((0, 1 + K)), np.empty((0, 2)))

    @property
    def limits(self) -> dict[str, tuple[float, float]]:
        """Range of T [K] and of P [Pa]."""
        return {name: (float(self.low[i]), float(self.high[i])) for i, name in enumerate("TP")}

    def contains(self, states: Array, mechanism: Mechanism) -> NDArray[np.bool_]:
        """(n,) True for states (n, 2 + K) inside."""
        values = np.column_stack([enthalpy(states, mechanism), states[:, 2:]])
        sums = _between(values @ self.directions.T, self.bounds[:, 0], self.bounds[:, 1])
        return sums & _between(states, self.low, self.high)

    def draw(self, n: int, mechanism: Mechanism, rng: np.random.Generator, coldest: float = 0.0) -> Array:
        """n random states well inside (n, 2 + K), none colder than `coldest` [K].

        T and P are uniform; Y is a mixture of corners of the mass fractions that the bounds allow at this T.

        Raises UsageError where the bounds leave hardly any state.
        """
        low, high = self.low[:2].copy(), self.high[:2]
        low[0] = max(low[0], coldest)
        rows: list[Array] = []
        for T, P in rng.uniform(low, high, (_DRAWS * n, 2)):
            corners = [self._corner(T, mechanism, rng) for _ in range(_CORNERS)]
            if all(corner is not None for corner in corners):
                rows.append(np.hstack([T, P, rng.dirichlet(np.ones(_CORNERS)) @ np.array(corners)]))
            if len(rows) == n:
                return np.array(rows)
        raise UsageError("the domain of this model holds hardly any state")

    def _corner(self, T: float, mechanism: Mechanism, rng: np.random.Generator) -> Array | None:
        """Mass fractions (K,) at T [K] that a random linear function is least for; None where there are none inside."""
        K, inset, most = mechanism.n_species, _INSET * np.ptp(self.bounds, axis=1), self.high[2:]
        pure = np.column_stack([np.full(K, T), np.ones(K), np.eye(K)])
        sums = self.directions[:, :1] * enthalpy(pure, mechanism) + self.directions[:, 1:]
        found = linprog(
            rng.standard_normal(K),
            A_ub=np.vstack([sums, -sums]),
            b_ub=np.hstack([self.bounds[:, 1] - inset, -self.bounds[:, 0] - inset]),
            A_eq=np.ones((1, K)),
            b_eq=[1.0],
            bounds=np.column_stack([_INSET / K * most, (1.0 - _INSET) * most]),
        )
        return found.x

    def as_dict(self) -> dict[str, Any]:
        """Plain data that `from_dict` reads back without loss."""
        return {name: getattr(self, name).tolist() for name in _ARRAYS} | {"measured": self.measured}

    @classmethod
    def from_dict(cls, data: dict[str, Any], mechanism: Mechanism) -> Domain:
        """The domain that `as_dict` described, or one that has only ranges of `T` and `P`.

        Raises ValueError for what no domain can be.
        """
        if "T" in data:
            return cls.box(mechanism, tuple(data["T"]), tuple(data["P"]))
        K = mechanism.n_species
        shapes = {"low": (2 + K,), "high": (2 + K,), "directions": (-1, 1 + K), "bounds": (-1, 2)}
        arrays = {name: np.array(data[name], float).reshape(shape) for name, shape in shapes.items()}
        if len(arrays["directions"]) != len(arrays["bounds"]) or not all(np.isfinite(a).all() for a in arrays.values()):
            raise ValueError("bounds of the domain that are missing or no numbers")
        return cls(**arrays, measured=dict(data["measured"]))


_ARRAYS = ("low", "high", "directions", "bounds")


def _valid(low: Array, high: Array) -> tuple[Array, Array]:
    """Bounds within those of states that are valid at all."""
    low, high = low.copy(), high.copy()
    low[0], high[0] = max(low[0], T_MIN), min(high[0], T_MAX)
    low[1], high[1] = max(low[1], np.nextafter(0.0, 1.0)), min(high[1], _HIGHEST_PRESSURE)
    low[2:] = np.maximum(low[2:], -NEGATIVE_TOLERANCE)
    return low, high


def _between(values: Array, low: Array, high: Array) -> NDArray[np.bool_]:
    """(n,) True where all values (n, m) are between their bounds (m,)."""
    return np.all((values >= low) & (values <= high), axis=1)


def fit_domain(paths: Array, states: Array, mechanism: Mechanism) -> Domain:
    """The domain of a training set.

    paths (n, 2 + K): states as chemistry, mixing and diffusion make them; they bound T, P, elements and enthalpy.
    states (m, 2 + K): all states to learn from, strongly perturbed ones too; they bound the mass fractions.
    """
    low, high = _widened(paths.min(axis=0), paths.max(axis=0))
    low[2:], high[2:] = -NEGATIVE_TOLERANCE, (1.0 + _MARGIN) * states[:, 2:].max(axis=0) + NEGATIVE_TOLERANCE
    masses = paths[:, 2:] @ mechanism.element_mass.T
    variances, axes = np.linalg.eigh(np.cov(masses.T))
    varies = variances > _CONSTANT**2
    axes, main = axes[:, varies], variances[varies] > _MAIN_AXIS * variances.sum()
    positions = masses @ axes
    bounds = np.column_stack([positions.min(axis=0), positions.max(axis=0)])
    longest = np.ptp(bounds, axis=1).max(initial=0.0)
    directions = [np.hstack([0.0, mechanism.element_mass.T @ axis]) for axis in axes.T]
    margins = [longest * (_MARGIN if np.ptp(limits) == longest else _MINOR_MARGIN) for limits in bounds]
    limits = [(a - margin, b + margin) for (a, b), margin in zip(bounds, margins, strict=True)]
    planes = _enthalpy_planes(positions[:, main], enthalpy(paths, mechanism))
    for slopes, lowest, highest in planes:
        directions.append(np.hstack([1.0, -(mechanism.element_mass.T @ (axes[:, main] @ slopes))]))
        limits.append((lowest, highest))
    return Domain(*_valid(low, high), np.array(directions), np.array(limits))


def _widened(low: Array, high: Array) -> tuple[Array, Array]:
    margin = _MARGIN * (high - low)
    margin[1] = max(margin[1], 1e-3 * high[1])  # data of one pressure
    return low - margin, high + margin


def _enthalpy_planes(positions: Array, h: Array) -> list[tuple[Array, float, float]]:
    """Two planes h = slopes . positions + const: the highest below all states and the lowest above them.

    Returns their slopes (axes,) and the range of h - slopes . positions over all states, a little widened.
    """
    result = []
    for sign in (1.0, -1.0):
        slopes = sign * _highest_plane_below(positions, sign * h)
        rest = h - positions @ slopes
        margin = _ENTHALPY_MARGIN * np.ptp(rest)
        result.append((slopes, float(rest.min() - margin), float(rest.max() + margin)))
    return result


def _highest_plane_below(positions: Array, h: Array) -> Array:
    """Slopes (axes,) of the plane below all points (positions (n, axes), h (n,)) that is nearest to them on average.

    A linear programme over a few thousand points, to which those below its plane are added until there are none.
    """
    scale = max(float(np.abs(h).max()), 1.0)
    points, target = np.column_stack([np.ones(len(h)), positions]), h / scale
    mean = points.mean(axis=0)
    chosen = np.unique(np.linspace(0, len(h) - 1, _LP_ROWS).astype(int))
    plane = np.zeros(points.shape[1])
    for _ in range(_LP_ROUNDS):
        found = linprog(-mean, A_ub=points[chosen], b_ub=target[chosen], bounds=(None, None))
        if found.x is None:  # too few points to hold a plane: a level one will do
            return np.zeros(positions.shape[1])
        plane = found.x
        rest = target - points @ plane
        worst = np.argsort(rest)[:_LP_ROWS]
        below = worst[rest[worst] < -1e-9]
        if not below.size:
            break
        chosen = np.union1d(chosen, below)
    return plane[1:] * scale
