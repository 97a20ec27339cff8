"""Models for other programs: each file, used as its program uses it, gives the step of the model."""

import copy
import errno
import importlib
import json
import os
import sys
import warnings

import numpy as np
import pytest
import torch
from tiny_model import save_tiny_model

from chemnet.cli import main as cli
from chemnet.gas.closure import Closure
from chemnet.gas.status import Status
from chemnet.runtime.errors import UsageError
from chemnet.runtime.files import write_json
from chemnet.surrogate import model_file
from chemnet.surrogate.export import export
from chemnet.surrogate.model import Surrogate
from chemnet.surrogate.torchscript import ClosedStep
from chemnet.validation.metrics import Figure, summary


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return Surrogate.load(save_tiny_model(tmp_path_factory.mktemp("model") / "tiny.safetensors", 1e-6))


@pytest.fixture(scope="module")
def states():
    """Rows that the model answers for, (40, 23)."""
    rng = np.random.default_rng(2)
    return np.column_stack([rng.uniform(600, 2000, 40), np.full(40, 1.2e5), rng.dirichlet(np.full(21, 0.3), 40)])


def closed(model, states, mass_fractions):
    after = np.empty_like(states)
    ok, _ = Closure(model.mechanism).close(states, np.ascontiguousarray(mass_fractions), after)
    assert ok.all()
    return after


def check(model, states, mass_fractions):
    """With the closure, the exported way gives what `advance` gives."""
    expected, status = model.advance(states)
    assert (status == Status.OK).all() and np.abs(expected - states)[:, 2:].max() > 1e-4
    found = closed(model, states, mass_fractions)
    np.testing.assert_allclose(found[:, 2:], expected[:, 2:], rtol=0, atol=1e-9)
    np.testing.assert_allclose(found[:, 0], expected[:, 0], rtol=1e-6, atol=0)


