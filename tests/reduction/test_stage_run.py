"""Reduction by stages: recipes that fit or say why not, earlier stages made or taken, numbers in the report."""

import dataclasses
import json
import shutil

import pytest
import torch
from untrained_model import untrained

from chemnet.reduction import run
from chemnet.reduction.run import table
from chemnet.reduction.stage_run import Bench, Delays, StageReport, run_stages
from chemnet.reduction.stages import Stages, read_stages
from chemnet.runtime.config import parse, parse_yaml
from chemnet.runtime.errors import FileError, UsageError
from chemnet.surrogate.model import Surrogate
from chemnet.surrogate.network import build, count, describe
from chemnet.training.batches import validation_loss
from chemnet.training.config import load_config

RETRAIN = {"steps": 30, "learning_rate": 1e-3, "batch_size": 64, "report_every": 30}
SILENT = {"report": lambda line: None}


def bench(data, say=lambda line: None, **options):
    return Bench(data, say=say, **options)


def recipe(*cuts, **rule):
    return parse(Stages, {"stages": [{"cuts": [cut], "retrain": RETRAIN, **rule} for cut in cuts]}, "recipe")


@pytest.fixture(scope="module")
def hydrogen():
    return untrained("h2o2.yaml", 400, "relu")


def test_the_stage_asked_for_makes_the_earlier_ones_and_reports_sizes_and_losses(hydrogen, tmp_path):
    model, data = hydrogen
    three = recipe({"layer": 1, "width": 16}, {"layer": 2, "width": 10}, {"layer": 1, "threshold": 0.2})
    reports = run_stages(model, bench(data), three, 3, tmp_path / "tiny")
    assert [r.stage for r in reports] == [1, 2, 3]
    assert [r.widths[1:3] for r in reports[:2]] == [(16, 20), (16, 10)]
    assert reports[0].loss_before == validation_loss(model.network, data)
    for earlier, later in zip(reports[:-1], reports[1:], strict=True):
        assert later.loss_before == pytest.approx(earlier.loss_after, rel=1e-6, abs=0)
    for r in reports:
        network = Surrogate.load(tmp_path / "tiny" / f"stage-{r.stage}", model.mechanism).network
        assert describe(network).widths == r.widths
        assert (count(network, biases=False), count(network, biases=True)) == (r.weights, r.weights_and_biases)
        assert validation_loss(network, data) == pytest.approx(r.loss_after, rel=1e-6, abs=0)
        assert r.loss_after < r.loss_at_once
        assert r.steps == RETRAIN["steps"]


def test_a_stage_folder_holds_model_report_settings_loss_curve_and_a_manifest(hydrogen, tmp_path):
    model, data = hydrogen
    reports = run_stages(model, bench(data), recipe({"layer": 1, "width": 16}), 1, tmp_path / "tiny")
    folder = tmp_path / "tiny" / "stage-1"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {"model.safetensors", "report.json", "stage.yaml", "loss.csv", "last.pt"} <= set(manifest["files"])
    assert (manifest["kind"], manifest["name"]) == ("reduction", "tiny/stage-1")
    assert StageReport.model_validate(json.loads((folder / "report.json").read_text())) == reports[0]
    metadata = Surrogate.load(folder, model.mechanism).metadata
    assert metadata["made"] == "here"
    assert [entry["stage"] for entry in metadata["stages"]] == [1]
    assert metadata["validation_loss"] == reports[0].loss_after


def test_an_earlier_stage_is_taken_only_if_it_was_made_from_the_same_weights_settings_data_and_seed(hydrogen, tmp_path):
    model, data = hydrogen
    two = recipe({"layer": 1, "width": 16}, {"layer": 2, "width": 10})
    run_stages(model, bench(data), two, 1, tmp_path / "made")

    def taken(model=model, data=data, recipe=two, **options):
        shutil.copytree(tmp_path / "made", tmp_path / "tiny", dirs_exist_ok=True)
        lines: list[str] = []
        run_stages(model, bench(data, lines.append, overwrite=True, **options), recipe, 2, tmp_path / "tiny")
        return any(line.startswith("stage 1: taken from") for line in lines)

    other_start = describe(model.network).model_copy(update={"initialisation": "default"})
    assert taken()
    assert taken(recipe=recipe({"layer": 1, "width": 16}, {"layer": 2, "width": 9}))
    assert not taken(recipe=recipe({"layer": 1, "width": 15}, {"layer": 2, "width": 10}))
    assert not taken(seed=1)
    assert not taken(data=dataclasses.replace(data, y_val=data.y_val + 1.0))
    assert not taken(model=model.with_network(build(other_start, seed=2)))


