"""Models for other programs: each file, used as its program uses it, gives the step of the model."""

import importlib
import sys

import cantera as ct
import numpy as np
import pytest
import torch
from tiny_model import save_tiny_model

from chemnet.cli import main as cli
from chemnet.gas.closure import Closure
from chemnet.gas.status import Status
from chemnet.kinetics import RosenbrockReactor
from chemnet.runtime.errors import UsageError
from chemnet.runtime.files import write_json
from chemnet.surrogate import model_file
from chemnet.surrogate.export import export
from chemnet.surrogate.model import Surrogate
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


@pytest.fixture
def inference(model, tmp_path, monkeypatch):
    """The module as DeepFlame imports it: from the case folder, by its name."""
    export(model, "deepflame", tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "inference", raising=False)
    yield importlib.import_module("inference")
    sys.modules.pop("inference", None)


def test_deepflame_gets_mass_rates_for_its_flat_rows(model, states, inference, tmp_path):
    gas = ct.Solution(str(tmp_path / "mechanism-nitrogen-last.yaml"))
    assert gas.species_names[-1] == "N2" and gas.n_reactions == 84
    order = [model.mechanism.index(name) for name in gas.species_names]
    density = np.linspace(0.1, 1.0, len(states))
    rows = np.column_stack([states[:, 0], states[:, 1] / 101325.0, states[:, 2:][:, order], density])
    rates = inference.inference(rows.ravel())
    expected = density[:, None] * (model.advance(states)[0] - states)[:, 2:][:, order] / model.dt
    assert rates.shape == (40, 21)
    np.testing.assert_allclose(rates, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
    np.testing.assert_allclose(rates.sum(axis=1), 0.0, rtol=0, atol=1e-9 * np.abs(expected).max())


def test_deepflame_gets_exact_rates_where_the_model_has_none_and_zero_for_nonsense(model, states, inference):
    rows = np.column_stack([states[:, 0], states[:, 1] / 101325.0, states[:, 2:], np.ones(len(states))])[:3]
    rows[0, 0] = 2500.0  # beyond the tiny model's domain
    rows[1, 4] = np.nan
    swapped = rows.copy()
    swapped[:, 21], swapped[:, 22] = rows[:, 22], rows[:, 21]  # N2 comes last here, AR in drm19
    rates = inference.inference(swapped.ravel())
    hot = rows[:1, :-1] * np.where(np.arange(23) == 1, 101325.0, 1.0)
    exact, _ = RosenbrockReactor(model.mechanism).advance(hot, model.dt)
    np.testing.assert_allclose(rates[0, :19], (exact[0, 2:21] - rows[0, 2:21]) / model.dt, rtol=1e-9, atol=1e-3)
    assert not np.nan_to_num(rates[1]).any() and rates[2].any()


def test_a_model_of_a_mechanism_of_cantera_is_exported_too(tmp_path):
    model = Surrogate.load(save_tiny_model(tmp_path / "tiny.safetensors", 1e-6, "h2o2.yaml"))
    export(model, "deepflame", tmp_path / "case")
    assert ct.Solution(str(tmp_path / "case" / "mechanism-nitrogen-last.yaml")).species_names[-1] == "N2"


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
