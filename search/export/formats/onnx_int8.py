"""`model.int8.onnx`: static quantisation by ONNX Runtime, fitted to calibration images; weights int8 by channel."""

from pathlib import Path

from search.export.formats import Session, Source
from search.export.formats.onnx_file import add_metadata, open_session
from search.export.onnx_macs import count
from search.files import write_bytes
from search.graphs.onnx_graph import to_onnx
from search.graphs.quantise import quantise_model
from search.latency.runtimes.ort import OnnxRuntime

FILES = ("model.int8.onnx",)
PACKAGES = ("onnx", "onnxruntime")
EXACT = False
BATCH = 32


def write(source: Source, folder: Path) -> None:
    images, net = source.calibration, source.net
    model = to_onnx(net, net.input_shape, lowering=OnnxRuntime.lowerings["int8"])
    batches = [images[k : k + BATCH] for k in range(0, len(images), BATCH)]
    smaller = quantise_model(model, batches)
    add_metadata(smaller, source)
    write_bytes(folder / FILES[0], smaller.SerializeToString())


def load_session(folder: Path) -> Session:
    return open_session(folder / FILES[0])


def macs(folder: Path) -> int | None:
    return count(folder / FILES[0])
