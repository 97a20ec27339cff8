"""The comparison: the same start and data for all, equal times, trials that are made once, tables that agree."""

import dataclasses
import json
import math
import shutil

import numpy as np
import pytest
import torch

from chemnet.gas.mechanism import load_mechanism
from chemnet.kinetics.cvodes import CvodesReactor
from chemnet.reduction import comparison
from chemnet.reduction.comparison import Comparison, compare, read_comparison
from chemnet.reduction.results import Trial, draw_pareto, result_table
from chemnet.reduction.routes import ROUTES, Clock, Large, Part, Route, plan, start_of, taught
from chemnet.runtime.config import parse
from chemnet.runtime.errors import FileError, NumericalError, UsageError
from chemnet.surrogate.domain import Domain
from chemnet.surrogate.model import Surrogate
from chemnet.surrogate.network import NetConfig, build, count, describe
from chemnet.surrogate.transform import fit_transform
from chemnet.training.batches import TrainingData, few, validation_loss
from chemnet.training.loop import fit
from chemnet.training.options import FitOptions

FIT = {"steps": 12, "batch_size": 64, "report_every": 12, "warmup_steps": 2}
SETTINGS = {
    "widths": [12, 10],
    "seeds": 2,
    "fit": FIT,
    "rates": [2e-3, 8e-3],
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
    return parse(Comparison, {**SETTINGS, **changes}, "comparison")


@pytest.fixture(scope="module", autouse=True)
def cells():
    """States in the place of a flame that would have to be solved."""

    def states(mechanism, flame, n):
        Y = np.full((n, mechanism.n_species), 1.0 / mechanism.n_species)
        return {"flame front": np.column_stack([np.linspace(1000.0, 2000.0, n), np.full(n, 101325.0), Y])}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, "flame_cells", states)
        yield


@pytest.fixture(scope="module")
def hydrogen():
    """A small untrained surrogate, and pairs of states for it to learn from."""
    mechanism = load_mechanism("h2o2.yaml")
    rng = np.random.default_rng(0)
    Y = rng.dirichlet(np.ones(mechanism.n_species), size=400)
    states = np.column_stack([rng.uniform(1000.0, 2500.0, 400), np.full(400, 101325.0), Y])
    next_states, _ = CvodesReactor(mechanism).advance(states, 1e-6)
    transform = fit_transform(states, next_states, mechanism, "signed_root")
    x, y = (torch.from_numpy(a) for a in (transform.inputs(states), transform.labels(states, next_states)))
    data = TrainingData(x[:300], y[:300], x[300:], y[300:], torch.from_numpy(transform.active))
    network = build(NetConfig(widths=(x.shape[1], 24, 20, x.shape[1])), seed=1)
    domain = Domain.box(mechanism, T=(300.0, 3500.0), P=(8e4, 2e5))
    return Surrogate(network, transform, mechanism, 1e-6, domain, {"made": "here"}), data


class Fitted:
    """Counts the trainings; with a script, it tells their losses in the place of those they come to."""

    def __init__(self, monkeypatch, script=None):
        self.options: list[FitOptions] = []
        self.script = script
        monkeypatch.setattr(comparison, "fit", self)

    def trials(self):
        return sum(options.steps == FIT["steps"] for options in self.options)

    def __call__(self, network, data, options, run, **rest):
        self.options.append(options)
        report = fit(network, data, options, run, **rest)
        return report if self.script is None else dataclasses.replace(report, validation_loss=self.script(options))


def run(hydrogen, out, report=lambda line: None, **changes):
    return compare(*hydrogen, settings(**changes), out, device="cpu", cache=out.parent / "references", report=report)


@pytest.fixture(scope="module")
def finished(hydrogen, tmp_path_factory):
    """A comparison of a few routes: its tables and its folder."""
    out = tmp_path_factory.mktemp("comparisons") / "tiny"
    return run(hydrogen, out, routes=TINY), out


def rows(tables, number=0):
    return tables[number].as_json()["rows"]