def interrupted(model, data, recipe, stage, out, at):
    """Run stages until the line that starts with `at` is said."""

    def interrupt(line):
        if line.startswith(at):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_stages(model, bench(data, interrupt), recipe, stage, out)


def test_a_stage_interrupted_half_way_goes_on_and_ends_as_if_it_had_not_been(hydrogen, tmp_path):
    model, data = hydrogen
    retrain = RETRAIN | {"report_every": 10}
    two = [{"cuts": [{"layer": i, "width": w}], "retrain": retrain} for i, w in ((1, 16), (2, 10))]
    two = parse(Stages, {"stages": two}, "recipe")
    expected = run_stages(model, bench(data), two, 2, tmp_path / "whole")
    run_stages(model, bench(data), two, 1, tmp_path / "broken")
    interrupted(model, data, two, 2, tmp_path / "broken", "step 20")
    lines: list[str] = []
    reports = run_stages(model, bench(data, lines.append), two, 2, tmp_path / "broken")
    assert lines[0].startswith("stage 1: taken from")
    assert [line.split(",")[0] for line in lines if line.startswith("step")] == ["step 20", "step 30"]
    assert [r.loss_after for r in reports] == [r.loss_after for r in expected]
    first, second = (Surrogate.load(tmp_path / name / "stage-2", model.mechanism) for name in ("whole", "broken"))
    weights = zip(first.network.parameters(), second.network.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in weights)


def test_a_stage_of_other_settings_is_kept_until_it_may_be_replaced(hydrogen, tmp_path):
    model, data = hydrogen
    often = {"cuts": [{"layer": 1, "width": 16}], "retrain": RETRAIN | {"report_every": 10}}
    interrupted(model, data, parse(Stages, {"stages": [often]}, "recipe"), 1, tmp_path, "step 20")
    other, lines = recipe({"layer": 1, "width": 15}), list[str]()
    kept = {path: path.read_bytes() for path in (tmp_path / "stage-1").iterdir()}
    with pytest.raises(UsageError, match="stage-1 was made from another model, .*\n.* with --overwrite"):
        run_stages(model, bench(data), other, 1, tmp_path)
    assert {path: path.read_bytes() for path in (tmp_path / "stage-1").iterdir()} == kept
    run_stages(model, bench(data, lines.append, overwrite=True), other, 1, tmp_path)
    assert any(line.startswith("step 0,") for line in lines)


