"""The training loop: it learns, resumes bitwise, judges and averages weights, and refuses damaged checkpoints."""

import copy
import math
import os
import signal
import threading

import numpy as np
import pytest
import torch

from chemnet.runtime.errors import FileError, NumericalError, UsageError, run_command
from chemnet.surrogate.network import NetConfig, build
from chemnet.training import options as training_options
from chemnet.training.batches import TrainingData, validation_loss
from chemnet.training.checkpoint import read_checkpoint
from chemnet.training.config import load_config
from chemnet.training.distributed import Team
from chemnet.training.loop import fit
from chemnet.training.options import FitOptions, Phase
from chemnet.training.steps import Training
from chemnet.training.throughput import TrainingTask, measure

QUIET = {"report": lambda line: None}


@pytest.fixture
def data():
    """A smooth function of three inputs; the second output is not to be trained."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3000, 3, generator=generator)
    y = torch.stack([torch.sin(x[:, 0]) * x[:, 1], torch.full((3000,), 7.0), x[:, 2].abs()], dim=1)
    return TrainingData(x[:2500], y[:2500], x[2500:], y[2500:], torch.tensor([0, 2]))


def small_net(seed=0):
    return build(NetConfig(widths=(3, 32, 32, 3), activation="gelu"), seed)


@pytest.mark.parametrize(("optimizer", "rate"), [("muon", 2e-2), ("adamw", 1e-2), ("adam", 1e-2)])
def test_every_optimiser_learns_and_the_loss_is_that_of_the_active_columns(data, tmp_path, optimizer, rate):
    network = small_net()
    options = FitOptions(optimizer=optimizer, learning_rate=rate, steps=300, batch_size=256, warmup_steps=10)
    report = fit(network, data, options, tmp_path, **QUIET)
    assert report.steps == 300 and report.validation_loss < 0.25 * report.initial_loss
    with torch.no_grad():
        expected = (network(data.x_val) - data.y_val)[:, [0, 2]].abs().mean().item()
    np.testing.assert_allclose(report.validation_loss, expected, rtol=1e-5, atol=0)
    np.testing.assert_allclose(validation_loss(network, data), expected, rtol=1e-5, atol=0)


def test_bf16_autocast_learns_nearly_as_well(data, tmp_path, monkeypatch):
    monkeypatch.setattr(training_options, "has_bf16_instructions", lambda: True)
    losses = {}
    for precision in ("fp32", "bf16"):
        options = FitOptions(learning_rate=1e-2, steps=150, batch_size=256, warmup_steps=10, precision=precision)
        network = small_net()
        losses[precision] = fit(network, data, options, tmp_path / precision, **QUIET).validation_loss
        assert all(parameter.dtype == torch.float32 for parameter in network.parameters())
    assert losses["bf16"] != losses["fp32"] and losses["bf16"] < 1.3 * losses["fp32"]


def test_a_processor_without_bf16_instructions_trains_in_fp32_with_a_report(data, tmp_path, monkeypatch):
    monkeypatch.setattr(training_options, "has_bf16_instructions", lambda: False)
    lines: list[str] = []
    losses = [
        fit(small_net(), data, FitOptions(steps=20, precision=precision), tmp_path / precision, report=lines.append)
        for precision in ("fp32", "bf16")
    ]
    assert losses[0].validation_loss == losses[1].validation_loss
    assert [line for line in lines if "bf16" in line] == ["this processor has no instructions for bf16: fp32 instead"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_trains_what_the_processor_trains(data, tmp_path):
    options = FitOptions(optimizer="adamw", learning_rate=1e-3, steps=60, batch_size=256, report_every=20)
    cpu, gpu = small_net(), small_net()
    expected = fit(cpu, data, options, tmp_path / "cpu", **QUIET)
    found = fit(gpu, data, options, tmp_path / "gpu", device="cuda", **QUIET)
    assert found.validation_loss == pytest.approx(expected.validation_loss, rel=1e-2, abs=0)
    assert next(gpu.parameters()).device.type == "cuda"


def test_an_interrupted_training_goes_on_bitwise(data, tmp_path):
    options = FitOptions(learning_rate=2e-2, steps=60, batch_size=256, report_every=20, average_share=0.5)
    whole, broken = small_net(), small_net()
    fit(whole, data, options, tmp_path / "whole", seed=3, **QUIET)

    def stop(line):
        if line.startswith("step 40"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(broken, data, options, tmp_path / "broken", seed=3, report=stop)
    resumed = small_net(seed=9)
    fit(resumed, data, options, tmp_path / "broken", seed=3, resume=True, **QUIET)
    assert_equal_weights(whole, resumed)


def assert_equal_weights(one, other):
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_background_job_that_is_interrupted_is_not_taken_for_finished(data, tmp_path):
    def press(line):
        if line.startswith("step 20"):
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell has it
    try:
        with pytest.raises(KeyboardInterrupt):
            fit(small_net(), data, FitOptions(steps=60, report_every=20), tmp_path, report=press)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert read_checkpoint(tmp_path / "last.pt")["step"] == 21


def test_ctrl_c_leaves_a_checkpoint_of_the_step_and_the_training_goes_on_bitwise(data, tmp_path):
    options = FitOptions(learning_rate=2e-2, steps=60, batch_size=256, report_every=20)
    whole = small_net()
    fit(whole, data, options, tmp_path / "whole", **QUIET)

    def press(line):
        if line.startswith("step 20"):
            signal.raise_signal(signal.SIGINT)

    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    code = run_command(lambda: fit(small_net(), data, options, tmp_path / "broken", report=press) and None, "x")
    assert code == 130
    signal.signal(signal.SIGTERM, handlers[1])  # which run_command has set
    assert signal.getsignal(signal.SIGINT) == handlers[0]
    assert read_checkpoint(tmp_path / "broken" / "last.pt")["step"] == 21
    resumed = small_net(seed=9)
    fit(resumed, data, options, tmp_path / "broken", resume=True, **QUIET)
    assert_equal_weights(whole, resumed)


def test_a_loss_that_is_not_finite_stops_at_its_step_and_the_last_checkpoint_is_kept(data, tmp_path, capsys):
    network = small_net()
    steps = iter(range(100))
    network.register_forward_hook(
        lambda module, inputs, outputs: outputs * math.nan if torch.is_grad_enabled() and next(steps) == 33 else None
    )
    options = FitOptions(learning_rate=1e-2, steps=60, batch_size=64, report_every=20)
    assert run_command(lambda: fit(network, data, options, tmp_path, **QUIET) and None, "x") == 3
    assert "at step 33; the checkpoint of step 20 is kept" in capsys.readouterr().err
    state = read_checkpoint(tmp_path / "last.pt")
    assert state["step"] == 20 and all(tensor.isfinite().all() for tensor in state["network"].values())


def test_a_full_disk_ends_with_4_and_the_checkpoint_before_is_intact(data, tmp_path, capsys):
    def fill(line):
        if line.startswith("step 40"):
            (tmp_path / f".last.pt.{os.getpid()}.tmp").symlink_to("/dev/full")

    options = FitOptions(learning_rate=1e-2, steps=60, batch_size=64, report_every=20)
    assert run_command(lambda: fit(small_net(), data, options, tmp_path, report=fill) and None, "x") == 4
    shown = capsys.readouterr().err
    assert "No space left" in shown and "last.pt" in shown and len(shown.splitlines()) == 2
    assert read_checkpoint(tmp_path / "last.pt")["step"] == 20
    assert not list(tmp_path.glob(".*"))


def test_the_weights_that_are_judged_best_are_returned_and_judged_at_equal_shares(data, tmp_path):
    scores, seen = iter([0.3, 0.1, 0.2, 0.4]), []

    def judge(network):
        seen.append(copy.deepcopy(network.state_dict()))
        return next(scores)

    options = FitOptions(learning_rate=2e-2, steps=40, batch_size=64, report_every=10, rollouts=4)
    network = small_net()
    report = fit(network, data, options, tmp_path, judge=judge, **QUIET)
    assert (report.best_step, report.judgement, len(seen)) == (20, 0.1, 4)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, seen[1][name]) and not torch.equal(tensor, seen[3][name])
    assert report.validation_loss == validation_loss(network, data)
    best = read_checkpoint(tmp_path / "best.pt")
    assert (best["step"], best["score"]) == (20, 0.1)
    again = fit(small_net(), data, options, tmp_path / "other", **QUIET)
    assert (again.best_step, again.judgement) == (40, None) and not (tmp_path / "other" / "best.pt").exists()


def test_a_resumed_training_remembers_what_was_judged_best_and_a_new_one_forgets(data, tmp_path):
    options = FitOptions(learning_rate=2e-2, steps=40, batch_size=64, report_every=10, rollouts=2)
    for score, resume, best in ((0.1, False, 0.1), (0.5, True, 0.1), (0.5, False, 0.5)):
        how = {"judge": lambda _, s=score: s, "resume": resume, "overwrite": not resume}
        report = fit(small_net(), data, options, tmp_path, **how, **QUIET)
        assert (report.best_step, report.judgement) == (40, best)


def test_the_weights_returned_are_the_mean_over_the_last_share(data, tmp_path):
    options = FitOptions(learning_rate=2e-2, steps=40, batch_size=256, average_share=0.25, schedule="steps")
    seen, network = [], small_net()
    network.register_forward_pre_hook(lambda *_: seen.append(copy.deepcopy(network.state_dict())))
    last = FitOptions(**{**options.model_dump(), "average_share": 0.0})
    twin = small_net()
    fit(twin, data, last, tmp_path / "twin", **QUIET)
    fit(network, data, options, tmp_path / "net", **QUIET)
    steps = [s for i, s in enumerate(seen) if i == 0 or not torch.equal(s["0.weight"], seen[i - 1]["0.weight"])]
    mean = torch.stack([s["0.weight"] for s in steps[31:40]] + [twin.state_dict()["0.weight"]]).mean(dim=0)
    np.testing.assert_allclose(network[0].weight.detach(), mean, rtol=1e-4, atol=1e-6)


def test_a_prolonged_training_averages_over_its_new_end_only(data, tmp_path):
    constant = Phase(optimizer="adam", schedule="steps", period=1)
    options = {"batch_size": 256, "average_share": 0.5, "phases": (constant,), "report_every": 1}
    fit(small_net(), data, FitOptions(steps=10, **options), tmp_path, **QUIET)
    assert read_checkpoint(tmp_path / "last.pt")["averaged"] == 5

    def stop(line):
        if line.startswith("step 12"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(small_net(), data, FitOptions(steps=40, **options), tmp_path, resume=True, report=stop)
    state = read_checkpoint(tmp_path / "last.pt")
    assert (state["step"], state["averaged"]) == (11, 0)


def test_every_row_is_trained_on_once_per_pass(data, tmp_path):
    seen = []
    network = small_net()
    network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]) if torch.is_grad_enabled() else None)
    training = Training(network, data, FitOptions(steps=10, batch_size=250, report_every=10))
    training.train()
    rows = torch.cat(seen)
    assert torch.equal(rows[:, 0].sort().values, data.x[:, 0].sort().values) and not torch.equal(rows, data.x)


def test_a_batch_that_would_outgrow_the_cpu_is_reported(data, tmp_path):
    lines = []
    options = FitOptions(learning_rate=1e-3, steps=3, batch_size=64, batch_growth=100.0, batch_growth_every=1)
    report = fit(small_net(), data, options, tmp_path, report=lines.append)
    assert report.largest_batch == 4096
    assert lines[0] == "without a GPU the batch stops growing at 4096; its schedule goes to 131072"


def test_training_by_time_ends_its_schedule_and_a_loss_that_diverges_is_an_error(data, tmp_path):
    options = FitOptions(learning_rate=1e-2, steps=10**9, batch_size=64)
    report = fit(small_net(), data, options, tmp_path / "timed", max_minutes=0.01, **QUIET)
    assert 0 < report.steps < 10**9
    phase = Phase(optimizer="sgd", schedule="cosine", period=10**9)
    options = FitOptions(phases=[phase], steps=10**9, batch_size=64, report_every=5)
    fit(small_net(), data, options, tmp_path / "phases", max_minutes=0.01, **QUIET)
    rates = np.genfromtxt(tmp_path / "phases" / "loss.csv", delimiter=",", names=True)["learning_rate"][:-2]
    assert rates[0] == options.learning_rate and (np.diff(rates) < 0).all() and rates[-1] < 0.5 * rates[0]
    options = FitOptions(optimizer="adam", learning_rate=1e30, steps=50, report_every=5, batch_size=64)
    with pytest.raises(NumericalError, match="loss"):
        fit(small_net(), data, options, tmp_path / "wild", **QUIET)


def test_the_bench_of_the_loop_takes_turns_over_the_steps_between_two_reports(tmp_path):
    content = """
        {name: tiny, data: nowhere.h5, network: {widths: [5, 16, 5]},
         fit: {optimizer: adamw, learning_rate: 1e-3, steps: 9, report_every: 7, batch_size: 32}}
    """
    (tmp_path / "tiny.yaml").write_text(content)
    found = measure(TrainingTask(str(tmp_path / "tiny.yaml"), turns=2))
    assert list(found) == ["bare", "chemnet"]
    assert all(len(rates) == 2 and min(rates) > 0.0 for rates in found.values())
    config = load_config(tmp_path / "tiny.yaml")
    options = TrainingTask(batch=64, precision="bf16").options(config)
    assert (options.steps, options.batch_at(0), options.batch_at(6)) == (7, 64, 64)


class TwoThreads(Team):
    """A team of two in one process, which meets at a barrier in place of a network."""

    meeting = threading.Barrier(2, timeout=20)
    brought: list = [None, None]

    def sum(self, parameters, numbers):
        gradients = [p.grad for p in parameters]
        self.brought[self.rank] = [g.clone() for g in gradients], list(numbers)
        self.meeting.wait()
        (one, first), (two, second) = self.brought
        for gradient, a, b in zip(gradients, one, two, strict=True):
            gradient.copy_(a + b)
        self.meeting.wait()
        return [a + b for a, b in zip(first, second, strict=True)]


def test_two_of_a_team_hold_the_same_weights_and_follow_a_training_by_one(data, tmp_path):
    options = FitOptions(optimizer="adamw", learning_rate=1e-3, steps=30, batch_size=255, report_every=10)
    alone, pair = small_net(), [small_net(), small_net()]
    expected = fit(alone, data, options, tmp_path / "alone", **QUIET)
    lines = []

    def member(rank):
        fit(pair[rank], data, options, tmp_path / "pair", team=TwoThreads(rank, 2), report=lines.append)

    threads = [threading.Thread(target=member, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_equal_weights(*pair)
    for a, b in zip(alone.parameters(), pair[0].parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
    assert validation_loss(pair[0], data) == pytest.approx(expected.validation_loss, rel=1e-4, abs=0)
    assert len([line for line in lines if line.startswith("step 10,")]) == 1  # the leader alone reports
    with pytest.raises(UsageError, match="batch_size 1: there are 2 processes"):
        fit(small_net(), data, FitOptions(steps=1, batch_size=1), tmp_path, team=Team(0, 2), **QUIET)


def test_missing_damaged_or_foreign_checkpoints_are_refused(data, tmp_path):
    options = FitOptions(learning_rate=1e-2, steps=20, batch_size=64, report_every=10)
    with pytest.raises(FileError, match="without --resume"):
        fit(small_net(), data, options, tmp_path, resume=True, **QUIET)
    fit(small_net(), data, options, tmp_path, **QUIET)
    for change, message in (
        ({"options": options.model_copy(update={"batch_size": 32})}, "fit.batch_size was 64, is 32"),
        ({"seed": 1}, "seed was 0, is 1"),
        ({"facts": {"label": "difference"}}, "label was None, is difference"),
    ):
        with pytest.raises(UsageError, match=message):
            fit(small_net(), data, run=tmp_path, resume=True, **{"options": options, **change}, **QUIET)
    content = (tmp_path / "last.pt").read_bytes()
    (tmp_path / "last.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(FileError, match="damaged"):
        fit(small_net(), data, options, tmp_path, resume=True, **QUIET)


@pytest.mark.parametrize(
    ("environment", "options", "expected"),
    [({}, {}, 1), ({"OMP_NUM_THREADS": "2"}, {}, 1), ({"CHEMNET_NUM_THREADS": "2"}, {}, 2), ({}, {"n_threads": 2}, 2)],
)
def test_a_small_network_trains_in_one_thread_unless_a_user_chooses_another_number(
    data, tmp_path, monkeypatch, environment, options, expected
):
    for name in ("OMP_NUM_THREADS", "CHEMNET_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    before, seen = torch.get_num_threads(), set()
    torch.set_num_threads(2)
    try:
        short = FitOptions(learning_rate=1e-3, steps=1, batch_size=8)
        fit(small_net(), data, short, tmp_path, **options, report=lambda line: seen.add(torch.get_num_threads()))
        assert seen == {expected} and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
