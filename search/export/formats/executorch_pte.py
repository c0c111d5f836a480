"""`model.pte`: ExecuTorch's program for phones, delegated to XNNPACK; one image at a time."""

from pathlib import Path

import numpy as np

from search import extras
from search.export.formats import Session, Source
from search.files import read_bytes, write_bytes
from search.latency.runtimes.xnnpack import ExecuTorch

FILES = ("model.pte",)
PACKAGES = ("executorch",)
EXACT = True


def write(source: Source, folder: Path) -> None:
    extras.import_extra("executorch.exir", "executorch")
    net = source.net
    program = ExecuTorch(1).compile(net, (net.in_chs, net.arch.resolution, net.arch.resolution))
    write_bytes(folder / FILES[0], program)


def load_session(folder: Path) -> Session:
    extras.import_extra("executorch.runtime", "executorch")
    run = ExecuTorch(1).load(read_bytes(folder / FILES[0]))

    def session(images: np.ndarray) -> np.ndarray:
        return np.concatenate([run(images[k : k + 1]).copy() for k in range(len(images))])

    return session


def macs(folder: Path) -> int | None:
    return None  # the delegate's graph is a blob of XNNPACK's
