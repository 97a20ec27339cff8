"""Engines that compute the network: all engines say what torch says, for every activation, in blocks of any size."""

import numpy as np
import pytest
import torch
from torch import nn

from chemnet.runtime.errors import UsageError
from chemnet.surrogate import inference
from chemnet.surrogate.inference import BLOCK, Engine, available_engines, suitable_engine
from chemnet.surrogate.network import ACTIVATIONS, NetConfig, build

TOLERANCE = {"fp32": 2e-6, "onnx": 2e-6, "bf16": 2e-2}


@pytest.fixture(scope="module")
def inputs():
    return np.random.default_rng(0).standard_normal((BLOCK, 23)).astype(np.float32)


def reference(network, inputs):
    with torch.no_grad():
        return network(torch.from_numpy(inputs)).numpy()


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("engine", available_engines())
def test_an_engine_gives_the_outputs_of_the_network(engine, activation, inputs):
    network = build(NetConfig(widths=(23, 40, 31, 23), activation=activation), seed=1)
    expected = reference(network, inputs)
    found = Engine(engine, network)(inputs)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE[engine] * np.abs(expected).max())


@pytest.mark.parametrize("widths", [(23, 23), (23, 40, 23)])
@pytest.mark.parametrize("engine", available_engines())
def test_networks_with_few_layers_are_no_exception(engine, widths, inputs):
    network = build(NetConfig(widths=widths), seed=1)
    np.testing.assert_allclose(Engine(engine, network)(inputs), reference(network, inputs), rtol=0, atol=1e-5)


@pytest.mark.parametrize("engine", available_engines())
def test_a_matrix_in_two_factors_is_computed_like_any_two_layers(engine, inputs):
    torch.manual_seed(0)
    linears = nn.Linear(23, 40), nn.Linear(40, 8), nn.Linear(8, 40), nn.Linear(40, 23)
    network = nn.Sequential(linears[0], nn.GELU(), linears[1], nn.Identity(), linears[2], nn.GELU(), linears[3])
    expected = reference(network, inputs)
    found = Engine(engine, network)(inputs)
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE[engine] * np.abs(expected).max())


@pytest.mark.parametrize("engine", available_engines())
def test_blocks_of_every_size_give_the_same_bits(engine, inputs):
    run = Engine(engine, build(NetConfig(widths=(23, 96, 96, 23)), seed=2))
    expected = run(inputs)
    assert run.blocks[-1] == BLOCK
    for n in run.blocks:
        assert run.block_for(n) == n
        np.testing.assert_array_equal(run(inputs[-n:]), expected[-n:])


def test_a_block_that_would_give_other_bits_is_not_used(inputs, monkeypatch):
    """A library that adds something to calls of 64 rows and less."""

    def fickle(network, name, n_threads):
        return lambda rows: rows + np.float32(1e-6) * (len(rows) <= 64)

    monkeypatch.setattr(inference, "_torch_function", fickle)
    blocks = Engine("fp32", build(NetConfig(widths=(23, 23)))).blocks
    assert blocks == (96, *range(128, BLOCK + 1, 64))


def test_layers_are_computed_in_two_calls_where_torch_has_none_for_both(inputs, monkeypatch):
    network = build(NetConfig(widths=(23, 40, 31, 23)), seed=1)
    fused = Engine("fp32", network)(inputs)
    monkeypatch.setattr(inference, "_has_fused_layers", lambda *_: False)
    np.testing.assert_allclose(Engine("fp32", network)(inputs), fused, rtol=0, atol=1e-6)


def test_a_model_made_for_bf16_takes_fp32_where_the_processor_has_no_instructions_for_it(monkeypatch):
    monkeypatch.setattr(inference, "_processor_flags", lambda: {"avx2", "fma"})
    assert suitable_engine("bf16") == "fp32"
    monkeypatch.setattr(inference, "_processor_flags", lambda: {"avx512_bf16"})
    assert suitable_engine("bf16") == "bf16"


def test_onnxruntime_is_optional(monkeypatch):
    monkeypatch.setattr(inference, "_has_onnx", lambda *_: False)
    assert available_engines() == ["fp32", "bf16"] and suitable_engine("onnx") == "fp32"
    with pytest.raises(UsageError, match="pip install onnx onnxruntime"):
        Engine("onnx", build(NetConfig(widths=(23, 23))))
