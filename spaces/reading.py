"""From an architecture back to a code of it."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ghostnet.arch import Arch, Block
from ghostnet.published import make_divisible
from spaces.layout import Gene, Place

if TYPE_CHECKING:
    from spaces.space import Codes, Space


def read(space: "Space", arch: Arch) -> "Codes":
    """A code of the architecture if it is a member: [genes]. Whether it is one, decoding tells.

    Raises:
        ValueError: a value is none of its gene's choices.
    """
    genes, layout = space.genes, space.layout
    code = np.zeros_like(space.choices)

    def put(gene: int | None, value: Any) -> None:
        if gene is not None:
            code[gene] = genes[gene].choices.index(value)

    tail = len(space.rows) + 1
    code[0] = _first(genes[0], lambda width: make_divisible(space.stem_chs * width) == arch.stem_chs)
    code[tail] = _first(genes[tail], lambda width: make_divisible(space.tail_chs * width) == arch.tail_chs)
    put(layout.resolution, arch.resolution)
    for i, (blocks, depth) in enumerate(zip(arch.stages, layout.depths, strict=True)):
        put(depth, len(blocks))
        pairs = list(zip(blocks, (place for place in layout.places if place.stage == i), strict=False))
        code[i + 1] = _first(genes[i + 1], partial(_makes, space, pairs))
        for block, place in pairs:
            before, width = (genes[gene].choices[code[gene]] for gene in (place.before, place.width))
            put(place.ghost, (block.ratio, block.cheap_kernel))
            put(place.se, block.se_ratio)
            if place.expansion is not None:
                made = [place.mid_chs(width, each) for each in genes[place.expansion].choices]
                code[place.expansion] = made.index(block.mid_chs)
            if place.uses_kernel(before, width):
                put(place.kernel, block.dw_kernel)
    return code


def _first(gene: Gene, fits: Callable[[Any], bool]) -> int:
    """The first choice that fits.

    Raises:
        ValueError: none does.
    """
    return [fits(choice) for choice in gene.choices].index(True)


def _makes(space: "Space", pairs: Sequence[tuple[Block, Place]], width: float) -> bool:
    """Whether a width makes the channels of a stage's blocks."""
    return all(
        block.out_chs == make_divisible(place.row.out_chs * width)
        and any(block.mid_chs == place.mid_chs(width, each) for each in space.expansions)
        for block, place in pairs
    )
