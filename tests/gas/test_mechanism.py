"""The mechanisms: DRM19's rates and transport against stored values, other files by name and path, bad input."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import cantera as ct
import numpy as np
import pytest

from chemnet import HybridStep, MakeTask, Surrogate
from chemnet.data.recipe import load_recipe
from chemnet.gas.canonical import premixed
from chemnet.gas.closure import Closure
from chemnet.gas.mechanism import load_mechanism
from chemnet.kinetics import CvodesReactor, RosenbrockReactor, evaluate
from chemnet.runtime.errors import UsageError
from chemnet.validation.suite import load as validation_step

CHECK_STATES = json.loads((Path(__file__).parents[1] / "data" / "drm19_check_states.json").read_text())["states"]
SPECIES = "H2 H O O2 OH H2O HO2 CH2 CH2(S) CH3 CH4 CO CO2 HCO CH2O CH3O C2H4 C2H5 C2H6 N2 AR".split()


def test_a_pickled_mechanism_cannot_be_written_to_either():
    again = pickle.loads(pickle.dumps(load_mechanism("h2o2.yaml")))
    arrays = [value for value in vars(again).values() if isinstance(value, np.ndarray)]
    assert len(arrays) >= 5 and not any(array.flags.writeable for array in arrays)


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
    with pytest.raises(UsageError, match="no mechanism drm91; did you mean drm19"):
        load_mechanism("drm91")
    with pytest.raises(UsageError, match="zz"):
        load_mechanism("gri30.yaml", "zz")
    with pytest.raises(UsageError, match="phases"):
        load_mechanism(empty)
    with pytest.raises(UsageError, match="no species XX in drm19"):
        load_mechanism("drm19").index("XX")


IONS = """
phases:
- {name: gas, thermo: ideal-gas, elements: [H, O, E], species: [{h2o2.yaml/species: [H2, O2, H2O, H]}, {species: all}],
   kinetics: gas, state: {T: 300.0, P: 1 atm}}
species:
- {name: E, composition: {E: 1}, thermo: {model: NASA7, temperature-ranges: [200.0, 1000.0, 6000.0],
   data: [[2.5, 0, 0, 0, 0, -745.375, -11.7246902], [2.5, 0, 0, 0, 0, -745.375, -11.7246902]]}}
- {name: H+, composition: {H: 1, E: -1}, thermo: {model: NASA7, temperature-ranges: [200.0, 1000.0, 6000.0],
   data: [[2.5, 0, 0, 0, 0, 184021.49, -1.14064664], [2.5, 0, 0, 0, 0, 184021.49, -1.14064664]]}}
