"""Tracing of the channels of every tensor through the graph of a model.

An operation that is not known to keep channels apart ends them: what goes in is left alone, with the reason. Sizes are
followed by `sizes.py`; what is known of modules and functions is in `layers.py`, `functions.py`, `shapes.py` and
`sums.py`, and `traced.py` keeps what has been found.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn

from chemnet.condensation import functions, indexing, layers, products, sums, vector_following
from chemnet.condensation import operations as ops
from chemnet.condensation.capture import captured
from chemnet.condensation.graph import Layer, Layout, Space
from chemnet.condensation.inputs import Inputs
from chemnet.condensation.matrices import Matrix
from chemnet.condensation.operations import name_of, shape_of
from chemnet.condensation.sizes import Sizes
from chemnet.condensation.traced import Traced
from chemnet.condensation.vectors import parts_of

_SUMS_OVER = {
    **dict.fromkeys(ops.MATRIX_PRODUCTS, products.multiply),
    **dict.fromkeys(ops.EINSTEIN_SUMS, products.sum_products),
    **dict.fromkeys(ops.ATTENTION, products.attend),
}


class Tracer:
    """Follows the channels of every tensor through the graph of a model; `traced` is what it finds."""

    def __init__(self, model: nn.Module, example_input: Any) -> None:
        capture = captured(model, Inputs.of(example_input, model))
        self.traced = Traced(parts_of(model), _shared(capture.graph, model), capture.not_run)
        self._sizes = Sizes(self.traced)
        for node in capture.graph.nodes:
            self._visit(node)
        spaces = self.traced.spaces
        for name in sorted(capture.read_widths & self.traced.inputs.keys()):
            made = [space for space in spaces.every if name in space.layers]
            for space in (*made, *spaces.of(self.traced.inputs[name])):
                space.leave_alone(f"the forward reads the width of {name}")
        self._sizes.settle()
        vector_following.settle(self.traced, capture.graph)

    def _visit(self, node: fx.Node) -> None:
        traced, shape = self.traced, shape_of(node)
        tensors = [layout for n in node.all_input_nodes for layout in self._held(n)]
        if node.meta.get("hidden"):
            changed = [traced.layouts[n] for n in node.meta["hidden"] if n in traced.layouts]
            traced.spaces.leave([*tensors, *changed], f"{name_of(node)} changes it in place under another name")
        if node.op == "output":
            traced.spaces.leave(tensors, "it is an output of the model")
        elif node.op in ("placeholder", "get_attr"):
            traced.forget(node)
        elif ops.is_getitem(node) and node.args[0] in traced.parts:
            self._take(node, traced.parts[node.args[0]], node.args[1])
        elif shape is None and not (ops.rearrangement(node) and tensors and node.args):
            if not self._sizes.visit(node):
                self._question(node, tensors)
        elif node.op == "call_module":
            self._module(node, str(node.target), traced.modules[str(node.target)])
        else:
            self._function(node, node.target)

    def _held(self, node: fx.Node) -> list[Layout]:
        known = self.traced.layouts.get(node)
        return self.traced.parts.get(node, []) if known is None else [known]

    def _take(self, node: fx.Node, parts: list[Layout], index: Any) -> None:
        """One of several tensors, or some of them."""
        if isinstance(index, slice):
            self.traced.parts[node] = parts[index]
        else:
            self.traced.layouts[node] = parts[index]

    def _question(self, node: fx.Node, tensors: Sequence[Layout]) -> None:
        """What is no tensor: nothing may be read but sizes."""
        traced = self.traced
        asked = node.args[1] if node.target is getattr else node.target
        if node.op == "call_module" and isinstance(module := traced.modules[str(node.target)], nn.RNNBase):
            reason = f"{node.target} ({type(module).__name__}) feeds its channels back into its own gates"
            traced.spaces.new(Space(module.hidden_size, [str(node.target)], reason=reason))
            traced.spaces.leave(tensors, f"{node.target} ({type(module).__name__}) reads it")
        elif asked not in ops.HARMLESS:
            traced.spaces.leave(tensors, f"{name_of(node)} reads its channels")

    def _module(self, node: fx.Node, name: str, module: nn.Module) -> None:
        source = node.args[0] if node.args else None
        layout = self.traced.layout(source)
        reason = node.meta.get("objection") or layers.objection(
            self.traced, name, module, layout, len(shape_of(source) or ())
        )
        if isinstance(module, nn.Embedding) and not reason:
            layers.look_up(self.traced, node, name, module)
        elif layout is None or not isinstance(source, fx.Node) or reason:
            self.traced.unknown(node, reason or f"the input of {name} has no channels that are known")
        elif layers.follows(module):
            layers.follow(self.traced, node, name, module, layout)
        elif isinstance(module, Layer):
            layers.read(self.traced, node, name, module, layout)
        else:
            functions.call_module(self.traced, self._sizes, node, name, module, source)

    def _function(self, node: fx.Node, target: Any) -> None:
        traced = self.traced
        tensors = [n for n in node.all_input_nodes if shape_of(n) is not None]
        if target in ops.CONCATENATIONS:
            if not vector_following.concatenate(traced, node):
                sums.concatenate(traced, node)
        elif target in ops.STACKS:
            sums.stack(traced, node)
        elif target in _SUMS_OVER:
            _SUMS_OVER[target](traced, node)
        elif target in ops.ADDITIONS | ops.PRODUCTS and len(node.args) == 2 and set(node.args) == set(tensors):
            if not vector_following.follow(traced, node):
                sums.combine(traced, node, node.args[0], node.args[1])
        elif indexing.follow(traced, node) or vector_following.follow_product_and_sum(traced, node):
            return
        elif node.meta["is input"] and len(tensors) == 1 and tensors[0] in traced.layouts:
            traced.pass_on(node, traced.layouts[tensors[0]], is_plain=True)
        elif target in ops.CASTS and node.args[0] in traced.layouts:
            self._cast(node, traced.layouts[node.args[0]])
        elif len(tensors) == 1 and tensors[0] in traced.layouts:
            functions.call(traced, self._sizes, node, tensors[0])
        else:
            traced.unknown(node, f"{name_of(node)} is not known to keep channels apart")

    def _cast(self, node: fx.Node, layout: Layout) -> None:
        """A conversion of the type; one that rounds is no matter of a factor."""
        source = node.args[0]
        if ops.is_narrower(node.meta["dtype"], source.meta["dtype"]):
            self.traced.activate(node, layout, name_of(node), False)
        else:
            self.traced.pass_on(node, layout, is_plain=True)


def _shared(graph: fx.Graph, model: nn.Module) -> set[str]:
    """Modules that are called more than once, or whose tensors are also those of another module or are read alone."""
    calls = [str(node.target) for node in graph.nodes if node.op == "call_module"]
    tensors = {str(node.target) for node in graph.nodes if node.op == "get_attr"}
    fetched = {name.rpartition(".")[0] for name in tensors}
    owners: dict[int, set[str]] = {}
    modules = parts_of(model)
    for name, module in model.named_modules():
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            owners.setdefault(_storage(tensor), set()).add(name)
    weighted = {name for name in calls if modules[name].state_dict()}
    matrices = {name: name.rpartition(".linear")[0] or name.rpartition(".matrix")[0] for name in calls}
    matrices = {name: key for name, key in matrices.items() if isinstance(modules[name], Matrix)}
    owner_of = {name: key.rpartition(".")[0] for name, key in matrices.items()}
    used = {*calls, *fetched, *owner_of.values()}  # what is tied to modules that are not used goes with the one that is
    tied = {name for names in owners.values() if len(names & used) > 1 for name in names}
    keys = [matrices[name] for name in calls if name in matrices]
    shared = {name for name in weighted if calls.count(name) > 1 or name in fetched}
    shared |= {name for name, key in matrices.items() if keys.count(key) > 1 or key in tensors}
    return shared | tied | {name for name, owner in owner_of.items() if owner in tied}


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr() if tensor.numel() else id(tensor)
