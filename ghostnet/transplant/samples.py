"""Positions of feature maps at which regressions read, and what the parent has there."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ghostnet.inference import images_at_once
from ghostnet.network import GhostNet
from ghostnet.resize import resized

# Modules whose outputs others are fitted to, beside whole blocks.
FITTED: tuple[str, ...] = ("bn1", "bn_dw", "ghost1.primary_conv.1", "ghost1.cheap_operation.1")
FITTED += ("conv_reduce", "conv_expand", "ghost2", "ghost2.in", "shortcut", "shortcut.1", "global_pool", "conv_head")


class Samples:
    """Random positions in every image, the same ones for every map of a size: regressions need many images more than
    many neighbouring positions.

    Args:
        images: number of images.
        count: positions in all that are wanted, of maps that have so many.
    """

    def __init__(self, images: int, count: int, device: torch.device) -> None:
        self.images, self.count, self.device = images, count, device
        self._rows: dict[tuple[int, int], Tensor] = {}
        self._windows: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}

    def rows(self, height: int, width: int) -> Tensor:
        """Numbers of the positions, image by image: [S] of images * height * width"""
        size = height * width
        if (height, width) not in self._rows:
            each = min(size, -(-self.count // self.images))
            generator = torch.Generator().manual_seed(size)
            chosen = torch.rand(self.images, size, generator=generator).argsort(1)[:, :each].sort(1).values
            rows = (chosen + size * torch.arange(self.images)[:, None]).flatten()
            self._rows[height, width] = rows.to(self.device)
        return self._rows[height, width]

    def values(self, maps: Tensor, first: int = 0) -> Tensor:
        """Maps [B, c, h, w] of images `first` to `first` + B -> [S', c]"""
        count, chs, height, width = maps.shape
        rows = self.rows(height, width)
        each = len(rows) // self.images
        flat = maps.permute(0, 2, 3, 1).reshape(-1, chs)
        if each == height * width:
            return flat
        return flat.index_select(0, rows[each * first :][: each * count] - first * height * width)

    def windows(self, maps: Tensor, kernel: int, stride: int, at_most: int) -> tuple[Tensor, slice]:
        """What a padded filter reads at positions of its output, [c, kernel^2, S'], and which rows of the output's
        `values` those are."""
        _, chs, height, width = maps.shape
        out = -(-height // stride), -(-width // stride)
        every = slice(None, None, max(1, len(self.rows(*out)) // at_most))
        key = (height, width, kernel, stride, at_most)
        if key not in self._windows:
            rows = self.rows(*out)[every]
            image, position = rows // (out[0] * out[1]), rows % (out[0] * out[1])
            tap = torch.arange(kernel, device=self.device) - kernel // 2
            y = (position // out[1] * stride)[:, None, None] + tap[:, None]
            x = (position % out[1] * stride)[:, None, None] + tap
            inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
            index = (image[:, None, None] * height + y.clamp(0, height - 1)) * width + x.clamp(0, width - 1)
            self._windows[key] = index.flatten(1).mT.flatten(), inside.flatten(1).mT.reshape(-1, 1)
        index, inside = self._windows[key]
        flat = maps.permute(0, 2, 3, 1).reshape(-1, chs)
        # A plain transpose is faster than a permutation, and so is a product of what is contiguous.
        read = flat.index_select(0, index).mul_(inside).mT.contiguous()
        return read.view(chs, kernel**2, -1), every


@torch.no_grad()
def watch(net: nn.Module, images: Tensor, seen: Callable[[str, Tensor, int], None]) -> None:
    """Runs images through a network in evaluation mode, a part at a time, and shows `seen` every module's output by
    the module's name, with the number of the part's first image; as `NAME.in` what goes into second Ghost modules."""
    first = 0

    def hook(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def look(_: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            if name.endswith("ghost2"):
                seen(f"{name}.in", inputs[0], first)
            seen(name, output if output.ndim == 4 else output[:, :, None, None], first)

        return look

    handles = [module.register_forward_hook(hook(name)) for name, module in net.named_modules() if name]
    try:
        for part in images.split(images_at_once(images)):
            net(part.contiguous(memory_format=torch.channels_last))
            first += len(part)
    finally:
        for handle in handles:
            handle.remove()


def in_parts(module: nn.Module, maps: Tensor, count: int) -> Tensor:
    """What a module puts out for maps [B, ...], of which it is given `count` at a time."""
    return torch.cat([module(part) for part in maps.split(count)])


class Targets:
    """What the parent puts out for the first images at the sampled positions of maps of a resolution, by the module's
    name: [c, S]; a first Ghost module's before the ReLU. The parent sees the images at its own resolution, and its maps
    are resized."""

    def __init__(self, parent: GhostNet, images: Tensor, resolution: int, samples: Samples) -> None:
        self.samples = samples
        shown = resized(images, resolution).contiguous(memory_format=torch.channels_last)
        self.images, self.others = shown[: samples.images], shown[samples.images :]
        tables: dict[str, list[Tensor]] = {}
        sizes: dict[str, tuple[int, ...]] = {}

        def measure(name: str, maps: Tensor, _: int) -> None:
            sizes[name] = tuple(maps.shape[2:])

        if resolution != parent.arch.resolution:
            watch(parent, self.images[:1], measure)

        def keep(name: str, maps: Tensor, first: int) -> None:
            if name not in parent.arch.block_names and not name.endswith(FITTED):
                return
            if name in sizes and sizes[name] != tuple(maps.shape[2:]):
                maps = F.interpolate(maps, sizes[name], mode="bilinear", antialias=True)
            tables.setdefault(name, []).append(samples.values(maps, first).clone())  # a ReLU in place may follow

        watch(parent, resized(images[: samples.images], parent.arch.resolution), keep)
        self.tables = {name: torch.cat(table).mT.contiguous() for name, table in tables.items()}
        for position in parent.arch.block_names:
            parts = (
                self.tables.pop(f"{position}.ghost1.{part}.1", None) for part in ("primary_conv", "cheap_operation")
            )
            self.tables[f"{position}.ghost1"] = torch.cat([part for part in parts if part is not None])

    def __getitem__(self, name: str) -> Tensor:
        return self.tables[name]
