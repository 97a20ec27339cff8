"""Places of tensors that are taken by an index, or added up at an index, as the nodes of graphs: channels along another
axis stay by themselves."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import fx

from chemnet.condensation import operations as ops
from chemnet.condensation.graph import Layout
from chemnet.condensation.operations import arguments, name_of, shape_of
from chemnet.condensation.traced import Traced

_TAKEN = {torch.index_select, "index_select"}
_ADDED = {
    *(torch.scatter_add, torch.index_add, torch.scatter_reduce, torch.index_reduce),
    *("scatter_add", "scatter_add_", "index_add", "index_add_", "scatter_reduce", "scatter_reduce_"),
    *("index_reduce", "index_reduce_"),
}
_ZEROS = {"new_zeros", "zeros", "zeros_like"}
_SHAPED_AS = {"expand_as", "view_as", "reshape_as"}


def follow(traced: Traced, node: fx.Node) -> bool:
    """Take a function for one of these; whether it is one."""
    if not node.args:
        return False
    if node.target in _SHAPED_AS and not traced.has_channels(node.args[0]):
        traced.forget(node)  # what gives its shape alone stays as it is
        return True
    if node.target in _TAKEN and (layout := traced.layout(node.args[0])):
        return _pass(traced, node, layout, arguments(node, ("dim", None))[0], is_mixed=False)
    if node.target in _ADDED and len(node.args) > 3 and isinstance(base := node.args[0], fx.Node):
        _, dim, _, source, *_ = node.args
        is_zero = getattr(base.target, "__name__", base.target) in _ZEROS
        layout = traced.layout(source)
        return layout is not None and is_zero and _pass(traced, node, layout, dim, is_mixed=True)
    if ops.is_getitem(node) and (shape := shape_of(node.args[1])) is not None and traced.has_channels(node.args[0]):
        layout, is_mask = traced.layouts[node.args[0]], node.args[1].meta["dtype"] is torch.bool
        taken = range(len(shape) if is_mask else 1)
        if set(taken) & set(layout.axes):
            return False
        more = (1 if is_mask else len(shape)) - len(taken)
        traced.pass_on(node, replace(layout, axes=tuple(axis + more for axis in layout.axes)), is_plain=True)
        return True
    return False


def _pass(traced: Traced, node: fx.Node, layout: Layout, dim: object, *, is_mixed: bool) -> bool:
    dimensions = len(shape_of(node) or ())
    if not isinstance(dim, int) or dim % dimensions in layout.axes:
        traced.unknown(node, f"{name_of(node)} takes some of its channels")
    else:
        traced.pass_on(node, layout, is_plain=not is_mixed, is_mixed=is_mixed)
    return True
