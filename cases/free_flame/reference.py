"""The laminar flame speed that this case must give: Cantera's FreeFlame, extrapolated to an infinitely fine grid.

    python cases/free_flame/reference.py

solves the freely propagating CH4/air flame of case.yaml on ever finer grids (one solution continues the other) and
extrapolates the speed linearly in 1/points from the two finest. It takes ten seconds.
"""

from __future__ import annotations

from pathlib import Path

import cantera as ct

from cfd_coupling.config import load_case
from chemnet.gas.mechanism import load_mechanism

WIDTH = 0.03  # [m]
REFINEMENTS = ((0.06, 0.12), (0.03, 0.06), (0.015, 0.03), (0.0075, 0.015), (0.004, 0.008))  # (slope, curve)


def flame_speeds() -> list[tuple[int, float]]:
    """(number of points, flame speed [m/s]) for each refinement, coarse to fine."""
    case = load_case(Path(__file__).parent / "case.yaml")
    gas = load_mechanism(case.mechanism).gas()
    gas.set_equivalence_ratio(case.mixture.phi, case.mixture.fuel, case.mixture.oxidizer)
    gas.TP = case.mixture.temperature, case.mixture.pressure
    flame = ct.FreeFlame(gas, width=WIDTH)
    flame.transport_model = "mixture-averaged"
    flame.max_grid_points = 10_000
    results = []
    for slope, curve in REFINEMENTS:
        flame.set_refine_criteria(ratio=2.0, slope=slope, curve=curve, prune=0.0)
        flame.solve(loglevel=0, auto=not results)
        results.append((len(flame.grid), float(flame.velocity[0])))
        print(f"{results[-1][0]:6d} points  {results[-1][1]:.5f} m/s", flush=True)
    return results


def extrapolate(results: list[tuple[int, float]]) -> float:
    """Flame speed at 1/points = 0, linear through the last two results."""
    (n1, s1), (n2, s2) = results[-2:]
    return s2 + (s2 - s1) * (1 / n2) / (1 / n1 - 1 / n2)


if __name__ == "__main__":
    print(f"extrapolated   {extrapolate(flame_speeds()):.5f} m/s")
