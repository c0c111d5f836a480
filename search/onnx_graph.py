"""PyTorch to ONNX for GhostNets, in milliseconds: the real module is traced by torch.fx and each node emitted.

Why not torch.onnx: it takes seconds a network, and a latency table needs thousands of graphs. What is timed here is
what is shipped: batch norm folded, no dead slice, the cheap op as plain depthwise convolutions. A channel
concatenation is kept as a list of pieces until something needs the whole, so that each ghost gets its own fused
convolution and ReLU, and a Ghost module ends in a single Concat.

An operation that isn't known here is an error, never left out.
"""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import fx, nn

from ghostnet.modules import CheapConv

OPSET = 17
IR_VERSION = 8
INPUT, OUTPUT = "input", "output"
LEAVES = (
    nn.Conv2d,
    CheapConv,
    nn.BatchNorm2d,
    nn.Linear,
    nn.ReLU,
    nn.Hardsigmoid,
    nn.AdaptiveAvgPool2d,
    nn.Flatten,
    nn.Identity,
)
Pieces = tuple[str, ...]  # names of tensors that stand for their concatenation over channels


def to_onnx(module: nn.Module, shape: tuple[int, int, int], batch: int | None = None) -> onnx.ModelProto:
    """The module in evaluation mode as an ONNX model: `input` [batch, *shape] -> `output`, float32.

    Args:
        shape: channels, height and width of the input.
        batch: a fixed batch size; None leaves the first dimension free.

    Raises:
        NotImplementedError: the module has an operation that is not known here.
    """
    module.eval()
    graph = _Tracer().trace(module)
    return _Emitter(module, graph).model(shape, batch)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, LEAVES)


