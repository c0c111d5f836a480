"""Networks in ncnn on the CPU. Their files take an image at a time: those of a batch are run one after another."""

from __future__ import annotations

import io
import time
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

NCNN_FILES = ("model.ncnn.param", "model.ncnn.bin")  # a network's
HALVES = ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage")


def pack_ncnn(param: bytes, weights: bytes) -> bytes:
    """The contents of a network's files as one, a zip archive; equal ones of equal networks."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in zip(NCNN_FILES, (param, weights)):  # noqa: B905, which Python 3.8 doesn't have
            archive.writestr(zipfile.ZipInfo(name), content)  # which names no time
    return packed.getvalue()


def open_ncnn(folder: Path, threads: int):
    """ncnn's network of the files in a folder. It computes in float32; left to itself, ncnn takes half where it can.

    Raises:
        ValueError: ncnn can't read them.
    """
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = threads
    for half in HALVES:
        setattr(net.opt, f"use_{half}", False)
    if net.load_param(str(folder / NCNN_FILES[0])) or net.load_model(str(folder / NCNN_FILES[1])):
        raise ValueError(f"ncnn can't read {NCNN_FILES[0]} and {NCNN_FILES[1]}")
    return net


def place_image(image):
    """[C, H, W] as a map of ncnn's own."""
    import ncnn

    return ncnn.Mat(np.ascontiguousarray(image)).clone()  # with channels aligned, as in C++


def run_ncnn(net, image, output):
    """The map of that name.

    Args:
        image: from `place_image`.

    Raises:
        ValueError: ncnn can't run so far.
    """
    extractor = net.create_extractor()
    extractor.input(net.input_names()[0], image)
    failed, result = extractor.extract(output)
    if failed:
        raise ValueError(f"ncnn can't run to {output}")
    return np.array(result)


class NcnnSession:
    """A network on the CPU, ready to run.

    On Linux the threads of ncnn's package are GNU OpenMP's, which spin: more than one of them on a busy machine can be
    ten times slower than one. The environment variable OMP_WAIT_POLICY=PASSIVE, set before Python starts, avoids that.

    Args:
        model: what `pack_ncnn` made of its files.
    """

    runtime, package, suffix = "ncnn", "ncnn", "ncnn.zip"
    install = "pip install ncnn numpy"

    def __init__(self, model: bytes, threads: int) -> None:
        with TemporaryDirectory(prefix="ghostnas-ncnn-") as folder:
            zipfile.ZipFile(io.BytesIO(model)).extractall(folder)
            self._net = open_ncnn(Path(folder), threads)

    @staticmethod
    def version() -> str:
        import ncnn

        return ncnn.__version__

    def __call__(self, images):
        """images [B, C, H, W] -> outputs"""
        output = self._net.output_names()[0]
        return np.stack([run_ncnn(self._net, place_image(image), output) for image in images])

    def timer(self, images):
        """A function that runs the network once on each image and returns its nanoseconds."""
        net, placed = self._net, [place_image(image) for image in images]
        given, wanted = net.input_names()[0], net.output_names()[0]

        def once() -> int:
            start = time.perf_counter_ns()
            for image in placed:
                extractor = net.create_extractor()
                extractor.input(given, image)
                extractor.extract(wanted)
            return time.perf_counter_ns() - start

        return once
