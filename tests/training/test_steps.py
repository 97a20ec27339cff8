"""Steps of a training: those that do not wait for their losses, memory that does not suffice, and those on a GPU."""

import math

import pytest
import torch
from torch import nn

from chemnet.runtime.errors import NumericalError, UsageError
from chemnet.surrogate.network import NetConfig, build
from chemnet.training.batches import TrainingData
from chemnet.training.loop import fit
from chemnet.training.options import FitOptions
from chemnet.training.steps import Training

OPTIONS = FitOptions(optimizer="adam", learning_rate=1e-2, steps=24, batch_size=8, report_every=6, rollouts=0)
GROWING = OPTIONS.model_copy(update={"batch_growth": 2.0, "batch_growth_every": 6, "grows_on_cpu": True})
on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def data(rows=200):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, 3, generator=generator)
    y = x.square() - x.roll(1, dims=1)
    return TrainingData(x[:-40], y[:-40], x[-40:], y[-40:], torch.arange(3))


def network():
    return build(NetConfig(widths=(3, 16, 3), activation="relu"), 0)


def test_steps_that_do_not_wait_for_their_losses_give_the_same_weights_and_losses():
    trainings = [Training(network(), data(), OPTIONS) for _ in range(2)]
    trainings[1].waits = False
    means = [[training.train() for _ in range(4)] for training in trainings]
    assert all(isinstance(mean, float) for mean in means[1])
    assert means[1] == pytest.approx(means[0], rel=1e-6, abs=0)
    for a, b in zip(*(training.network.parameters() for training in trainings), strict=True):
        assert torch.equal(a, b)


def test_a_loss_that_is_not_finite_is_found_at_the_end_of_a_bout_that_does_not_wait():
    bad = data()
    bad.y[:] = math.inf
    training = Training(network(), bad, OPTIONS)
    training.waits = False
    with pytest.raises(NumericalError, match="the loss is"):
        training.train()


class Small(nn.Module):
    """A network with memory for some rows."""

    def __init__(self, rows, error):
        super().__init__()
        self.inner, self.rows, self.error = network(), rows, error

    def forward(self, x):
        if len(x) > self.rows and torch.is_grad_enabled():
            raise self.error
        return self.inner(x)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 7 bytes."),
        MemoryError(),
    ],
)
def test_too_little_memory_says_which_batch_fits(tmp_path, error):
    with pytest.raises(UsageError) as caught:
        fit(Small(20, error), data(), GROWING, tmp_path, report=lambda line: None)
    lines = str(caught.value).splitlines()
    assert lines[0] == "a batch of 32 rows does not fit into the memory of cpu at step 12; 16 did"
    assert lines[1] == "Start anew with a smaller one: --set fit.max_batch_size=16"
    with pytest.raises(UsageError, match="fit.max_batch_size=4$"):
        fit(Small(5, error), data(), GROWING, tmp_path, overwrite=True, report=lambda line: None)


def test_other_errors_of_a_network_stay_as_they_are(tmp_path):
    with pytest.raises(RuntimeError, match="something else"):
        fit(Small(1, RuntimeError("something else")), data(), GROWING, tmp_path, report=lambda line: None)


@on_a_gpu
def test_no_step_on_a_gpu_waits_for_it():
    training = Training(network(), data(), GROWING, device="cuda")
    training.take_step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        losses = [training.take_step()[0] for _ in range(10)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(loss.is_cuda for loss in losses)


@on_a_gpu
def test_a_training_on_a_gpu_goes_on_where_it_was_stopped():
    whole = Training(network(), data(), GROWING, device="cuda")
    for _ in range(2):
        whole.train()
    state = whole.state()
    parts = Training(network(), data(), GROWING, device="cuda")
    parts.restore(state)
    assert parts.order.is_cuda
    losses = [[training.train() for _ in range(2)] for training in (whole, parts)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5, abs=0)


@on_a_gpu
def test_a_gpu_learns_what_a_cpu_learns(tmp_path):
    losses = [
        fit(network(), data(), GROWING, tmp_path / device, device=device, report=lambda line: None).validation_loss
        for device in ("cpu", "cuda")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3, abs=0)
