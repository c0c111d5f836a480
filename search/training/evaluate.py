"""Accuracy: of a network on a split, and of a supernet's slice with its batch norm recalibrated."""

from collections.abc import Iterable, Iterator
from functools import cached_property

import torch
from torch import Tensor, nn

from ghostnet.arch import Arch
from ghostnet.inference import evaluating, for_inference, images_at_once
from ghostnet.network import GhostNet
from ghostnet.resize import resized
from ghostnet.source import WeightSource
from ghostnet.supernet import Supernet
from search.data.datasets import Data
from search.data.encoded import EncodedSplit
from search.data.splits import Split
from search.data.transforms import Augment
from search.recipes.schema import Training
from search.training.distributed import best_device

SEED = 0  # of the augmentation under which norms are recalibrated


def accuracy(net: nn.Module, data: Data, split: Split | EncodedSplit, resolution: int | None = None) -> float:
    """Top-1 accuracy in [0, 1], in evaluation mode, on the network's own device; `resolution` if not the data's."""
    answers = predictions(net, data, split, resolution)
    return int((answers == split.labels.to(answers.device)).sum()) / len(split)


def predictions(net: nn.Module, data: Data, split: Split | EncodedSplit, resolution: int | None = None) -> Tensor:
    """The classes that a network takes a split's images for, [N], as `accuracy` has it."""
    return torch.cat([outputs.argmax(1) for outputs in _outputs(net, data, split, resolution)])


def logits(net: nn.Module, data: Data, split: Split | EncodedSplit, resolution: int | None = None) -> Tensor:
    """What a network puts out for a split's images, [N, classes], as `accuracy` has it."""
    return torch.cat(list(_outputs(net, data, split, resolution)))


@torch.no_grad()
def _outputs(net: nn.Module, data: Data, split: Split | EncodedSplit, resolution: int | None) -> Iterator[Tensor]:
    with evaluating(net):
        running = for_inference(net)
        for images, _ in data.batches(split.to(next(net.parameters()).device)):
            shown = resized(images, resolution)
            for part in shown.split(images_at_once(shown)):
                yield running(part)


def recalibrate(net: nn.Module, data: Data, config: Training, resolution: int | None = None) -> None:
    """Re-estimates the norms' statistics over the calibration split: inherited ones belong to no network in particular
    (Yu and Huang, ICCV 2019). The images are augmented as in the training of the weights, by the same seed for every
    network, so that norms expect what the layers behind them were trained on.

    Args:
        config: how the weights were trained.
        resolution: if not the data's.
    """
    augment = Augment(data, config)
    _recalibrate(net, augment, augment.fixed(data.calibration, SEED), resolution)


def _recalibrate(net: nn.Module, augment: Augment, calibration: Split, resolution: int | None) -> None:
    calibration = calibration.to(next(net.parameters()).device)
    estimate_norms(net, (resized(images, resolution) for images in augment.batches(calibration, SEED)))


@torch.no_grad()
def estimate_norms(net: nn.Module, batches: Iterable[Tensor]) -> None:
    """Gives every norm the mean and the variance of all its inputs, however they are divided into batches.

    Meanwhile they normalise by batch, as in training, and the rest of the network is as in evaluation. A batch weighs
    as much as it has values, and the distance of its mean from the mean of all adds to their variance.

    Args:
        batches: normalised images [B, C, H, W], on the network's device.
    """
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    seen: dict[nn.Module, list[Tensor]] = {norm: [] for norm in norms}  # count, mean and variance, batch by batch

    def note(norm: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        mean, variance = (buffer.double() for buffer in statistics(norm))
        seen[norm].append(torch.stack([torch.full_like(mean, inputs[0].numel() / len(mean)), mean, variance]))

    momenta = [norm.momentum for norm in norms]
    hooks = [norm.register_forward_hook(note) for norm in norms]
    try:
        with evaluating(net):
            for norm in norms:
                norm.train().reset_running_stats()
                norm.momentum = 1.0  # running statistics are those of the last batch
            for images in batches:
                net(images)
    finally:
        for norm, momentum, hook in zip(norms, momenta, hooks, strict=True):
            hook.remove()
            norm.momentum = momentum
    for module, samples in seen.items():
        if samples:
            for buffer, value in zip(statistics(module), pooled(*torch.stack(samples, 1)), strict=True):
                buffer.copy_(value)


def statistics(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """A norm's running mean and variance."""
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
    return norm.running_mean, norm.running_var


def pooled(counts: Tensor, means: Tensor, variances: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [C] and unbiased variance [C] of several samples taken together, from each one's: [samples, C]."""
    total = counts.sum(0)
    mean = (counts * means).sum(0) / total
    squares = ((counts - 1) * variances + counts * (means - mean) ** 2).sum(0)
    return mean, squares / (total - 1)


class InheritedAccuracy:
    """Accuracy on the search split of networks with the weights that a supernet gives them, trained by `config`."""

    def __init__(self, supernet: WeightSource, data: Data, config: Training) -> None:
        self.supernet, self.data, self.config = supernet, data, config

    @cached_property
    def _calibration(self) -> Split:
        """Drawn once: all networks see the same images."""
        return Augment(self.data, self.config).fixed(self.data.calibration, SEED)

    def prepare(self) -> None:
        """Moves to this process's GPU, if it has one. Transplants are where their parent was when they were made."""
        if isinstance(self.supernet, Supernet):
            self.supernet.to(best_device())

    def network(self, arch: Arch) -> GhostNet:
        """The network as it is evaluated. An elastic supernet's norms belong to no network in particular and are
        re-estimated; a transplant's were fitted with it."""
        net = self.supernet.extract(arch).eval().to(memory_format=torch.channels_last)
        if not isinstance(self.supernet, Supernet):
            return net
        _recalibrate(net, Augment(self.data, self.config), self._calibration, arch.resolution)
        return net

    def __call__(self, arch: Arch) -> float:
        return accuracy(self.network(arch), self.data, self.data.search, arch.resolution)
