"""A network in the place of the integrator: state in, state out, and one file that holds all of it.

The file is a safetensors file of the network's weights whose header carries, as JSON, the architecture, the transform,
the species, the hash of the mechanism, dt, the domain of the training data, and a SHA-256 over all of this and the
weights.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from numpy.typing import ArrayLike, NDArray
from safetensors.torch import save
from torch import nn

from chemnet.closure import Closure
from chemnet.errors import FileError, UsageError
from chemnet.files import atomic
from chemnet.mechanism import Mechanism, load_mechanism
from chemnet.network import NetConfig, build, describe
from chemnet.state import Array, as_states, check_time_step, valid_rows
from chemnet.status import Status
from chemnet.transform import Transform

FORMAT = "chemnet-model-1"
_PRETRAINED = Path(__file__).parent / "pretrained"
_BLOCK = 256  # rows per call of the network; always padded to it, so that a row's result never depends on the others
_DT_TOLERANCE = 1e-9


class Surrogate:
    """A chemistry step by a network, for one mechanism and one time step; same `advance` as the exact step.

    `network` is the plain `nn.Sequential`; `domain` maps `T` [K] and `P` [Pa] to the range of the training data;
    `metadata` is whatever the maker of the model wants to tell (training, data, accuracy), plain data.
    """

    def __init__(
        self,
        network: nn.Sequential,
        transform: Transform,
        mechanism: Mechanism,
        dt: float,
        domain: Mapping[str, tuple[float, float]],
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self.network, self.transform, self.mechanism, self.dt = network, transform, mechanism, dt
        self.domain = {name: (float(low), float(high)) for name, (low, high) in domain.items()}
        self.metadata = dict(metadata or {})
        self._closure = Closure(mechanism)
        self._block = torch.zeros(_BLOCK, mechanism.n_species + 2)

    def with_network(self, network: nn.Sequential, **metadata: Any) -> Surrogate:
        """The same surrogate with another network, and `metadata` added to what it tells."""
        return Surrogate(network, self.transform, self.mechanism, self.dt, self.domain, {**self.metadata, **metadata})

    def advance(self, states: ArrayLike, dt: float | None = None) -> tuple[Array, NDArray[np.int8]]:
        """States (n, 2 + K) after dt [s] at constant pressure and enthalpy, and a `Status` per row (n,).

        The input is not modified. Elements and enthalpy equal those of the input to round-off. Rows that are
        invalid, outside the domain, or cannot be closed come back unchanged, with their status. A row's result is
        bitwise the same in any company. Raises UsageError for a wrong shape or a dt that the model was not made for.
        """
        states = as_states(states, self.mechanism)
        self.check_dt(self.dt if dt is None else dt)
        status = np.full(len(states), Status.OK, np.int8)
        status[~self._inside(states)] = Status.OUTSIDE
        status[~valid_rows(states)] = Status.INVALID
        next_states = states.copy()
        rows = np.flatnonzero(status == Status.OK)
        taken = states if rows.size == len(states) else states[rows]
        closed = np.empty_like(taken)
        ok, _ = self._closure.close(taken, self.transform.mass_fractions(taken, self.predict(taken)), closed)
        next_states[rows] = closed
        status[rows[~ok]] = Status.FAILED
        return next_states, status

    def predict(self, states: Array) -> NDArray[np.float32]:
        """Outputs of the network (n, 2 + K) for valid states (n, 2 + K)."""
        inputs = torch.from_numpy(self.transform.inputs(states))
        outputs = np.empty(states.shape, np.float32)
        with torch.inference_mode():
            for start in range(0, len(states), _BLOCK):
                n = min(_BLOCK, len(states) - start)
                self._block[:n] = inputs[start : start + n]
                outputs[start : start + n] = self.network(self._block)[:n].numpy()
        return outputs

    def check_dt(self, dt: float) -> None:
        """Raises UsageError unless dt [s] is the time step that the model was made for."""
        check_time_step(dt)
        if abs(dt - self.dt) > _DT_TOLERANCE * self.dt:
            raise UsageError(f"this model advances by dt = {self.dt:g} s and by nothing else, not by {dt:g} s")

    def _inside(self, states: Array) -> NDArray[np.bool_]:
        T, P = self.domain["T"], self.domain["P"]
        with np.errstate(invalid="ignore"):
            return (states[:, 0] >= T[0]) & (states[:, 0] <= T[1]) & (states[:, 1] >= P[0]) & (states[:, 1] <= P[1])

    def save(self, path: str | Path) -> None:
        """Write the model to one file, atomically."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.network.state_dict().items()}
        description = json.dumps(self._description(), sort_keys=True)
        header = {"format": FORMAT, "chemnet": description, "sha256": _digest(description, tensors)}
        with atomic(path) as temporary:
            temporary.write_bytes(save(tensors, metadata=header))

    def _description(self) -> dict[str, Any]:
        return {
            "network": describe(self.network).model_dump(mode="json"),
            "transform": self.transform.as_dict(),
            "mechanism": self.mechanism.name,
            "mechanism_sha256": self.mechanism.sha256,
            "species": list(self.mechanism.species_names),
            "dt": self.dt,
            "domain": {name: list(limits) for name, limits in self.domain.items()},
            "metadata": self.metadata,
        }

    @classmethod
    def load(cls, path_or_name: str | Path, mechanism: Mechanism | None = None) -> Surrogate:
        """The model of a file, of a run folder, or of the name of one that ships (`drm19-demo`).

        `mechanism` is needed only where the model was made for one that chemnet does not find by name.
        Raises FileError when there is no such model or it is damaged; UsageError when it belongs to another mechanism.
        """
        path = find_model(path_or_name)
        description, tensors = _read(path)
        if mechanism is None:
            mechanism = load_mechanism(description["mechanism"])
        if mechanism.sha256 != description["mechanism_sha256"]:
            raise UsageError(
                f"{path} was made for a mechanism named {description['mechanism']} with hash "
                f"{description['mechanism_sha256'][:12]}, not for {mechanism.name} with {mechanism.sha256[:12]}"
            )
        network = build(NetConfig.model_validate(description["network"]))
        network.load_state_dict(tensors)
        transform = Transform.from_dict(description["transform"])
        return cls(network, transform, mechanism, description["dt"], description["domain"], description["metadata"])


def find_model(path_or_name: str | Path) -> Path:
    """The model file of a path, a run folder or the name of a model that ships. Raises FileError if there is none."""
    path = Path(path_or_name)
    for candidate in (path, path / "model.safetensors", _PRETRAINED / f"{path_or_name}.safetensors"):
        if candidate.is_file():
            return candidate
    names = ", ".join(sorted(file.stem for file in _PRETRAINED.glob("*.safetensors"))) or "none"
    raise FileError(
        f"no model {path_or_name}\nGive a model file, a run folder, or the name of one that ships: {names}."
    )


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Description and weights of a model file, checked."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no iterator)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise FileError(f"{path} is no model file of chemnet, or is damaged ({str(error)[:80]})") from None
    if header.get("format") != FORMAT:
        raise FileError(f"{path} is a safetensors file but no model of chemnet (format {FORMAT})")
    if _digest(header["chemnet"], tensors) != header.get("sha256"):
        raise FileError(f"{path} is damaged: its content does not match its checksum\nCopy or make it again.")
    return json.loads(header["chemnet"]), tensors


def _digest(description: str, tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over the description and the bytes of every tensor, in the order of their names."""
    digest = hashlib.sha256(description.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].numpy().tobytes())
    return digest.hexdigest()
