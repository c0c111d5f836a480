"""Multiply-adds and parameters in closed form.

One multiply-add is one MAC, which is what the GhostNet paper calls a FLOP. Convolutions and linear layers count;
norms, activations, pooling and additions don't, as in the paper. Parameters are all learned values, norms included.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ghostnet.arch import Arch, block_name
from ghostnet.units import Bottleneck, Stem, Tail, Unit, chain, intrinsic_chs, se_chs, strided, units


@dataclass(frozen=True, slots=True)
class Cost:
    """MACs for one image, and learned parameters."""

    macs: int = 0
    params: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.macs + other.macs, self.params + other.params)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A convolution, or a linear layer as a 1x1 one at size 1; with its batch norm, or else with a bias.

    Args:
        name: the convolution's place in `GhostNet`, such as `blocks.0.0.ghost1.primary_conv.0`.
        size: side of the output, in pixels.
    """

    name: str
    in_chs: int
    out_chs: int
    kernel: int
    size: int
    groups: int = 1
    norm: bool = True

    @property
    def weights(self) -> int:
        return self.in_chs // self.groups * self.out_chs * self.kernel**2

    @property
    def cost(self) -> Cost:
        """n h' w' c k^2 multiply-adds (section 3.1), and the weights with what shifts and scales them."""
        return Cost(self.weights * self.size**2, self.weights + self.out_chs * (2 if self.norm else 1))


def cost(arch: Arch, num_classes: int = 1000, in_chs: int = 3) -> Cost:
    """MACs at `arch.resolution` and parameters of `GhostNet(arch, num_classes, in_chs)`.

    Raises:
        ArchError: classes or channels out of range.
    """
    return sum((unit_cost(unit) for unit in units(arch, num_classes, in_chs)), Cost())


def layers(arch: Arch, num_classes: int = 1000, in_chs: int = 3) -> tuple[Layer, ...]:
    """Every layer of `GhostNet(arch, num_classes, in_chs)` that costs anything, from the stem on."""
    units = chain(arch, num_classes, in_chs)
    listed = list(unit_layers(units.stem))
    for name, unit in units.bottlenecks.items():
        listed += [replace(layer, name=f"{name}.{layer.name}") for layer in unit_layers(unit)]
    conv, *pooled = unit_layers(units.tail)
    return (*listed, replace(conv, name=f"{block_name(len(arch.stages), 0)}.{conv.name}"), *pooled)


def unit_cost(unit: Unit) -> Cost:
    """The cost of one unit of the chain that `units` gives."""
    return sum((layer.cost for layer in unit_layers(unit)), Cost())


def unit_layers(unit: Unit) -> Iterator[Layer]:
    """The layers of one unit, named from the unit on."""
    match unit:
        case Stem(in_chs, out_chs, stride, size):
            yield Layer(name="conv_stem", in_chs=in_chs, out_chs=out_chs, kernel=3, size=strided(size, stride))
        case Bottleneck():
            yield from _bottleneck(unit)
        case Tail(in_chs, tail_chs, head_chs, num_classes, size):
            yield Layer(name="conv", in_chs=in_chs, out_chs=tail_chs, kernel=1, size=size)
            yield Layer(name="conv_head", in_chs=tail_chs, out_chs=head_chs, kernel=1, size=1, norm=False)
            if num_classes:
                yield Layer(name="classifier", in_chs=head_chs, out_chs=num_classes, kernel=1, size=1, norm=False)


def _ghost_layers(
    name: str, in_chs: int, out_chs: int, ratio: int, cheap_kernel: int, size: int, align: int
) -> Iterator[Layer]:
    """A Ghost module (section 3.1): m primary channels by an ordinary convolution, n - m by a depthwise one.

    Where s divides n this is the numerator and denominator of the paper's equations 4 and 5 (the identity counted as
    free), at k = 1: n/s h' w' c k^2 + (s - 1) n/s h' w' d^2.
    """
    primary = intrinsic_chs(out_chs, ratio, align)
    yield Layer(name=f"{name}.primary_conv.0", in_chs=in_chs, out_chs=primary, kernel=1, size=size)
    if ghosts := out_chs - primary:
        yield _depthwise(f"{name}.cheap_operation.0", ghosts, cheap_kernel, size)


def _bottleneck(unit: Bottleneck) -> Iterator[Layer]:
    block, in_chs, size = unit.block, unit.in_chs, unit.size
    mid, out, out_size = block.mid_chs, block.out_chs, strided(unit.size, block.stride)
    yield from _ghost_layers("ghost1", in_chs, mid, block.ratio, block.cheap_kernel, size, unit.align)
    if block.stride > 1:
        yield _depthwise("conv_dw", mid, block.dw_kernel, out_size)
    if se := se_chs(block):
        yield Layer(name="se.conv_reduce", in_chs=mid, out_chs=se, kernel=1, size=1, norm=False)
        yield Layer(name="se.conv_expand", in_chs=se, out_chs=mid, kernel=1, size=1, norm=False)
    yield from _ghost_layers("ghost2", mid, out, block.ratio, block.cheap_kernel, out_size, unit.align)
    if unit.has_shortcut:
        yield _depthwise("shortcut.0", in_chs, block.dw_kernel, out_size)
        yield Layer(name="shortcut.2", in_chs=in_chs, out_chs=out, kernel=1, size=out_size)


def _depthwise(name: str, chs: int, kernel: int, size: int) -> Layer:
    return Layer(name=name, in_chs=chs, out_chs=chs, kernel=kernel, size=size, groups=chs)
