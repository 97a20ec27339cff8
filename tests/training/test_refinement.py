"""Refinement in a closed loop: flows by the model of the round before, sets that grow, rounds that are kept."""

import numpy as np
import pytest
from small_recipe import small_recipe

from chemnet.data import dataset, sampling
from chemnet.gas import canonical
from chemnet.gas.mechanism import load_mechanism
from chemnet.runtime.errors import UsageError
from chemnet.surrogate.model import Surrogate
from chemnet.training import refinement
from chemnet.training.config import load_config
from chemnet.training.run import train
from chemnet.validation.metrics import Figure

SILENT = {"report": lambda line: None}
SIZE = {"runs": 2, "rows": 40}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A training set, a config on it, and the run folder of its training."""
    home = tmp_path_factory.mktemp("trained")
    sampling.sample(small_recipe("flow.share=0", "integrator.audit=0"), home / "states.h5", **SILENT)
    changes = [f"data={home / 'states.h5'}", "network.widths=[12, 16, 12]", "fit.steps=30", "fit.rollouts=0"]
    config = load_config("quick", changes)
    return config, train(config, out=home / "run", device="cpu", **SILENT)


@pytest.fixture
def flows(monkeypatch):
    """Flows that note their model and return igniting gas."""
    row = np.hstack([1300.0, 1e5, canonical.premixed(load_mechanism("h2o2.yaml"), 1.0, {"H2": 1})])
    seen = []

    def visit(case, variant, changes, rows, rng):
        values = dict(change.split("=", 1) for change in changes)
        seen.append((*(values[f"chemistry.{key}"].strip('"') for key in ("kind", "model")), int(values["seed"])))
        return np.tile(row, (rows, 1))

    monkeypatch.setattr(sampling, "_installed_visit", lambda: visit)
    monkeypatch.setattr(refinement, "available_cores", lambda: 1)
    return seen


def test_each_round_runs_flows_by_the_model_before_and_trains_on_all_states_so_far(trained, flows, tmp_path):
    config, start = trained
    judged = []

    def judge(model):
        judged.append(model)
        return [
            Figure("flow", "error [%]", 4.0 - len(judged), 2.5),
            Figure("flow", "share [%]", 95.0, 90.0, lower=True),
        ]

    table = refinement.refine(start, config, judge, rounds=2, out=tmp_path, device="cpu", **SIZE, **SILENT)
    models = [
        start / "model.safetensors",
        *(tmp_path / f"round-{i}" / "training" / "model.safetensors" for i in (1, 2)),
    ]
    assert judged == models[:2]  # the targets are met after the first round
    assert table.rows == [("flow", "error [%]", 2.5, 3.0, 2.0), ("flow", "share [%]", ">= 90", 95.0, 95.0)]
    assert [(kind, model) for kind, model, _ in flows] == [("neural", str(models[0].resolve()))] * 2
    judged.clear()
    flows.clear()
    strict = lambda model: judge(model) and [Figure("flow", "error [%]", 1.0, 0.5)]  # noqa: E731
    refinement.refine(start, config, strict, rounds=2, out=tmp_path, device="cpu", **SIZE, **SILENT)
    assert judged == []  # kept: the models are those of before


def test_an_interrupted_loop_goes_on_where_it_was(trained, flows, tmp_path):
    config, start = trained

    def judge(model):
        return [Figure("flow", "error [%]", 1.0 + len(flows), 0.0)]

    def stop(line):
        if line.startswith("judging") and "round-2" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        refinement.refine(start, config, judge, rounds=3, out=tmp_path, device="cpu", report=stop, **SIZE)
    before, trainings = len(flows), (tmp_path / "round-2" / "training" / "manifest.json").stat().st_mtime_ns
    table = refinement.refine(start, config, judge, rounds=3, out=tmp_path, device="cpu", **SIZE, **SILENT)
    assert len(flows) == before + 2 and table.columns[3:] == ("start", "round 1", "round 2", "round 3")
    assert (tmp_path / "round-2" / "training" / "manifest.json").stat().st_mtime_ns == trainings
    assert len({seed for _, _, seed in flows}) == 6  # no flow is run twice
    last = Surrogate.load(tmp_path / "round-3" / "training")
    assert last.metadata["config"]["fit"]["learning_rate"] == pytest.approx(0.2 * config.fit.learning_rate, rel=1e-12)
    rows = [dataset.read_attributes(tmp_path / f"round-{i}" / "states.h5")["rows"] for i in (1, 2, 3)]
    assert rows == [40, 40, 40]


def test_a_set_without_a_flow_or_a_recipe_is_refused_before_anything_is_judged(trained, tmp_path):
    config, start = trained
    other = tmp_path / "other.h5"
    facts = {k: v for k, v in dataset.read_attributes(config.data).items() if k not in ("rows", "format")}
    for recipe, message in (("by hand", "does not hold its recipe"), (small_recipe("flow=null"), "no flow")):
        text = recipe if isinstance(recipe, str) else recipe.model_dump_json()
        dataset.write(other, [dataset.read(config.data)], {**facts, "recipe": text})
        with pytest.raises(UsageError, match=message):
            refinement.refine(start, config, None, data=other, out=tmp_path / "out", device="cpu", **SILENT)
    assert not (tmp_path / "out").exists()
