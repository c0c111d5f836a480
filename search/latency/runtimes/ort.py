"""ONNX Runtime, on the CPU and on CUDA."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from search.latency.runtimes.base import Adapter, Dtype, Session, Shape, StandaloneSession
from search.latency.timing.onnx_session import OnnxSession, open_onnx

if TYPE_CHECKING:
    from torch import nn

    from search.graphs.lowering import Lowering


def onnx_file(run: Adapter, module: "nn.Module", shape: Shape, batch: int) -> bytes:
    """Our graph of a module, in that runtime's data type and lowering.

    At int8 the ranges of its activations are read on noise, which serves timing, not accuracy.
    """
    from search.graphs.onnx_graph import to_onnx
    from search.graphs.quantise import quantise_model, random_images

    model = to_onnx(module, shape, batch, run.lowering)
    if run.dtype == "int8":
        model = quantise_model(model, random_images(shape, batch))
    return model.SerializeToString()


class OnnxRuntime(Adapter):
    """Graphs of ours, as they are exported, on the CPU."""

    name = OnnxSession.runtime
    package = "onnxruntime"
    standalone: ClassVar[type[StandaloneSession] | None] = OnnxSession
    lowerings: ClassVar[dict[Dtype, "Lowering"]] = {"float32": "mixed", "int8": "repeated"}
    exports: ClassVar[dict[Dtype, str]] = {"float32": "onnx", "int8": "onnx-int8"}

    def version(self) -> str:
        return OnnxSession.version()

    def compile(self, module: "nn.Module", shape: Shape, batch: int = 1) -> bytes:
        """An ONNX file."""
        return onnx_file(self, module, shape, batch)

    def load(self, compiled: bytes) -> Session:
        return OnnxSession(compiled, self.threads)


class OnnxRuntimeCuda(OnnxRuntime):
    """The same graphs on the first GPU, in true float32."""

    name = "onnxruntime-cuda"
    standalone = None
    on_gpu: ClassVar[bool] = True
    lowerings: ClassVar[dict[Dtype, "Lowering"]] = {"float32": "split"}
    exports: ClassVar[dict[Dtype, str]] = {}

    @classmethod
    def missing(cls) -> str | None:
        if (why := super().missing()) is not None:
            return why
        import onnxruntime

        if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            return None
        return f"the runtime {cls.name} needs ONNX Runtime's CUDA provider (the package onnxruntime-gpu) and a GPU"

    def load(self, compiled: bytes) -> Session:
        return _CudaSession(open_onnx(compiled, self.threads, [("CUDAExecutionProvider", {"use_tf32": "0"})]))


class _CudaSession:
    """Images and outputs stay on the GPU while it is timed."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._input, self._output = session.get_inputs()[0].name, session.get_outputs()[0].name

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self._session.run(None, {self._input: images})[0]

    def timer(self, images: np.ndarray) -> Callable[[], int]:
        import onnxruntime

        session, binding = self._session, self._session.io_binding()
        binding.bind_ortvalue_input(self._input, onnxruntime.OrtValue.ortvalue_from_numpy(images, "cuda", 0))
        binding.bind_output(self._output, "cuda", 0)

        def once() -> int:
            binding.synchronize_inputs()
            start = time.perf_counter_ns()
            session.run_with_iobinding(binding)
            binding.synchronize_outputs()  # ONNX Runtime keeps its stream to itself, so no events of ours on it
            return time.perf_counter_ns() - start

        return once
