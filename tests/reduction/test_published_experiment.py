"""The published experiment in small: its parts, what goes on, what is refused, and its page."""

import dataclasses

import numpy as np
import pytest
import torch

from chemnet.data import dataset
from chemnet.data.dataset import Pairs
from chemnet.gas import canonical
from chemnet.gas.mechanism import load_mechanism
from chemnet.kinetics import RosenbrockReactor
from chemnet.reduction import published_experiment
from chemnet.reduction.published_experiment import SERIES, reproduce
from chemnet.reduction.stages import Stage, Stages
from chemnet.reduction.table_one import CLAIMS, PUBLISHED, tables, verdicts, write_page
from chemnet.runtime.config import read_yaml
from chemnet.runtime.errors import UsageError
from chemnet.surrogate.network import build, count, describe
from chemnet.training.config import load_config

FIT = {"steps": 40, "batch_size": 32, "batch_growth": 2.0, "batch_growth_every": 20, "report_every": 20, "rollouts": 0}
STAGES = Stages(stages=[{"cuts": [{"layer": layer, "width": 12}], "retrain": FIT} for layer in (1, 1, 2)])
QUICK = {"stages": STAGES, "scale": 0.5, "precision": "fp32", "device": "cpu", "report": lambda line: None}


def training_set(path, name):
    """A small training set of one ignition."""
    mechanism = load_mechanism(name)
    fuel = {"CH4": 1} if name == "drm19" else {"H2": 1}
    start = np.hstack([1500.0, 1e5, canonical.premixed(mechanism, 1.0, fuel)])
    times, states = canonical.ignition_path(mechanism.gas(), start, 1e-2, 1e-3)
    states = canonical.states_along(times, states, 240, np.random.default_rng(0))
    after, _ = RosenbrockReactor(mechanism).advance(states, 1e-6)
    split = (np.arange(240) % 6 == 0).astype(np.int8)
    pairs = Pairs(states, after, split, np.arange(240, dtype=np.int32), np.zeros(240, np.int8))
    facts = {"mechanism": name, "mechanism_sha256": mechanism.sha256, "dt": 1e-6, "seed": 0}
    dataset.write(path, [pairs], {**facts, "rtol": 1e-6, "atol": 1e-12, "recipe": "by hand"})
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return training_set(tmp_path_factory.mktemp("data") / "states.h5", "drm19")


@pytest.fixture(scope="module")
def config():
    paper = load_config("paper")
    network = paper.network.model_copy(update={"widths": (23, 16, 14, 23)})
    return paper.model_copy(update={"network": network, "fit": paper.fit.model_validate(FIT)})


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data, config):
    """The folder of an experiment, and its result."""
    out = tmp_path_factory.mktemp("whole")
    (result,) = reproduce(out, data=data, config=config, series=SERIES, **QUICK)
    return out, result


def test_every_network_has_the_same_steps_and_the_widths_that_it_should(whole):
    out, result = whole
    by_threshold = [report.widths for report in result.stages["thresholds"]]
    assert [report.widths for report in result.stages["widths"]] == [
        (23, 12, 14, 23),
        (23, 12, 14, 23),
        (23, 12, 12, 23),
    ]
    assert {report.widths for report in result.stages["unreduced"]} == {(23, 16, 14, 23)}
    assert {report.widths for report in result.stages["control"]} == {by_threshold[-1]}
    assert [report.widths for report in result.stages["forward"]] == by_threshold
    assert {report.steps for reports in result.stages.values() for report in reports} == {20}
    assert result.original.metadata["steps"] == result.begun("control").metadata["steps"] == 20
    assert result.original.metadata["largest_batch"] == 64  # the batch grows after half of the steps
    uncut = result.stages["unreduced"]
    assert [report.loss_at_once for report in uncut] == [report.loss_before for report in uncut]


