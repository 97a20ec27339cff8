"""dT/dt of states, and whether steps agree with it: Cantera's rates, exact steps, and steps that are wrong."""

import cantera as ct
import numpy as np
import pytest

from chemnet.gas.canonical import premixed
from chemnet.gas.mechanism import load_mechanism
from chemnet.kinetics import RosenbrockReactor
from chemnet.kinetics.heating import LEAST, SHARE, Heating

DT = 1e-6
MECHANISM = load_mechanism("drm19")
HEATING = Heating(MECHANISM)


@pytest.fixture(scope="module")
def burning():
    """Gas on its way through an ignition (n, 2 + K), and after an exact step."""
    reactor = RosenbrockReactor(MECHANISM)
    states = [np.hstack([1800.0, ct.one_atm, premixed(MECHANISM, 1.0, {"CH4": 1.0})])]
    for _ in range(60):
        states.append(reactor.advance(states[-1][None], 2e-6).states[0])
    rows = np.array(states)
    return rows, reactor.advance(rows, DT).states


def test_the_heating_is_that_of_cantera(burning):
    gas = MECHANISM.gas()
    expected = []
    for T, P, *Y in burning[0][::7]:
        gas.TPY = T, P, Y
        expected.append(-(gas.net_production_rates @ gas.partial_molar_enthalpies) / (gas.density * gas.cp_mass))
    np.testing.assert_allclose(HEATING.of(burning[0][::7]), expected, rtol=1e-9, atol=1.0)


def test_exact_steps_agree_and_wrong_ones_do_not(burning):
    """Where the heating hardly bends; T too high by more than the bound and twice a tenth is found everywhere."""
    states, after = burning
    assert HEATING.agrees(states, after, DT).mean() > 0.9
    change = np.abs(after[:, 0] - states[:, 0])
    wrong = after.copy()
    wrong[:, 0] += 2.0 * LEAST + 3.0 * SHARE * np.maximum(change, 0.5 * DT * np.abs(HEATING.of(after)))
    agrees = HEATING.agrees(states, wrong, DT)
    assert agrees.mean() < 0.2


def test_radicals_out_of_nowhere_heat_and_do_not_agree(burning):
    """One part in a hundred of the gas put into radicals, T as it should be."""
    states, after = burning
    wrong = after.copy()
    for name in ("H", "OH", "CH3"):
        wrong[:, 2 + MECHANISM.index(name)] += 0.003
    wrong[:, 2:] /= wrong[:, 2:].sum(axis=1, keepdims=True)
    assert not HEATING.agrees(states, wrong, DT).any()


def test_a_row_has_the_same_heating_in_any_company(burning):
    together = HEATING.of(burning[0])
    alone = [HEATING.of(row[None])[0] for row in burning[0]]
    np.testing.assert_array_equal(together, alone)