def test_a_comparison_tells_sizes_losses_roll_outs_and_costs_of_every_route(finished, hydrogen):
    tables, _ = finished
    model, _ = hydrogen
    found = {row["route"]: row for row in rows(tables)}
    assert tuple(found) == TINY
    full, widths = count(model.network, biases=False), describe(model.network).widths
    small = widths[0] * 12 + 12 * 10 + 10 * widths[-1]
    assert found["unreduced"]["weights"] == full and found["unreduced"]["weights [%]"] == 100.0
    for name in TINY[1:]:
        assert found[name]["weights"] == small or (name == "svd" and found[name]["weights"] <= small)
    for row in found.values():
        assert row["validation loss"] > 0.0 and row["cost [us]"] > 0.0 and row["cost / unreduced"] > 0.0
        assert 0.0 < row["rate"] < 0.1 and row["failed cases"] is not None
    assert found["scratch-steps"]["steps"] == FIT["steps"] + SETTINGS["large_steps"]
    assert {found[name]["steps"] for name in ("unreduced", "condensation", "svd")} == {FIT["steps"]}


def test_every_trial_leaves_its_model_its_losses_and_its_result(finished, hydrogen):
    _, out = finished
    model, data = hydrogen
    for name in TINY:
        for seed in range(2):
            folder = out / f"{name}-seed{seed}"
            trial = Trial.model_validate(json.loads((folder / "result.json").read_text())["trial"])
            assert (folder / "loss.csv").is_file() and (trial.route, trial.seed) == (name, seed)
            if name == "svd":
                assert (folder / "network.pt").is_file() and "x" in trial.modules
                continue
            network = Surrogate.load(folder, model.mechanism).network
            assert count(network, biases=False) == trial.weights
            assert validation_loss(network, data) == pytest.approx(trial.loss, rel=1e-5, abs=0)
    content = json.loads((out / "comparison.json").read_text())
    assert len(content["trials"]) == 2 * len(TINY) and len(content["tables"]) == 4


def test_a_second_call_trains_nothing_and_gives_the_same_tables(finished, hydrogen, monkeypatch):
    tables, out = finished
    fitted, lines = Fitted(monkeypatch), []
    again = run(hydrogen, out, routes=TINY, report=lines.append)
    assert fitted.options == []
    assert [table.as_json() for table in again] == [table.as_json() for table in tables]
    assert sum("taken from" in line for line in lines) == 2 * len(TINY)


def test_another_route_or_seed_leaves_finished_trials_and_a_changed_setting_does_not(
    finished, hydrogen, tmp_path, monkeypatch
):
    _, out = finished
    copied = shutil.copytree(out, tmp_path / "copied")
    fitted = Fitted(monkeypatch)
    run(hydrogen, copied, routes=("unreduced", "magnitude"), seeds=1)
    assert fitted.trials() == 1  # of magnitude
    run(hydrogen, copied, routes=("unreduced",), seeds=3)
    assert fitted.trials() == 2
    run(hydrogen, copied, routes=("unreduced",), seeds=1, calibration_states=90)
    assert fitted.trials() == 3


def test_an_interrupted_trial_goes_on_from_its_checkpoint_and_ends_alike(finished, hydrogen, tmp_path, monkeypatch):
    _, out = finished
    copied = shutil.copytree(out, tmp_path / "copied")
    folder = copied / "condensation-seed1"
    before = json.loads((folder / "result.json").read_text())["trial"]
    (folder / "result.json").unlink()
    fitted = Fitted(monkeypatch)
    run(hydrogen, copied, routes=("condensation",))
    after = json.loads((folder / "result.json").read_text())["trial"]
    assert len(fitted.options) == 1
    assert after["seconds"] == before["seconds"]  # nothing was left to train
    assert after["loss"] == pytest.approx(before["loss"], rel=1e-6, abs=0)


