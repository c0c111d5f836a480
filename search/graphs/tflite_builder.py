"""Builds a LiteRT (TensorFlow Lite) graph node by node, by the same calls as `search/graphs/onnx_builder.py` for ONNX.

The official converter wants another PyTorch than ours and 20 s a network; this writes the flat buffer directly, by the
schema that LiteRT's own package brings. Tensors are [B, H, W, C] inside and at both ends. Symmetric padding at stride
2, which LiteRT's convolutions don't have, is a `PAD` before them, as converters make it; a ReLU goes into what it
follows.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from search.graphs.onnx_builder import INPUT, OUTPUT

IDENTIFIER = b"TFL3"
SIGNATURE = "serving_default"  # as converters call a model's only one
VERSION = 3
NAMES = {
    "Add": "ADD",
    "Mul": "MUL",
    "Concat": "CONCATENATION",
    "Relu": "RELU",
    "GlobalAveragePool": "MEAN",
    "Flatten": "RESHAPE",
    "Gemm": "FULLY_CONNECTED",
}
FUSED = ("CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "MUL", "FULLY_CONNECTED")  # operations that can end in a ReLU


class TfliteBuilder:
    """Operations and tensors so far; every tensor is known by its name.

    Args:
        shape: channels, height and width of the input.
        metadata: texts that the file carries, by name.
    """

    def __init__(self, shape: tuple[int, int, int], batch: int, metadata: Mapping[str, str] | None = None) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.schema = schema
        self.tensors: list[Any] = []
        self.buffers: list[Any] = [schema.BufferT()]  # the first is empty, and stands for no constant
        self.index: dict[str, int] = {}
        self.operators: list[Any] = []
        self.codes: list[str] = []
        self.metadata = metadata or {}
        chs, height, width = shape
        self._tensor(INPUT, (batch, height, width, chs))

    def add(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Adds an operation, by ONNX's name and attributes, and returns the name of its output."""
        x = self.shape(inputs[0])
        match op:
            case "Concat":
                out = (*x[:-1], sum(self.shape(name)[-1] for name in inputs))
                return self._operator(op, inputs, out, "ConcatenationOptions", axis=3)
            case "Add" | "Mul":
                return self._operator(op, inputs, np.broadcast_shapes(x, self.shape(inputs[1])), f"{op}Options")
            case "Relu":
                return self._operator(op, inputs, x)
            case "HardSigmoid":  # relu6(x + 3) / 6
                clipped = self._operator(
                    "Add", [inputs[0], self._number(3)], x, "AddOptions", fusedActivationFunction=3
                )
                return self._operator("Mul", [clipped, self._number(1 / 6)], x, "MulOptions")
            case "GlobalAveragePool":
                axes = self.const(np.array([1, 2], dtype=np.int32))
                return self._operator(op, [*inputs, axes], (x[0], 1, 1, x[3]), "ReducerOptions", keepDims=True)
            case "Flatten" if x[1:-1] in ((), (1, 1)):
                flat = self.const(np.array([x[0], x[-1]], dtype=np.int32))
                return self._operator(op, [*inputs, flat], (x[0], x[-1]), "ReshapeOptions", newShape=[x[0], x[-1]])
            case "Gemm":
                return self._operator(op, inputs, (x[0], self.shape(inputs[1])[0]), "FullyConnectedOptions")
        raise NotImplementedError(f"no LiteRT form is known for {op} of {x}")

    def const(self, value: np.ndarray) -> str:
        self.buffers.append(self.schema.BufferT(data=np.ascontiguousarray(value).view(np.uint8).ravel()))
        return self._tensor(f"w{len(self.buffers)}", value.shape, value.dtype, len(self.buffers) - 1)

    def conv(self, x: str, weight: np.ndarray, bias: np.ndarray, stride: int, padding: int, groups: int) -> str:
        batch, height, width, chs = self.shape(x)
        kernel, out_chs = weight.shape[2], weight.shape[0]
        same = stride == 1 and 2 * padding + 1 == kernel
        if padding and not same:
            sides = np.array([[0, 0], [padding] * 2, [padding] * 2, [0, 0]], dtype=np.int32)
            padded = (batch, height + 2 * padding, width + 2 * padding, chs)
            x = self._operator("PAD", [x, self.const(sides)], padded, "PadOptions")
        side = (((size + 2 * padding - kernel) // stride) + 1 for size in (height, width))
        shape = (batch, *side, out_chs)
        how = {"padding": 0 if same else 1, "strideW": stride, "strideH": stride}
        if groups == 1:
            inputs = [x, self.const(weight.transpose(0, 2, 3, 1)), self.const(bias)]
            return self._operator("CONV_2D", inputs, shape, "Conv2DOptions", **how)
        if groups == chs:
            inputs = [x, self.const(weight.transpose(1, 2, 3, 0)), self.const(bias)]
            how["depthMultiplier"] = out_chs // chs
            return self._operator("DEPTHWISE_CONV_2D", inputs, shape, "DepthwiseConv2DOptions", **how)
        raise NotImplementedError(f"no LiteRT form is known for a convolution of {groups} groups and {chs} channels")

    def leading(self, x: str, count: int) -> str:
        """The first channels."""
        shape = (*self.shape(x)[:-1], count)
        begin, size = (np.array(each, dtype=np.int32) for each in ((0, 0, 0, 0), shape))
        return self._operator("SLICE", [x, self.const(begin), self.const(size)], shape, "SliceOptions")

    def permuted(self, x: str, chs: np.ndarray) -> str:
        """These channels, in this order."""
        shape = (*self.shape(x)[:-1], len(chs))
        return self._operator("GATHER", [x, self.const(chs.astype(np.int32))], shape, "GatherOptions", axis=3)

    def model(self, output: str) -> bytes:
        """The finished model, `input` [B, H, W, C] -> what `output` is, float32."""
        import flatbuffers

        self._fuse(output)
        graph = self.schema.SubGraphT(
            tensors=self.tensors,
            inputs=[self.index[INPUT]],
            outputs=[self.index[output]],
            operators=self.operators,
            name="ghostnet",
        )
        codes = [getattr(self.schema.BuiltinOperator, code) for code in self.codes]
        operators = [self.schema.OperatorCodeT(deprecatedBuiltinCode=min(c, 127), builtinCode=c) for c in codes]
        model = self.schema.ModelT(
            version=VERSION,
            operatorCodes=operators,
            subgraphs=[graph],
            description="ghostnas",
            buffers=self.buffers,
            signatureDefs=[self._signature(output)],
            metadata=[self.schema.MetadataT(name, self._text(text)) for name, text in self.metadata.items()],
        )
        packed = flatbuffers.Builder(1 << 20)
        packed.Finish(model.Pack(packed), IDENTIFIER)
        return bytes(packed.Output())

    def _signature(self, output: str) -> Any:
        """The names by which programs call the network."""
        ends = ((INPUT, self.index[INPUT]), (OUTPUT, self.index[output]))
        inputs, outputs = ([self.schema.TensorMapT(name=name, tensorIndex=index)] for name, index in ends)
        return self.schema.SignatureDefT(inputs=inputs, outputs=outputs, signatureKey=SIGNATURE, subgraphIndex=0)

    def _text(self, text: str) -> int:
        """The number of a buffer with a text in it."""
        self.buffers.append(self.schema.BufferT(data=np.frombuffer(text.encode(), dtype=np.uint8)))
        return len(self.buffers) - 1

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.tensors[self.index[name]].shape)

    def _number(self, value: float) -> str:
        return self.const(np.array([value], dtype=np.float32))

    def _tensor(self, name: str, shape: Sequence[int], dtype: Any = np.float32, buffer: int = 0) -> str:
        kind = {"float32": "FLOAT32", "int32": "INT32"}[np.dtype(dtype).name]
        self.index[name] = len(self.tensors)
        code = getattr(self.schema.TensorType, kind)
        self.tensors.append(self.schema.TensorT(shape=[int(n) for n in shape], type=code, buffer=buffer, name=name))
        return name

    def _operator(self, op: str, inputs: Sequence[str], shape: Sequence[int], options: str = "", **values: Any) -> str:
        code = NAMES.get(op, op)
        if code not in self.codes:
            self.codes.append(code)
        out = self._tensor(f"{code.lower()}_{len(self.operators)}", shape)
        operator = self.schema.OperatorT(
            opcodeIndex=self.codes.index(code), inputs=[self.index[x] for x in inputs], outputs=[self.index[out]]
        )
        if options:
            operator.builtinOptionsType = getattr(self.schema.BuiltinOptions, options)
            operator.builtinOptions = getattr(self.schema, f"{options}T")(**values)
        self.operators.append(operator)
        return out

    def _fuse(self, output: str) -> None:
        """Puts each ReLU into the operation that makes its input, where nothing else reads that."""
        makers = {operator.outputs[0]: operator for operator in self.operators}
        readers = Counter(x for operator in self.operators for x in operator.inputs)
        readers[self.index[output]] += 1
        kept = []
        for operator in self.operators:
            x = operator.inputs[0]
            if self.codes[operator.opcodeIndex] == "RELU" and readers[x] == 1 and self._fusible(makers.get(x)):
                makers[x].builtinOptions.fusedActivationFunction = self.schema.ActivationFunctionType.RELU
                makers[x].outputs = operator.outputs
            else:
                kept.append(operator)
        self.operators = kept
        self._drop_unused()

    def _drop_unused(self) -> None:
        """Forgets the tensors that no operation has, and numbers the others anew."""
        ends = [operator.inputs + operator.outputs for operator in self.operators]
        used = sorted({self.index[INPUT]}.union(*ends))
        number = {old: new for new, old in enumerate(used)}
        self.tensors = [self.tensors[old] for old in used]
        self.index = {name: number[old] for name, old in self.index.items() if old in number}
        for operator in self.operators:
            operator.inputs, operator.outputs = (
                [number[x] for x in each] for each in (operator.inputs, operator.outputs)
            )

    def _fusible(self, operator: Any) -> bool:
        plain = operator is not None and self.codes[operator.opcodeIndex] in FUSED
        return plain and not operator.builtinOptions.fusedActivationFunction
