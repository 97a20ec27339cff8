"""Every kind of thermodynamic data that Cantera has for an ideal gas: h, cp, rates, Jacobians and steps against it."""

import cantera as ct
import numpy as np
import pytest

from chemnet.gas import state, thermo
from chemnet.gas.mechanism import load_mechanism
from chemnet.kinetics import CvodesReactor, RosenbrockReactor
from chemnet.kinetics.evaluation import evaluate

SPECIES = ["H2", "H", "O", "O2", "OH", "H2O", "HO2", "H2O2", "N2"]


def nasa9(species, n_ranges):
    """The species' own polynomials with powers of T below zero, and with a kink of cp where a further range begins."""
    given = species.thermo.coeffs
    edges = [200.0, 1000.0, 2000.0, 3000.0, 6000.0][: n_ranges + 1]
    a, zones = given[8:15].copy(), []
    for i, T in enumerate(edges[:-1]):
        a = given[1:8].copy() if i == 1 else a
        if i > 1:
            kink = 2e-4 * i
            a[0] -= kink * T
            a[1] += kink
            a[5] += kink * T**2 / 2
            a[6] += kink * T * (np.log(T) - 1.0)
        zones += [T, edges[i + 1], 300.0, -5.0, *a]
    return ct.Nasa9PolyMultiTempRegion(200.0, edges[-1], ct.one_atm, [n_ranges, *zones])


def shomate(species):
    """A two-range Shomate polynomial near to the species' own; of J, mol, T/1000."""
    T = np.linspace(300.0, 3000.0, 200)
    t = T / 1000.0
    cp = np.array([species.thermo.cp(x) for x in T]) / 1e3
    A = np.linalg.lstsq(np.column_stack([t**0, t, t**2, t**3, t**-2]), cp, rcond=None)[0]
    F = species.thermo.h(1000.0) / 1e6 - A @ [1, 1 / 2, 1 / 3, 1 / 4, -1]
    G = species.thermo.s(1000.0) / 1e3 - A @ [0, 1, 1 / 2, 1 / 3, -1 / 2]
    return ct.ShomatePoly2(200.0, 6000.0, ct.one_atm, [1000.0, *A, F, G, *A, F, G])


def constant(species):
    thermo = species.thermo
    return ct.ConstantCp(200.0, 6000.0, ct.one_atm, [1000.0, thermo.h(1000.0), thermo.s(1000.0), thermo.cp(1000.0)])


def gas_of(**kinds):
    """Hydrogen and oxygen with the thermodynamic data of some species replaced."""
    whole = ct.Solution("h2o2.yaml")
    species = [whole.species(name) for name in SPECIES]
    for one in species:
        if one.name in kinds:
            one.thermo = kinds[one.name](one)
    reactions = [r for r in whole.reactions() if set(r.reactants) | set(r.products) <= set(SPECIES)]
    return ct.Solution(thermo="ideal-gas", kinetics="gas", species=species, reactions=reactions, name="gas")


MIXTURES = {
    "one range of NASA9": {"H2O": lambda s: nasa9(s, 1)},
    "two ranges": {"H2O": lambda s: nasa9(s, 2), "O2": lambda s: nasa9(s, 1)},
    "four ranges, NASA7 beside": {"H2O": lambda s: nasa9(s, 4), "N2": lambda s: nasa9(s, 3)},
    "Shomate": {"H2": shomate, "H2O": shomate},
    "constant": {"N2": constant, "O2": constant},
    "all": {"H2": shomate, "N2": constant, "OH": lambda s: nasa9(s, 3), "O": lambda s: nasa9(s, 2)},
}


