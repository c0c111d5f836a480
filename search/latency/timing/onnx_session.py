"""Networks in ONNX Runtime, and where their threads are while they are timed."""

from __future__ import annotations

import os
import time

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # from 1.29 on ONNX Runtime would tell its makers of every session


def open_onnx(model, threads, providers=("CPUExecutionProvider",)):
    """ONNX Runtime's session of a file's content.

    Several threads spin, as ONNX Runtime has it by default: those that sleep must be woken in every layer, and two of
    them took longer than one. But they spin in a run only, to leave the cores to others between. Each has its own core.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if threads > 1 else "0")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if threads > 1 and len(_cores()) >= threads:  # the first is the caller's; ONNX Runtime counts from 1
        others = ";".join(str(core + 1) for core in _cores()[1:threads])
        options.add_session_config_entry("session.intra_op_thread_affinities", others)
    return onnxruntime.InferenceSession(model, options, providers=list(providers))


class OnnxSession:
    """A network on the CPU, ready to run.

    Args:
        model: an ONNX file's content.
    """

    runtime, package, suffix = "onnxruntime", "onnxruntime", "onnx"
    install = "pip install onnxruntime numpy"

    def __init__(self, model: bytes, threads: int) -> None:
        self._session = open_onnx(model, threads)
        self._input = self._session.get_inputs()[0].name
        self._cores = _cores() if threads > 1 and len(_cores()) >= threads else []

    @staticmethod
    def version() -> str:
        import onnxruntime

        return onnxruntime.__version__

    def __call__(self, images):
        """images [B, C, H, W] -> outputs"""
        return self._session.run(None, {self._input: images})[0]

    def timer(self, images):
        """A function that runs the network once and returns its nanoseconds."""
        run, given, cores = self._session.run, {self._input: images}, self._cores

        def once() -> int:
            if cores:
                os.sched_setaffinity(0, cores[:1])
            try:
                start = time.perf_counter_ns()
                run(None, given)
                return time.perf_counter_ns() - start
            finally:
                if cores:  # whoever starts threads next must not start them all on this core
                    os.sched_setaffinity(0, cores)

        return once


def _cores() -> list:
    """Those that this process may use, where the system tells."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
