"""What checks and tests share: one gas, small boxes, a simple chemistry, and steps of a state."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cfd_coupling import initial
from cfd_coupling.chemistry import Chemistry, ChemistryReport, Frozen
from cfd_coupling.config import FlowConfig
from cfd_coupling.fields import Fields, Floats, interior
from cfd_coupling.gas import Gas
from cfd_coupling.grid import Grid
from cfd_coupling.parallel import Communicator
from cfd_coupling.stepping import Stepper, StepReport
from chemnet.gas.mechanism import load_mechanism
from chemnet.gas.thermo import temperature_from_enthalpy

ATMOSPHERE = 101325.0
COMM = Communicator()


@functools.cache
def drm19() -> Gas:
    """The gas of mechanism drm19."""
    return Gas.from_mechanism(load_mechanism("drm19"))


def mixture(gas: Gas, **mole_fractions: float) -> Floats:
    """Mass fractions (K,) of a mixture given by mole fractions."""
    Y = np.zeros(gas.n_species)
    for name, x in mole_fractions.items():
        k = gas.mechanism.index(name)
        Y[k] = x * gas.weights[k]
    return Y / Y.sum()


def methane_air(gas: Gas) -> Floats:
    """Mass fractions (K,) of stoichiometric methane and air."""
    return mixture(gas, CH4=1.0, O2=2.0, N2=7.52)


def kernel(grid: Grid, comm: Communicator = COMM, **changes: Any) -> Fields:
    """A small turbulent box with a hot kernel."""
    options: dict[str, Any] = {
        "Y": methane_air(drm19()),
        "temperature": 300.0,
        "pressure": ATMOSPHERE,
        "rms_velocity": 3.0,
        "integral_length": 5e-4,
        "kernel_radius": 2.5e-4,
        "kernel_temperature": 1800.0,
        "kernel_edge_cells": 2.0,
        "seed": 1,
    } | changes
    return initial.ignition(grid, comm, drm19(), **options)


class HotConversion:
    """CH4 + 2 O2 -> CO2 + 2 H2O at a fixed rate [1/s] in cells above a temperature [K], at constant p0 and h."""

    def __init__(self, gas: Gas, rate: float = 2e4, above: float = 1000.0) -> None:
        self.gas, self.rate, self.above = gas, rate, above
        self.calls: list[tuple[float, float]] = []
        self.fuel = gas.mechanism.index("CH4")
        self.change = conversion(gas)

    def apply(self, fields: Fields, dt: float) -> ChemistryReport:
        """Convert for dt [s]."""
        self.calls.append((dt, fields.p0))
        Y, T, h = interior(fields.Y), interior(fields.T), interior(fields.h)
        report, hot = ChemistryReport.of_no_reaction(fields), np.greater(T, self.above)
        for j, i in zip(*np.nonzero(hot), strict=True):
            burnt = (1.0 - np.exp(-self.rate * dt)) * Y[self.fuel, j, i] / -self.change[self.fuel]
            Y[:, j, i] += burnt * self.change
            T[j, i] = temperature_from_enthalpy(h[j, i], Y[:, j, i].copy(), T[j, i], self.gas.nasa)
        return report


def conversion(gas: Gas) -> Floats:
    """Mass made of each species (K,) [kg] where one kmol of CH4 burns to CO2 and H2O."""
    change = np.zeros(gas.n_species)
    for name, moles in {"CH4": -1.0, "O2": -2.0, "CO2": 1.0, "H2O": 2.0}.items():
        k = gas.mechanism.index(name)
        change[k] = moles * gas.weights[k]
    return change


def advance(
    fields: Fields, grid: Grid, steps: int, dt: float, chemistry: Chemistry | None = None, **options: Any
) -> list[StepReport]:
    """Step a state of drm19 on one rank, `options` those of FlowConfig; returns the reports."""
    stepper = Stepper(grid, COMM, drm19(), chemistry or Frozen(), FlowConfig(**options))
    return [stepper.step(fields, dt) for _ in range(steps)]


def totals(fields: Fields) -> Floats:
    """Sums over the cells of mass, of the mass of each element, and of rho h - p0."""
    rho = interior(fields.rho)
    species = (rho * interior(fields.Y)).sum(axis=(1, 2))
    energy = float((rho * interior(fields.h) - fields.p0).sum())
    return np.array([float(rho.sum()), *(drm19().mechanism.element_mass @ species), energy])


def rms(difference: Floats) -> float:
    """Root of the mean square."""
    return float(np.sqrt(np.mean(difference**2)))


def orders(errors: ArrayLike) -> Floats:
    """Orders between errors, each of half the spacing or step of the one before."""
    found = np.asarray(errors, dtype=np.float64)
    return np.asarray(np.log2(found[:-1] / found[1:]))
