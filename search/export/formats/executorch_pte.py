"""`model.pte`: ExecuTorch's program for phones, delegated to XNNPACK; one image at a time."""

from pathlib import Path

import numpy as np
import torch

from search import extras
from search.export.formats import Session, Source
from search.files import write_bytes
from search.graphs.lowering import lower_module
from search.latency.runtimes.xnnpack import ExecuTorch

FILES = ("model.pte",)
PACKAGES = ("executorch",)
EXACT = True


def write(source: Source, folder: Path) -> None:
    lower = extras.import_extra("executorch.exir", "executorch").to_edge_transform_and_lower
    xnnpack = extras.import_extra("executorch.backends.xnnpack.partition.xnnpack_partitioner", "executorch")
    net = source.net
    example = torch.zeros(1, net.in_chs, net.arch.resolution, net.arch.resolution)
    # as they stand, XNNPACK leaves cheap ops to ExecuTorch's slow reference kernels
    exported = torch.export.export(lower_module(net, ExecuTorch.lowerings["float32"]), (example,))
    program = lower(exported, partitioner=[xnnpack.XnnpackPartitioner()])
    write_bytes(folder / FILES[0], program.to_executorch().buffer)


def load_session(folder: Path) -> Session:
    runtime = extras.import_extra("executorch.runtime", "executorch").Runtime.get()
    program = runtime.load_program(folder / FILES[0])
    forward = program.load_method("forward")

    def session(images: np.ndarray) -> np.ndarray:
        tensors = torch.from_numpy(images).split(1)
        return np.concatenate([forward.execute([tensor.contiguous()])[0].numpy().copy() for tensor in tensors])

    return session


def macs(folder: Path) -> int | None:
    return None  # the delegate's graph is a blob of XNNPACK's
