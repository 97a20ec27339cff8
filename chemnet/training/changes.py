"""Weights of the errors that a network makes in the changes of mass fractions and of heat, in states of flows.

Labels are roots of changes of Y^(1/8): a loss of them keeps rare species in sight, but not the balance of a flame,
which moves by the heat that its states release. So errors of the changes themselves may be added to the loss
(`change_loss` of `FitOptions`). With the network's answer o, its label l and r = Y^(1/8), species k is wrong by

    e_k = dY/d(o|o|) (o|o| - l|l|),  dY/d(o|o|) = 8 r^7 lambda scale^2,  taken at the exact new state

which is divided by the size of its exact change plus the mean of flow states, and the heat sum_k h_k e_k likewise.
"""

from __future__ import annotations

import numpy as np
import torch

from chemnet.gas.mechanism import Mechanism
from chemnet.gas.thermo import species_enthalpies
from chemnet.runtime.errors import UsageError
from chemnet.surrogate.transform import LAMBDA, Transform

_TEMPERATURE = 1600.0  # [K] of the enthalpies, in the middle of a flame
_LARGEST = 1.0  # of a squared error; so far from the label only the direction counts


def change_weights(
    x: torch.Tensor, y: torch.Tensor, flow: torch.Tensor, transform: Transform, mechanism: Mechanism
) -> torch.Tensor:
    """Factors (n, 2 K) of o|o| - l|l|: for the relative error of each species, and for its part in that of heat.

    x, y (n, 2 + K): inputs and labels of training rows; flow (n,): which of them are states of flows, the others have
    factors of zero. Raises UsageError for a label that is no signed root.
    """
    if transform.power != 2:
        raise UsageError(f"fit.change_loss is for the label signed_root, not for {transform.label}; set it to 0")
    gain, mean, scale = (
        torch.tensor(values[2:], dtype=torch.float32)
        for values in (transform.input_gain, transform.input_mean, transform.output_scale)
    )
    spread = torch.where(gain > 0, 1.0 / gain, torch.zeros(()))
    step = LAMBDA * scale**2 * y[:, 2:] * y[:, 2:].abs()
    old = 1.0 + LAMBDA * (x[:, 2:] * spread + mean)
    new = (old + step).clamp(min=0.0)
    slope = 8.0 * LAMBDA * scale**2 * new**7
    change = step * (new + old) * (new**2 + old**2) * (new**4 + old**4)  # new^8 - old^8, without cancellation
    h = np.empty(mechanism.n_species)
    species_enthalpies(_TEMPERATURE, mechanism.nasa, h)
    enthalpies = torch.tensor(h, dtype=torch.float32)
    heat = (change @ enthalpies).abs()
    species = slope / _beside_mean(change.abs(), flow)
    of_heat = slope * enthalpies / _beside_mean(heat[:, None], flow)
    return torch.cat([species, of_heat], dim=1) * flow[:, None]


def _beside_mean(sizes: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """Sizes (n, m), plus their mean over the states of flows; 1 where nothing ever changes."""
    mean = sizes[flow].mean(dim=0) if flow.any() else torch.zeros(sizes.shape[1])
    return torch.where(mean > 0.0, sizes + mean, torch.ones(()))


def change_loss(outputs: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mean squared relative error of the changes, over the species, plus that of heat, over the states of flows.

    outputs, labels (n, 2 + K), weights (n, 2 K) of `change_weights`.
    """
    n_species = weights.shape[1] // 2
    difference = outputs[:, 2:] * outputs[:, 2:].abs() - labels[:, 2:] * labels[:, 2:].abs()
    errors, heat = weights[:, :n_species] * difference, (weights[:, n_species:] * difference).sum(dim=1)
    flows = (weights != 0.0).any(dim=1).sum().clamp(min=1)
    species = (errors**2).clamp(max=_LARGEST).sum() / n_species
    return (species + (heat**2).clamp(max=_LARGEST).sum()) / flows
