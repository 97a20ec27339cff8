"""The automatic reduction: the paper's constants, its rules on a network that follows a script, and a real one."""

import csv
import math
import signal

import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn

from chemnet.condensation.condenser import condense
from chemnet.reduction.automatic import AutomaticOptions, Reducible, reduce_automatically
from chemnet.runtime.errors import FileError, UsageError
from chemnet.surrogate.network import NetConfig, build, describe
from chemnet.training.batches import TrainingData, validation_loss
from chemnet.training.options import FitOptions

SILENT = {"report": lambda line: None}


def test_the_criteria_are_those_that_the_paper_states_after_each_main_reduction():
    """Section 3.2.3: after the 16, 32, ... 96 layers of main reductions 1 to 6."""
    options = AutomaticOptions()
    after = [16 * k for k in range(1, 7)]
    expected = [0.87837, 0.87343, 0.86641, 0.85904, 0.85315, 0.85018]
    assert_allclose([options.main.at(n) for n in after], expected, rtol=0, atol=5.1e-6)
    assert_allclose([options.layer.at(n) for n in after], [e - 0.04 for e in expected], rtol=0, atol=5.1e-6)
    assert (options.main.at(0), options.main.at(101), options.main.at(500)) == (0.88, 0.85, 0.85)


def test_the_rates_and_thresholds_are_those_of_the_equations():
    options = AutomaticOptions()
    rates = [options.rate.at(reductions) for reductions in (0, 1, 101, 201)]
    assert_allclose(rates, [0.01, 0.01, 0.00505, 1e-4], rtol=1e-12, atol=0)
    expected = [1 / (1 + math.exp(-2 - 0.1 * failures)) for failures in (-1, 0, 5)]
    assert_allclose([options.threshold_after(failures) for failures in (-1, 0, 5)], expected, rtol=1e-14, atol=0)
    assert options.threshold_after(0) == pytest.approx(0.88080, rel=0, abs=5e-6)
    half = AutomaticOptions(first_threshold=0.5)
    assert half.threshold_after(2) == pytest.approx(1 / (1 + math.exp(-0.2)), rel=1e-14, abs=0)


class Scripted:
    """A network of named layers; each step it takes the next metric of a list, the last one for ever."""

    def __init__(self, metrics, layers=("a", "b"), shrink=0.5):
        self.widths = dict.fromkeys(layers, 1000.0)
        self.metrics, self.shrink, self.trained = list(metrics), shrink, 0
        self.rates: list[float] = []

    def layers(self):
        return list(self.widths)

    def parameters(self, layer=None):
        return int(sum(self.widths.values()) if layer is None else self.widths[layer])

    def condense(self, layer, threshold):
        self.widths[layer] *= self.shrink

    def begin(self, rate):
        self.rates.append(rate)

    def train(self):
        self.trained += 1
        return 1.0 / self.trained

    def metric(self):
        return self.metrics[min(self.trained, len(self.metrics) - 1)]

    def verdict(self):
        return self.metric() - 0.01

    def state(self):
        return {"widths": dict(self.widths), "trained": self.trained}

    def restore(self, state):
        """The script goes on: a second attempt sees other metrics."""
        self.widths = dict(state["widths"])


def log_of(folder):
    with open(folder / "automatic.csv", newline="") as file:
        return list(csv.DictReader(file))


def events(folder, *names):
    return [(int(row["step"]), row["event"], row["layer"]) for row in log_of(folder) if row["event"] in names]


OPTIONS = {"limit": 3, "last_limit": 5, "limit_growth": 2, "deviation_steps": 2, "main_reductions": 1}


def run(folder, metrics, shrink=0.5, layers=("a", "b"), **changes):
    network = Scripted(metrics, layers, shrink)
    table = reduce_automatically(network, AutomaticOptions(**OPTIONS | changes), folder, **SILENT)
    return network, table


