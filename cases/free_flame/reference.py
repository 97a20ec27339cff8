"""The laminar flame speed that this case must give: Cantera's FreeFlame, extrapolated to an infinitely fine grid.

    python cases/free_flame/reference.py

solves the freely propagating CH4/air flame of case.yaml on ever finer grids (one solution continues the other) and
extrapolates the speed linearly in 1/points from the two finest. It takes ten seconds.
"""

from __future__ import annotations

from pathlib import Path

from cfd_coupling.config import load_case
from cfd_coupling.flame_speed import cantera_speeds, extrapolated


def main() -> None:
    """Print the speeds as they come, and their limit."""
    speeds = []
    for points, speed in cantera_speeds(load_case(Path(__file__).parent / "case.yaml")):
        speeds.append((points, speed))
        print(f"{points:6d} points  {speed:.5f} m/s", flush=True)
    print(f"extrapolated   {extrapolated(speeds):.5f} m/s")


if __name__ == "__main__":
    main()
