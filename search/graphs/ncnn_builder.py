"""Builds an ncnn network layer by layer, by the same calls as `search/graphs/onnx_builder.py` for ONNX.

pnnx, ncnn's converter, takes a quarter of a second a network, and a latency table needs thousands; this writes the two
files directly, in milliseconds, with the layers that pnnx makes of our ONNX graphs (tests/search/graphs/test_ncnn.py
compares them). ncnn has no batch: maps are [C, H, W], and [C] once they are pooled, where a 1x1 convolution is a
matrix product. A ReLU goes into what it follows. A map has one reader: `Split` hands it to several.

The format: https://github.com/Tencent/ncnn/wiki/param-and-model-file-structure; what a layer's parameters mean:
https://github.com/Tencent/ncnn/wiki/operators.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from search.graphs.onnx_builder import INPUT

MAGIC = "7767517"
IMAGES, OUTPUTS = "in0", "out0"  # as pnnx calls them
FLOAT32 = bytes(4)  # stands before a layer's weights and says what they are
NAMES = {"Add": "BinaryOp", "Mul": "BinaryOp", "Relu": "ReLU", "GlobalAveragePool": "Pooling", "Gemm": "InnerProduct"}
BINARY = {"Add": 0, "Mul": 2}
FUSED = ("Convolution", "ConvolutionDepthWise", "InnerProduct")  # layers that can end in a ReLU
ACTIVATION, RELU = 9, 1

Parameters = dict[int, int | float | list[int]]


class NcnnModel(NamedTuple):
    """The content of a `.param` file, and of its `.bin`."""

    param: str
    weights: bytes


@dataclass(frozen=True, kw_only=True)
class _Layer:
    kind: str
    inputs: list[str]
    outputs: list[str]
    parameters: Parameters = field(default_factory=dict)
    weights: list[np.ndarray] = field(default_factory=list)  # and then the bias, if there is one

    def line(self, name: str) -> str:
        ends = [str(len(self.inputs)), str(len(self.outputs)), *self.inputs, *self.outputs]
        values = [_parameter(key, value) for key, value in self.parameters.items()]
        return " ".join([f"{self.kind:<24} {name:<24}", *ends, *values])


class NcnnBuilder:
    """Layers and weights so far; every map is known by its name.

    Args:
        shape: channels, height and width of the input.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.layers = [_Layer(kind="Input", inputs=[], outputs=[INPUT])]
        self.shapes: dict[str, tuple[int, ...]] = {INPUT: shape}
        self.weights: dict[str, np.ndarray] = {}

    def add(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Adds a layer, by ONNX's name and attributes, and returns the name of its output."""
        kind, x = NAMES.get(op, op), self.shapes[inputs[0]]
        match op:
            case "Concat":
                chs = sum(self.shapes[name][0] for name in inputs)
                return self._layer(kind, inputs, (chs, *x[1:]), {0: 0})
            case "Add" | "Mul":
                return self._layer(kind, inputs, max(x, self.shapes[inputs[1]], key=len), {0: BINARY[op]})
            case "Relu":
                return self._layer(kind, inputs, x)
            case "HardSigmoid":
                return self._layer(kind, inputs, x, {0: float(attributes["alpha"]), 1: float(attributes["beta"])})
            case "GlobalAveragePool":
                return self._layer(kind, inputs, x[:1], {0: 1, 4: 1})  # the mean, of all
            case "Flatten" if len(x) == 1:
                return inputs[0]
            case "Gemm":
                return self._product(inputs[0], *(self.weights[name] for name in inputs[1:]))
        raise NotImplementedError(f"no ncnn form is known for {op} of {x}")

    def const(self, value: np.ndarray) -> str:
        name = f"w{len(self.weights)}"
        self.weights[name] = value
        return name

    def conv(self, x: str, weight: np.ndarray, bias: np.ndarray, stride: int, padding: int, groups: int) -> str:
        _, *sides = self.shapes[x]
        out_chs, _, kernel, _ = weight.shape
        if not sides and groups == kernel == 1:
            return self._product(x, weight[:, :, 0, 0], bias)
        shape = (out_chs, *((side + 2 * padding - kernel) // stride + 1 for side in sides))
        parameters: Parameters = {0: out_chs, 1: kernel, 3: stride, 4: padding, 5: 1, 6: weight.size}
        if groups == 1:
            return self._layer("Convolution", [x], shape, parameters, [weight, bias])
        return self._layer("ConvolutionDepthWise", [x], shape, parameters | {7: groups}, [weight, bias])

    def leading(self, x: str, count: int) -> str:
        """The first channels."""
        return self._layer("Crop", [x], (count, *self.shapes[x][1:]), {9: [0], 10: [count], 11: [0]})

    def permuted(self, x: str, chs: np.ndarray) -> str:
        """These channels, in this order: of ncnn's layers only a shuffle does it, which makes [groups, n] channels
        [n, groups].

        Raises:
            NotImplementedError: the order is not the beginning of a shuffle's.
        """
        every = self.shapes[x][0]
        groups = every // max(int(chs[1]), 1) if len(chs) > 1 else every
        shuffle = np.arange(every // groups * groups).reshape(groups, -1).T.ravel()
        if every % groups or not np.array_equal(shuffle[: len(chs)], chs):
            raise NotImplementedError(f"no ncnn form is known for the channels {chs.tolist()} of {every}")
        shuffled = self._layer("ShuffleChannel", [x], self.shapes[x], {0: groups})
        return shuffled if len(chs) == every else self.leading(shuffled, len(chs))

    def model(self, output: str) -> NcnnModel:
        """The finished network, `in0` [C, H, W] -> `out0`, float32."""
        layers = list(_split(_fused(self.layers, output), output))
        lines = [layer.line(f"{layer.kind.lower()}_{k}") for k, layer in enumerate(layers)]
        blobs = sum(len(layer.outputs) for layer in layers)
        weights = [_packed(layer.weights) for layer in layers if layer.weights]
        return NcnnModel("\n".join([MAGIC, f"{len(layers)} {blobs}", *lines, ""]), b"".join(weights))

    def _product(self, x: str, weight: np.ndarray, bias: np.ndarray | None = None) -> str:
        """A matrix [outputs, inputs] times the pooled map."""
        terms = [weight] if bias is None else [weight, bias]
        parameters: Parameters = {0: len(weight), 1: len(terms) - 1, 2: weight.size}
        return self._layer("InnerProduct", [x], weight.shape[:1], parameters, terms)

    def _layer(
        self,
        kind: str,
        inputs: Sequence[str],
        shape: tuple[int, ...],
        parameters: Parameters | None = None,
        weights: Sequence[np.ndarray] = (),
    ) -> str:
        out = f"{kind.lower()}_{len(self.layers)}"
        made = _Layer(kind=kind, inputs=list(inputs), outputs=[out], parameters=parameters or {}, weights=list(weights))
        self.layers.append(made)
        self.shapes[out] = shape
        return out


def _readers(layers: Sequence[_Layer], output: str) -> Counter[str]:
    """How often each map is read; the network's output by its user, too."""
    return Counter([output, *(x for layer in layers for x in layer.inputs)])


def _fused(layers: Sequence[_Layer], output: str) -> list[_Layer]:
    """With each ReLU put into the layer that makes its input, where nothing else reads that."""
    readers, result = _readers(layers, output), dict[str, _Layer]()
    for layer in layers:
        before = result.get(layer.inputs[0]) if layer.kind == "ReLU" else None
        if before and before.kind in FUSED and readers[layer.inputs[0]] == 1:
            del result[layer.inputs[0]]
            layer = replace(before, outputs=layer.outputs, parameters=before.parameters | {ACTIVATION: RELU})
        result[layer.outputs[0]] = layer
    return list(result.values())


def _split(layers: Sequence[_Layer], output: str) -> Iterator[_Layer]:
    """With a `Split` behind each map that is read more than once, and ncnn's names at both ends."""
    readers, ends = _readers(layers, output), {INPUT: IMAGES, output: OUTPUTS}
    copies: dict[str, list[str]] = {}
    for layer in layers:
        (out,) = layer.outputs
        inputs = [copies[x].pop() if x in copies else ends.get(x, x) for x in layer.inputs]
        if readers[out] == 1:
            yield replace(layer, inputs=inputs, outputs=[ends.get(out, out)])
            continue
        names = [f"{out}_{k}" for k in range(readers[out])]
        if out == output:
            names[0] = OUTPUTS  # whichever the layers leave
        whole = IMAGES if out == INPUT else out
        yield replace(layer, inputs=inputs, outputs=[whole])
        yield _Layer(kind="Split", inputs=[whole], outputs=list(names))
        copies[out] = names


def _parameter(key: int, value: int | float | list[int]) -> str:
    if isinstance(value, list):
        return f"{-23300 - key}={','.join(map(str, [len(value), *value]))}"
    return f"{key}={value:.8e}" if isinstance(value, float) else f"{key}={value}"


def _packed(weights: Sequence[np.ndarray]) -> bytes:
    return FLOAT32 + b"".join(np.ascontiguousarray(each, dtype="<f4").tobytes() for each in weights)
