"""What a training set covers: equivalence ratio and heat release as Cantera has them, in a table and a picture."""

import cantera as ct
import numpy as np
import pytest

from chemnet.cli import main as cli
from chemnet.data import dataset
from chemnet.data.coverage import coverage, heat_release
from chemnet.data.dataset import Pairs
from chemnet.gas import canonical
from chemnet.gas.mechanism import load_mechanism
from chemnet.gas.state import densities, equivalence_ratios
from chemnet.kinetics.cvodes import CvodesReactor

MECHANISM = load_mechanism("drm19")
DT = 1e-9  # [s] so short that the mean rate of a step is the rate at its start


def pairs_of(states, dt):
    next_states, status = CvodesReactor(MECHANISM, 1e-9, 1e-16).advance(states, dt)
    assert (status == 0).all()
    n = len(states)
    kind = (np.arange(n) % 2).astype(np.int8)
    return Pairs(states, next_states, np.zeros(n, np.int8), np.zeros(n, np.int32), kind)


@pytest.fixture(scope="module")
def burning():
    """States along ignition paths, and the same of Cantera."""
    gas, rows = MECHANISM.gas(), []
    for phi, oxidizer in ((0.5, canonical.AIR), (1.7, {"O2": 0.21, "N2": 0.78, "AR": 0.01})):
        start = np.hstack([1500.0, 1.5e5, canonical.premixed(MECHANISM, phi, {"CH4": 1.0}, oxidizer)])
        times, states = canonical.ignition_path(gas, start, 1e-2, 1e-3)
        rows.append(canonical.states_along(times, states, 40, np.random.default_rng(0)))
    return np.maximum(np.concatenate(rows), 0.0)


def test_equivalence_ratio_and_density_are_those_of_cantera(burning):
    gas, expected = MECHANISM.gas(), []
    for row in burning:
        gas.TPY = row[0], row[1], row[2:]
        expected.append((gas.equivalence_ratio(), gas.density))
    found = np.column_stack([equivalence_ratios(burning, MECHANISM), densities(burning, MECHANISM)])
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=0)
    fuel = np.zeros((1, 2 + MECHANISM.n_species))
    fuel[0, 2 + MECHANISM.index("CH4")] = 1.0
    assert np.isinf(equivalence_ratios(fuel, MECHANISM)).all()


def test_heat_release_of_a_short_step_is_the_rate_of_cantera(burning):
    array = ct.SolutionArray(MECHANISM.gas(), len(burning))
    array.TPY = burning[:, 0], burning[:, 1], burning[:, 2:]
    expected = array.heat_release_rate
    found = heat_release(pairs_of(burning, DT), MECHANISM, DT)
    assert np.ptp(np.log10(np.abs(expected))) > 3.0  # from induction to the front
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-6 * expected.max())


@pytest.fixture(scope="module")
def file(burning, tmp_path_factory):
    path = tmp_path_factory.mktemp("coverage") / "states.h5"
    facts = {"mechanism": "drm19", "dt": 1e-6, "kinds": ["even", "odd", "none"]}
    dataset.write(path, [pairs_of(burning, 1e-6)], facts)
    return path


def test_info_states_the_coverage(file, capsys):
    assert cli.main(["info", str(file)]) == 0
    shown = capsys.readouterr().out
    found = coverage(file)
    assert all(word in shown for word in ("phi", "heat release [W/m3]", "even", f"{found.T.max():.4g}"))
    assert len(found.T) == len(found.phi) == len(found.heat_release) == 80 and set(found.kind) == {0, 1}
    np.testing.assert_allclose([found.phi.min(), found.phi.max()], [0.5, 1.7], rtol=1e-6, atol=0.0)


def test_the_coverage_is_drawn(file, tmp_path):
    picture = tmp_path / "coverage.png"
    assert cli.main(["plot", "coverage", str(file), "--picture", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 30_000
    assert cli.main(["plot", "coverage", str(tmp_path / "nothing.h5"), "--picture", str(picture)]) == 4
