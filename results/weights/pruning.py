"""Torch-Pruning (Fang et al., CVPR 2023) applied to a trained GhostNet: the pruner that transplants are compared with.

It removes the channels of least weight, with all that depends on them, and keeps the others' weights. Cheap operations
are shown to it as the depthwise convolutions that they are at s = 2, and turned back, so that a pruned network is timed
as the same kind of graph as any other.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from ghostnet import GhostNet
from ghostnet.count import count
from ghostnet.modules import CheapConv
from search.data.datasets import Data
from search.recipes.schema import Training
from search.training.evaluate import accuracy, recalibrate

STEPS = 50  # from the whole parent to `MOST` of each layer's channels gone, or to the smallest size asked for
MOST = 0.95


class Pruner:
    """Prunes copies of a parent of s = 2, on the parent's device.

    Args:
        config: how the parent was trained; by images like those its norms are estimated again after pruning.
        multiple: the numbers of channels that are left are multiples of it.
    """

    def __init__(self, parent: GhostNet, data: Data, config: Training, multiple: int) -> None:
        self.parent, self.data, self.config, self.multiple = parent.eval(), data, config, multiple
        side = parent.arch.resolution
        self.shape = (data.in_chs, side, side)

    def start(self, net: nn.Module) -> float:
        """A network's accuracy on the search split."""
        return accuracy(net, self.data, self.data.search)

    def best(self, sizes: Sequence[int]) -> tuple[list[GhostNet], bool]:
        """The networks of these multiply-adds whose channels compete over all layers, or in each: what is, not trained
        further, the more accurate on average on the search split; and whether it is over all layers."""
        both = [(self.prune(sizes, over_all), over_all) for over_all in (False, True)]
        whole = [each for each in both if len(each[0]) == len(sizes)]
        return max(whole, key=lambda each: sum(map(self.start, each[0])))

    def prune(self, sizes: Sequence[int], over_all: bool) -> list[GhostNet]:
        """Step by step, and copied where it first has no more than so many multiply-adds; norms are estimated again.

        Args:
            sizes: from large to small. Those that it doesn't come down to are missing.
        """
        import torch_pruning as tp  # the extra `study`

        net = with_depthwise_convolutions(copy.deepcopy(self.parent))
        pruner = tp.pruner.BasePruner(
            net,
            torch.zeros(1, *self.shape, device=next(net.parameters()).device),
            importance=tp.importance.GroupMagnitudeImportance(),
            global_pruning=over_all,
            pruning_ratio=MOST,
            max_pruning_ratio=MOST,
            round_to=self.multiple,
            iterative_steps=STEPS,
            ignored_layers=[net.classifier],
        )
        pruned: list[GhostNet] = []
        for _ in range(STEPS):
            pruner.step()
            while len(pruned) < len(sizes) and count(net, self.shape).macs <= sizes[len(pruned)]:
                pruned.append(with_cheap_convolutions(copy.deepcopy(net)))
                recalibrate(pruned[-1], self.data, self.config)
            if len(pruned) == len(sizes):
                break
        return pruned


def with_depthwise_convolutions(net: GhostNet) -> GhostNet:
    """The same network, changed in place, its cheap operations as ordinary depthwise convolutions."""

    def depthwise(cheap: CheapConv) -> nn.Module:
        if cheap.in_chs != cheap.out_chs:
            raise ValueError(f"only a cheap operation with a ghost for each primary is one: {cheap}")
        conv = nn.Conv2d(
            cheap.in_chs, cheap.out_chs, cheap.kernel, 1, cheap.kernel // 2, groups=cheap.in_chs, bias=False
        )
        conv.weight.data.copy_(cheap.weight.data)
        return conv.to(cheap.weight.device)

    return _replaced(net, CheapConv, depthwise)


def with_cheap_convolutions(net: GhostNet) -> GhostNet:
    """What `with_depthwise_convolutions` did is undone, also after pruning."""

    def cheap(conv: nn.Conv2d) -> nn.Module:
        module = CheapConv(conv.in_channels, conv.out_channels, conv.kernel_size[0])
        module.weight.data.copy_(conv.weight.data)
        return module.to(conv.weight.device)

    return _replaced(net, nn.Conv2d, cheap)


def _replaced(net: GhostNet, kind: type, change: Callable[[Any], nn.Module]) -> GhostNet:
    for name, module in list(net.named_modules()):
        if name.endswith("cheap_operation") and isinstance(module, nn.Sequential) and isinstance(module[0], kind):
            module[0] = change(module[0])
    return net
