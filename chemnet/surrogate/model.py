"""A network in the place of the integrator: state in, state out, and one file that holds all of it.

The file is a safetensors file of the network's weights whose header carries, as JSON, the architecture, the transform,
the species, the hash of the mechanism, dt, the domain of the training data, the engine, which gas is integrated, and a
SHA-256 over all of this and the weights.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import safetensors
import torch
from numpy.typing import ArrayLike, NDArray
from safetensors.torch import save
from torch import nn

from chemnet.gas.mechanism import Mechanism, load_mechanism
from chemnet.gas.solution_array import SolutionArray, array_of, is_solution_array, states_of
from chemnet.gas.state import Array, as_states, check_time_step
from chemnet.gas.status import Status
from chemnet.kinetics import RosenbrockReactor
from chemnet.kinetics.cvodes import ChemistryStep, CvodesReactor
from chemnet.runtime.errors import FileError, UsageError
from chemnet.runtime.files import atomic
from chemnet.surrogate.domain import Domain
from chemnet.surrogate.fused_step import FusedStep
from chemnet.surrogate.inference import BLOCK, Engine, EngineName, check_engine, suitable_engine
from chemnet.surrogate.network import NetConfig, build, describe
from chemnet.surrogate.transform import Transform

FORMAT = "chemnet-model-4"
_READABLE = (*(f"chemnet-model-{n}" for n in (1, 2, 3)), FORMAT)  # the first has only ranges of T and P as its domain
_PRETRAINED = Path(__file__).parent / "pretrained"
_DT_TOLERANCE = 1e-9
_SLOW_TOLERANCES = (1e-2, 1e-7)  # one step of order 5 then takes slow gas to within 1e-5 K, and more would be no better
_DAMAGE = (KeyError, TypeError, ValueError, AttributeError, RuntimeError, UsageError)  # RecursionError is one of them

Storage = Literal["fp32", "bf16"]


class Surrogate:
    """A chemistry step by a network, for one mechanism and one time step; same `advance` as the exact step.

    `network` is the plain `nn.Sequential`, whose weights count as they are when the surrogate is made; `domain` says
    which states it may be asked about; `engine` who computes it (`inference.py`); `metadata` is whatever the maker of
    the model wants to tell (training, data, accuracy), plain data.

    Where chemistry is slow the small errors of a network, step after step, would outweigh it, and an integrator costs
    little. So the exact step takes gas that is colder than `cold_limit` [K], and gas that is calm: every change of
    Y^(1/8) that the network predicts is smaller than `calm_limit` times the typical one of its data.
    `integrated` is the number of such rows in the last call.
    """

    def __init__(
        self,
        network: nn.Sequential,
        transform: Transform,
        mechanism: Mechanism,
        dt: float,
        domain: Domain,
        metadata: Mapping[str, Any] | None = None,
        engine: str = "fp32",
        cold_limit: float = 0.0,
        calm_limit: float = 0.0,
    ) -> None:
        self.network, self.transform, self.mechanism, self.dt, self.domain = network, transform, mechanism, dt, domain
        self.metadata = dict(metadata or {})
        self.engine: EngineName = check_engine(engine)
        self.cold_limit, self.calm_limit, self.integrated = cold_limit, calm_limit, 0
        self._run = Engine(engine, network)
        self._changing = transform.active[transform.active >= 2]  # without T, which follows from the enthalpy
        self._inputs = np.zeros((BLOCK, mechanism.n_species + 2), np.float32)
        self._step = FusedStep(transform, mechanism, domain, BLOCK)

    def with_network(self, network: nn.Sequential, **metadata: Any) -> Surrogate:
        """The same surrogate with another network, and `metadata` added to what it tells."""
        return self._changed(network=network, metadata={**self.metadata, **metadata})

    def with_domain(self, domain: Domain) -> Surrogate:
        """The same surrogate with another domain."""
        return self._changed(domain=domain)

    def with_engine(self, engine: str) -> Surrogate:
        """The same surrogate with another engine. Raises UsageError for one that is not there."""
        return self._changed(engine=engine)

    def with_limits(self, cold_limit: float, calm_limit: float) -> Surrogate:
        """The same surrogate with other limits of what is integrated; with zeros, all is up to the network.

        Raises UsageError unless they are numbers from zero on.
        """
        try:
            limits = {"cold_limit": _not_negative(cold_limit), "calm_limit": _not_negative(calm_limit)}
        except ValueError as error:
            raise UsageError(f"{error}: what is integrated begins at 0") from None
        return self._changed(**limits)

    def _changed(self, **changes: Any) -> Surrogate:
        names = ("network", "transform", "mechanism", "dt", "domain", "metadata", "engine", "cold_limit", "calm_limit")
        return Surrogate(**{name: getattr(self, name) for name in names} | changes)

    @overload
    def advance(self, states: ArrayLike, dt: float | None = None) -> tuple[Array, NDArray[np.int8]]: ...
    @overload
    def advance(self, states: SolutionArray, dt: float | None = None) -> tuple[SolutionArray, NDArray[np.int8]]: ...
    def advance(self, states: Any, dt: float | None = None) -> tuple[Any, NDArray[np.int8]]:
        """States (n, 2 + K) after dt [s] at constant pressure and enthalpy, and a `Status` per row (n,).

        A `SolutionArray` of Cantera, of any shape, gives a new one, and statuses of its shape.
        The input is not modified. Elements and enthalpy equal those of the input to round-off. Rows that are
        invalid, outside the domain and not cold, or cannot be closed come back unchanged, with their status. A row's
        result is bitwise the same in any company. Raises UsageError for a wrong shape or a dt that the model was not
        made for.
        """
        if is_solution_array(states):
            next_rows, status = self.advance(states_of(states, self.mechanism), dt)
            return array_of(next_rows, states), status.reshape(states.shape)
        states = as_states(states, self.mechanism)
        self.check_dt(self.dt if dt is None else dt)
        next_states, status = np.empty_like(states), np.empty(len(states), np.int8)
        slow = states[:, 0] < self.cold_limit
        warm = np.flatnonzero(~slow)
        next_states[warm], status[warm], slow[warm] = self._predict(states.take(warm, axis=0))
        self.integrated = int(np.count_nonzero(slow))
        if self.integrated:
            next_states[slow], status[slow] = self._exact.advance(states[slow], self.dt)
        return next_states, status

    def _predict(self, states: Array) -> tuple[Array, NDArray[np.int8], NDArray[np.bool_]]:
        """What the network says of states that are not cold, with a status each, and whether it finds them calm."""
        next_states, status = np.empty_like(states), np.empty(len(states), np.int8)
        calm = np.zeros(len(states), np.bool_)
        for start in range(0, len(states), BLOCK):
            rows = slice(start, start + BLOCK)
            self._step.prepare(states[rows], self._inputs, status[rows])
            if not (status[rows] == Status.OK).any():
                next_states[rows] = states[rows]
                continue
            outputs = self._run(self._inputs[: self._run.block_for(len(status[rows]))])
            self._step.finish(states[rows], outputs, next_states[rows], status[rows])
            calm[rows] = (status[rows] == Status.OK) & self._is_calm(outputs[: len(status[rows])])
        return next_states, status, calm

    def _is_calm(self, outputs: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Whether all that a network's outputs (n, 2 + K) say is little; (n,)."""
        largest = np.abs(outputs[:, self._changing]).max(axis=1, initial=0.0)
        return largest < self.calm_limit ** (1.0 / self.transform.power)

    @functools.cached_property
    def _exact(self) -> ChemistryStep:
        """The integrator of slow gas; CVODES for a mechanism that the batched one does not cover."""
        try:
            return RosenbrockReactor(self.mechanism, *_SLOW_TOLERANCES)
        except UsageError:
            return CvodesReactor(self.mechanism)

    def check_dt(self, dt: float) -> None:
        """Raises UsageError unless dt [s] is the time step that the model was made for."""
        check_time_step(dt)
        if abs(dt - self.dt) > _DT_TOLERANCE * self.dt:
            raise UsageError(f"this model advances by dt = {self.dt:g} s and by nothing else, not by {dt:g} s")

    def save(self, path: str | Path, storage: Storage = "fp32") -> None:
        """Write the model to one file, atomically; with the storage bf16 its weights lose half of their size."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.network.state_dict().items()}
        if storage == "bf16":
            tensors = {name: t.to(torch.bfloat16) if t.ndim == 2 else t for name, t in tensors.items()}
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
            "domain": self.domain.as_dict(),
            "engine": self.engine,
            "cold_limit": self.cold_limit,
            "calm_limit": self.calm_limit,
            "metadata": self.metadata,
        }

    @classmethod
    def load(cls, path_or_name: str | Path, mechanism: Mechanism | None = None, engine: str | None = None) -> Surrogate:
        """The model of a file, of a run folder, or of the name of one that ships (`drm19-small`).

        `mechanism` is needed only where the model was made for one that chemnet does not find by name; `engine` only
        to have another one than the model asks for. Raises FileError when there is no such model, it is damaged or
        made by a newer chemnet; UsageError when it belongs to another mechanism, or there is no such engine.
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
        try:
            network = _network(description["network"], tensors, 2 + mechanism.n_species)
            transform = Transform.from_dict(description["transform"])
            if len(transform.input_mean) != 2 + mechanism.n_species:
                raise ValueError(f"a transform of {len(transform.input_mean)} columns")
            domain = Domain.from_dict(description["domain"], mechanism)
            dt, metadata = float(description["dt"]), dict(description["metadata"])
            check_time_step(dt)
            engine = engine or suitable_engine(description.get("engine", "fp32"))
            limits = [_not_negative(description.get(name, 0.0)) for name in ("cold_limit", "calm_limit")]
        except _DAMAGE as error:
            raise FileError(f"{path} holds no model that works ({str(error).splitlines()[0][:80]})") from None
        return cls(network, transform, mechanism, dt, domain, metadata, engine, *limits)


