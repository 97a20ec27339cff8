"""Engines that compute a network: torch in float32 or bfloat16, or onnxruntime. All of them on the processor.

Libraries choose their kernels by the number of rows, and so a row's last bits could depend on how many others there
are. Engines are therefore called with blocks of a fixed number of rows, and with smaller ones only where these,
tried once when the engine is made, give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from chemnet.runtime.errors import UsageError
from chemnet.runtime.lazy import installed
from chemnet.runtime.nearest import hint
from chemnet.runtime.threads import threads_for
from chemnet.runtime.torch_threads import torch_threads

EngineName = Literal["fp32", "bf16", "onnx"]
BLOCK = 1024  # rows of the largest call

Floats = NDArray[np.float32]
_Function = Callable[[Floats], Floats]
_SMALLER_BLOCKS = (16, 32, 64, 96, *range(128, BLOCK, 64))
_BF16_INSTRUCTIONS = {"avx512_bf16", "amx_bf16", "bf16"}
# As oneDNN calls them; the identity stands between two factors of a matrix.
_ACTIVATIONS = {nn.ReLU: "relu", nn.GELU: "gelu", nn.SiLU: "swish", nn.Tanh: "tanh", nn.Identity: "none"}


def check_engine(name: str) -> EngineName:
    """`name` itself. Raises UsageError when there is no such engine, or it is not installed."""
    if name not in get_args(EngineName):
        raise UsageError(f"no engine {name}{hint(name, get_args(EngineName))}")
    if name == "onnx" and not _has_onnx():
        raise UsageError("engine onnx needs onnxruntime: pip install onnx onnxruntime")
    return cast(EngineName, name)


def available_engines() -> list[EngineName]:
    """Engines that work on this machine."""
    return ["fp32", "bf16", "onnx"] if _has_onnx() else ["fp32", "bf16"]


def suitable_engine(name: str) -> EngineName:
    """The engine that a model was made for, or fp32 where that is not installed or has no instructions here."""
    if (name == "onnx" and not _has_onnx()) or (name == "bf16" and not has_bf16_instructions()):
        return "fp32"
    return check_engine(name)


class Engine:
    """Outputs (n, m_out) of a network for inputs (n, m) of up to BLOCK rows, contiguous float32.

    It has a copy of the weights as they are when it is made. `blocks` are the numbers of rows that it works with, of
    which `block_for` gives the smallest for n rows; the caller has the memory for it. It computes with `n_threads`
    (None: as many as the network is worth, `runtime/threads.py`).
    """

    def __init__(self, name: str, network: nn.Sequential, n_threads: int | None = None) -> None:
        make = _onnx_function if check_engine(name) == "onnx" else _torch_function
        self.n_threads = threads_for(sum(p.numel() for p in network.parameters()), n_threads)
        self._function = make(network, name, self.n_threads)
        inputs = np.random.default_rng(0).standard_normal((BLOCK, network[0].in_features)).astype(np.float32)
        outputs = self._function(inputs)
        smaller = [n for n in _SMALLER_BLOCKS if self._agrees(n, inputs, outputs)]
        self.blocks = (*smaller, BLOCK)

    def block_for(self, n: int) -> int:
        """Rows of the smallest block that takes n rows."""
        return next(block for block in self.blocks if block >= n)

    def __call__(self, inputs: Floats) -> Floats:
        return self._function(inputs)

    def _agrees(self, n: int, inputs: Floats, outputs: Floats) -> bool:
        """Whether blocks of n rows, wherever their rows come from, give the bits of the largest block."""
        starts = (0, BLOCK // 2, BLOCK - n)
        return all(np.array_equal(self._function(inputs[i : i + n]), outputs[i : i + n]) for i in starts)


def _torch_function(network: nn.Sequential, precision: str, n_threads: int) -> _Function:
    """Layer by layer, each with its activation in one call of oneDNN where torch has that.

    In bf16 the first and the last layer stay in float32: they cost little, and eight bits of T or of a label would be
    too few.
    """
    linears = [module for module in network if isinstance(module, nn.Linear)]
    inner = torch.bfloat16 if precision == "bf16" else torch.float32
    types = [inner if 0 < i < len(linears) - 1 else torch.float32 for i in range(len(linears))]
    layers = [
        (_fused_layer if _has_fused_layers(dtype) else _plain_layer)(
            linear.weight.detach().cpu().to(dtype), linear.bias.detach().cpu().to(dtype), activation
        )
        for linear, dtype, activation in zip(linears, types, [*network[1::2], None], strict=True)
    ]

    def run(inputs: Floats) -> Floats:
        with torch.inference_mode(), torch_threads(n_threads):
            values = torch.from_numpy(inputs)
            for layer, dtype in zip(layers, types, strict=True):
                values = layer(values.to(dtype))
            outputs: Floats = values.numpy()
        return outputs

    return run


_Layer = Callable[[torch.Tensor], torch.Tensor]


def _fused_layer(weight: torch.Tensor, bias: torch.Tensor, activation: nn.Module | None) -> _Layer:
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, BLOCK)
    name = "none" if activation is None else _ACTIVATIONS[type(activation)]
    algorithm = "none" if name == "gelu" else ""

    def run(values: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise(values, packed, bias, name, [], algorithm)

    return run


def _plain_layer(weight: torch.Tensor, bias: torch.Tensor, activation: nn.Module | None) -> _Layer:
    def run(values: torch.Tensor) -> torch.Tensor:
        values = nn.functional.linear(values, weight, bias)
        return values if activation is None else activation(values)

    return run


def _has_fused_layers(dtype: torch.dtype) -> bool:
    """torch has these operators for its own compiler; where they go, or do not take bfloat16 on this processor, layers
    are computed in two calls."""
    names = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
    if not (torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in names)):
        return False
    return dtype != torch.bfloat16 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _onnx_function(network: nn.Sequential, _: str, n_threads: int) -> _Function:
    import onnxruntime

    from chemnet.surrogate.onnx_graph import network_model

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads
    content = network_model(network).SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(inputs: Floats) -> Floats:
        outputs: Floats = session.run(None, {"inputs": inputs})[0]
        return outputs

    return run


def _has_onnx() -> bool:
    return installed("onnx") and installed("onnxruntime")


def has_bf16_instructions() -> bool:
    """Whether this processor multiplies in bfloat16; without, it is emulated and slow."""
    return bool(_BF16_INSTRUCTIONS & _processor_flags())


def _processor_flags() -> set[str]:
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text(encoding="utf-8").splitlines() if facts.exists() else []
    first = next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    return set(first.partition(":")[2].split())
