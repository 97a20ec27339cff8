"""Run folders: which run it is, whether it is finished, and what is refused."""

import hashlib
import json

import numpy as np
import pytest
import torch

from chemnet.runtime.errors import UsageError
from chemnet.runtime.files import read_json
from chemnet.runtime.run_folder import begin_run, check_same, finish_run, latest_run, read_kept, sha256, write_kept

FACTS = {"seed": 0, "fit": {"rate": 0.1, "widths": (3, 4)}, "data": "abc"}


def test_a_fingerprint_is_the_sha256_of_bytes_and_of_plain_data_in_any_order(tmp_path):
    array = np.arange(6.0).reshape(2, 3)
    assert sha256(array) == sha256(torch.from_numpy(array)) == hashlib.sha256(array.tobytes()).hexdigest()
    assert sha256(array.T) == hashlib.sha256(array.T.copy().tobytes()).hexdigest()
    (tmp_path / "file").write_bytes(b"abc")
    assert sha256("abc") == sha256(tmp_path / "file") == hashlib.sha256(b"abc").hexdigest()
    assert sha256({"a": 1, "b": 2}) == sha256({"b": 2, "a": 1}) != sha256({"a": 1, "b": 3})


def test_the_first_fact_that_differs_is_named_with_both_values_and_the_way_out(tmp_path):
    check_same(tmp_path / "last.pt", json.loads(json.dumps(FACTS)) | {"more": 1}, FACTS)
    changes = {
        "seed was 1, is 0": {"seed": 1},
        r"fit\.rate was 0\.2, is 0\.1": {"fit": {"rate": 0.2, "widths": [3, 5]}},
        "data was None, is abc": {"data": None},
    }
    for message, change in changes.items():
        with pytest.raises(UsageError, match=rf"last\.pt is of another run: {message}\nRestore it"):
            check_same(tmp_path / "last.pt", FACTS | change, FACTS)
    with pytest.raises(UsageError, match=r"\.\.\., is abc\nChoose another --out\."):
        check_same(tmp_path, FACTS | {"data": "x" * 100}, FACTS, "Choose another --out.")


def test_a_run_that_begins_is_not_finished_and_one_that_is_refused_stays_as_it_was(tmp_path):
    finish_run(tmp_path, "training", "quick", {"steps": 3})
    with pytest.raises(UsageError, match="seed was 1, is 0"):
        begin_run(tmp_path, FACTS, FACTS | {"seed": 1})
    manifest = read_json(tmp_path / "manifest.json")
    assert (manifest["kind"], manifest["name"], manifest["steps"]) == ("training", "quick", 3)
    assert manifest["files"] == [] and manifest["generator"].startswith("chemnet ")
    begin_run(tmp_path, FACTS, FACTS)
    assert not (tmp_path / "manifest.json").exists()


def test_the_newest_finished_run_of_a_kind_and_name_is_found(tmp_path):
    assert latest_run("quick", tmp_path) is None
    for folder, time in (("older", "2001"), ("newer", "2002")):
        begin_run(tmp_path / folder, {})
        finish_run(tmp_path / folder, "training", "quick", {"finished": time})
    assert latest_run("quick", tmp_path) == tmp_path / "newer"
    assert latest_run("drm19", tmp_path) is latest_run("quick", tmp_path, "reduction") is None


def test_a_kept_result_is_taken_only_if_it_was_made_from_the_same(tmp_path):
    path = tmp_path / "result.json"
    assert read_kept(path, "a") is None
    write_kept(path, "a", {"loss": 0.5})
    assert read_kept(path, "a") == {"origin": "a", "loss": 0.5} and read_kept(path, "b") is None
    for damaged in ("[1]", "{}", "{"):
        path.write_text(damaged)
        assert read_kept(path, "a") is None