@pytest.mark.parametrize(
    ("best", "beyond", "remark"),
    [
        (4e-3, [], ""),
        (1e-3, [5e-4], ""),
        (6.4e-2, [3.2e-2, 6.4e-2, 1.28e-1], ""),
        (1e-4, [5e-4, 2.5e-4, 1.25e-4], "at the end of the range"),
    ],
)
def test_the_scan_takes_the_rate_with_the_smallest_loss_and_looks_beyond_those_given(
    hydrogen, tmp_path, monkeypatch, best, beyond, remark
):
    fitted = Fitted(monkeypatch, lambda options: 1.0 + abs(math.log(options.learning_rate / best)))
    rates = [1e-3, 4e-3, 1.6e-2]
    tables = run(hydrogen, tmp_path / "out", routes=("magnitude",), seeds=2, rates=rates)
    (row,) = rows(tables, 2)
    tried = [*((SETTINGS["scan_steps"], rate) for rate in rates + beyond), *((FIT["steps"], row["best"]),) * 2]
    found = [(options.steps, options.learning_rate) for options in fitted.options]
    assert found == [(steps, pytest.approx(rate, rel=1e-12)) for steps, rate in tried]
    assert row["best"] == pytest.approx(1.25e-4 if remark else best, rel=1e-12)
    assert row["remark"] == remark


def test_a_single_rate_is_taken_as_it_is(hydrogen, tmp_path, monkeypatch):
    fitted = Fitted(monkeypatch)
    run(hydrogen, tmp_path / "out", routes=("magnitude",), seeds=1, rates=[3e-3])
    assert [options.learning_rate for options in fitted.options] == [3e-3, 3e-3]


def test_a_rate_that_diverges_is_not_taken_and_a_trial_that_diverges_is_told(hydrogen, tmp_path, monkeypatch):
    def diverges(network, data, options, folder, *, seed, **rest):
        if options.learning_rate > 5e-3 or seed == 1:
            raise NumericalError("the loss is nan at step 3")
        return fit(network, data, options, folder, seed=seed, **rest)

    monkeypatch.setattr(comparison, "fit", diverges)
    tables = run(hydrogen, tmp_path / "out", routes=("magnitude",))
    (row,) = rows(tables)
    assert row["rate"] < 5e-3 and row["remark"] == "1 of 2 diverged"
    with pytest.raises(NumericalError, match="diverges at all of the rates"):
        run(hydrogen, tmp_path / "other", routes=("magnitude",), rates=[1e-2])


def test_a_route_whose_package_is_missing_is_skipped_and_the_table_says_so(hydrogen, tmp_path, monkeypatch):
    monkeypatch.setattr(Route, "lacks", lambda self: "torch-pruning" if self.rival == "torch-pruning" else None)
    found = rows(run(hydrogen, tmp_path / "out", routes=("torch-pruning", "magnitude"), seeds=1))
    assert found[0]["remark"] == "skipped: pip install torch-pruning" and found[0]["weights"] is None
    assert found[1]["weights"] is not None


class SetClock(Clock):
    """A step takes a microsecond per neuron, a reduction half a second."""

    def __init__(self):
        pass

    def step(self, widths):
        return 1e-6 * sum(widths)

    def reduction(self, widths, calibration):
        return 0.5


LARGE = Large(build(NetConfig(widths=(3, 1000, 1000, 2))), steps=700, seconds=20.0)


@pytest.mark.parametrize(
    ("route", "steps"),
    [
        ("condensation", 1000),
        ("scratch-steps", 1000 + 700),
        ("scratch-after", 1000 + 2500),  # half a second of steps that take 0.2 ms
        ("scratch-total", 1000 + 2500 + 100_000),
    ],
)
def test_times_become_steps_by_what_a_step_takes(route, steps):
    assert plan(ROUTES[route], (100, 100), 1000, LARGE, SetClock(), torch.empty(0)) == [Part((100, 100), steps)]


