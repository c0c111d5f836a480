"""The published GhostNets: table 1 of the paper, scaled by the width multiplier as the authors' code scales it."""

import re
from dataclasses import dataclass

from ghostnet.arch import Arch, ArchError, Block

SE_RATIO = 0.25  # of a block with squeeze-and-excitation


@dataclass(frozen=True, slots=True)
class Row:
    """One row of table 1: kernel k, expansion channels, output channels, SE ratio, stride (all at width 1.0)."""

    dw_kernel: int
    mid_chs: int
    out_chs: int
    se_ratio: float
    stride: int

    def block(self, width: float, **ghost: object) -> Block:
        """The row as a `Block` with channels scaled by `width`; `ghost` overrides any of its fields."""
        values: dict[str, object] = {
            "dw_kernel": self.dw_kernel,
            "mid_chs": make_divisible(self.mid_chs * width),
            "out_chs": make_divisible(self.out_chs * width),
            "se_ratio": self.se_ratio,
            "stride": self.stride,
        }
        return Block(**(values | ghost))  # type: ignore[arg-type]


def make_divisible(value: float, divisor: int = 4) -> int:
    """Rounds channels to a multiple of `divisor`, never down by more than a tenth (the authors' rule)."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


PUBLISHED = re.compile(r"ghostnet-([0-9](?:\.[0-9]+)?)")
STEM_CHS, TAIL_CHS, HEAD_CHS = 16, 960, 1280
TABLE_1: tuple[tuple[Row, ...], ...] = (
    (Row(3, 16, 16, 0, 1),),
    (Row(3, 48, 24, 0, 2),),
    (Row(3, 72, 24, 0, 1),),
    (Row(5, 72, 40, SE_RATIO, 2),),
    (Row(5, 120, 40, SE_RATIO, 1),),
    (Row(3, 240, 80, 0, 2),),
    (
        Row(3, 200, 80, 0, 1),
        Row(3, 184, 80, 0, 1),
        Row(3, 184, 80, 0, 1),
        Row(3, 480, 112, SE_RATIO, 1),
        Row(3, 672, 112, SE_RATIO, 1),
    ),
    (Row(5, 672, 160, SE_RATIO, 2),),
    (Row(5, 960, 160, 0, 1), Row(5, 960, 160, SE_RATIO, 1), Row(5, 960, 160, 0, 1), Row(5, 960, 160, SE_RATIO, 1)),
)


def published(name: str) -> Arch:
    """The paper's network of a name `ghostnet-<width>`: `ghostnet-0.5`, `ghostnet-1.0`, `ghostnet-1.3` are published,
    other widths scale the same way.

    Raises:
        ArchError: the name is not of that form, or the width is not from 0.1 to 4.
    """
    match = PUBLISHED.fullmatch(name) if isinstance(name, str) else None
    if not match or not 0.1 <= (width := float(match[1])) <= 4:
        raise ArchError(f"a published network is called `ghostnet-<width>` and a width from 0.1 to 4, not {name!r:.80}")
    return Arch(
        stages=tuple(tuple(row.block(width) for row in stage) for stage in TABLE_1),
        stem_chs=make_divisible(STEM_CHS * width),
        tail_chs=make_divisible(TAIL_CHS * width),
        head_chs=HEAD_CHS,
    )
