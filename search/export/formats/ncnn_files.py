"""`model.ncnn.param` and `model.ncnn.bin`: ncnn's, for phones, in float32, for one image at a time."""

from pathlib import Path

import numpy as np

from ghostnet.arch import Arch
from search import extras
from search.export.formats import Session, Source
from search.files import read_bytes, write_bytes, write_text
from search.graphs.onnx_graph import to_ncnn
from search.latency.runtimes.ncnn_cpu import Ncnn
from search.latency.timing.ncnn_session import HALVES, NCNN_FILES, open_ncnn, pack_ncnn, place_image, run_ncnn

FILES = NCNN_FILES
PACKAGES = ("ncnn",)
EXACT = True
RUN_WITH = (
    f"net.opt.{', net.opt.'.join(f'use_{half}' for half in HALVES)} all False before load_param, without which ncnn "
    "takes float16 where it can"
)
WEIGHTS = {"Convolution": 6, "ConvolutionDepthWise": 6, "InnerProduct": 2}  # the parameter that says how many
FREE = {
    *("Input", "Split", "Concat", "Crop", "Slice", "BinaryOp", "Pooling", "HardSigmoid", "ReLU", "Reshape", "Flatten"),
}


def write(source: Source, folder: Path) -> None:
    model = to_ncnn(source.net, source.net.input_shape, Ncnn.lowerings["float32"])
    write_text(folder / FILES[0], model.param)
    write_bytes(folder / FILES[1], model.weights)


def load_session(folder: Path) -> Session:
    extras.import_extra("ncnn", "ncnn")
    return Ncnn(1).load(pack_ncnn(*(read_bytes(folder / name) for name in FILES)))


def macs(folder: Path) -> int | None:
    """Weights times the places where each is used, from the network's description and the maps of a run.

    Raises:
        NotImplementedError: a layer that is not known here; it is not counted as nothing.
    """
    extras.import_extra("ncnn", "ncnn")
    net, image = open_ncnn(folder, 1), place_image(np.zeros(_input_shape(folder), dtype=np.float32))
    total = 0
    for kind, output, parameters in _layers(folder):
        if kind in WEIGHTS:
            positions = int(np.prod(run_ncnn(net, image, output).shape[1:]))
            total += int(parameters[WEIGHTS[kind]]) * positions
        elif kind not in FREE:
            raise NotImplementedError(f"multiply-adds of ncnn's {kind} are not known")
    return total


def _layers(folder: Path) -> list[tuple[str, str, dict[int, str]]]:
    """Kind, first output, and parameters of each layer."""
    layers = []
    for line in (folder / FILES[0]).read_text(encoding="utf-8").splitlines()[2:]:
        kind, _, inputs, outputs, *rest = line.split()
        names, values = rest[: int(inputs) + int(outputs)], rest[int(inputs) + int(outputs) :]
        parameters = dict(value.split("=", 1) for value in values)
        layers.append((kind, names[int(inputs)], {int(k): v for k, v in parameters.items()}))
    return layers


def _input_shape(folder: Path) -> tuple[int, int, int]:
    side = Arch.load(folder / "arch.json").resolution
    first = next(values for kind, _, values in _layers(folder) if kind == "Convolution")
    return int(first[6]) // (int(first[0]) * int(first[1]) ** 2), side, side
