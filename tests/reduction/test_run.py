"""`chemnet reduce` from names to finished stages: what it runs, what it only shows, and what it asks for."""

import numpy as np
import pytest

from chemnet.condensation.similarity import cosine_similarity, group, n_groups
from chemnet.data import dataset
from chemnet.data.dataset import Pairs
from chemnet.data.recipe import load_recipe
from chemnet.gas import canonical
from chemnet.gas.mechanism import load_mechanism
from chemnet.kinetics.cvodes import CvodesReactor
from chemnet.reduction.run import THRESHOLDS, find_data, preview, reduce, stages_for
from chemnet.reduction.stages import read_stages
from chemnet.runtime.config import dump_yaml
from chemnet.runtime.errors import FileError, UsageError
from chemnet.surrogate.model import Surrogate
from chemnet.training.config import load_config
from chemnet.training.run import train

DT = 1e-6
SILENT = {"report": lambda line: None}
RECIPE = """
stages:
  - cuts: [{layer: 1, width: 16}]
    choice: forward
    merge: refit
    retrain: &short {steps: 20, report_every: 20, rollouts: 0}
  - cuts: [{layer: 2, width: 8}]
    retrain: *short
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a small training set and a network trained on it."""
    folder = tmp_path_factory.mktemp("home")
    mechanism = load_mechanism("h2o2.yaml")
    start = np.hstack([1300.0, 1e5, canonical.premixed(mechanism, 1.0, {"H2": 1})])
    times, path = canonical.ignition_path(mechanism.gas(), start, 1e-2, 1e-3)
    states = canonical.states_along(times, path, 300, np.random.default_rng(0))
    next_states, _ = CvodesReactor(mechanism).advance(states, DT)
    split = (np.arange(300) % 6 == 0).astype(np.int8)
    pairs = Pairs(states, next_states, split, np.arange(300, dtype=np.int32), np.zeros(300, np.int8))
    facts = {"mechanism": "h2o2.yaml", "mechanism_sha256": mechanism.sha256, "dt": DT}
    dataset.write(folder / "states.h5", [pairs], {**facts, "seed": 0, "rtol": 1e-6, "atol": 1e-12, "recipe": "by hand"})
    (folder / "two.yaml").write_text(RECIPE)
    changes = [f"data={folder / 'states.h5'}", "network.widths=[12, 24, 20, 12]", "fit.steps=60", "fit.rollouts=0"]
    train(load_config("quick", changes), out=folder / "run", device="cpu", **SILENT)
    return folder


def test_without_a_stage_all_of_the_recipe_is_run_and_then_nothing_is_left_to_do(home, tmp_path):
    options = {"stages": home / "two.yaml", "out": tmp_path}
    first = reduce(home / "run", **options, **SILENT)
    assert [row["widths"] for row in first.as_json()["rows"]] == ["12-24-20-12", "12-16-20-12", "12-16-8-12"]
    lines: list[str] = []
    assert reduce(home / "run", **options, report=lines.append) == first
    assert lines[:2] == [f"stage {n}: taken from {tmp_path / f'stage-{n}'}" for n in (1, 2)]
    assert lines[2:] == [f"written: {tmp_path / 'reduction.md'}, {tmp_path / 'reduction.html'}"]


def test_a_preview_shows_the_groups_and_the_cuts_and_writes_nothing(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*")}
    groups, cuts = preview(home / "run", stages=home / "two.yaml")
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*")} == before and not list(tmp_path.iterdir())
    network = Surrogate.load(home / "run").network
    vectors = np.column_stack([network[2].weight.detach().numpy(), network[2].bias.detach().numpy()])
    expected = [n_groups(group(cosine_similarity(vectors), threshold)) for threshold in THRESHOLDS]
    second = groups.as_json()["rows"][1]
    assert [second[f"{threshold:g}"] for threshold in THRESHOLDS] == expected
    rows = cuts.as_json()["rows"]
    assert [row["widths"] for row in rows] == ["12-24-20-12", "12-16-20-12", "12-16-8-12"]
    share = (12 * 16 + 16 * 8 + 8 * 12) / (12 * 24 + 24 * 20 + 20 * 12)
    assert rows[2]["weights [%]"] == pytest.approx(100.0 * share, rel=1e-9, abs=0)
    assert rows[0]["loss at once"] < rows[2]["loss at once"]


def test_a_preview_without_the_training_set_still_shows_the_groups(home, tmp_path):
    tables = preview(home / "run", stages=home / "two.yaml", data=tmp_path / "none.h5")
    assert [table.title for table in tables] == ["widths that similarity thresholds give"]


def test_a_model_of_a_recipe_that_does_not_ship_needs_its_data_named(home, tmp_path):
    model = Surrogate.load(home / "run")
    config = load_config("quick", [f"data={tmp_path / 'gone.h5'}"])
    with pytest.raises(FileError, match="--data FILE"):
        find_data(model, config, None, print)
    assert not list(tmp_path.iterdir())
    assert find_data(model, config, home / "states.h5", print) == home / "states.h5"


def test_a_training_set_of_a_recipe_that_ships_is_sampled_where_it_is_not_there(home, tmp_path, monkeypatch):
    sampled: list[object] = []
    monkeypatch.setattr("chemnet.reduction.run.ensure_data", lambda config, path, report: sampled.append(path))
    config = load_config("quick", [f"data={tmp_path / 'gone.h5'}"])
    shipped = dump_yaml(load_recipe(variant=config.data_variant))
    model = Surrogate.load(home / "run")
    assert find_data(model.with_network(model.network, data={"recipe": shipped}), config, None, print) == config.data
    assert sampled == [config.data]


def test_a_model_older_than_the_name_of_its_recipe_takes_the_one_that_its_config_names_today():
    config = load_config("drm19")
    assert stages_for(config.model_copy(update={"reduction": "gone"}), None) == read_stages("paper")
    assert stages_for(config, "deep") == read_stages("deep")
    with pytest.raises(UsageError, match="no stages gone"):
        stages_for(config, "gone")
    with pytest.raises(UsageError, match="names no stages"):
        stages_for(load_config("small"), None)


def test_a_recipe_for_another_network_is_refused_before_anything_is_done(home, tmp_path):
    with pytest.raises(UsageError, match="stage 1: layer 1: width 512 of 24 neurons\n.*another network"):
        reduce(home / "run", stages="deep", out=tmp_path / "out", **SILENT)
    with pytest.raises(UsageError, match="stage 3: there are stages 1 to 2"):
        reduce(home / "run", stage=3, stages=home / "two.yaml", out=tmp_path / "out", **SILENT)
    assert not (tmp_path / "out").exists()
    assert len(read_stages("deep").stages) == 3
