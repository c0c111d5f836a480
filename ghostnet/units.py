"""An architecture as a chain of units: stem, bottlenecks, tail. Costs and latencies are both sums over units.

A unit knows all that its cost and its speed depend on, and nothing else, so equal units are timed and counted once.
"""

from dataclasses import dataclass

from ghostnet.arch import MAX_CLASSES, MAX_IN_CHS, Arch, Block, check_whole
from ghostnet.published import make_divisible


@dataclass(frozen=True, slots=True)
class Stem:
    """3x3 convolution, norm, ReLU. `size` is the side of its input, in pixels (as for every unit)."""

    in_chs: int
    out_chs: int
    stride: int
    size: int

    @property
    def key(self) -> str:
        return f"stem {self.in_chs}>{self.out_chs} /{self.stride} @{self.size}"


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """A Ghost bottleneck at its place in a network."""

    in_chs: int
    block: Block
    align: int
    size: int

    @property
    def key(self) -> str:
        b = self.block
        se, kernel = se_chs(b), b.dw_kernel if self.uses_dw_kernel else 0
        ghost = f"s{b.ratio}d{b.cheap_kernel}" + (f"a{self.align}" if self.align > 1 else "")
        return f"ghost {self.in_chs}>{b.mid_chs}>{b.out_chs} k{kernel}/{b.stride} se{se} {ghost} @{self.size}"

    @property
    def has_shortcut(self) -> bool:
        """Whether the shortcut is a convolution rather than the identity (section 3.2)."""
        return self.block.stride > 1 or self.in_chs != self.block.out_chs

    @property
    def uses_dw_kernel(self) -> bool:
        """Whether anything in the block has the kernel `dw_kernel`: the strided convolution or the shortcut."""
        return self.has_shortcut


@dataclass(frozen=True, slots=True)
class Tail:
    """1x1 convolution, norm, ReLU, global pooling, 1x1 convolution with bias, ReLU, linear classifier."""

    in_chs: int
    tail_chs: int
    head_chs: int
    num_classes: int
    size: int

    @property
    def key(self) -> str:
        return f"tail {self.in_chs}>{self.tail_chs}>{self.head_chs}>{self.num_classes} @{self.size}"


Unit = Stem | Bottleneck | Tail
STEM, TAIL = "stem", "tail"  # names in a chain; a bottleneck's is its block's


@dataclass(frozen=True, slots=True)
class Chain:
    """The units of a network, the bottlenecks by the name of their block. What comes first and what last is said here
    alone, and for the networks of a space in `spaces.layout.Layout`."""

    stem: Stem
    bottlenecks: dict[str, Bottleneck]
    tail: Tail

    @property
    def named(self) -> dict[str, Unit]:
        """Every unit by its name, in order."""
        return {STEM: self.stem, **self.bottlenecks, TAIL: self.tail}


def chain(arch: Arch, num_classes: int = 1000, in_chs: int = 3) -> Chain:
    """The units of `GhostNet(arch, num_classes, in_chs)`, by name.

    Raises:
        ArchError: classes or channels out of range.
    """
    check_whole("num_classes", num_classes, 0, MAX_CLASSES)
    check_whole("in_chs", in_chs, 1, MAX_IN_CHS)
    stem = Stem(in_chs, arch.stem_chs, arch.stem_stride, arch.resolution)
    bottlenecks = {}
    chs, size = arch.stem_chs, strided(arch.resolution, arch.stem_stride)
    for name, block in zip(arch.block_names, arch.blocks, strict=True):
        bottlenecks[name] = Bottleneck(chs, block, arch.align, size)
        chs, size = block.out_chs, strided(size, block.stride)
    return Chain(stem, bottlenecks, Tail(chs, arch.tail_chs, arch.head_chs, num_classes, size))


def units(arch: Arch, num_classes: int = 1000, in_chs: int = 3) -> tuple[Unit, ...]:
    """The units of `chain` in order, `len(arch.blocks) + 2` of them."""
    return tuple(chain(arch, num_classes, in_chs).named.values())


def output_values(unit: Unit) -> int:
    """Values of one image in what a unit puts out: the map that the next one reads, or the logits."""
    match unit:
        case Stem(_, out_chs, stride, size):
            return out_chs * strided(size, stride) ** 2
        case Bottleneck(_, block, _, size):
            return block.out_chs * strided(size, block.stride) ** 2
        case Tail():
            return unit.num_classes


def strided(size: int, stride: int) -> int:
    """Side of a feature map after a padded odd convolution: ceil(size / stride)."""
    return -(-size // stride)


def intrinsic_chs(out_chs: int, ratio: int, align: int = 1) -> int:
    """Primary channels m = n / s of a Ghost module (eq. 2), rounded up to a whole number and to `align`."""
    primary = -(-out_chs // ratio)
    return min(out_chs, -(-primary // align) * align)


def se_chs(block: Block) -> int:
    """Hidden channels of the block's squeeze-and-excitation, 0 where there is none."""
    return make_divisible(block.se_ratio * block.mid_chs) if block.se_ratio else 0


@dataclass(frozen=True, slots=True)
class FeatureMap:
    """Where a backbone's feature map comes from: the output of the `block`-th block, `stride` pixels a cell."""

    block: int
    stride: int
    chs: int


def feature_maps(arch: Arch) -> tuple[FeatureMap, ...]:
    """The last block's output at each stride, finest first: what detection and segmentation heads are given.

    timm's `features_only` takes a stage earlier (the first stage at a stride), so its channels may be fewer.
    """
    stride, maps = arch.stem_stride, {}
    for i, block in enumerate(arch.blocks):
        stride *= block.stride
        maps[stride] = FeatureMap(i, stride, block.out_chs)
    return tuple(maps.values())
