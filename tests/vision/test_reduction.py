"""The automatic reduction and the comparison of a classifier, end to end at small scale."""

import csv
import shutil

import numpy as np
import pytest
import torch
from tiny_images import CONFIG, write_images

from chemnet.reduction.automatic import LOG
from chemnet.runtime.errors import UsageError
from chemnet.runtime.files import read_json
from chemnet.vision import load_classifier, read_images
from chemnet.vision.comparison import compare
from chemnet.vision.condensing import condense_classifier
from chemnet.vision.config import load_config
from chemnet.vision.costs import bench, multiply_adds
from chemnet.vision.methods import METHODS
from chemnet.vision.mobilenet import MobileNetV2
from chemnet.vision.networks import count
from chemnet.vision.reduction import CondensingTraining, reduce
from chemnet.vision.training import network_of, train

SILENT = {"report": lambda line: None, "device": "cpu"}
REDUCTION = (
    *("steps=1", "reduction.batches=1", "reduction.calibration=24"),
    "reduction.automatic={relative: true, main: {highest: 0.1, lowest: 0.1, over: 9}, "
    "layer: {highest: 0.1, lowest: 0.1, over: 9}, last_criterion: 0.1, deviation: 0.0, main_reductions: 1, "
    "final_layer: layer 18, final_steps: 1}",
)


