"""Weights for every GhostNet of a space from one trained GhostNet, the parent: no training, a fit of least squares.

    transplants = Transplants(parent, images)     # images [N, C, H, W], normalised and augmented as in training
    child = transplants.extract(arch)             # a GhostNet in evaluation mode, on the parent's device

A child is fitted layer by layer, each to what the parent has there (`ghostnet.transplant.child`), on channels that the
parent's statistics choose (`ghostnet.transplant.arrangement`). The parent's own architecture comes out as it is.

Parent and images are all that it is made of: who keeps both (and the settings) can make the same children again. It
works on the parent's device and in its dtype; for another device, move the parent first. It can be pickled.
"""

from typing import Any

import torch
from torch import Tensor

from ghostnet.arch import Arch, ArchError
from ghostnet.network import GhostNet
from ghostnet.resize import resized
from ghostnet.transplant.arrangement import Arrangement, counterparts
from ghostnet.transplant.beginnings import Beginnings
from ghostnet.transplant.child import Fit, Stream, fit_head, set_filters
from ghostnet.transplant.samples import Samples, Targets, watch
from ghostnet.transplant.settings import USUAL, FitSettings

ARRANGED = 48  # images by which channels are told primaries or ghosts


class Transplants:
    """GhostNets of any architecture whose weights are fitted to a parent's.

    Args:
        parent: the trained network. It is put into evaluation mode.
        images: what the fit sees, [N, C, H, W], in the parent's dtype.
        settings: how strongly, and on how much of the images, layers are fitted.
        memory: bytes of fitted beginnings that are kept: children that begin alike are fitted alike so far.

    Raises:
        ArchError: a parent with a stride in a block that is not the first of its stage, or of fewer bits than float32,
            which the fit would lose; images that it can't be shown.
    """

    @torch.no_grad()
    def __init__(
        self, parent: GhostNet, images: Tensor, settings: FitSettings = USUAL, *, memory: int = 1 << 29
    ) -> None:
        weight: Any = parent.conv_stem.weight
        if any(block.stride > 1 for stage in parent.arch.stages for block in stage[1:]):
            raise ArchError(f"a parent has strides in first blocks of stages alone, but {parent.arch.id} has others")
        if weight.dtype not in (torch.float32, torch.float64):
            raise ArchError(f"a parent is float32 or float64, but {parent.arch.id} is {weight.dtype}")
        if not isinstance(images, torch.Tensor):
            raise ArchError(f"`images` must be a torch.Tensor [N, C, H, W], but got {type(images).__name__}")
        if images.ndim != 4 or images.shape[1] != parent.in_chs or not len(images):
            raise ArchError(f"`images` must be [N, {parent.in_chs}, H, W], but got {list(images.shape)}")
        if not bool(images.isfinite().all()):
            raise ArchError("`images` must be finite, but some values are not")
        self.parent, self.images = parent.eval(), images.to(weight.device, weight.dtype)
        self.num_classes, self.in_chs = parent.num_classes, parent.in_chs
        self.settings = settings
        self.samples = Samples(min(settings.body, len(images)), settings.positions, weight.device)
        self.beginnings: Beginnings[Stream] = Beginnings(memory)
        self._targets: dict[int, Targets] = {}
        shown = resized(self.images, parent.arch.resolution)
        self.arrangement = Arrangement(parent, self.targets(parent.arch.resolution), shown[:ARRANGED], settings)
        heads: list[Tensor] = []

        def keep(name: str, maps: Tensor, _: int) -> None:
            if name == "conv_head":
                heads.append(maps.flatten(1).clone())  # a ReLU in place follows

        watch(parent, shown, keep)
        self.heads = torch.cat(heads)

    @torch.no_grad()
    def extract(self, arch: Arch) -> GhostNet:
        """The network of that architecture, fitted, in evaluation mode.

        Raises:
            ArchError: stages, strides or `head_chs` are not the parent's, or a stage ends where the parent's goes on to
                other channels.
        """
        self._check(arch)
        generator = torch.Generator().manual_seed(0)
        child = GhostNet(arch, self.num_classes, self.in_chs, generator=generator).eval()
        child = child.to(self.images.device, self.images.dtype)
        fit = Fit(self.arrangement, self.targets(arch.resolution), child, self.beginnings, self.settings)
        self._head(child, fit.run(), fit.tail_channels)
        return child

    def targets(self, resolution: int) -> Targets:
        """What the parent has for children of a resolution."""
        if resolution not in self._targets:
            self._targets[resolution] = Targets(self.parent, self.images, resolution, self.samples)
        return self._targets[resolution]

    def _head(self, child: GhostNet, pooled: Tensor, channels: Tensor) -> None:
        """The convolution behind the pooling once more, on all images; the classifier as it was."""
        set_filters(child.conv_head, fit_head(self.parent, pooled, self.heads.mT, channels, self.settings))
        child.classifier.load_state_dict(self.parent.classifier.state_dict())

    def _check(self, arch: Arch) -> None:
        strides, theirs = ([[b.stride for b in stage] for stage in a.stages] for a in (arch, self.parent.arch))
        ours = arch.stem_stride, [stage[:1] for stage in strides], any(s > 1 for stage in strides for s in stage[1:])
        if ours != (self.parent.arch.stem_stride, [stage[:1] for stage in theirs], False):
            raise ArchError(
                f"architecture {arch.id} has other stages or strides than the parent's {self.parent.arch.id}"
            )
        if arch.head_chs != self.parent.arch.head_chs:  # what the classifier reads, which comes out as it was
            raise ArchError(f"`head_chs` must be the parent's, {self.parent.arch.head_chs}, but got {arch.head_chs}")
        before, streams = arch.stem_chs, self.arrangement.streams
        pairs = counterparts(arch, self.parent.arch)
        for name, block, (own, position) in zip(arch.block_names, arch.blocks, pairs, strict=True):
            # The block's shortcut is fitted to that of the parent's block, but puts out what the parent's stage does.
            has_shortcut = block.stride > 1 or block.out_chs != before
            if has_shortcut and own is not None and streams[own + 1] != streams[position]:
                raise ArchError(
                    f"architecture {arch.id} ends a stage with {name}, which changes the channels, where the parent "
                    f"{self.parent.arch.id} changes them again further down the stage"
                )
            before = block.out_chs
