"""The whole way of a user's own mechanism and fuel: sample, train, reduce, validate, and a flame by the reduced net."""

import json

import pytest

from cfd_coupling.__main__ import main as flow
from chemnet.cli.main import main
from chemnet.runtime.files import shipped

FLAME = (
    "name=hydrogen",
    "mechanism=h2o2.yaml",
    "mixture.fuel={H2: 1}",
    "end_time=2e-6",
    "grid={nx: 256, ny: 6, length_x: 3e-3, length_y: 7.03125e-5}",
    "initial.burnt_width=6e-4",
    "chemistry.kind=neural",
    "output.fields=[T, H2, OH]",
    "consumption_speed.fuel=H2",
)


@pytest.mark.slow
def test_hydrogen_goes_the_whole_way(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sampled = ["--mechanism", "h2o2.yaml", "--fuel", "H2", "--variant", "quick", "--set", "rows=6000"]
    assert main(["sample", *sampled, "--set", "integrator.audit=0.002", "--workers", "1"]) == 0
    data = ["--data", "datasets/h2o2/quick.h5"]
    short = ["--set", "fit.steps=800", "--set", "fit.report_every=400"]
    assert main(["train", "--config", "quick", *data, "--out", "runs/h2", *short]) == 0
    assert main(["reduce", "runs/h2", "--stage", "1", *data, "--out", "runs/h2", "--max-minutes", "0.05"]) == 0
    reduced = "runs/h2/stage-1"
    assert main(["info", reduced]) == 0
    cases = ["--set", "fuel={H2: 1}", "--set", "temperatures=[1500]", "--set", "equivalence_ratios=[1]"]
    assert main(["validate", "model", reduced, "--quick", *data, *cases, "--json", "validation.json"]) == 0
    shown = json.loads((tmp_path / "validation.json").read_text())["tables"][-1]["rows"]
    figures = {row["figure"]: row["value"] for row in shown}
    assert figures["cases that ignite by the model"] == 1 and figures["ignition delay error, max [%]"] < 30.0
    changes = [word for change in (*FLAME, f"chemistry.model={reduced}") for word in ("--set", change)]
    assert flow(["run", str(shipped("cases/free_flame")), "--variant", "short", *changes]) == 0
    assert (tmp_path / "runs/hydrogen-neural/manifest.json").is_file()
