"""`GhostNet(arch)`: the standalone network. Parameter names are timm's (`timm/models/ghostnet.py`)."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ghostnet.arch import MAX_PARAMS, Arch, ArchError, check_rate
from ghostnet.cost import cost
from ghostnet.modules import Conv2d, GhostBottleneck, Linear, conv_norm
from ghostnet.units import Bottleneck, Stem, Tail, Unit, chain


class ConvNormAct(nn.Module):
    """1x1 convolution, norm, ReLU: the last entry of `blocks`."""

    def __init__(self, in_chs: int, out_chs: int) -> None:
        super().__init__()
        self.conv, self.bn1 = conv_norm(in_chs, out_chs, 1)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_chs, H, W] -> [B, out_chs, H, W]"""
        return self.act(self.bn1(self.conv(x)))


class GhostNet(nn.Module):
    """A GhostNet (section 3.3) of any architecture.

    Args:
        num_classes: outputs of the classifier; 0 leaves it out, and the outputs are the `head_chs` pooled features.
        in_chs: channels of the input.
        drop_rate: dropout before the classifier, in training only (0.2 in the paper's recipe).
        drop_path: rate at which training skips the last block's branch; earlier blocks' in proportion to their depth.
        generator: source of the initial weights; torch's global one where None.

    Raises:
        ArchError: classes, channels or rates out of range, or more parameters than `ghostnet.arch.MAX_PARAMS`.
    """

    def __init__(
        self,
        arch: Arch,
        num_classes: int = 1000,
        in_chs: int = 3,
        drop_rate: float = 0.0,
        drop_path: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_rate("drop_rate", drop_rate)
        check_rate("drop_path", drop_path)
        if (params := cost(arch, num_classes, in_chs).params) > MAX_PARAMS:
            raise ArchError(f"a network has at most {MAX_PARAMS:,} parameters, but this one has {params:,}")
        self.arch, self.num_classes, self.in_chs, self.drop_rate = arch, num_classes, in_chs, drop_rate
        units = chain(arch, num_classes, in_chs)
        stem, bottlenecks, tail = units.stem, iter(units.bottlenecks.values()), units.tail
        self.conv_stem, self.bn1 = conv_norm(stem.in_chs, stem.out_chs, 3, stem.stride)
        self.act1 = nn.ReLU(inplace=True)
        stages: list[nn.Module] = []
        rates = (drop_path * (k + 1) / len(arch.blocks) for k in range(len(arch.blocks)))
        for stage in arch.stages:
            stages.append(nn.Sequential(*(GhostBottleneck(next(bottlenecks), next(rates)) for _ in stage)))
        stages.append(nn.Sequential(ConvNormAct(tail.in_chs, tail.tail_chs)))
        self.blocks = nn.Sequential(*stages)
        self.global_pool = nn.AdaptiveAvgPool2d(1)
        self.conv_head = Conv2d(tail.tail_chs, tail.head_chs, 1)
        self.act2 = nn.ReLU(inplace=True)
        self.classifier = Linear(tail.head_chs, num_classes) if num_classes else nn.Identity()
        if not self.conv_stem.weight.is_meta:
            initialise(self.named_parameters(), generator)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image at the network's own resolution."""
        return self.in_chs, self.arch.resolution, self.arch.resolution

    def forward_features(self, x: Tensor) -> Tensor:
        """[B, in_chs, H, W] -> [B, tail_chs, h, w]"""
        return self.blocks(self.act1(self.bn1(self.conv_stem(x))))

    def forward_head(self, x: Tensor) -> Tensor:
        """[B, tail_chs, h, w] of any size -> logits [B, num_classes], or [B, head_chs] where there are no classes"""
        x = self.act2(self.conv_head(self.global_pool(x))).flatten(1)
        if self.drop_rate:
            x = F.dropout(x, self.drop_rate, self.training)
        return self.classifier(x)

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, in_chs, H, W] of any size -> logits [B, num_classes], or [B, head_chs] where there are none"""
        return self.forward_head(self.forward_features(x))


def unit_module(unit: Unit) -> nn.Module:
    """One unit alone, as it stands in a `GhostNet`, with fresh weights: [B, C, H, W] in, its outputs out."""
    match unit:
        case Bottleneck():
            return GhostBottleneck(unit)
        case Stem():
            return nn.Sequential(*conv_norm(unit.in_chs, unit.out_chs, 3, unit.stride), nn.ReLU(inplace=True))
        case Tail():
            head = [nn.AdaptiveAvgPool2d(1), Conv2d(unit.tail_chs, unit.head_chs, 1), nn.ReLU(inplace=True)]
            classifier = Linear(unit.head_chs, unit.num_classes) if unit.num_classes else nn.Identity()
            return nn.Sequential(ConvNormAct(unit.in_chs, unit.tail_chs), *head, nn.Flatten(1), classifier)


@torch.no_grad()
def initialise(named: Iterable[tuple[str, Tensor]], generator: torch.Generator | None = None) -> None:
    """He-normal filters by fan-in, norms at one and zero, a small classifier; told apart by shape alone, so that a
    network and a supernet's weights start alike."""
    for name, tensor in named:
        if tensor.ndim == 4:
            nn.init.kaiming_normal_(tensor, nonlinearity="relu", generator=generator)
        elif tensor.ndim == 2:
            nn.init.normal_(tensor, std=tensor.shape[1] ** -0.5, generator=generator)
        else:
            nn.init.constant_(tensor, 0.0 if name.endswith("bias") else 1.0)
