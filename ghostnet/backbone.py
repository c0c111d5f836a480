"""A GhostNet's trunk for detection and segmentation: images in, feature maps of several strides out."""

from collections.abc import Sequence

from torch import Tensor, nn

from ghostnet.arch import ArchError
from ghostnet.network import GhostNet
from ghostnet.units import feature_maps


class Backbone(nn.Module):
    """The stem and blocks of a network, shared with it, without what no feature map needs.

    Attributes:
        features: block, stride and channels of each output.
        chs: channels of each output, as a feature pyramid asks for them.

    Args:
        net: the network, trained or not; parameter names stay its own.
        strides: pixels a cell of the outputs, finest first.

    Raises:
        ArchError: the network has no feature map of a stride.
    """

    def __init__(self, net: GhostNet, strides: Sequence[int] = (4, 8, 16, 32)) -> None:
        super().__init__()
        there = {feature.stride: feature for feature in feature_maps(net.arch)}
        for stride in strides:
            if stride not in there:
                raise ArchError(f"a feature map's stride must be one of {sorted(there)}, but got {stride!r}")
        self.features = tuple(there[stride] for stride in strides)
        self.chs = [feature.chs for feature in self.features]
        self.conv_stem, self.bn1, self.act1 = net.conv_stem, net.bn1, net.act1
        self.blocks = first_blocks(net, max(feature.block for feature in self.features) + 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        """[B, in_chs, H, W] -> a map [B, chs, ceil(H / stride), ceil(W / stride)] for each of `features`"""
        wanted = {feature.block for feature in self.features}
        x = self.act1(self.bn1(self.conv_stem(x)))
        maps: dict[int, Tensor] = {}
        for i, block in enumerate(block for stage in self.blocks for block in stage):  # type: ignore[attr-defined]
            x = block(x)
            if i in wanted:
                maps[i] = x
        return [maps[feature.block] for feature in self.features]


def first_blocks(net: GhostNet, count: int) -> nn.Sequential:
    """The first `count` of a network's bottlenecks, shared with it, by stages as they are there."""
    stages = nn.Sequential()
    for stage in list(net.blocks)[:-1]:
        assert isinstance(stage, nn.Sequential)
        if count > 0:
            stages.append(stage[:count])
        count -= len(stage)
    return stages