def test_a_network_that_narrows_while_it_is_trained_takes_the_same_time_half_of_it_at_its_last_widths():
    clock = SetClock()
    for name in ("condensation-gradual", "condensation-while-training"):
        parts = plan(ROUTES[name], (100, 10), 1000, LARGE, clock, torch.empty(0))
        budget = 0.5 + 1000 * clock.step((100, 10)) + (20.0 if ROUTES[name].fresh else 0.0)
        seconds = [part.steps * clock.step(part.widths) for part in parts]
        assert sum(seconds) == pytest.approx(budget, rel=0.01, abs=0)
        assert seconds[-1] == pytest.approx(0.5 * budget, rel=0.01, abs=0)
        cuts = [(464, 215), (215, 46), (100, 10)]
        assert [part.widths for part in parts] == ([(1000, 1000)] if ROUTES[name].fresh else []) + cuts


def test_the_clock_measures_once_and_forgets_what_was_measured_for_something_else(hydrogen, tmp_path):
    model, data = hydrogen
    large = Large(model.network, 1, 1.0)

    def clock(origin):
        return Clock(tmp_path / "clock.json", origin, large, data, FitOptions(**FIT))

    first = clock("a").step((12, 10)), clock("a").reduction((12, 10), data.x[:50])
    assert all(seconds > 0.0 for seconds in first)
    assert (clock("a").step((12, 10)), clock("a").reduction((12, 10), data.x[:50])) == first
    clock("b").step((12, 10))
    assert json.loads((tmp_path / "clock.json").read_text())["origin"] == "b"


def test_a_teachers_answers_take_their_share_of_the_labels_and_leave_the_validation_alone(hydrogen):
    model, data = hydrogen
    with torch.no_grad():
        answers = model.network(data.x)
    assert taught(data, model.network, 0.0) is data
    torch.testing.assert_close(taught(data, model.network, 1.0).y, answers, rtol=1e-5, atol=1e-6)
    quarter = taught(data, model.network, 0.25)
    torch.testing.assert_close(quarter.y, 0.75 * data.y + 0.25 * answers, rtol=1e-5, atol=1e-6)
    assert quarter.y.dtype == torch.float32 and not quarter.y.is_inference()
    assert quarter.y_val is data.y_val


def test_few_rows_are_the_same_pairs_every_time_and_validation_keeps_all(hydrogen):
    _, data = hydrogen
    first, second = few(data, 50), few(data, 50)
    assert torch.equal(first.x, second.x) and len(first.x) == len(first.y) == 50
    places = [int((data.x == row).all(dim=1).nonzero()[0, 0]) for row in first.x]
    assert len(set(places)) == 50 and torch.equal(data.y[places], first.y)
    assert first.x_val is data.x_val and few(data, None) is data and few(data, 300) is data


def test_a_fresh_start_has_the_large_widths_and_another_start_is_the_large_network():
    assert start_of(ROUTES["condensation-gradual"], LARGE, 0) is LARGE.network
    fresh = start_of(ROUTES["qr-while-training"], LARGE, 1)
    assert describe(fresh) == describe(LARGE.network)
    assert not torch.equal(fresh[0].weight, LARGE.network[0].weight)
    assert torch.equal(fresh[0].weight, start_of(ROUTES["qr-while-training"], LARGE, 1)[0].weight)


def trial(route, seed, loss, weights=10, delay=1.0):
    figures = {"delay_mean": delay, "delay_max": 2.0, "failed": 0, "microseconds": 1.0, "relative_cost": 0.5}
    facts = {"rate": 1e-3, "modules": "2-3-2", "steps": 5, "seconds": 1.0, "made_in": 0.5, "loss_at_once": 0.3}
    return Trial(route=route, seed=seed, weights=weights, loss=loss, **facts, **figures)


