"""A network in a loop of one's own: perfectly stirred reactors beside Cantera's, down to blow-off.

    python docs/examples/stirred_reactor.py

Fresh methane-air enters each reactor, mixes at constant pressure, reacts and leaves. Every reactor has a residence time
of its own, and all of them advance together: mix, by Cantera's `SolutionArray`, then react, in steps of 1 us. Three
kinds of chemistry have the same call: the exact integrator, which shows what the splitting costs; `drm19-small` as it
ships, which integrates what one exponential step takes, here all of it; and its network wherever the gas is hot, which
has not learned gas of this kind and blows off too early. It takes five seconds.
"""

from pathlib import Path

import cantera as ct
import matplotlib.pyplot as plt
import numpy as np

import chemnet

DT = 1e-6  # [s]
TIMES = np.array([2e-4, 2.5e-4, 3e-4, 4e-4])  # residence times [s]
N_STEPS = round(4 * TIMES.max() / DT)

mechanism = chemnet.load_mechanism("drm19")
gas = mechanism.gas()
gas.set_equivalence_ratio(1.0, "CH4", "O2:1, N2:3.76")
gas.TP = 300.0, ct.one_atm
fresh, h_fresh, Y_fresh = gas.state, gas.enthalpy_mass, gas.Y
gas.equilibrate("HP")
burnt = gas.state


def advance(step):
    """T (n,) [K] of all reactors after N_STEPS from burnt gas on, and the share of all steps by the network."""
    gas.state = burnt
    reactors = ct.SolutionArray(gas, len(TIMES))
    entering = 1.0 - np.exp(-DT / TIMES)  # share of the mass that is new after a step
    integrated = 0
    for _ in range(N_STEPS):
        h, Y = reactors.enthalpy_mass, reactors.Y
        reactors.HPY = h + entering * (h_fresh - h), ct.one_atm, Y + entering[:, None] * (Y_fresh - Y)
        states, status = result = step.advance(np.column_stack([reactors.T, reactors.P, reactors.Y]), DT)
        assert (status <= chemnet.Status.RETRIED).all(), status
        reactors.TPY = states[:, 0], states[:, 1], states[:, 2:]
        integrated += result.stats.integrated
    return reactors.T, 1.0 - integrated / (len(TIMES) * N_STEPS)


def by_cantera(residence_time):
    """T [K] of Cantera's reactor at the same time."""
    gas.state = fresh
    inlet = ct.Reservoir(gas, clone=True)
    gas.state = burnt
    reactor = ct.IdealGasConstPressureReactor(gas, clone=False)
    flow = ct.MassFlowController(inlet, reactor, mdot=lambda t: reactor.mass / residence_time)
    outlet = ct.Reservoir(gas, clone=True)
    ct.PressureController(reactor, outlet, primary=flow, K=0.0)
    network = ct.ReactorNet([reactor])
    network.rtol, network.atol = 1e-8, 1e-14
    network.advance(N_STEPS * DT)
    return reactor.T


T = {"Cantera": np.array([by_cantera(time) for time in TIMES])}
T["exact"], _ = advance(chemnet.RosenbrockReactor(mechanism))
T["drm19-small"], usual = advance(chemnet.HybridStep.load("drm19-small"))
T["its network"], everywhere = advance(chemnet.HybridStep.load("drm19-small", calm_limit=0.0))

print("residence time [us]", *(f"{1e6 * time:9.0f}" for time in TIMES))
for name, temperature in T.items():
    print(f"T by {name:14}", *(f"{value:9.1f}" for value in temperature))
print(f"steps by the network: {usual:.1%} as it ships, {everywhere:.1%} wherever the gas is hot")

for (name, temperature), colour, size in zip(T.items(), ("0.7", "C0", "C1", "C3"), (12, 8, 4, 6), strict=True):
    plt.plot(1e6 * TIMES, temperature, "o", color=colour, markersize=size, label=name)
plt.xlabel("residence time [us]")
plt.ylabel("T [K]")
plt.legend()
Path("runs").mkdir(exist_ok=True)
plt.savefig("runs/stirred_reactor.png", dpi=120)
plt.close()
