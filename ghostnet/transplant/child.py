"""Fits one child, layer by layer from the stem to the head.

Every layer sees what the child really has, and is to put out what the parent has there, on the channels that the child
keeps. The second Ghost module of a block is fitted to the parent's output less the child's own shortcut, so it makes up
for what was lost before. Where child and parent mean the same, the parent's own filters solve the problem and come out;
channels, SE units and blocks that the parent has none for begin without effect.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ghostnet.arch import Arch
from ghostnet.inference import fold_norms, images_at_once
from ghostnet.network import GhostNet
from ghostnet.transplant.arrangement import NEW, Arrangement, Module, counterparts, fill, folded, stream_numbers
from ghostnet.transplant.beginnings import Beginnings
from ghostnet.transplant.layers import Affine, fit_affine, set_norm
from ghostnet.transplant.samples import Targets, in_parts
from ghostnet.transplant.settings import FitSettings

WINDOWS = 2048  # positions at which a depthwise filter is fitted: it has few weights
GATE = 5 / 6  # of a new SE: a constant that leaves the hard sigmoid a slope
GATE_BIAS = 2.0  # where the hard sigmoid is GATE


@dataclass(frozen=True)
class Stream:
    """What stands between two units of a child: its maps of the images that layers are fitted on, [N, c, h, w], those
    of all others, and which of the parent's channels they stand for, [c]."""

    maps: Tensor
    others: Tensor
    channels: Tensor

    @property
    def bytes(self) -> int:
        """Memory that it takes."""
        return sum(maps.numel() * maps.element_size() for maps in (self.maps, self.others))


