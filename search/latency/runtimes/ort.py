"""ONNX Runtime on the CPU."""

from typing import TYPE_CHECKING

import numpy as np

from search.latency.runtimes.base import Adapter, CpuSession, Session, Shape

if TYPE_CHECKING:
    from torch import nn


class OnnxRuntime(Adapter):
    """Graphs of ours, as they are exported; one inter-op thread, and none that spins."""

    name = "onnxruntime"
    package = "onnxruntime"

    def version(self) -> str:
        import onnxruntime

        return onnxruntime.__version__

    def compile(self, module: "nn.Module", shape: Shape, batch: int = 1) -> bytes:
        from search.onnx_graph import to_onnx

        return to_onnx(module, shape, batch).SerializeToString()

    def load(self, compiled: bytes) -> Session:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(compiled, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name

        def run(images: np.ndarray) -> np.ndarray:
            return session.run(None, {name: images})[0]

        return CpuSession(run)
