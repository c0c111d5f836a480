"""Torch-Pruning (Fang et al., CVPR 2023) applied to a trained GhostNet: the pruner that transplants are compared with.

It removes channels, with all that depends on them, and keeps the weights of the others. Cheap operations are shown to
it as the depthwise convolutions that they are at s = 2, and turned back, so that a pruned network is timed as the same
graph as any other.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ghostnet import GhostNet
from ghostnet.count import count
from ghostnet.modules import CheapConv
from search.data.datasets import Data
from search.recipes.schema import Training
from search.training.evaluate import accuracy, recalibrate

TAYLOR_IMAGES = 500  # whose loss says what a channel is worth, anew in each step
STEPS = 50  # from the whole parent to `MOST` of each layer's channels gone, or to the smallest size asked for
MOST = 0.95


@dataclass(frozen=True, slots=True)
class Setting:
    """How Torch-Pruning ranks channels: by which importance, and over all layers or in each."""

    importance: str
    over_all: bool

    def __str__(self) -> str:
        return f"{self.importance}, {'over all layers' if self.over_all else 'in each layer'}"


SETTINGS = [Setting(*each) for each in product(("magnitude", "taylor"), (False, True))]


class Pruner:
    """Prunes copies of a parent of s = 2.

    Args:
        config: how the parent was trained; by images like those its norms are estimated again after pruning.
    """

    def __init__(self, parent: GhostNet, data: Data, config: Training) -> None:
        self.parent, self.data, self.config = parent.eval(), data, config
        side = parent.arch.resolution
        self.shape = (data.in_chs, side, side)

    def start(self, net: nn.Module) -> float:
        """A network's accuracy on the search split."""
        return accuracy(net, self.data, self.data.search)

    def best_setting(self, sizes: Sequence[int]) -> Setting:
        """The setting whose networks of these multiply-adds are, not trained further, the most accurate on the search
        split on average."""

        def worth(setting: Setting) -> float:
            nets = self.prune(sizes, setting)
            return sum(map(self.start, nets)) / len(nets) if len(nets) == len(sizes) else 0.0

        return max(SETTINGS, key=worth)

    def prune(self, sizes: Sequence[int], setting: Setting) -> list[GhostNet]:
        """Step by step, and copied where it first has no more than so many multiply-adds; norms are estimated again.

        Args:
            sizes: from large to small. Those that it doesn't come down to are missing.
        """
        import torch_pruning as tp  # the extra `study`

        net = with_depthwise_convolutions(copy.deepcopy(self.parent))
        importances = {
            "magnitude": tp.importance.GroupMagnitudeImportance,
            "taylor": tp.importance.GroupTaylorImportance,
        }
        pruner = tp.pruner.BasePruner(
            net,
            torch.zeros(1, *self.shape),
            importance=importances[setting.importance](),
            global_pruning=setting.over_all,
            pruning_ratio=MOST,
            max_pruning_ratio=MOST,
            iterative_steps=STEPS,
            ignored_layers=[net.classifier],
        )
        pruned: list[GhostNet] = []
        for _ in range(STEPS):
            if setting.importance == "taylor":
                self._fill_gradients(net)
            pruner.step()
            net.zero_grad()
            while len(pruned) < len(sizes) and count(net, self.shape).macs <= sizes[len(pruned)]:
                pruned.append(with_cheap_convolutions(copy.deepcopy(net)))
                recalibrate(pruned[-1], self.data, self.config)
            if len(pruned) == len(sizes):
                break
        return pruned

    def _fill_gradients(self, net: nn.Module) -> None:
        images, labels = self.data.calibration.images[:TAYLOR_IMAGES], self.data.calibration.labels[:TAYLOR_IMAGES]
        F.cross_entropy(net(self.data.normalise(images)), labels).backward()


def with_depthwise_convolutions(net: GhostNet) -> GhostNet:
    """The same network, changed in place, its cheap operations as ordinary depthwise convolutions."""

    def depthwise(cheap: CheapConv) -> nn.Module:
        if cheap.in_chs != cheap.out_chs:
            raise ValueError(f"only a cheap operation with a ghost for each primary is one: {cheap}")
        conv = nn.Conv2d(
            cheap.in_chs, cheap.out_chs, cheap.kernel, 1, cheap.kernel // 2, groups=cheap.in_chs, bias=False
        )
        conv.weight.data.copy_(cheap.weight.data)
        return conv

    return _replaced(net, CheapConv, depthwise)


def with_cheap_convolutions(net: GhostNet) -> GhostNet:
    """What `with_depthwise_convolutions` did is undone, also after pruning."""

    def cheap(conv: nn.Conv2d) -> nn.Module:
        module = CheapConv(conv.in_channels, conv.out_channels, conv.kernel_size[0])
        module.weight.data.copy_(conv.weight.data)
        return module

    return _replaced(net, nn.Conv2d, cheap)


def _replaced(net: GhostNet, kind: type, change: Callable[[Any], nn.Module]) -> GhostNet:
    for name, module in list(net.named_modules()):
        if name.endswith("cheap_operation") and isinstance(module, nn.Sequential) and isinstance(module[0], kind):
            module[0] = change(module[0])
    return net
