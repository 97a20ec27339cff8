"""The comparison of chemistry networks, end to end at small scale, and the settings that it refuses."""

import json

import numpy as np
import pytest
from untrained_model import untrained

from chemnet.reduction import chemistry_comparison
from chemnet.reduction.chemistry_comparison import ChemistrySettings, compare, draw_pareto, read_settings
from chemnet.reduction.comparison import Run
from chemnet.runtime.config import parse
from chemnet.runtime.errors import FileError, UsageError
from chemnet.surrogate.model import Surrogate
from chemnet.surrogate.network import count, describe
from chemnet.training.batches import validation_loss

FIT = {"steps": 12, "batch_size": 64, "report_every": 12, "warmup_steps": 2}
SETTINGS = {
    "widths": [12, 10],
    "seeds": 2,
    "fit": FIT,
    "rates": [8e-3],
    "scan_steps": 6,
    "calibration_states": 100,
    "large_steps": 20,
    "large_seconds": 0.02,
    "cases": {"temperatures": [1300.0], "equivalence_ratios": [1.0], "fuel": {"H2": 1.0}, "steps": 80},
    "cells": 20,
    "turns": 1,
}
TINY = ("unreduced", "condensation", "svd", "scratch-steps", "distillation", "condensation-while-training")


def settings(**changes):
    return parse(ChemistrySettings, {**SETTINGS, **changes}, "comparison")


@pytest.fixture(scope="module", autouse=True)
def cells():
    """States in the place of a flame that would have to be solved."""

    def states(mechanism, flame, n):
        Y = np.full((n, mechanism.n_species), 1.0 / mechanism.n_species)
        return {"flame front": np.column_stack([np.linspace(1000.0, 2000.0, n), np.full(n, 101325.0), Y])}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chemistry_comparison, "flame_cells", states)
        yield


@pytest.fixture(scope="module")
def hydrogen():
    return untrained("h2o2.yaml", 400, "gelu")


def run(hydrogen, out, report=lambda line: None, **changes):
    return compare(*hydrogen, settings(**changes), out, device="cpu", cache=out.parent / "references", report=report)


@pytest.fixture(scope="module")
def finished(hydrogen, tmp_path_factory):
    """A comparison of a few methods: its tables and its folder."""
    out = tmp_path_factory.mktemp("comparisons") / "tiny"
    return run(hydrogen, out, methods=TINY), out


def test_a_comparison_reports_sizes_losses_roll_outs_and_costs_of_every_method(finished, hydrogen):
    tables, _ = finished
    model, _ = hydrogen
    found = {row["method"]: row for row in tables[0].as_json()["rows"]}
    assert tuple(found) == TINY
    full, widths = count(model.network, biases=False), describe(model.network).widths
    small = widths[0] * 12 + 12 * 10 + 10 * widths[-1]
    assert found["unreduced"]["weights"] == full
    assert found["unreduced"]["weights [%]"] == pytest.approx(100.0, rel=1e-12, abs=0.0)
    for name in TINY[1:]:
        assert found[name]["weights"] == small or (name == "svd" and found[name]["weights"] <= small)
    for row in found.values():
        assert row["validation loss"] > 0.0 and row["cost [us]"] > 0.0 and row["cost / unreduced"] > 0.0
        assert 0.0 < row["rate"] < 0.1 and row["failed cases"] is not None
    assert found["scratch-steps"]["steps"] == FIT["steps"] + SETTINGS["large_steps"]
    assert {found[name]["steps"] for name in ("unreduced", "condensation", "svd")} == {FIT["steps"]}
    assert isinstance(found["unreduced"]["weights"], int) and "machine" in tables[-1].title


