"""A network, or the whole way from states to mass fractions, as an ONNX graph (opset 20)."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from chemnet.surrogate.transform import LAMBDA, Transform

_OPERATORS = {nn.ReLU: "Relu", nn.GELU: "Gelu", nn.Tanh: "Tanh", nn.Identity: "Identity"}
_OPSET, _IR_VERSION = 20, 10


class _Graph:
    """Nodes and constants that are being put together."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: NDArray[np.generic]) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: object) -> str:
        output = output or f"value_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def model(self, source: tuple[str, int, int], target: tuple[str, int, int]) -> onnx.ModelProto:
        """The graph with one input and one output, each (name, element type, columns)."""
        ends = [helper.make_tensor_value_info(name, kind, ["n", columns]) for name, kind, columns in (source, target)]
        graph = helper.make_graph(self.nodes, "chemnet", [ends[0]], [ends[1]], self.constants)
        opset = helper.make_opsetid("", _OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION, producer_name="chemnet")
        onnx.checker.check_model(model)
        return model


def network_model(network: nn.Sequential) -> onnx.ModelProto:
    """`inputs` (n, m) to `outputs` (n, m_out), float32."""
    graph = _Graph()
    _add_network(graph, network, "inputs", "outputs")
    ends = network[0].in_features, network[-1].out_features
    return graph.model(("inputs", TensorProto.FLOAT, ends[0]), ("outputs", TensorProto.FLOAT, ends[1]))


def step_model(network: nn.Sequential, transform: Transform) -> onnx.ModelProto:
    """`states` (n, 2 + K), float64, to `mass_fractions` (n, K) after the step, float64, before the closure."""
    graph = _Graph()
    columns = len(transform.input_mean)
    one, zero, inverse = (graph.constant(np.array(v)) for v in (1.0, 0.0, 1.0 / LAMBDA))
    sizes = graph.constant(np.array([2, columns - 2]))
    T_and_P, Y = "T_and_P", "Y"
    graph.nodes.append(helper.make_node("Split", ["states", sizes], [T_and_P, Y], axis=1))
    root = graph.add("Max", Y, zero)
    for _ in range(3):
        root = graph.add("Sqrt", root)
    values = graph.add("Concat", T_and_P, graph.add("Mul", graph.add("Sub", root, one), inverse), axis=1)
    centred = graph.add("Sub", values, graph.constant(transform.input_mean))
    scaled = graph.add("Mul", centred, graph.constant(transform.input_gain))
    outputs = _add_network(graph, network, graph.add("Cast", scaled, to=TensorProto.FLOAT), "")
    change = graph.add("Mul", graph.add("Cast", outputs, to=TensorProto.DOUBLE), graph.constant(transform.output_scale))
    answer = change
    for _ in range(1, transform.power):
        change = graph.add("Mul", change, graph.add("Abs", answer))
    graph.nodes.append(helper.make_node("Split", [change, sizes], ["unused", "change_of_Y"], axis=1))
    root = graph.add("Add", root, graph.add("Mul", "change_of_Y", graph.constant(np.array(LAMBDA))))
    power = graph.add("Max", root, zero)
    for i in range(3):
        power = graph.add("Mul", power, power, output="mass_fractions" if i == 2 else "")
    ends = ("states", TensorProto.DOUBLE, columns), ("mass_fractions", TensorProto.DOUBLE, columns - 2)
    return graph.model(*ends)


def _add_network(graph: _Graph, network: nn.Sequential, source: str, target: str) -> str:
    value = source
    for i, module in enumerate(network):
        output = target if i == len(network) - 1 else ""
        if isinstance(module, nn.Linear):
            weight, bias = (graph.constant(p.detach().cpu().numpy()) for p in (module.weight.T, module.bias))
            value = graph.add("Gemm", value, weight, bias, output=output)
        elif isinstance(module, nn.SiLU):
            value = graph.add("Mul", value, graph.add("Sigmoid", value))
        else:
            value = graph.add(_OPERATORS[type(module)], value)
    return value
