"""A mechanism with every kind of reaction that `chemnet.kinetics` covers, and helpers to write others like it."""

from pathlib import Path

HEAD = """
phases:
- name: gas
  thermo: ideal-gas
  elements: [O, H, Ar, N]
  species:
  - h2o2.yaml/species: all
  kinetics: gas
  reactions: all
units: {length: cm, quantity: mol, activation-energy: cal/mol}
reactions:
"""

ZOO = """
- equation: O + H2 <=> H + OH
  rate-constant: {A: 3.87e+04, b: 2.7, Ea: 6260.0}
- equation: 2 O + M <=> O2 + M
  rate-constant: {A: 1.2e+17, b: -1.0, Ea: 0.0}
  efficiencies: {H2: 2.4, H2O: 15.4, AR: 0.83}
- equation: H + OH + M <=> H2O + M
  rate-constant: {A: 2.2e+22, b: -2.0, Ea: 0.0}
  efficiencies: {H2: 0.73, H2O: 0.0}
- equation: H + O2 + N2 <=> HO2 + N2
  rate-constant: {A: 2.6e+19, b: -1.24, Ea: 0.0}
- equation: 2 H + H2 <=> 2 H2
  rate-constant: {A: 9.0e+16, b: -0.6, Ea: 0.0}
- equation: 2 OH (+M) <=> H2O2 (+M)
  duplicate: true
  type: falloff
  high-P-rate-constant: {A: 7.4e+13, b: -0.37, Ea: 0.0}
  low-P-rate-constant: {A: 2.3e+18, b: -0.9, Ea: -1700.0}
  efficiencies: {H2O: 6.0, AR: 0.7}
- equation: 2 OH (+M) <=> H2O2 (+M)
  duplicate: true
  type: falloff
  high-P-rate-constant: {A: 7.4e+13, b: -0.37, Ea: 0.0}
  low-P-rate-constant: {A: 2.3e+18, b: -0.9, Ea: -1700.0}
  Troe: {A: 0.7346, T3: 94.0, T1: 1756.0, T2: 5182.0}
- equation: H + O2 (+AR) <=> HO2 (+AR)
  type: falloff
  high-P-rate-constant: {A: 4.65e+12, b: 0.44, Ea: 0.0}
  low-P-rate-constant: {A: 6.8e+18, b: -1.2, Ea: 0.0}
  Troe: {A: 0.5, T3: 30.0, T1: 90000.0}
- equation: H + HO2 (+M) <=> H2O2 (+M)
  type: falloff
  high-P-rate-constant: {A: 1.0e+13, b: 0.1, Ea: 300.0}
  low-P-rate-constant: {A: 4.0e+17, b: -0.5, Ea: 1000.0}
  SRI: {A: 0.54, B: 201.0, C: 1024.0}
- equation: O + OH (+M) <=> HO2 (+M)
  type: falloff
  high-P-rate-constant: {A: 2.0e+13, b: 0.0, Ea: 0.0}
  low-P-rate-constant: {A: 1.0e+17, b: 0.0, Ea: 0.0}
  SRI: {A: 1.1, B: 700.0, C: 1234.0, D: 56.0, E: 0.7}
- equation: H2 + O2 (+M) <=> H2O2 (+M)
  type: chemically-activated
  high-P-rate-constant: {A: 5.88e+14, b: 0.6, Ea: 39000.0}
  low-P-rate-constant: {A: 282.32, b: 1.4, Ea: 30000.0}
  Troe: {A: 0.66, T3: 21600.0, T1: 3900.0, T2: 1.0e+04}
- equation: OH + H2 <=> H + H2O
  type: pressure-dependent-Arrhenius
  rate-constants:
  - {P: 0.01 atm, A: 1.2e+09, b: 1.3, Ea: 3400.0}
  - {P: 1.0 atm, A: 2.2e+08, b: 1.51, Ea: 3430.0}
  - {P: 1.0 atm, A: 3.0e+10, b: 0.2, Ea: 9000.0}
  - {P: 10.0 atm, A: 4.0e+08, b: 1.6, Ea: 3800.0}
  - {P: 10.0 atm, A: -1.0e+06, b: 1.2, Ea: 2000.0}
- equation: H + O2 <=> O + OH
  duplicate: true
  rate-constant: {A: 2.65e+16, b: -0.6707, Ea: 17041.0}
- equation: H + O2 <=> O + OH
  duplicate: true
  negative-A: true
  rate-constant: {A: -3.0e+12, b: 0.1, Ea: 12000.0}
- equation: O + H2O2 => OH + HO2
  rate-constant: {A: 9.63e+06, b: 2.0, Ea: 4000.0}
- equation: H2 + O2 => 2 OH
  orders: {H2: 0.5, O2: 1.2}
  rate-constant: {A: 1.7e+10, b: 0.3, Ea: 20000.0}
- equation: H2O2 => H2 + O2
  orders: {H2O2: 1.0, H2O: -0.3}
  nonreactant-orders: true
  negative-orders: true
  rate-constant: {A: 1.0e+9, b: 0.0, Ea: 30000.0}
- equation: H2 + 0.5 O2 <=> H2O
  rate-constant: {A: 1.0e+9, b: 0.5, Ea: 20000.0}
- equation: HO2 + HO2 <=> O2 + H2O2
  rate-constant: {A: 0.0, b: 0.0, Ea: 0.0}
"""

