"""Methods of reduction: budgets as steps, networks that narrow, labels of a teacher."""

import pytest
import torch

from chemnet.reduction.methods import METHODS, Clock, Large, Part, plan, start_of, taught
from chemnet.surrogate.network import NetConfig, build, describe
from chemnet.training.batches import TrainingData
from chemnet.training.options import FitOptions

LARGE = Large(build(NetConfig(widths=(3, 1000, 1000, 2))), steps=700, seconds=20.0)


class SetClock(Clock):
    """A step takes a microsecond per neuron, a reduction half a second."""

    def __init__(self):
        pass

    def step(self, widths):
        return 1e-6 * sum(widths)

    def reduction(self, widths, calibration):
        return 0.5


@pytest.mark.parametrize(
    ("method", "steps"),
    [
        ("condensation", 1000),
        ("scratch-steps", 1000 + 700),
        ("scratch-after", 1000 + 2500),  # half a second of steps that take 0.2 ms
        ("scratch-total", 1000 + 2500 + 100_000),
    ],
)
def test_times_become_steps_by_what_a_step_takes(method, steps):
    assert plan(METHODS[method], (100, 100), 1000, LARGE, SetClock(), torch.empty(0)) == [Part((100, 100), steps)]


def test_a_network_that_narrows_while_it_is_trained_takes_the_same_time_half_of_it_at_its_last_widths():
    clock = SetClock()
    for name in ("forward-gradual", "forward-while-training"):
        parts = plan(METHODS[name], (100, 10), 1000, LARGE, clock, torch.empty(0))
        budget = 0.5 + 1000 * clock.step((100, 10)) + (20.0 if METHODS[name].fresh else 0.0)
        seconds = [part.steps * clock.step(part.widths) for part in parts]
        assert sum(seconds) == pytest.approx(budget, rel=0.01, abs=0.0)
        assert seconds[-1] == pytest.approx(0.5 * budget, rel=0.01, abs=0.0)
        cuts = [(464, 215), (215, 46), (100, 10)]
        assert [part.widths for part in parts] == ([(1000, 1000)] if METHODS[name].fresh else []) + cuts


@pytest.fixture(scope="module")
def data():
    x, y = torch.rand(300, 3), torch.rand(300, 2)
    return TrainingData(x[:200], y[:200], x[200:], y[200:], torch.arange(2))


def test_the_clock_measures_once_and_forgets_what_was_measured_for_something_else(data, tmp_path):
    large = Large(build(NetConfig(widths=(3, 24, 20, 2))), 1, 1.0)

    def clock(origin):
        return Clock(tmp_path / "clock.json", origin, large, data, FitOptions(steps=12, batch_size=64))

    first = clock("a").step((12, 10)), clock("a").reduction((12, 10), data.x[:50])
    assert all(seconds > 0.0 for seconds in first)
    assert (clock("a").step((12, 10)), clock("a").reduction((12, 10), data.x[:50])) == first
    clock("b").step((12, 10))
    clock("a")
    assert (tmp_path / "clock.json").read_text().count("step at") == 1


def test_a_teachers_answers_take_their_share_of_the_labels_and_leave_the_validation_alone(data):
    network = build(NetConfig(widths=(3, 8, 2)))
    with torch.no_grad():
        answers = network(data.x)
    assert taught(data, network, 0.0) is data
    torch.testing.assert_close(taught(data, network, 1.0).y, answers, rtol=1e-5, atol=1e-6)
    quarter = taught(data, network, 0.25)
    torch.testing.assert_close(quarter.y, 0.75 * data.y + 0.25 * answers, rtol=1e-5, atol=1e-6)
    assert quarter.y.dtype == torch.float32 and not quarter.y.is_inference()
    assert quarter.y_val is data.y_val


def test_a_fresh_start_has_the_large_widths_and_another_start_is_the_large_network():
    assert start_of(METHODS["forward-gradual"], LARGE, 0) is LARGE.network
    fresh = start_of(METHODS["qr-while-training"], LARGE, 1)
    assert describe(fresh) == describe(LARGE.network)
    assert not torch.equal(fresh[0].weight, LARGE.network[0].weight)
    assert torch.equal(fresh[0].weight, start_of(METHODS["qr-while-training"], LARGE, 1)[0].weight)
