"""Ignition delays of methane-air by three integrators: Cantera's, the exact one and a network that ships.

    python docs/examples/ignition_delay.py

All ignitions of one integrator advance together, one row of `states` each, in steps of 1 us at constant pressure and
enthalpy; the delay is the end of the step in which T rises fastest. It takes some three seconds, and half a minute
more on the first run of a machine, which compiles the kernels.
"""

from pathlib import Path

import cantera as ct
import matplotlib.pyplot as plt
import numpy as np

import chemnet

DT = 1e-6  # [s]
N_STEPS = 700
T0 = np.array([1600.0, 1700.0, 1800.0, 1900.0, 2000.0])  # [K]

# Stoichiometric methane-air at 1 atm, one row [T, P, Y_1..Y_K] for each initial temperature.
mechanism = chemnet.load_mechanism("drm19")
gas = mechanism.gas()
gas.set_equivalence_ratio(1.0, "CH4", "O2:1, N2:3.76")
start = np.array([[T, ct.one_atm, *gas.Y] for T in T0])


def temperatures_by_cantera():
    """T (n_steps + 1, n) [K] by a reactor of Cantera, CVODES underneath."""
    T = np.empty((N_STEPS + 1, len(T0)))
    for column, state in enumerate(start):
        gas.TPY = state[0], state[1], state[2:]
        reactor = ct.IdealGasConstPressureReactor(gas, clone=False)
        network = ct.ReactorNet([reactor])
        network.rtol, network.atol = 1e-8, 1e-14
        T[0, column] = state[0]
        for step in range(1, N_STEPS + 1):
            network.advance(step * DT)
            T[step, column] = reactor.T
    return T


def temperatures_by(step):
    """T (n_steps + 1, n) [K] by any step of chemnet."""
    states, T = start, [T0]
    for _ in range(N_STEPS):
        states, status = step.advance(states, DT)
        assert (status <= chemnet.Status.RETRIED).all(), status
        T.append(states[:, 0])
    return np.array(T)


temperatures = {
    "Cantera": temperatures_by_cantera(),
    "exact": temperatures_by(chemnet.RosenbrockReactor(mechanism)),
    "drm19-small": temperatures_by(chemnet.HybridStep.load("drm19-small")),
}
delays = {name: DT * (1 + np.diff(T, axis=0).argmax(axis=0)) for name, T in temperatures.items()}

print("ignition delay [us]", *(f"{T:8.0f} K" for T in T0))
for name, delay in delays.items():
    print(f"{name:19}", *(f"{1e6 * seconds:10.0f}" for seconds in delay))

time = 1e3 * DT * np.arange(N_STEPS + 1)  # [ms]
lines = {"Cantera": "0.7", "exact": "C0", "drm19-small": "C3"}
for (name, T), width, style in zip(temperatures.items(), (5.0, 2.0, 1.2), ("-", "-", "--"), strict=True):
    plt.plot(time, T, style, color=lines[name], linewidth=width, label=[name] + ["_"] * (len(T0) - 1))
plt.xlabel("time [ms]")
plt.ylabel("T [K]")
plt.legend()
Path("runs").mkdir(exist_ok=True)
plt.savefig("runs/ignition_delay.png", dpi=120)
plt.close()