def config(*changes):
    return load_config("short", [*CONFIG, *REDUCTION, *changes])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A training of one step, and its images."""
    folder = tmp_path_factory.mktemp("run")
    write_images(folder / "images.npz")
    train(config(), folder / "images.npz", out=folder, **SILENT)
    return folder


def log_of(folder):
    with open(folder / LOG, newline="") as file:
        return list(csv.DictReader(file))


def test_the_layers_are_those_of_the_paper_and_hold_their_parameters(folder):
    network = MobileNetV2(10, downsampling=32)
    loop = CondensingTraining(network, read_images(folder / "images.npz"), config())
    assert loop.layers() == [f"layer {number}" for number in range(2, 19)]
    # section 3.2.3: 19.69 % of layer 17 are left when it has lost 380,103; the paper leaves the last BatchNorm out
    assert loop.parameters("layer 17") - 2 * 320 == pytest.approx(380_103 / (1 - 0.1969), rel=1e-4, abs=0)
    assert loop.parameters() == 2_236_682


@pytest.fixture(scope="module")
def reduced(folder):
    """A reduction of that training and its table; `killed` is its folder as a kill after step 14 would leave it."""

    def copy(line):
        if line.startswith("step 15:"):
            shutil.copytree(folder / "whole", folder / "killed")

    options = {"model": folder, "out": folder / "whole", "device": "cpu"}
    return folder / "whole", reduce(config(), folder / "images.npz", report=copy, **options)


def test_a_reduction_gives_the_table_the_pictures_and_a_classifier_per_stage(reduced):
    out, table = reduced
    names = [row[0] for row in table.rows]
    assert names == ["original", "reduction 1", "final cut"]
    for name, parameters, share, cost, *_ in table.rows:
        classifier = load_classifier(out / f"{name.replace(' ', '-')}.pt")
        assert count(classifier.network) == parameters
        assert share == pytest.approx(100 * parameters / table.rows[0][1], rel=1e-12, abs=0)
        assert cost == pytest.approx(1e-6 * multiply_adds(classifier.network), rel=1e-12, abs=0)
    assert table.rows[2][1] < table.rows[1][1] < table.rows[0][1]
    assert (out / "steps.png").stat().st_size > 10_000 and (out / "layers.png").stat().st_size > 10_000
    assert {"steps.png", "reduction.md", "reduction.html", LOG} <= set(read_json(out / "manifest.json")["files"])
    assert (out / "reduction.html").read_text().count("data:image/png;base64,") == 2
    cuts = [row["layer"] for row in log_of(out) if row["event"] == "accepted"]
    assert cuts == [f"layer {number}" for number in range(2, 18)]
    final = [row for row in log_of(out) if row["event"] == "final cut"]
    assert [(row["layer"], float(row["threshold"])) for row in final] == [("layer 18", 0.4)]


def test_a_reduction_that_was_killed_goes_on_bit_by_bit(folder, reduced):
    out, (whole, table) = folder / "killed", reduced
    assert len(log_of(out)) < len(log_of(whole)) and not (out / "manifest.json").exists()
    options = {"model": folder, "out": out, "resume": True, **SILENT}
    assert reduce(config(), folder / "images.npz", **options).rows == table.rows
    assert log_of(out) == log_of(whole)


def test_a_reduction_of_another_config_or_classifier_is_not_gone_on_with(folder, reduced, tmp_path):
    images, (out, _) = folder / "images.npz", reduced
    with pytest.raises(UsageError, match=r"config\.reduction\.calibration was 24, is 16"):
        reduce(config("reduction.calibration=16"), images, model=folder, out=out, resume=True, **SILENT)
    changed = load_classifier(folder)
    with torch.no_grad():
        changed.network.classifier[1].bias += 1.0
    changed.save(tmp_path / "changed.pt")
    with pytest.raises(UsageError, match="classifier was"):
        reduce(config(), images, model=tmp_path / "changed.pt", out=out, resume=True, **SILENT)


@pytest.mark.parametrize("choice", ["folded", "published"])
def test_layers_can_be_condensed_by_other_rules(folder, choice):
    options = config(f"reduction.rule={{choice: {choice}}}")
    loop = CondensingTraining(network_of(options, 3, 0), read_images(folder / "images.npz"), options)
    before = loop.parameters("layer 17"), loop.parameters("layer 18")
    loop.condense("layer 17", 0.3)
    loop.condense("layer 18", 0.2)
    assert loop.parameters("layer 17") < before[0] and loop.parameters("layer 18") < before[1]
    with pytest.raises(UsageError, match="no layer 1; there are"):
        loop.condense("layer 1", 0.5)


def test_a_state_of_wider_layers_comes_back(folder):
    options = config()
    loop = CondensingTraining(network_of(options, 3, 0), read_images(folder / "images.npz"), options)
    before, state = loop.parameters(), loop.state()
    outputs = loop.network.eval()(torch.ones(1, 3, 32, 32))
    loop.condense("layer 17", 0.2)
    assert loop.parameters() < before
    loop.restore(state)
    assert loop.parameters() == before
    np.testing.assert_array_equal(loop.network.eval()(torch.ones(1, 3, 32, 32)).detach(), outputs.detach())


COMPARISON = """
shares: [0.6]
seeds: 1
batches: 1
rates: [0.01, 0.02]
scratch_rates: [0.1]
weight_decay: 5e-4
calibration: 24
methods: [condensation-forward, condensation-published, neuron-merging, scratch]
"""


def test_a_comparison_brings_every_method_to_the_share_and_goes_on_where_it_was(folder, tmp_path, monkeypatch):
    (tmp_path / "c.yaml").write_text(COMPARISON)
    options = {"config": config(), "model": folder, "out": tmp_path, **SILENT}
    tables = compare(str(tmp_path / "c.yaml"), folder / "images.npz", **options)
    rows = tables[0].as_json()["rows"]
    methods = ["condensation-forward", "condensation-published", "neuron-merging", "scratch"]
    assert [row["method"] for row in rows] == methods
    assert all(row["parameters [%]"] <= 60.0 and 0.0 <= row["accuracy [%]"] <= 100.0 for row in rows)
    monkeypatch.setitem(METHODS, "scratch", None)  # nothing is made a second time
    again = compare(str(tmp_path / "c.yaml"), folder / "images.npz", **options)
    assert [table.as_json() for table in again] == [table.as_json() for table in tables]


def test_a_comparison_with_an_unknown_method_is_refused(folder, tmp_path):
    (tmp_path / "c.yaml").write_text(COMPARISON.replace("scratch]", "scrach]"))
    with pytest.raises(UsageError, match="no method scrach; did you mean scratch"):
        compare(str(tmp_path / "c.yaml"), folder / "images.npz", config=config(), model=folder, out=tmp_path, **SILENT)


def test_a_classifier_is_condensed_to_a_share_of_its_multiply_adds(folder, tmp_path):
    out = tmp_path / "half.pt"
    options = {"ratio": 0.5, "budget": "macs", "calibration": 24, "batch": 2, "report": lambda line: None}
    layers, networks = condense_classifier(folder, folder / "images.npz", out=out, **options)
    before, after = load_classifier(folder), load_classifier(out)
    left = multiply_adds(after.network) / multiply_adds(before.network)
    assert 0.45 < left <= 0.5
    assert [row[1] for row in networks.rows] == [count(before.network), count(after.network)]
    assert after.facts["test_accuracy"] == pytest.approx(networks.rows[1][3] / 100.0, rel=1e-12, abs=0)
    assert sum(row[-1] == "condensed" for row in layers.rows) > 10
    with pytest.raises(UsageError, match="is there already"):
        condense_classifier(folder, folder / "images.npz", out=out, **options)


def test_multiply_adds_are_those_of_the_layers():
    """Sandler et al. count 300 million at 224 x 224, of the convolutions and the last matrix product."""
    assert multiply_adds(MobileNetV2(1000), side=224) == pytest.approx(300e6, rel=0.01, abs=0)


def test_the_bench_reports_time_beside_multiply_adds():
    networks = {"large": MobileNetV2(10), "same": MobileNetV2(10)}
    table = bench(networks, [1], turns=1)
    assert table.columns[4:7] == ["batch 1 [ms]", "batch 1 [%]", "batch 1 saved"]
    assert table.rows[0][4] > 0.0 and table.rows[0][5] == 100.0 and np.isnan(table.rows[1][6])
