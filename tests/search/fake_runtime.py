"""A runtime whose latencies follow a known law: an oracle for calibrations."""

from collections.abc import Callable

import numpy as np
from torch import nn

from ghostnet.network import GhostNet
from search.latency.runtimes.base import Adapter

RNG = np.random.default_rng(0)
HOT = 0.8  # units alone take less than in a network
OVERHEAD_NS = 20_000


class FakeRuntime(Adapter):
    """Nanoseconds are ten a parameter, times the batch; whole networks take more than their units' sum."""

    name = "law"
    package = "numpy"
    on_gpu = True  # as far as memory goes
    noise = 0.0

    def version(self) -> str:
        return "1"

    def compile(self, module: nn.Module, shape: tuple[int, int, int], batch: int = 1) -> bytes:
        params = sum(p.numel() for p in module.parameters())
        whole = isinstance(module, GhostNet)
        return str(int(batch * 10 * params / (HOT if whole else 1) + OVERHEAD_NS * whole)).encode()

    def load(self, compiled: bytes) -> "FakeSession":
        return FakeSession(int(compiled), self.noise)


class FakeSession:
    def __init__(self, ns: int, noise: float) -> None:
        self.ns, self.noise = ns, noise

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return images

    def timer(self, images: np.ndarray) -> Callable[[], int]:
        return lambda: int(self.ns * (1 + self.noise * abs(RNG.standard_normal())))
