"""What a parent loses when one of its units is replaced: networks are ranked by sums over their units, without a label.

    losses = UnitLosses(parent, images)
    loss = sum(losses(name, unit) for name, unit in chain(arch, ...).named.items())  # nats; smaller is better

A unit is fitted alone, on the parent's own channels, as in a transplant; what it puts out is decoded to the parent's
whole stream by the linear map that fits best; the rest of the parent runs on; the loss is the mean Kullback-Leibler
divergence of the logits from the parent's. As latency, the loss of a network is then nearly a sum along its chain:
what earlier replacements change is left out, and a stream's dropped channels count where they are written and again
where they are read.
"""

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ghostnet.arch import Arch, ArchError
from ghostnet.inference import fold_norms
from ghostnet.modules import Conv2d, GhostBottleneck
from ghostnet.network import GhostNet, initialise
from ghostnet.transplant import Transplants
from ghostnet.transplant.beginnings import Beginnings
from ghostnet.transplant.child import Fit, Stream, fit_head, take
from ghostnet.transplant.layers import fit_affine
from ghostnet.transplant.settings import USUAL, FitSettings
from ghostnet.units import Bottleneck, Stem, Tail, Unit, chain, intrinsic_chs

LIKELY = 2, 3  # ratio and cheap kernel by which a stream's channels are chosen, whatever its blocks have
Module = Any