reactions:
- {equation: H+ + E + H2 <=> H + H2, rate-constant: {A: 1.0e+15, b: 0.0, Ea: 0.0}}
"""


def test_the_two_phases_of_a_file_have_names_that_load_them_again():
    named = load_mechanism("nDodecane_Reitz.yaml", "nDodecane_IG")
    assert named.name == "nDodecane_Reitz.yaml#nDodecane_IG"
    assert load_mechanism(named.name) is named
    assert named.gas().thermo_model == "ideal-gas"


def test_a_first_phase_that_is_no_ideal_gas_is_refused_with_the_name_of_the_one_that_is():
    with pytest.raises(UsageError, match=r"nDodecane_RK is no ideal gas(.|\n)*Say nDodecane_Reitz.yaml#nDodecane_IG"):
        load_mechanism("nDodecane_Reitz.yaml")
    with pytest.raises(UsageError, match=r"no phase zz; it has nDodecane_RK \(Redlich-Kwong\), nDodecane_IG"):
        load_mechanism("nDodecane_Reitz.yaml#zz")
    with pytest.raises(UsageError, match="names a phase already"):
        load_mechanism("gri30.yaml#gri30", "other")


def test_a_cantera_object_of_a_file_is_the_mechanism_of_that_file():
    assert load_mechanism(ct.Solution("gri30.yaml")) is load_mechanism("gri30.yaml")
    dodecane = load_mechanism(ct.Solution("nDodecane_Reitz.yaml", "nDodecane_IG"))
    assert dodecane is load_mechanism("nDodecane_Reitz.yaml#nDodecane_IG")


def test_a_changed_cantera_object_keeps_its_rates_here_and_where_it_is_unpickled():
    gas = ct.Solution("h2o2.yaml")
    reaction = gas.reaction(2)
    reaction.rate = ct.ArrheniusRate(1e10, 0.5, 2e7)
    gas.modify_reaction(2, reaction)
    mechanism = load_mechanism(gas)
    assert mechanism.sha256 != load_mechanism("h2o2.yaml").sha256
    assert load_mechanism(mechanism.name) is mechanism is load_mechanism(gas)
    for copy in (mechanism, pickle.loads(pickle.dumps(mechanism))):
        again = copy.gas()
        again.TPX = gas.TPX = 1500.0, 2e5, "H2:2,O2:1,H:0.1,OH:0.1,N2:3"
        np.testing.assert_allclose(again.net_production_rates, gas.net_production_rates, rtol=1e-12, atol=1e-14)
    with pytest.raises(UsageError, match="write_yaml"):
        load_mechanism("memory#gas-of-another-process")


H2_STATE = np.array([[1500.0, 1e5, 0.02, 0, 0, 0.23, 0, 0, 0, 0, 0, 0.75]])  # species of h2o2.yaml


@pytest.mark.parametrize(
    "use",
    [
        lambda gas: RosenbrockReactor(gas).mechanism,
        lambda gas: CvodesReactor(gas).mechanism,
        lambda gas: Surrogate.load("h2", gas).mechanism,
        lambda gas: HybridStep.load("h2", gas).mechanism,
        lambda gas: replace(Surrogate.load("h2"), mechanism=gas).mechanism,
        lambda gas: MakeTask(mechanism=gas, fuel={"H2": 1.0}, pressure=(1e5, 1e5)).load(),
        lambda gas: load_mechanism(load_recipe(mechanism=gas, fuel={"H2": 1.0}).mechanism),
        lambda gas: validation_step(None, gas)[0].mechanism,
    ],
)
@pytest.mark.parametrize("given", [lambda: ct.Solution("h2o2.yaml"), lambda: "h2o2.yaml", lambda: Path("h2o2.yaml")])
def test_a_cantera_object_is_as_good_as_a_file_name(use, given):
    assert use(given()) is load_mechanism("h2o2.yaml")


@pytest.mark.parametrize(
    "use",
    [
        lambda gas: MakeTask(mechanism=gas, fuel={"H2": 1.0}, pressure=(1e5, 1e5)),
        lambda gas: load_recipe(mechanism=gas, fuel={"H2": 1.0}),
    ],
)
def test_what_goes_to_other_processes_and_files_takes_no_object_that_no_file_holds(use):
    gas = ct.Solution("h2o2.yaml")
    reaction = gas.reaction(2)
    reaction.rate = ct.ArrheniusRate(1e10, 0.5, 2e7)
    gas.modify_reaction(2, reaction)
    with pytest.raises(UsageError, match="write_yaml"):
        use(gas)


def test_functions_of_states_take_a_cantera_object():
    gas, mechanism = ct.Solution("h2o2.yaml"), load_mechanism("h2o2.yaml")
    np.testing.assert_array_equal(premixed(gas, 1.0, {"H2": 1.0}), premixed(mechanism, 1.0, {"H2": 1.0}))
    np.testing.assert_array_equal(evaluate(gas, H2_STATE).rates, evaluate(mechanism, H2_STATE).rates)
    np.testing.assert_array_equal(Closure(gas).elements, Closure(mechanism).elements)


def test_a_rate_multiplier_which_no_file_can_hold_is_refused():
    gas = ct.Solution("h2o2.yaml")
    gas.set_multiplier(2.0, 3)
    with pytest.raises(UsageError, match="has a multiplier"):
        load_mechanism(gas)


def test_ions_load_and_their_elements_and_electrons_make_up_all_mass(tmp_path):
    (tmp_path / "ions.yaml").write_text(IONS)
    mechanism = load_mechanism(tmp_path / "ions.yaml")
    electrons = mechanism.atoms[mechanism.element_names.index("E")]
    assert dict(zip(mechanism.species_names, electrons, strict=True))["H+"] == -1.0
    np.testing.assert_allclose(mechanism.element_mass.sum(axis=0), 1.0, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("equation", "lost"),
    [(r"H+ + E + H2 => H + H + H2", r"atoms of H \+1"), (r"H+ + H + H2 => H2 + H2", r"charge -1")],
)
def test_a_reaction_that_does_not_balance_is_refused_by_name_where_cantera_takes_it(tmp_path, equation, lost):
    text = IONS.replace("H+ + E + H2 <=> H + H2", equation)
    ct.Solution(yaml=text)
    (tmp_path / "ions.yaml").write_text(text)
    with pytest.raises(UsageError, match=rf"reaction 1, .*, is unbalanced: {lost}"):
        load_mechanism(tmp_path / "ions.yaml")


@pytest.mark.parametrize(
    ("right", "wrong", "reason"),
    [
        ("H+ + E + H2 <=>", "H+ + Q <=>", r"line 11: .*undeclared species: 'Q'"),
        ("E + H2 <=>", "E <=>", "line 11: .*unbalanced: .* Element Reactants Products"),
        ("Ea: 0.0", "Ea: 1 foo", "line 11: Unknown unit 'foo'"),
        ("reactions:", "reactions: ]", "line 10: "),
        ("model: NASA7", "model: NASA77", "Unknown thermo model 'NASA77'"),
    ],
)
def test_errors_of_a_file_carry_the_line_and_the_cause_that_cantera_gives(tmp_path, right, wrong, reason):
    (tmp_path / "wrong.yaml").write_text(IONS.replace(right, wrong, 1))
    with pytest.raises(UsageError, match=rf"wrong.yaml: .*{reason}.*\nMend the file there\."):
        load_mechanism(tmp_path / "wrong.yaml")


def test_equilibrium_constants_follow_the_pressure_that_thermodynamic_data_are_for(tmp_path):
    one_bar = tmp_path / "one_bar.yaml"
    ct.Solution("h2o2.yaml").write_yaml(str(one_bar))
    text = one_bar.read_text()
    same = load_mechanism(one_bar).sha256
    one_bar = tmp_path / "bar.yaml"
    one_bar.write_text(text.replace("model: NASA7", "model: NASA7\n      reference-pressure: 1 bar"))
    mechanism = load_mechanism(one_bar)
    assert mechanism.sha256 != same == load_mechanism("h2o2.yaml").sha256
    gas = mechanism.gas()
    gas.TPX = 2800.0, ct.one_atm, "H2:2,O2:1,N2:3"
    reactor = ct.IdealGasConstPressureReactor(gas, clone=False)
    network = ct.ReactorNet([reactor])
    network.rtol, network.atol = 1e-10, 1e-16
    state = np.hstack([gas.TP, gas.Y])[None]
    network.advance(1e-3)
    exact = RosenbrockReactor(mechanism, rtol=1e-8, atol=1e-14).advance(state, 1e-3).states
    np.testing.assert_allclose(exact[0, 0], reactor.T, rtol=0, atol=1e-3)


def test_a_jump_of_enthalpy_between_two_ranges_is_announced_once_by_name(tmp_path, capsys):
    text = IONS.replace("184021.49, -1.14064664]]", "185021.49, -1.14064664]]")
    (tmp_path / "jump.yaml").write_text(text)
    mechanism = load_mechanism(tmp_path / "jump.yaml")
    assert "the enthalpy of H+ jumps by 1 RT at 1000 K; steps keep enthalpy" in capsys.readouterr().err
    mechanism.gas()
    assert load_mechanism(tmp_path / "jump.yaml").gas().n_species == 6
    load_mechanism("gri30.yaml")
    assert not capsys.readouterr().err


def test_states_are_valid_as_far_as_all_polynomials_reach():
    assert load_mechanism("drm19").T_max == load_mechanism("gri30.yaml").T_max == 3500.0
    wide = ct.Solution("h2o2.yaml")
    species = wide.species()
    for one in species:
        one.thermo = ct.NasaPoly2(200.0, 5000.0, ct.one_atm, one.thermo.coeffs)
    gas = ct.Solution(thermo="ideal-gas", kinetics="gas", species=species, reactions=wide.reactions(), name="wide")
    gas.TPX = 4500.0, 1e5, "H2:2,O2:1,N2:3"
    mechanism, states = load_mechanism(gas), np.hstack([gas.TP, gas.Y])[None]
    assert mechanism.T_max == 5000.0
    found, truth = (step.advance(states, 1e-6) for step in (RosenbrockReactor(gas, 1e-8, 1e-14), CvodesReactor(gas)))
    assert not found.status.any() and not truth.status.any()
    np.testing.assert_allclose(found.states[:, 0], truth.states[:, 0], rtol=0, atol=2e-2)
    states[0, 0] = 5001.0
    assert RosenbrockReactor(gas).advance(states, 1e-6).status == CvodesReactor(gas).advance(states, 1e-6).status == [3]
