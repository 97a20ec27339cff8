"""The training loop: it learns, it resumes bitwise, its schedules are the published ones, damage is noticed."""

import copy
import math

import numpy as np
import pytest
import torch

from chemnet.errors import FileError, NumericalError, UsageError
from chemnet.learning import load_config
from chemnet.network import NetConfig, build, count
from chemnet.training import FitOptions, TrainingData, _Fit, choose_device, fit, validation_loss

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
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


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
    options = {"learning_rate": 2e-2, "batch_size": 256, "average_share": 0.5, "schedule": "steps", "report_every": 10}
    network = small_net()
    state = _Fit(network, data, FitOptions(steps=10, **options), tmp_path, 0, None, **QUIET)
    state.run(resume=False)
    assert state.averaged == 5
    state.options = FitOptions(steps=40, **options)
    state._take_step(state._share())
    assert state.averaged == 0


def test_the_paper_config_has_the_published_net_and_schedule():
    config = load_config("paper")
    network, options = build(config.network), config.fit
    assert count(network, biases=False) == 6_802_800
    assert [options.rate_at(step, 0.0) for step in (0, 999, 1000, 4999)] == [1e-4, 1e-4, 5e-5, 6.25e-6]
    assert [options.batch_at(step) for step in (0, 1000, 4999)] == [1024, 3143, int(1024 * 3.07**4)]
    np.testing.assert_allclose(network[0].weight.std().item(), 2.0 / (23 + 3200), rtol=0.02, atol=0)


def test_the_cosine_schedule_warms_up_and_ends_at_zero():
    options = FitOptions(learning_rate=0.1, steps=1000, warmup_steps=99)
    assert options.rate_at(0, 0.0) == pytest.approx(0.001, rel=1e-12)
    assert options.rate_at(500, 0.5) == pytest.approx(0.05, rel=1e-12)
    assert options.rate_at(1000, 1.0) == pytest.approx(0.0, abs=1e-15)


def test_training_by_time_ends_in_time_and_a_loss_that_diverges_is_told(data, tmp_path):
    options = FitOptions(learning_rate=1e-2, steps=10**9, batch_size=64)
    report = fit(small_net(), data, options, tmp_path / "timed", max_minutes=0.01, **QUIET)
    assert 0.5 < report.seconds < 30.0 and report.steps < 10**6
    options = FitOptions(optimizer="adam", learning_rate=1e30, steps=50, report_every=5, batch_size=64)
    with pytest.raises(NumericalError, match="loss"):
        fit(small_net(), data, options, tmp_path / "wild", **QUIET)


def test_missing_damaged_or_foreign_checkpoints_are_refused(data, tmp_path):
    options = FitOptions(learning_rate=1e-2, steps=20, batch_size=64, report_every=10)
    with pytest.raises(FileError, match="without --resume"):
        fit(small_net(), data, options, tmp_path, resume=True, **QUIET)
    fit(small_net(), data, options, tmp_path, **QUIET)
    longer = FitOptions(**{**options.model_dump(), "batch_size": 32})
    with pytest.raises(UsageError, match="fit.batch_size 64, not 32"):
        fit(small_net(), data, longer, tmp_path, resume=True, **QUIET)
    content = (tmp_path / "last.pt").read_bytes()
    (tmp_path / "last.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(FileError, match="damaged"):
        fit(small_net(), data, options, tmp_path, resume=True, **QUIET)


def test_a_device_that_is_not_there_is_refused():
    if not torch.cuda.is_available():
        assert choose_device("auto") == "cpu"
        with pytest.raises(UsageError, match="no GPU"):
            choose_device("cuda")
    assert math.isfinite(FitOptions(steps=1).learning_rate)
