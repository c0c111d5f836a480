"""Accuracy: of a network on a split, and of a supernet's slice with its batch norm recalibrated."""

import torch
from torch import nn

from ghostnet.arch import Arch
from ghostnet.network import GhostNet
from ghostnet.supernet import Supernet
from search.accuracy.predictor import Correction
from search.data.datasets import Data, Split, resized
from search.data.image_folder import Folder
from search.training.distributed import best_device


@torch.no_grad()
def accuracy(net: nn.Module, data: Data, split: Split | Folder, resolution: int | None = None) -> float:
    """Top-1 accuracy in [0, 1], in evaluation mode, on the network's own device; `resolution` if not the data's."""
    device = next(net.parameters()).device
    was = net.training
    net.eval()
    right = 0
    for images, labels in data.batches(split.to(device)):
        right += int((net(resized(images, resolution)).argmax(1) == labels).sum())
    net.train(was)
    return right / len(split)


@torch.no_grad()
def recalibrate(net: nn.Module, data: Data, resolution: int | None = None) -> None:
    """Re-estimates the norms' statistics over the calibration split: inherited ones belong to no network in particular
    (Yu and Huang, ICCV 2019)."""
    device = next(net.parameters()).device
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over batches
    was = net.training
    net.train()
    for images, _ in data.batches(data.calibration.to(device)):
        net(resized(images, resolution))
    net.train(was)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


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
