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

CHEBYSHEV = """
- equation: H2O2 <=> 2 OH
  type: Chebyshev
  temperature-range: [300.0, 2000.0]
  pressure-range: [0.1 atm, 100 atm]
  data: [[8.2, 0.1], [-0.3, 0.05]]
"""

BLOWERS_MASEL = """
- equation: O + H2 <=> H + OH
  type: Blowers-Masel
  rate-constant: {A: 3.87e+04, b: 2.7, Ea0: 6260.0, w: 1.0e+05}
"""


def write(folder: Path, reactions: str) -> Path:
    """A mechanism of hydrogen's species with the given reactions."""
    path = folder / "zoo.yaml"
    path.write_text(HEAD + reactions, encoding="utf-8")
    return path
