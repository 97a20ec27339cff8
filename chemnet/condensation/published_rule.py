"""The published rule for depthwise layers (appendix A.3), for comparison: channels are grouped by their depthwise
filters alone, and the weights around a group follow from a system of equations that is solved by least squares.

A block computes, for each hidden channel k and output o, with BatchNorms as y -> eps y + zeta::

    x -> alpha_k -> eps_k, zeta_k -> ReLU6 -> v_k -> mu_k, nu_k -> ReLU6 -> b_ok

For a group with ratios r_k = |v_k| / |v_main| the merged channel keeps v_main, and the rest is what solves (eq. 62)::

    b'                 = sum r_k b_k                  eps' alpha'            = sum r_k eps_k alpha_k
    b' alpha'          = sum r_k b_k alpha_k          zeta'                  = sum r_k zeta_k
    b' nu'             = sum b_k nu_k                 b' mu' eps' alpha'     = sum r_k b_k mu_k eps_k alpha_k

Derived anew, where the printed appendix slips: eq. 51 and 52 lose gamma in -gamma mean / sqrt(var) and the eps of the
BatchNorm, eq. 63 has a ratio on b_k nu_k that eq. 62 has not and begins its sums at 0, and eq. 64 gives half the
variance of the sum of two identical channels: what a merged channel has before its BatchNorm is the sum of what its
group had, so the means add up, and so do the deviations if the channels are parallel.

The rule treats ReLU6 as if it were homogeneous and the expansions of a group as if they could be added up in front of
it; neither holds, so it is exact only for ReLU and equal expansions. `folded` always is.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from chemnet.condensation import similarity
from chemnet.condensation.channel_vectors import scale_and_shift
from chemnet.condensation.channels import Channels
from chemnet.condensation.graph import Block, Floats, Normalisation, Space, as_float64, is_depthwise
from chemnet.condensation.surgery import Surgery


def is_block(channels: Channels, space: Space, model: nn.Module) -> bool:
    """Whether a space is the hidden one of a block: pointwise, BatchNorm, depthwise, BatchNorm, pointwise."""
    modules = dict(model.named_modules())
    if len(space.layers) != 1 or len(space.consumers) != 1 or len(space.followers) != 3:
        return False
    expand, reader = space.layers[0], space.consumers[0].module
    if not all(_is_pointwise(modules[name]) for name in (expand, reader)) or modules[expand].bias is not None:
        return False
    if any(len(channels.inputs[name]) > 1 for name in (*(place.module for place in space.followers), reader)):
        return False
    signal = channels.inputs[reader][0].signal
    if signal is None or len(signal.blocks) != 1:
        return False
    kinds = [[modules[name] for name, _ in block.modules] for block in _stages(signal.blocks[0])]
    if [len(kind) for kind in kinds] != [2, 2] or not all(_is_affine(kind[1]) for kind in kinds):
        return False
    return is_depthwise(kinds[1][0]) and kinds[1][0].bias is None


def _is_pointwise(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.groups == 1


def _is_affine(module: nn.Module) -> bool:
    return isinstance(module, Normalisation) and module.affine


def _stages(last: Block) -> list[Block]:
    """The block and those before it, first one first."""
    before = [] if last.before is None else [stage for block in last.before.blocks for stage in _stages(block)]
    return [*before, last]


def kernel_similarity(model: nn.Module, channels: Channels, space: Space) -> Floats:
    """Cosine similarity of the depthwise filters of a block (m, m)."""
    modules = dict(model.named_modules())
    filters = next(modules[place.module] for place in space.followers if is_depthwise(modules[place.module]))
    return similarity.cosine_similarity(as_float64(filters.weight).reshape(space.width, -1))


def merge_as_published(surgery: Surgery, space: Space, main_of: similarity.Grouping) -> None:
    """Merge the groups of a block's hidden channels, in place."""
    modules = dict(surgery.model.named_modules())
    place = space.consumers[0]
    signal = surgery.channels.inputs[place.module][place.segment].signal
    assert signal is not None
    stages = [[name for name, _ in block.modules] for block in _stages(signal.blocks[0])]
    (expand, first), (filters, second) = ([modules[name] for name in names] for names in stages)
    project = modules[place.module]
    norms = np.linalg.norm(as_float64(filters.weight).reshape(space.width, -1), axis=1)
    kept = similarity.mains(main_of)
    merged = []
    for main in kept:
        members = np.flatnonzero(main_of == main)
        ratios = norms[members] / norms[main] if norms[main] > 0.0 else np.ones(len(members))
        merged.append(_Group(members, ratios).merge(expand, first, second, project))
    surgery.cut(space, kept, {place: np.eye(space.width)[:, kept]}, {})
    alpha, eps, zeta, mu, nu, b, means, deviations = (np.array(column) for column in zip(*merged, strict=True))
    with torch.no_grad():
        expand.weight.copy_(_like(alpha[:, :, None, None], expand.weight))
        project.weight.copy_(_like(b.T[:, :, None, None], project.weight))
    _set_norm(first, eps, zeta, means[:, 0], deviations[:, 0])
    _set_norm(second, mu, nu, means[:, 1], deviations[:, 1])
    surgery.rewritten |= {names[1] for names in stages}


