"""How a code is laid out: its genes in order, and every position of the network with the genes that it depends on.

Widths come first (stem, stages, tail), then the resolution and the depths, then block by block: ghost, SE, expansion,
kernel. Of resolution, depths, expansions and kernels, only what has a choice has a gene.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from ghostnet.arch import block_name
from ghostnet.published import Row, make_divisible
from ghostnet.units import STEM, TAIL, intrinsic_chs
from spaces.genes import DepthGene, ExpansionGene, Gene, GhostGene, KernelGene, ResolutionGene, SeGene, WidthGene
from spaces.spec import SpaceSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a unit may stand in the chain of units. Genes are given by number, None where there is no choice.

    Args:
        name: as in `ghostnet.units.Chain`: `stem`, `blocks.<stage>.<block>` or `tail`.
        reduction: pixels of the network's input to one of the unit's input.
        before, width: width genes of what comes before and of the unit itself; the same within a stage, and nothing
            comes before the stem.
        resolution: the gene of the input's side.
        depth: the gene that may drop the unit; None, too, where every depth keeps it.
    """

    name: str
    reduction: int
    before: int | None
    width: int
    resolution: int | None
    depth: int | None = None

    @property
    def own(self) -> tuple[int, ...]:
        """Genes that no other position depends on."""
        return ()

    @property
    def roles(self) -> tuple[int | None, int, int | None, int | None]:
        """Genes that other positions depend on, too, by role: the width before if it is another gene, the width, the
        resolution, the depth."""
        return (self.before if self.before != self.width else None, self.width, self.resolution, self.depth)

    @property
    def shared(self) -> tuple[int, ...]:
        """Genes that other positions depend on, too."""
        return tuple(gene for gene in self.roles if gene is not None)

    @property
    def genes(self) -> tuple[int, ...]:
        """All genes that the unit depends on, shared ones first."""
        return (*self.shared, *self.own)


@dataclass(frozen=True, slots=True, kw_only=True)
class StemPosition(Position):
    """Where the stem stands: first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockPosition(Position):
    """Where a block may stand.

    Args:
        row: the block at width 1.0.
        index: the block's number in its stage.
        in_chs: channels of what comes before, at width 1.0.
        ghost, se, expansion, kernel: genes of this block alone.
    """

    before: int
    row: Row
    index: int
    in_chs: int
    ghost: int
    se: int
    expansion: int | None
    kernel: int | None

    @property
    def own(self) -> tuple[int, ...]:
        """The genes of this block alone."""
        return tuple(gene for gene in (self.ghost, self.se, self.expansion, self.kernel) if gene is not None)

    def uses_kernel(self, before: float, width: float) -> bool:
        """Whether anything in the block has the kernel `dw_kernel` at these widths, as `Bottleneck.uses_dw_kernel`."""
        return self.row.stride > 1 or make_divisible(self.in_chs * before) != make_divisible(self.row.out_chs * width)

    def mid_chs(self, width: float, expansion: float) -> int:
        """Hidden channels."""
        return make_divisible(self.row.mid_chs * width * expansion)

    def shape(self, width: float, expansion: float, ratio: int, cheap_kernel: int, align: int) -> tuple[int, ...]:
        """What a choice makes of the block's Ghost modules: hidden channels, primaries of both, and the cheap kernel (0
        where neither has ghosts)."""
        mid, out = self.mid_chs(width, expansion), make_divisible(self.row.out_chs * width)
        primaries = intrinsic_chs(mid, ratio, align), intrinsic_chs(out, ratio, align)
        return (mid, *primaries, 0 if primaries == (mid, out) else cheap_kernel)


@dataclass(frozen=True, slots=True, kw_only=True)
class TailPosition(Position):
    """Where the tail stands: last.

    Args:
        in_chs: channels of the last block, at width 1.0.
    """

    before: int
    in_chs: int


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage's width gene, its depth gene (None where there is no choice), and its block positions."""

    width: int
    depth: int | None
    blocks: tuple[BlockPosition, ...]


