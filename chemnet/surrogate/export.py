"""A model for other programs: an ONNX graph, a program of torch.export, TorchScript, C, a case folder for DeepFlame.

ONNX and torch get the way from states to mass fractions after a step, without the closure, which is no matter of
matrices: their user restores the elements, and integrates gas that is colder or calmer than the model's limits.
TorchScript, C and DeepFlame get the closure, too, and which rows the network is not for.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from chemnet.gas.closure import Closure
from chemnet.gas.state import Array
from chemnet.runtime.errors import UsageError
from chemnet.runtime.files import atomic, atomic_folder, check_new
from chemnet.runtime.nearest import hint
from chemnet.surrogate import c_export
from chemnet.surrogate.deepflame import folder as deepflame
from chemnet.surrogate.model import Surrogate
from chemnet.surrogate.network_alone import is_sound_alone, verdict_alone
from chemnet.surrogate.transform import LAMBDA, Transform


def export(model: Surrogate | str | Path, target: str, out: str | Path, overwrite: bool = False) -> list[Path]:
    """Files of a model (or of a model's name or file) for another program, one of TARGETS, written at `out` atomically.

    Raises UsageError for an unknown target, a package that is not installed, or where there is something at `out`,
    unless it is to `overwrite`; FileError or OSError where nothing can be written.
    """
    if target not in TARGETS:
        raise UsageError(f"no target {target}{hint(target, TARGETS)}")
    out = Path(out)
    check_new(out, overwrite, "Choose another --out, or replace it with --overwrite.")
    return TARGETS[target](model if isinstance(model, Surrogate) else Surrogate.load(model), out)


def _to_onnx(model: Surrogate, out: Path) -> list[Path]:
    try:
        from chemnet.surrogate.onnx_graph import step_model
    except ImportError:
        raise UsageError("an ONNX file needs onnx: pip install onnx onnxruntime") from None
    graph = step_model(model.network, model.transform)
    for key, value in _facts(model).items():
        entry = graph.metadata_props.add()
        entry.key, entry.value = key, value
    with atomic(out) as temporary:
        temporary.write_bytes(graph.SerializeToString())
    return [out]


class StepModule(nn.Module):
    """States (n, 2 + K), float64, to mass fractions (n, K) after the step, before the closure."""

    def __init__(self, network: nn.Sequential, transform: Transform) -> None:
        super().__init__()
        self.network = network
        self.power = transform.power
        for name in ("input_mean", "input_gain", "output_scale"):
            self.register_buffer(name, torch.tensor(getattr(transform, name)))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        root = states[:, 2:].clamp(min=0.0).sqrt().sqrt().sqrt()
        values = torch.cat([states[:, :2], (root - 1.0) / LAMBDA], dim=1)
        inputs = ((values - self.input_mean) * self.input_gain).float().to(self.network[0].weight.dtype)
        answer = (self.network(inputs).double() * self.output_scale)[:, 2:]
        change = answer * answer.abs() ** (self.power - 1)
        return (root + LAMBDA * change).clamp(min=0.0) ** 8


def advance_in_double(model: Surrogate, states: Array) -> Array:
    """States (n, 2 + K) after a step whose network is computed in double precision, to judge others by.

    For states that the model answers for: neither its domain nor its limits are asked.
    """
    module, next_states = StepModule(deepcopy(model.network).double(), model.transform), np.empty_like(states)
    with torch.no_grad():
        Y = module(torch.from_numpy(states)).numpy()
    Closure(model.mechanism).close(states, Y, next_states)
    return next_states


def _to_torch(model: Surrogate, out: Path) -> list[Path]:
    columns = model.mechanism.n_species + 2
    rows = torch.export.Dim("rows", min=1)
    program = torch.export.export(
        StepModule(model.network, model.transform).eval(),
        (torch.ones(4, columns, dtype=torch.float64),),
        dynamic_shapes={"states": {0: rows}},
    )
    content = io.BytesIO()
    torch.export.save(program, content, extra_files=_facts(model))
    with atomic(out) as temporary:
        temporary.write_bytes(content.getvalue())
    return [out]


def _to_torchscript(model: Surrogate, out: Path) -> list[Path]:
    from chemnet.surrogate.torchscript import content

    whole = "next states, rows [T, P, Y], and a status each: 0 ok, 2 failed, 3 invalid, 4 outside of the domain, 5 slow"
    script = content(model, _facts(model) | {"output": whole})
    with atomic(out) as temporary:
        temporary.write_bytes(script)
    print("chemnet: PyTorch has deprecated TorchScript in favour of torch.export (`--to torch`)", file=sys.stderr)
    return [out]


class _Folder(NamedTuple):
    """A target that is a folder: whom it is for, how it is written, and what it holds, `mark` first of all."""

    program: str
    write: Callable[[Surrogate, Path], None]
    mark: str
    known: set[str]

    def export(self, model: Surrogate, out: Path) -> list[Path]:
        if out.is_dir() and any(out.iterdir()):
            self._check_replaceable(out)
        with atomic_folder(out, replace=True) as folder:
            self.write(model, folder)
        if not is_sound_alone(model):
            print(f"chemnet: {verdict_alone(model)}", file=sys.stderr)
        return sorted(path for path in out.rglob("*") if path.is_file())

    def _check_replaceable(self, out: Path) -> None:
        """Raises UsageError unless a folder is an earlier export in which nothing was run, for it would be lost."""
        if not (out / self.mark).is_file():
            raise UsageError(f"{out} is no export for {self.program}, and is not replaced\nChoose another --out.")
        others = sorted({path.name for path in out.iterdir()} - self.known)
        if others:
            raise UsageError(f"{out} holds more than an export, {others[0]} for one\nMove it, or choose another --out.")


def _to_c(model: Surrogate, out: Path) -> list[Path]:
    known = {*c_export.FILES, *c_export.BUILT}
    return _Folder("C", c_export.write_folder, "model.bin", known).export(model, out)


def _to_deepflame(model: Surrogate, out: Path) -> list[Path]:
    known = {path.name for path in deepflame.FILES.iterdir()} | {"model.npz", "mechanism.yaml", "0", "__pycache__"}
    return _Folder("DeepFlame", deepflame.write_folder, "model.npz", known).export(model, out)


def _facts(model: Surrogate) -> dict[str, str]:
    """Facts that a user of an exported file needs, as text."""
    return {
        "mechanism": model.mechanism.name,
        "mechanism_sha256": model.mechanism.sha256,
        "species": " ".join(model.mechanism.species_names),
        "dt": f"{model.dt!r}",
        "cold_limit": f"{model.cold_limit!r} K; colder gas is to be integrated",
        "calm_limit": f"{model.calm_limit!r} of the typical change of Y^(1/8); gas that changes less, too",
        "input": "states: rows of T [K], P [Pa] and mass fractions, float64",
        "output": "mass fractions after dt at constant pressure and enthalpy; elements are still to be restored",
    }


TARGETS: dict[str, Callable[[Surrogate, Path], list[Path]]] = {
    "onnx": _to_onnx,
    "torch": _to_torch,
    "torchscript": _to_torchscript,
    "c": _to_c,
    "deepflame": _to_deepflame,
}