class Fit:
    """Gives a child its weights.

    Args:
        child: in evaluation mode, with fresh weights, which new channels keep.
        targets: the parent's, at the child's resolution.
        beginnings: of children that were fitted before, and this one's.
    """

    def __init__(
        self,
        arrangement: Arrangement,
        targets: Targets,
        child: GhostNet,
        beginnings: Beginnings,
        settings: FitSettings,
    ) -> None:
        self.arrangement, self.targets, self.beginnings = arrangement, targets, beginnings
        self.settings = settings
        self.child: Module = child
        self.parent, self.samples = arrangement.parent, targets.samples

    def run(self) -> Tensor:
        """Fits all up to the head. Returns the child's pooled features, [N, tail_chs]."""
        arch, parent = self.child.arch, self.parent.arch
        kept, matched = self._channels(arch), counterparts(arch, parent)
        units = [("conv_stem", "bn1"), *((name,) for name in arch.block_names)]
        # What a unit becomes depends on these of it and of all before it, and on nothing else.
        genes = [(arch.resolution, arch.align, arch.stem_chs), *zip(arch.blocks, matched, strict=True)]
        keys = tuple((own, *channels.tolist()) for own, channels in zip(genes, kept, strict=True))
        stream, begun = self.beginnings.restore(self.child, units, keys)
        for k in range(begun, len(units)):
            if stream is None:
                stream = self.stem(kept[0])
            else:
                own, position = matched[k - 1]
                old = None if own is None else parent.block_names[own]
                block: Module = self.child.get_submodule(arch.block_names[k - 1])
                maps = self.block(block, old, parent.block_names[position - 1], stream, kept[k])
                stream = Stream(maps, self._others(block, stream.others), kept[k])
            self.beginnings.keep(self.child, units[k], keys[: k + 1], stream, stream.bytes)
        assert stream is not None
        return self.tail(stream)

    def _others(self, unit: nn.Module, maps: Tensor) -> Tensor:
        """What a fitted unit puts out for the images that it was not fitted on."""
        return in_parts(fold_norms(unit), maps, images_at_once(self.targets.images)) if len(maps) else maps

    def _channels(self, arch: Arch) -> list[Tensor]:
        """Which of the parent's channels stand after the stem and after every block. All blocks that write to one
        stream of the child agree, as long as the parent's is one, too; the one of highest ratio has the choice."""
        parent = self.parent.arch
        matched = counterparts(arch, parent)
        theirs = [0] + [position for _, position in matched]
        keys = list(zip(stream_numbers(self.child), (self.arrangement.streams[p] for p in theirs), strict=True))
        chosen: dict[tuple[int, int], Tensor] = {}
        for key in dict.fromkeys(keys):
            writers = [k for k, other in enumerate(keys[1:]) if other == key]
            if writers:
                w = max(writers, key=lambda k: (arch.blocks[k].ratio, -arch.blocks[k].cheap_kernel))
                n, module = arch.blocks[w].out_chs, self.child.get_submodule(f"{arch.block_names[w]}.ghost2")
                writer = parent.block_names[theirs[w + 1] - 1]
                channels = self.arrangement.stream(key[1], writer, n, *_shape(module))
            else:
                channels = self.arrangement.stream(key[1], None, arch.stem_chs, arch.stem_chs, 1)
            chosen[key] = torch.from_numpy(channels).to(self.samples.device)
        return [chosen[key] for key in keys]

    def stem(self, channels: Tensor) -> Stream:
        """Fits the stem, which is to put out the parent's `channels`."""
        child, targets = self.child, self.targets
        kernel = child.conv_stem.kernel_size[0]
        stride = child.arch.stem_stride
        prior = take(folded(self.parent.conv_stem, self.parent.bn1), channels)
        x, rows = self.samples.windows(targets.images, kernel, stride, WINDOWS * 4)
        y = take(targets["bn1"][:, rows], channels)
        maps = self._dense(
            child.conv_stem, child.bn1, targets.images, x.flatten(0, 1), y, prior, channels, self.settings.relu_steps
        )
        others = self._others(nn.Sequential(child.conv_stem, child.bn1, child.act1), targets.others)
        return Stream(maps.relu_(), others, channels)

    def _dense(
        self,
        conv: Module,
        bn: Module,
        maps: Tensor,
        x: Tensor,
        y: Tensor,
        prior: Tensor,
        channels: Tensor,
        relu_steps: int = 0,
    ) -> Tensor:
        """Fits a convolution that reads all channels, x [c k^2, S], to y [n, S], which the parent has on `channels`;
        what it and the norm put out for `maps`."""
        weight = conv.weight
        is_new = channels == NEW
        start = torch.where(is_new[:, None], weight.double().flatten(1), prior.flatten(1))
        fitted = ~is_new if bool(is_new.any()) else None
        fit = fit_affine(x, y, start, self.settings.pointwise_ridge, fitted, relu_steps)
        weight.copy_(fit.weight.view_as(weight))
        set_norm(bn, fit)
        return F.conv2d(maps, weight, fit.bias.to(maps.dtype), conv.stride, conv.padding)

    def _pointwise(
        self,
        conv: Module,
        bn: Module,
        maps: Tensor,
        y: Tensor,
        prior: Tensor,
        channels: Tensor,
        relu_steps: int = 0,
    ) -> Tensor:
        return self._dense(conv, bn, maps, self.samples.values(maps).mT, y, prior, channels, relu_steps)

    def _depthwise(
        self,
        weight: Tensor,
        maps: Tensor,
        y: Tensor,
        prior: Tensor | None,
        stride: int = 1,
        fitted: Tensor | None = None,
        relu_steps: int = 0,
    ) -> tuple[Affine, Tensor]:
        """Fits depthwise filters [c, 1, k, k] to y [c, S], and what they put out. Those that aren't fitted stay."""
        kernel = weight.shape[-1]
        x, rows = self.samples.windows(maps, kernel, stride, WINDOWS)
        start = weight.double().flatten(1) if prior is None else prior
        if fitted is not None and prior is not None:
            start = torch.where(fitted[:, None], prior, weight.double().flatten(1))
        fitted = None if fitted is None else fitted[:, None]
        fit = fit_affine(x, y[:, None, rows], start[:, None], self.settings.depthwise_ridge, fitted, relu_steps)
        weight.copy_(fit.weight.view_as(weight))
        bias = fit.bias.flatten().to(maps.dtype)
        return fit, F.conv2d(maps, weight, bias, stride, kernel // 2, groups=len(weight))

    def _ghost(
        self,
        module: Module,
        old: Module | None,
        maps: Tensor,
        source: Tensor,
        y: Tensor,
        channels: Tensor,
        gate: Tensor | None = None,
    ) -> Tensor:
        """Fits a Ghost module to y [n, S], which the parent has on `channels`.

        Args:
            maps: what the module reads, of the parent's channels `source`.
            gate: what the parent's input was multiplied by where the child's isn't, [all of the parent's channels].
        """
        conv, bn, act = module.primary_conv
        m, relu_steps = conv.out_channels, self.settings.relu_steps * isinstance(act, nn.ReLU)
        old_m = 0 if old is None else old.primary_conv[0].out_channels
        prior = torch.zeros(m, len(source), dtype=torch.float64, device=y.device)
        primary = torch.where(channels[:m] < old_m, channels[:m], NEW)
        if old is not None:
            filters = folded(*old.primary_conv[:2])[:, :, 0, 0]
            filters = filters if gate is None else filters * gate
            prior = take(take(filters, primary), source, 1)
        primaries = act(self._pointwise(conv, bn, maps, y[:m], prior, channels[:m], relu_steps))
        if module.cheap_operation is None:
            return primaries
        cheap, cheap_bn, _ = module.cheap_operation
        ghosts = channels[m:]
        sources = torch.arange(len(ghosts), device=y.device) % m
        prior = torch.zeros(len(ghosts), cheap.kernel**2, dtype=torch.float64, device=y.device)
        if old is not None and old.cheap_operation is not None:
            number = ghosts - old_m
            theirs = (number >= 0) & (number % old_m == channels[sources])
            prior = take(centred(folded(*old.cheap_operation[:2]), cheap.kernel), torch.where(theirs, number, NEW))
        target, fitted = y[m:], ghosts != NEW
        fits, outputs = [], [primaries]
        for start, stop in cheap.replicas:
            read = primaries if stop - start == m else primaries[:, : stop - start]
            part = slice(start, stop)
            fit, out = self._depthwise(cheap.weight[part], read, target[part], prior[part], 1, fitted[part], relu_steps)
            fits.append(fit)
            outputs.append(act(out))
        parts = ([getattr(fit, leaf) for fit in fits] for leaf in ("weight", "bias", "mean", "variance"))
        set_norm(cheap_bn, Affine(*(torch.cat(part) for part in parts)))
        return torch.cat(outputs, 1)

    def block(self, block: Module, name: str | None, after: str, source: Stream, channels: Tensor) -> Tensor:
        """Fits a block and returns its maps [N, out_chs, h, w].

        Args:
            name: the parent's block of that place; None where it has none.
            after: the parent's block whose output the child's is to be, on `channels`.
            source: what the block reads.
        """
        t, device = self.targets, self.samples.device
        old: Module = None
        n = block.ghost2.primary_conv[0].in_channels
        if name is None:
            mid = torch.full((n,), NEW, device=device)
            y = t[after].new_zeros(n, t[after].shape[1])
        else:
            old = self.parent.get_submodule(name)
            mid = torch.from_numpy(self.arrangement.inside(name, n, *_shape(block.ghost1))).to(device)
            y = take(t[f"{name}.ghost1"], mid)
        maps = self._ghost(block.ghost1, old and old.ghost1, source.maps, source.channels, y, mid)
        fitted = mid != NEW
        if block.conv_dw is not None:
            kernel = block.conv_dw.kernel_size[0]
            prior = take(centred(folded(old.conv_dw, old.bn_dw), kernel), mid)
            y = take(t[f"{name}.bn_dw"], mid)
            fit, maps = self._depthwise(block.conv_dw.weight, maps, y, prior, block.conv_dw.stride[0], fitted)
            set_norm(block.bn_dw, fit)
        gate = None
        if block.se is not None:
            old_se = None if old is None else old.se
            maps = self._squeeze_excite(block.se, old_se, name, maps, mid)
            if old is not None and old_se is None:
                gate = torch.full(
                    (old.ghost2.primary_conv[0].in_channels,), 1 / GATE, dtype=torch.float64, device=device
                )
        elif old is not None and old.se is not None:
            gate = old.se.gate(t[f"{name}.se.conv_expand"]).double().mean(1)
        short = source.maps
        if not isinstance(block.shortcut, nn.Identity):
            short = self._shortcut(block.shortcut, old, name, after, source, channels)
        y = take(t[after], channels) - self.samples.values(short).mT
        return self._ghost(block.ghost2, old and old.ghost2, maps, mid, y, channels, gate).add_(short)

    def _squeeze_excite(self, se: Module, old: Module | None, name: str | None, maps: Tensor, mid: Tensor) -> Tensor:
        if old is None:
            se.conv_expand.weight.zero_()
            se.conv_expand.bias.fill_(GATE_BIAS)
            return se(maps)
        t, hidden = self.targets, se.conv_reduce.out_channels
        strength = old.conv_expand.weight.double().square().sum((0, 2, 3))
        units = torch.from_numpy(fill(strength.argsort(descending=True).cpu().numpy(), hidden)).to(maps.device)
        x = self.samples.values(se.pool(maps)).mT
        new, weight = units == NEW, old.conv_reduce.weight.double()[:, :, 0, 0]
        prior = torch.where(new[:, None], se.conv_reduce.weight.double()[:, :, 0, 0], take(take(weight, units), mid, 1))
        fit = fit_affine(
            x,
            take(t[f"{name}.se.conv_reduce"], units),
            prior,
            self.settings.pointwise_ridge,
            ~new,
            self.settings.relu_steps,
        )
        set_filters(se.conv_reduce, fit)
        x = (fit.weight.to(x.dtype) @ x + fit.bias.to(x.dtype)[:, None]).relu_()
        weight = take(take(old.conv_expand.weight.double()[:, :, 0, 0], mid), units, 1)
        y = torch.where((mid != NEW)[:, None], take(t[f"{name}.se.conv_expand"], mid), GATE_BIAS)
        set_filters(se.conv_expand, fit_affine(x, y, weight, self.settings.pointwise_ridge))
        return se(maps)

    def _shortcut(
        self,
        shortcut: Module,
        old: Module | None,
        name: str | None,
        after: str,
        source: Stream,
        channels: Tensor,
    ) -> Tensor:
        t, device = self.targets, self.samples.device
        depthwise, first, pointwise, second = shortcut
        kernel, count = depthwise.kernel_size[0], len(t[after])
        if old is None or isinstance(old.shortcut, nn.Identity):
            before = self._before(name, after)
            filters = torch.zeros(count, kernel**2, dtype=torch.float64, device=device)
            filters[:, kernel**2 // 2] = 1
            weight = torch.eye(count, dtype=torch.float64, device=device)
            inner, outer = before, before
        else:
            filters = centred(folded(*old.shortcut[:2]), kernel)
            weight = folded(*old.shortcut[2:4])[:, :, 0, 0]
            inner, outer = t[f"{name}.shortcut.1"], t[f"{name}.shortcut"]
        fitted = source.channels != NEW
        y = take(inner, source.channels)
        fit, maps = self._depthwise(
            depthwise.weight, source.maps, y, take(filters, source.channels), depthwise.stride[0], fitted
        )
        set_norm(first, fit)
        prior = take(take(weight, channels), source.channels, 1)
        return self._pointwise(pointwise, second, maps, take(outer, channels), prior, channels)

    def _before(self, name: str | None, after: str) -> Tensor:
        """What the parent has at the input of a block whose shortcut is the identity; of a block that it lacks, what it
        has there."""
        return self.targets[after if name is None else f"{name}.shortcut"]

    def tail(self, stream: Stream) -> Tensor:
        """Fits the tail's first convolution. Returns the pooled features, [N, tail_chs]."""
        tail, old, t = self.child.blocks[-1][0], self.parent.blocks[-1][0], self.targets
        name = f"blocks.{len(self.parent.arch.stages)}.0.bn1"
        channels = self.tail_channels
        prior = take(take(folded(old.conv, old.bn1)[:, :, 0, 0], channels), stream.channels, 1)
        maps = self._pointwise(
            tail.conv, tail.bn1, stream.maps, take(t[name], channels), prior, channels, self.settings.relu_steps
        )
        others = self._others(nn.Sequential(tail, self.child.global_pool), stream.others)
        pooled = maps.relu_().mean((2, 3))
        return torch.cat([pooled, others.flatten(1)]) if len(others) else pooled

    @property
    def tail_channels(self) -> Tensor:
        """Which of the parent's stand at the child's tail."""
        order = self.arrangement.order_of_tail
        return torch.from_numpy(fill(order, self.child.arch.tail_chs)).to(self.samples.device)


def _shape(module: Module) -> tuple[int, int]:
    """Primaries and cheap kernel of a Ghost module."""
    cheap = module.cheap_operation
    return module.primary_conv[0].out_channels, cheap[0].kernel if cheap is not None else 1


def fit_head(parent: GhostNet, pooled: Tensor, outputs: Tensor, channels: Tensor, settings: FitSettings) -> Affine:
    """The convolution behind the pooling.

    Args:
        pooled: what it is given, [images, c].
        outputs: what the parent's puts out, before the ReLU, [head_chs, images].
        channels: which of the parent's channels the child's are, [c]; NEW where none.
    """
    prior = take(parent.conv_head.weight.double()[:, :, 0, 0], channels, 1)
    return fit_affine(pooled.mT, outputs, prior, settings.head_ridge, relu_steps=settings.relu_steps)


def set_filters(conv: Module, fit: Affine) -> None:
    """A 1x1 convolution's filters and bias."""
    conv.weight.copy_(fit.weight[:, :, None, None])
    conv.bias.copy_(fit.bias)


def take(tensor: Tensor, index: Tensor, dim: int = 0) -> Tensor:
    """`index_select` with zeros where the index is NEW."""
    taken = tensor.index_select(dim, index.clamp_min(0))
    new = index == NEW
    return (
        taken.masked_fill_(new.view([-1 if d == dim else 1 for d in range(tensor.ndim)]), 0)
        if bool(new.any())
        else taken
    )


def centred(filters: Tensor, kernel: int) -> Tensor:
    """[n, 1, d, d] -> [n, kernel^2], cropped or padded around the centre"""
    margin = (kernel - filters.shape[-1]) // 2
    return F.pad(filters, (margin,) * 4).flatten(1)
