"""The laminar flame speed that this case must give: Cantera's FreeFlame, extrapolated to an infinitely fine grid.

    python cases/free_flame/reference.py

solves the freely propagating CH4/air flame of case.yaml on ever finer grids (one solution continues the other) and
extrapolates the speed linearly in 1/points from the two finest. It takes ten seconds.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cfd_coupling.config import load_case
from cfd_coupling.initial import unburnt
from chemnet.gas.canonical import solve_flame
from chemnet.gas.mechanism import load_mechanism

REFINEMENTS = ((0.06, 0.12), (0.03, 0.06), (0.015, 0.03), (0.0075, 0.015), (0.004, 0.008))  # (slope, curve)


def flame_speeds() -> list[tuple[int, float]]:
    """(number of points, flame speed [m/s]) for each refinement, coarse to fine."""
    case = load_case(Path(__file__).parent / "case.yaml")
    mechanism, mixture = load_mechanism(case.mechanism), case.mixture
    gas = mechanism.gas()
    state = np.hstack([mixture.temperature, mixture.pressure, unburnt(mechanism, mixture)])
    flame, results = None, []
    for slope, curve in REFINEMENTS:
        flame = solve_flame(gas, state, flame, ratio=2.0, slope=slope, curve=curve, max_points=10_000)
        results.append((len(flame.grid), float(flame.velocity[0])))
        print(f"{results[-1][0]:6d} points  {results[-1][1]:.5f} m/s", flush=True)
    return results


def extrapolate(results: list[tuple[int, float]]) -> float:
    """Flame speed at 1/points = 0, linear through the last two results."""
    (n1, s1), (n2, s2) = results[-2:]
    return s2 + (s2 - s1) * (1 / n2) / (1 / n1 - 1 / n2)


if __name__ == "__main__":
    print(f"extrapolated   {extrapolate(flame_speeds()):.5f} m/s")
