"""Graph of a model by torch.fx, made on a copy of it, and what running it on an example shows.

Every node of the graph notes in its `meta`

* `shape` and `dtype` of its tensor, None where it is no single tensor;
* `hidden`: earlier nodes whose tensors it has changed in place without giving them back, as through a view;
* `is input`: whether it gives back a tensor that it was given, unchanged.

A statement that works in place and whose result is not used by name, `y.add_(z)`, is made explicit: what comes later
and uses the old name reads the result. What is in place is not told by names but by the versions that torch keeps of
every tensor.
"""

from __future__ import annotations

import copy
import inspect
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from chemnet.condensation.following import Following
from chemnet.condensation.graph import Follower, Layer
from chemnet.condensation.inputs import Inputs, leaves, mapped
from chemnet.runtime.errors import UsageError

# What a forward can read of a module to know its width.
_WIDTHS = ("in_features", "out_features", "in_channels", "out_channels", "num_features", "num_parameters")
_ELSEWHERE = 1009  # added to widths to see which are read


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """A model in use and without gradients; each of its modules gets its own mode back, frozen ones too."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def duplicate(model: nn.Module) -> nn.Module:
    """A deep copy; tensors with a history of gradients, which weights that are computed keep, are copied without it.
    UsageError for a model that cannot be copied."""
    memo: dict[int, Any] = {}
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, torch.Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:  # whatever the model's own code raises
        raise UsageError(f"{type(model).__name__} cannot be copied: {first_line(error)}") from None


@dataclass(frozen=True)
class Capture:
    """The graph of a model in use, and the modules of which the model's own code reads a width."""

    graph: fx.Graph
    read_widths: frozenset[str]


def captured(model: nn.Module, inputs: Inputs) -> Capture:
    """The graph of a model in use on an example. UsageError, saying where, if there is none.

    The model is not changed, nor are the inputs.
    """
    mine = duplicate(model).eval()
    with torch.no_grad():
        try:
            graph = _graph(mine, inputs)
        except Exception as error:  # whatever the model's own code raises on symbolic values
            raise UsageError(
                f"cannot trace {type(model).__name__}: {_where(error)}\n{first_line(error)}\n"
                "Condense the parts that can be traced, or put what cannot into a function marked by torch.fx.wrap"
            ) from None
        read = _read_widths(mine, inputs, _signature(graph, mine))
        try:
            run = _Observer(fx.GraphModule(mine, graph))
            run.run(*_placed(inputs.map(torch.clone), mine))
        except Exception as error:
            name = type(model).__name__
            raise UsageError(
                f"{name} does not take an example input of shape {inputs.shapes}\n{first_line(error)}"
            ) from None
    for node in list(graph.nodes):
        _make_explicit(node)
    return Capture(graph, frozenset(read))


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its kind."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _graph(model: nn.Module, inputs: Inputs) -> fx.Graph:
    """The graph, by symbols alone; of a forward that asks for sizes, with those of the example."""
    left_out = _left_out(model, inputs)
    try:
        return fx.Tracer().trace(model, left_out)
    except Exception as error:  # whatever the model's own code raises on symbolic values
        arguments = inspect.signature(model.forward).bind(*inputs.args, **inputs.kwargs).arguments
        try:
            return Following(mapped(torch.clone, dict(arguments))).trace(model, left_out)
        except Exception:  # what was said first is what has to be mended
            raise error from None


def _left_out(model: nn.Module, inputs: Inputs) -> dict[str, Any]:
    """Values of the arguments that are no symbols in the trace: defaults of those not given, and what is no tensor."""
    arguments = list(inspect.signature(model.forward).parameters.values())
    named = dict(zip((argument.name for argument in arguments), inputs.args, strict=False)) | dict(inputs.kwargs)
    left = {a.name: a.default for a in arguments if a.name not in named and a.default is not a.empty}
    return left | {name: value for name, value in named.items() if not leaves(value)}


