"""Options of a training: schedules of the learning rate and of the batch, and the device."""

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from chemnet.runtime.errors import UsageError
from chemnet.surrogate.network import build, count
from chemnet.training.config import load_config
from chemnet.training.options import FitOptions, Phase, choose_device


def test_the_paper_config_has_the_published_net_and_schedule():
    config = load_config("paper")
    network, options = build(config.network), config.fit
    assert count(network, biases=False) == 6_802_800
    assert [options.rate_at(step, 0.0) for step in (0, 999, 1000, 4999)] == [1e-4, 1e-4, 5e-5, 6.25e-6]
    assert [options.batch_at(step) for step in (0, 1000, 4999)] == [1024, 3143, int(1024 * 3.07**4)]
    assert options.on("cuda") == options
    assert [options.on("cpu").batch_at(step) for step in (0, 1000, 2000, 4999)] == [1024, 3143, 4096, 4096]
    grown = options.model_copy(update={"grows_on_cpu": True})
    assert [grown.on("cpu").batch_at(step) for step in (0, 4999)] == [1024, int(1024 * 3.07**4)]
    np.testing.assert_allclose(network[0].weight.std().item(), 2.0 / (23 + 3200), rtol=0.02, atol=0)


def test_a_scaled_training_has_the_rates_and_batches_of_the_whole_one_after_the_same_shares():
    whole = load_config("paper").fit
    part = whole.scaled(0.02)
    assert part.steps == 100
    assert [part.batch_at(step) for step in range(100)] == [whole.batch_at(50 * step) for step in range(100)]
    assert [part.rate_at(step, 0.0) for step in range(100)] == [whole.rate_at(50 * step, 0.0) for step in range(100)]
    assert whole.scaled(1.0) == whole
    assert whole.scaled(1e-5).steps == 1
    for scale in (0.0, -1.0, 1.01):
        with pytest.raises(UsageError, match="expected a share of the steps"):
            whole.scaled(scale)
    phases = (Phase(optimizer="adam", schedule="cosine"),)
    with pytest.raises(UsageError, match="phases cannot be scaled"):
        whole.model_copy(update={"phases": phases}).scaled(0.5)


def test_the_cosine_schedule_warms_up_and_ends_at_zero():
    options = FitOptions(learning_rate=0.1, steps=1000, warmup_steps=99)
    rates = [options.rate_at(step, step / 1000) for step in (0, 500, 1000)]
    assert_allclose(rates, [0.001, 0.05, 0.0], rtol=1e-12, atol=1e-15)


def test_a_cosine_with_a_period_is_half_way_in_the_middle_and_starts_again():
    phase = Phase(optimizer="sgd", schedule="cosine", period=200)
    rates = [phase.rate_at(time, 0.01) for time in (0.0, 100.0, 199.999, 200.0)]
    assert_allclose(rates, [0.01, 0.005, 0.0, 0.01], rtol=1e-6, atol=1e-9)


def test_phases_follow_each_other_and_are_ahead_where_time_is_short():
    first = Phase(optimizer="sgd", schedule="steps", period=2, decay=0.5, steps=4)
    second = Phase(optimizer="adam", schedule="alternating", period=3, rate=1e-3, lowest=1e-4)
    options = FitOptions(phases=(first, second), phase_unit=10, steps=120, learning_rate=0.1)
    found = [options.phase_at(step, step / 120) for step in (0, 20, 39, 40, 69, 70, 100)]
    assert [number for number, _ in found] == [0, 0, 0, 1, 1, 1, 1]
    assert_allclose([rate for _, rate in found], [0.1, 0.05, 0.05, 1e-3, 1e-3, 1e-4, 1e-3], rtol=1e-12, atol=0)
    assert options.phase_at(0, 0.6) == options.phase_at(72, 0.6)
    paper = load_config("paper").fit
    assert paper.rate_at(0, 0.5) == paper.rate_at(2500, 0.5)  # a decay every 1000 of 5000 steps
    with pytest.raises(ValueError, match="schedule alternating needs a period"):
        Phase(optimizer="sgd", schedule="alternating")


def test_a_device_that_is_not_there_is_refused():
    if not torch.cuda.is_available():
        assert choose_device("auto") == "cpu"
        with pytest.raises(UsageError, match="no GPU"):
            choose_device("cuda")
    assert math.isfinite(FitOptions(steps=1).learning_rate)
