"""Chemistry into a network, and the network made small.

The names below are loaded on first use, so that `import chemnet` costs no torch and no Cantera::

    import chemnet

    step = chemnet.HybridStep.load("drm19-small")
    next_states, status = step.advance(states)  # rows [T, P, Y_1..Y_K] in SI, after 1e-6 s

The verbs are those of the command line: `make`, `sample`, `train`, `reduce`, `validate`, `export`, `condense`,
`survey`, `models`.
"""

from typing import TYPE_CHECKING

from chemnet.runtime.lazy import exports
from chemnet.version import __version__

_HOMES = {
    "CvodesReactor": "kinetics.cvodes",
    "HybridStep": "surrogate.hybrid",
    "MakeTask": "making.task",
    "Mechanism": "gas.mechanism",
    "RosenbrockReactor": "kinetics.rosenbrock_reactor",
    "Status": "gas.status",
    "Surrogate": "surrogate.model",
    "__version__": "version",
    "condense": "condensation.condenser",
    "export": "surrogate.export",
    "load_mechanism": "gas.mechanism",
    "make": "making.run",
    "models": "validation.shelf",
    "reduce": "reduction.run",
    "sample": "data.sampling",
    "survey": "condensation.channels",
    "train": "training.run",
    "validate": "validation.suite",
}
# fmt: off
__all__ = [
    "CvodesReactor", "HybridStep", "MakeTask", "Mechanism", "RosenbrockReactor", "Status", "Surrogate", "__version__",
    "condense", "export", "load_mechanism", "make", "models", "reduce", "sample", "survey", "train", "validate",
]
# fmt: on
__getattr__, __dir__ = exports(__name__, _HOMES)

if TYPE_CHECKING:
    from chemnet.condensation.channels import survey
    from chemnet.condensation.condenser import condense
    from chemnet.data.sampling import sample
    from chemnet.gas.mechanism import Mechanism, load_mechanism
    from chemnet.gas.status import Status
    from chemnet.kinetics.cvodes import CvodesReactor
    from chemnet.kinetics.rosenbrock_reactor import RosenbrockReactor
    from chemnet.making.run import make
    from chemnet.making.task import MakeTask
    from chemnet.reduction.run import reduce
    from chemnet.surrogate.export import export
    from chemnet.surrogate.hybrid import HybridStep
    from chemnet.surrogate.model import Surrogate
    from chemnet.training.run import train
    from chemnet.validation.shelf import models
    from chemnet.validation.suite import validate
