"""A planar methane-air flame in the flow solver, beside Cantera's.

    python docs/examples/flame_beside_cantera.py [VARIANT]

`cases/free_flame` by the exact integrator: its speed, from the fuel that it burns, and its profile, on top of Cantera's
free flame. Without a VARIANT the flame relaxes for 0.9 ms, which takes a minute; `short` stops after 20 steps.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from cfd_coupling.compare import read_history
from cfd_coupling.config import load_case
from cfd_coupling.output import read_image, snapshots
from cfd_coupling.parallel import Communicator
from cfd_coupling.simulation import run
from chemnet import load_mechanism
from chemnet.gas.canonical import premixed, solve_flame

variant = sys.argv[1] if len(sys.argv) > 1 else None
folder = Path("runs/flame_beside_cantera")

case = load_case("free_flame", variant, ["chemistry.kind=exact"])
run(case, folder, Communicator(), overwrite=True)
history = read_history(folder / "history.csv")
settled = history["time"] > 0.8 * history["time"][-1]
speed = history["consumption_speed"][settled].mean()

mechanism, mixture = load_mechanism(case.mechanism), case.mixture
unburnt = np.hstack([mixture.temperature, mixture.pressure, premixed(mechanism, mixture.phi, mixture.fuel)])
flame = solve_flame(mechanism.gas(), unburnt, slope=0.03, curve=0.06)
print(f"flame speed by the flow solver: {speed:.4f} m/s")
print(f"by Cantera on {len(flame.grid)} points: {flame.velocity[0]:.4f} m/s")

# The front on the right half of the box burns outwards; both profiles have 1500 K at x = 0.
last = read_image(snapshots(folder / "snapshots")[-1])
T = last.arrays["T"][0, case.grid.nx // 2 :]
x = last.dx * np.arange(len(T))
x -= np.interp(-1500.0, -T, x)
x_cantera = np.interp(1500.0, flame.T, flame.grid) - flame.grid

plt.plot(1e3 * x_cantera, flame.T, color="0.7", linewidth=5, label="Cantera")
plt.plot(1e3 * x, T, "C3.-", linewidth=1, markersize=4, label="flow solver")
plt.xlim(-1.0, 1.0)
plt.xlabel("x [mm]")
plt.ylabel("T [K]")
plt.legend()
plt.savefig("runs/flame_beside_cantera.png", dpi=120)
plt.close()
