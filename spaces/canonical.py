"""Which genes of a code mean something, and the one code of each network.

A gene is dead where the depth drops its block, or where it is the kernel of a block that has neither stride nor a
shortcut convolution; two expansions are one where they round to the same channels, and two ghost ratios where few
channels are cut into as many primaries (4 at s = 2 and s = 3). The *canonical* code of a network has its dead genes at
their default, and of choices that make the same block the smallest expansion and ratio: one code for each network.
"""

from functools import cache
from itertools import product
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from spaces.genes import Codes
from spaces.layout import BlockPosition, Layout, Position

V = TypeVar("V", bound=np.generic)


class CanonicalCodes:
    """Where the choices of one space are dead or the same, and the canonical codes that follow.

    Attributes:
        kernel_used: [width before, width] whether the block at a position has its kernel; only positions where it may
            not.
        canonical_shape: [width, shape] for each shape (expansion, ghost) the number of the canonical one that makes the
            same block; only positions where two make the same.
        droppable: positions whose block some depth drops.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.default = np.zeros_like(layout.choices)
        self.kernel_used: dict[BlockPosition, NDArray[np.bool_]] = {}
        self.canonical_shape: dict[BlockPosition, Codes] = {}
        self.droppable = [block for block in layout.blocks if block.depth is not None]
        for block in layout.blocks:
            widths = layout.genes[block.width].choices
            if block.kernel is not None:
                if block.row.dw_kernel in (kernels := layout.genes[block.kernel].choices):
                    self.default[block.kernel] = kernels.index(block.row.dw_kernel)
                befores = layout.genes[block.before].choices
                used = np.array([[block.uses_kernel(before, width) for width in widths] for before in befores])
                if not used.all():
                    self.kernel_used[block] = used
            shapes = np.array([self._smallest_alike(block, width) for width in widths])
            if (np.diff(shapes) < 1).any():
                self.canonical_shape[block] = shapes

    @property
    def injective(self) -> bool:
        """Whether different codes always mean different networks: every code is canonical."""
        return not (self.kernel_used or self.canonical_shape or self.droppable)

    def _smallest_alike(self, block: BlockPosition, width: float) -> list[int]:
        """For each shape (expansion, ghost) in order, the one of the least expansion, then ratio, that is the same."""
        spec, genes = self.layout.spec, self.layout.genes
        expansions = spec.expansions[:1] if block.expansion is None else genes[block.expansion].choices
        shapes = list(product(expansions, genes[block.ghost].choices))
        blocks = [block.shape(width, expansion, ratio, kernel, spec.align) for expansion, (ratio, kernel) in shapes]
        least: dict[tuple[int, ...], int] = {}
        for k in sorted(range(len(shapes)), key=lambda k: (shapes[k][0], *shapes[k][1])):
            least.setdefault(blocks[k], k)
        return [least[each] for each in blocks]

    def active(self, codes: Codes) -> NDArray[np.bool_]:
        """[n, genes] -> [n, genes] which genes mean something"""
        active = np.ones(codes.shape[::-1], dtype=bool)  # gene by gene: whole rows are fast
        for block, used in self.kernel_used.items():
            active[block.kernel] = used[codes[:, block.before], codes[:, block.width]]
        for block in self.droppable:
            kept = np.array(self.layout.genes[block.depth].choices) > block.index  # type: ignore[index]
            active[block.own, :] &= kept[codes[:, block.depth]]
        return active.T

    def canonical(self, codes: Codes) -> Codes:
        """[n, genes] or [genes] -> the canonical codes of the same networks, of the same shape"""
        if self.injective:
            return codes
        flat = np.array(codes, ndmin=2)
        for block, canonical in self.canonical_shape.items():
            ghosts = self.layout.choices[block.ghost]
            shape = flat[:, block.ghost] + (0 if block.expansion is None else ghosts * flat[:, block.expansion])
            self.set_shape(flat, block, canonical[flat[:, block.width], shape])
        return np.where(self.active(flat), flat, self.default).reshape(np.shape(codes))

    def canonical_values(self, position: Position, values: NDArray[V]) -> NDArray[V]:
        """Values, or units, over the choices of a position's genes -> the same, where all choices that make one block
        have the canonical one's."""
        if position not in self.canonical_shape:
            return values
        own, codes = list(position.genes), np.zeros((values.size, len(self.default)), dtype=np.int64)
        codes[:, own] = np.indices(values.shape).reshape(values.ndim, -1).T
        taken: NDArray[V] = values[tuple(self.canonical(codes)[:, own].T)]
        return taken.reshape(values.shape)

    def set_shape(self, codes: Codes, block: BlockPosition, shape: Codes) -> None:
        """Writes shapes [n] (expansion, ghost) by number into codes [n, genes], in place."""
        expansion, codes[:, block.ghost] = np.divmod(shape, self.layout.choices[block.ghost])
        if block.expansion is not None:
            codes[:, block.expansion] = expansion

    def is_canonical(self, block: BlockPosition) -> NDArray[np.bool_]:
        """Which shapes of a position in `canonical_shape` are the canonical ones: [width, shape]."""
        shapes = self.canonical_shape[block]
        return shapes == np.arange(shapes.shape[1])


@cache
def canonical_codes(layout: Layout) -> CanonicalCodes:
    """The canonical codes of a space, worked out once for each layout."""
    return CanonicalCodes(layout)
