"""An experiment: sharing by slot instead of by position.

Under position sharing, channel j of a Ghost module's output is a primary map in one network and a ghost in another. By
slot, a hidden channel is (replica r, primary g), and what reads or filters it has weights of its own for each slot; so
have the cheap filters. The residual stream stays by position, since identity shortcuts add channels as they stand.
Needs more weights and an index selection where position sharing takes a view.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ghostnet.arch import Arch, Block
from ghostnet.supernet import Supernet, leading_slice, scale
from ghostnet.units import intrinsic_chs

# Tensors whose dimension (the number) runs over a block's hidden channels.
HIDDEN = {
    "conv_dw.weight": 0,
    "bn_dw.weight": 0,
    "bn_dw.bias": 0,
    "bn_dw.running_mean": 0,
    "bn_dw.running_var": 0,
    "se.conv_reduce.weight": 1,
    "se.conv_expand.weight": 0,
    "se.conv_expand.bias": 0,
    "ghost2.primary_conv.0.weight": 1,
}


class SlotSupernet(Supernet):
    """A supernet that shares hidden channels and cheap filters by slot."""

    def __init__(self, bounds: Sequence[Arch], *args: Any, **kwargs: Any) -> None:
        super().__init__(bounds, *args, **kwargs)
        generator = kwargs.get("generator")
        # per block: the most channels of a Ghost module's output, hidden and out
        self._most: dict[str, tuple[int, int]] = {}
        for arch in bounds:
            for block_name, block in _places(arch):
                most = self._most.get(block_name, (0, 0))
                self._most[block_name] = (max(most[0], block.mid_chs), max(most[1], block.out_chs))
        for name, tensor in [*self.named_parameters(), *self.named_buffers()]:
            dim, total = self._slots(name)
            if dim is None or total == tensor.shape[dim]:
                continue
            shape = list(tensor.shape)
            shape[dim] = total
            if isinstance(tensor, torch.nn.Parameter):
                fan = tensor[0].numel()
                wide = torch.empty(shape)
                if tensor.ndim == 4:
                    wide.normal_(0, (2 / fan) ** 0.5, generator=generator)
                else:
                    wide.fill_(0.0 if name.endswith("bias") else 1.0)
                new: Tensor = torch.nn.Parameter(wide)
            else:
                new = torch.full(shape, 1.0 if name.endswith("var") else 0.0)
            *path, leaf = name.split(".")
            setattr(self.get_submodule(".".join(path)), leaf, new)
        self._table = None

    def _slots(self, name: str) -> tuple[int | None, int]:
        """The dimension of a tensor that runs over slots, and how many there are."""
        block_name, leaf = ".".join(name.split(".")[:3]), ".".join(name.split(".")[3:])
        if block_name not in self._most:
            return None, 0
        if leaf in HIDDEN:
            return HIDDEN[leaf], sum(_rooms(self._most[block_name][0]))
        for which, ghost in enumerate(("ghost1.", "ghost2.")):
            if leaf.startswith(ghost + "cheap_operation."):
                return 0, sum(_rooms(self._most[block_name][which])[1:])
        return None, 0

    def _parts(self, arch: Arch, tensors: dict[str, Tensor], shapes: dict[str, torch.Size]) -> Iterable[Tensor]:
        return [
            self._part(name, tensors[name], shape, arch) * scale(name, tensors[name], shape)
            for name, shape in shapes.items()
        ]

    def _part(self, name: str, tensor: Tensor, shape: torch.Size, arch: Arch) -> Tensor:
        dim, total = self._slots(name)
        if dim is None or tensor.shape[dim] != total:
            return leading_slice(tensor, shape)
        block_name, leaf = ".".join(name.split(".")[:3]), ".".join(name.split(".")[3:])
        block = dict(_places(arch))[block_name]
        cheap = "cheap_operation." in leaf
        which = 1 if leaf.startswith("ghost2.cheap") else 0
        chs = (block.mid_chs, block.out_chs)[which]
        index = _index(chs, intrinsic_chs(chs, block.ratio, arch.align), self._most[block_name][which])
        if cheap:
            first = _rooms(self._most[block_name][which])[0]
            index = index[intrinsic_chs(chs, block.ratio, arch.align) :] - first
        return leading_slice(tensor.index_select(dim, index.to(tensor.device)), shape)


def _places(arch: Arch) -> list[tuple[str, Block]]:
    return list(zip(arch.block_names, arch.blocks, strict=True))


@cache
def _rooms(most: int, ratios: int = 4) -> list[int]:
    """Slots of each replica where the most channels are `most`: all primaries at s = 1, half at s = 2, ..."""
    return [most, *(-(-most // (r + 1)) for r in range(1, ratios))]


@cache
def _index(chs: int, primary: int, most: int) -> Tensor:
    """The slots of a Ghost module's outputs, in their order: [chs]"""
    rooms = _rooms(most)
    starts = [sum(rooms[:r]) for r in range(len(rooms))]
    ghosts = [starts[1 + k // primary] + k % primary for k in range(chs - primary)]
    return torch.tensor([*range(primary), *ghosts])
