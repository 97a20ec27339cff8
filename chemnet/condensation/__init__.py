"""Make a trained network small: group neurons that have condensed, merge each group, train on.

Source: Chen and Xu, "Efficient and Flexible Method for Reducing Moderate-size Deep Neural Networks with
Condensation" (2024); "eq." in this package means its equations. The names are loaded on first use::

    from chemnet.condensation import condense, survey
    smaller = condense(network, example_input, threshold=0.9)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME = {
    "condense": "anynet",
    "condense_all": "dense",
    "condense_layer": "dense",
    "cosine_similarity": "similarity",
    "group": "similarity",
    "group_to_width": "similarity",
    "Recipe": "stages",
    "read_recipe": "stages",
    "reduce": "reduction",
    "reduce_automatically": "automatic",
    "resize": "conv",
    "survey": "channels",
}

__all__ = [
    "Recipe",
    "condense",
    "condense_all",
    "condense_layer",
    "cosine_similarity",
    "group",
    "group_to_width",
    "read_recipe",
    "reduce",
    "reduce_automatically",
    "resize",
    "survey",
]

if TYPE_CHECKING:
    from chemnet.condensation.anynet import condense
    from chemnet.condensation.automatic import reduce_automatically
    from chemnet.condensation.channels import survey
    from chemnet.condensation.conv import resize
    from chemnet.condensation.dense import condense_all, condense_layer
    from chemnet.condensation.reduction import reduce
    from chemnet.condensation.similarity import cosine_similarity, group, group_to_width
    from chemnet.condensation.stages import Recipe, read_recipe


def __getattr__(name: str) -> Any:
    """Load an exported name from its module on first use (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
