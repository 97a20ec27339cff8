"""Constant volume and given temperature: against CVODES, against the energy, and against a cold restart."""

import cantera as ct
import numpy as np
import pytest
from burning_gas import burning

from chemnet.gas.mechanism import load_mechanism
from chemnet.gas.status import Status
from chemnet.kinetics import RosenbrockReactor
from chemnet.kinetics.cvodes import CvodesReactor
from chemnet.runtime.errors import UsageError

OTHERS = ["constant volume", "given temperature"]


def by_cantera(mechanism, rows, dt, conditions):
    """Rows (n, 2 + K) by Cantera's reactors themselves."""
    gas, found = mechanism.gas(), []
    kind = ct.IdealGasReactor if conditions == "constant volume" else ct.IdealGasConstPressureReactor
    for row in rows:
        gas.TPY = row[0], row[1], row[2:]
        reactor = kind(gas, clone=False, energy="off" if conditions == "given temperature" else "on")
        network = ct.ReactorNet([reactor])
        network.rtol, network.atol = 1e-10, 1e-16
        network.advance(dt)
        found.append(np.hstack([gas.T, gas.P, gas.Y]))
    return np.array(found)


@pytest.mark.parametrize("conditions", OTHERS)
@pytest.mark.parametrize("name", ["drm19", "h2o2.yaml"])
@pytest.mark.parametrize("dt", [1e-6, 1e-4])
def test_a_step_is_what_cantera_says(name, dt, conditions):
    mechanism = load_mechanism(name)
    rows = burning(mechanism, 16, 5.0 * ct.one_atm)
    truth = by_cantera(mechanism, rows, dt, conditions)
    found, status = RosenbrockReactor(mechanism, conditions=conditions).advance(rows, dt)
    assert np.all(status == Status.OK)
    np.testing.assert_allclose(found[:, 0], truth[:, 0], rtol=0, atol=5e-2)
    np.testing.assert_allclose(found[:, 1], truth[:, 1], rtol=5e-5, atol=0)
    np.testing.assert_allclose(found[:, 2:], truth[:, 2:], rtol=0, atol=5e-6)
    by_cvodes, status = CvodesReactor(mechanism, 1e-10, 1e-16, conditions=conditions).advance(rows, dt)
    assert np.all(status == Status.OK)
    np.testing.assert_allclose(
        by_cvodes, truth, rtol=1e-6, atol=1e-9
    )  # where NASA ranges meet, T and h do not agree better


def test_at_constant_volume_energy_and_density_are_kept():
    mechanism = load_mechanism("drm19")
    rows = burning(mechanism, 16)
    gas = mechanism.gas()

    def energy_and_density(row):
        gas.TPY = row[0], row[1], row[2:]
        return gas.int_energy_mass, gas.density

    for reactor in (RosenbrockReactor, CvodesReactor):
        found, _ = reactor(mechanism, conditions="constant volume").advance(rows, 1e-5)
        for before, after in zip(rows, found, strict=True):
            (u0, rho0), (u1, rho1) = energy_and_density(before), energy_and_density(after)
            np.testing.assert_allclose(u1, u0, rtol=0, atol=1e-9 * 1e6)
            np.testing.assert_allclose(rho1, rho0, rtol=1e-11, atol=0)


def test_at_a_given_temperature_it_stays_to_the_bit():
    mechanism = load_mechanism("h2o2.yaml")
    rows = burning(mechanism, 16)
    found, _ = RosenbrockReactor(mechanism, conditions="given temperature").advance(rows, 1e-4)
    np.testing.assert_array_equal(found[:, :2], rows[:, :2])


@pytest.mark.parametrize("reactor", [RosenbrockReactor, CvodesReactor])
def test_other_conditions_are_refused(reactor):
    with pytest.raises(UsageError, match="choose one of constant pressure, constant volume, given temperature"):
        reactor(load_mechanism("h2o2.yaml"), conditions="constant entropy")
