"""Chemistry into a network, and the network made small.

The names below are loaded on first use, so that `import chemnet` costs no torch and no Cantera::

    from chemnet import HybridStep
    next_states, status = HybridStep.load("drm19-small").advance(states)  # rows [T, P, Y_1..Y_K], SI
"""

from typing import TYPE_CHECKING

from chemnet.runtime.lazy import exports
from chemnet.version import __version__

_HOMES = {
    "CvodesReactor": "kinetics.cvodes",
    "HybridStep": "surrogate.hybrid",
    "Mechanism": "gas.mechanism",
    "RosenbrockReactor": "kinetics.rosenbrock_reactor",
    "Status": "gas.status",
    "Surrogate": "surrogate.model",
    "__version__": "version",
    "load_mechanism": "gas.mechanism",
}
# fmt: off
__all__ = [
    "CvodesReactor", "HybridStep", "Mechanism", "RosenbrockReactor", "Status", "Surrogate", "__version__",
    "load_mechanism",
]
# fmt: on
__getattr__, __dir__ = exports(__name__, _HOMES)

if TYPE_CHECKING:
    from chemnet.gas.mechanism import Mechanism, load_mechanism
    from chemnet.gas.status import Status
    from chemnet.kinetics.cvodes import CvodesReactor
    from chemnet.kinetics.rosenbrock_reactor import RosenbrockReactor
    from chemnet.surrogate.hybrid import HybridStep
    from chemnet.surrogate.model import Surrogate
