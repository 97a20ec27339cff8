"""Manifests: a set that is sampled anew meets what is kept of the first, and what differs is told."""

from pathlib import Path

import numpy as np
import pytest
from small_recipe import small_recipe

from chemnet.cli import main as cli
from chemnet.data import dataset, reference_rows, sampling
from chemnet.data.recipe import load_recipe, stored_recipe
from chemnet.gas.mechanism import load_mechanism
from chemnet.runtime.errors import UsageError
from chemnet.runtime.files import shipped

SHIPPED = shipped("datasets/drm19/manifest")


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    path = tmp_path_factory.mktemp("manifest") / "states.h5"
    sampling.sample(small_recipe("integrator.audit=0"), path, report=lambda line: None)
    return path


@pytest.fixture(scope="module")
def kept(sampled):
    reference_rows.write(sampled.with_name("manifest"), sampled, 60)
    return sampled.with_name("manifest")


def changed(source: Path, target: Path, row: int, label_change: float, state_change: float = 0.0) -> Path:
    """A copy of a training set in which one mass fraction of a label, or of a state, differs."""
    pairs, facts = dataset.read(source), dataset.read_attributes(source)
    pairs.next_states[row, 5] += label_change
    pairs.states[row, 5] += state_change
    dataset.write(target, [pairs], {name: value for name, value in facts.items() if name not in ("rows", "format")})
    return target


def test_the_recipe_that_ships_is_that_of_its_manifest():
    facts = dataset.read_attributes(SHIPPED)
    assert stored_recipe(facts) == load_recipe() and facts["rows"] == 1000
    assert facts["mechanism_sha256"] == load_mechanism("drm19").sha256
    assert facts["rows_of_the_set"] == load_recipe().rows


def test_the_thousand_labels_that_ship_are_computed_here_again_to_a_millionth():
    found = reference_rows.recompute(SHIPPED)
    assert found.rows == found.states == found.labels == 1000 and found.largest < 1e-6


def test_a_fresh_set_meets_its_manifest_and_info_says_so(sampled, kept, tmp_path, capsys):
    found = reference_rows.compare(sampled, kept)
    assert (found.rows, found.states, found.labels, found.largest) == (60, 60, 60, 0.0)
    assert cli.main(["info", str(sampled)]) == 0
    assert "60 of 60 labels met to 1e-06" in capsys.readouterr().out
    assert cli.main(["info", str(kept)]) == 0
    assert "60 of 60 labels met to 1e-06" in capsys.readouterr().out.split("computed here")[1]


@pytest.mark.parametrize(("label_change", "labels"), [(9e-7, 60), (1.1e-6, 59)])
def test_a_label_that_is_off_by_more_than_a_millionth_is_told(sampled, kept, tmp_path, label_change, labels):
    found = reference_rows.compare(changed(sampled, tmp_path / "other.h5", 4, label_change), kept)
    assert (found.states, found.labels) == (60, labels)
    np.testing.assert_allclose(found.largest, label_change, rtol=1e-6, atol=0)


def test_a_state_that_is_another_has_no_label_to_compare(sampled, kept, tmp_path):
    found = reference_rows.compare(changed(sampled, tmp_path / "other.h5", 8, 0.0, 1e-3), kept)
    assert (found.states, found.labels, found.largest) == (59, 59, 0.0)


def test_another_recipe_is_not_compared_and_a_short_set_has_no_manifest(sampled, kept, tmp_path):
    sampling.sample(small_recipe("integrator.audit=0", "seed=2"), tmp_path / "other.h5", report=lambda line: None)
    assert reference_rows.compare(tmp_path / "other.h5", kept) is None
    with pytest.raises(UsageError, match="has 240 rows; a manifest takes 1000"):
        reference_rows.write(tmp_path / "manifest", sampled)


@pytest.mark.slow
def test_the_set_of_the_recipe_that_ships_meets_its_manifest(tmp_path):
    """Two minutes on two cores: all of it is sampled again."""
    assert cli.main(["sample", "--out", str(tmp_path / "states.h5"), "--set", "integrator.audit=0.01"]) == 0
    found = reference_rows.compare(tmp_path / "states.h5", SHIPPED)
    assert found.labels == found.rows == 1000