def test_every_run_leaves_its_model_its_losses_and_its_result(finished, hydrogen):
    _, out = finished
    model, data = hydrogen
    runs = [Run.model_validate(run) for run in json.loads((out / "comparison.json").read_text())["runs"]]
    assert len(runs) == 2 * len(TINY)
    for one in runs:
        folder = out / f"{one.method}-{one.target}-seed{one.seed}-rate{one.rate:g}"
        assert (folder / "loss.csv").is_file() and (folder / "result.json").is_file()
        if one.method == "svd":
            assert (folder / "network.pt").is_file()
            continue
        network = Surrogate.load(folder, model.mechanism).network
        assert count(network, biases=False) == one.figures["weights"]
        assert validation_loss(network, data) == pytest.approx(one.loss, rel=1e-5, abs=0.0)


def test_an_interrupted_run_goes_on_from_its_checkpoint_and_ends_alike(finished, hydrogen):
    tables, out = finished
    (folder,) = out.glob("condensation-12-10-seed1-*")
    before = json.loads((folder / "result.json").read_text())["run"]
    last = (folder / "loss.csv").read_text().splitlines()[-1]
    (folder / "result.json").unlink()
    run(hydrogen, out, methods=("condensation",))
    after = json.loads((folder / "result.json").read_text())["run"]
    assert after["loss"] == pytest.approx(before["loss"], rel=1e-6, abs=0.0)
    assert (folder / "loss.csv").read_text().splitlines()[-1] == last  # with its seconds: nothing was left to train


def test_the_scan_of_a_longer_training_has_the_same_share_of_its_steps(hydrogen, tmp_path):
    """Retraining takes 12 steps and the large network took 48: a scan of 6 steps becomes one of 30."""
    changes = {"large_steps": 4 * FIT["steps"], "seeds": 1, "rates": [1e-3, 2e-3]}
    run(hydrogen, tmp_path / "out", methods=["scratch-steps"], **changes)
    results = [json.loads(path.read_text())["run"] for path in (tmp_path / "out" / "scan").glob("*/result.json")]
    assert {result["figures"]["steps"] for result in results} == {round(0.5 * 5 * FIT["steps"])}


def test_the_picture_takes_runs_of_several_comparisons_and_needs_at_least_one(tmp_path):
    pytest.importorskip("matplotlib")
    for name, weights, delay in (("a", 10, 1.0), ("b", 100, 0.2), ("none", 10, None)):
        figures = {"delay_mean": delay, "weights": weights, "failed": 0, "microseconds": 1.0}
        names = {"method": "qr", "target": "3", "rate": 1e-3, "loss": 0.1, "figures": figures}
        (tmp_path / name).mkdir()
        runs = [{**names, "seed": seed} for seed in range(2)]
        (tmp_path / name / "comparison.json").write_text(json.dumps({"runs": runs}))
    draw_pareto([tmp_path / "a", tmp_path / "b"], tmp_path / "pareto.png")
    assert (tmp_path / "pareto.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UsageError, match="no run"):
        draw_pareto([tmp_path / "none"], tmp_path / "nothing.png")
    with pytest.raises(FileError, match="no file"):
        draw_pareto([tmp_path], tmp_path / "nothing.png")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"widths": [12]}, "do not fit into a network of"),
        ({"widths": [25, 10]}, "do not fit into a network of"),
        ({"fit": {**FIT, "batch_size": 300}}, "300 rows for batches of 300"),
        ({"large_seconds": None, "methods": ["scratch-total"]}, "large_seconds"),
        ({"methods": ["condensatoin"]}, "no method condensatoin; did you mean condensation"),
        ({"fit": {**FIT, "batch_growth": 2.0}}, "batch_growth 1"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_any_work(hydrogen, tmp_path, changes, message):
    with pytest.raises(UsageError, match=message):
        run(hydrogen, tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["drm19", "published-widths", "quick", "rivals", "while-training"])
def test_what_ships_can_be_read(name):
    found = read_settings(name)
    assert found.seeds >= 2 and len(found.methods) >= 2


def test_settings_are_read_from_yaml(tmp_path):
    (tmp_path / "mine.yaml").write_text("widths: [12, 10]\nfit: {steps: 12}\nmethods: [qr, scratch-after]\n")
    found = read_settings(tmp_path / "mine.yaml")
    assert found.methods == ("qr", "scratch-after") and found.seeds == 3 and found.widths == (12, 10)
