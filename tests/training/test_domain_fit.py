"""The domain of a model: no alarms inside the recipe, detection outside; the kernels agree with NumPy."""

from pathlib import Path

import numpy as np
import pytest
from tiny_model import save_tiny_model

from chemnet.cli.facts import model_tables
from chemnet.data import dataset
from chemnet.data.dataset import Pairs
from chemnet.data.recipe import load_recipe
from chemnet.gas import canonical
from chemnet.gas.mechanism import load_mechanism
from chemnet.gas.status import Status
from chemnet.runtime.errors import UsageError
from chemnet.surrogate.domain import Domain, fit_domain
from chemnet.surrogate.model import Surrogate
from chemnet.training import domain_fit
from chemnet.training.domain_fit import PARAMETERS, Probes

MECHANISM = load_mechanism("drm19")
RECIPE = load_recipe()


@pytest.fixture(scope="module")
def paths():
    """States from inside the recipe, and its corners: unburnt gas at the ends of every range; (n, 23)."""
    corners = [
        [T, P, *canonical.premixed(MECHANISM, phi, RECIPE.fuel, air.moles)]
        for T in RECIPE.mixed.T_unburnt
        for P in RECIPE.pressure
        for phi in RECIPE.phi
        for air in RECIPE.oxidizers
    ]
    return np.vstack([Probes(RECIPE, MECHANISM).draw(3000), corners])


@pytest.fixture(scope="module")
def domain(paths):
    return fit_domain(paths, paths, MECHANISM)


def test_states_that_were_not_seen_raise_no_alarm(domain, paths):
    rng = np.random.default_rng(5)
    a, b = paths[rng.permutation(3000)[:1000]], paths[rng.permutation(3000)[:1000]]
    inside = domain.contains(0.5 * (a + b), MECHANISM)
    assert np.mean(~inside) <= 1e-3
    assert domain.contains(paths, MECHANISM).all()


@pytest.mark.parametrize("parameter", PARAMETERS)
def test_states_with_one_parameter_beyond_its_range_by_a_tenth_are_found(domain, parameter):
    states = Probes(RECIPE, MECHANISM, parameter).draw(1000)
    assert np.mean(~domain.contains(states, MECHANISM)) >= 0.99


def test_burnt_gas_that_a_wall_has_cooled_is_found(domain):
    """T, P and every Y are as in the training data, each for itself."""
    gas = MECHANISM.gas()
    unburnt = [np.hstack([300.0, 101325.0, canonical.premixed(MECHANISM, phi, RECIPE.fuel)]) for phi in (0.6, 1.6)]
    cooled = np.maximum([canonical.burnt(gas, state) for state in unburnt], 0.0)
    assert domain.contains(cooled, MECHANISM).all()
    cooled[:, 0] -= 500.0
    assert not domain.contains(cooled, MECHANISM).any()


def test_elements_that_diffusion_has_parted_in_a_curved_flame_raise_no_alarm(domain):
    """0.7 % of oxygen in the place of nitrogen or the reverse: the turbulent ignition has more than flat flames."""
    for parted in (0.007, -0.007):
        Y = canonical.premixed(MECHANISM, 1.0, RECIPE.fuel)
        Y[[MECHANISM.index("O2"), MECHANISM.index("N2")]] += [parted, -parted]
        assert domain.contains(np.hstack([1000.0, 101325.0, Y])[None], MECHANISM).all()


def test_air_with_twice_the_oxygen_is_found(domain):
    Y = canonical.premixed(MECHANISM, 1.0, {"CH4": 1}, {"O2": 2.0, "N2": 3.76})
    rows = np.array([[T, 101325.0, *Y] for T in np.linspace(300, 2500, 20)])
    assert not domain.contains(rows, MECHANISM).any()