class _Group:
    """Hidden channels that become one: `members` (n,) and their `ratios` (n,) to the main one."""

    def __init__(self, members: NDArray[np.int64], ratios: Floats) -> None:
        self.members, self.ratios = members, ratios

    def merge(self, expand: nn.Module, first: nn.Module, second: nn.Module, project: nn.Module) -> tuple[object, ...]:
        """alpha', eps', zeta', mu', nu', b' of the group, and mean and deviation of both BatchNorms' inputs."""
        k, r = self.members, self.ratios
        alpha = as_float64(expand.weight[k, :, 0, 0])
        b = as_float64(project.weight[:, k, 0, 0]).T
        (eps, zeta), (mu, nu) = ([column[k] for column in scale_and_shift(norm)] for norm in (first, second))
        new_b = r @ b
        new_alpha = _least(new_b, (b.T * r) @ alpha)
        sum_of_eps = (r * eps) @ alpha
        new_eps = _least(new_alpha, sum_of_eps)
        both = (b.T * (r * mu * eps)) @ alpha
        new_mu = _least(np.outer(new_b, new_eps * new_alpha).ravel(), both.ravel())
        new_nu = _least(new_b, nu @ b)
        weights = np.divide(r * eps, new_eps, out=np.ones_like(r), where=new_eps != 0.0), np.ones_like(r)
        statistics = [
            (w @ as_float64(norm.running_mean)[k], np.abs(w) @ np.sqrt(as_float64(norm.running_var)[k]))
            for w, norm in zip(weights, (first, second), strict=True)
        ]
        means, deviations = zip(*statistics, strict=True)
        return new_alpha, new_eps, r @ zeta, new_mu, new_nu, new_b, means, deviations


def _least(known: Floats, right: Floats) -> Floats:
    """x of known x = right by least squares; 0 where nothing is known. right (n,) gives a number, (n, m) a row."""
    squares = float(known @ known)
    result: Floats = known @ right / squares if squares > 0.0 else 0.0 * (known @ right)
    return result


def _set_norm(norm: nn.Module, scale: Floats, shift: Floats, mean: Floats, deviation: Floats) -> None:
    """Statistics as given, gamma and beta such that in use the BatchNorm is y -> scale y + shift."""
    gamma = scale * np.sqrt(deviation**2 + norm.eps)
    with torch.no_grad():
        for tensor, values in (
            (norm.running_mean, mean),
            (norm.running_var, deviation**2),
            (norm.weight, gamma),
            (norm.bias, shift + scale * mean),
        ):
            tensor.copy_(_like(values, tensor))


def _like(values: Floats, tensor: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(values).to(tensor)
