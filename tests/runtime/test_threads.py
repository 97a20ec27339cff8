"""Number of threads: one for what gains nothing by more, and what a user says, in one place for everything."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from untrained_model import untrained

from chemnet.kinetics import RosenbrockReactor
from chemnet.runtime import threads
from chemnet.runtime.errors import UsageError
from chemnet.runtime.threads import NAME, chosen_threads, threads_for
from chemnet.runtime.torch_threads import torch_threads
from chemnet.surrogate import inference
from chemnet.surrogate.hybrid import HybridStep
from chemnet.surrogate.inference import Engine, available_engines
from chemnet.surrogate.network import NetConfig, build


@pytest.fixture(autouse=True)
def free(monkeypatch):
    """A machine of four cores on which nobody has chosen, and torch has three threads."""
    for name in (NAME, "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "available_cores", lambda: 4)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_small_networks_take_one_thread_large_ones_the_cores_that_are_permitted(monkeypatch):
    assert [threads_for(n) for n in (1, 300_000, 300_001)] == [1, 1, 4]
    for permitted, expected in (("2", 2), ("8", 4), ("many", 4)):
        monkeypatch.setenv("OMP_NUM_THREADS", permitted)
        assert [threads_for(n) for n in (1, 10**7)] == [1, expected]


def test_what_a_user_says_holds_a_call_before_the_environment(monkeypatch):
    monkeypatch.setenv(NAME, "3")
    assert [threads_for(n) for n in (1, 10**7)] == [3, 3]
    assert threads_for(1, n_threads=2) == threads_for(10**7, n_threads=2) == 2
    assert RosenbrockReactor("h2o2.yaml").n_threads == 3
    assert RosenbrockReactor("h2o2.yaml", n_threads=1).n_threads == 1
    monkeypatch.setenv(NAME, "0")
    with pytest.raises(UsageError, match=f"{NAME} = 0: at least one thread"):
        chosen_threads()
    with pytest.raises(UsageError, match="n_threads = -1"):
        threads_for(1, n_threads=-1)


def test_the_threads_of_torch_are_put_back_also_after_an_error():
    with pytest.raises(ValueError), torch_threads(1):
        assert torch.get_num_threads() == 1
        raise ValueError
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize(("n_threads", "expected"), [(None, 1), (2, 2)])
def test_an_engine_computes_with_its_own_threads_in_a_plain_process(monkeypatch, n_threads, expected):
    seen = []
    layer = inference._plain_layer

    def watched(*arguments):
        run = layer(*arguments)
        return lambda values: seen.append(torch.get_num_threads()) or run(values)

    monkeypatch.setattr(inference, "_has_fused_layers", lambda dtype: False)
    monkeypatch.setattr(inference, "_plain_layer", watched)
    Engine("fp32", build(NetConfig(widths=(6, 8, 6)), seed=1), n_threads)(np.ones((16, 6), np.float32))
    assert set(seen) == {expected} and torch.get_num_threads() == 3


@pytest.mark.parametrize("engine", available_engines())
def test_every_engine_takes_a_number_of_threads_and_gives_the_same(engine):
    network = build(NetConfig(widths=(6, 8, 6)), seed=1)
    inputs = np.random.default_rng(0).standard_normal((16, 6)).astype(np.float32)
    one, two = (Engine(engine, network, n)(inputs) for n in (1, 2))
    np.testing.assert_allclose(one, two, rtol=1e-6, atol=1e-6)


def test_a_hybrid_step_hands_the_number_to_its_network_and_its_integrators():
    model, _ = untrained("h2o2.yaml", 20, "relu")
    step = HybridStep(model, n_threads=2)
    assert (step.model.n_threads, step.integrator.n_threads, step.outside_step.n_threads) == (2, 2, 2)
    step = HybridStep(model)
    assert (step.model._run.n_threads, step.integrator.n_threads) == (1, 1)


COMMAND = """
import os, sys
from chemnet.cli.main import main
assert not {"numpy", "torch"} & set(sys.modules)
assert main(sys.argv[1:]) == 4
print([os.environ.get(name) for name in ("CHEMNET_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")])
"""


@pytest.mark.parametrize(
    ("words", "expected"), [(["info", "none"], [None, None, "1"]), (["reduce", "none", "--threads", "2"], ["2"] * 3)]
)
def test_the_command_line_chooses_before_numpy_and_torch_are_there(words, expected):
    names = (NAME, "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    command = [sys.executable, "-c", COMMAND, *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.splitlines()[-1] == str(expected)