@dataclass(frozen=True, eq=False)
class Layout:
    """A space's genes and the positions of its networks. What comes first and what last is said here alone.

    Args:
        resolution: number of the gene of the input's side, None where there is no choice.
    """

    spec: SpaceSpec
    genes: tuple[Gene, ...]
    stem: StemPosition
    stages: tuple[Stage, ...]
    tail: TailPosition
    resolution: int | None

    @cached_property
    def blocks(self) -> tuple[BlockPosition, ...]:
        """Block positions in order, stage boundaries dropped."""
        return tuple(block for stage in self.stages for block in stage.blocks)

    @cached_property
    def positions(self) -> tuple[Position, ...]:
        """Every position along the chain of units."""
        return (self.stem, *self.blocks, self.tail)

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """The width genes along the chain of units."""
        return (self.stem.width, *(stage.width for stage in self.stages), self.tail.width)

    @cached_property
    def choices(self) -> NDArray[np.int64]:
        """Number of choices of each gene, [genes]."""
        return np.array([len(gene.choices) for gene in self.genes], dtype=np.int64)


@cache
def lay_out(spec: SpaceSpec) -> Layout:
    """The layout of a space's codes; the same object for equal specs."""
    genes: list[Gene] = []

    def add(gene: Gene) -> int:
        genes.append(gene)
        return len(genes) - 1

    def add_if_any(gene: Gene) -> int | None:
        return add(gene) if len(gene.choices) > 1 else None

    names = [f"stages.{i}" for i in range(len(spec.stages))]
    stem_width = add(WidthGene.stem(spec))
    widths = [add(WidthGene.stage(spec, name, rows)) for name, rows in zip(names, spec.stages, strict=True)]
    tail_width = add(WidthGene.tail(spec))
    resolution = add_if_any(ResolutionGene.network(spec))
    depths = [add_if_any(DepthGene.stage(spec, name, i)) for i, name in enumerate(names)]

    stem = StemPosition(name=STEM, reduction=1, before=None, width=stem_width, resolution=resolution)
    stages: list[Stage] = []
    before, in_chs, reduction = stem_width, spec.stem_chs, spec.stem_stride
    for i, (rows, width, depth) in enumerate(zip(spec.stages, widths, depths, strict=True)):
        blocks: list[BlockPosition] = []
        for j, row in enumerate(rows):
            name = block_name(i, j)
            block = BlockPosition(
                name=name,
                reduction=reduction,
                before=before,
                width=width,
                resolution=resolution,
                depth=depth if j >= spec.depth_choices[i][0] else None,
                row=row,
                index=j,
                in_chs=in_chs,
                ghost=add(GhostGene.block(spec, name)),
                se=add(SeGene.block(name)),
                expansion=add_if_any(ExpansionGene.block(spec, name)),
                kernel=None,
            )
            if any(block.uses_kernel(*met) for met in _widths_that_meet(genes, block)):
                block = replace(block, kernel=add_if_any(KernelGene.block(spec, name, row)))
            blocks.append(block)
            before, in_chs, reduction = width, row.out_chs, reduction * row.stride
        stages.append(Stage(width, depth, tuple(blocks)))
    tail = TailPosition(
        name=TAIL, reduction=reduction, before=before, width=tail_width, resolution=resolution, in_chs=in_chs
    )
    return Layout(spec, tuple(genes), stem, tuple(stages), tail, resolution)


def _widths_that_meet(genes: Sequence[Gene], block: BlockPosition) -> Iterator[tuple[float, float]]:
    """Every pair of widths that can meet at a block: before it and its own. One by one: a space may have so many widths
    that it is refused, but not before it is laid out."""
    widths = genes[block.width].choices
    if block.before == block.width:
        return ((width, width) for width in widths)
    return ((before, width) for before in genes[block.before].choices for width in widths)
