"""Multiply-adds and parameters in closed form.

One multiply-add is one MAC, which is what the GhostNet paper calls a FLOP. Convolutions and linear layers count;
norms, activations, pooling and additions don't, as in the paper. Parameters are all learned values, norms included.
"""

from dataclasses import dataclass

from ghostnet.arch import Arch
from ghostnet.units import Bottleneck, Stem, Tail, Unit, intrinsic_chs, se_chs, strided, units


@dataclass(frozen=True, slots=True)
class Cost:
    """MACs for one image, and learned parameters."""

    macs: int = 0
    params: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.macs + other.macs, self.params + other.params)


def cost(arch: Arch, num_classes: int = 1000, in_chs: int = 3) -> Cost:
    """MACs at `arch.resolution` and parameters of `GhostNet(arch, num_classes, in_chs)`."""
    return sum((unit_cost(unit) for unit in units(arch, num_classes, in_chs)), Cost())


def unit_cost(unit: Unit) -> Cost:
    """The cost of one unit of the chain that `units` gives."""
    match unit:
        case Stem(in_chs, out_chs, stride, size):
            return _conv(in_chs, out_chs, 3, strided(size, stride)) + _norm(out_chs)
        case Bottleneck():
            return _bottleneck(unit)
        case Tail(in_chs, tail_chs, head_chs, num_classes, size):
            pooled = _conv(tail_chs, head_chs, 1, 1, bias=True) + _conv(head_chs, num_classes, 1, 1, bias=True)
            return _conv(in_chs, tail_chs, 1, size) + _norm(tail_chs) + pooled


def _bottleneck(unit: Bottleneck) -> Cost:
    block, in_chs, size = unit.block, unit.in_chs, unit.size
    mid, out, out_size = block.mid_chs, block.out_chs, strided(unit.size, block.stride)
    total = ghost_cost(in_chs, mid, block.ratio, block.cheap_kernel, size, unit.align)
    total += ghost_cost(mid, out, block.ratio, block.cheap_kernel, out_size, unit.align)
    if block.stride > 1:
        total += _conv(mid, mid, block.dw_kernel, out_size, groups=mid) + _norm(mid)
    if se := se_chs(block):
        total += _conv(mid, se, 1, 1, bias=True) + _conv(se, mid, 1, 1, bias=True)
    if unit.has_shortcut:
        total += _conv(in_chs, in_chs, block.dw_kernel, out_size, groups=in_chs) + _norm(in_chs)
        total += _conv(in_chs, out, 1, out_size) + _norm(out)
    return total


def ghost_cost(
    in_chs: int, out_chs: int, ratio: int, cheap_kernel: int, size: int, align: int = 1, kernel: int = 1
) -> Cost:
    """A Ghost module (section 3.1): m primary channels by an ordinary convolution, n - m by a depthwise one."""
    primary = intrinsic_chs(out_chs, ratio, align)
    ghosts = out_chs - primary
    total = _conv(in_chs, primary, kernel, size) + _norm(primary)
    return total + _conv(ghosts, ghosts, cheap_kernel, size, groups=ghosts) + _norm(ghosts) if ghosts else total


def _conv(in_chs: int, out_chs: int, kernel: int, out_size: int, groups: int = 1, bias: bool = False) -> Cost:
    weights = in_chs // groups * out_chs * kernel**2
    return Cost(weights * out_size**2, weights + out_chs * bias)


def _norm(chs: int) -> Cost:
    return Cost(0, 2 * chs)
