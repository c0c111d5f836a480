"""Builds an ONNX graph node by node."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 8
INPUT, OUTPUT = "input", "output"


class Builder:
    """Nodes and weights so far; every tensor is known by its name.

    Args:
        shape: channels, height and width of the input.
        batch: None leaves it free.
    """

    def __init__(self, shape: tuple[int, int, int], batch: int | None) -> None:
        self.input = [batch or "batch", *shape]
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[TensorProto] = []

    def add(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Adds a node and returns the name of its output."""
        name = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        return name

    def const(self, value: np.ndarray) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def conv(self, x: str, weight: np.ndarray, bias: np.ndarray, stride: int, padding: int, groups: int) -> str:
        return self.add(
            "Conv",
            [x, self.const(weight), self.const(bias)],
            kernel_shape=list(weight.shape[2:]),
            strides=[stride] * 2,
            pads=[padding] * 4,
            group=groups,
        )

    def leading(self, x: str, count: int) -> str:
        """The first channels."""
        return self.add("Slice", [x, *(self.const(np.array([bound], dtype=np.int64)) for bound in (0, count, 1))])

    def permuted(self, x: str, chs: np.ndarray) -> str:
        """These channels, in this order."""
        return self.add("Gather", [x, self.const(chs.astype(np.int64))], axis=1)

    def model(self, output: str) -> onnx.ModelProto:
        """The finished model, `input` [batch, *shape] -> `output`, float32."""
        graph = helper.make_graph(
            [*self.nodes, helper.make_node("Identity", [output], [OUTPUT])],
            "ghostnet",
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, self.input)],
            [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, None)],
            self.weights,
        )
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="ghostnas")
        return onnx.shape_inference.infer_shapes(model)
