"""How a code is laid out: its genes in order, and for every block the genes that say what it becomes.

Widths come first (stem, stages, tail), then the resolution and the depths, then block by block: ghost, SE, expansion,
kernel. The ghost ratio s and the cheap kernel d are one gene, because d means nothing where s = 1. Of resolution,
depths, expansions and kernels, only what has a choice has a gene.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

from ghostnet.arch import Block
from ghostnet.published import Row, make_divisible
from ghostnet.units import intrinsic_chs

if TYPE_CHECKING:
    from spaces.space import Space

SE_RATIO = 0.25


@dataclass(frozen=True, slots=True)
class Gene:
    """One choice, e.g. `blocks.2.0.ghost` with choices (s, d), from small to large."""

    name: str
    choices: tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a block may stand.

    Args:
        in_chs: channels of what comes before, at width 1.0.
        reduction: pixels of the network's input to one of the block's input.
        before, width: width genes of what comes before and of the block's own stage; the same within a stage.
        depth, ghost, se, expansion, kernel: genes by number, None where there is no choice; `depth` is None, too,
            where every depth keeps the block.
    """

    stage: int
    index: int
    row: Row
    in_chs: int
    reduction: int
    before: int
    width: int
    depth: int | None
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

    def made(self, width: float, expansion: float, ratio: int, cheap_kernel: int, align: int) -> tuple[int, ...]:
        """What a choice makes of the block's Ghost modules: hidden channels, primaries of both, and the cheap kernel (0
        where neither has ghosts)."""
        mid, out = self.mid_chs(width, expansion), make_divisible(self.row.out_chs * width)
        primaries = intrinsic_chs(mid, ratio, align), intrinsic_chs(out, ratio, align)
        return (mid, *primaries, 0 if primaries == (mid, out) else cheap_kernel)


@dataclass(frozen=True, slots=True)
class Layout:
    """Genes and places of a space, and the numbers of its depth genes (stage by stage) and resolution gene."""

    genes: tuple[Gene, ...]
    places: tuple[Place, ...]
    depths: tuple[int | None, ...]
    resolution: int | None


def lay_out(space: "Space") -> Layout:
    """The layout of a space's codes."""
    genes: list[Gene] = []

    def add(name: str, choices: tuple[Any, ...]) -> int:
        genes.append(Gene(name, choices))
        return len(genes) - 1

    def add_if_any(name: str, choices: tuple[Any, ...]) -> int | None:
        return add(name, choices) if len(choices) > 1 else None

    add("stem.width", _distinct(space.widths, lambda width: make_divisible(space.stem_chs * width)))
    for i, rows in enumerate(space.stages):
        add(f"stages.{i}.width", _distinct(space.widths, partial(_channels, space, rows)))
    add("tail.width", _distinct(space.widths, lambda width: make_divisible(space.tail_chs * width)))
    resolution = add_if_any("resolution", space.resolution_choices)
    depths = tuple(add_if_any(f"stages.{i}.depth", choices) for i, choices in enumerate(space.depth_choices))
    ghosts = [(s, d) for s in sorted(space.ratios, reverse=True) for d in sorted(space.cheap_kernels) if s > 1]
    ghosts += [(1, 1)] if 1 in space.ratios else []

    places: list[Place] = []
    before, in_chs, reduction = 0, space.stem_chs, space.stem_stride
    for i, rows in enumerate(space.stages):
        for j, row in enumerate(rows):
            name, width = f"blocks.{i}.{j}", i + 1
            place = Place(
                stage=i,
                index=j,
                row=row,
                in_chs=in_chs,
                reduction=reduction,
                before=before,
                width=width,
                depth=depths[i] if j >= space.depth_choices[i][0] else None,
                ghost=add(f"{name}.ghost", tuple(ghosts)),
                se=add(f"{name}.se", (0.0, SE_RATIO)),
                expansion=add_if_any(f"{name}.expansion", tuple(sorted(space.expansions))),
                kernel=None,
            )
            if any(place.uses_kernel(*widths) for widths in neighbours(genes, place)):
                place = replace(place, kernel=add_if_any(f"{name}.kernel", space.kernel_choices(row)))
            places.append(place)
            before, in_chs, reduction = width, row.out_chs, reduction * row.stride
    return Layout(tuple(genes), tuple(places), depths, resolution)


def _distinct(widths: tuple[float, ...], made: Callable[[float], object]) -> tuple[float, ...]:
    """The widths that make different channels, each the smallest that makes them."""
    first: dict[object, float] = {}
    for width in sorted(widths):
        first.setdefault(made(width), width)
    return tuple(first.values())


def _channels(space: "Space", rows: tuple[Row, ...], width: float) -> object:
    """What tells one width of a stage from another. Where hidden channels have a gene of their own, or a block with
    them may be dropped, that is the output channels alone: else two codes could mean one network."""
    out_chs = tuple(make_divisible(row.out_chs * width) for row in rows)
    if len(space.expansions) > 1 or any(len(choices) > 1 for choices in space.depth_choices):
        return out_chs
    return out_chs, tuple(make_divisible(row.mid_chs * width * space.expansions[0]) for row in rows)


def neighbours(genes: list[Gene] | tuple[Gene, ...], place: Place) -> list[tuple[float, float]]:
    """Every pair of widths that can meet at a place: before it and its own."""
    widths = genes[place.width].choices
    if place.before == place.width:
        return [(width, width) for width in widths]
    return list(product(genes[place.before].choices, widths))


def block_at(space: "Space", place: Place, values: Any) -> Block | None:
    """What stands at a place, from the genes' values by number; None where the depth drops it.

    A kernel that nothing in the block uses is the row's own, whatever its gene says.
    """
    if place.depth is not None and place.index >= values[place.depth]:
        return None
    width = values[place.width]
    ratio, cheap_kernel = values[place.ghost]
    expansion = space.expansions[0] if place.expansion is None else values[place.expansion]
    kernel = space.kernel_choices(place.row)[0] if place.kernel is None else values[place.kernel]
    return place.row.block(
        width,
        mid_chs=place.mid_chs(width, expansion),
        dw_kernel=kernel if place.uses_kernel(values[place.before], width) else place.row.dw_kernel,
        se_ratio=values[place.se],
        ratio=ratio,
        cheap_kernel=cheap_kernel,
    )
