"""`model.xml` and `model.bin`: OpenVINO's IR, of the ONNX graph, weights in float32."""

import io
from math import prod
from pathlib import Path
from typing import Any

from search import extras
from search.errors import UserError, first_line
from search.export.formats import Session, Source
from search.graphs.onnx_graph import to_onnx
from search.latency.runtimes.openvino_cpu import OpenVino

FILES = ("model.xml", "model.bin")
PACKAGES = ("openvino",)
EXACT = True
RUN_WITH = 'compile_model(..., {"INFERENCE_PRECISION_HINT": "f32"}), without which OpenVINO takes bfloat16 where it can'
FREE = {
    *("Parameter", "Constant", "Result", "Relu", "HardSigmoid", "Add", "Multiply", "ReduceMean", "Concat", "Slice"),
    *("StridedSlice", "Reshape", "Convert", "ShapeOf", "Gather", "Unsqueeze", "Squeeze", "Clamp", "ReduceProd"),
}


def write(source: Source, folder: Path) -> None:
    openvino = extras.import_extra("openvino", "openvino")
    model = to_onnx(source.net, source.net.input_shape, lowering=OpenVino.lowerings["float32"])
    converted = openvino.convert_model(io.BytesIO(model.SerializeToString()))
    try:
        openvino.save_model(converted, folder / FILES[0], compress_to_fp16=False)
    except RuntimeError as error:
        raise UserError(f"OpenVINO can't write {folder / FILES[0]}: {first_line(error)}") from None


def load_session(folder: Path) -> Session:
    extras.import_extra("openvino", "openvino")
    return OpenVino(1).load_ir(folder / FILES[0])


def macs(folder: Path) -> int | None:
    """Raises:
    NotImplementedError: an op that is not known here; it is not counted as nothing.
    """
    model = extras.import_extra("openvino", "openvino").Core().read_model(folder / FILES[0])
    model.reshape([1, *(int(side) for side in list(model.input(0).partial_shape.get_min_shape())[1:])])
    return sum(_macs(op) for op in model.get_ordered_ops())


def _macs(op: Any) -> int:
    kind = op.get_type_name()
    if kind in FREE:
        return 0
    out = prod(op.output(0).get_shape())
    match kind:
        case "Convolution":
            return out * prod(list(op.input(1).get_shape())[1:])  # [out, in, kernel, kernel]
        case "GroupConvolution":
            return out * prod(list(op.input(1).get_shape())[2:])  # [groups, out / groups, in / groups, kernel, kernel]
        case "MatMul":
            return out * list(op.input(0).get_shape())[-1]
    raise NotImplementedError(f"multiply-adds of {kind} are not known, at {op.get_friendly_name()}")
