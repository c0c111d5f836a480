"""PyTorch itself, eager: the network as it stands, on the CPU and on CUDA. Compiling takes too long to calibrate by."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from search.latency.runtimes.base import Adapter, CpuSession, Dtype, Session, Shape

if TYPE_CHECKING:
    from torch import nn

    from search.graphs.lowering import Lowering


class TorchCpu(Adapter):
    """On the CPU."""

    name = "torch-cpu"
    package = "torch"
    lowerings: ClassVar[dict[Dtype, "Lowering"]] = {"float32": "repeated"}  # on CUDA by analogy: not measured there yet

    def version(self) -> str:
        import torch

        return str(torch.__version__)

    def compile(self, module: "nn.Module", shape: Shape, batch: int = 1) -> bytes:
        """The module, pickled: for `load` in a process of ours, not a format to hand around."""
        import torch

        from search.graphs.lowering import lower_module

        content = io.BytesIO()
        torch.save(lower_module(module, self.lowering).eval(), content)
        return content.getvalue()

    def load(self, compiled: bytes) -> Session:
        import torch

        net = _network(compiled)

        def run(images: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                return net(torch.from_numpy(images)).numpy()

        return _Threaded(run, self.threads)


class _Threaded(CpuSession):
    """PyTorch has one number of threads for the whole process: it is ours only while the session runs.

    Its OpenMP threads spin: more than one of them on a busy machine can be ten times slower than one. The environment
    variable OMP_WAIT_POLICY=PASSIVE, read when PyTorch is loaded, avoids that at some price on a quiet one.
    """

    def __init__(self, run: Callable[[np.ndarray], np.ndarray], threads: int) -> None:
        super().__init__(run)
        self._threads = threads

    def __call__(self, images: np.ndarray) -> np.ndarray:
        with torch_threads(self._threads):
            return super().__call__(images)

    def timer(self, images: np.ndarray) -> Callable[[], int]:
        timed = super().timer(images)

        def once() -> int:
            with torch_threads(self._threads):
                return timed()

        return once


class TorchCuda(TorchCpu):
    """On the current GPU, in true float32 (no TF32)."""

    name = "torch-cuda"
    on_gpu: ClassVar[bool] = True

    @classmethod
    def missing(cls) -> str | None:
        if (why := super().missing()) is not None:
            return why
        import torch

        if torch.cuda.is_available():
            return None
        return f"the runtime {cls.name} needs a CUDA device, and PyTorch finds none here"

    def version(self) -> str:
        import torch

        return f"{torch.__version__} cudnn {torch.backends.cudnn.version()}"

    def load(self, compiled: bytes) -> Session:
        return _CudaSession(_network(compiled).cuda())


class _CudaSession:
    def __init__(self, net: "nn.Module") -> None:
        self._net = net

    def __call__(self, images: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode(), _float32():
            return self._net(torch.from_numpy(images).cuda()).cpu().numpy()

    def timer(self, images: np.ndarray) -> Callable[[], int]:
        import torch

        net, placed = self._net, torch.from_numpy(images).cuda()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

        def once() -> int:
            with torch.inference_mode(), _float32():
                torch.cuda.synchronize()
                start.record()
                net(placed)
                end.record()
                end.synchronize()
            return max(1, round(1e6 * start.elapsed_time(end)))  # milliseconds, to half a microsecond

        return once


def _network(compiled: bytes) -> "nn.Module":
    import torch

    return torch.load(io.BytesIO(compiled), weights_only=False)  # what `compile` made just now, nobody else's


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """PyTorch with so many threads, meanwhile."""
    import torch

    before = torch.get_num_threads()
    if before != count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if before != count:
            torch.set_num_threads(before)


@contextmanager
def _float32() -> Iterator[None]:
    """Convolutions without TF32, which PyTorch allows unless told otherwise; matrix products are without it anyway."""
    from torch.backends import cudnn

    before = cudnn.allow_tf32
    cudnn.allow_tf32 = False
    try:
        yield
    finally:
        cudnn.allow_tf32 = before