def test_a_later_stage_that_would_be_lost_is_named_before_an_earlier_one_is_made(hydrogen, tmp_path):
    model, data = hydrogen
    two = recipe({"layer": 1, "width": 16}, {"layer": 2, "width": 10})
    run_stages(model, bench(data), two, 2, tmp_path)
    shutil.rmtree(tmp_path / "stage-1")
    with pytest.raises(UsageError, match="stage-2 was made from another model"):
        run_stages(model, bench(data), recipe({"layer": 1, "width": 15}, {"layer": 2, "width": 10}), 2, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["stage-2"]


def test_a_finished_stage_is_not_made_twice(hydrogen, tmp_path):
    model, data = hydrogen
    one = recipe({"layer": 1, "width": 16})
    first = run_stages(model, bench(data), one, 1, tmp_path)
    lines: list[str] = []
    assert run_stages(model, bench(data, lines.append), one, 1, tmp_path) == first
    assert lines == [f"stage 1: taken from {tmp_path / 'stage-1'}"]


def test_the_change_of_the_outputs_is_measured_and_a_rule_that_is_not_exact_is_warned_of(hydrogen, tmp_path):
    model, data = hydrogen
    start = describe(model.network).model_copy(update={"activation": "gelu", "initialisation": "default"})
    curved, lines = model.with_network(build(start, seed=1)), list[str]()
    (report,) = run_stages(curved, bench(data, lines.append), recipe({"layer": 1, "width": 4}), 1, tmp_path / "gelu")
    assert any(
        line.startswith("warning: merging by the paper's rule is exact for activations like ReLU only")
        for line in lines
    )
    assert not report.exact and report.output_change > 0.01
    lines.clear()
    (report,) = run_stages(model, bench(data, lines.append), recipe({"layer": 1, "width": 24}), 1, tmp_path / "relu")
    assert not any(line.startswith("warning") for line in lines)
    assert report.exact and report.output_change < 1e-6


def test_the_delays_of_a_stage_before_are_those_after_the_stage_before_it(hydrogen, tmp_path):
    model, data = hydrogen
    seen: list[tuple[int, ...]] = []

    def delays(model):
        seen.append(describe(model.network).widths[1:3])
        return Delays(mean=float(len(seen)), max=None, failed=0, cases=1)

    two = recipe({"layer": 1, "width": 16}, {"layer": 2, "width": 10})
    reports = run_stages(model, bench(data, delays=delays), two, 2, tmp_path)
    assert seen == [(24, 20), (16, 20), (16, 10)]
    assert [(r.delays_before.mean, r.delays_after.mean) for r in reports] == [(1.0, 2.0), (2.0, 3.0)]


def test_a_permitted_loss_increase_is_kept_on_the_states_that_it_looks_at(hydrogen, tmp_path):
    model, data = hydrogen
    cut = recipe({"layer": 1, "loss_increase": 0.05}, choice="forward", merge="refit", round_to=4)
    (report,) = run_stages(model, bench(data), cut, 1, tmp_path)
    assert report.widths[1] in (4, 8, 12, 16, 20)
    assert report.loss_at_once <= 1.05 * report.loss_before


def test_the_table_compares_every_stage_with_the_original(hydrogen):
    model, _ = hydrogen
    report = StageReport(
        stage=1,
        widths=(12, 12, 20, 12),
        weights=624,
        weights_and_biases=668,
        loss_before=0.2,
        loss_at_once=0.5,
        loss_after=0.1,
        output_change=0.3,
        exact=True,
        delays_before=Delays(mean=0.2, max=1.0, failed=0, cases=25),
        delays_after=Delays(mean=0.3, max=2.0, failed=1, cases=25),
        steps=3,
        seconds=1.0,
    )
    first, second = table(model, [report]).as_json()["rows"]
    assert (first["widths"], first["weights"], first["with biases"]) == ("12-24-20-12", 1008, 1064)
    assert (first["weights [%]"], first["retrained"]) == (100.0, 0.2)
    assert second["weights [%]"] == pytest.approx(61.905, rel=1e-4, abs=0)
    assert (second["loss before"], second["at once"], second["retrained"]) == (0.2, 0.5, 0.1)
    errors = ("delay error, mean [%]", "max [%]", "failed")
    assert [[row[name] for name in errors] for row in (first, second)] == [[0.2, 1.0, 0], [0.3, 2.0, 1]]


def test_every_config_that_ships_names_a_recipe_that_fits_its_network():
    for name in ("paper", "drm19", "quick"):
        config = load_config(name)
        settings = read_stages(config.reduction)
        settings.check(config.network.widths[1:-1], len(settings.stages))


@pytest.mark.parametrize("name", ["paper", "published"])
def test_the_published_widths_give_the_counts_of_table_1(name):
    counts, widths = [], list(load_config("paper").network.widths)
    for stage in read_stages(name).stages:
        for cut in stage.cuts:
            widths[cut.layer] = cut.width
        counts.append(sum(a * b for a, b in zip(widths[:-1], widths[1:], strict=True)))
    assert counts == [5_187_915, 3_402_615, 2_848_260]


def test_the_published_recipe_merges_and_retrains_as_published():
    settings = read_stages("published")
    assert {(stage.choice, stage.merge) for stage in settings.stages} == {("cosine", "paper")}
    assert [stage.retrain.rate_at(0, 0.0) for stage in settings.stages] == [1e-4, 1e-4, 4e-5]
    assert [settings.stages[0].retrain.batch_at(step) for step in (0, 2499, 2500, 4999)] == [1024, 1024, 131072, 131072]


def test_the_deep_recipe_fits_the_large_network_with_widths_that_processors_like():
    settings = read_stages("deep")
    settings.check(load_config("drm19").network.widths[1:-1], len(settings.stages))
    assert {cut.width % 32 for stage in settings.stages for cut in stage.cuts} == {0}


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ("", "stages"),
        ("{cuts: [], retrain: {steps: 1}}", "cuts"),
        (
            "{cuts: [{layer: 1, width: 4, threshold: 0.9}], retrain: {steps: 1}}",
            "one of threshold, width and",
        ),
        ("{cuts: [{layer: 1}], retrain: {steps: 1}}", "one of threshold, width"),
        ("{cuts: [{layer: 0, width: 4}], retrain: {steps: 1}}", "layer"),
        ("{cuts: [{layer: 1, width: 4}]}", "retrain"),
        ("{cuts: [{layer: 1, widht: 4}], retrain: {steps: 1}}", "did you mean width"),
        ("{cuts: [{layer: 1, width: 4}], choise: qr, retrain: {steps: 1}}", "did you mean choice"),
        ("{cuts: [{layer: 1, width: 4}], choice: qr, retrain: {steps: 1}}", "use merge: refit"),
        ("{cuts: [{layer: 1, width: 4}], retrain: {steps: 1, stepps: 2}}", "did you mean steps"),
    ],
)
def test_bad_stages_say_what_is_wrong(stage, message):
    with pytest.raises(UsageError, match=message) as error:
        parse(Stages, parse_yaml(f"stages: [{stage}]", "my.yaml"), "my.yaml")
    assert str(error.value).startswith("my.yaml")
    assert len(str(error.value).splitlines()) <= 3


