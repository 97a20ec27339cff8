"""States and an untrained model that the tests of the learned step share."""

import numpy as np
import pytest

from chemnet.gas.mechanism import load_mechanism
from chemnet.surrogate.domain import Domain
from chemnet.surrogate.model import Surrogate
from chemnet.surrogate.network import NetConfig, build
from chemnet.surrogate.transform import fit_transform

MECHANISM = load_mechanism("drm19")


@pytest.fixture(scope="module")
def states():
    """Rows of random composition, (300, 23), and as many that differ a little."""
    rng = np.random.default_rng(0)
    Y = rng.dirichlet(np.full(21, 0.2), 300)
    return np.column_stack([rng.uniform(300, 3000, 300), rng.uniform(8e4, 2e5, 300), Y])


@pytest.fixture(scope="module")
def surrogate(states):
    """An untrained network: what must hold holds whatever the network says."""
    rng = np.random.default_rng(1)
    after = states.copy()
    after[:, 0] += rng.standard_normal(300)
    after[:, 2:] *= np.exp(0.05 * rng.standard_normal((300, 21)))
    network = build(NetConfig(widths=(23, 48, 32, 23), activation="gelu"), seed=1)
    domain = Domain.box(MECHANISM, T=(250.0, 3100.0), P=(7e4, 3e5))
    return Surrogate(network, fit_transform(states, after, MECHANISM), MECHANISM, 1e-6, domain, {"seed": 1})
