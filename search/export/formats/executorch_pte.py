"""`model.pte`: ExecuTorch's program for phones, delegated to XNNPACK; one image at a time."""

from pathlib import Path

from search import extras
from search.export.formats import Session, Source
from search.files import read_bytes, write_bytes
from search.latency.runtimes.base import image_by_image
from search.latency.runtimes.xnnpack import ExecuTorch

FILES = ("model.pte",)
PACKAGES = ("executorch",)
EXACT = True


def write(source: Source, folder: Path) -> None:
    extras.import_extra("executorch.exir", "executorch")
    net = source.net
    program = ExecuTorch(1).compile(net, net.input_shape)
    write_bytes(folder / FILES[0], program)


def load_session(folder: Path) -> Session:
    extras.import_extra("executorch.runtime", "executorch")
    return image_by_image(ExecuTorch(1).load(read_bytes(folder / FILES[0])))


def macs(folder: Path) -> int | None:
    return None  # the delegate's graph is a blob of XNNPACK's
