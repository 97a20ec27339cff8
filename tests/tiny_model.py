"""A model file for tests that need one and not its accuracy."""

from pathlib import Path

import numpy as np

from chemnet.gas.mechanism import load_mechanism
from chemnet.surrogate.domain import Domain
from chemnet.surrogate.model import Surrogate
from chemnet.surrogate.network import NetConfig, build
from chemnet.surrogate.transform import fit_transform


def save_tiny_model(path: Path, dt: float, name: str = "drm19") -> str:
    """Write an untrained network for a mechanism and dt [s] whose domain ends at 2200 K; returns its path."""
    mechanism, rng = load_mechanism(name), np.random.default_rng(0)
    columns = mechanism.n_species + 2
    Y = rng.dirichlet(np.full(mechanism.n_species, 0.2), 200)
    states = np.column_stack([rng.uniform(300, 3000, 200), rng.uniform(8e4, 2e5, 200), Y])
    after = states * np.exp(0.01 * rng.standard_normal(states.shape))
    network = build(NetConfig(widths=(columns, 16, columns), activation="gelu"), seed=1)
    domain = Domain.box(mechanism, T=(250.0, 2200.0), P=(7e4, 3e5))
    Surrogate(network, fit_transform(states, after, mechanism), mechanism, dt, domain).save(path)
    return str(path)
