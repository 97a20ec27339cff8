"""What a network gives after cuts, in the network as it was before them, at its own widths.

Every reader gets what its share makes of the channels that stay, and a normalisation of several channels together has
the statistics of those that stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from chemnet.condensation.calibration import received
from chemnet.condensation.called_layers import After, Hooks
from chemnet.condensation.channels import Channels
from chemnet.condensation.columns import gathered
from chemnet.condensation.graph import Floats, Indices, Place, Space, is_each_alone
from chemnet.condensation.inputs import Inputs
from chemnet.condensation.resuming import Resuming
from chemnet.condensation.surgery import Surgery
from chemnet.condensation.vectors import parts_of


class Substitution:
    """Puts in front of a reader what it gets of the channels of one space that stay."""

    def __init__(self, channels: Channels, place: Place, share: Floats, kept: Indices, shift: Floats | None) -> None:
        self._table = channels.columns_of(place)
        self._share, self._kept, self._shift = torch.from_numpy(share), torch.from_numpy(kept), shift

    def __call__(self, module: nn.Module, given: torch.Tensor) -> torch.Tensor:
        """The input of the reader with other channels."""
        axis = -1 if isinstance(module, nn.Linear) else 1
        x = given.movedim(axis, 0)
        every = gathered(x, self._table).double()  # (m, r, ...)
        made = torch.tensordot(self._share.to(every), every[self._kept], dims=1)
        if self._shift is not None:
            shift = torch.from_numpy(self._shift).to(every)
            made = made + shift.reshape(-1, *[1] * (made.ndim - 1))
        there = self._table >= 0
        whole = x.clone()
        whole[torch.from_numpy(self._table[there])] = made[torch.from_numpy(there)].to(x)
        return whole.movedim(0, axis)


def received_after(
    surgery: Surgery,
    space: Space,
    kept: Indices,
    readers: Sequence[Place],
    shares: Mapping[Place, Floats],
    shifts: Mapping[Place, Floats],
    calibration: Inputs,
    resuming: Resuming | None = None,
) -> dict[Place, torch.Tensor]:
    """Samples (n, m) of what readers get of a space after a cut that is still to come: what is normalised together is
    so without the channels that go, and those before all of them have the shares (m, k) and constants (m,) given."""
    places = space.consumers
    before = {place: (shares[place], shifts[place]) for place in places[: min(map(places.index, readers))]}
    with in_place(surgery, space, kept, before).watching(surgery.model):
        return received(surgery.model, surgery.channels, readers, calibration, resuming=resuming)


def in_place(
    surgery: Surgery, space: Space, kept: Indices, made: Mapping[Place, tuple[Floats, Floats | None]]
) -> Hooks:
    """What to call before and after layers for a cut that is still to come: what is normalised together is so without
    the channels that go, and the readers `made` have their share (m, k) and constants (m,)."""
    modules, hooks = parts_of(surgery.model), Hooks()
    for place, (share, shift) in made.items():
        taken = shift if surgery.shifts(place) else None
        substitution = Substitution(surgery.channels, place, share, kept, taken)
        hooks.before.append((modules[place.module], substitution))
    for name, left in surgery.left_by(space, kept).items():
        if name in surgery.channels.statistics:
            hooks.over.append((surgery.channels.statistics[name], left))
        else:
            hooks.after.append((modules[name], over_some(left)))
    return hooks


def over_some(left: Indices) -> After:
    """What makes a normalisation of channels together take those `left` alone; the others become zero."""
    return partial(_over_some, torch.from_numpy(left))


def _over_some(left: torch.Tensor, norm: nn.Module, given: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    axis = 1 if isinstance(norm, nn.GroupNorm) else -len(norm.normalized_shape)
    left = left.to(output.device)
    x = given.index_select(axis, left)
    weight, bias = (None if p is None else p[left] for p in (norm.weight, getattr(norm, "bias", None)))
    if isinstance(norm, nn.GroupNorm):
        some = F.group_norm(x, len(left) if is_each_alone(norm) else norm.num_groups, weight, bias, norm.eps)
    elif isinstance(norm, nn.LayerNorm):
        some = F.layer_norm(x, (len(left), *norm.normalized_shape[1:]), weight, bias, norm.eps)
    else:
        some = F.rms_norm(x, (len(left), *norm.normalized_shape[1:]), weight, norm.eps)
    return torch.zeros_like(output).index_copy(axis, left, some)
