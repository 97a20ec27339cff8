"""Cantera's `SolutionArray` and the rows of states of this package."""

from __future__ import annotations

from typing import Any

import cantera as ct
import numpy as np

from chemnet.gas.mechanism import MechanismLike, as_mechanism
from chemnet.gas.state import Array
from chemnet.runtime.errors import UsageError

SolutionArray = ct.SolutionArray


def is_solution_array(value: Any) -> bool:
    """Whether this is an array of Cantera's states."""
    return isinstance(value, ct.SolutionArray)


def states_of(array: SolutionArray, mechanism: MechanismLike) -> Array:
    """Rows (n, 2 + K) of an array of any shape, in its order. Raises UsageError for one of other species."""
    mechanism, names = as_mechanism(mechanism), tuple(array.species_names)
    if names != mechanism.species_names:
        raise UsageError(
            f"a SolutionArray of {len(names)} species ({' '.join(names[:4])} ...) is none of {mechanism.name}, "
            f"which has {mechanism.n_species} ({' '.join(mechanism.species_names[:4])} ...)"
        )
    T, P, Y = array.TPY
    return np.column_stack([T.ravel(), P.ravel(), Y.reshape(-1, mechanism.n_species)])


def array_of(states: Array, like: SolutionArray) -> SolutionArray:
    """Rows (n, 2 + K) as a new array of the phase and shape of `like`; Cantera normalises mass fractions."""
    phase: Any = like._phase
    array = ct.SolutionArray(phase, like.shape)
    K = states.shape[1] - 2
    array.TPY = *(states[:, c].reshape(like.shape) for c in (0, 1)), states[:, 2:].reshape(*like.shape, K)
    return array
