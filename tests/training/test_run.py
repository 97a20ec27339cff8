"""From a training set to a run folder: what a training leaves behind, what it takes up again, what it refuses."""

import re
import subprocess
import sys

import numpy as np
import pytest

from chemnet.data import dataset
from chemnet.data.dataset import Pairs
from chemnet.gas import canonical
from chemnet.gas.mechanism import load_mechanism
from chemnet.kinetics.cvodes import CvodesReactor
from chemnet.runtime.errors import FileError, UsageError
from chemnet.runtime.files import read_json
from chemnet.runtime.run_folder import latest_run
from chemnet.surrogate.hybrid import HybridStep
from chemnet.surrogate.model import Surrogate
from chemnet.training.config import load_config
from chemnet.training.rate_scan import scan_rates
from chemnet.training.run import train
from chemnet.training.tensors import load_learning_set

DT = 1e-6
SILENT = {"report": lambda line: None}


@pytest.fixture(scope="module")
def training_set(tmp_path_factory):
    """Hydrogen and air on their way to equilibrium, 300 pairs, a sixth of them for validation."""
    mechanism = load_mechanism("h2o2.yaml")
    start = np.hstack([1300.0, 1e5, canonical.premixed(mechanism, 1.0, {"H2": 1})])
    times, path = canonical.ignition_path(mechanism.gas(), start, 1e-2, 1e-3)
    states = canonical.states_along(times, path, 300, np.random.default_rng(0))
    next_states, _ = CvodesReactor(mechanism).advance(states, DT)
    split = (np.arange(300) % 6 == 0).astype(np.int8)
    pairs = Pairs(states, next_states, split, np.arange(300, dtype=np.int32), np.zeros(300, np.int8))
    facts = {"mechanism": "h2o2.yaml", "mechanism_sha256": mechanism.sha256, "dt": DT}
    file = tmp_path_factory.mktemp("data") / "states.h5"
    dataset.write(file, [pairs], {**facts, "seed": 0, "rtol": 1e-6, "atol": 1e-12, "recipe": "by hand"})
    return file


@pytest.fixture
def config(training_set):
    changes = [f"data={training_set}", "network.widths=[12, 24, 24, 12]", "fit.steps=60", "fit.warmup_steps=5"]
    changes.append("fit.report_every=20")
    return load_config("quick", changes)


def test_a_training_on_few_rows_reports_how_many_and_the_model_states_it(config, tmp_path):
    lines: list[str] = []
    few = config.model_copy(update={"rows": 70, "fit": config.fit.model_copy(update={"batch_size": 32})})
    run = train(few, out=tmp_path / "run", device="cpu", report=lines.append)
    assert ", 70 rows, " in lines[0]
    assert Surrogate.load(run).metadata["config"]["rows"] == 70


def test_a_training_leaves_a_model_that_advances_and_states_how_it_was_made(config, training_set, tmp_path):
    run = train(config, out=tmp_path / "run", device="cpu", seed=4, **SILENT)
    files = {"model.safetensors", "config.yaml", "loss.csv", "loss.png", "last.pt"}
    manifest = read_json(run / "manifest.json")
    assert latest_run("quick", tmp_path) == run
    assert set(manifest["files"]) == files and all((run / name).stat().st_size > 0 for name in files)
    model = Surrogate.load(run)
    assert (model.dt, model.metadata["seed"], model.metadata["steps"]) == (DT, 4, 60)
    assert model.metadata["config"]["network"]["widths"] == [12, 24, 24, 12]
    pairs = dataset.read(training_set)
    states = pairs.states[pairs.split == 0]  # of so few rows, those held out may lie beyond the others
    next_states, status = HybridStep(model).advance(states)
    assert (status == 0).all() and not np.array_equal(next_states, states)
    losses = np.genfromtxt(run / "loss.csv", delimiter=",", names=True)["validation_loss"]
    assert losses[-1] < 0.8 * losses[0]
    np.testing.assert_allclose(model.metadata["validation_loss"], losses[-1], rtol=1e-12, atol=0)


def test_a_training_that_starts_again_is_not_finished_until_its_end(config, tmp_path):
    run = train(config, out=tmp_path, device="cpu", **SILENT)

    def stop(line):
        if line.startswith("step 40"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, out=tmp_path, device="cpu", overwrite=True, report=stop)
    assert not (run / "manifest.json").exists()
    train(config, out=tmp_path, device="cpu", resume=True, **SILENT)
    assert (run / "manifest.json").exists()
    before = (run / "config.yaml").read_text()
    for change, difference in {
        "label": "difference",
        "network": config.network.model_copy(update={"activation": "silu"}),
    }.items():
        other = config.model_copy(update={change: difference})
        with pytest.raises(UsageError, match="(label|network.activation) was (signed_root|relu), is"):
            train(other, out=tmp_path, device="cpu", resume=True, **SILENT)
    assert (run / "manifest.json").exists() and (run / "config.yaml").read_text() == before


def test_a_scan_trains_at_each_rate_and_reports_which_diverge(config, tmp_path):
    table = scan_rates(config, [1e-3, 2e-2, 1e30], out=tmp_path, device="cpu", max_minutes=1, **SILENT)
    (low, *_), (high, steps, loss, error), (wild, *nothing) = table.rows
    assert (low, high, wild, steps, error) == (1e-3, 2e-2, 1e30, 60, None) and nothing == [None, None, None]
    assert loss < table.rows[0][2]
    assert Surrogate.load(tmp_path / "rate-0.02").metadata["config"]["fit"]["learning_rate"] == 2e-2
    with pytest.raises(UsageError, match="--scan-rates: learning_rate"):
        scan_rates(config, [-1.0], out=tmp_path, **SILENT)