def test_layers_are_reduced_in_turn_once_the_main_criterion_is_met(tmp_path):
    network, table = run(tmp_path, [0.0, 0.7, 0.879, 0.88, 0.83, 0.84, 0.80])
    assert events(tmp_path, "cut", "accepted") == [
        (3, "cut", "a"),
        (5, "accepted", "a"),
        (5, "cut", "b"),
        (6, "accepted", "b"),
    ]
    assert network.widths == {"a": 500.0, "b": 500.0}
    rows = table.as_json()["rows"]
    assert [(row["network"], row["parameters"], row["from step"]) for row in rows] == [
        ("original", 2000, 0),
        ("reduction 1", 1000, 6),
    ]
    assert rows[0]["best metric"] == 0.88


def test_a_layer_that_fails_is_cut_again_from_the_save_point_with_a_higher_threshold_and_more_steps(tmp_path):
    network, _ = run(tmp_path, [0.9, 0.9, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.85])
    assert network.widths == {"a": 500.0, "b": 500.0}  # of the save point, halved once
    assert events(tmp_path, "cut", "failed", "accepted") == [
        (1, "cut", "a"),
        (4, "failed", "a"),
        (4, "cut", "a"),
        (9, "failed", "a"),
        (9, "cut", "a"),
        (10, "accepted", "a"),
        (10, "cut", "b"),
        (11, "accepted", "b"),
    ]
    thresholds = [float(row["threshold"]) for row in log_of(tmp_path) if row["event"] == "cut"]
    assert_allclose(thresholds, [AutomaticOptions().threshold_after(n) for n in (0, 1, 2, 0)], rtol=1e-12, atol=0)


def test_a_network_that_has_gone_astray_is_taken_back_before_its_steps_are_used_up(tmp_path):
    run(tmp_path, [0.9, 0.9, 0.3, 0.4, 0.85], limit=100)
    expected = [(3, "deviated", "a"), (4, "accepted", "a"), (5, "accepted", "b")]
    assert events(tmp_path, "deviated", "accepted") == expected


def test_the_last_layer_has_a_limit_and_a_criterion_of_its_own(tmp_path):
    run(tmp_path, [0.9, 0.9, 0.85, 0.7, 0.7, 0.7, 0.7, 0.7, 0.81])
    assert events(tmp_path, "failed", "accepted") == [(2, "accepted", "a"), (7, "failed", "b"), (8, "accepted", "b")]


def test_a_layer_that_loses_too_little_is_cut_more_the_next_time(tmp_path):
    run(tmp_path, [0.9], shrink=0.9995, main_reductions=3)
    cuts = [(row["layer"], float(row["threshold"])) for row in log_of(tmp_path) if row["event"] == "cut"]
    expected = [(layer, AutomaticOptions().threshold_after(failures)) for failures in (0, -1, -2) for layer in "ab"]
    assert [layer for layer, _ in cuts] == [layer for layer, _ in expected]
    assert_allclose([t for _, t in cuts], [t for _, t in expected], rtol=1e-12, atol=0)


def test_a_layer_whose_threshold_leaves_nothing_to_merge_is_skipped(tmp_path):
    run(tmp_path, [0.9] * 2 + [0.7] * 73 + [0.85], limit=1, limit_growth=0)
    assert events(tmp_path, "skipped") == [(74, "skipped", "a")]
    after = AutomaticOptions().threshold_after
    assert after(72) <= 1 - 1e-4 < after(73)


def test_it_ends_at_the_share_of_parameters_asked_for_or_at_the_most_steps(tmp_path):
    network, table = run(tmp_path / "share", [0.9], main_reductions=99, target=0.2)
    assert network.parameters() == 250 and len(table.rows) == 4
    network, table = run(tmp_path / "steps", [0.5], most_steps=7)
    assert (network.trained, len(table.rows)) == (7, 1)


def test_the_final_cut_is_made_once_at_its_own_threshold_and_trained_on(tmp_path):
    network, table = run(tmp_path, [0.9], final_layer="b", final_threshold=0.4, final_steps=4)
    final = [row for row in log_of(tmp_path) if row["event"] == "final cut"]
    assert [(row["layer"], float(row["threshold"]), int(row["step"])) for row in final] == [("b", 0.4, 2)]
    assert network.trained == 6 and network.widths == {"a": 500.0, "b": 500.0}
    assert [row[0] for row in table.rows] == ["original", "reduction 1", "final cut"]


