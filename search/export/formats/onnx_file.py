"""`model.onnx`: batch norm folded, the first dimension free; checked by onnx, run by ONNX Runtime."""

import json
from pathlib import Path

import onnx

from search.export.formats import Session, Source
from search.export.formats.embedded_metadata import labels_and_pixels
from search.export.onnx_macs import count
from search.files import read_bytes, write_bytes
from search.graphs.onnx_graph import to_onnx
from search.latency.runtimes.ort import OnnxRuntime

FILES = ("model.onnx",)
PACKAGES = ("onnx", "onnxruntime")
EXACT = True


def write(source: Source, folder: Path) -> None:
    model = to_onnx(source.net, source.net.input_shape, lowering=OnnxRuntime.lowerings["float32"])
    add_metadata(model, source)
    onnx.checker.check_model(model, full_check=True)
    write_bytes(folder / FILES[0], model.SerializeToString())


def add_metadata(model: onnx.ModelProto, source: Source) -> None:
    """Labels, mean, std, the input's size and ids as the model's metadata: text as it is, everything else as JSON."""
    known = labels_and_pixels(source)
    onnx.helper.set_model_props(
        model, {key: value if isinstance(value, str) else json.dumps(value) for key, value in known.items()}
    )


def load_session(folder: Path) -> Session:
    return open_session(folder / FILES[0])


def macs(folder: Path) -> int | None:
    return count(folder / FILES[0])


def open_session(path: Path) -> Session:
    """An ONNX file on ONNX Runtime's CPU provider, on one thread."""
    return OnnxRuntime(1).load(read_bytes(path))