def test_the_model_and_numpy_agree_on_what_is_outside(domain, paths, tmp_path):
    save_tiny_model(tmp_path / "model.safetensors", 1e-6)
    model = Surrogate.load(tmp_path / "model.safetensors").with_domain(domain)
    states = np.vstack([paths[:200], *(Probes(RECIPE, MECHANISM, p).draw(50) for p in PARAMETERS)])
    _, status = model.advance(states)
    np.testing.assert_array_equal(status == Status.OUTSIDE, ~domain.contains(states, MECHANISM))
    model.save(tmp_path / "guarded.safetensors")
    again = Surrogate.load(tmp_path / "guarded.safetensors")
    np.testing.assert_array_equal(again.advance(states)[1], status)


def training_set(path: Path, paths: np.ndarray, sha256: str = MECHANISM.sha256) -> Path:
    """The paths as a training set, every tenth row for validation; its last rows are perturbed, far outside."""
    strange = paths[:50] * np.where(np.arange(23) == 1, 3.0, 1.0)
    states = np.vstack([paths, strange])
    n = len(states)
    kind = np.where(np.arange(n) < len(paths), 0, 1).astype(np.int8)
    pairs = Pairs(states, states, (np.arange(n) % 10 == 0).astype(np.int8), np.zeros(n, np.int32), kind)
    facts = {"mechanism": "drm19", "mechanism_sha256": sha256, "dt": 1e-6, "kinds": ["ignition", "perturbed"]}
    dataset.write(path, [pairs], {**facts, "recipe": "by hand"})
    return path


def test_a_model_is_given_the_domain_of_a_training_set_and_reports_it(paths, tmp_path):
    name = save_tiny_model(tmp_path / "model.safetensors", 1e-6)
    data = training_set(tmp_path / "states.h5", paths)
    table = domain_fit.guard(name, data, tmp_path / "guarded.safetensors")
    facts = dict(table.rows)
    assert facts["false alarms, held-out states [%]"] == 0.0
    model = Surrogate.load(tmp_path / "guarded.safetensors")
    assert model.domain.limits["P"][1] < 1.03 * RECIPE.pressure[1]  # the perturbed rows do not count
    shown = dict(row for table in model_tables(tmp_path / "guarded.safetensors") for row in table.rows)
    assert shown["false alarms, held-out states [%]"] == 0.0 and shown["engine"] == "fp32"


def test_a_training_set_of_another_mechanism_is_refused(paths, tmp_path):
    name = save_tiny_model(tmp_path / "model.safetensors", 1e-6)
    with pytest.raises(UsageError, match="was made for drm19"):
        domain_fit.guard(name, training_set(tmp_path / "states.h5", paths, "0" * 64))


def test_a_model_that_ships_is_not_changed(paths, tmp_path):
    data = training_set(tmp_path / "states.h5", paths)
    with pytest.raises(UsageError, match="drm19-small ships with chemnet.*\\n.*--out"):
        domain_fit.guard("drm19-small", data)


def test_unknown_parameters_and_empty_ranges_are_refused():
    with pytest.raises(UsageError, match="no parameter Z; there are T, P"):
        Probes(RECIPE, MECHANISM, "Z")
    with pytest.raises(UsageError, match="P from 3.0 to 3.0 is no range"):
        Domain.box(MECHANISM, T=(300.0, 2000.0), P=(3.0, 3.0))


@pytest.mark.slow
def test_ten_thousand_states_from_outside_by_parameter():
    """Prints the figures of the default training set: `pytest -m slow -s tests/training/test_domain_fit.py`."""
    data = Path("datasets/drm19/states.h5")
    if not data.exists():
        pytest.skip("make it with: chemnet sample")
    facts = dataset.read_attributes(data)
    learned = domain_fit.learn_domain(dataset.read(data), list(facts["kinds"]), MECHANISM)
    measured = domain_fit.probe(learned, facts, MECHANISM).measured
    print(measured)
    assert measured["false_alarms"] <= 1e-3 and min(measured["found"].values()) >= 0.99
