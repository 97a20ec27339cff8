"""Cells of the bench: of their kind, of their gas, and the same ones whenever they are asked for."""

from types import SimpleNamespace

import cantera as ct
import numpy as np
import pytest

from chemnet.benchmark.cells import COLD, HOT, KINDS, Cells, Gas, usual_fuel
from chemnet.gas import canonical
from chemnet.gas.mechanism import load_mechanism
from chemnet.gas.state import elements, valid_rows
from chemnet.runtime.errors import UsageError

N = 40
HYDROGEN = load_mechanism("h2o2.yaml")
CELLS = Cells(Gas(HYDROGEN, {"H2": 1.0}))


@pytest.mark.parametrize("kind", KINDS)
def test_cells_are_valid_as_many_as_asked_for_and_at_the_pressure_of_the_gas(kind):
    states = CELLS.of(kind, N)
    assert states.shape == (N, 12)
    assert valid_rows(states).all() and states[:, 2:].min() >= 0.0
    np.testing.assert_allclose(states[:, 1], 101325.0, rtol=1e-9, atol=0.0)


def test_each_kind_has_its_temperatures():
    T = {kind: CELLS.of(kind, N)[:, 0] for kind in KINDS}
    assert T["flame"].min() < 400.0 and T["flame"].max() > 2000.0
    assert T["mixed"].min() > HOT and T["cold"].max() < COLD
    assert T["ignition"].min() > 1000.0 and T["burnt"].min() > 1500.0
    assert all(np.ptp(values) > 150.0 for values in T.values())  # many cells, not many times the same


def test_burnt_cells_are_near_equilibrium_and_their_radicals_are_not_in_it():
    gas = HYDROGEN.gas()
    states = CELLS.of("burnt", N)
    equilibrium = np.array([canonical.burnt(gas, state) for state in states])
    assert np.abs(states[:, 0] - equilibrium[:, 0]).max() < 40.0
    radical = 2 + HYDROGEN.index("HO2")
    off = np.abs(states[:, radical] / equilibrium[:, radical] - 1.0)
    assert np.median(off) > 1e-3


@pytest.mark.parametrize("kind", ["ignition", "burnt"])
def test_the_oxidizer_and_the_pressure_are_those_of_the_gas(kind):
    cells = Cells(Gas(HYDROGEN, {"H2": 1.0}, {"O2": 1.0, "AR": 4.0}, P=4e5), flames=False)
    states = cells.of(kind, N)
    np.testing.assert_allclose(states[:, 1], 4e5, rtol=1e-9, atol=0.0)
    mass = dict(zip(HYDROGEN.element_names, elements(states, HYDROGEN).T, strict=True))
    weight = {name: HYDROGEN.molecular_weights[HYDROGEN.index(name)] for name in ("O2", "AR")}
    np.testing.assert_allclose(mass["Ar"] / mass["O"], 4.0 * weight["AR"] / weight["O2"], rtol=1e-9, atol=0.0)


@pytest.mark.parametrize("kind", ["mixed", "burnt", "cold"])
def test_cells_depend_on_nothing_but_kind_and_number(kind):
    again = Cells(Gas(HYDROGEN, {"H2": 1.0}))
    again.of("ignition", 3)
    np.testing.assert_array_equal(again.of(kind, N), CELLS.of(kind, N))


def test_the_usual_fuel_is_methane_then_hydrogen_else_it_must_be_said():
    assert usual_fuel(load_mechanism("drm19")) == {"CH4": 1.0}
    assert usual_fuel(HYDROGEN) == {"H2": 1.0}
    with pytest.raises(UsageError, match="--fuel"):
        usual_fuel(SimpleNamespace(name="syngas", species_names=("CO", "O2")))


def test_an_unknown_fuel_is_told_at_once():
    with pytest.raises(UsageError, match="no species CH4"):
        Cells(Gas(HYDROGEN, {"CH4": 1.0}))


@pytest.mark.parametrize("fuel, oxidizer", [({"N2": 1.0}, {"O2": 1.0}), ({"O2": 1.0}, {"H2": 1.0})])
def test_what_does_not_burn_is_told_at_once(fuel, oxidizer):
    with pytest.raises(UsageError, match="does not burn"):
        Cells(Gas(HYDROGEN, fuel, oxidizer))


def test_a_mechanism_without_transport_data_has_every_kind_but_flames(tmp_path):
    original = HYDROGEN.gas()
    species = [{key: value for key, value in s.input_data.items() if key != "transport"} for s in original.species()]
    bare = ct.Solution(
        thermo="ideal-gas",
        kinetics="gas",
        species=[ct.Species.from_dict(one) for one in species],
        reactions=original.reactions(),
    )
    bare.write_yaml(tmp_path / "bare.yaml")
    cells = Cells(Gas(load_mechanism(tmp_path / "bare.yaml"), {"H2": 1.0}))
    with pytest.raises(UsageError, match="no transport data"):
        cells.of("flame", 3)
    assert valid_rows(cells.of("mixed", 10)).all()


@pytest.mark.parametrize("kind", ["mixed", "cold"])
def test_mixtures_are_of_the_oxidizer_that_is_asked_for(kind):
    """The shipped recipe's own airs, one of them with argon, once took its place."""
    oxygen = Cells(Gas(HYDROGEN, {"H2": 1.0}, {"O2": 1.0, "N2": 1.0}), flames=False)
    states = oxygen.of(kind, N)
    masses = elements(states, HYDROGEN)
    oxygen_mass, nitrogen_mass = (masses[:, HYDROGEN.element_names.index(name)] for name in ("O", "N"))
    np.testing.assert_allclose(nitrogen_mass / oxygen_mass, 28.014 / 31.998, rtol=1e-4, atol=0)
    np.testing.assert_allclose(states[:, 2 + HYDROGEN.index("AR")], 0.0, rtol=0, atol=1e-15)
