"""Three ways to run the cheap op (ghostnet/modules.py, `CheapConv`), with equal outputs in the same order.

`split`: one depthwise convolution a replica, as `CheapConv` itself does; the next layer joins them.
`repeated`: the primaries stand s - 1 times in a row, and one depthwise convolution reads them.
`grouped`: one convolution with a group a primary and s - 1 outputs each, as the usual Ghost module has it. It puts its
outputs out by primary: they are picked into our order, replica by replica, afterwards, and those that the closing
slice would throw away are left out in the same step. Where a primary has a single ghost nothing is picked.

Which is fastest is a property of the runtime: results/latency/lowering.md has it measured.
"""

import copy
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ghostnet.modules import CheapConv

Lowering = Literal["split", "repeated", "grouped"]
LOWERINGS: tuple[Lowering, ...] = get_args(Lowering)


def by_primary(in_chs: int, out_chs: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the ghosts stand in a grouped convolution of ceil(out_chs / in_chs) outputs a primary.

    Returns:
        place: [out_chs] where ghost j of ours stands among the convolution's outputs.
        ghost: [outputs of the convolution] the ghost of ours at each place; -1 where that ghost isn't wanted.
    """
    replicas = -(-out_chs // in_chs)
    ours = np.arange(out_chs)
    place = ours % in_chs * replicas + ours // in_chs
    ghost = np.full(in_chs * replicas, -1)
    ghost[place] = ours
    return place, ghost


def simplest(conv: CheapConv, lowering: Lowering) -> Lowering:
    """`split` where there is one replica at most, so that all three are the same depthwise convolution."""
    return "split" if len(conv.replicas) < 2 else lowering


class RepeatedConv(nn.Module):
    """`CheapConv`, repeated."""

    def __init__(self, conv: CheapConv) -> None:
        super().__init__()
        self.replicas, self.kernel = conv.replicas, conv.kernel
        self.weight, self.bias = conv.weight, conv.bias

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_chs, H, W] -> [B, out_chs, H, W]"""
        rows = [x if stop - start == x.shape[1] else x[:, : stop - start] for start, stop in self.replicas]
        return F.conv2d(torch.cat(rows, 1), self.weight, self.bias, padding=self.kernel // 2, groups=len(self.weight))


class GroupedConv(nn.Module):
    """`CheapConv`, grouped; the weights of ghosts that aren't wanted are zero."""

    def __init__(self, conv: CheapConv) -> None:
        super().__init__()
        place, ghost = by_primary(conv.in_chs, conv.out_chs)
        self.in_chs, self.kernel = conv.in_chs, conv.kernel
        self.register_buffer("place", torch.from_numpy(place))
        self.weight = nn.Parameter(_filled(conv.weight.detach(), ghost))
        self.bias = None if conv.bias is None else nn.Parameter(_filled(conv.bias.detach(), ghost))

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_chs, H, W] -> [B, out_chs, H, W]"""
        y = F.conv2d(x, self.weight, self.bias, padding=self.kernel // 2, groups=self.in_chs)
        return y.index_select(1, self.place)  # type: ignore[arg-type]


def _filled(rows: Tensor, ghost: np.ndarray) -> Tensor:
    """[out_chs, ...] -> [places, ...]: each place's row, zero where there is none."""
    wanted = torch.from_numpy(ghost >= 0).to(rows.device)
    found = rows[torch.from_numpy(ghost.clip(0)).to(rows.device)]
    return found * wanted.reshape(-1, *[1] * (rows.ndim - 1))


def lowered(module: nn.Module, lowering: Lowering) -> nn.Module:
    """A copy of the module with its cheap ops run that way, for PyTorch; the module itself stays as it is."""
    module = copy.deepcopy(module)
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, CheapConv) and (how := simplest(child, lowering)) != "split":
                setattr(parent, name, {"repeated": RepeatedConv, "grouped": GroupedConv}[how](child))
    return module