GLOBAL = """
- equation: 2 H2 + O2 => 2 H2O
  orders: {H2: -0.3, O2: 1.3}
  negative-orders: true
  rate-constant: {A: 1.3e+12, b: 0.0, Ea: 30000.0}
"""

PRESSURE = """
- equation: H2O2 + H <=> 2 OH + H
  type: pressure-dependent-Arrhenius
  rate-constants:
  - {P: 1.0 atm, A: 5.1e+07, b: 2.182, Ea: 11524.0}
  - {P: 10.0 atm, A: 1.5e+15, b: 0.1, Ea: 15000.0}
- equation: H2O2 <=> 2 OH
  duplicate: true
  type: Chebyshev
  temperature-range: [300.0, 2000.0]
  pressure-range: [0.5 atm, 20 atm]
  data: [[8.2, 0.4, -0.1], [1.9, 0.25, 0.03], [-0.4, 0.05, 0.01], [-0.2, 0.02, -0.004]]
- equation: H2O2 <=> 2 OH
  duplicate: true
  type: Chebyshev
  temperature-range: [290.0, 3000.0]
  pressure-range: [0.01 atm, 100 atm]
  data: [[7.1], [1.3]]
- equation: HO2 + AR <=> H + O2 + AR
  type: Chebyshev
  temperature-range: [300.0, 2500.0]
  pressure-range: [0.1 atm, 10 atm]
  data: [[9.1, 0.3], [2.3, -0.1], [-0.2, 0.02]]
- equation: O + H2 <=> H + OH
  type: Blowers-Masel
  rate-constant: {A: 3.87e+04, b: 2.7, Ea0: 6260.0, w: 1.0e+05}
- equation: O + H2O2 => OH + HO2
  type: Blowers-Masel
  negative-A: true
  rate-constant: {A: -9.63e+06, b: 2.0, Ea0: 4000.0, w: 2.0e+05}
- equation: H + OH + M <=> H2O + M
  duplicate: true
  type: Blowers-Masel
  rate-constant: {A: 3.87e+20, b: -2.0, Ea0: 6260.0, w: 1.0e+05}
  efficiencies: {H2: 2.0, H2O: 0.0}
- equation: H2O + M <=> H + OH + M
  duplicate: true
  type: Blowers-Masel
  rate-constant: {A: 3.87e+21, b: -1.0, Ea0: 6260.0, w: 1.0e+05}
- equation: 2 OH (+M) <=> H2O2 (+M)
  duplicate: true
  type: falloff
  high-P-rate-constant: {A: 7.4e+13, b: -0.37, Ea: 0.0}
  low-P-rate-constant: {A: 2.3e+18, b: -0.9, Ea: -1700.0}
  Tsang: {A: 0.95, B: -1.0e-04}
  efficiencies: {H2O: 6.0, AR: 0.7}
- equation: H2 + O2 (+M) <=> H2O2 (+M)
  type: chemically-activated
  high-P-rate-constant: {A: 5.88e+14, b: 0.6, Ea: 39000.0}
  low-P-rate-constant: {A: 282.32, b: 1.4, Ea: 30000.0}
  Tsang: {A: 0.2, B: 5.0e-05}
- equation: 2 H + O2 => 2 OH
  orders: {H: 1.3}
  rate-constant: {A: 0.0, b: 0.0, Ea: 0.0}
- equation: O2 + H2 => H2 + O2
  rate-constant: {A: 1.0e+17, b: 0.0, Ea: 0.0}
"""

