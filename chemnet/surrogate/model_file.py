"""The file of a model: reading, writing, checks, and where models are found.

A safetensors file of the network's weights whose header carries, as JSON, the architecture, the transform, the species,
the hash of the mechanism, dt, the domain of the training data, the engine, the limits of cold and calm gas, and a
SHA-256 over all of this and the weights.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import safetensors
import torch
from safetensors.torch import save
from torch import nn

from chemnet.runtime.errors import FileError, UsageError
from chemnet.runtime.files import atomic
from chemnet.runtime.nearest import hint
from chemnet.runtime.run_folder import how_to_finish
from chemnet.surrogate.network import NetConfig, build

FORMAT = "chemnet-model-6"
_READABLE = (
    *(f"chemnet-model-{n}" for n in range(1, 6)),
    FORMAT,
)  # the first has only ranges of T and P as its domain
PRETRAINED = Path(__file__).parent / "pretrained"
DAMAGE = (KeyError, TypeError, ValueError, AttributeError, RuntimeError, UsageError)  # RecursionError is one of them

Storage = Literal["fp32", "bf16"]
Tensors = Mapping[str, torch.Tensor]


def find_model(path_or_name: str | Path) -> Path:
    """The model file of a path, a run folder or the name of a model that ships. Raises FileError if there is none."""
    path = Path(path_or_name)
    for candidate in (path, path / "model.safetensors", PRETRAINED / f"{path_or_name}.safetensors"):
        if candidate.is_file():
            return candidate
    if (path / "last.pt").is_file():
        raise FileError(f"no model in {path}\n{how_to_finish(path)}")
    meant = hint(str(path_or_name), shipped_models(), "those that ship are")
    raise FileError(f"no model {path_or_name}{meant}\nGive a model file, a run folder, or the name of one that ships.")


def shipped_models() -> list[str]:
    """Names of the models that ship."""
    return sorted(file.stem for file in PRETRAINED.glob("*.safetensors"))


def mechanism_hash(name: str) -> str:
    """SHA-256 of the mechanism of a model that ships; its weights are not read."""
    with safetensors.safe_open(PRETRAINED / f"{name}.safetensors", "pt") as file:
        return str(json.loads(file.metadata()["chemnet"])["mechanism_sha256"])


def read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Description and weights of a model file. Raises FileError for one that is damaged or of a newer chemnet."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            _check_format(path, header.get("format", ""))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no iterator)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise FileError(f"{path} is no model file of chemnet, or is damaged ({str(error)[:80]})") from None
    if "chemnet" not in header or checksum(header["chemnet"], tensors) != header.get("sha256"):
        raise FileError(f"{path} is damaged: its content does not match its checksum\nCopy or make it again.")
    try:
        description = json.loads(header["chemnet"])
        names = {name: str(description[name]) for name in ("mechanism", "mechanism_sha256")}
    except DAMAGE:
        raise FileError(f"{path} is damaged: its description cannot be read\nCopy or make it again.") from None
    return {**description, **names}, tensors


def fingerprint(path: Path) -> str:
    """The SHA-256 over all that a model file holds, which it carries: safetensors writes the same content in any order.

    Raises FileError for a file that is no model.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            return str((file.metadata() or {})["sha256"])
    except (safetensors.SafetensorError, OSError, KeyError) as error:
        raise FileError(f"{path} is no model file of chemnet, or is damaged ({str(error)[:80]})") from None


def write(path: str | Path, description: Mapping[str, Any], tensors: Tensors, storage: Storage = "fp32") -> None:
    """Write description and weights to one file, atomically; with the storage bf16 matrices lose half of their size."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    if storage == "bf16":
        tensors = {name: t.to(torch.bfloat16) if t.ndim == 2 else t for name, t in tensors.items()}
    text = json.dumps(description, sort_keys=True)
    header = {"format": FORMAT, "chemnet": text, "sha256": checksum(text, tensors)}
    with atomic(path) as temporary:
        temporary.write_bytes(save(tensors, metadata=header))


def _check_format(path: Path, name: str) -> None:
    if name in _READABLE:
        return
    number = re.fullmatch(r"chemnet-model-(\d{1,6})", name)
    if number and int(number[1]) > int(FORMAT.rpartition("-")[2]):
        raise FileError(f"{path} was written by a newer chemnet (format {name})\nUpdate chemnet to use it.")
    raise FileError(f"{path} is a safetensors file but no model of chemnet (format {FORMAT})")


def restored(description: dict[str, Any], tensors: Tensors, columns: int) -> nn.Sequential:
    """The network with these weights. Raises ValueError unless they fit its description and are finite numbers."""
    config = NetConfig.model_validate(description)
    widths = config.widths
    shapes: dict[str, tuple[int, ...]] = {f"{2 * i}.bias": (b,) for i, b in enumerate(widths[1:])}
    shapes |= {f"{2 * i}.weight": (b, a) for i, (a, b) in enumerate(zip(widths[:-1], widths[1:], strict=True))}
    if {name: tuple(tensor.shape) for name, tensor in tensors.items()} != shapes:
        raise ValueError("the weights do not fit the description of the network")
    if (widths[0], widths[-1]) != (columns, columns):
        raise ValueError(f"the network has {widths[0]} inputs and {widths[-1]} outputs instead of {columns}")
    if not all(tensor.is_floating_point() and tensor.isfinite().all() for tensor in tensors.values()):
        raise ValueError("weights that are no numbers")
    network = build(config)
    network.load_state_dict(tensors)
    return network


def checksum(description: str, tensors: Tensors) -> str:
    """SHA-256 over the description and the bytes of every tensor, in the order of their names."""
    digest = hashlib.sha256(description.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