def test_the_table_has_means_and_ranges_over_the_seeds():
    table = result_table(
        ["qr"], [3], {"qr": [trial("qr", seed, loss) for seed, loss in enumerate((0.1, 0.3, 0.2))]}, 40
    )
    (row,) = table.rows
    named = dict(zip(table.columns[:10], row[:10], strict=True))
    assert named["validation loss"] == pytest.approx(0.2, rel=1e-12, abs=0)
    assert (named["validation loss, from - to"], named["weights [%]"], named["seconds"]) == ("0.1 - 0.3", 25.0, 1.5)


def test_the_picture_takes_trials_of_several_comparisons_and_needs_at_least_one(tmp_path):
    pytest.importorskip("matplotlib")
    for name, weights, delay in (("a", 10, 1.0), ("b", 100, 0.2), ("none", 10, None)):
        trials = [trial("qr", seed, 0.1, weights, delay).model_dump(mode="json") for seed in range(2)]
        (tmp_path / name).mkdir()
        (tmp_path / name / "comparison.json").write_text(json.dumps({"trials": trials}))
    draw_pareto([tmp_path / "a", tmp_path / "b"], tmp_path / "pareto.png")
    assert (tmp_path / "pareto.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UsageError, match="no trial"):
        draw_pareto([tmp_path / "none"], tmp_path / "nothing.png")
    with pytest.raises(FileError, match="no file"):
        draw_pareto([tmp_path], tmp_path / "nothing.png")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"routes": ["condensatoin"]}, "no route condensatoin; there are unreduced"),
        ({"routes": ["qr", "qr"]}, "each route once"),
        ({"fit": {**FIT, "batch_growth": 2.0}}, "batch_growth 1"),
        ({"wdiths": [3]}, "did you mean widths"),
        ({"rates": []}, "rates"),
    ],
)
def test_a_bad_setting_says_what_is_wrong(changes, message):
    with pytest.raises(UsageError, match=message) as error:
        settings(**changes)
    assert len(str(error.value).splitlines()) <= 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"widths": [12]}, "do not fit into a network of"),
        ({"widths": [25, 10]}, "do not fit into a network of"),
        ({"fit": {**FIT, "batch_size": 300}}, "300 rows for batches of 300"),
        ({"large_seconds": None, "routes": ["scratch-total"]}, "large_seconds"),
    ],
)
def test_settings_that_do_not_fit_the_model_or_its_data_are_refused_before_any_work(
    hydrogen, tmp_path, changes, message
):
    with pytest.raises(UsageError, match=message):
        run(hydrogen, tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["drm19", "published-widths", "quick", "while-training"])
def test_what_ships_can_be_read(name):
    settings = read_comparison(name)
    assert settings.seeds >= 2 and len(settings.routes) >= 2


def test_settings_are_read_from_yaml(tmp_path):
    (tmp_path / "mine.yaml").write_text("widths: [12, 10]\nfit: {steps: 12}\nroutes: [qr, scratch-after]\n")
    found = read_comparison(tmp_path / "mine.yaml")
    assert found.routes == ("qr", "scratch-after") and found.seeds == 3 and found.widths == (12, 10)


def test_a_longer_training_has_a_scan_of_its_own_which_no_other_route_shares():
    names = [ROUTES[name].tuning for name in ROUTES]
    assert len(set(names)) == len(names)
    assert ROUTES["scratch-total"].tuning == "scratch-for-all-time"
    assert not any(" " in name or "/" in name for name in names)


def test_the_scan_of_a_longer_training_has_the_same_share_of_its_steps(hydrogen, tmp_path, monkeypatch):
    """Retraining takes 12 steps and the large network took 48: a scan of 6 steps becomes one of 30."""
    fitted = Fitted(monkeypatch)
    changes = {"large_steps": 4 * FIT["steps"], "seeds": 1, "rates": [1e-3, 2e-3], "turns": 1}
    run(hydrogen, tmp_path / "out", routes=["scratch-steps"], **changes)
    longest = 5 * FIT["steps"]
    share = SETTINGS["scan_steps"] / FIT["steps"]
    steps = [options.steps for options in fitted.options]
    assert steps[-1] == longest and set(steps[:-1]) == {round(share * longest)}
