"""PyTorch to ONNX, LiteRT and ncnn for GhostNets, in milliseconds: the real module is traced by torch.fx and each node
emitted.

Why not torch.onnx: it takes seconds a network, and a latency table needs thousands of graphs. What is timed here is
what is shipped: batch norm folded, no dead slice, the cheap op in the form that is fastest (search/graphs/lowering.py).
A channel concatenation is kept as a list of pieces until something needs the whole, so that each ghost gets its own
fused convolution and ReLU, and a Ghost module ends in a single Concat.

An operation that isn't known here is an error, never left out.
"""

import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import torch
from torch import fx, nn

from ghostnet.modules import CheapConv
from search.graphs.lowering import Lowering, by_primary, form
from search.graphs.ncnn_builder import NcnnBuilder, NcnnModel
from search.graphs.onnx_builder import INPUT, Builder
from search.graphs.tflite_builder import TfliteBuilder

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


def to_onnx(
    module: nn.Module, shape: tuple[int, int, int], batch: int | None = None, lowering: Lowering = "mixed"
) -> onnx.ModelProto:
    """The module in evaluation mode as an ONNX model: `input` [batch, *shape] -> `output`, float32.

    Args:
        shape: channels, height and width of the input.
        batch: a fixed batch size; None leaves the first dimension free.
        lowering: how the cheap op is run; the outputs are equal. The default is the fastest for ONNX Runtime.

    Raises:
        NotImplementedError: the module has an operation that is not known here.
    """
    return _Emitter(module, lowering, Builder(shape, batch)).model()


def to_tflite(
    module: nn.Module,
    shape: tuple[int, int, int],
    batch: int = 1,
    lowering: Lowering = "split",
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """The same as a LiteRT file, [batch, H, W, C] -> outputs, float32, for one batch size.

    Args:
        metadata: texts that the file carries, by name.

    Raises:
        NotImplementedError: the module has an operation that is not known here.
    """
    return _Emitter(module, lowering, TfliteBuilder(shape, batch, metadata)).model()


def to_ncnn(module: nn.Module, shape: tuple[int, int, int], lowering: Lowering = "split") -> NcnnModel:
    """The same as ncnn's two files, `in0` [C, H, W] -> `out0`, float32, for an image at a time.

    Raises:
        NotImplementedError: the module has an operation that is not known here.
    """
    return _Emitter(module, lowering, NcnnBuilder(shape)).model()


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, LEAVES)


