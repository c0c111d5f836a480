"""Multiply-adds of an ONNX graph, counted from its nodes and inferred shapes: knows nothing of architectures.

What an export is held to: the closed forms in `ghostnet.cost` must come to the same.
"""

from math import prod
from pathlib import Path

import onnx

FREE = {  # ops without multiply-adds by the paper's convention: norms, activations, pooling, additions, data movement
    *("Relu", "HardSigmoid", "Clip", "Add", "Mul", "GlobalAveragePool", "Concat", "Slice", "Gather", "Flatten"),
    *("Reshape", "Identity", "Constant", "QuantizeLinear", "DequantizeLinear"),
}


def count(path: Path) -> int:
    """Multiply-adds for one image.

    Raises:
        NotImplementedError: an op that is not known here; it is not counted as nothing.
    """
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        shapes[value.name] = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    return sum(_macs(node, shapes) for node in graph.node)


def _macs(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> int:
    if node.op_type in FREE:
        return 0
    out = prod(shapes[node.output[0]])
    match node.op_type:
        case "Conv":
            return out * prod(shapes[node.input[1]][1:])  # weights are [out, in / groups, kernel, kernel]
        case "Gemm" | "MatMul":
            transposed = any(a.name == "transA" and a.i for a in node.attribute)
            return out * shapes[node.input[0]][0 if transposed else -1]
    raise NotImplementedError(f"multiply-adds of {node.op_type} are not known, at {node.output[0]}")