@pytest.mark.parametrize("kinds", MIXTURES.values(), ids=MIXTURES)
def test_enthalpies_heat_capacities_and_rates_are_those_of_cantera(kinds):
    mechanism = load_mechanism(gas_of(**kinds))
    gas, rng = mechanism.gas(), np.random.default_rng(2)
    rows = np.column_stack([rng.uniform(250.0, 3500.0, 40), np.full(40, 2e5), rng.dirichlet(np.ones(len(SPECIES)), 40)])
    h_k, cp_k = np.empty((2, len(SPECIES)))
    of_rows = evaluate(mechanism, rows)
    for row, rates in zip(rows, of_rows.rates, strict=True):
        gas.TPY = row[0], row[1], row[2:]
        thermo.species_enthalpies(row[0], mechanism.nasa, h_k)
        thermo.species_cp(row[0], mechanism.nasa, cp_k)
        scale = 1e-13 * gas.cp_mass * row[0]
        np.testing.assert_allclose(h_k, gas.partial_molar_enthalpies / gas.molecular_weights, rtol=1e-12, atol=scale)
        np.testing.assert_allclose(cp_k, gas.partial_molar_cp / gas.molecular_weights, rtol=1e-12)
        np.testing.assert_allclose(
            state.enthalpy(row[None], mechanism)[0], gas.enthalpy_mass, rtol=1e-12, atol=10 * scale
        )
        np.testing.assert_allclose(state.heat_capacity(row[None], mechanism)[0], gas.cp_mass, rtol=1e-12)
        gross = gas.creation_rates + gas.destruction_rates
        wrong = rates[:-1] * gas.density - gas.net_production_rates[of_rows.species]
        np.testing.assert_allclose(wrong / gross[of_rows.species], 0.0, rtol=0, atol=1e-11)


@pytest.mark.parametrize("kinds", [MIXTURES["all"], MIXTURES["four ranges, NASA7 beside"]], ids=["all", "four ranges"])
def test_the_step_agrees_with_cvodes_and_keeps_enthalpy(kinds):
    mechanism = load_mechanism(gas_of(**kinds))
    gas = mechanism.gas()
    rows = []
    for T in (300.0, 1100.0, 1500.0, 2500.0):
        gas.TPX = T, ct.one_atm, "H2:2,O2:1,N2:3.76,H:0.02,OH:0.02"
        rows.append(np.hstack([gas.T, gas.P, gas.Y]))
    rows = np.array(rows)
    found, status = RosenbrockReactor(mechanism, 1e-8, 1e-14).advance(rows, 1e-4)
    truth, _ = CvodesReactor(mechanism, 1e-10, 1e-16).advance(rows, 1e-4)
    assert not status.any()
    np.testing.assert_allclose(found[:, 0], truth[:, 0], rtol=0, atol=1e-3)
    np.testing.assert_allclose(found[:, 2:], truth[:, 2:], rtol=0, atol=1e-7)
    scale = state.heat_capacity(rows, mechanism) * rows[:, 0]
    np.testing.assert_allclose(
        state.enthalpy(found, mechanism) / scale, state.enthalpy(rows, mechanism) / scale, rtol=0, atol=1e-12
    )


def test_a_table_of_nasa7_data_is_as_narrow_as_it_can_be_and_one_of_other_kinds_hashes_its_kinds():
    assert load_mechanism("h2o2.yaml").nasa.shape == (10, 17)
    assert load_mechanism(gas_of(N2=constant)).nasa.shape == (9, 17)
    assert load_mechanism(gas_of(N2=lambda s: nasa9(s, 4))).nasa.shape == (9, 41)
    assert load_mechanism(gas_of()).sha256 != load_mechanism(gas_of(N2=constant)).sha256


def test_the_jacobian_is_the_derivative_of_the_rates_also_with_powers_below_zero():
    mechanism = load_mechanism(gas_of(**MIXTURES["all"]))
    row = np.hstack([2500.0, 2e5, np.random.default_rng(3).dirichlet(np.ones(len(SPECIES)))])
    step = np.zeros_like(row)
    step[0] = 0.05
    before, after = (evaluate(mechanism, (row + sign * step)[None]).rates[0] for sign in (-1, 1))
    slope = evaluate(mechanism, row[None]).jacobian[0, :, -1]
    np.testing.assert_allclose((after - before) / 0.1, slope, rtol=1e-5, atol=1e-7 * np.abs(slope).max())