class UnitLosses:
    """Losses of a parent's units, each replaced by another one.

    Args:
        parent: the trained network. It is put into evaluation mode.
        images: what units are fitted and judged on, [N, C, H, W], in the parent's dtype and at its resolution.
        settings: as transplants are fitted; all of the images serve all layers, whatever its `body` says.

    Raises:
        ArchError: images that the parent can't be shown.
    """

    @torch.no_grad()
    def __init__(self, parent: GhostNet, images: Tensor, settings: FitSettings = USUAL) -> None:
        transplants = Transplants(parent, images, replace(settings, body=len(images)))
        self.settings = transplants.settings
        self.parent: Module = parent
        self.arrangement = transplants.arrangement
        self.targets = transplants.targets(parent.arch.resolution)
        self.running: Module = fold_norms(parent)
        self.blocks: list[Module] = [self.running.get_submodule(place) for place in parent.arch.block_names]
        self.names = list(parent.arch.block_names)
        self.units = chain(parent.arch, parent.num_classes, parent.in_chs).named
        maps = self.running.act1(self.running.bn1(self.running.conv_stem(self.targets.images)))
        self.maps = [maps]  # after the stem, and after every block
        for block in self.blocks:
            self.maps.append(block(self.maps[-1]))
        self.logits = F.log_softmax(self._rest(len(self.blocks), self.maps[-1]), 1)
        self._kept: dict[tuple[int, int], Tensor] = {}

    @torch.no_grad()
    def __call__(self, name: str, unit: Unit | None) -> float:
        """What the parent loses, in nats, with another unit at `name` in its chain; None leaves the block out.

        Raises:
            ArchError: the parent has no such place, or no block that can be left out there.
        """
        own = self.units.get(name)
        match unit:
            case Stem(stride=stride) if isinstance(own, Stem) and own.stride == stride:
                return self._stem(unit)
            case Tail(head_chs=chs) if isinstance(own, Tail) and own.head_chs == chs:
                return self._tail(unit)
            case Bottleneck() if isinstance(own, Bottleneck) and own.block.stride == unit.block.stride:
                return self._block(self.names.index(name), unit)
            case None if name in self.names:
                at = self.names.index(name)
                if isinstance(self.blocks[at].shortcut, nn.Identity):
                    return self._divergence(self._rest(at + 1, self.maps[at]))
        raise ArchError(f"the parent {self.parent.arch.id} has no unit {name} to replace by {unit}")

    def _block(self, at: int, unit: Bottleneck) -> float:
        block: Module = _fresh(GhostBottleneck(unit)).eval().to(self.targets.images)
        channels = self._channels(at + 1, unit.block.out_chs)
        # Through both identities a channel keeps its number; else what comes in has its own stream's.
        identity = all(isinstance(each.shortcut, nn.Identity) for each in (block, self.blocks[at]))
        source = channels if identity else self._channels(at, unit.in_chs)
        fit = self._fit(self.parent)
        read = _stream(self.maps[at], source)
        maps = fit.block(block, self.names[at], self.names[at], read, channels)
        return self._divergence(self._rest(at + 1, self._decoded(at + 1, maps, channels)))

    def _stem(self, unit: Stem) -> float:
        child = self._child(stem_chs=unit.out_chs)
        channels = self._channels(0, unit.out_chs)
        maps = self._fit(child).stem(channels).maps
        return self._divergence(self._rest(0, self._decoded(0, maps, channels)))

    def _tail(self, unit: Tail) -> float:
        child = self._child(tail_chs=unit.tail_chs)
        last = len(self.blocks)
        channels = self._channels(last, unit.in_chs)
        fit = self._fit(child)
        module: Module = child.blocks[-1]
        module[0].conv = _fresh(Conv2d(unit.in_chs, unit.tail_chs, 1)).to(self.targets.images)
        pooled = fit.tail(_stream(self.maps[last], channels))
        fitted = fit_head(self.parent, pooled, self.targets["conv_head"], fit.tail_channels, self.settings)
        out = pooled @ fitted.weight.to(pooled.dtype).mT + fitted.bias.to(pooled.dtype)
        return self._divergence(self.parent.classifier(F.relu(out)))

    def _fit(self, child: GhostNet) -> Fit:
        return Fit(self.arrangement, self.targets, child, Beginnings(0), self.settings)

    def _child(self, **changes: Any) -> GhostNet:
        arch: Arch = replace(self.parent.arch, **changes)
        child = GhostNet(arch, self.parent.num_classes, self.parent.in_chs, generator=torch.Generator().manual_seed(0))
        return child.eval().to(self.targets.images.device, self.targets.images.dtype)

    def _channels(self, position: int, chs: int) -> Tensor:
        """Which of the parent's channels `chs` after so many blocks are: one choice for a residual stream."""
        if (position, chs) not in self._kept:
            stream = self.arrangement.streams[position]
            if position == 0:
                chosen = self.arrangement.stream(stream, None, chs, chs, 1)
            else:
                ratio, kernel = LIKELY
                writers = [k for k, written in enumerate(self.arrangement.streams[1:]) if written == stream]
                writer = self.names[max(writers)]
                chosen = self.arrangement.stream(stream, writer, chs, intrinsic_chs(chs, ratio), kernel)
            self._kept[position, chs] = torch.from_numpy(chosen).to(self.targets.images.device)
        return self._kept[position, chs]

    def _decoded(self, position: int, maps: Tensor, channels: Tensor) -> Tensor:
        """[N, c, h, w] that stand for the parent's `channels` -> what they tell of all of the parent's"""
        full = self.targets.samples.values(self.maps[position])
        prior = torch.zeros(full.shape[1], len(channels), dtype=torch.float64, device=full.device)
        known = channels >= 0
        prior[channels[known], known.nonzero()[:, 0]] = 1
        fit = fit_affine(take(full, channels, 1).mT, full.mT, prior, self.settings.decoder_ridge)
        return F.conv2d(maps, fit.weight.to(maps.dtype)[:, :, None, None], fit.bias.to(maps.dtype))

    def _rest(self, position: int, maps: Tensor) -> Tensor:
        """Logits of the parent from its maps after so many blocks."""
        for block in self.blocks[position:]:
            maps = block(maps)
        return self.running.forward_head(self.running.blocks[-1](maps))

    def _divergence(self, logits: Tensor) -> float:
        return float(F.kl_div(F.log_softmax(logits, 1), self.logits, log_target=True, reduction="batchmean"))


def _fresh(module: nn.Module) -> nn.Module:
    """With weights that are the same each time: channels that the parent has none for keep them."""
    initialise(module.named_parameters(), torch.Generator().manual_seed(0))
    return module


def _stream(maps: Tensor, channels: Tensor) -> Stream:
    kept = take(maps, channels, 1)
    return Stream(kept, kept[:0], channels)
