"""A network in the place of the integrator: transform, network, closure and domain, for one mechanism and one dt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import nn

from chemnet.gas.mechanism import Mechanism, MechanismLike, as_mechanism
from chemnet.gas.state import Array, as_states, check_time_step, valid_rows
from chemnet.gas.status import Status
from chemnet.kinetics.step import StepResult, takes_solution_arrays
from chemnet.runtime.errors import FileError, UsageError
from chemnet.surrogate import model_file
from chemnet.surrogate.domain import Domain
from chemnet.surrogate.fused_step import FusedStep
from chemnet.surrogate.inference import BLOCK, Engine, suitable_engine
from chemnet.surrogate.network import describe
from chemnet.surrogate.transform import Transform

_DT_TOLERANCE = 1e-9

CalmFirst = Literal["never", "usual", "widest"]
_CALM_FIRST: dict[Any, CalmFirst | None] = {
    **{None: None, False: "never", True: "usual"},  # of files of format 5
    **{name: name for name in get_args(CalmFirst)},
}


@dataclass(eq=False, repr=False)
class Surrogate:
    """A chemistry step by a network, for one mechanism and one time step.

    `network` is the plain `nn.Sequential`, whose weights count as they are when the surrogate is made; `domain` says
    which states it may be asked about; `engine` computes it (`inference.py`); `metadata` is plain data about the model
    (training, data, accuracy).

    Where chemistry is slow the small errors of a network, step after step, would outweigh it. So it refuses gas that is
    colder than `cold_limit` [K], and gas that is calm: every change of Y^(1/8) that the network predicts is smaller
    than `calm_limit` times the typical one of its data. Their status is SLOW; `HybridStep` integrates them.
    `calm_first` says what it takes as calm before the network is asked (None: where that is the cheaper one).

    `n_threads` compute the network; by default one, and for more than 300,000 parameters the cores
    (`runtime/threads.py`).
    """

    network: nn.Sequential
    transform: Transform
    mechanism: Mechanism
    dt: float
    domain: Domain
    metadata: Mapping[str, Any] = field(default_factory=dict)
    engine: str = "fp32"
    cold_limit: float = 0.0
    calm_limit: float = 0.0
    calm_first: CalmFirst | None = None
    n_threads: int | None = None

    def __post_init__(self) -> None:
        self.mechanism, self.metadata = as_mechanism(self.mechanism), dict(self.metadata)
        self._run = Engine(self.engine, self.network, self.n_threads)
        active = self.transform.active
        self._changing = active[active >= 2]  # without T, which follows from the enthalpy
        self._inputs = np.zeros((BLOCK, self.mechanism.n_species + 2), np.float32)
        self._step = FusedStep(self.transform, self.mechanism, self.domain, BLOCK)

    def with_network(self, network: nn.Sequential, **metadata: Any) -> Surrogate:
        """The same surrogate with another network, and `metadata` added to its own."""
        return replace(self, network=network, metadata={**self.metadata, **metadata})

    def with_domain(self, domain: Domain) -> Surrogate:
        """The same surrogate with another domain."""
        return replace(self, domain=domain)

    def with_engine(self, engine: str) -> Surrogate:
        """The same surrogate with another engine. Raises UsageError for one that is not there."""
        return replace(self, engine=engine)

    def with_threads(self, n_threads: int | None) -> Surrogate:
        """The same surrogate, computed by another number of threads. Raises UsageError for one that is not positive."""
        return replace(self, n_threads=n_threads)

    def with_limits(self, cold_limit: float | None = None, calm_limit: float | None = None) -> Surrogate:
        """The same surrogate with other limits of slow gas (None: its own); with zeros, it refuses none as slow.

        Raises UsageError unless they are numbers from zero on.
        """
        given = {"cold_limit": cold_limit, "calm_limit": calm_limit}
        try:
            limits: dict[str, Any] = {name: _not_negative(value) for name, value in given.items() if value is not None}
        except ValueError as error:
            raise UsageError(f"{error}: limits of slow gas begin at 0") from None
        return replace(self, **limits) if limits else self

    def with_calm_first(self, calm_first: CalmFirst | None) -> Surrogate:
        """The same surrogate in whose hybrid steps this is integrated as calm gas before the network is asked."""
        return replace(self, calm_first=calm_first)

    @takes_solution_arrays
    def advance(self, states: ArrayLike, dt: float | None = None) -> StepResult[Array]:
        """States (n, 2 + K) after dt [s] at constant pressure and enthalpy, and a `Status` per row (n,).

        A `SolutionArray` of Cantera gives a new one, and statuses of its shape.

        The input is not modified. Elements and enthalpy equal those of the input to round-off. Rows that are invalid,
        slow, outside the domain, or cannot be closed come back unchanged, with their status. A row's result is bitwise
        the same in any company. Raises UsageError for a wrong shape or a dt that the model was not made for.
        """
        states = as_states(states, self.mechanism)
        self.check_dt(self.dt if dt is None else dt)
        next_states, status = states.copy(), np.full(len(states), Status.SLOW, np.int8)
        cold = states[:, 0] < self.cold_limit
        status[cold & ~valid_rows(states, self.mechanism.T_max)] = Status.INVALID
        warm = np.flatnonzero(~cold)
        next_states[warm], status[warm] = self._predict(states.take(warm, axis=0))
        return StepResult(next_states, status)

    def _predict(self, states: Array) -> tuple[Array, NDArray[np.int8]]:
        """Next states of rows that are not cold, and a status each."""
        next_states, status = np.empty_like(states), np.empty(len(states), np.int8)
        for start in range(0, len(states), BLOCK):
            rows = slice(start, start + BLOCK)
            self._step.prepare(states[rows], self._inputs, status[rows])
            if not (status[rows] == Status.OK).any():
                next_states[rows] = states[rows]
                continue
            outputs = self._run(self._inputs[: self._run.block_for(len(status[rows]))])
            self._step.finish(states[rows], outputs, next_states[rows], status[rows])
            calm = (status[rows] == Status.OK) & self._is_calm(outputs[: len(status[rows])])
            next_states[rows][calm], status[rows][calm] = states[rows][calm], Status.SLOW
        return next_states, status

    def _is_calm(self, outputs: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Whether all changes that a network's outputs (n, 2 + K) stand for are small; (n,)."""
        largest = np.abs(outputs[:, self._changing]).max(axis=1, initial=0.0)
        return largest < self.calm_limit ** (1.0 / self.transform.power)

    def check_dt(self, dt: float) -> None:
        """Raises UsageError unless dt [s] is the time step that the model was made for."""
        check_time_step(dt)
        if abs(dt - self.dt) > _DT_TOLERANCE * self.dt:
            raise UsageError(f"this model advances by dt = {self.dt:g} s and by nothing else, not by {dt:g} s")

    def save(self, path: str | Path, storage: model_file.Storage = "fp32") -> None:
        """Write the model to one file, atomically; with the storage bf16 its weights lose half of their size."""
        model_file.write(path, self._description(), self.network.state_dict(), storage)

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
            "calm_first": self.calm_first,
            "metadata": self.metadata,
        }

    @classmethod
    def load(
        cls,
        path_or_name: str | Path,
        mechanism: MechanismLike | None = None,
        engine: str | None = None,
        n_threads: int | None = None,
    ) -> Surrogate:
        """The model of a file, of a run folder, or of the name of one that ships (`drm19-small`).

        `mechanism` is needed only where the model was made for one that chemnet does not find by name; `engine` only to
        have another one than the model asks for; `n_threads` as for a `Surrogate`. Raises FileError when there is no
        such model, it is damaged or made by a newer chemnet; UsageError when it belongs to another mechanism, or there
        is no such engine.
        """
        path = model_file.find_model(path_or_name)
        description, tensors = model_file.read(path)
        mechanism = as_mechanism(description["mechanism"] if mechanism is None else mechanism)
        if mechanism.sha256 != description["mechanism_sha256"]:
            raise UsageError(
                f"{path} was made for a mechanism named {description['mechanism']} with hash "
                f"{description['mechanism_sha256'][:12]}, not for {mechanism.name} with {mechanism.sha256[:12]}"
            )
        try:
            network = model_file.restored(description["network"], tensors, 2 + mechanism.n_species)
            transform = Transform.from_dict(description["transform"])
            if len(transform.input_mean) != 2 + mechanism.n_species:
                raise ValueError(f"a transform of {len(transform.input_mean)} columns")
            domain = Domain.from_dict(description["domain"], mechanism)
            dt, metadata = float(description["dt"]), dict(description["metadata"])
            check_time_step(dt)
            engine = engine or suitable_engine(description.get("engine", "fp32"))
            cold, calm = (_not_negative(description.get(name, 0.0)) for name in ("cold_limit", "calm_limit"))
            calm_first = _CALM_FIRST[description.get("calm_first")]
        except model_file.DAMAGE as error:
            raise FileError(f"{path} holds no model that works ({str(error).splitlines()[0][:80]})") from None
        return cls(network, transform, mechanism, dt, domain, metadata, engine, cold, calm, calm_first, n_threads)


def _not_negative(value: Any) -> float:
    """A limit. Raises ValueError for one that is negative or no finite number."""
    if not 0.0 <= float(value) < np.inf:
        raise ValueError(f"a limit of {value}")
    return float(value)
