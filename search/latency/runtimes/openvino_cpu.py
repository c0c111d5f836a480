"""OpenVINO on the CPU.

Its int8 networks are the ones that we quantise for ONNX Runtime: OpenVINO runs all their convolutions in int8. Its own
quantiser (nncf) left 41 of GhostNet's 95 in float32, took twice as long to make the network, and that one was slower.
"""

import io
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from search.latency.runtimes.base import Adapter, CpuSession, Dtype, Session, Shape
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
        return _session(_core().import_model(compiled, "CPU", self._options()))

    def load_ir(self, path: Path) -> Session:
        """A session of a network in OpenVINO's IR: of a `.xml` file, with the `.bin` beside it."""
        return _session(_core().compile_model(path, "CPU", self._options()))

    def _options(self) -> dict[str, str | int]:
        return {
            "INFERENCE_PRECISION_HINT": "f32",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": self.threads,
            "ENABLE_CPU_PINNING": False,  # the timing sees to the cores
        }


def _session(compiled: Any) -> Session:
    """A session of a compiled model. Its outputs lie in the runtime's memory, until the next call."""
    request = compiled.create_infer_request()

    def run(images: np.ndarray) -> np.ndarray:
        return request.infer([images], share_inputs=True)[0]

    return CpuSession(run)


@cache
def _core() -> Any:
    """OpenVINO itself; its plugins take a while to load."""
    import openvino

    return openvino.Core()
