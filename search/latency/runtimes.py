"""What runs a network: one small adapter a runtime."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import numpy as np

from search.errors import UserError

if TYPE_CHECKING:  # names of runtimes are checked before torch is loaded
    from torch import nn

Shape = tuple[int, int, int]
Session = Callable[[np.ndarray], np.ndarray]  # images [B, C, H, W] -> outputs, float32


class Runtime(Protocol):
    """Builds networks for one runtime on a fixed number of threads."""

    name: str
    threads: int

    def version(self) -> str:
        """The runtime's own version."""

    def compile(self, module: "nn.Module", shape: Shape) -> bytes:
        """The module for inputs of [1, *shape], in the runtime's own form."""

    def load(self, compiled: bytes) -> Session:
        """A session that is ready to run."""


class OnnxRuntime:
    """ONNX Runtime on the CPU."""

    name = "onnxruntime"

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def version(self) -> str:
        import onnxruntime

        return onnxruntime.__version__

    def compile(self, module: "nn.Module", shape: Shape) -> bytes:
        from search.onnx_graph import to_onnx

        return to_onnx(module, shape, batch=1).SerializeToString()

    def load(self, compiled: bytes) -> Session:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(compiled, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return lambda images: session.run(None, {name: images})[0]


RUNTIMES: dict[str, Callable[[int], Runtime]] = {OnnxRuntime.name: OnnxRuntime}


def runtime(name: str, threads: int) -> Runtime:
    """The adapter of that name.

    Raises:
        UserError: there is none, or not that many threads.
    """
    if name not in RUNTIMES:
        raise UserError(f"a runtime is one of {', '.join(RUNTIMES)}, not {name!r}")
    cores = os.cpu_count() or 1
    if not 1 <= threads <= cores:
        raise UserError(f"threads must be from 1 to this machine's {cores}, but got {threads}")
    return RUNTIMES[name](threads)
