"""The plain networks that the paper ghostifies on CIFAR-10 (section 4.1): VGG-16 and ResNet-56.

`ghostify(vgg16(), ratio=2, cheap_kernel=3)` is Ghost-VGG-16. torchvision and timm have neither at this size; ResNet-50
is theirs.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

VGG16 = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")


def vgg16(num_classes: int = 10, in_chs: int = 3) -> nn.Sequential:
    """VGG-16 for 32 x 32 images: thirteen convolutions with batch norm, then 512-512-classes."""
    layers: list[nn.Module] = []
    chs = in_chs
    for width in VGG16:
        if isinstance(width, str):
            layers.append(nn.MaxPool2d(2))
        else:
            conv = nn.Conv2d(chs, width, 3, padding=1, bias=False)
            layers += [conv, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            chs = width
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 512), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, *head, nn.Linear(512, num_classes))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut without weights: every other pixel, zeros for new channels (He et al.,
    "Deep residual learning", CVPR 2016, section 4.2, option A)."""

    def __init__(self, in_chs: int, out_chs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_chs, out_chs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_chs)
        self.conv2 = nn.Conv2d(out_chs, out_chs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_chs)
        self.stride, self.new_chs = stride, out_chs - in_chs

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_chs, H, W] -> [B, out_chs, ceil(H / stride), ceil(W / stride)]"""
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        shortcut = x[:, :, :: self.stride, :: self.stride]
        return torch.relu(y + F.pad(shortcut, (0, 0, 0, 0, 0, self.new_chs)))


def resnet(depth: int = 56, num_classes: int = 10, in_chs: int = 3) -> nn.Sequential:
    """ResNet of 6 k + 2 layers for 32 x 32 images: three stages of k basic blocks, 16, 32 and 64 channels."""
    if depth % 6 != 2:
        raise ValueError(f"`depth` must be 6 k + 2, but got {depth!r}")
    stem = [nn.Conv2d(in_chs, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True)]
    blocks = []
    for before, chs in pairwise((16, 16, 32, 64)):
        blocks += [BasicBlock(before, chs, 1 if before == chs else 2)]
        blocks += [BasicBlock(chs, chs, 1) for _ in range(depth // 6 - 1)]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, num_classes))
