"""A model of one's own gas from Python: look at it, sample, train, check, and a picture of the ignition delays.

    python docs/examples/own_mechanism.py [MINUTES]

Any Cantera file will do in place of `h2o2.yaml`. The folder holds the model, its card `README.md` and `report.html`;
three minutes, the default, are enough to see how it goes, and give a model that is worth twenty (`chemnet make`).
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import chemnet

BUDGET = 60.0 * float(sys.argv[1] if len(sys.argv) > 1 else 3.0)  # [s]
FOLDER = Path("runs/my-hydrogen")

task = chemnet.MakeTask(mechanism="h2o2.yaml", fuel={"H2": 1.0}, pressure=(101325.0, 101325.0))
for table in chemnet.make(task, out=FOLDER, budget=BUDGET):
    print(table.text(), "\n")

# The model in use: ignitions of many mixtures at once, beside the exact integrator.
mechanism = chemnet.load_mechanism("h2o2.yaml")
gas = mechanism.gas()
phis = np.linspace(0.5, 2.0, 16)
rows = []
for phi in phis:
    gas.set_equivalence_ratio(phi, "H2", "O2:1, N2:3.76")
    rows.append([1200.0, 101325.0, *gas.Y])


def delays(step, dt=1e-6, n_steps=100):
    """Ignition delays [s] of all rows, at the fastest rise of T."""
    states, T = np.array(rows), []
    for _ in range(n_steps):
        states, _ = step.advance(states, dt)
        T.append(states[:, 0])
    return dt * (1.5 + np.diff(T, axis=0).argmax(axis=0))


exact = delays(chemnet.RosenbrockReactor(mechanism))
model = delays(chemnet.HybridStep.load(FOLDER))
print(f"largest difference of the delays: {np.abs(model / exact - 1.0).max():.2%}")

plt.plot(phis, 1e6 * exact, color="0.7", linewidth=5, label="exact integrator")
plt.plot(phis, 1e6 * model, "C3--", label="my model")
plt.xlabel("equivalence ratio")
plt.ylabel("ignition delay at 1200 K [us]")
plt.legend()
plt.savefig(FOLDER / "delays.png", dpi=120)
plt.close()
