"""What took minutes is replaced with `--overwrite` only; messages advise `--resume` where there is a run to resume."""

import json
import os
import shutil
import signal

import numpy as np
import pytest
from tiny_images import CONFIG, write_images

from chemnet.cli.main import main
from chemnet.data import dataset
from chemnet.data.dataset import Pairs
from chemnet.gas import canonical
from chemnet.gas.mechanism import load_mechanism
from chemnet.kinetics.cvodes import CvodesReactor
from chemnet.runtime.errors import FileError, UsageError
from chemnet.runtime.files import atomic, check_new, write_json
from chemnet.runtime.run_folder import check_no_run, finish_run
from chemnet.training import loop

DT = 1e-6
SMALL = [
    word
    for change in ("network.widths=[12, 24, 20, 12]", "fit.steps=40", "fit.report_every=10", "fit.rollouts=0")
    for word in ("--set", change)
]
STAGES = "stages: [{cuts: [{layer: 1, width: 16}], merge: refit, retrain: {steps: 20, report_every: 20, rollouts: 0}}]"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a training set, stages, and in `run` a training and a reduction of its model."""
    home = tmp_path_factory.mktemp("home")
    mechanism = load_mechanism("h2o2.yaml")
    start = np.hstack([1300.0, 1e5, canonical.premixed(mechanism, 1.0, {"H2": 1})])
    times, path = canonical.ignition_path(mechanism.gas(), start, 1e-2, 1e-3)
    states = canonical.states_along(times, path, 300, np.random.default_rng(0))
    next_states, _ = CvodesReactor(mechanism).advance(states, DT)
    split = (np.arange(300) % 6 == 0).astype(np.int8)
    pairs = Pairs(states, next_states, split, np.arange(300, dtype=np.int32), np.zeros(300, np.int8))
    facts = {"mechanism": "h2o2.yaml", "mechanism_sha256": mechanism.sha256, "dt": DT}
    dataset.write(home / "states.h5", [pairs], {**facts, "seed": 0, "rtol": 1e-6, "atol": 1e-12, "recipe": "by hand"})
    (home / "one.yaml").write_text(STAGES)
    train = ["train", "--config", "quick", "--data", str(home / "states.h5"), "--out", str(home / "run"), *SMALL]
    assert main([*train, "--device", "cpu"]) == 0
    data = ["--data", str(home / "states.h5"), "--out", str(home / "run"), "--device", "cpu"]
    assert main(["reduce", str(home / "run"), "--stages", str(home / "one.yaml"), *data]) == 0
    return home


@pytest.fixture
def home(trained, tmp_path, monkeypatch):
    """A copy of that folder, which is the current one."""
    shutil.copytree(trained, tmp_path / "home")
    monkeypatch.chdir(tmp_path / "home")
    return tmp_path / "home"


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


TRAIN = ["train", "--config", "quick", "--data", "states.h5", "--out", "run", "--device", "cpu", *SMALL]


def interrupt(monkeypatch, step):
    """Ctrl-C after a step of a training."""
    take = loop.Training.take_step

    def pressed(self, *arguments):
        sums = take(self, *arguments)
        if self.step == step:
            signal.raise_signal(signal.SIGINT)
        return sums

    with monkeypatch.context() as patch:
        patch.setattr(loop.Training, "take_step", pressed)
        assert main([*TRAIN, "--overwrite"]) == 130


def test_a_finished_training_stays_as_it_is_until_it_may_be_replaced(home, capsys):
    before = content(home)
    assert main([*TRAIN, "--seed", "1"]) == 2
    message = capsys.readouterr().err
    assert "run holds a finished training" in message and "--overwrite" in message and "--resume" not in message
    assert content(home) == before


def test_a_training_that_replaces_another_leaves_nothing_of_it(home, monkeypatch):
    (home / "run" / "notes.txt").write_text("mine")
    interrupt(monkeypatch, 15)
    left = {path.name for path in (home / "run").iterdir()}
    assert left == {"config.yaml", "loss.csv", "last.pt", "notes.txt"}


def test_an_unfinished_training_is_gone_on_with_or_refused_with_its_step(home, monkeypatch, capsys):
    interrupt(monkeypatch, 25)
    before = content(home)
    capsys.readouterr()
    assert main(TRAIN) == 2
    assert "run holds an unfinished training, at step 26\nGo on with --resume" in capsys.readouterr().err
    assert main([*TRAIN, "--resume", "--overwrite"]) == 2
    assert content(home) == before
    assert main([*TRAIN, "--resume"]) == 0
    assert "step 40," in capsys.readouterr().out


def test_commands_that_need_a_model_advise_to_finish_a_training_that_is_there(home, monkeypatch, capsys):
    interrupt(monkeypatch, 25)
    (home / "runs").mkdir()
    (home / "run").rename(home / "runs" / "mine")
    capsys.readouterr()
    advice = "chemnet train --config runs/mine/config.yaml --out runs/mine --resume"
    for command in (["reduce", "--config", "quick"], ["compare", "methods", "quick", "--config", "quick"]):
        assert main(command) == 4
        assert advice in capsys.readouterr().err
    for command in (["bench", "model", "runs/mine"], ["reduce", "runs/mine"], ["export", "runs/mine", "--to", "onnx"]):
        assert main(command) == 4
        message = capsys.readouterr().err
        assert f"runs/mine is not finished: {advice}" in message and len(message.splitlines()) <= 3


def test_a_scan_of_rates_replaces_no_training(home, capsys):
    scan = [*TRAIN, "--scan-rates", "1e-3", "2e-3", "--max-minutes", "0.001"]
    assert main(scan) == 0
    before = content(home / "run" / "rate-0.001") | content(home / "run" / "rate-0.002")
    shutil.rmtree(home / "run" / "rate-0.001")
    assert main(scan) == 2
    assert "rate-0.002 holds a training" in capsys.readouterr().err
    assert not (home / "run" / "rate-0.001").exists()
    assert content(home / "run" / "rate-0.002").items() <= before.items()
    assert main([*scan, "--overwrite"]) == 0


def test_stages_of_another_seed_are_refused_and_stay(home, capsys):
    before = content(home)
    command = ["reduce", "run", "--stages", "one.yaml", "--data", "states.h5", "--out", "run", "--seed", "3"]
    assert main(command) == 2
    assert "stage-1 was made from another model, data, seed or other settings" in capsys.readouterr().err
    assert content(home) == before
    assert main([*command, "--overwrite"]) == 0
    origin = json.loads((home / "run/stage-1/manifest.json").read_text())["origin"]
    assert origin != json.loads(before[home / "run/stage-1/manifest.json"])["origin"]


FILES = {
    "a set": ["sample", "--out", "kept"],
    "rows of a set": ["sample", "--out", "other.h5", "--manifest", "kept"],
    "an ONNX file": ["export", "drm19-small", "--to", "onnx", "--out", "kept"],
    "a folder": ["export", "drm19-small", "--to", "deepflame", "--out", "run"],
    "a model by edit": ["edit", "drm19-small", "--out", "kept"],
    "a model by guard": ["guard", "drm19-small", "--data", "states.h5", "--out", "kept"],
    "a validation": ["validate", "model", "drm19-small", "--quick", "--json", "kept"],
    "a validation of the exact step": ["validate", "exact", "--quick", "--json", "kept"],
    "a bench": ["bench", "exact", "--quick", "--json", "kept"],
    "the picture of a bench": ["bench", "exact", "--quick", "--picture", "kept"],
    "facts": ["info", "drm19", "--json", "kept"],
}


@pytest.mark.parametrize("command", FILES.values(), ids=FILES)
def test_a_file_that_is_there_is_refused_before_any_work(home, capsys, command):
    (home / "kept").write_text("of ten minutes")
    before = content(home)
    assert main(command) == 2
    shown = capsys.readouterr()
    assert "is there already" in shown.err and shown.out == ""
    assert content(home) == before


@pytest.mark.parametrize("command", FILES.values(), ids=FILES)
def test_a_place_that_cannot_be_written_to_is_refused_before_any_work(home, capsys, command):
    words = [word.replace("kept", "states.h5/kept") for word in command]
    words = [word if word != "run" or "deepflame" not in words else "states.h5/kept" for word in words]
    assert main(words) == 4
    shown = capsys.readouterr()
    assert "states.h5 is a file, not a folder" in shown.err and len(shown.err.splitlines()) <= 3 and shown.out == ""


def test_an_export_and_a_json_file_are_replaced_where_that_is_said(home):
    (home / "kept").write_text("old")
    assert main(["info", "drm19", "--json", "kept", "--overwrite"]) == 0
    assert json.loads((home / "kept").read_text())["tables"]


def test_the_images_training_and_reduction_are_kept_as_well(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "images.npz")
    changes = [word for change in (*CONFIG, "steps=1") for word in ("--set", change)]
    data = ["--data", "images.npz", *changes, "--device", "cpu"]
    train = ["vision", "train", *data, "--out", "run"]
    assert main(train) == 0
    (tmp_path / "run" / "reduction").mkdir()
    finish_run(tmp_path / "run" / "reduction", "automatic reduction", "short", {})
    before = content(tmp_path)
    for command in (train, ["vision", "reduce", "run", *data]):
        assert main(command) == 2
        assert "holds a finished" in capsys.readouterr().err
    assert content(tmp_path) == before
    assert main([*train, "--overwrite"]) == 0


def test_a_run_of_another_kind_is_never_replaced(tmp_path):
    finish_run(tmp_path, "run", "flow", {})
    for overwrite in (False, True):
        with pytest.raises(UsageError, match=r"holds another kind of run \(run\)\nName another folder"):
            check_no_run(tmp_path, "last.pt", "training", overwrite)


def test_an_empty_folder_and_a_path_that_is_free_are_taken(tmp_path):
    check_new(tmp_path / "a" / "b.json")
    check_new(tmp_path)
    write_json(tmp_path / "b.json", {})
    check_new(tmp_path / "b.json", overwrite=True)
    for path in (tmp_path, tmp_path / "b.json"):
        with pytest.raises(UsageError, match="is there already"):
            check_new(path)


def test_a_folder_without_permission_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(FileError, match=f"{tmp_path} cannot be written to\n"):
        check_new(tmp_path / "a" / "b.json")


@pytest.mark.parametrize("place", ["/proc/none/a.json", "x" * 300])
def test_a_path_that_cannot_be_is_a_file_error_whatever_the_reason(tmp_path, capsys, place):
    assert main(["info", "drm19", "--json", place if place[0] == "/" else str(tmp_path / place)]) == 4
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err and len(shown.err.splitlines()) <= 3


def test_a_folder_is_no_place_for_a_file(tmp_path):
    with pytest.raises(IsADirectoryError), atomic(tmp_path):
        pass
