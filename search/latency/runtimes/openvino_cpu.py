"""OpenVINO on the CPU.

Its int8 networks are the ones that we quantise for ONNX Runtime: OpenVINO runs all their convolutions in int8. Its own
quantiser (nncf) left 41 of GhostNet's 95 in float32, took twice as long to make the network, and that one was slower.
"""

import io
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from search.latency.runtimes.base import Adapter, Dtype, Session, Shape
from search.latency.runtimes.ort import onnx_file

if TYPE_CHECKING:
    from torch import nn

    from search.graphs.lowering import Lowering


class OpenVino(Adapter):
    """Our ONNX graphs, compiled by OpenVINO. Left to itself it computes them in bfloat16 where it can."""

    name = "openvino"
    package = "openvino"
    extra = "openvino"
    lowerings: ClassVar[dict[Dtype, "Lowering"]] = {"float32": "repeated", "int8": "repeated"}
    exports: ClassVar[dict[Dtype, str]] = {"float32": "openvino", "int8": "onnx-int8"}

    def version(self) -> str:
        import openvino

        return openvino.__version__

    def compile(self, module: "nn.Module", shape: Shape, batch: int = 1) -> bytes:
        model = _core().read_model(onnx_file(self, module, shape, batch))
        exported = _core().compile_model(model, "CPU", self._options()).export_model()
        return exported.getvalue() if isinstance(exported, io.BytesIO) else exported

    def load(self, compiled: bytes) -> Session:
        return _Session(_core().import_model(compiled, "CPU", self._options()))

    def load_ir(self, path: Path) -> Session:
        """A session of a network in OpenVINO's IR: of a `.xml` file, with the `.bin` beside it."""
        return _Session(_core().compile_model(path, "CPU", self._options()))

    def _options(self) -> dict[str, str | int]:
        return {
            "INFERENCE_PRECISION_HINT": "f32",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": self.threads,
            "ENABLE_CPU_PINNING": False,  # the timing sees to the cores
        }


class _Session:
    """A session of a compiled model."""

    def __init__(self, compiled: Any) -> None:
        self._request = compiled.create_infer_request()

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self._place(images)
        return self._request.infer()[0]  # a copy

    def timer(self, images: np.ndarray) -> Callable[[], int]:
        infer = self._request.infer

        def once() -> int:
            self._place(images)  # which takes Python as long as a small network takes OpenVINO
            start = time.perf_counter_ns()
            infer(share_outputs=True)
            return time.perf_counter_ns() - start

        return once

    def _place(self, images: np.ndarray) -> None:
        import openvino

        self._images = np.ascontiguousarray(images)  # whose memory the tensor is
        self._request.set_input_tensor(openvino.Tensor(self._images, shared_memory=True))


@cache
def _core() -> Any:
    """OpenVINO itself; its plugins take a while to load."""
    import openvino

    return openvino.Core()
