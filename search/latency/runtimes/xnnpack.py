"""ExecuTorch on the CPU, by XNNPACK. Half a minute a network to compile: for final timing, not for calibration."""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from search.latency.runtimes.base import Adapter, CpuSession, Dtype, Session, Shape

if TYPE_CHECKING:
    from torch import nn

    from search.graphs.lowering import Lowering


class ExecuTorch(Adapter):
    """`.pte` programs for a fixed batch."""

    name = "executorch"
    package = "executorch"
    extra = "executorch"
    lowerings: ClassVar[dict[Dtype, "Lowering"]] = {"float32": "repeated"}
    exports: ClassVar[dict[Dtype, str]] = {"float32": "executorch"}

    def version(self) -> str:
        from executorch.version import __version__

        return __version__

    def preload(self) -> None:
        with _quiet():
            from executorch.extension.pybindings import portable_lib  # noqa: F401

    def compile(self, module: "nn.Module", shape: Shape, batch: int = 1) -> bytes:
        import torch

        from search.graphs.lowering import lower_module

        with _quiet():
            from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
            from executorch.exir import to_edge_transform_and_lower

            # As they stand, XNNPACK leaves cheap ops to ExecuTorch's slow reference kernels.
            net = lower_module(module, self.lowering).eval()
            program = torch.export.export(net, (torch.zeros(batch, *shape),))
            edge = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
            return bytes(edge.to_executorch().buffer)

    def load(self, compiled: bytes) -> Session:
        return _Session(compiled, self.threads)


class _Session(CpuSession):
    """XNNPACK's threads are one pool for the whole process, and a method keeps the pool that it was loaded with: before
    a session runs on another number of threads than the last one did, the pool is made anew, and the method loaded
    again."""

    pools = 1  # how many pools there have been

    def __init__(self, compiled: bytes, threads: int) -> None:
        super().__init__(self._infer)
        with _quiet():
            from executorch.extension.pybindings import portable_lib
            from executorch.runtime import Runtime

            self._library, self._runtime = portable_lib, Runtime.get()
        self._compiled, self._threads = compiled, threads
        self._method: Any = None
        self._pool = 0
        self._ready()

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self._ready()
        return super().__call__(images)

    def timer(self, images: np.ndarray) -> Callable[[], int]:
        timed = super().timer(images)

        def once() -> int:
            self._ready()
            return timed()

        return once

    def _infer(self, images: np.ndarray) -> np.ndarray:
        import torch

        return self._method.execute([torch.from_numpy(images)])[0].numpy()

    def _ready(self) -> None:
        lib = self._library
        if lib._threadpool_get_thread_count() != self._threads:
            lib._unsafe_reset_threadpool(self._threads)
            _Session.pools += 1
        if self._pool != _Session.pools:
            self._method = self._runtime.load_program(self._compiled).load_method("forward")
            self._pool = _Session.pools


@contextlib.contextmanager
def _quiet() -> Any:
    """Without the converter's chatter."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