BURKE = """
- equation: H + OH (+M) <=> H2O (+M)
  type: linear-Burke
  colliders:
  - name: M
    type: pressure-dependent-Arrhenius
    rate-constants:
    - {P: 0.1 atm, A: 5.13043e+18, b: -2.80388, Ea: 508.801}
    - {P: 1.0 atm, A: 5.47458e+19, b: -2.81214, Ea: 550.629}
    - {P: 10.0 atm, A: 1.04665e+21, b: -2.89077, Ea: 827.164}
  - name: AR
    efficiency: {A: 0.0220621, b: 0.474036, Ea: -113.148}
  - name: H2O
    efficiency: {A: 0.104529, b: 0.550787, Ea: -232.675}
- equation: H + O2 (+M) <=> HO2 (+M)
  type: linear-Burke
  colliders:
  - name: M
    type: falloff
    low-P-rate-constant: {A: 6.8e+18, b: -1.2, Ea: 0.0}
    high-P-rate-constant: {A: 4.65e+12, b: 0.44, Ea: 0.0}
    Troe: {A: 0.5, T3: 30.0, T1: 90000.0, T2: 90000.0}
  - name: N2
    efficiency: {A: 1.2, b: 0.1, Ea: 54.0}
  - name: AR
    efficiency: {A: 0.0, b: 0.0, Ea: 0.0}
  - name: H2
    efficiency: {A: 2.2, b: -0.1, Ea: 54.0}
    type: pressure-dependent-Arrhenius
    rate-constants:
    - {P: 0.1 atm, A: 5.13043e+14, b: -1.2, Ea: 508.801}
    - {P: 1.0 atm, A: 5.47458e+15, b: -1.2, Ea: 550.629}
    - {P: 1.0 atm, A: -5.0e+10, b: -0.2, Ea: 900.0}
    - {P: 40.0 atm, A: 5.47458e+15, b: -1.0, Ea: 550.629}
- equation: 2 OH (+M) <=> H2O2 (+M)
  type: linear-Burke
  colliders:
  - name: M
    type: Chebyshev
    temperature-range: [300.0, 2500.0]
    pressure-range: [0.01 atm, 100 atm]
    data: [[10.2, 1.1, 0.1], [-0.3, 0.05, 0.02], [-0.1, 0.03, 0.01]]
  - name: N2
    efficiency: {A: 1.2, b: 0.1, Ea: 54.0}
  - name: H2
    efficiency: {A: 2.2, b: -0.1, Ea: 54.0}
    type: falloff
    low-P-rate-constant: {A: 6.8e+18, b: -1.2, Ea: 0.0}
    high-P-rate-constant: {A: 4.65e+12, b: 0.44, Ea: 0.0}
    Troe: {A: 0.5, T3: 30.0, T1: 90000.0}
  - name: H2O2
    efficiency: {A: 5.2, b: 0.0, Ea: 0.0}
    type: Chebyshev
    temperature-range: [300.0, 2500.0]
    pressure-range: [0.01 atm, 100 atm]
    data: [[10.4, 1.2], [-0.3, 0.05]]
- equation: H + HO2 <=> H2O2
  type: linear-Burke
  colliders:
  - name: M
    type: pressure-dependent-Arrhenius
    rate-constants:
    - {P: 0.3 atm, A: 1.0e+13, b: 0.1, Ea: 300.0}
- equation: 2 O + M <=> O2 + M
  type: linear-Burke
  efficiencies: {H2: 2.4, AR: 0.83}
  colliders:
  - name: M
    efficiency: {A: 1, b: 0, Ea: 0}
    type: pressure-dependent-Arrhenius
    rate-constants:
    - {P: 0.3 atm, A: 1.2e+17, b: -1.0, Ea: 0.0}
    - {P: 3.0 atm, A: 1.2e+18, b: -1.0, Ea: 0.0}
  - name: O
    efficiency: {A: 12.0, b: 0.0, Ea: 0.0}
- equation: 2 H + AR => H2 + AR
  type: linear-Burke
  colliders:
  - name: M
    type: pressure-dependent-Arrhenius
    rate-constants:
    - {P: 0.3 atm, A: 1.2e+18, b: -1.0, Ea: 0.0}
    - {P: 3.0 atm, A: 1.2e+19, b: -1.0, Ea: 500.0}
  - name: AR
    efficiency: {A: 3.0, b: 0.0, Ea: 0.0}
"""

