"""Condensation of any network: group neurons that do the same, merge each group into one.

Source: Chen and Xu, "Efficient and Flexible Method for Reducing Moderate-size Deep Neural Networks with
Condensation" (2024); "eq." in this package means its equations. The names are loaded on first use::

    from chemnet.condensation import condense, survey
    smaller = condense(network, example_input, threshold=0.9)
"""

from typing import TYPE_CHECKING

from chemnet.runtime.lazy import exports

_HOMES = {
    "CHOICES": "choices",
    "Alike": "choices",
    "Choice": "choices",
    "Cosine": "choices",
    "Ranked": "choices",
    "View": "choices",
    "condense": "condenser",
    "cosine_similarity": "similarity",
    "group": "similarity",
    "group_to_width": "similarity",
    "resize": "surgery",
    "survey": "channels",
}

__all__ = [
    "CHOICES",
    "Alike",
    "Choice",
    "Cosine",
    "Ranked",
    "View",
    "condense",
    "cosine_similarity",
    "group",
    "group_to_width",
    "resize",
    "survey",
]
__getattr__, __dir__ = exports(__name__, _HOMES)

if TYPE_CHECKING:
    from chemnet.condensation.channels import survey
    from chemnet.condensation.choices import CHOICES, Alike, Choice, Cosine, Ranked, View
    from chemnet.condensation.condenser import condense
    from chemnet.condensation.similarity import cosine_similarity, group, group_to_width
    from chemnet.condensation.surgery import resize
