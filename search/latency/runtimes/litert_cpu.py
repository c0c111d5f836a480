"""LiteRT (TensorFlow Lite) on the CPU, by XNNPACK: the runtime of most phones."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from search.latency.runtimes.base import Adapter, Dtype, Session, Shape

if TYPE_CHECKING:
    from torch import nn

    from search.graphs.lowering import Lowering


class LiteRt(Adapter):
    """`.tflite` files of ours (search/graphs/tflite_builder.py), or anyone's with one input and one output."""

    name = "litert"
    package = "ai_edge_litert"
    extra = "litert"
    lowerings: ClassVar[dict[Dtype, "Lowering"]] = {"float32": "repeated"}

    def version(self) -> str:
        import ai_edge_litert

        return ai_edge_litert.__version__

    def compile(self, module: "nn.Module", shape: Shape, batch: int = 1) -> bytes:
        from search.graphs.onnx_graph import to_tflite

        return to_tflite(module, shape, batch, self.lowering)

    def load(self, compiled: bytes) -> Session:
        return _Session(compiled, self.threads)


class _Session:
    """Images and maps are [B, C, H, W] outside and [B, H, W, C] inside; the change is not timed."""

    def __init__(self, compiled: bytes, threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_content=compiled, num_threads=threads)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self._place(images)
        self._interpreter.invoke()
        output = self._interpreter.get_tensor(self._output)
        return np.ascontiguousarray(output.transpose(0, 3, 1, 2)) if output.ndim == 4 else output

    def timer(self, images: np.ndarray) -> Callable[[], int]:
        invoke = self._interpreter.invoke

        def once() -> int:
            self._place(images)  # another timer of this session may have placed its own
            start = time.perf_counter_ns()
            invoke()
            return time.perf_counter_ns() - start

        return once

    def _place(self, images: np.ndarray) -> None:
        self._interpreter.set_tensor(self._input, np.ascontiguousarray(images.transpose(0, 2, 3, 1)))
