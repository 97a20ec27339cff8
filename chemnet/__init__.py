"""Chemistry into a network, and the network made small.

The names below are loaded on first use, so that `import chemnet` costs no torch and no Cantera::

    from chemnet import Surrogate
    next_states, status = Surrogate.load("drm19-small").advance(states)  # rows [T, P, Y_1..Y_K], SI
"""

from typing import TYPE_CHECKING

from chemnet.runtime.lazy import exports
from chemnet.version import __version__

_HOMES = {
    "CvodesReactor": "kinetics.cvodes",
    "Mechanism": "gas.mechanism",
    "RosenbrockReactor": "kinetics.rosenbrock_reactor",
    "Status": "gas.status",
    "Surrogate": "surrogate.model",
    "__version__": "version",
    "load_mechanism": "gas.mechanism",
}
__all__ = ["CvodesReactor", "Mechanism", "RosenbrockReactor", "Status", "Surrogate", "__version__", "load_mechanism"]
__getattr__, __dir__ = exports(__name__, _HOMES)

if TYPE_CHECKING:
    from chemnet.gas.mechanism import Mechanism, load_mechanism
    from chemnet.gas.status import Status
    from chemnet.kinetics.cvodes import CvodesReactor
    from chemnet.kinetics.rosenbrock_reactor import RosenbrockReactor
    from chemnet.surrogate.model import Surrogate