def _not_negative(value: Any) -> float:
    """A limit. Raises ValueError for one that is negative or no finite number."""
    if not 0.0 <= float(value) < np.inf:
        raise ValueError(f"a limit of {value}")
    return float(value)


def find_model(path_or_name: str | Path) -> Path:
    """The model file of a path, a run folder or the name of a model that ships. Raises FileError if there is none."""
    path = Path(path_or_name)
    for candidate in (path, path / "model.safetensors", _PRETRAINED / f"{path_or_name}.safetensors"):
        if candidate.is_file():
            return candidate
    names = ", ".join(shipped_models()) or "none"
    raise FileError(
        f"no model {path_or_name}\nGive a model file, a run folder, or the name of one that ships: {names}."
    )


def shipped_models() -> list[str]:
    """Names of the models that ship."""
    return sorted(file.stem for file in _PRETRAINED.glob("*.safetensors"))


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Description and weights of a model file, checked."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            _check_format(path, header.get("format", ""))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no iterator)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise FileError(f"{path} is no model file of chemnet, or is damaged ({str(error)[:80]})") from None
    if "chemnet" not in header or _digest(header["chemnet"], tensors) != header.get("sha256"):
        raise FileError(f"{path} is damaged: its content does not match its checksum\nCopy or make it again.")
    try:
        description = json.loads(header["chemnet"])
        names = {name: str(description[name]) for name in ("mechanism", "mechanism_sha256")}
    except _DAMAGE:
        raise FileError(f"{path} is damaged: its description cannot be read\nCopy or make it again.") from None
    return {**description, **names}, tensors


def _check_format(path: Path, name: str) -> None:
    if name in _READABLE:
        return
    number = re.fullmatch(r"chemnet-model-(\d{1,6})", name)
    if number and int(number[1]) > int(FORMAT.rpartition("-")[2]):
        raise FileError(f"{path} was written by a newer chemnet (format {name})\nUpdate chemnet to use it.")
    raise FileError(f"{path} is a safetensors file but no model of chemnet (format {FORMAT})")


def _network(description: dict[str, Any], tensors: Mapping[str, torch.Tensor], columns: int) -> nn.Sequential:
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


def _digest(description: str, tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over the description and the bytes of every tensor, in the order of their names."""
    digest = hashlib.sha256(description.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
