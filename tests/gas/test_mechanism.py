"""The mechanisms: DRM19's rates and transport against stored values, other files by name and path, bad input."""

import json
from pathlib import Path

import numpy as np
import pytest

from chemnet.gas.mechanism import load_mechanism
from chemnet.runtime.errors import UsageError

CHECK_STATES = json.loads((Path(__file__).parents[1] / "data" / "drm19_check_states.json").read_text())["states"]
SPECIES = "H2 H O O2 OH H2O HO2 CH2 CH2(S) CH3 CH4 CO CO2 HCO CH2O CH3O C2H4 C2H5 C2H6 N2 AR".split()


def test_drm19_has_its_21_species_in_order_and_84_reactions():
    mechanism = load_mechanism("drm19")
    assert list(mechanism.species_names) == SPECIES
    assert mechanism.gas().n_reactions == 84
    assert [name for name, inert in zip(SPECIES, mechanism.inert, strict=True) if inert] == ["N2", "AR"]


@pytest.mark.parametrize("state", CHECK_STATES, ids=lambda s: f"{s['T']:.0f}K")
def test_drm19_reproduces_the_stored_rates_and_transport(state):
    gas = load_mechanism("drm19").gas()
    gas.TPY = state["T"], state["P"], state["Y"]
    rates = [state["net_production_rates"].get(name, 0.0) for name in gas.species_names]
    np.testing.assert_allclose(gas.net_production_rates, rates, rtol=1e-10, atol=1e-20)
    np.testing.assert_allclose(gas.viscosity, state["viscosity"], rtol=1e-10, atol=0)
    np.testing.assert_allclose(gas.thermal_conductivity, state["thermal_conductivity"], rtol=1e-10, atol=0)


@pytest.mark.parametrize(("name", "species", "inert"), [("h2o2.yaml", 10, {"AR", "N2"}), ("gri30.yaml", 53, {"AR"})])
def test_mechanisms_that_come_with_cantera_load_by_name(name, species, inert):
    mechanism = load_mechanism(name)
    assert mechanism.n_species == species
    assert {s for s, is_inert in zip(mechanism.species_names, mechanism.inert, strict=True) if is_inert} == inert
    np.testing.assert_allclose(mechanism.element_mass.sum(axis=0), 1.0, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("name", "phase"), [("ptcombust.yaml", "Pt_surf"), ("nDodecane_Reitz.yaml", "nDodecane_RK")])
def test_surfaces_and_real_gases_are_refused(name, phase):
    with pytest.raises(UsageError, match=f"phase {phase} is no ideal gas"):
        load_mechanism(name, phase)


def test_the_hash_is_of_the_content_and_not_of_the_file(tmp_path):
    bundled = load_mechanism("drm19")
    text = Path(bundled.source).read_text()
    same, other = tmp_path / "same.yaml", tmp_path / "other.yaml"
    same.write_text("# a comment\n" + text)
    other.write_text(text.replace("A: 5.0e+17", "A: 5.1e+17", 1))
    assert load_mechanism(same).sha256 == bundled.sha256
    assert load_mechanism(other).sha256 != bundled.sha256


def test_unknown_names_are_refused_and_the_valid_ones_listed(tmp_path):
    empty = tmp_path / "empty.yaml"
    empty.write_text("description: nothing\n")
    with pytest.raises(UsageError, match="bundled are drm19"):
        load_mechanism("drm91")
    with pytest.raises(UsageError, match="zz"):
        load_mechanism("gri30.yaml", "zz")
    with pytest.raises(UsageError, match="phases"):
        load_mechanism(empty)
    with pytest.raises(UsageError, match="no species XX in drm19"):
        load_mechanism("drm19").index("XX")
