"""The building blocks: Ghost module, squeeze-and-excitation, Ghost bottleneck.

Paper: Han et al., "GhostNet", CVPR 2020, section 3.1 (module) and 3.2 (bottleneck). Parameter names are timm's.

In the paper's letters: X [c, h, w] becomes Y [n, h', w'] (eq. 1); of the n maps, m = n / s are intrinsic, Y' = X * f'
with k x k filters (eq. 2), and each of those makes s - 1 ghosts, y_ij = Phi_ij(y'_i), by d x d filters, while Phi_is is
the identity (eq. 3). In the code c is `in_chs`, n `out_chs`, s `ratio`, k `kernel`, d `cheap_kernel`.

Deviations: ghosts that the closing slice would throw away are never computed (the authors compute ceil(n/s)(s-1) of
them and cut), and at s > 2 the ghosts come replica by replica, so that the cheap op is s - 1 depthwise convolutions
instead of a grouped one, which misses every runtime's fast path (tests/benchmarks/ghost_module.py measures it).
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ghostnet.arch import check_ghost, check_odd, check_whole
from ghostnet.units import Bottleneck, intrinsic_chs, se_chs


class _Quiet:
    """Draws no initial weights on the meta device, where they would be thrown away at a millisecond a layer."""

    def reset_parameters(self) -> None:
        if not self.weight.is_meta:  # type: ignore[attr-defined]
            super().reset_parameters()  # type: ignore[misc]


class Conv2d(_Quiet, nn.Conv2d):
    """`nn.Conv2d`, quick to build on the meta device."""


class BatchNorm2d(_Quiet, nn.BatchNorm2d):
    """`nn.BatchNorm2d`, quick to build on the meta device."""


class Linear(_Quiet, nn.Linear):
    """`nn.Linear`, quick to build on the meta device."""


def conv_norm(in_chs: int, out_chs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """A padded convolution without bias, and its batch norm."""
    conv = Conv2d(in_chs, out_chs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, BatchNorm2d(out_chs)]


class CheapConv(nn.Module):
    """The cheap linear operations Phi of eq. 3: ghost j is a d x d filter of primary j mod `in_chs`.

    One depthwise convolution a replica; where fewer ghosts than primaries are left, the last reads the leading ones.
    """

    def __init__(self, in_chs: int, out_chs: int, kernel: int, bias: bool = False) -> None:
        super().__init__()
        self.in_chs, self.out_chs, self.kernel = in_chs, out_chs, kernel
        self.weight = nn.Parameter(torch.empty(out_chs, 1, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out_chs)) if bias else None
        if not self.weight.is_meta:
            nn.init.kaiming_normal_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_chs, H, W] -> [B, out_chs, H, W]"""
        replicas = [
            self._replica(x if stop - start == self.in_chs else x[:, : stop - start], slice(start, stop))
            for start, stop in self.replicas
        ]
        return replicas[0] if len(replicas) == 1 else torch.cat(replicas, 1)

    @property
    def replicas(self) -> list[tuple[int, int]]:
        """Where the first ghosts of all primaries start and stop among the outputs, where the second ones, ..."""
        starts = range(0, self.out_chs, self.in_chs)
        return [(start, min(start + self.in_chs, self.out_chs)) for start in starts]

    def _replica(self, x: Tensor, part: slice) -> Tensor:
        bias = self.bias[part] if self.bias is not None else None
        return F.conv2d(x, self.weight[part], bias, padding=self.kernel // 2, groups=x.shape[1])

    def extra_repr(self) -> str:
        return f"{self.in_chs}, {self.out_chs}, kernel={self.kernel}"


class GhostModule(nn.Module):
    """n output maps from m = ceil(n / s) primary ones (eq. 2) and n - m cheap ones (eq. 3).

    Args:
        ratio: s; 1 makes an ordinary convolution.
        cheap_kernel: d, the side of the cheap operations' filters.
        kernel: side of the primary convolution's filters (1 in GhostNet).
        align: m is rounded up to a multiple of it.

    Raises:
        ArchError: a value is outside its range.
    """

    def __init__(
        self,
        in_chs: int,
        out_chs: int,
        ratio: int = 2,
        cheap_kernel: int = 3,
        kernel: int = 1,
        stride: int = 1,
        relu: bool = True,
        align: int = 1,
    ) -> None:
        super().__init__()
        check_whole("in_chs", in_chs, 1)
        check_whole("out_chs", out_chs, 1)
        check_ghost(ratio, cheap_kernel)
        check_odd("kernel", kernel)
        check_whole("stride", stride, 1, 31)
        check_whole("align", align, 1, 64)
        primary = intrinsic_chs(out_chs, ratio, align)
        ghosts = out_chs - primary
        self.primary_conv = nn.Sequential(*conv_norm(in_chs, primary, kernel, stride), _act(relu))
        self.cheap_operation = (
            nn.Sequential(CheapConv(primary, ghosts, cheap_kernel), BatchNorm2d(ghosts), _act(relu)) if ghosts else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_chs, H, W] -> [B, out_chs, ceil(H / stride), ceil(W / stride)]"""
        primary = self.primary_conv(x)
        return torch.cat([primary, self.cheap_operation(primary)], 1) if self.cheap_operation else primary


def _act(relu: bool) -> nn.Module:
    return nn.ReLU(inplace=True) if relu else nn.Identity()


class SqueezeExcite(nn.Module):
    """Channel gate (Hu et al., 2018) with the hard sigmoid relu6(x + 3) / 6, as GhostNet uses it."""

    def __init__(self, chs: int, hidden_chs: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.conv_reduce = Conv2d(chs, hidden_chs, 1)
        self.act1 = nn.ReLU(inplace=True)
        self.conv_expand = Conv2d(hidden_chs, chs, 1)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """[B, chs, H, W] -> the same"""
        return x * self.gate(self.conv_expand(self.act1(self.conv_reduce(self.pool(x)))))


class GhostBottleneck(nn.Module):
    """Ghost module with ReLU, strided depthwise convolution where the stride is 2, SE, Ghost module without ReLU,
    and the shortcut (section 3.2, figure 3). `drop_path` is the rate at which training skips the branch beside an
    identity shortcut."""

    def __init__(self, unit: Bottleneck, drop_path: float = 0.0) -> None:
        super().__init__()
        self.drop_path = 0.0 if unit.has_shortcut else drop_path
        block, in_chs = unit.block, unit.in_chs
        mid, out, kernel, stride = block.mid_chs, block.out_chs, block.dw_kernel, block.stride
        ghost = partial(GhostModule, ratio=block.ratio, cheap_kernel=block.cheap_kernel, align=unit.align)
        self.ghost1 = ghost(in_chs, mid)
        self.conv_dw: nn.Module | None
        self.bn_dw: nn.Module | None
        self.conv_dw, self.bn_dw = conv_norm(mid, mid, kernel, stride, groups=mid) if stride > 1 else (None, None)
        self.se = SqueezeExcite(mid, se_chs(block)) if block.se_ratio else None
        self.ghost2 = ghost(mid, out, relu=False)
        self.shortcut = (
            nn.Sequential(*conv_norm(in_chs, in_chs, kernel, stride, groups=in_chs), *conv_norm(in_chs, out, 1))
            if unit.has_shortcut
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_chs, H, W] -> [B, out_chs, ceil(H / stride), ceil(W / stride)]"""
        y = self.ghost1(x)
        if self.conv_dw is not None and self.bn_dw is not None:
            y = self.bn_dw(self.conv_dw(y))
        if self.se is not None:
            y = self.se(y)
        y = self.ghost2(y)
        if self.drop_path and self.training:
            y = drop_branch(y, self.drop_path)
        return y + self.shortcut(x)


def drop_branch(y: Tensor, rate: float) -> Tensor:
    """Stochastic depth (Huang et al., ECCV 2016): whole images' branches are zeroed, the others scaled up."""
    keep = torch.rand(len(y), 1, 1, 1, device=y.device, dtype=y.dtype) >= rate
    return y * keep / (1 - rate)
