"""Chooses which of the parent's channels a child keeps and in which order, from the parent alone, for all children.

Channels are named by the parent's numbers; `NEW` is one that the parent has none for.
"""

from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ghostnet.arch import Arch
from ghostnet.least_squares import Gains, assign_ghosts, choose_columns, choose_primaries, seen_moments
from ghostnet.network import GhostNet
from ghostnet.transplant.samples import Targets, watch
from ghostnet.transplant.settings import FitSettings

NEW = -1
GAIN_POSITIONS = 3000  # at which filters that would make ghosts are fitted, at most, but never fewer than 16 images
Channels = NDArray[np.int64]
Module = Any  # a network's: torch types what a module holds as a tensor or a module, of which nothing is known


def folded(conv: Module, bn: Module) -> Tensor:
    """Filters with the norm's slope in them, in double precision."""
    slope = bn.weight.double() / (bn.running_var.double() + bn.eps).sqrt()
    return conv.weight.double() * slope[:, None, None, None]


class Arrangement:
    """Choices of channels, from how the parent's vary and how they are read.

    Args:
        targets: the parent's, at its own resolution.
        images: some that it is run through again where neighbouring positions matter.
    """

    def __init__(self, parent: GhostNet, targets: Targets, images: Tensor, settings: FitSettings) -> None:
        self.parent: Module = parent
        self.settings = settings
        self.targets, self.images = targets, images
        self.blocks: list[tuple[str, Module]] = [(name, parent.get_submodule(name)) for name in parent.arch.block_names]
        self.streams = stream_numbers(parent)
        self._seen: dict[str | int, tuple[Gains, Gains]] = {}
        self._orders: dict[str | int, Channels] = {}
        self._arrangements: dict[tuple[Any, ...], Channels] = {}
        self._gains: dict[tuple[str, int], Gains] = {}

    def _order(self, where: int | str) -> Channels:
        """Channels of a stream, or of a block's inside, in the order in which they serve their readers."""
        if where not in self._orders:
            self._orders[where] = choose_columns(*self._read(where))
        return self._orders[where]

    def _read(self, where: int | str) -> tuple[Gains, Gains]:
        """Covariance of the channels there, and the filters that read them."""
        if where not in self._seen:
            self._seen[where] = self._inside(where) if isinstance(where, str) else self._stream(where)
        return self._seen[where]

    def _stream(self, stream: int) -> tuple[Gains, Gains]:
        """Covariance of a residual stream's channels, and the filters of all that read it."""
        readers, last = [], 0
        for i, (_, block) in enumerate(self.blocks):
            if self.streams[i] == stream:
                readers.append(folded(*block.ghost1.primary_conv[:2])[:, :, 0, 0])
                if not isinstance(block.shortcut, nn.Identity):
                    sizes = folded(*block.shortcut[:2]).flatten(1).norm(dim=1)
                    readers.append(folded(*block.shortcut[2:4])[:, :, 0, 0] * sizes)
                last = i
        if self.streams[-1] == stream:
            tail = self.parent.blocks[-1][0]
            readers.append(folded(tail.conv, tail.bn1)[:, :, 0, 0])
            last = len(self.blocks)
        values = self.targets[self.blocks[last - 1][0]] if last else F.relu(self.targets["bn1"])
        return covariance(values), torch.cat(readers).cpu().numpy()

    def _inside(self, name: str) -> tuple[Gains, Gains]:
        """The same of what stands between a block's two Ghost modules."""
        block = self.parent.get_submodule(name)
        values = self.targets[f"{name}.ghost2.in"]
        return covariance(values), folded(*block.ghost2.primary_conv[:2])[:, :, 0, 0].cpu().numpy()

    def stream(self, stream: int, writer: str | None, n: int, m: int, kernel: int) -> Channels:
        """Channels of a residual stream at the n places of the Ghost module with m primaries that writes to it; in the
        stem's there may be none."""
        if writer is None:
            return fill(self._order(stream), n)
        return self._arrange(f"{writer}.ghost2", stream, n, m, kernel)

    def inside(self, name: str, n: int, m: int, kernel: int) -> Channels:
        """Channels at the n places of a block's first Ghost module with m primaries."""
        return self._arrange(f"{name}.ghost1", name, n, m, kernel)

    def _arrange(self, name: str, where: int | str, n: int, m: int, kernel: int) -> Channels:
        key = (name, where, n, m, kernel)
        if key not in self._arrangements:
            self._arrangements[key] = self._compute_arrangement(*key)
        return self._arrangements[key]

    def _compute_arrangement(self, name: str, where: int | str, n: int, m: int, kernel: int) -> Channels:
        old: Module = self.parent.get_submodule(name)
        old_m = old.primary_conv[0].out_channels
        old_ghosts = old.cheap_operation[0].out_chs if old.cheap_operation else 0
        old_kernel = old.cheap_operation[0].kernel if old.cheap_operation else 1
        if m >= old_m and (kernel >= old_kernel or not old_ghosts):
            whole = np.full(n, NEW)
            whole[:old_m] = np.arange(old_m)
            ghosts = np.arange(old_ghosts)
            positions = m + ghosts // old_m * m + ghosts % old_m
            if not old_ghosts or positions.max() < n:
                whole[positions] = old_m + ghosts
                return whole
        if n == m:
            return fill(self._order(where), n)
        variances, readers = self._read(where)
        weight = variances.diagonal() * np.square(readers).sum(0)
        gain = self._explained(name, kernel)
        value = gain * (weight / np.maximum(gain.diagonal(), 1e-12))[:, None]
        if kernel >= old_kernel:  # which tells the parent's own ghosts of their primaries without a rest
            own = old_m + np.arange(old_ghosts)
            value[own, (own - old_m) % old_m] = weight[own]
        whole_fits = n >= len(weight)
        first = range(old_m) if m <= old_m or whole_fits else ()
        candidates = [choose_primaries(value, min(m, len(weight)), first=first)]
        if m <= old_m:  # the most valuable of the parent's primaries, each with its own ghosts
            families = np.bincount(np.append(np.arange(old_m), np.arange(old_ghosts) % old_m), weight)
            candidates.append(np.argsort(-families, kind="stable")[:m])
        arranged = [self._with_ghosts(value, primaries, n, m) for primaries in candidates]
        return max(arranged, key=lambda each: each[1])[0]

    @staticmethod
    def _with_ghosts(value: Gains, primaries: Channels, n: int, m: int) -> tuple[Channels, float]:
        """A whole module's channels from its primaries, and what of the parent's they explain."""
        if len(primaries) < m:
            return fill(primaries, n), 0.0
        ghosts = assign_ghosts(value, primaries, n - m)
        known = ghosts != NEW
        sources = primaries[np.arange(n - m) % m]
        explained = value[primaries, primaries].sum() + value[ghosts[known], sources[known]].sum()
        return np.concatenate([primaries, ghosts]), float(explained)

    def _explained(self, name: str, kernel: int) -> Gains:
        if (name, kernel) not in self._gains:
            self._gains[name, kernel] = self._explain(name, kernel)
        return self._gains[name, kernel]

    def _explain(self, name: str, kernel: int) -> Gains:
        """How much of every map of a Ghost module a cheap operation of every other map explains: [j, i]."""
        module: Module = self.parent.get_submodule(name)
        kept: dict[str, Tensor] = {}
        norms = [f"{name}.primary_conv.1"] + [f"{name}.cheap_operation.1"] * (module.cheap_operation is not None)

        def keep(module_name: str, maps: Tensor, _: int) -> None:
            if module_name in norms:
                kept[module_name] = maps.clone()

        watch(self.parent, self.images, keep)
        maps = torch.cat([kept[norm] for norm in norms], 1)
        relu = isinstance(module.primary_conv[2], nn.ReLU)
        count = max(16, GAIN_POSITIONS // maps[0, 0].numel())
        maps = maps[:count]
        moments = seen_moments(maps, kernel, centred=True, inputs=F.relu(maps) if relu else maps)
        return moments.filters(self.settings.gain_ridge)[1]

    @cached_property
    def order_of_tail(self) -> Channels:
        """The tail's channels in the order in which they serve the head."""
        head = self.parent.conv_head.weight.double()[:, :, 0, 0].cpu().numpy()
        return choose_columns(covariance(self.targets["global_pool"]), head)


def covariance(values: Tensor) -> Gains:
    """[c, S] -> [c, c]"""
    centred = values - values.mean(1, keepdim=True)
    return (centred @ centred.mT / values.shape[1]).double().cpu().numpy()


def fill(order: Channels, n: int) -> Channels:
    """The first n, or all and new ones."""
    return np.concatenate([order[:n], np.full(max(0, n - len(order)), NEW)])


def stream_numbers(net: GhostNet) -> list[int]:
    """The number of the residual stream that every block reads, and at the end the tail: a new one begins where a
    shortcut is no identity."""
    numbers = [0]
    for name in net.arch.block_names:
        numbers.append(numbers[-1] + (not isinstance(net.get_submodule(f"{name}.shortcut"), nn.Identity)))
    return numbers


def counterparts(arch: Arch, parent: Arch) -> list[tuple[int | None, int]]:
    """For every block of a child the parent's block of that place (None where the parent has none), and the parent's
    position whose values the block is to put out: after its own block, or after the stage where it ends the stage or is
    further down than the parent's."""
    pairs: list[tuple[int | None, int]] = []
    start = 0
    for stage, old in zip(arch.stages, parent.stages, strict=True):
        for j in range(len(stage)):
            own = start + j if j < len(old) else None
            ends = j == len(stage) - 1 or own is None
            pairs.append((own, start + len(old) if ends else start + j + 1))
        start += len(old)
    return pairs
