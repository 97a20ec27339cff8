"""Who multiplies the matrices: torch in float32 or bfloat16, or onnxruntime. All of them on the processor.

Libraries choose their kernels by the number of rows, and so a row's last bits could depend on how many others there
are. Engines are therefore called with blocks of a fixed number of rows, and with smaller ones only where these,
tried once when the engine is made, give the same bits.
"""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from chemnet.errors import UsageError

EngineName = Literal["auto", "fp32", "bf16", "onnx"]
BLOCK = 512  # rows of the largest call

Floats = NDArray[np.float32]
_Function = Callable[[Floats], Floats]
_SMALLER_BLOCKS = (16, 64, 192)
_BF16_INSTRUCTIONS = {"avx512_bf16", "amx_bf16", "bf16"}


def check_engine(name: str) -> EngineName:
    """`name` itself. Raises UsageError when there is no such engine, or it is not installed."""
    for known in get_args(EngineName):
        if name == known:
            if known == "onnx" and not _has_onnx():
                raise UsageError("engine onnx needs onnxruntime: pip install 'chemnet[onnx]'")
            return known
    raise UsageError(f"no engine {name}; there are {', '.join(get_args(EngineName))}")


def available_engines() -> list[EngineName]:
    """Engines that work on this machine, `auto` apart."""
    return ["fp32", "bf16", "onnx"] if _has_onnx() else ["fp32", "bf16"]


def choose_engine(name: str) -> EngineName:
    """What `auto` means on this machine: bf16 if the processor has instructions for it, else onnx, else fp32."""
    known = check_engine(name)
    if known != "auto":
        return known
    if _BF16_INSTRUCTIONS & _processor_flags():
        return "bf16"
    return "onnx" if _has_onnx() else "fp32"


class Engine:
    """Outputs (n, m_out) of a network for inputs (n, m) of up to BLOCK rows, contiguous float32.

    fp32 uses the network as it is at each call; the other engines are made from it once. `blocks` are the numbers of
    rows that it works with, of which `block_for` gives the smallest for n rows; the caller has the memory for it.
    """

    def __init__(self, name: str, network: nn.Sequential) -> None:
        chosen = choose_engine(name)
        if chosen == "onnx":
            self._function = _onnx_engine(network)
        else:
            self._function = _torch_engine(network if chosen == "fp32" else _in_bfloat16(network))
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


def _torch_engine(network: nn.Module) -> _Function:
    def run(inputs: Floats) -> Floats:
        with torch.inference_mode():
            outputs: Floats = network(torch.from_numpy(inputs)).numpy()
        return outputs

    return run


class _InBfloat16(nn.Module):
    """A network whose inner layers work in bfloat16.

    The first and the last stay in float32: they cost little, and eight bits of T or of a label would be too few.
    """

    def __init__(self, network: nn.Sequential) -> None:
        super().__init__()
        layers = list(copy.deepcopy(network))
        self.first, self.last = layers[0], layers[-1]
        self.inner = nn.Sequential(*layers[1:-1]).to(torch.bfloat16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.inner(self.first(x).to(torch.bfloat16)).float())


def _in_bfloat16(network: nn.Sequential) -> nn.Module:
    return _InBfloat16(network) if len(network) > 1 else network


def _onnx_engine(network: nn.Sequential) -> _Function:
    import onnxruntime

    from chemnet.onnx_graph import network_model

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    content = network_model(network).SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(inputs: Floats) -> Floats:
        outputs: Floats = session.run(None, {"inputs": inputs})[0]
        return outputs

    return run


def _has_onnx() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in ("onnx", "onnxruntime"))


def _processor_flags() -> set[str]:
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text(encoding="utf-8").splitlines() if facts.exists() else []
    first = next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    return set(first.partition(":")[2].split())
