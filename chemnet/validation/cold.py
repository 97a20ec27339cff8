"""False heat: cold mixtures stepped for long without a mask, beside the exact integrator."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chemnet.gas.canonical import AIR, burnt, premixed
from chemnet.gas.mechanism import Mechanism
from chemnet.gas.state import Array, check_time_step, enthalpy
from chemnet.gas.status import Status
from chemnet.gas.thermo import temperature_from_enthalpy
from chemnet.kinetics.step import ChemistryStep
from chemnet.runtime.tables import Table
from chemnet.validation.ignition import FULL
from chemnet.validation.metrics import Figure, largest
from chemnet.validation.references import cached, key_of, reference_step
from chemnet.validation.rollouts import Report, roll_out

CHECK = "cold"
TARGET, TARGET_OF_WARM_MIXTURES = 0.5, 5.0  # [K]
_COLDEST = 300.0  # [K] of the unburnt gas that burnt gas is mixed into
_SAMPLES = 100  # of a roll-out at which temperatures are compared
_EARLY = 1000  # steps; cells ahead of a flame are not cold for longer than some milliseconds
_BISECTIONS = 60
_MIXED = "with burnt gas"
KINDS = ("fresh", _MIXED, "warm fresh", f"warm {_MIXED}")


@dataclass(frozen=True)
class ColdMixtures:
    """Fresh gas heated to each temperature [K], and fresh gas of 300 K that is as warm because its own burnt gas, with
    its radicals, is mixed into it, as diffusion does ahead of a flame. `warm` gas of the latter kind ignites within
    the 1,000 steps or not long after; fresh gas does not, and no target is set for it."""

    temperatures: tuple[float, ...] = (300.0, 400.0, 500.0, 600.0, 700.0)
    warm: tuple[float, ...] = (800.0, 900.0, 1000.0)
    equivalence_ratios: tuple[float, ...] = (0.5, 1.0, 1.5)
    pressure: float = 101325.0  # [Pa]
    fuel: tuple[tuple[str, float], ...] = (("CH4", 1.0),)
    oxidizer: tuple[tuple[str, float], ...] = tuple(AIR.items())
    steps: int = 50_000

    def mixtures(self) -> list[tuple[str, float, float]]:
        """(one of KINDS, T [K], equivalence ratio) of each row."""
        groups = zip(KINDS, (self.temperatures, self.temperatures, self.warm, self.warm), strict=True)
        rows = [(kind, T, phi) for kind, levels in groups for T in levels for phi in self.equivalence_ratios]
        return [(kind, T, phi) for kind, T, phi in rows if T > _COLDEST or not kind.endswith(_MIXED)]

    def states(self, mechanism: Mechanism) -> Array:
        """Initial states (n, 2 + K). Raises UsageError when the mechanism lacks a species of fuel or oxidizer."""
        gas = mechanism.gas()
        rows = []
        for kind, T, phi in self.mixtures():
            Y = premixed(mechanism, phi, dict(self.fuel), dict(self.oxidizer))
            mixed = kind.endswith(_MIXED)
            fresh = np.array([_COLDEST if mixed else T, self.pressure, *Y])
            rows.append(warmed(fresh, burnt(gas, fresh), T, mechanism) if mixed else fresh)
        return np.array(rows)


def levels(earliest: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """`temperatures` and `warm` of a gas whose ignitions begin at a temperature [K]: those of methane, or as much
    nearer to 300 K as its ignitions are."""
    share = min(1.0, (earliest - _COLDEST) / (min(FULL.temperatures) - _COLDEST))
    usual = ColdMixtures.temperatures, ColdMixtures.warm
    cold, warm = (tuple(float(round(_COLDEST + share * (T - _COLDEST))) for T in of) for of in usual)
    return cold, warm


def warmed(fresh: Array, hot: Array, T: float, mechanism: Mechanism) -> Array:
    """The mixture (2 + K,) of a fresh gas and its own burnt gas, of equal enthalpy, that has the temperature T [K]."""
    (h,) = enthalpy(fresh[None], mechanism)
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        share = 0.5 * (low + high)
        mixture = (1.0 - share) * fresh + share * hot
        mixture[0] = temperature_from_enthalpy(h, mixture[2:], mixture[0], mechanism.nasa)
        low, high = (share, high) if mixture[0] < T else (low, share)
    return mixture


@dataclass(frozen=True)
class ColdReport:
    """Of each row (n,): the exact change of T at the end [K], the largest difference of T from the exact one in the
    first 1,000 steps and on the whole way [K], and the worst status."""

    mixtures: ColdMixtures
    change: Array
    early_false_heat: Array
    false_heat: Array
    worst_status: NDArray[np.integer]


def validate_cold(
    model: ChemistryStep,
    dt: float,
    mixtures: ColdMixtures | None = None,
    report: Report = print,
    cache: Path | None = None,
) -> ColdReport:
    """Step cold mixtures by dt [s] with `model` and by the exact integrator; its histories are kept in `cache`."""
    check_time_step(dt)
    mixtures = mixtures or ColdMixtures()
    mechanism = model.mechanism
    states = mixtures.states(mechanism)
    at = np.unique(np.linspace(0, mixtures.steps, _SAMPLES + 1).astype(int))

    def compute() -> dict[str, list[list[float]]]:
        step = reference_step(mechanism)
        run = roll_out(step, states, dt, mixtures.steps, lambda line: report(f"reference of the cold mixtures: {line}"))
        return {"temperature": run.temperature[:, at].tolist()}

    stored = cached(cache, "cold", key_of(mechanism, states, dt, steps=mixtures.steps, samples=_SAMPLES), compute)
    exact = np.array(stored["temperature"])
    run = roll_out(model, states, dt, mixtures.steps, lambda line: report(f"cold mixtures: {line}"))
    wrong = np.abs(run.temperature[:, at] - exact)
    early = wrong[:, at <= _EARLY].max(axis=1)
    return ColdReport(mixtures, exact[:, -1] - exact[:, 0], early, wrong.max(axis=1), run.worst_status)


def cold_table(report: ColdReport) -> Table:
    """One row per mixture."""
    kind, T, phi = zip(*report.mixtures.mixtures(), strict=True)
    columns = {
        "gas": kind,
        "T0 [K]": T,
        "phi": phi,
        "exact change of T [K]": report.change,
        f"false heat in {_EARLY} steps [K]": report.early_false_heat,
        "false heat [K]": report.false_heat,
        "status": [Status(worst).name.lower() for worst in report.worst_status],
    }
    return Table.of(f"cold mixtures, {report.mixtures.steps} steps without a mask", columns)


def figures(report: ColdReport) -> list[Figure]:
    """The false heat by kind of gas; the mixtures that fail on the way are counted and not left out."""
    kinds = np.array([kind for kind, _, _ in report.mixtures.mixtures()])
    found = [Figure(CHECK, "mixtures that fail", int((report.worst_status >= Status.FAILED).sum()), 0)]
    for kind, target in zip(KINDS, (TARGET, TARGET, None, TARGET_OF_WARM_MIXTURES), strict=True):
        of_kind = kinds == kind
        if not of_kind.any():
            continue
        early, heat = largest(report.early_false_heat[of_kind]), largest(report.false_heat[of_kind])
        found.append(Figure(CHECK, f"false heat, {kind}, {_EARLY} steps [K]", early))
        found.append(Figure(CHECK, f"false heat, {kind}, {report.mixtures.steps} steps [K]", heat, target))
    return found
