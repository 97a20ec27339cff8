"""Exact chemistry at SIMD speed, for any ideal-gas mechanism of Cantera.

`RosenbrockReactor` takes the step; `evaluate` gives the rates and the Jacobian that it works with.
"""

from chemnet.kinetics.evaluation import Evaluation, evaluate
from chemnet.kinetics.reactor import RosenbrockReactor
from chemnet.kinetics.rosenbrock import RODAS5P, Method

__all__ = ["RODAS5P", "Evaluation", "Method", "RosenbrockReactor", "evaluate"]
