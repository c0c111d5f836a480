"""How many networks a space has, exactly.

What a stage's blocks may be depends on its width and the one before. So networks are counted along the chain of
widths, as paths are by transfer matrices, in whole numbers of any size.
"""

import math
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spaces.canonical import canonical_codes
from spaces.layout import BlockPosition, Layout

Numbers = NDArray[Any]  # whole numbers of any size, as objects


class NetworkCounts:
    """Numbers of different networks of one space, in parts that add up to all of them."""

    def __init__(self, layout: Layout) -> None:
        self.layout, self.codes = layout, canonical_codes(layout)

    @cached_property
    def size(self) -> int:
        """Exact number of different networks."""
        layout, choices = self.layout, self.layout.choices
        resolutions = 1 if layout.resolution is None else int(choices[layout.resolution])
        return int(self.after[0].sum()) * int(choices[layout.tail.width]) * resolutions

    @cached_property
    def ways(self) -> list[Numbers]:
        """For each stage, what its blocks can be: [width before, width, depth]."""
        stages = []
        for stage in self.layout.stages:
            blocks = [self._options(block) for block in stage.blocks]
            depths = (len(blocks),) if stage.depth is None else self.layout.genes[stage.depth].choices
            stages.append(np.stack([math.prod(blocks[1:kept], start=blocks[0]) for kept in depths], axis=-1))
        return stages

    @cached_property
    def after(self) -> list[Numbers]:
        """For the stem and each stage, by its width: what all the stages behind it can be, [width]."""
        after = [np.ones(self.layout.choices[self.layout.stages[-1].width], dtype=object)]
        for ways in reversed(self.ways):
            after.append(ways.sum(-1) @ after[-1])
        return after[::-1]

    def _options(self, block: BlockPosition) -> Numbers:
        """The different blocks that can stand at a position: [width before, width]."""
        choices, codes = self.layout.choices, self.codes
        shape = choices[[block.before, block.width]]
        count = np.full(shape, math.prod(int(choices[gene]) for gene in block.own), dtype=object)
        if block in codes.canonical_shape:
            different = codes.is_canonical(block)
            count = count // different.shape[1] * different.sum(1).astype(object)
        if block in codes.kernel_used:
            count = np.where(codes.kernel_used[block], count, count // int(choices[block.kernel]))
        return np.diagonal(count)[None] if block.before == block.width else count
