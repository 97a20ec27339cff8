"""Compiled thermodynamics against Cantera, over mechanisms, mixtures and the whole range of temperatures."""

import numpy as np
import pytest

from chemnet.gas import state, thermo
from chemnet.gas.mechanism import load_mechanism
from chemnet.runtime.errors import UsageError


def random_states(gas, n, seed):
    rng = np.random.default_rng(seed)
    Y = rng.dirichlet(np.full(gas.n_species, 0.3), n)
    return np.column_stack([rng.uniform(200.0, 3500.0, n), rng.uniform(5e4, 4e5, n), Y])


@pytest.mark.parametrize("name", ["drm19", "h2o2.yaml", "gri30.yaml"])
def test_enthalpy_heat_capacity_and_elements_agree_with_cantera(name):
    mechanism = load_mechanism(name)
    gas = mechanism.gas()
    rows = random_states(gas, 40, seed=1)
    h, cp, masses = [], [], []
    for row in rows:
        gas.TPY = row[0], row[1], row[2:]
        h.append(gas.enthalpy_mass)
        cp.append(gas.cp_mass)
        masses.append([gas.elemental_mass_fraction(element) for element in gas.element_names])
    scale = np.array(cp) * rows[:, 0]
    np.testing.assert_allclose(state.enthalpy(rows, mechanism) / scale, h / scale, rtol=0, atol=1e-13)
    np.testing.assert_allclose(state.heat_capacity(rows, mechanism), cp, rtol=1e-13, atol=0)
    np.testing.assert_allclose(state.elements(rows, mechanism), masses, rtol=0, atol=1e-14)


def test_each_species_agrees_with_cantera_also_where_polynomials_are_extrapolated():
    mechanism = load_mechanism("drm19")
    gas = mechanism.gas()
    out = np.empty(mechanism.n_species)
    for T in (200.0, 300.0, 999.0, 1000.0, 1001.0, 3500.0):
        gas.TP = T, 1e5
        thermo.species_cp(T, mechanism.nasa, out)
        np.testing.assert_allclose(out, gas.partial_molar_cp / gas.molecular_weights, rtol=1e-13, atol=0)
        thermo.species_enthalpies(T, mechanism.nasa, out)
        expected = gas.partial_molar_enthalpies / gas.molecular_weights
        np.testing.assert_allclose(out, expected, rtol=1e-12, atol=1e-6)


def test_temperature_from_enthalpy_inverts_the_enthalpy_from_any_start():
    mechanism = load_mechanism("drm19")
    for row in random_states(mechanism.gas(), 40, seed=2):
        h = thermo.enthalpy_mass(row[0], row[2:], mechanism.nasa)
        for start in (300.0, row[0], 3000.0):
            T = thermo.temperature_from_enthalpy(h, row[2:], start, mechanism.nasa)
            np.testing.assert_allclose(T, row[0], rtol=1e-12, atol=0)


def test_rows_are_valid_inside_the_stated_limits_only():
    mechanism = load_mechanism("drm19")
    good = random_states(mechanism.gas(), 1, seed=3)[0]
    wrong = {0: [199.0, 3501.0, np.nan], 1: [0.0, -1.0, np.inf], 5: [-1e-5, np.nan, good[5] + 2e-3]}
    rows = [good]
    for column, values in wrong.items():
        for value in values:
            rows.append(good.copy())
            rows[-1][column] = value
    assert state.valid_rows(np.array(rows)).tolist() == [True] + [False] * 9


def test_a_wrong_shape_is_refused_and_the_right_one_told():
    mechanism = load_mechanism("drm19")
    with pytest.raises(UsageError, match=r"\(n, 23\)"):
        state.as_states(np.ones((4, 22)), mechanism)
    with pytest.raises(UsageError, match="dt = nan"):
        state.check_time_step(float("nan"))