@pytest.mark.parametrize(
    ("cuts", "stage", "message"),
    [
        ([{"layer": 4, "width": 2}], 1, "stage 1: layer 4: the network has hidden layers 1 to 2"),
        ([{"layer": 1, "width": 25}], 1, "stage 1: layer 1: width 25 of 24 neurons"),
        ([{"layer": 1, "width": 10}, {"layer": 1, "width": 11}], 2, "stage 2: layer 1: width 11 of 10 neurons"),
        ([{"layer": 1, "width": 10}], 2, "stage 2: there are stages 1 to 1"),
        ([{"layer": 1, "width": 10}], 0, "stage 0: there are stages 1 to 1"),
    ],
)
def test_a_recipe_that_does_not_fit_the_network_is_refused_before_any_work(hydrogen, tmp_path, cuts, stage, message):
    model, data = hydrogen
    with pytest.raises(UsageError, match=message):
        run_stages(model, bench(data), recipe(*cuts), stage, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("layers", [(2, 1), (1, 1)])
def test_the_cuts_of_one_stage_name_each_layer_once_in_ascending_order(layers):
    cuts = [{"layer": layer, "width": 4} for layer in layers]
    settings = parse(Stages, {"stages": [{"cuts": cuts, "retrain": RETRAIN}]}, "recipe")
    with pytest.raises(UsageError, match="stage 1: cuts of layers .* ascending"):
        settings.check((24, 20), 1)


def test_an_unknown_recipe_lists_those_that_ship_and_a_missing_file_is_a_file_error(tmp_path):
    with pytest.raises(UsageError, match="no stages papper; did you mean paper"):
        read_stages("papper")
    with pytest.raises(FileError, match="no file"):
        read_stages(tmp_path / "mine.yaml")


def test_without_a_finished_training_the_command_says_how_to_make_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileError, match="chemnet train --config quick"):
        run.reduce(config="quick", stage=1, **SILENT)


def test_a_model_without_a_config_in_its_metadata_needs_one_named(tmp_path):
    untrained("drm19", 20, "relu")[0].save(tmp_path / "model.safetensors")
    with pytest.raises(UsageError, match="--config"):
        run.reduce(tmp_path / "model.safetensors", **SILENT)
