"""Removal of channels from the modules around a space: rows of its layers go, columns of its readers are merged.

With `kept` (k,) the channels that stay, and for each reader a `share` (m, k), which says how strongly each kept channel
stands in for each of the m that were there (appendix A.1 and A.2)::

    layer               followers           reader
    W -> W[kept]        w -> w[kept]        U (out, m, places) -> U'[o, j, p] = sum_k share[k, j] U[o, k, p]

Source: Chen and Xu, eq. 36-38; eq. 36 has v_k where u_k is meant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from chemnet.condensation.channels import Channels
from chemnet.condensation.graph import Floats, Follower, Layer, Normalisation, Place, Space, Transposed, is_depthwise
from chemnet.runtime.errors import UsageError

Indices = NDArray[np.int64]


class Surgery:
    """A model from which channels are removed. `survivors` are the channels that each normalisation still has;
    normalisations that are `rewritten` have new statistics already."""

    def __init__(self, model: nn.Module, channels: Channels) -> None:
        self.model, self.channels = model, channels
        self._modules = dict(model.named_modules())
        self.survivors = {
            name: np.arange(module.num_features)
            for name, module in self._modules.items()
            if isinstance(module, Normalisation)
        }
        self.rewritten: set[str] = set()

    def weights(self, place: Place) -> Floats:
        """Weights of a reader for each channel (m, q), of all outputs and places; of a grouped convolution those of the
        outputs that belong to the channel's group."""
        module, columns = self._modules[place.module], self._columns(place)
        weight = module.weight if isinstance(module, Transposed) else module.weight.transpose(0, 1)
        m = self.channels.inputs[place.module][place.segment]
        rows = weight.detach().to("cpu", torch.float64)
        if getattr(module, "groups", 1) > 1:
            of_groups = rows.reshape(len(rows), module.groups, -1).transpose(0, 1)
            return of_groups.reshape(module.groups * len(rows), -1).numpy()
        return rows[columns].reshape(self.channels.width_of(m), -1).numpy()

    def shifts(self, place: Place, *, is_estimated: bool = True, may_add: bool = False) -> bool:
        """Whether a reader takes up a constant that its channels gain or lose: by a bias, which a Linear layer may be
        given where `may_add`, or by a BatchNorm behind it, if its mean `is_estimated` anew. Over a border padded by
        zeros no constant is exact, nor is one in a transposed convolution."""
        module = self._modules[place.module]
        padding = getattr(module, "padding", 0)
        is_padded = padding == "same" or (padding != "valid" and bool(np.any(padding)))
        if isinstance(module, Transposed) or (is_padded and module.padding_mode == "zeros"):
            return False
        has_bias = module.bias is not None or (may_add and isinstance(module, nn.Linear))
        return has_bias or (is_estimated and place.module in self.channels.normalised)

    def cut(self, space: Space, kept: Indices, shares: Mapping[Place, Floats], shifts: Mapping[Place, Floats]) -> None:
        """Reduce a space to its channels `kept`; the columns of every reader are merged by its share (m, k), its bias
        takes up the constants `shifts` (m,)."""
        # backwards: the columns of a segment begin behind those before it, which may be of the same space
        for place in reversed(space.consumers):
            self._merge_columns(place, shares[place], shifts.get(place))
        for place in reversed(space.followers):
            self._keep_followed(place, kept)
        for name in space.layers:
            self._keep_rows(name, kept)
        space.width = len(kept)

    def _columns(self, place: Place) -> slice:
        start, segment = self.channels.offset(place), self.channels.inputs[place.module][place.segment]
        return slice(start, start + self.channels.width_of(segment) * segment.repeats)

    def _merge_columns(self, place: Place, share: Floats, shift: Floats | None) -> None:
        module, columns = self._modules[place.module], self._columns(place)
        if shift is not None and shift.any():
            if module.bias is None and isinstance(module, nn.Linear) and place.module not in self.channels.normalised:
                _add_bias(module)
            if module.bias is not None:
                _set(module, "bias", module.bias + torch.from_numpy(self._summed(place).T @ shift).to(module.bias))
        if getattr(module, "groups", 1) > 1:
            _set(module, "weight", _merged_groups(module.weight, share, module.groups))
            module.in_channels = share.shape[1]
            return
        axis = 0 if isinstance(module, Transposed) else 1
        weight = module.weight.transpose(0, axis)
        mine = weight[columns].detach().double().reshape(len(share), -1)
        merged = (torch.from_numpy(share.T).to(mine) @ mine).reshape(-1, *weight.shape[1:])
        whole = torch.cat([weight[: columns.start], merged.to(weight), weight[columns.stop :]])
        _set(module, "weight", whole.transpose(0, axis))
        setattr(module, "in_features" if isinstance(module, nn.Linear) else "in_channels", len(whole))

    def _summed(self, place: Place) -> Floats:
        """Weights of a reader summed over the places of each channel (m, out)."""
        module, segment = self._modules[place.module], self.channels.inputs[place.module][place.segment]
        outputs = module.out_features if isinstance(module, nn.Linear) else module.out_channels
        weights, m = self.weights(place), self.channels.width_of(segment)
        groups = getattr(module, "groups", 1)
        if isinstance(module, nn.Linear):
            summed: Floats = weights.reshape(m, segment.repeats, outputs).sum(axis=1)
            return summed
        places = weights.reshape(m, outputs // groups, -1).sum(axis=2)
        result = np.zeros((groups, m // groups, groups, outputs // groups))
        for group in range(groups):
            result[group, :, group] = places.reshape(groups, m // groups, -1)[group]
        return result.reshape(m, outputs)

    def _keep_followed(self, place: Place, kept: Indices) -> None:
        module, columns = self._modules[place.module], self._columns(place)
        repeats = self.channels.repeats(place)
        every = np.arange(_channels_of(module))
        mine = every[columns].reshape(-1, repeats)[kept].ravel()
        left = np.concatenate([every[: columns.start], mine, every[columns.stop :]])
        if isinstance(module, Normalisation):
            self.survivors[place.module] = self.survivors[place.module][left]
        for name in ("weight", "bias", "running_mean", "running_var"):
            if getattr(module, name, None) is not None:
                _keep(module, name, left)
        _set_channels(module, len(left))

    def _keep_rows(self, name: str, kept: Indices) -> None:
        module = self._modules[name]
        if isinstance(module, Transposed):
            _set(module, "weight", module.weight[:, torch.from_numpy(kept)])
        else:
            _keep(module, "weight", kept)
        _keep(module, "bias", kept)
        setattr(module, "out_features" if isinstance(module, nn.Linear) else "out_channels", len(kept))


@dataclass(frozen=True)
class Cut:
    """What is done to space `number`: the channels that stay, and for each of its readers, in their order, the share
    (m, k) and the constants (m,); None where a rule of its own makes other weights."""

    number: int
    kept: Indices
    apply: Callable[[Surgery, Space], None]
    by_place: Sequence[tuple[Floats, Floats | None]] | None = None


def resize(model: nn.Module, weights: Mapping[str, torch.Tensor]) -> nn.Module:
    """Model with the numbers of channels of a state dict, which is loaded, in place: a condensed model is built again
    from its class and its weights. Raises UsageError where the two do not belong together."""
    for name, module in model.named_modules():
        for key, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            given = weights.get(f"{name}.{key}" if name else key)
            if given is not None and given.shape != tensor.shape:
                if not isinstance(module, Layer | Follower) or given.ndim != tensor.ndim:
                    kind = type(module).__name__
                    raise _unfit(model, f"{name} ({kind}) cannot take on weights of shape {tuple(given.shape)}")
                _set(module, key, torch.zeros_like(given, dtype=tensor.dtype, device=tensor.device))
        if isinstance(module, Layer | Follower):
            _describe(module)
        if isinstance(module, nn.Linear) and module.bias is None and f"{name}.bias" in weights:
            _add_bias(module)
    try:
        model.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise _unfit(model, " ".join(str(error).splitlines()[1:2]).strip()[:160]) from None
    return model


def _unfit(model: nn.Module, reason: str) -> UsageError:
    return UsageError(f"these weights are not of a {type(model).__name__}\n{reason}")


def _describe(module: nn.Module) -> None:
    """Set the numbers of channels of a module to those of its weights."""
    if isinstance(module, Follower):
        one = module.weight if module.weight is not None else module.running_mean
        _set_channels(module, _channels_of(module) if one is None else len(one))
        return
    weight = module.weight
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = weight.shape
    elif is_depthwise(module):
        _set_channels(module, len(weight))
    elif isinstance(module, Transposed):
        module.in_channels, module.out_channels = weight.shape[0], weight.shape[1] * module.groups
    else:
        module.in_channels, module.out_channels = weight.shape[1] * module.groups, weight.shape[0]


def _channels_of(module: nn.Module) -> int:
    """Channels that a module follows one by one."""
    names = "num_features", "num_parameters", "out_channels"
    return next(int(getattr(module, name)) for name in names if hasattr(module, name))


def _set_channels(module: nn.Module, count: int) -> None:
    if isinstance(module, nn.PReLU):
        module.num_parameters = count
    elif isinstance(module, Follower):
        module.num_features = count
    else:
        module.in_channels = module.out_channels = module.groups = count


def _merged_groups(weight: torch.Tensor, share: Floats, groups: int) -> torch.Tensor:
    """Weights (out, in / groups, ...) of a grouped convolution, each group with its own block of the share."""
    m, k = (size // groups for size in share.shape)
    blocks = [share[g * m : (g + 1) * m, g * k : (g + 1) * k] for g in range(groups)]
    parts = weight.detach().double().reshape(groups, -1, *weight.shape[1:])
    merged = [
        torch.tensordot(part, torch.from_numpy(block).to(part), dims=([1], [0])).movedim(-1, 1)
        for part, block in zip(parts, blocks, strict=True)
    ]
    return torch.cat(merged).to(weight)


def _add_bias(layer: nn.Linear) -> None:
    layer.bias = nn.Parameter(layer.weight.new_zeros(layer.out_features), requires_grad=layer.weight.requires_grad)


def _keep(module: nn.Module, name: str, kept: Indices) -> None:
    tensor = getattr(module, name)
    if tensor is not None:
        _set(module, name, tensor[torch.from_numpy(kept).to(tensor.device)])


def _set(module: nn.Module, name: str, value: torch.Tensor) -> None:
    """Replace a parameter or buffer, keeping its memory format."""
    old = getattr(module, name)
    is_last = value.ndim == 4 and old.is_contiguous(memory_format=torch.channels_last)
    value = value.detach().clone(memory_format=torch.channels_last if is_last else torch.contiguous_format)
    if isinstance(old, nn.Parameter):
        setattr(module, name, nn.Parameter(value, requires_grad=old.requires_grad))
    else:
        setattr(module, name, value)
