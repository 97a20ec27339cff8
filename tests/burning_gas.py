"""Unburnt and burnt gas for the tests of the integrators."""

from pathlib import Path

import cantera as ct
import numpy as np

from chemnet.gas import canonical
from chemnet.gas.mechanism import Mechanism, load_mechanism

FUELS = {"drm19": {"CH4": 1.0}, "gri30.yaml": {"CH4": 1.0}, "h2o2.yaml": {"H2": 1.0}}
HEAVY = {"c12h26": 1.0}, {"o2": 1.0, "n2": 3.76}  # fuel and oxidizer of `dodecane`


def dodecane(folder: Path) -> Mechanism:
    """The ideal gas of 100 species in Cantera's nDodecane_Reitz.yaml: its Jacobian is sparse."""
    path = folder / "dodecane.yaml"
    ct.Solution("nDodecane_Reitz.yaml", "nDodecane_IG").write_yaml(path)
    return load_mechanism(path)


def burning(mechanism, n, pressure=ct.one_atm, mixture=None):
    """Unburnt and burnt gas, mixed from cold to hot (n, 2 + K)."""
    gas, rows = mechanism.gas(), []
    mixture = mixture or (FUELS[mechanism.name], canonical.AIR)
    for phi, share in zip(np.linspace(0.5, 1.6, n), np.linspace(0.0, 1.0, n), strict=True):
        cold = np.hstack([300.0 + 1200.0 * share, pressure, canonical.premixed(mechanism, phi, *mixture)])
        hot = canonical.burnt(gas, cold)
        rows.append(np.hstack([cold[0] + 300.0 * share, pressure, (1 - share) * cold[2:] + share * hot[2:]]))
    return np.array(rows)
