"""What training takes here: a few steps are timed on a network with any weights, on noise."""

import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from ghostnet.arch import Arch
from ghostnet.cost import cost
from ghostnet.inference import for_inference, images_at_once
from ghostnet.network import GhostNet
from search.data.datasets import SplitSizes
from search.recipes.schema import Training
from search.training.cuda_graph import passes
from search.training.loop import autocast_dtype
from search.training.optimizer import create_optimizer

STEPS = 3  # that are timed, after one that is not
TIMED_MACS = 2_000_000_000  # of the batch of a timed step, so that none takes long
FLOAT = 4  # bytes


class StepTimes:
    """The costs of trainings on a data set's images, on a device."""

    def __init__(self, sizes: SplitSizes, device: torch.device) -> None:
        self.sizes, self.device = sizes, device

    def macs(self, arch: Arch) -> int:
        return cost(arch, self.sizes.num_classes, self.sizes.in_chs).macs

    def bytes(self, arch: Arch) -> int:
        """Of its weights."""
        return FLOAT * cost(arch, self.sizes.num_classes, self.sizes.in_chs).params

    def steps(self, config: Training) -> tuple[int, int]:
        """Steps of one training, and the images that they show."""
        sizes = self.sizes
        images = sizes.train + (sizes.calibration + sizes.search) * config.use_held_out
        steps = config.steps(max(1, images // config.batch_size))
        return steps, steps * min(config.batch_size, images)

    def step_seconds(self, arch: Arch, config: Training, teacher: Arch | None = None) -> float:
        """Of one step on one network, timed on fewer images where a batch takes long; of asking a teacher, too."""
        whole = min(config.batch_size, self.sizes.train)
        batch = max(2, min(whole, TIMED_MACS // (3 * self.macs(arch))))
        net = GhostNet(arch, self.sizes.num_classes, self.sizes.in_chs).to(self.device)
        net = net.to(memory_format=torch.channels_last).train()
        optimizer, precision = create_optimizer(net, config), autocast_dtype(config, self.device)
        images = self.noise(batch, arch.resolution)
        labels = torch.zeros(batch, dtype=torch.int64, device=self.device)

        through = passes(net, lambda images, labels: F.cross_entropy(net(images), labels), config, self.device)

        def step() -> None:
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(self.device.type, precision, enabled=precision is not None):
                loss = through(images, labels)
            if isinstance(loss, torch.Tensor):
                loss.backward()
            optimizer.step()

        asking = self.look_seconds(teacher, whole) if teacher else 0.0
        return self.seconds(step) * whole / batch + asking

    def look_seconds(self, arch: Arch, count: int) -> float:
        """Of showing so many images to a network, as it is evaluated; timed on fewer where these take long."""
        net = GhostNet(arch, self.sizes.num_classes, self.sizes.in_chs).to(self.device).eval()
        running = for_inference(net.to(memory_format=torch.channels_last))
        at_once = images_at_once(self.noise(1, arch.resolution))
        images = self.noise(max(1, min(count, at_once, TIMED_MACS // self.macs(arch))), arch.resolution)
        with torch.no_grad():
            return self.seconds(lambda: running(images)) * count / len(images)

    def noise(self, count: int, side: int) -> torch.Tensor:
        """Images [count, C, side, side]"""
        images = torch.randn(count, self.sizes.in_chs, side, side, device=self.device)
        return images.contiguous(memory_format=torch.channels_last)

    def seconds(self, work: Callable[[], object]) -> float:
        """The middle of some, after one that warms up."""
        times = []
        for _ in range(STEPS + 1):
            start = time.monotonic()
            work()
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            times.append(time.monotonic() - start)
        return statistics.median(times[1:])