class _Emitter:
    """Walks a traced module and adds each of its operations to the graph."""

    def __init__(self, module: nn.Module, lowering: Lowering, build: Any) -> None:
        self.graph, self.lowering, self.build = _Tracer().trace(module.eval()), lowering, build
        self.modules = dict(module.named_modules())
        self.values: dict[fx.Node, Pieces] = {}
        self.pending_permutation: dict[
            str, np.ndarray
        ] = {}  # pieces of which only these channels, in this order, are meant

    def model(self) -> Any:
        for node in self.graph.nodes:
            self.values[node] = self._emit(node)
        return self.build.model(self._whole(node))

    def _emit(self, node: fx.Node) -> Pieces:
        if node.op == "placeholder":
            return (INPUT,)
        if node.op == "output":
            return self.same(node)
        if node.op == "call_module":
            module = self.modules[str(node.target)]
            for kind, emit in _MODULES.items():
                if isinstance(module, kind):
                    return emit(self, node, module)
        elif node.op in ("call_function", "call_method") and node.target in _FUNCTIONS:
            return _FUNCTIONS[node.target](self, node)
        what = type(self.modules[str(node.target)]).__name__ if node.op == "call_module" else node.target
        raise NotImplementedError(f"no ONNX form is known for {what} at {node.name}")

    def _whole(self, node: Any) -> str:
        pieces = [
            self.build.permuted(piece, self.pending_permutation[piece]) if piece in self.pending_permutation else piece
            for piece in self.values[node]
        ]
        whole = self.build.add("Concat", pieces, axis=1) if len(pieces) > 1 else pieces[0]
        self.values[node] = (whole,)
        return whole

    def one(self, node: fx.Node, op: str, **attributes: Any) -> Pieces:
        """An operation on the whole."""
        return (self.build.add(op, [self._whole(node.args[0])], **attributes),)

    def each(self, node: fx.Node, op: str, **attributes: Any) -> Pieces:
        """An operation on each number: on each piece, whatever the order of its channels."""
        pieces: list[str] = []
        for piece in self.values[node.args[0]]:  # type: ignore[index]
            pieces.append(self.build.add(op, [piece], **attributes))
            if piece in self.pending_permutation:
                self.pending_permutation[pieces[-1]] = self.pending_permutation[piece]
        return tuple(pieces)

    def same(self, node: fx.Node) -> Pieces:
        return self.values[node.args[0]]  # type: ignore[index]

    def conv(self, node: fx.Node, module: nn.Conv2d) -> Pieces:
        weight, bias = self._folded(node, module)
        stride, padding = int(module.stride[0]), int(module.padding[0])
        return (self.build.conv(self._whole(node.args[0]), weight, bias, stride, padding, module.groups),)

    def cheap(self, node: fx.Node, module: CheapConv) -> Pieces:
        """The ghosts, by the lowering that was asked for."""
        weight, bias = self._folded(node, module)
        x, padding = self._whole(node.args[0]), module.kernel // 2
        how = form(module, self.lowering)
        if how == "grouped":
            position, ghost = by_primary(module.in_chs, module.out_chs)
            weight, bias = weight[ghost], bias[ghost]
            weight[ghost < 0], bias[ghost < 0] = 0, 0
            grouped = self.build.conv(x, weight, bias, 1, padding, module.in_chs)
            self.pending_permutation[grouped] = position
            return (grouped,)
        parts = [slice(start, stop) for start, stop in module.replicas]
        counts = [part.stop - part.start for part in parts]
        # the last replica reads the leading primaries where fewer ghosts are left
        rows = [x if count == module.in_chs else self.build.leading(x, count) for count in counts]
        if how == "repeated":
            row = self.build.add("Concat", rows, axis=1)
            return (self.build.conv(row, weight, bias, 1, padding, module.out_chs),)
        return tuple(
            self.build.conv(row, weight[part], bias[part], 1, padding, count)
            for row, part, count in zip(rows, parts, counts, strict=True)
        )

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

    def norm(self, node: fx.Node, module: nn.BatchNorm2d) -> Pieces:
        before = node.args[0]
        if isinstance(before, fx.Node) and before.op == "call_module" and len(before.users) == 1:
            conv = self.modules[str(before.target)]
            if isinstance(conv, nn.Conv2d | CheapConv):
                return self.values[before]  # folded
        raise NotImplementedError(f"a batch norm that doesn't follow a convolution, at {node.name}")

    def linear(self, node: fx.Node, module: nn.Linear) -> Pieces:
        inputs = [self._whole(node.args[0]), self.build.const(_array(module.weight, np.float32))]
        if module.bias is not None:
            inputs.append(self.build.const(_array(module.bias, np.float32)))
        return (self.build.add("Gemm", inputs, transB=1),)

    def cat(self, node: fx.Node) -> Pieces:
        parts, dim = node.args[0], node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
        if dim != 1:
            raise NotImplementedError(f"a concatenation over dimension {dim}, at {node.name}")
        return tuple(piece for part in parts for piece in self.values[part])  # type: ignore[union-attr,index]

    def item(self, node: fx.Node) -> Pieces:
        """`x[:, :count]`, even where it cuts nothing off: the closing slice of other people's Ghost modules."""
        match node.args[1]:
            case (batch, slice(start=None, stop=int(count), step=None), *rest) if all(
                part == slice(None) for part in (batch, *rest)
            ):
                return (self.build.leading(self._whole(node.args[0]), count),)
        raise NotImplementedError(f"an index other than of the leading channels, at {node.name}")

    def binary(self, node: fx.Node, op: str) -> Pieces:
        return (self.build.add(op, [self._whole(node.args[0]), self._whole(node.args[1])]),)


def _array(tensor: torch.Tensor, dtype: type = np.float64) -> np.ndarray:
    return tensor.detach().cpu().numpy().astype(dtype)


_MODULES: dict[type[nn.Module], Callable[[_Emitter, fx.Node, Any], Pieces]] = {
    nn.Conv2d: _Emitter.conv,
    CheapConv: _Emitter.cheap,
    nn.BatchNorm2d: _Emitter.norm,
    nn.Linear: _Emitter.linear,
    nn.ReLU: lambda e, node, _: e.each(node, "Relu"),
    nn.Hardsigmoid: lambda e, node, _: e.each(node, "HardSigmoid", alpha=1 / 6, beta=0.5),
    nn.AdaptiveAvgPool2d: lambda e, node, _: e.one(node, "GlobalAveragePool"),
    nn.Flatten: lambda e, node, _: e.one(node, "Flatten", axis=1),
    nn.Identity: lambda e, node, _: e.same(node),
}
_FUNCTIONS: dict[Any, Callable[[_Emitter, fx.Node], Pieces]] = {
    torch.cat: _Emitter.cat,
    operator.add: lambda e, node: e.binary(node, "Add"),
    operator.getitem: _Emitter.item,
    operator.mul: lambda e, node: e.binary(node, "Mul"),
    "flatten": lambda e, node: e.one(node, "Flatten", axis=1),
}
