"""Numbers of a model as plain arrays, its species in any order: what a program without chemnet needs for its step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import nn

from chemnet.gas.polynomials import FURTHER, PLAIN, STRIDE
from chemnet.gas.state import Array
from chemnet.surrogate.model import Surrogate


def plain_arrays(model: Surrogate, species: Sequence[str] | None = None) -> dict[str, NDArray[np.generic]]:
    """Arrays of a model whose K species come in this order (default: that of its mechanism).

    * `weight_0`, `bias_0`, ...: of the layers, float32; the others are float64
    * `input_mean`, `input_gain`, `output_scale` (2 + K,): of the transform
    * `low`, `high` (2 + K,), `directions` (D, 1 + K), `bounds` (D, 2): of the domain
    * `reactive` (m,): places of the species that react; `elements` (E, m): mass of each element in a kilogram of them
    * `breaks` (R - 1, K) [K], `coefficients` (R, K, 8): ranges of the thermodynamic polynomials, each
      `[a_0..a_5, c, d]` as in `gas/polynomials.py`
    """
    mechanism, transform, domain = model.mechanism, model.transform, model.domain
    names = mechanism.species_names if species is None else species
    place = np.array([mechanism.index(name) for name in names])
    columns = np.r_[0, 1, 2 + place]
    result: dict[str, NDArray[np.generic]] = {
        name: getattr(transform, name)[columns] for name in ("input_mean", "input_gain", "output_scale")
    }
    result |= {name: getattr(domain, name)[columns] for name in ("low", "high")}
    result |= {"directions": domain.directions[:, np.r_[0, 1 + place]], "bounds": domain.bounds}
    reactive = np.flatnonzero(~mechanism.inert[place])
    present = mechanism.element_mass[:, ~mechanism.inert].any(axis=1)
    result |= {"reactive": reactive, "elements": mechanism.element_mass[present][:, place[reactive]]}
    breaks, coefficients = _ranges(mechanism.nasa[place])
    return result | {"breaks": breaks, "coefficients": coefficients} | _layers(model.network, columns)


def _layers(network: nn.Sequential, columns: NDArray[np.intp]) -> dict[str, NDArray[np.generic]]:
    """Weights and biases of the layers; the inputs and outputs are these columns of the network's own."""
    linears = [module for module in network if isinstance(module, nn.Linear)]
    weights = [linear.weight.detach().cpu().float().numpy() for linear in linears]
    biases = [linear.bias.detach().cpu().float().numpy() for linear in linears]
    weights[0] = weights[0][:, columns]
    weights[-1], biases[-1] = weights[-1][columns], biases[-1][columns]
    named: dict[str, NDArray[np.generic]] = {}
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        named |= {f"weight_{i}": np.ascontiguousarray(weight), f"bias_{i}": np.ascontiguousarray(bias)}
    return named


def _ranges(nasa: Array) -> tuple[Array, Array]:
    """Breaks and coefficients of a table of `gas/polynomials.py`."""
    width = nasa.shape[1]
    inverse = nasa[:, 17:21] if width > PLAIN else np.zeros((len(nasa), 4))
    breaks = [nasa[:, 0]]
    ranges = [np.hstack([nasa[:, 1:7], inverse[:, :2]]), np.hstack([nasa[:, 8:14], inverse[:, 2:]])]
    for start in range(FURTHER, width, STRIDE):
        breaks.append(nasa[:, start])
        ranges.append(np.hstack([nasa[:, start + 1 : start + 7], nasa[:, start + 8 : start + 10]]))
    return np.array(breaks), np.array(ranges)
