"""Graph of a model that runs on an example, made on a copy of it by `recording.py`.

Every node of the graph notes in its `meta`

* `shape` and `dtype` of its tensor, None where it is no single tensor;
* `hidden`: earlier nodes whose tensors it has changed in place without giving them back, as through a view;
* `objection`: why the weights with which a layer is called are not followed;
* `call`: the name of the function, and how many of this name have been called in the forward;
* `is input`: whether it gives back a tensor that it was given, unchanged, as a dropout in use does;
* `read`: of the size of a tensor, whether the model's own code has made a number of it that is no node.
"""

from __future__ import annotations

import copy
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from chemnet.condensation.graph import Layer, read_by
from chemnet.condensation.inputs import Inputs
from chemnet.condensation.recording import Recorder
from chemnet.runtime.errors import UsageError


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
    """The graph of a model in use, and the modules of which the model's own code reads a width. `not_run` are, where it
    goes by the values of a tensor, the layers that the example does not run, each with the number of channels it reads.
    """

    graph: fx.Graph
    read_widths: frozenset[str]
    not_run: Mapping[str, int]


def captured(model: nn.Module, inputs: Inputs) -> Capture:
    """The graph of a model in use on an example. UsageError, saying where, for one that does not run on it.

    The model is not changed, nor are the inputs.
    """
    mine = duplicate(model).eval()
    recorder = Recorder(mine)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            recorder.record(inputs.map(torch.clone))
    except Exception as error:  # whatever the model's own code raises
        name = type(model).__name__
        what = "cannot be traced with" if _runs(model, inputs) else "does not take"
        raise UsageError(
            f"{name} {what} an example input of shape {inputs.shapes}\n{first_line(error)}\n{_where(error)}"
        ) from None
    return Capture(recorder.graph, recorder.read_widths, _not_run(model, recorder.graph))


def _not_run(model: nn.Module, graph: fx.Graph) -> dict[str, int]:
    if not any(node.target == "__bool__" for node in graph.nodes):
        return {}
    layers = {name: module for name, module in model.named_modules() if isinstance(module, Layer)}
    run = {node.target for node in graph.nodes if node.op == "call_module"}
    return {name: read_by(layer) for name, layer in layers.items() if name not in run}


def _runs(model: nn.Module, inputs: Inputs) -> bool:
    """Whether a model takes an example when nobody watches."""
    mine = duplicate(model).eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            inputs.map(torch.clone)(mine)
    except Exception:  # whatever the model's own code raises
        return False
    return True


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its kind."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _where(error: BaseException) -> str:
    """The line of the model's own code at which it failed."""
    every = traceback.extract_tb(error.__traceback__)
    own = str(Path(torch.__file__).parent), str(Path(__file__).parent)
    frame = next((f for f in reversed(every) if not f.filename.startswith(own)), every[-1])
    return f"line {frame.lineno} of {Path(frame.filename).name}, `{frame.line}`"
