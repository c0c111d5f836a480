"""A training's forward and backward passes as one CUDA graph.

A small network's kernels take less time than their launches, one by one from Python: a step of GhostNet 1.0x at 32 px,
512 images in bfloat16, took 37 ms so and 11 ms as a graph on an H200 (`tests/benchmarks/training_step.py`).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from search.recipes.schema import Training
from search.training.distributed import World

WARM_UP = 3  # passes before the capture, in which libraries choose and allocate what they need; PyTorch's own number
Passes = Callable[[Tensor, Tensor], float | Tensor]  # a `Step` (loop.py) without its random numbers


def passes(
    net: nn.Module, loss_of: Callable[[Tensor, Tensor], Tensor], config: Training, device: torch.device
) -> Passes:
    """A training's passes as it takes them: `loss_of` itself, or as a graph."""
    return GraphedPasses(net, loss_of) if is_graphed(config, device) else loss_of


def is_graphed(config: Training, device: torch.device) -> bool:
    """Whether passes are captured: on a GPU, by one process, where gradients are neither added up nor scaled."""
    alone = World.current().size == config.accumulate == 1
    return device.type == "cuda" and alone and not config.compile and config.amp != "fp16"


class GraphedPasses:
    """A loss of images and targets, and its gradients: captured at the first batch, replayed for all others.

    The batches are of one shape, and gradients are overwritten, not added to. Norms and random numbers are as they
    would be without the capture.

    Args:
        net: whose parameters get the gradients, on a GPU.
        loss_of: images [B, C, H, W] and targets -> the loss; nothing in it may wait for the GPU.
    """

    def __init__(self, net: nn.Module, loss_of: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.net, self.loss_of = net, loss_of
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, images: Tensor, targets: Tensor) -> float:
        """The loss; its gradients are the parameters'."""
        if self._graph is None:
            self._images, self._targets = images.clone(), targets.clone()
            self._graph = self._captured()
        self._images.copy_(images)
        self._targets.copy_(targets)
        self._graph.replay()
        for parameter, gradient in self._gradients:
            parameter.grad = gradient
        return float(self._loss)

    def _captured(self) -> torch.cuda.CUDAGraph:
        before = [buffer.clone() for buffer in self.net.buffers()]
        with torch.random.fork_rng([self._images.device], device_type="cuda"):
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                for _ in range(WARM_UP):
                    self._passes()
            torch.cuda.current_stream().wait_stream(aside)
            self.net.zero_grad(set_to_none=True)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # others may load images meanwhile
                self._loss = self._passes()
        for buffer, value in zip(self.net.buffers(), before, strict=True):
            buffer.copy_(value)
        self._gradients = [(p, p.grad) for p in self.net.parameters() if p.grad is not None]
        return graph

    def _passes(self) -> Tensor:
        precision, enabled = torch.get_autocast_dtype("cuda"), torch.is_autocast_enabled("cuda")
        with torch.autocast("cuda", precision, enabled, cache_enabled=False):  # a cached weight would be replayed, too
            loss = self.loss_of(self._images, self._targets)
        with torch.autocast("cuda", enabled=False):
            loss.backward()
        return loss.detach()
