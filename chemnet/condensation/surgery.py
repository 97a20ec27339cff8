"""Removal of channels from the modules around a space: rows of its layers go, columns of its readers are merged.

With `kept` (k,) the channels that stay, and for each reader a `share` (m, k), which says how strongly each kept channel
stands in for each of the m that were there (appendix A.1 and A.2)::

    layer               followers           reader
    W -> W[kept]        w -> w[kept]        U (out, m, places) -> U'[o, j, p] = sum_k share[k, j] U[o, k, p]

Source: Chen and Xu, eq. 36-38; eq. 36 has v_k where u_k is meant.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import nn

from chemnet.condensation.channels import Channels
from chemnet.condensation.columns import gathered
from chemnet.condensation.graph import (
    Floats,
    Follower,
    Indices,
    Layer,
    Normalisation,
    Place,
    Space,
    Together,
    Transposed,
    is_depthwise,
    is_each_alone,
)
from chemnet.condensation.matrices import Matrix, redescribed
from chemnet.condensation.vectors import Vector, are_narrowed, parts_of
from chemnet.runtime.errors import UsageError


class Surgery:
    """A model from which channels are removed. `survivors` are the channels that each normalisation still has;
    normalisations that are `rewritten` have new statistics already."""

    def __init__(self, model: nn.Module, channels: Channels) -> None:
        self.model, self.channels = model, channels
        self._modules = parts_of(model) | channels.statistics
        self.survivors = {
            name: np.arange(_channels_of(module))
            for name, module in self._modules.items()
            if isinstance(module, Normalisation | Together)
        }
        self.rewritten: set[str] = set()
        self._ties = _ties(model)

    def weights(self, place: Place) -> Floats:
        """Weights of a reader for each channel (m, q), of all outputs and places; of a grouped convolution those of the
        outputs that belong to the channel's group."""
        table = self.channels.columns_of(place)
        rows = _by_column(self._modules[place.module]).detach().to("cpu", torch.float64)
        return gathered(rows, table).reshape(len(table), -1).numpy()

    def touched(self, spaces: Sequence[Space]) -> list[torch.Tensor]:
        """Parameters and buffers that cuts of some spaces change."""
        places = [place.module for space in spaces for place in (*space.followers, *space.consumers)]
        found = list[torch.Tensor]()
        for name in {*places, *(name for space in spaces for name in space.layers)}:
            module = self._modules[name]
            if isinstance(module, Vector):
                found.append(module.tensor)
            elif isinstance(module, Matrix):
                found += [x for x in (module.tensor, module.bias) if x is not None]
            else:
                found += [*module.parameters(), *module.buffers()]
        return found

    def shifts(self, place: Place, *, is_estimated: bool = True, may_add: bool = False) -> bool:
        """Whether a reader takes up a constant that its channels gain or lose: by a bias, which a Linear layer may be
        given where `may_add`, or by a BatchNorm behind it, if its mean `is_estimated` anew. Over a border padded by
        zeros no constant is exact, nor is one in a transposed convolution."""
        module = self._modules[place.module]
        padding = getattr(module, "padding", 0)
        is_padded = padding == "same" or (padding != "valid" and bool(np.any(padding)))
        if isinstance(module, Transposed) or (is_padded and module.padding_mode == "zeros"):
            return False
        has_bias = module.bias is not None or (may_add and _may_have_bias(module))
        return has_bias or (is_estimated and place.module in self.channels.normalised)

    def cut(self, space: Space, kept: Indices, shares: Mapping[Place, Floats], shifts: Mapping[Place, Floats]) -> None:
        """Reduce a space to its channels `kept`; the columns of every reader are merged by its share (m, k), its bias
        takes up the constants `shifts` (m,)."""
        for place in space.consumers:
            self._add_shift(place, shifts.get(place))
            self._merge_columns(place, shares[place], kept)
        for name in dict.fromkeys(place.module for place in space.consumers):
            self._keep_columns(name, self._cut_columns(name, space.consumers, space, kept))
        for name in dict.fromkeys(place.module for place in space.followers):
            self._keep_followed(name, self._cut_columns(name, space.followers, space, kept))
        for name in space.layers:
            self._keep_rows(name, self.channels.rows[name].cut({0}, kept, space.width, space.blocks))
        _tie(self._ties)
        space.width = len(kept)

    def _cut_columns(self, name: str, places: Sequence[Place], space: Space, kept: Indices) -> Indices:
        """The columns of a module that stay."""
        segments = {place.segment for place in places if place.module == name}
        return self.channels.columns[name].cut(segments, kept, space.width, space.blocks)

    def left_by(self, space: Space, kept: Indices) -> dict[str, Indices]:
        """Columns that a cut would leave of each module that normalises channels of a space together."""
        surgery = copy.copy(self)
        surgery.channels = copy.deepcopy(self.channels)
        space = surgery.channels.spaces[self.channels.spaces.index(space)]
        names = dict.fromkeys(place.module for place in space.together)
        return {name: surgery._cut_columns(name, space.together, space, kept) for name in names}

    def _add_shift(self, place: Place, shift: Floats | None) -> None:
        """The bias of a reader takes up constants."""
        module = self._modules[place.module]
        if shift is None or not shift.any():
            return
        if module.bias is None and _may_have_bias(module) and place.module not in self.channels.normalised:
            _add_bias(module)
        if module.bias is not None:
            _set(module, "bias", module.bias + torch.from_numpy(self._summed(place).T @ shift).to(module.bias))

    def _merge_columns(self, place: Place, share: Floats, kept: Indices) -> None:
        """The columns of each kept channel become those of what it stands for; the others stay until they are cut."""
        module, table = self._modules[place.module], self.channels.columns_of(place)
        if getattr(module, "groups", 1) > 1:  # channels of other groups cannot stand in
            group = table[:, 0] // (module.in_channels // module.groups)
            share = np.where(group[:, None] == group[kept], share, 0.0)
        columns = _by_column(module).detach().clone()
        mine = gathered(columns.double(), table)
        merged = torch.tensordot(torch.from_numpy(share.T).to(mine), mine, dims=1)
        there = table[kept] >= 0
        columns[torch.from_numpy(table[kept][there])] = merged[torch.from_numpy(there)].to(columns)
        _set_columns(module, columns)

    def _summed(self, place: Place) -> Floats:
        """Weights of a reader summed over the places of each channel (m, out)."""
        module, table = self._modules[place.module], self.channels.columns_of(place)
        columns = _by_column(module).detach().to("cpu", torch.float64)
        groups, n = getattr(module, "groups", 1), len(columns)
        of_group = columns.flatten(1).reshape(*columns.shape[:2], -1).sum(dim=2)
        whole = of_group.new_zeros(n, groups, of_group.shape[1])
        whole[torch.arange(n), torch.arange(n) // (n // groups)] = of_group
        summed: Floats = gathered(whole.flatten(1), table).sum(dim=1).numpy()
        return summed

    def _keep_columns(self, name: str, left: Indices) -> None:
        module = self._modules[name]
        _set_columns(module, _by_column(module).detach()[torch.from_numpy(left)])
        setattr(module, "in_features" if isinstance(module, nn.Linear) else "in_channels", len(left))

    def _keep_followed(self, name: str, left: Indices) -> None:
        module = self._modules[name]
        if isinstance(module, Vector):
            _keep(module.owner, module.key, left, module.axis)
            return
        if isinstance(module, Normalisation | Together):
            self.survivors[name] = self.survivors[name][left]
        for key in ("weight", "bias", "running_mean", "running_var"):
            if getattr(module, key, None) is not None:
                _keep(module, key, left)
        _set_channels(module, len(left))

    def _keep_rows(self, name: str, left: Indices) -> None:
        module = self._modules[name]
        if isinstance(module, nn.Embedding):
            _keep(module, "weight", left, 1)
            module.embedding_dim = len(left)
            return
        if isinstance(module, Transposed):
            _set(module, "weight", module.weight[:, torch.from_numpy(left)])
        else:
            _keep(module, "weight", left)
        _keep(module, "bias", left)
        setattr(module, "out_features" if isinstance(module, nn.Linear) else "out_channels", len(left))


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
    ties = _ties(model)
    for name, module in model.named_modules():
        for key, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            given = weights.get(f"{name}.{key}" if name else key)
            if given is not None and given.shape != tensor.shape:
                is_matrix = tensor.ndim == 2 and not type(module).__module__.startswith("torch.nn.")
                is_known = isinstance(module, Layer | Follower) or is_matrix or are_narrowed(given, tensor)
                if not is_known or given.ndim != tensor.ndim:
                    kind = type(module).__name__
                    raise _unfit(model, f"{name} ({kind}) cannot take on weights of shape {tuple(given.shape)}")
                _set(module, key, torch.zeros_like(given, dtype=tensor.dtype, device=tensor.device))
                if is_matrix:
                    redescribed(module, key, tensor.shape)
        if isinstance(module, Layer | Follower | nn.Embedding):
            _describe(module)
        if isinstance(module, nn.Linear) and module.bias is None and f"{name}.bias" in weights:
            _add_bias(module)
    _tie(ties)
    given = OrderedDict(weights)
    versions = getattr(weights, "_metadata", None) or model.state_dict()._metadata  # type: ignore[attr-defined]
    given._metadata = versions  # type: ignore[attr-defined]  # by which a class may read weights of its earlier self
    try:
        model.load_state_dict(given)
    except RuntimeError as error:
        raise _unfit(model, " ".join(str(error).splitlines()[1:2]).strip()[:160]) from None
    return model


def _unfit(model: nn.Module, reason: str) -> UsageError:
    return UsageError(f"these weights are not of a {type(model).__name__}\n{reason}")


_Tie: TypeAlias = tuple[nn.Parameter, list[tuple[nn.Module, str]]]


def _ties(model: nn.Module) -> list[_Tie]:
    """Parameters that several modules share, with these modules and their names for them."""
    owners: dict[nn.Parameter, list[tuple[nn.Module, str]]] = {}
    for module in model.modules():
        for key, parameter in module.named_parameters(recurse=False):
            owners.setdefault(parameter, []).append((module, key))
    return [(parameter, every) for parameter, every in owners.items() if len(every) > 1]


def _tie(ties: list[_Tie]) -> None:
    """Share again what was cut in one of the modules, of which the others are not used."""
    for number, (old, every) in enumerate(ties):
        new = next((found for module, key in every if (found := getattr(module, key)) is not old), old)
        if new is not old:
            for module, key in every:
                setattr(module, key, new)
                if isinstance(module, Layer | Follower | nn.Embedding):
                    _describe(module)
            ties[number] = new, every


def _describe(module: nn.Module) -> None:
    """Set the numbers of channels of a module to those of its weights."""
    if isinstance(module, Follower):
        one = module.weight if module.weight is not None else getattr(module, "running_mean", None)
        _set_channels(module, _channels_of(module) if one is None else len(one))
        return
    weight = module.weight
    if isinstance(module, nn.Embedding):
        module.embedding_dim = weight.shape[1]
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = weight.shape
    elif is_depthwise(module):
        _set_channels(module, len(weight))
    elif isinstance(module, Transposed):
        module.in_channels, module.out_channels = weight.shape[0], weight.shape[1] * module.groups
    else:
        module.in_channels, module.out_channels = weight.shape[1] * module.groups, weight.shape[0]


def _channels_of(module: nn.Module) -> int:
    """Channels that a module follows one by one."""
    if isinstance(module, nn.LayerNorm | nn.RMSNorm):
        return int(module.normalized_shape[0])
    names = "num_features", "num_parameters", "num_channels", "out_channels"
    return next(int(getattr(module, name)) for name in names if hasattr(module, name))


def _set_channels(module: nn.Module, count: int) -> None:
    if isinstance(module, nn.PReLU):
        module.num_parameters = count
    elif isinstance(module, nn.LayerNorm | nn.RMSNorm):
        module.normalized_shape = (count, *module.normalized_shape[1:])
    elif isinstance(module, nn.GroupNorm):
        module.num_groups = count if is_each_alone(module) else module.num_groups
        module.num_channels = count
    elif isinstance(module, Follower):
        module.num_features = count
    else:
        module.in_channels = module.out_channels = module.groups = count


def _by_column(module: nn.Module) -> torch.Tensor:
    """Weights of a layer by the channels that it reads (in, out, ...), of all outputs, or of those in the group."""
    if isinstance(module, Transposed):
        return module.weight
    by_group = module.weight.unflatten(0, (getattr(module, "groups", 1), -1)).transpose(1, 2)
    return by_group.flatten(0, 1)


def _set_columns(module: nn.Module, columns: torch.Tensor) -> None:
    """Set the weights of a layer to those by channel."""
    if not isinstance(module, Transposed):
        columns = columns.unflatten(0, (getattr(module, "groups", 1), -1)).transpose(1, 2).flatten(0, 1)
    _set(module, "weight", columns)


def _may_have_bias(module: nn.Module) -> bool:
    """Whether a layer without a bias can be given one."""
    return isinstance(module, nn.Linear) and not isinstance(module, Matrix)


def _add_bias(layer: nn.Linear) -> None:
    layer.bias = nn.Parameter(layer.weight.new_zeros(layer.out_features), requires_grad=layer.weight.requires_grad)


def _keep(module: nn.Module, name: str, kept: Indices, axis: int = 0) -> None:
    tensor = getattr(module, name)
    if tensor is not None:
        _set(module, name, tensor.index_select(axis, torch.from_numpy(kept).to(tensor.device)))


def _set(module: nn.Module, name: str, value: torch.Tensor) -> None:
    """Replace a parameter or buffer, keeping its memory format."""
    old = getattr(module, name)
    is_last = value.ndim == 4 and not old.is_contiguous() and old.is_contiguous(memory_format=torch.channels_last)
    value = value.detach().clone(memory_format=torch.channels_last if is_last else torch.contiguous_format)
    if isinstance(old, nn.Parameter):
        setattr(module, name, nn.Parameter(value, requires_grad=old.requires_grad))
    else:
        setattr(module, name, value)