PLASMA = """
- equation: O + H2 => H + OH
  type: two-temperature-plasma
  rate-constant: {A: 3.87e+04, b: 2.7, Ea-gas: 6260.0, Ea-electron: 1.0e+05}
"""

NEGATIVE_BETWEEN = """
- equation: H + OH <=> H2O
  type: pressure-dependent-Arrhenius
  rate-constants:
  - {P: 0.1 atm, A: 1.0e+10, b: 0.0, Ea: 0.0}
  - {P: 0.1 atm, A: -6.5e+174, b: -50.0, Ea: 70000.0}
  - {P: 10.0 atm, A: 1.0e+10, b: 0.0, Ea: 0.0}
"""

NEGATIVE_COLLIDER = """
- equation: H + OH <=> H2O
  type: linear-Burke
  colliders:
  - name: M
    type: pressure-dependent-Arrhenius
    rate-constants:
    - {P: 0.1 atm, A: 1.0e+13, b: 0.0, Ea: 0.0}
  - name: AR
    efficiency: {A: 3.0, b: 0.0, Ea: 0.0}
    type: pressure-dependent-Arrhenius
    rate-constants:
    - {P: 0.1 atm, A: -1.0e+13, b: 0.0, Ea: 0.0}
"""

UNKNOWN_COLLIDER = """
- equation: H + OH <=> H2O
  type: linear-Burke
  colliders:
  - name: M
    type: pressure-dependent-Arrhenius
    rate-constants:
    - {P: 0.1 atm, A: 1.0e+13, b: 0.0, Ea: 0.0}
  - name: XE
    efficiency: {A: 3.0, b: 0.0, Ea: 0.0}
"""

NO_EFFICIENCY = """
- equation: H + OH <=> H2O
  type: linear-Burke
  colliders:
  - name: M
    type: pressure-dependent-Arrhenius
    rate-constants:
    - {P: 0.1 atm, A: 1.0e+13, b: 0.0, Ea: 0.0}
  - name: AR
    efficiency: {A: 0.0, b: 0.0, Ea: 0.0}
    type: pressure-dependent-Arrhenius
    rate-constants:
    - {P: 0.1 atm, A: 1.0e+13, b: 0.0, Ea: 0.0}
"""

NO_LIMIT = """
- equation: H + OH <=> H2O
  type: linear-Burke
  colliders:
  - name: M
    type: falloff
    low-P-rate-constant: {A: 0.0, b: -1.2, Ea: 0.0}
    high-P-rate-constant: {A: 4.65e+12, b: 0.44, Ea: 0.0}
    Troe: {A: 0.5, T3: 30.0, T1: 90000.0}
"""

NO_BOND = """
- equation: O + H2 <=> H + OH
  type: Blowers-Masel
  rate-constant: {A: 3.87e+04, b: 2.7, Ea0: 6260.0, w: 6260.0}
"""


def write(folder: Path, reactions: str) -> Path:
    """A mechanism of hydrogen's species with the given reactions."""
    path = folder / "zoo.yaml"
    path.write_text(HEAD + reactions, encoding="utf-8")
    return path
