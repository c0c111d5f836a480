"""Ways to run the cheap op (ghostnet/modules.py, `CheapConv`), with equal outputs in the same order.

`split`: one depthwise convolution a replica, as `CheapConv` itself does; the next layer joins them.
`repeated`: the primaries stand s - 1 times in a row, and one depthwise convolution reads them.
`grouped`: one convolution with a group a primary and s - 1 outputs each, as the usual Ghost module has it. It puts its
outputs out by primary: they are picked into our order, replica by replica, afterwards, and those that the closing
slice would throw away are left out in the same step. Where a primary has a single ghost nothing is picked.
`mixed`: split, but grouped where the primaries are no multiple of 4 and have equally many ghosts, so that grouping
computes nothing in vain. ONNX Runtime's quick depthwise convolution works on blocks of channels; without it, s - 1
convolutions take longer than one.

Which is fastest is a property of the runtime: results/latency/lowering.md has it measured.
"""

import copy
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from ghostnet.modules import CheapConv

Lowering = Literal["split", "repeated", "grouped", "mixed"]
LOWERINGS: tuple[Lowering, ...] = get_args(Lowering)
BLOCK = 4


def by_primary(in_chs: int, out_chs: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the ghosts stand in a grouped convolution of ceil(out_chs / in_chs) outputs a primary.

    Returns:
        place: [out_chs] where ghost j of ours stands among the convolution's outputs.
        ghost: [outputs of the convolution] the ghost of ours at each place; -1 where that ghost isn't wanted.
    """
    replicas = -(-out_chs // in_chs)
    ours = np.arange(out_chs)
    position = ours % in_chs * replicas + ours // in_chs
    ghost = np.full(in_chs * replicas, -1)
    ghost[position] = ours
    return position, ghost


def form(conv: CheapConv, lowering: Lowering) -> Literal["split", "repeated", "grouped"]:
    """How one cheap op is run. With one replica at most all forms are the same depthwise convolution: `split`."""
    if len(conv.replicas) < 2:
        return "split"
    if lowering == "mixed":
        return "grouped" if conv.in_chs % BLOCK and conv.out_chs % conv.in_chs == 0 else "split"
    return lowering


class SplitConv(nn.Module):
    """`CheapConv`, split: each replica a convolution with weights of its own.

    Exporters see those as constants. `CheapConv` slices one weight when it runs, and ExecuTorch leaves a convolution
    whose weight is computed to its slow reference kernels.
    """

    def __init__(self, conv: CheapConv) -> None:
        super().__init__()
        self.counts = [stop - start for start, stop in conv.replicas]
        parts = [slice(start, stop) for start, stop in conv.replicas]
        biases = [None if conv.bias is None else conv.bias[part] for part in parts]
        self.convs = nn.ModuleList(
            _conv(conv.weight[part], bias, count) for part, bias, count in zip(parts, biases, self.counts, strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_chs, H, W] -> [B, out_chs, H, W]"""
        replicas = [conv(_leading(x, count)) for conv, count in zip(self.convs, self.counts, strict=True)]
        return replicas[0] if len(replicas) == 1 else torch.cat(replicas, 1)


class RepeatedConv(nn.Module):
    """`CheapConv`, repeated."""

    def __init__(self, conv: CheapConv) -> None:
        super().__init__()
        self.counts = [stop - start for start, stop in conv.replicas]
        self.conv = _conv(conv.weight, conv.bias, conv.out_chs)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_chs, H, W] -> [B, out_chs, H, W]"""
        return self.conv(torch.cat([_leading(x, count) for count in self.counts], 1))


class GroupedConv(nn.Module):
    """`CheapConv`, grouped; the weights of ghosts that aren't wanted are zero."""

    def __init__(self, conv: CheapConv) -> None:
        super().__init__()
        position, ghost = by_primary(conv.in_chs, conv.out_chs)
        self.register_buffer("place", torch.from_numpy(position))
        bias = None if conv.bias is None else _filled(conv.bias, ghost)
        self.conv = _conv(_filled(conv.weight, ghost), bias, conv.in_chs)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_chs, H, W] -> [B, out_chs, H, W]"""
        return self.conv(x).index_select(1, self.place)


def lower_module(module: nn.Module, lowering: Lowering) -> nn.Module:
    """A copy of the module with its cheap ops run that way, for PyTorch; the module itself stays as it is."""
    holder = nn.Sequential(copy.deepcopy(module))
    for parent in list(holder.modules()):
        for name, child in list(parent._modules.items()):  # also what stands twice in one parent
            if isinstance(child, CheapConv):
                setattr(parent, name, _FORMS[form(child, lowering)](child))
    return holder[0]


_FORMS: dict[str, type[nn.Module]] = {"split": SplitConv, "repeated": RepeatedConv, "grouped": GroupedConv}


def _leading(x: Tensor, count: int) -> Tensor:
    """The first channels; no slice in the graph where that is all of them."""
    return x if count == x.shape[1] else x[:, :count]


@torch.no_grad()
def _conv(weight: Tensor, bias: Tensor | None, groups: int) -> nn.Conv2d:
    """A convolution with a copy of these weights [outputs, inputs / groups, k, k]."""
    conv = nn.Conv2d(weight.shape[1] * groups, len(weight), weight.shape[2], 1, weight.shape[2] // 2, groups=groups)
    conv.weight = nn.Parameter(weight.detach().clone())
    conv.bias = None if bias is None else nn.Parameter(bias.detach().clone())
    return conv


def _filled(rows: Tensor, ghost: np.ndarray) -> Tensor:
    """[out_chs, ...] -> [places, ...]: each place's row, zero where there is none."""
    wanted = torch.from_numpy(ghost >= 0).to(rows.device)
    filled = rows[torch.from_numpy(ghost.clip(0)).to(rows.device)]
    return filled * wanted.reshape(-1, *[1] * (rows.ndim - 1))
