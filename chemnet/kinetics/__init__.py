"""Exact chemistry at SIMD speed, for any ideal-gas mechanism of Cantera, and Cantera's CVODES.

`RosenbrockReactor` takes the step; `evaluate` gives the rates and the Jacobian that it works with.
"""

from typing import TYPE_CHECKING

from chemnet.runtime.lazy import exports

_HOMES = {
    "RODAS5P": "rosenbrock",
    "ChemistryStep": "step",
    "CvodesReactor": "cvodes",
    "Evaluation": "evaluation",
    "Method": "rosenbrock",
    "RosenbrockReactor": "rosenbrock_reactor",
    "StepResult": "step",
    "StepStats": "step",
    "evaluate": "evaluation",
    "integrator_of": "rosenbrock_reactor",
}
# fmt: off
__all__ = [
    "RODAS5P", "ChemistryStep", "CvodesReactor", "Evaluation", "Method", "RosenbrockReactor", "StepResult", "StepStats",
    "evaluate", "integrator_of",
]
# fmt: on
__getattr__, __dir__ = exports(__name__, _HOMES)

if TYPE_CHECKING:
    from chemnet.kinetics.cvodes import CvodesReactor
    from chemnet.kinetics.evaluation import Evaluation, evaluate
    from chemnet.kinetics.rosenbrock import RODAS5P, Method
    from chemnet.kinetics.rosenbrock_reactor import RosenbrockReactor, integrator_of
    from chemnet.kinetics.step import ChemistryStep, StepResult, StepStats
