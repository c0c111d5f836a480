"""`model.ncnn.param` and `model.ncnn.bin`: ncnn's, for phones; converted from the ONNX graph by pnnx, in float32."""

import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ghostnet.arch import Arch
from search import extras
from search.errors import UserError
from search.export.formats import Session, Source
from search.files import write_bytes
from search.graphs.onnx_graph import to_onnx

FILES = ("model.ncnn.param", "model.ncnn.bin")
PACKAGES = ("ncnn", "pnnx")
EXACT = True
IMAGES, OUTPUTS = "in0", "out0"  # pnnx's names
WEIGHTS = {"Convolution": 6, "ConvolutionDepthWise": 6, "InnerProduct": 2}  # the parameter that says how many
FREE = {
    *("Input", "Split", "Concat", "Crop", "Slice", "BinaryOp", "Pooling", "HardSigmoid", "ReLU", "Reshape", "Flatten"),
}


def write(source: Source, folder: Path) -> None:
    """Raises:
    UserError: the converter failed.
    """
    converter = extras.import_extra("pnnx", "ncnn").EXEC_PATH
    extras.import_extra("ncnn", "ncnn")
    net = source.net
    shape = (net.in_chs, net.arch.resolution, net.arch.resolution)
    with tempfile.TemporaryDirectory(prefix="ghostnas-ncnn-") as scratch:
        there = Path(scratch)
        (there / "model.onnx").write_bytes(to_onnx(net, shape, batch=1, lowering="split").SerializeToString())
        command = [converter, "model.onnx", "fp16=0", f"inputshape=[1,{','.join(map(str, shape))}]"]
        done = subprocess.run(command, cwd=there, capture_output=True, text=True)
        if done.returncode or not all((there / name).exists() for name in FILES):
            message = (done.stderr.strip() or done.stdout.strip() or "nothing said").splitlines()[-1]
            raise UserError(f"pnnx could not convert the network to ncnn: {message}")
        for name in FILES:
            write_bytes(folder / name, (there / name).read_bytes())


def load_session(folder: Path) -> Session:
    ncnn, net = _net(folder)

    def session(images: np.ndarray) -> np.ndarray:
        return np.stack([np.array(_run(ncnn, net, image, OUTPUTS)) for image in images])

    return session


def macs(folder: Path) -> int | None:
    """Weights times the places where each is used, from the network's description and the maps of a run.

    Raises:
        NotImplementedError: a layer that is not known here; it is not counted as nothing.
    """
    ncnn, net = _net(folder)
    image = np.zeros(_input_shape(folder), dtype=np.float32)
    total = 0
    for kind, output, parameters in _layers(folder):
        if kind in WEIGHTS:
            maps = _run(ncnn, net, image, output)
            positions = 1 if kind == "InnerProduct" else maps.w * maps.h
            total += int(parameters[WEIGHTS[kind]]) * positions
        elif kind not in FREE:
            raise NotImplementedError(f"multiply-adds of ncnn's {kind} are not known")
    return total


def _net(folder: Path) -> tuple[Any, Any]:
    ncnn = extras.import_extra("ncnn", "ncnn")
    net = ncnn.Net()
    net.opt.num_threads = 1
    net.opt.lightmode = False  # a run may be asked for any of its maps
    for half in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
        setattr(net.opt, f"use_{half}", False)
    if net.load_param(str(folder / FILES[0])) or net.load_model(str(folder / FILES[1])):
        raise UserError(f"ncnn can't read {folder / FILES[0]}")
    return ncnn, net


def _run(ncnn: Any, net: Any, image: np.ndarray, output: str) -> Any:
    extractor = net.create_extractor()
    extractor.input(IMAGES, ncnn.Mat(np.ascontiguousarray(image)))
    failed, maps = extractor.extract(output)
    if failed:
        raise UserError(f"ncnn could not run to {output}")
    return maps.clone()


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
