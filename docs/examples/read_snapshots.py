"""Snapshots and history of a flow run, read without chemnet: h5py, numpy and a picture.

    python docs/examples/read_snapshots.py RUN

RUN is the folder of any run of the flow solver, such as `runs/turbulent_ignition-demo-exact` of `make demo`.
"""

import csv
import json
import sys
from pathlib import Path

import h5py
import matplotlib.pyplot as plt
import numpy as np

run = Path(sys.argv[1])

# The list of snapshots with their times [s] is JSON, as ParaView reads it.
series = json.loads((run / "snapshots" / "flow.vtkhdf.series").read_text())["files"]
fields = []
for entry in series:
    with h5py.File(run / "snapshots" / entry["name"]) as file:
        cells = file["VTKHDF/CellData"]
        T, unit = cells["T"][:], cells["T"].attrs["units"]  # (ny, nx), y upwards
        dx, dy, _ = file["VTKHDF"].attrs["Spacing"]  # [m]
        p0 = file["VTKHDF/FieldData/p0"][0]  # thermodynamic pressure [Pa]
    fields.append(T)
    print(f"t = {1e3 * entry['time']:.3f} ms: T from {T.min():.0f} to {T.max():.0f} {unit}, p0 = {p0:.0f} Pa")

# history.csv has one row for every few steps; the units of its columns stand in manifest.json.
with open(run / "history.csv", newline="") as file:
    rows = list(csv.DictReader(file))
history = {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}
units = json.loads((run / "manifest.json").read_text())["history_units"]
print(
    f"{len(rows)} rows of {len(history)} columns; p0 rose by {history['p0'][-1] - history['p0'][0]:.0f} {units['p0']}"
)

ny, nx = fields[-1].shape
extent = (0.0, 1e3 * nx * dx, 0.0, 1e3 * ny * dy)
figure, (field, curve) = plt.subplots(1, 2, figsize=(9.0, 3.8), layout="constrained")
image = field.imshow(fields[-1], origin="lower", extent=extent, cmap="inferno")
field.set(xlabel="x [mm]", ylabel="y [mm]", title=f"t = {1e3 * series[-1]['time']:.3g} ms")
figure.colorbar(image, ax=field, label=f"T [{unit}]")
curve.plot(1e3 * history["time"], history["heat_release"])
curve.set(xlabel="time [ms]", ylabel=f"heat release [{units['heat_release']}]")
figure.savefig("runs/read_snapshots.png", dpi=120)
plt.close(figure)