def _placed(inputs: Inputs, model: nn.Module) -> list[Any]:
    """The arguments in the order of the graph's placeholders: with the defaults, several at one place last."""
    bound = inspect.signature(model.forward).bind(*inputs.args, **inputs.kwargs)
    bound.apply_defaults()
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    kinds = {name: parameter.kind for name, parameter in bound.signature.parameters.items()}
    ordered = [value for name, value in bound.arguments.items() if kinds[name] not in several]
    return ordered + [x for name, value in bound.arguments.items() if kinds[name] is several[0] for x in value]


def _where(error: BaseException) -> str:
    """The line of the model's own code at which tracing failed."""
    every = traceback.extract_tb(error.__traceback__)
    own = str(Path(torch.__file__).parent), __file__
    frame = next((f for f in reversed(every) if not f.filename.startswith(own)), every[-1])
    return f"line {frame.lineno} of {Path(frame.filename).name}, `{frame.line}`"


# ---- what a run shows


class _Observer(fx.Interpreter):
    """Notes shape and type of every tensor, and which tensors every node changes in place."""

    extra_traceback = False

    def run_node(self, n: fx.Node) -> Any:
        """The value of a node."""
        versions = {node: [x._version for x in leaves(value)] for node, value in self.env.items()}
        result = super().run_node(n)
        is_tensor = isinstance(result, torch.Tensor)
        n.meta["shape"] = tuple(result.shape) if is_tensor else None
        n.meta["dtype"] = result.dtype if is_tensor else None
        changed = [node for node, old in versions.items() if [x._version for x in leaves(self.env[node])] != old]
        n.meta["given back"] = [node for node in changed if self.env[node] is result]
        n.meta["hidden"] = [node for node in changed if self.env[node] is not result]
        given = any(self.env.get(node) is result for node in n.all_input_nodes)
        n.meta["is input"] = is_tensor and given and not changed
        return result


def _make_explicit(node: fx.Node) -> None:
    """What comes after a node that works in place reads its result, by whatever name."""
    later, following = set(), node.next
    while following.op != "root":
        later.add(following)
        following = following.next
    for old in node.meta.pop("given back", []):
        old.replace_all_uses_with(node, delete_user_cb=later.__contains__)
    node.meta["hidden"] = [old for old in node.meta.get("hidden", []) if later.intersection(old.users)]


# ---- widths that the forward reads


def _read_widths(model: nn.Module, inputs: Inputs, expected: object) -> list[str]:
    """Modules whose width the model's own code reads: those without which the graph is another one."""
    names = [name for name, module in model.named_modules() if isinstance(module, Layer | Follower)]

    def search(some: Sequence[str]) -> list[str]:
        if not some or _signature_elsewhere(model, inputs, some) == expected:
            return []
        if len(some) == 1:
            return list(some)
        half = len(some) // 2
        return [*search(some[:half]), *search(some[half:])]

    return search(names)


def _signature_elsewhere(model: nn.Module, inputs: Inputs, names: Iterable[str]) -> object:
    """The signature of the graph with other numbers in the place of the widths of some modules; None if there is no
    graph with them."""
    modules, kept = dict(model.named_modules()), list[tuple[nn.Module, str, Any]]()
    for name in names:
        module = modules[name]
        kept += [(module, key, vars(module)[key]) for key in _WIDTHS if isinstance(vars(module).get(key), int)]
    try:
        for module, key, width in kept:
            setattr(module, key, width + _ELSEWHERE)
        return _signature(_graph(model, inputs), model)
    except Exception:  # whatever the model's own code raises at these widths
        return None
    finally:
        for module, key, width in kept:
            setattr(module, key, width)


def _signature(graph: fx.Graph, model: nn.Module) -> list[tuple[str, ...]]:
    """Operations and arguments of a graph, without addresses; of constants the values."""
    places = {node: f"%{place}" for place, node in enumerate(graph.nodes)}
    result = list[tuple[str, ...]]()
    for node in graph.nodes:
        target = str(getattr(node.target, "__name__", node.target))
        if node.op == "get_attr" and target.startswith("_tensor_constant"):
            target = repr(getattr(model, target).tolist())
        arguments = fx.node.map_arg((node.args, node.kwargs), places.__getitem__)
        result.append((str(node.op), target, repr(arguments)))
    return result
