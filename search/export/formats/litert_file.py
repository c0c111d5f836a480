"""`model.tflite`: LiteRT's (TensorFlow Lite's) file for phones and microcontrollers, float32, one image at a time as
[1, H, W, C]; run by LiteRT's own interpreter."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from search import extras
from search.export.formats import Session, Source
from search.export.formats.embedded_metadata import labels_and_pixels
from search.files import read_bytes, write_bytes
from search.graphs.onnx_graph import to_tflite
from search.latency.runtimes.base import image_by_image
from search.latency.runtimes.litert_cpu import LiteRt

FILES = ("model.tflite",)
PACKAGES = ("ai-edge-litert",)
EXACT = True
METADATA = "ghostnas"  # the name of the buffer with the labels, as JSON
FREE = {"ADD", "MUL", "CONCATENATION", "MEAN", "RESHAPE", "PAD", "SLICE", "GATHER", "RELU"}
FREE |= {"QUANTIZE", "DEQUANTIZE"}


def write(source: Source, folder: Path) -> None:
    write_bytes(folder / FILES[0], float32_model(source))


def load_session(folder: Path) -> Session:
    return open_session(folder / FILES[0])


def macs(folder: Path) -> int | None:
    return count(folder / FILES[0])


def float32_model(source: Source) -> bytes:
    """The network as a LiteRT model."""
    net = source.net
    return to_tflite(
        net, net.input_shape, 1, LiteRt.lowerings["float32"], {METADATA: json.dumps(labels_and_pixels(source))}
    )


def open_session(path: Path) -> Session:
    """A LiteRT file with float32 at both ends, in LiteRT's interpreter on one thread."""
    extras.import_extra("ai_edge_litert.interpreter", "litert")
    return image_by_image(LiteRt(1).load(read_bytes(path)))


def count(path: Path) -> int:
    """Multiply-adds for one image.

    Raises:
        NotImplementedError: an operation that is not known here; it is not counted as nothing.
    """
    schema = extras.import_extra("ai_edge_litert.schema_py_generated", "litert")
    model = schema.ModelT.InitFromPackedBuf(read_bytes(path))
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    kinds = [names[code.builtinCode] for code in model.operatorCodes]
    graph = model.subgraphs[0]
    return sum(_macs(kinds[operator.opcodeIndex], operator, graph.tensors) for operator in graph.operators)


def _macs(kind: str, operator: Any, tensors: list[Any]) -> int:
    if kind in FREE:
        return 0
    out = int(np.prod(tensors[operator.outputs[0]].shape))
    filters = [int(side) for side in tensors[operator.inputs[1]].shape]
    match kind:
        case "CONV_2D":
            return out * filters[1] * filters[2] * filters[3]  # [out, kernel, kernel, in]
        case "DEPTHWISE_CONV_2D":
            return out * filters[1] * filters[2]  # [1, kernel, kernel, out]
        case "FULLY_CONNECTED":
            return out * filters[1]
    raise NotImplementedError(f"multiply-adds of {kind} are not known")