class _Emitter:
    def __init__(self, module: nn.Module, graph: fx.Graph) -> None:
        self.graph = graph
        self.modules = dict(module.named_modules())
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[TensorProto] = []
        self.values: dict[fx.Node, Pieces] = {}

    def model(self, shape: tuple[int, int, int], batch: int | None) -> onnx.ModelProto:
        for node in self.graph.nodes:
            self.values[node] = self._emit(node)
        size: int | str = "batch" if batch is None else batch
        graph = helper.make_graph(
            self.nodes,
            "ghostnet",
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [size, *shape])],
            [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, None)],
            self.weights,
        )
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="ghostnas")
        return onnx.shape_inference.infer_shapes(model)

    def _emit(self, node: fx.Node) -> Pieces:
        if node.op == "placeholder":
            return (INPUT,)
        if node.op == "output":
            whole = self._whole(node.args[0])
            self.nodes.append(helper.make_node("Identity", [whole], [OUTPUT]))
            return (OUTPUT,)
        if node.op == "call_module":
            module = self.modules[str(node.target)]
            for kind, emit in _MODULES.items():
                if isinstance(module, kind):
                    return emit(self, node, module)
        elif node.op in ("call_function", "call_method") and node.target in _FUNCTIONS:
            return _FUNCTIONS[node.target](self, node)
        what = type(self.modules[str(node.target)]).__name__ if node.op == "call_module" else node.target
        raise NotImplementedError(f"no ONNX form is known for {what} at {node.name}")

    def _add(self, op: str, inputs: list[str], **attributes: Any) -> str:
        name = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        return name

    def _const(self, value: np.ndarray) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def _pieces(self, node: Any) -> Pieces:
        return self.values[node]

    def _whole(self, node: Any) -> str:
        pieces = self.values[node]
        if len(pieces) > 1:
            self.values[node] = pieces = (self._add("Concat", list(pieces), axis=1),)
        return pieces[0]

    def _each(self, node: Any, op: str, **attributes: Any) -> Pieces:
        return tuple(self._add(op, [piece], **attributes) for piece in self._pieces(node))

    def _folded(self, node: fx.Node, conv: nn.Conv2d | CheapConv) -> tuple[np.ndarray, np.ndarray]:
        """Weight and bias of a convolution with the batch norm that alone follows it."""
        weight, bias = _array(conv.weight), np.zeros(len(conv.weight))
        if conv.bias is not None:
            bias = _array(conv.bias)
        norm = self._norm_after(node)
        if norm is not None:
            assert norm.running_var is not None and norm.running_mean is not None
            scale = _array(norm.weight) / np.sqrt(_array(norm.running_var) + norm.eps)
            weight = weight * scale[:, None, None, None]
            bias = (bias - _array(norm.running_mean)) * scale + _array(norm.bias)
        return weight.astype(np.float32), bias.astype(np.float32)

    def _norm_after(self, node: fx.Node) -> nn.BatchNorm2d | None:
        users = list(node.users)
        if len(users) == 1 and users[0].op == "call_module":
            module = self.modules[str(users[0].target)]
            return module if isinstance(module, nn.BatchNorm2d) else None
        return None

    def _conv(self, x: str, weight: np.ndarray, bias: np.ndarray, stride: int, padding: int, groups: int) -> str:
        return self._add(
            "Conv",
            [x, self._const(weight), self._const(bias)],
            kernel_shape=list(weight.shape[2:]),
            strides=[stride] * 2,
            pads=[padding] * 4,
            group=groups,
        )

    def conv(self, node: fx.Node, module: nn.Conv2d) -> Pieces:
        weight, bias = self._folded(node, module)
        stride, padding = int(module.stride[0]), int(module.padding[0])
        return (self._conv(self._whole(node.args[0]), weight, bias, stride, padding, module.groups),)

    def cheap(self, node: fx.Node, module: CheapConv) -> Pieces:
        """One depthwise convolution a replica; the last reads the leading primaries where fewer ghosts are left."""
        weight, bias = self._folded(node, module)
        x = self._whole(node.args[0])
        pieces = []
        for start, stop in module.replicas:
            part, count = slice(start, stop), stop - start
            source = x if count == module.in_chs else self._leading(x, count)
            pieces.append(self._conv(source, weight[part], bias[part], 1, module.kernel // 2, count))
        return tuple(pieces)

    def _leading(self, x: str, count: int) -> str:
        bounds = [self._const(np.array([bound], dtype=np.int64)) for bound in (0, count, 1)]
        return self._add("Slice", [x, *bounds])

    def norm(self, node: fx.Node, module: nn.BatchNorm2d) -> Pieces:
        before = node.args[0]
        if isinstance(before, fx.Node) and before.op == "call_module" and len(before.users) == 1:
            conv = self.modules[str(before.target)]
            if isinstance(conv, nn.Conv2d | CheapConv):
                return self._pieces(before)  # folded
        raise NotImplementedError(f"a batch norm that doesn't follow a convolution, at {node.name}")

    def linear(self, node: fx.Node, module: nn.Linear) -> Pieces:
        inputs = [self._whole(node.args[0]), self._const(_array(module.weight, np.float32))]
        if module.bias is not None:
            inputs.append(self._const(_array(module.bias, np.float32)))
        return (self._add("Gemm", inputs, transB=1),)

    def cat(self, node: fx.Node) -> Pieces:
        parts, dim = node.args[0], node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
        if dim != 1:
            raise NotImplementedError(f"a concatenation over dimension {dim}, at {node.name}")
        return tuple(piece for part in parts for piece in self._pieces(part))  # type: ignore[union-attr]

    def binary(self, node: fx.Node, op: str) -> Pieces:
        return (self._add(op, [self._whole(node.args[0]), self._whole(node.args[1])]),)


def _array(tensor: torch.Tensor, dtype: type = np.float64) -> np.ndarray:
    return tensor.detach().cpu().numpy().astype(dtype)


_MODULES: dict[type[nn.Module], Callable[[_Emitter, fx.Node, Any], Pieces]] = {
    nn.Conv2d: _Emitter.conv,
    CheapConv: _Emitter.cheap,
    nn.BatchNorm2d: _Emitter.norm,
    nn.Linear: _Emitter.linear,
    nn.ReLU: lambda e, node, _: e._each(node.args[0], "Relu"),
    nn.Hardsigmoid: lambda e, node, _: e._each(node.args[0], "HardSigmoid", alpha=1 / 6, beta=0.5),
    nn.AdaptiveAvgPool2d: lambda e, node, _: (e._add("GlobalAveragePool", [e._whole(node.args[0])]),),
    nn.Flatten: lambda e, node, _: (e._add("Flatten", [e._whole(node.args[0])], axis=1),),
    nn.Identity: lambda e, node, _: e._pieces(node.args[0]),
}
_FUNCTIONS: dict[Any, Callable[[_Emitter, fx.Node], Pieces]] = {
    torch.cat: _Emitter.cat,
    operator.add: lambda e, node: e.binary(node, "Add"),
    operator.mul: lambda e, node: e.binary(node, "Mul"),
    "flatten": lambda e, node: (e._add("Flatten", [e._whole(node.args[0])], axis=1),),
}
