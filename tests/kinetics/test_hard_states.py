"""The exact step where a step may be lost: explosions from nothing, very fast reactions, rates that are singular."""

from pathlib import Path

import cantera as ct
import numpy as np
import pytest
import random_gas
import reaction_zoo
from burning_gas import FUELS

from chemnet.gas.mechanism import load_mechanism
from chemnet.gas.status import Status
from chemnet.kinetics import RosenbrockReactor

PUBLIC = Path(__file__).parents[3] / "shared/data/mechanisms"  # beside the project; not part of it
IGNITIONS = {
    **FUELS,
    "ES80_H2-7-16.yaml": {"H2": 1.0},
    "LiDryer.yaml": {"H2": 1.0},
    "HPsandiego20150301.yaml": {"C7H16": 1.0},
    "LuEthylene.yaml": {"C2H4": 1.0},
    "okafor2019.yaml": {"NH3": 1.0},
    "stagni2023.yaml": {"NH3": 1.0},
    "dodecane_lu.yaml": {"NC12H26": 1.0},
    "heptane_lu_88sk.yaml": {"nc7h16": 1.0},
}
VERY_FAST = """
- equation: H + HO2 <=> 2 OH
  rate-constant: {A: 7.0e+23, b: 0.0, Ea: 0.0}
- equation: H2 + OH <=> H2O + H
  rate-constant: {A: 2.2e+08, b: 1.51, Ea: 3430.0}
"""


def assert_near_cvodes(mechanism, rows, dt, found):
    """Temperatures within 2 K and 2/1000 of the change of those that CVODES has within 3 % of the time.

    CVODES contradicts itself at times where a species ends whose order is negative; then the exact step at finer
    tolerances is the reference.
    """
    gas, finer = mechanism.gas(), RosenbrockReactor(mechanism, rtol=1e-8, atol=1e-14)
    for row, T in zip(rows, found[:, 0], strict=True):
        truths = []
        for atol in (1e-20, 1e-32):  # an explosion may begin with less than 1e-20
            truth = random_gas.temperatures_by_cvodes(gas, row, dt, atol)
            near = 2.0 + 2e-3 * abs(truth[1] - row[0])
            if np.isnan(truth).any() or truth.min() - near <= T <= truth.max() + near:
                break
            truths.append(truth[1])
        else:
            contradicts_itself = abs(truths[0] - truths[1]) > near
            if not (contradicts_itself and abs(finer.advance(row[None], dt).states[0, 0] - T) <= near):
                pytest.fail(f"dt = {dt:.3g} s: {row[0]:.1f} K at {row[1]:.3g} Pa becomes {T:.1f}, by CVODES {truths}")


def ignitions(gas, fuel, n, rng):
    """Fresh mixtures with air (n, 2 + K): 700-2200 K, 0.1-50 atm, phi 0.2-5."""
    air = {name: {"O2": 1.0, "N2": 3.76}[name.upper()] for name in gas.species_names if name.upper() in ("O2", "N2")}
    rows = []
    for _ in range(n):
        gas.set_equivalence_ratio(np.exp(rng.uniform(np.log(0.2), np.log(5.0))), fuel, air)
        P = ct.one_atm * np.exp(rng.uniform(np.log(0.1), np.log(50.0)))
        rows.append(np.hstack([rng.uniform(700.0, 2200.0), P, gas.Y]))
    return np.array(rows)


@pytest.mark.parametrize("name", FUELS)
def test_no_step_jumps_over_an_explosion(name):
    mechanism, rng = load_mechanism(name), np.random.default_rng(3)
    gas = mechanism.gas()
    for dt in (1e-6, 1e-5, 1e-4, 1e-3, 1e-2):
        rows = ignitions(gas, FUELS[name], 8, rng)
        found, status = result = RosenbrockReactor(mechanism).advance(rows, dt)
        assert np.all(status == Status.OK)
        assert result.stats.n_steps.max() < 250
        assert_near_cvodes(mechanism, rows, dt, found)


@pytest.mark.slow
@pytest.mark.parametrize("name", IGNITIONS)
def test_no_ignition_is_lost(name):
    public = PUBLIC / name
    if name not in FUELS and not public.exists():
        pytest.skip(f"{public} is not there")
    mechanism, rng = load_mechanism(name if name in FUELS else public), np.random.default_rng(4)
    gas = mechanism.gas()
    for dt in 10.0 ** np.linspace(-7.0, -2.0, 11):
        rows = ignitions(gas, IGNITIONS[name], 20, rng)
        found, status = RosenbrockReactor(mechanism).advance(rows, dt)
        assert np.all(status == Status.OK)
        assert_near_cvodes(mechanism, rows, dt, found)


def test_a_very_fast_reaction_takes_short_steps(tmp_path):
    mechanism = load_mechanism(reaction_zoo.write(tmp_path, VERY_FAST))
    gas = mechanism.gas()
    gas.TPX = 500.0, ct.one_atm, "H2: 1, O2: 1, H: 2e-3, HO2: 2e-3, N2: 3"
    row = np.hstack([gas.T, gas.P, gas.Y])[None]
    found, status = result = RosenbrockReactor(mechanism).advance(row, 1e-6)
    assert status[0] == Status.OK
    assert result.stats.n_steps[0] < 100
    truth = random_gas.temperatures_by_cvodes(gas, row[0], 1e-6)[1]
    np.testing.assert_allclose(found[0, 0], truth, rtol=0, atol=5e-3)


@pytest.mark.parametrize("absent", ["H2", "O2"])
def test_without_a_species_that_it_depends_on_a_rate_is_zero(tmp_path, absent):
    mechanism = load_mechanism(reaction_zoo.write(tmp_path, reaction_zoo.GLOBAL))
    gas = mechanism.gas()
    gas.TPX = 1800.0, 30.0 * ct.one_atm, {"H2": 1.0, "O2": 1.0, "H2O": 2.0, "N2": 5.6, absent: 0.0}
    assert not gas.net_production_rates.any()
    row = np.hstack([gas.T, gas.P, gas.Y])[None]
    found, status = RosenbrockReactor(mechanism).advance(row, 1e-6)
    assert status[0] == Status.OK
    np.testing.assert_allclose(found, row, rtol=1e-12, atol=1e-15)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:ChemEquil")  # burnt gas may be hotter than the polynomials' 3500 K
@pytest.mark.parametrize("seed", range(100))
def test_random_mechanisms_and_states(tmp_path, seed):
    rng = np.random.default_rng(seed)
    mechanism = load_mechanism(random_gas.mechanism_file(tmp_path, rng))
    gas = mechanism.gas()
    dt, rows = 10.0 ** rng.uniform(-8.0, -2.5), random_gas.states(gas, 1000, rng)
    found, status = RosenbrockReactor(mechanism).advance(rows, dt)
    given = (status == Status.OK) | (status == Status.RETRIED)
    assert_near_cvodes(mechanism, rows[given], dt, found[given])
