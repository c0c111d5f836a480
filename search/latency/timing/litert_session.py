"""Networks in LiteRT (TensorFlow Lite) on the CPU."""

from __future__ import annotations

import time
from importlib.util import find_spec

import numpy as np


def litert():
    """LiteRT's package and its interpreter; where there is none, of the name that it had before: `tflite_runtime`."""
    if find_spec("ai_edge_litert") is None and find_spec("tflite_runtime") is not None:
        import tflite_runtime as package
        from tflite_runtime.interpreter import Interpreter
    else:
        import ai_edge_litert as package
        from ai_edge_litert.interpreter import Interpreter
    return package, Interpreter


class LiteRtSession:
    """A network on the CPU, ready to run. Images and maps are [B, C, H, W] outside and [B, H, W, C] inside; the change
    is not timed.

    Args:
        model: a .tflite file's content, with one input and one output.
    """

    runtime, package, suffix = "litert", "ai-edge-litert", "tflite"
    install = "pip install ai-edge-litert numpy  # where that has no wheel: pip install tflite-runtime 'numpy<2'"

    def __init__(self, model: bytes, threads: int) -> None:
        self._interpreter = litert()[1](model_content=model, num_threads=threads)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]

    @staticmethod
    def version() -> str:
        package = litert()[0]
        earlier = f"{package.__name__} " if package.__name__ == "tflite_runtime" else ""  # it counts its own versions
        return earlier + package.__version__

    def __call__(self, images):
        """images [B, C, H, W] -> outputs"""
        self._place(images)
        self._interpreter.invoke()
        output = self._interpreter.get_tensor(self._output)
        return np.ascontiguousarray(output.transpose(0, 3, 1, 2)) if output.ndim == 4 else output

    def timer(self, images):
        """A function that runs the network once and returns its nanoseconds."""
        invoke = self._interpreter.invoke

        def once() -> int:
            self._place(images)  # another timer of this session may have placed its own
            start = time.perf_counter_ns()
            invoke()
            return time.perf_counter_ns() - start

        return once

    def _place(self, images) -> None:
        self._interpreter.set_tensor(self._input, np.ascontiguousarray(images.transpose(0, 2, 3, 1)))
