"""Accuracy: of a network on a split, and of a supernet's slice with its batch norm recalibrated."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ghostnet.arch import Arch
from ghostnet.network import GhostNet
from ghostnet.supernet import Supernet
from search.accuracy.predictor import Correction
from search.data.datasets import Data, Split, resized
from search.data.encoded import EncodedSplit
from search.training.distributed import best_device


@torch.no_grad()
def accuracy(net: nn.Module, data: Data, split: Split | EncodedSplit, resolution: int | None = None) -> float:
    """Top-1 accuracy in [0, 1], in evaluation mode, on the network's own device; `resolution` if not the data's."""
    device = next(net.parameters()).device
    was = net.training
    net.eval()
    right = 0
    for images, labels in data.batches(split.to(device)):
        right += int((net(resized(images, resolution)).argmax(1) == labels).sum())
    net.train(was)
    return right / len(split)


def recalibrate(net: nn.Module, data: Data, resolution: int | None = None) -> None:
    """Re-estimates the norms' statistics over the calibration split: inherited ones belong to no network in particular
    (Yu and Huang, ICCV 2019)."""
    device = next(net.parameters()).device
    estimate_norms(net, (resized(images, resolution) for images, _ in data.batches(data.calibration.to(device))))


@torch.no_grad()
def estimate_norms(net: nn.Module, batches: Iterable[Tensor]) -> None:
    """Gives every norm the mean and the variance of all that it is shown, however it falls into batches.

    Meanwhile they normalise by batch, as in training, and the rest of the network is as in evaluation. A batch weighs
    as much as it has values, and the distance of its mean from the mean of all adds to their variance.

    Args:
        batches: normalised images [B, C, H, W], on the network's device.
    """
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    seen: dict[nn.Module, list[Tensor]] = {norm: [] for norm in norms}

    def note(norm: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        mean, variance = norm.running_mean.double(), norm.running_var.double()  # type: ignore[union-attr,operator]
        seen[norm].append(torch.stack([torch.full_like(mean, inputs[0].numel() / len(mean)), mean, variance]))

    was, momenta = net.training, [norm.momentum for norm in norms]
    net.eval()
    hooks = [norm.register_forward_hook(note) for norm in norms]
    for norm in norms:
        norm.train().reset_running_stats()
        norm.momentum = 1.0  # running statistics are those of the last batch
    try:
        for images in batches:
            net(images)
    finally:
        net.train(was)
        for norm, momentum, hook in zip(norms, momenta, hooks, strict=True):
            hook.remove()
            norm.momentum = momentum
    for norm, parts in seen.items():
        if parts:
            mean, variance = pooled(*torch.stack(parts, 1))
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(variance)


def pooled(counts: Tensor, means: Tensor, variances: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [C] and unbiased variance [C] of several samples taken together, from each one's: [samples, C]."""
    total = counts.sum(0)
    mean = (counts * means).sum(0) / total
    squares = ((counts - 1) * variances + counts * (means - mean) ** 2).sum(0)
    return mean, squares / (total - 1)


class InheritedAccuracy:
    """Accuracy on the search split of sub-networks with the supernet's weights."""

    def __init__(self, supernet: Supernet, data: Data) -> None:
        self.supernet, self.data = supernet.eval(), data

    def settle_in(self) -> None:
        """Moves to this process's GPU, if it has one."""
        self.supernet.to(best_device())

    def network(self, arch: Arch) -> GhostNet:
        """The sub-network as it is evaluated: extracted and recalibrated."""
        net = self.supernet.extract(arch).to(memory_format=torch.channels_last)
        recalibrate(net, self.data, arch.resolution)
        return net

    def __call__(self, arch: Arch) -> float:
        return accuracy(self.network(arch), self.data, self.data.search, arch.resolution)


class ExpectedAccuracy:
    """Accuracy on the search split that sub-networks are expected to have once they are trained; with it, the one that
    they inherit."""

    def __init__(self, inherited: InheritedAccuracy, correct: Correction) -> None:
        self.inherited, self.correct = inherited, correct

    def settle_in(self) -> None:
        """Moves to this process's GPU, if it has one."""
        self.inherited.settle_in()

    def __call__(self, arch: Arch) -> dict[str, float]:
        inherited = self.inherited(arch)
        return {"accuracy": self.correct(arch, inherited), "inherited": inherited}