def test_the_onnx_file_gives_the_step(model, states, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    (file,) = export(model, "onnx", tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    check(model, states, session.run(None, {"states": states})[0])
    facts = session.get_modelmeta().custom_metadata_map
    assert facts["dt"] == "1e-06" and facts["species"].split() == list(model.mechanism.species_names)


def test_the_program_of_torch_gives_the_step(model, states, tmp_path):
    (file,) = export(model, "torch", tmp_path / "model.pt2")
    program = torch.export.load(file).module()
    with torch.no_grad():
        check(model, states, program(torch.from_numpy(states)).numpy())
        assert program(torch.from_numpy(states[:1])).shape == (1, 21)


def test_torchscript_gives_the_whole_step(model, states, tmp_path):
    (file,) = export(model, "torchscript", tmp_path / "model.pt")
    facts = {"dt": "", "species": ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript as a whole is deprecated
        step = torch.jit.load(str(file), _extra_files=facts)
    given = states.copy()
    given[:4, 0] = 2500.0, 100.0, np.nan, 2199.0  # outside, invalid, invalid
    given[5, 2], given[6, 2:] = -0.1, np.eye(21)[3]  # invalid, one species alone
    cold = model.with_limits(cold_limit=700.0, calm_limit=1e-3)
    (second,) = export(cold, "torchscript", tmp_path / "cold.pt")
    network = copy.deepcopy(model.network)
    network[-1].bias.data[5] = np.inf
    broken = model.with_network(network)
    (third,) = export(broken, "torchscript", tmp_path / "broken.pt")
    assert (broken.advance(states).status == Status.FAILED).all()
    for one, path in ((broken, third), (model, file), (cold, second)):
        expected, status = one.advance(given)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore", DeprecationWarning)
            after, found = torch.jit.load(str(path))(torch.from_numpy(given))
        np.testing.assert_array_equal(found.numpy(), status)
        np.testing.assert_allclose(after[:, 2:].numpy(), expected[:, 2:], rtol=0, atol=1e-9)
        np.testing.assert_allclose(after[:, 0].numpy(), expected[:, 0], rtol=1e-6, atol=0)
        kept = (after[:, 2:].numpy() - given[:, 2:]) @ model.mechanism.element_mass.T
        np.testing.assert_allclose(np.nan_to_num(kept), 0.0, rtol=0, atol=1e-12)
    assert set(status) >= {Status.OK, Status.INVALID, Status.OUTSIDE, Status.SLOW}
    assert float(facts["dt"]) == 1e-6 and facts["species"].decode().split() == list(model.mechanism.species_names)
    with torch.no_grad():
        assert step(torch.from_numpy(states[:1]))[0].shape == (1, 23)


def test_gas_without_an_element_is_closed_by_what_is_exported_as_by_chemnet(tmp_path, monkeypatch):
    """The network predicts traces of carbon species where there is no carbon; the closure takes them away again."""
    model = Surrogate.load(save_tiny_model(tmp_path / "tiny.safetensors", 1e-6, "gri30.yaml"))
    mechanism, rng = model.mechanism, np.random.default_rng(0)
    Y = rng.dirichlet(np.full(53, 0.3), 200)
    Y[:, mechanism.atoms[mechanism.element_names.index("C")] > 0] = 0.0
    Y /= Y.sum(axis=1, keepdims=True)
    given = np.column_stack([rng.uniform(600, 2000, 200), np.full(200, 1.2e5), Y])
    expected, status = model.advance(given)
    assert (status == Status.OK).all() and (np.abs(expected - given)[:, 2:].max(axis=1) > 1e-6).all()
    with torch.no_grad():
        after, _ = ClosedStep(model)(torch.from_numpy(given))
    np.testing.assert_allclose(after[:, 2:].numpy(), expected[:, 2:], rtol=0, atol=1e-9)
    export(model, "deepflame", tmp_path / "case")
    monkeypatch.syspath_prepend(tmp_path / "case")
    numpy_step = importlib.import_module("chemnet_step")
    monkeypatch.delitem(sys.modules, "chemnet_step")
    with np.load(tmp_path / "case" / "model.npz") as file:
        facts = json.loads(str(file["facts"]))
        step = numpy_step.Step(dict(file), facts)
    order = [2 + mechanism.index(name) for name in facts["species"]]
    change, _ = step.changes(given[:, [0, 1, *order]])
    np.testing.assert_allclose(change, (expected - given)[:, order], rtol=0, atol=1e-9)


@pytest.mark.parametrize("target", ["onnx", "torch", "torchscript", "deepflame"])
def test_an_export_is_replaced_only_when_asked(target, model, tmp_path):
    if target == "onnx":
        pytest.importorskip("onnx")
    out = tmp_path / "out"
    files = export(model, target, out)
    files[0].write_bytes(b"of the user")
    with pytest.raises(UsageError, match="out is there already\nChoose another --out, or .* --overwrite"):
        export(model, target, out)
    assert files[0].read_bytes() == b"of the user"
    assert export(model, target, out, overwrite=True) == files
    assert files[0].read_bytes() != b"of the user"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_in_which_deepflame_has_run_is_not_replaced(model, tmp_path):
    export(model, "deepflame", tmp_path / "case")
    (tmp_path / "case" / "0.001").mkdir()
    with pytest.raises(UsageError, match="holds more than an export, 0.001 for one"):
        export(model, "deepflame", tmp_path / "case", overwrite=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(UsageError, match="is no export for DeepFlame, and is not replaced"):
        export(model, "deepflame", tmp_path / "other", overwrite=True)
    assert (tmp_path / "case" / "0.001").is_dir() and (tmp_path / "other" / "thesis.tex").is_file()


def test_a_folder_that_fails_on_the_way_leaves_nothing(model, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    export(model, "deepflame", tmp_path / "case")
    before = (tmp_path / "case" / "model.npz").read_bytes()
    monkeypatch.setattr("chemnet.surrogate.deepflame.folder.plain_arrays", fail)
    for out in ("case", "new"):
        with pytest.raises(OSError):
            export(model, "deepflame", tmp_path / out, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["case"]
    assert (tmp_path / "case" / "model.npz").read_bytes() == before


@pytest.mark.parametrize("target", ["onnx", "torch", "torchscript", "deepflame"])
def test_the_command_says_in_few_lines_where_it_cannot_write(target, model, tmp_path, capsys, monkeypatch):
    if target == "onnx":
        pytest.importorskip("onnx")
    model.save(tmp_path / "tiny.safetensors")
    (tmp_path / "file").touch()
    arguments = ["export", str(tmp_path / "tiny.safetensors"), "--to", target, "--out"]
    assert cli.main([*arguments, str(tmp_path / "file" / "out")]) == 4
    assert cli.main([*arguments, str(tmp_path / "tiny.safetensors")]) == 2  # what is there is not replaced
    monkeypatch.setattr(os, "mkdir", forbidden)
    assert cli.main([*arguments, str(tmp_path / "new" / "out")]) == 4
    message = capsys.readouterr().err
    assert "file is a file, not a folder\nChoose another folder." in message and "Traceback" not in message
    assert "Permission denied" in message and "new\nChoose another file or folder." in message


def forbidden(path, *_):
    """In the place of `os.mkdir`, as for a user who may not write there."""
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)


def test_the_command_writes_a_model_with_another_engine_and_smaller_weights(model, tmp_path, capsys):
    model.save(tmp_path / "model.safetensors")
    out = tmp_path / "small.safetensors"
    command = ["edit", str(tmp_path), "--engine", "bf16", "--weights", "bf16", "--out", str(out)]
    assert cli.main([*command, "--cold-limit", "700", "--calm-limit", "0.02"]) == 0
    changed = Surrogate.load(out)
    assert (changed.cold_limit, changed.calm_limit) == (700.0, 0.02)
    assert changed.engine in ("bf16", "fp32") and out.stat().st_size < 0.9 * 16_000
    assert str(out) in capsys.readouterr().out


def test_the_figures_of_a_ladder_are_kept_in_the_model_and_told(model, tmp_path, capsys, monkeypatch):
    model.save(tmp_path / "model.safetensors")
    found = [Figure("ignition", "ignition delay error, mean [%]", 0.25, 0.5), Figure("cold", "failures", None)]
    write_json(tmp_path / "ladder.json", {"tables": [summary(found, "tiny").as_json()]})
    out = tmp_path / "shipped" / "tiny.safetensors"
    keep = ["--validation", str(tmp_path / "ladder.json"), "--out", str(out)]
    assert cli.main(["edit", str(tmp_path), *keep]) == 0
    ladder = Surrogate.load(out).metadata["ladder"]
    assert ladder == {"ignition": {"ignition delay error, mean [%]": 0.25}, "cold": {"failures": None}}
    monkeypatch.setattr(model_file, "PRETRAINED", out.parent)
    capsys.readouterr()
    assert cli.main(["info", "--models"]) == 0
    known, figures = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("tiny ")]
    assert known == ["tiny", "drm19", "21", "CH4", "1", "1", "1e-06", "736", "fp32"]
    assert figures == ["tiny", "-", "0.25", *["-"] * 8]


def test_what_does_not_fit_is_refused(model, tmp_path):
    with pytest.raises(UsageError, match="no target tf; there are onnx"):
        export(model, "tf", tmp_path / "model")
