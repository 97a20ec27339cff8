"""A small untrained surrogate and states for it."""

import numpy as np
import torch

from chemnet.gas.mechanism import load_mechanism
from chemnet.kinetics.cvodes import CvodesReactor
from chemnet.surrogate.domain import Domain
from chemnet.surrogate.model import Surrogate
from chemnet.surrogate.network import NetConfig, build
from chemnet.surrogate.transform import fit_transform
from chemnet.training.batches import TrainingData


def untrained(mechanism, n, activation):
    """A small untrained surrogate for a mechanism, and n pairs of states for it to learn from."""
    mechanism = load_mechanism(mechanism)
    rng = np.random.default_rng(0)
    Y = rng.dirichlet(np.ones(mechanism.n_species), size=n)
    states = np.column_stack([rng.uniform(1000.0, 2500.0, n), np.full(n, 101325.0), Y])
    next_states, _ = CvodesReactor(mechanism).advance(states, 1e-6)
    transform = fit_transform(states, next_states, mechanism, "signed_root")
    x, y = (torch.from_numpy(a) for a in (transform.inputs(states), transform.labels(states, next_states)))
    k = 3 * n // 4
    data = TrainingData(x[:k], y[:k], x[k:], y[k:], torch.from_numpy(transform.active))
    widths = (x.shape[1], 24, 20, x.shape[1])
    network = build(NetConfig(widths=widths, activation=activation), seed=1)
    domain = Domain.box(mechanism, T=(300.0, 3500.0), P=(8e4, 2e5))
    return Surrogate(network, transform, mechanism, 1e-6, domain, {"made": "here"}), data