def test_a_training_starts_from_a_model_its_weights_transform_and_limits(config, training_set, tmp_path):
    first = train(config, out=tmp_path / "first", device="cpu", **SILENT)
    model, pairs = Surrogate.load(first), dataset.read(training_set)
    model.with_limits(700.0, 0.02).save(tmp_path / "start.safetensors")
    other = tmp_path / "other.h5"  # of other means and deviations
    facts = {k: v for k, v in dataset.read_attributes(training_set).items() if k not in ("rows", "format")}
    hot = pairs.states[:, 0] > 1400.0
    dataset.write(other, [pairs.where(hot)], facts)
    still = config.model_copy(update={"fit": config.fit.model_copy(update={"learning_rate": 1e-12, "steps": 2})})
    fit = {"start_from": tmp_path / "start.safetensors", "device": "cpu", **SILENT}
    second = Surrogate.load(train(still, data=other, out=tmp_path / "second", **fit))
    for ours, theirs in zip(second.network.parameters(), model.network.parameters(), strict=True):
        np.testing.assert_allclose(ours.detach(), theirs.detach(), rtol=0, atol=1e-9)
    assert second.transform.as_dict() == model.transform.as_dict()
    assert (second.cold_limit, second.calm_limit) == (700.0, 0.02)
    assert second.domain.low[0] > 1300.0 and second.metadata["start_from"] == "start.safetensors"
    both = Surrogate.load(train(still, data=[training_set, other], out=tmp_path / "both", **fit))
    further = {"rows": hot.sum(), "seed": 0, "rtol": 1e-6, "atol": 1e-12, "recipe": "by hand"}
    assert both.metadata["further_data"] == [further]
    another = train(config, out=tmp_path / "another", seed=1, device="cpu", **SILENT)
    with pytest.raises(UsageError, match="start from weights of SHA-256 was"):
        train(still, data=other, out=tmp_path / "second", resume=True, **{**fit, "start_from": another})
    with pytest.raises(FileError, match="no model nothing"):
        train(config, out=tmp_path / "third", **{**fit, "start_from": "nothing"})
    with pytest.raises(UsageError, match=r"was made with h2o2\.yaml, the model with drm19"):
        train(config, out=tmp_path / "third", **{**fit, "start_from": "drm19-small"})


@pytest.mark.slow
def test_two_processes_of_torchrun_train_what_one_trains(config, training_set, tmp_path):
    changes = [f"--set={line}" for line in ("network.widths=[12, 24, 24, 12]", "fit.steps=60", "fit.optimizer=adamw")]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "chemnet"]
    arguments = ["train", "--config=quick", f"--data={training_set}", f"--out={tmp_path / 'two'}", "--device=cpu"]
    done = subprocess.run([*command, *arguments, *changes], capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^step 60,", done.stdout, re.MULTILINE)) == 2
    assert done.stdout.count("validation_loss") == 1  # one process reports
    fit = config.fit.model_copy(update={"optimizer": "adamw", "warmup_steps": 100, "report_every": 250})
    one = train(config.model_copy(update={"fit": fit}), out=tmp_path / "one", device="cpu", **SILENT)
    losses = [read_json(run / "manifest.json")["validation_loss"] for run in (tmp_path / "two", one)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3, abs=0)


def test_a_network_gets_as_many_inputs_and_outputs_as_the_mechanism_of_the_data_has_columns(
    config, training_set, tmp_path
):
    other = config.model_copy(update={"network": config.network.model_copy(update={"widths": (23, 8, 23)})})
    run = train(other, out=tmp_path, device="cpu", **SILENT)
    model = Surrogate.load(run / "model.safetensors")
    assert model.metadata["config"]["network"]["widths"] == [12, 8, 12]


def test_what_does_not_fit_together_is_refused(config, training_set, tmp_path):
    with pytest.raises(FileError, match=r"nowhere\.h5"):
        train(config, data=tmp_path / "nowhere.h5", out=tmp_path, device="cpu", **SILENT)
    with pytest.raises(UsageError, match="no label root; there are signed_root, signed_cube_root, difference"):
        load_config("quick", ["label=root"])
    with pytest.raises(UsageError, match="no config fast; there are"):
        load_config("fast")
    other = tmp_path / "other.h5"
    facts = {k: v for k, v in dataset.read_attributes(training_set).items() if k not in ("rows", "format")}
    dataset.write(other, [dataset.read(training_set)], {**facts, "mechanism_sha256": "0" * 64})
    with pytest.raises(UsageError, match="another mechanism"):
        load_learning_set(other)
    pairs = dataset.read(training_set)
    for keep, message in ((pairs.split == 0, "250 rows to train on and 0"), (pairs.split > 1, "0 rows to train on")):
        dataset.write(other, [pairs.where(keep)], facts)
        with pytest.raises(UsageError, match=message):
            load_learning_set(other)


@pytest.mark.parametrize("name", ["drm19", "paper", "quick", "small"])
def test_every_config_that_ships_can_be_read_and_names_stages_that_ship(name):
    from chemnet.reduction.stages import read_stages
    from chemnet.surrogate.network import build, describe

    config = load_config(name)
    assert config.name == name
    network = build(config.network.model_copy(update={"initialisation": None}))
    assert describe(network).widths == config.network.widths
    assert config.reduction is None or read_stages(config.reduction).stages
