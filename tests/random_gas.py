"""Random mechanisms of hydrogen and oxygen, random states of them, and what CVODES makes of these states."""

from pathlib import Path

import cantera as ct
import numpy as np
from reaction_zoo import write

EQUATIONS = (
    "OH + H2 <=> H + H2O",
    "2 OH <=> O + H2O",
    "HO2 + H <=> 2 OH",
    "HO2 + H <=> H2 + O2",
    "HO2 + O <=> OH + O2",
    "HO2 + OH <=> H2O + O2",
    "2 HO2 <=> H2O2 + O2",
    "H2O2 + H <=> HO2 + H2",
    "H2O2 + OH <=> H2O + HO2",
    "H + O2 <=> O + OH",
    "O + H2 <=> H + OH",
    "H2 + O2 <=> 2 OH",
)
EXOTHERMIC = EQUATIONS[:-3]  # others are not made irreversible: they might cool a gas to nothing
COLLISIONS = (
    "H + O2 (+M) <=> HO2 (+M)",
    "2 OH (+M) <=> H2O2 (+M)",
    "H + OH (+M) <=> H2O (+M)",
    "2 H (+M) <=> H2 (+M)",
    "O + H (+M) <=> OH (+M)",
    "2 O (+M) <=> O2 (+M)",
)
GLOBAL = ("2 H2 + O2 => 2 H2O", "H2O2 + H2 => 2 H2O")
CHEBYSHEV = "  temperature-range: [250.0, 3500.0]\n  pressure-range: [0.05 atm, 60 atm]\n"
FACTORS = (0.97, 1.0, 1.03)  # of the time step: an ignition a little early or late is no error


def mechanism_file(folder: Path, rng: np.random.Generator) -> Path:
    """A mechanism of random rates and kinds of reactions."""
    texts = [_bimolecular(equation, rng) for equation in EQUATIONS if rng.random() < 0.8]
    texts += [_collision(equation, rng) for equation in COLLISIONS if rng.random() < 0.8]
    texts += [_global(equation, rng) for equation in GLOBAL if rng.random() < 0.5]
    return write(folder, "\n".join(texts or [_bimolecular(EQUATIONS[0], rng)]))


def _rate(rng: np.random.Generator, order: int = 2) -> str:
    """Arrhenius parameters [cm, mol, s, cal]: at 1200 K from a millionth of the rate of collisions to three of it."""
    b, Ea = rng.uniform(-2.0, 2.5), rng.choice([0.0, 1.0]) * rng.uniform(0.0, 40000.0)
    at_1200 = 10.0 ** (rng.uniform(8.0, 14.5) + (2.0 if order == 3 else 0.0))
    return f"{{A: {at_1200 / 1200.0**b:.6e}, b: {b:.4f}, Ea: {Ea:.1f}}}"


def _bimolecular(equation: str, rng: np.random.Generator) -> str:
    equation = equation.replace("<=>", "=>") if equation in EXOTHERMIC and rng.random() < 0.2 else equation
    kind = rng.random()
    if kind < 0.1:
        lg = rng.uniform(8.0, 14.0), *rng.uniform(-1.0, 1.0, 5)
        return (
            f"- equation: {equation}\n  type: Chebyshev\n{CHEBYSHEV}"
            + "  data: [[{}, {}, {}], [{}, {}, {}]]".format(*lg)
        )
    if kind < 0.2:
        A, energies = _rate(rng).split(", Ea")[0], f"Ea0: {rng.uniform(0.0, 3e4):.0f}, w: {rng.uniform(5e4, 2e5):.0f}"
        return f"- equation: {equation}\n  type: Blowers-Masel\n  rate-constant: {A}, {energies}}}"
    if kind < 0.4:
        levels = "".join(f"\n  - {{P: {P} atm, {_rate(rng)[1:]}" for P in (0.1, 1.0, 10.0))
        return f"- equation: {equation}\n  type: pressure-dependent-Arrhenius\n  rate-constants:{levels}"
    return f"- equation: {equation}\n  rate-constant: {_rate(rng)}"


def _collision(equation: str, rng: np.random.Generator) -> str:
    efficiencies = f"\n  efficiencies: {{H2: {rng.uniform(0.0, 3.0):.2f}, H2O: {rng.uniform(0.0, 15.0):.2f}}}"
    if rng.random() < 0.4:
        return f"- equation: {equation.replace('(+M)', '+ M')}\n  rate-constant: {_rate(rng, 3)}{efficiencies}"
    limits = f"\n  type: falloff\n  low-P-rate-constant: {_rate(rng, 3)}\n  high-P-rate-constant: {_rate(rng)}"
    troe = "\n  Troe: {A: 0.6, T3: 100.0, T1: 1500.0, T2: 5000.0}" if rng.random() < 0.5 else ""
    return f"- equation: {equation}{limits}{efficiencies}{troe}"


def _global(equation: str, rng: np.random.Generator) -> str:
    fuel, other = equation.replace("2 H2 +", "H2 +").split("=>")[0].split(" + ")
    powers = rng.choice([-0.3, 0.1, 0.5, 1.0, 1.65], 2)
    orders = f"{{{fuel.strip()}: {powers[0]}, {other.strip()}: {powers[1]}}}"
    return f"- equation: {equation}\n  rate-constant: {_rate(rng)}\n  orders: {orders}\n  negative-orders: true"


def states(gas: ct.Solution, n: int, rng: np.random.Generator) -> np.ndarray:
    """Random states (n, 2 + K): 300-2500 K, 0.1-50 atm; fresh gas, burnt gas, traces, anything; species are absent."""
    rows = []
    for i in range(n):
        T, P = rng.uniform(300.0, 2500.0), ct.one_atm * np.exp(rng.uniform(np.log(0.1), np.log(50.0)))
        X = rng.dirichlet(np.full(gas.n_species, 0.5))
        if i % 4:
            X *= 10.0 ** rng.uniform(-16.0, -2.0, X.size)
        X[rng.random(X.size) < 0.4] = 0.0
        if i % 4:
            X[[gas.species_index(name) for name in ("H2", "O2", "N2")]] += rng.dirichlet([1.0, 1.0, 2.0])
        X[gas.species_index("N2")] += 1e-3
        gas.TPX = T, P, X
        if i % 4 == 3:
            gas.equilibrate("HP")
            gas.TP = gas.T + rng.uniform(-100.0, 100.0), P
        rows.append(np.hstack([gas.T, gas.P, gas.Y]))
    return np.array(rows)


def temperatures_by_cvodes(gas: ct.Solution, state: np.ndarray, dt: float, atol: float = 1e-20) -> np.ndarray:
    """Temperatures [K] by CVODES at 1e-10 and `atol` after dt and a little less and more; NaN where it gives up."""
    gas.TPY = state[0], state[1], state[2:]
    reactor = ct.IdealGasConstPressureReactor(gas, clone=False)
    network = ct.ReactorNet([reactor])
    network.rtol, network.atol, network.max_steps = 1e-10, atol, 100_000
    found = np.full(len(FACTORS), np.nan)
    try:
        for i, factor in enumerate(FACTORS):
            network.advance(factor * dt)
            found[i] = reactor.T if reactor.phase.Y.min() > -1e-7 else np.nan
    except ct.CanteraError:
        pass
    return found
