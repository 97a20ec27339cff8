"""Chemistry into a network, and the network made small.

The names below are loaded on first use, so that `import chemnet` costs no torch and no Cantera::

    from chemnet import Surrogate
    next_states, status = Surrogate.load("drm19-small").advance(states)  # rows [T, P, Y_1..Y_K], SI
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "CvodesReactor": "reactor",
    "Mechanism": "mechanism",
    "RosenbrockReactor": "kinetics",
    "Status": "status",
    "Surrogate": "surrogate",
    "load_mechanism": "mechanism",
}

__all__ = ["CvodesReactor", "Mechanism", "RosenbrockReactor", "Status", "Surrogate", "__version__", "load_mechanism"]

if TYPE_CHECKING:
    from chemnet.kinetics import RosenbrockReactor
    from chemnet.mechanism import Mechanism, load_mechanism
    from chemnet.reactor import CvodesReactor
    from chemnet.status import Status
    from chemnet.surrogate import Surrogate


def __getattr__(name: str) -> Any:
    """Load an exported name from its module on first use (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
