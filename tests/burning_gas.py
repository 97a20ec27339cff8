"""Unburnt and burnt gas for the tests of the integrators."""

import cantera as ct
import numpy as np

from chemnet.gas import canonical

FUELS = {"drm19": {"CH4": 1.0}, "gri30.yaml": {"CH4": 1.0}, "h2o2.yaml": {"H2": 1.0}}


def burning(mechanism, n, pressure=ct.one_atm):
    """Unburnt and burnt gas, mixed from cold to hot (n, 2 + K)."""
    gas, rows = mechanism.gas(), []
    fuel = FUELS[mechanism.name]
    for phi, share in zip(np.linspace(0.5, 1.6, n), np.linspace(0.0, 1.0, n), strict=True):
        cold = np.hstack([300.0 + 1200.0 * share, pressure, canonical.premixed(mechanism, phi, fuel)])
        hot = canonical.burnt(gas, cold)
        rows.append(np.hstack([cold[0] + 300.0 * share, pressure, (1 - share) * cold[2:] + share * hot[2:]]))
    return np.array(rows)