def test_a_largest_batch_keeps_the_steps_and_takes_rows_away(tmp_path, data, config):
    (result,) = reproduce(tmp_path, data=data, config=config, series=("thresholds",), max_batch=16, **QUICK)
    assert result.original.metadata["steps"] == 20 and result.original.metadata["largest_batch"] == 16
    stages = [Stage(**read_yaml(result.stage("thresholds", n) / "stage.yaml")) for n in (1, 2, 3)]
    options = [stage.retrain for stage in stages]
    assert {(each.batch_size, each.max_batch_size, each.steps) for each in options} == {(16, 16, 20)}


def test_what_is_there_is_taken_and_an_interrupted_part_goes_on(whole, data, config, monkeypatch):
    out, first = whole
    monkeypatch.setattr(published_experiment, "train", None)  # not called
    (again,) = reproduce(out, data=data, config=config, series=SERIES, **QUICK)
    assert again.stages == first.stages
    for a, b in zip(again.at_once, first.at_once, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_networks_at_once_are_those_whose_losses_the_stages_report(whole, data):
    _, result = whole
    widths = [report.widths for report in result.stages["thresholds"]]
    assert [describe(network).widths for network in result.at_once] == widths


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale": 0.0}, "scale 0: expected a share"),
        ({"scale": 1.5}, "scale 1.5: expected a share"),
        ({"series": ("folded",)}, "series folded: choose of"),
        ({"series": ("control",)}, "takes the widths of the series thresholds"),
        ({"max_batch": 16}, "max_batch was None, is 16"),
        ({"scale": 0.25}, "is of another run: scale was 0.5, is 0.25"),
        ({"precision": "bf16"}, "precision was fp32, is bf16"),
        pytest.param(
            {"device": "cuda"},
            "torch sees no GPU",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_lost(whole, data, config, changes, message):
    out, result = whole
    with pytest.raises(UsageError, match=message):
        reproduce(out, data=data, config=config, **{**QUICK, **changes})
    assert (result.folder / "original" / "manifest.json").is_file()


def test_a_training_set_of_another_mechanism_is_refused(tmp_path, config):
    other = training_set(tmp_path / "h2.yaml.h5", "h2o2.yaml")
    with pytest.raises(UsageError, match="was made with h2o2.yaml; the published experiment is one of drm19"):
        reproduce(tmp_path / "out", data=other, config=config, **QUICK)


def test_the_page_has_the_published_table_beside_ours_and_a_verdict_on_every_claim(whole):
    out, result = whole
    table, *groups = tables([result])
    rows = table.as_json()["rows"]
    original = rows[0]
    assert original["weights"] == 23 * 16 + 16 * 14 + 14 * 23
    assert original["published loss"] == 0.02276
    stages = [row for row in rows if row["series"] == "thresholds"]
    assert [row["published loss"] for row in stages] == [loss for _, loss in PUBLISHED[1:]]
    assert [row["loss"] for row in stages] == [report.loss_after for report in result.stages["thresholds"]]
    assert len(groups) == 4
    found = verdicts([result])
    left = result.stages["thresholds"][-1].weights / original["weights"]
    assert len(found) == len(CLAIMS) and all(("untested" in line) is (left > 0.95) for line in found)
    unreduced = dataclasses.replace(result, stages={**result.stages, "thresholds": result.stages["unreduced"]})
    assert all("seed 0 untested, 100 % of the weights are left" in line for line in verdicts([unreduced]))
    pages = write_page(out, [result], "a machine")
    text = pages[0].read_text()
    assert all(line in text for line in found)
    assert pages[1].read_text().count("<img") == 2


def test_published_structures_have_the_published_weights():
    sizes = [6_802_800, 5_187_915, 3_402_615, 2_848_260]  # table 1
    config = load_config("paper").network
    for (structure, _), size in zip(PUBLISHED, sizes, strict=True):
        widths = tuple(map(int, structure.split("-")))
        assert count(build(config.model_copy(update={"widths": widths, "initialisation": None})), biases=False) == size
