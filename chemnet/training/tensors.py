"""Training sets as float32 tensors with their transform and domain, read once and in blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from chemnet.data import dataset
from chemnet.data.dataset import Pairs
from chemnet.data.recipe import KINDS
from chemnet.gas.mechanism import Mechanism, load_mechanism
from chemnet.kinetics import RosenbrockReactor
from chemnet.runtime.errors import UsageError
from chemnet.surrogate.domain import Domain
from chemnet.surrogate.hybrid import slow_step, takes_calm_gas_first
from chemnet.surrogate.model import Surrogate
from chemnet.surrogate.transform import Label, Transform, TransformFit
from chemnet.training.batches import TrainingData, few
from chemnet.training.changes import change_weights
from chemnet.training.domain_fit import learn_domain

_BLOCK_ROWS = 4096
_DOMAIN_ROWS = 100_000  # rows to fit a domain to, of a set with more than _MANY_ROWS
_MANY_ROWS = 2_000_000

Floats = NDArray[np.float32]
Data = str | Path | Sequence[Path]  # files of a training set


@dataclass(frozen=True)
class LearningSet:
    """A training set as tensors, with its transform, mechanism, time step [s] and domain."""

    transform: Transform
    mechanism: Mechanism
    dt: float
    domain: Domain
    tensors: TrainingData


def load_learning_set(
    data: Data,
    label: Label = "signed_root",
    transform: Transform | None = None,
    changes: bool = False,
    calm_share: float = 1.0,
) -> LearningSet:
    """Training set of a file, or of several with one mechanism and time step; the transform is fitted to its training
    rows unless one is given. With `changes` it has the weights of errors in changes, too (`changes.py`). Of the
    training rows that are calm, which a `HybridStep` does not ask its network about, `calm_share` is kept.

    Files are read once and in blocks, and the domain of a very large set is fitted to evenly spaced rows, so that
    little memory is needed beside the tensors. Raises FileError when a file is missing or damaged, UsageError when it
    was made with another mechanism or time step, or when there are no rows on one side of the split.
    """
    paths = files_of(data)
    facts = [dataset.read_attributes(path) for path in paths]
    mechanism = load_mechanism(facts[0]["mechanism"])
    for path, of_file in zip(paths, facts, strict=True):
        if of_file["mechanism_sha256"] != mechanism.sha256:
            raise UsageError(f"{path} was made with another mechanism of the name {of_file['mechanism']}; sample again")
        if of_file["dt"] != facts[0]["dt"]:
            raise UsageError(f"{path} has the time step {of_file['dt']:g} s, {paths[0]} has {facts[0]['dt']:g} s")
    rows = sum(int(of_file["rows"]) for of_file in facts)
    n_training = sum(int(np.count_nonzero(dataset.read_column(path, "split") == 0)) for path in paths)
    if not 0 < n_training < rows:
        where = ", ".join(map(str, paths))
        raise UsageError(f"{where} has {n_training} rows to train on and {rows - n_training} to validate; sample more")
    fit, dt = TransformFit(mechanism, label, transform), float(facts[0]["dt"])
    step = slow_step(mechanism) if calm_share < 1.0 and takes_calm_gas_first(mechanism) else None
    flow, calm = np.zeros(n_training, np.bool_), np.zeros(0 if step is None else n_training, np.bool_)
    x, y = (np.empty((rows, mechanism.n_species + 2), np.float32) for _ in range(2))
    thin, next_place = _Thinned(rows), [0, n_training]
    for block in (block for path in paths for block in dataset.blocks(path, _BLOCK_ROWS)):
        for split in (0, 1):
            of_split = block.where(block.split == split)
            place = slice(next_place[split], next_place[split] + len(of_split))
            fit.add(of_split.states, of_split.next_states, x[place], y[place], counts=split == 0)
            if split == 0:
                flow[place] = of_split.kind == KINDS.index("flow")
                if isinstance(step, RosenbrockReactor):
                    calm[place] = step.advance_calm(of_split.states, dt)[1]
            next_place[split] = place.stop
        thin.add(block)
    transform = fit.finish(x, y)
    domain = learn_domain(thin.pairs(), list(facts[0].get("kinds", ())), mechanism)
    inputs, labels, active = torch.from_numpy(x), torch.from_numpy(y), torch.from_numpy(transform.active)
    tensors = TrainingData(inputs[:n_training], labels[:n_training], inputs[n_training:], labels[n_training:], active)
    if changes:
        weights = change_weights(tensors.x, tensors.y, torch.from_numpy(flow), transform, mechanism)
        tensors = replace(tensors, changes=weights)
    if step is not None:
        kept = torch.rand(n_training, generator=torch.Generator().manual_seed(0)) < calm_share
        tensors = tensors.where(kept | ~torch.from_numpy(calm))
    return LearningSet(transform, mechanism, dt, domain, tensors)


def files_of(data: Data) -> list[Path]:
    """The files of a training set."""
    return [Path(data)] if isinstance(data, (str, Path)) else list(data)


def learning_set_for(model: Surrogate, data: Data, changes: bool = False, calm_share: float = 1.0) -> LearningSet:
    """A training set as the model sees it, with as many rows as it was trained on.

    Raises UsageError when it was made for another mechanism or time step.
    """
    for path in files_of(data):
        facts = dataset.read_attributes(path)
        if facts["mechanism_sha256"] != model.mechanism.sha256:
            raise UsageError(f"{path} was made with {facts['mechanism']}, the model with {model.mechanism.name}")
        model.check_dt(float(facts["dt"]))
    learning = load_learning_set(data, transform=model.transform, changes=changes, calm_share=calm_share)
    return replace(learning, tensors=few(learning.tensors, model.metadata.get("config", {}).get("rows")))


class _Thinned:
    """Evenly spaced rows of a file that is read in blocks, without their next states."""

    def __init__(self, rows: int) -> None:
        self._every = rows // _DOMAIN_ROWS if rows > _MANY_ROWS else 1
        self._rows = 0
        self._kept: list[Pairs] = []

    def add(self, block: Pairs) -> None:
        chosen = np.arange(-self._rows % self._every, len(block), self._every)
        self._rows += len(block)
        states = block.states[chosen]
        self._kept.append(Pairs(states, states[:, :0], block.split[chosen], block.group[chosen], block.kind[chosen]))

    def pairs(self) -> Pairs:
        return dataset.concatenate(self._kept)