def test_a_final_layer_that_is_not_there_and_a_checkpoint_of_other_options_are_refused(tmp_path):
    with pytest.raises(UsageError, match="no layer c; there are a, b"):
        run(tmp_path / "none", [0.9], final_layer="c")
    with pytest.raises(FileError, match="no checkpoint"):
        reduce_automatically(Scripted([0.9]), AutomaticOptions(), tmp_path, resume=True, **SILENT)
    run(tmp_path, [0.9])
    with pytest.raises(UsageError, match=r"options\.limit was 3, is 20"):
        reduce_automatically(Scripted([0.9]), AutomaticOptions(), tmp_path, resume=True, **SILENT)


def noisy_copies(seed=0):
    """A ReLU network in which 12 neurons of each hidden layer are scaled copies of 6, and data that it fits."""
    network = build(NetConfig(widths=(3, 18, 18, 2), activation="relu", initialisation="default"), seed)
    scales = torch.linspace(0.5, 2.0, 12)
    with torch.no_grad():
        for layer in (network[0], network[2]):
            layer.weight[6:] = scales[:, None] * layer.weight[:6].repeat(2, 1)
            layer.bias[6:] = scales * layer.bias[:6].repeat(2)
    generator = torch.Generator().manual_seed(seed)
    x, noise = torch.randn(400, 3, generator=generator), torch.randn(400, 2, generator=generator)
    with torch.no_grad():
        y = network(x) + 0.06 * noise
    return network, TrainingData(x[:300], y[:300], x[300:], y[300:], torch.tensor([0, 1]))


DENSE = AutomaticOptions(
    relative=True,
    main={"highest": 0.9, "lowest": 0.5, "over": 10},
    layer={"highest": 0.5, "lowest": 0.3, "over": 10},
    rate={"highest": 1e-4, "lowest": 1e-5, "over": 10},
    last_criterion=0.4,
    deviation=0.05,
    main_reductions=2,
    limit=3,
    most_steps=60,
)
FIT = FitOptions(optimizer="adam", schedule="steps", steps=60, report_every=2, batch_size=32)


def trainee(seed=0):
    network, data = noisy_copies(seed)

    def merged(network, module, threshold):
        return condense(network, data.x[:1], threshold=threshold, layers=[module], calibration=data.x)

    return Reducible(network, data, FIT, {"hidden layer 1": "0", "hidden layer 2": "2"}, merged)


def test_a_network_of_copies_is_reduced_to_what_is_distinct(tmp_path):
    network = trainee()
    table = reduce_automatically(network, DENSE, tmp_path, **SILENT)
    assert describe(network.network).widths == (3, 6, 6, 2)
    assert [row[1] for row in table.rows] == [452, 80, 80]
    assert network.metric() == 1.0 / validation_loss(network.network, network.batches) > 0.4 / 0.05


def test_an_interrupted_reduction_goes_on_to_the_same_log_and_weights(tmp_path):
    whole = trainee()
    expected = reduce_automatically(whole, DENSE, tmp_path / "whole", **SILENT)
    broken, lines = trainee(), list[str]()

    def interrupt(line):
        lines.append(line)
        if len(lines) == 3:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        reduce_automatically(broken, DENSE, tmp_path / "broken", report=interrupt)
    assert len(log_of(tmp_path / "broken")) < len(log_of(tmp_path / "whole"))
    fresh = trainee()
    assert reduce_automatically(fresh, DENSE, tmp_path / "broken", resume=True, **SILENT) == expected
    assert (tmp_path / "broken" / "automatic.csv").read_bytes() == (tmp_path / "whole" / "automatic.csv").read_bytes()
    weights = zip(fresh.network.parameters(), whole.network.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in weights)


def test_a_layer_of_a_dense_network_that_does_not_exist_is_named():
    network = trainee()
    with pytest.raises(UsageError, match="hidden layer 3"):
        network.condense("hidden layer 3", 0.9)
    assert isinstance(network.network[0], nn.Linear)
