"""Differential test on random networks: at a threshold of 1 the condensed network gives what the network gives, or the
layer is left alone; none is refused. `pytest -m slow tests/condensation/test_random_nets.py`
tries 2,000."""

import copy
import io
import warnings

import pytest
import torch
from random_nets import random_net

from chemnet.condensation import condense, resize

QUICK, ALL, CHUNK = 30, 2000, 100
SAME, ROUNDING = 1e-5, 1e-6  # of the largest output
TIMES = 8.0  # the change by the last place of all weights and inputs: what a network that cancels makes of rounding


def outputs(net, inputs, *, training=False):
    """Outputs of a copy, which may be trained on."""
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        return copy.deepcopy(net).train(training)(*[x.clone() for x in inputs])


def difference(net, other, inputs):
    """Largest difference of the outputs relative to the largest output."""
    pairs = zip(outputs(net, inputs), outputs(other, inputs), strict=True)
    return max(float((a - b).abs().max() / a.abs().max().clamp(min=1e-30)) for a, b in pairs)


def in_the_last_place(x, generator):
    """The numbers of a tensor changed in their last place, up or down."""
    sign = 2 * torch.randint(2, x.shape, generator=generator) - 1
    return x * (1.0 + torch.finfo(x.dtype).eps * sign)


def by_rounding(net, inputs):
    """Largest change of the outputs, relative to the largest, by the last place of all weights and inputs."""
    generator, other = torch.Generator().manual_seed(0), copy.deepcopy(net)
    with torch.no_grad():
        for weight in other.parameters():
            weight.copy_(in_the_last_place(weight, generator))
    pairs = zip(outputs(net, inputs), outputs(other, [in_the_last_place(x, generator) for x in inputs]), strict=True)
    return max(float((a - b).abs().max() / a.abs().max().clamp(min=1e-30)) for a, b in pairs)


def parameters(net):
    return sum(parameter.numel() for parameter in net.parameters())


def condensed(seed):
    """How many parameters are left of a random network, as a share; None for one that overflows."""
    net, inputs = random_net(seed)
    if not all(torch.isfinite(x).all() for x in outputs(net, inputs)):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # layers that are left alone
        smaller = condense(net, inputs, threshold=1.0)
    for scale in (1.0, 2.0):
        shuffled = tuple(scale * x.flip(0) for x in inputs)
        assert difference(net, smaller, shuffled) < max(SAME, TIMES * by_rounding(net, shuffled)), seed
    outputs(smaller, inputs, training=True)
    rebuilt = resize(random_net(seed)[0], smaller.state_dict())
    assert difference(smaller, rebuilt, inputs) < ROUNDING, seed
    buffer = io.BytesIO()
    torch.save(smaller, buffer)
    buffer.seek(0)
    assert difference(smaller, torch.load(buffer, weights_only=False), inputs) < ROUNDING, seed
    assert parameters(smaller) <= parameters(net), seed
    return parameters(smaller) / parameters(net)


def test_no_random_network_is_condensed_wrongly():
    left = [condensed(seed) for seed in range(QUICK)]
    assert sum(share is not None and share < 1.0 for share in left) > QUICK // 4


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, ALL, CHUNK))
def test_no_random_network_of_many_is_condensed_wrongly(start):
    left = [condensed(seed) for seed in range(start, start + CHUNK)]
    assert sum(share is not None and share < 1.0 for share in left) > CHUNK // 4


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"threshold": 0.8}, {"threshold": 0.9, "choice": "forward"}])
def test_random_networks_are_condensed_further_with_calibration_as_merging_predicts(options):
    smaller = 0
    for seed in range(ALL, ALL + CHUNK):
        net, inputs = random_net(seed)
        calibration = tuple(x.std() * torch.randn(60, *x.shape[1:]) for x in inputs)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            reduced = condense(net, inputs, calibration=calibration if len(inputs) > 1 else calibration[0], **options)
        # a width that a network makes a number of is not always seen before the check
        assert not caught or any(step.kind == "by_size" for step in net.program), (seed, str(caught[0].message))
        rebuilt = resize(random_net(seed)[0], reduced.state_dict())
        assert difference(reduced, rebuilt, inputs) < ROUNDING, seed
        smaller += parameters(reduced) < parameters(net)
    assert smaller > CHUNK // 2
