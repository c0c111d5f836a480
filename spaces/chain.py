"""Which genes of a code mean something, how many networks there are, and drawing them evenly.

A gene is dead where the depth drops its block, or where it is the kernel of a block that has neither stride nor a
shortcut convolution; two expansions are one where they round to the same channels, and two ghost ratios where few
channels are cut into as many primaries (4 at s = 2 and s = 3). The *canonical* code of a network has its dead genes at
their default, and of choices that make the same block the smallest expansion and ratio: one code for each network.

What a stage's blocks may be depends on its width and the one before. So networks are counted along the chain of
widths, as paths are by transfer matrices, in whole numbers of any size.
"""

import math
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spaces.layout import Place

if TYPE_CHECKING:
    from spaces.space import Space

Codes = NDArray[np.int64]  # [genes] for one network, [n, genes] for a population
Counts = NDArray[Any]  # whole numbers of any size, as objects


class Chain:
    """Counts, canonical codes and even draws of one space."""

    def __init__(self, space: "Space") -> None:
        self.genes, self.places, self.choices = space.genes, space.layout.places, space.choices
        self.only = space.expansions[:1]  # where an expansion has no gene
        self.depths, self.resolution = space.layout.depths, space.layout.resolution
        self.default = np.zeros_like(self.choices)
        # used[place]: [before, width] whether the block has its kernel; settled[place]: [width, shape] of all shapes
        # (expansion, ghost) the number of the canonical one that makes the same. Only places where that is in question.
        self.used: dict[Place, NDArray[np.bool_]] = {}
        self.settled: dict[Place, Codes] = {}
        for place in self.places:
            widths = self.genes[place.width].choices
            if place.kernel is not None:
                if place.row.dw_kernel in (kernels := self.genes[place.kernel].choices):
                    self.default[place.kernel] = kernels.index(place.row.dw_kernel)
                befores = self.genes[place.before].choices
                self.used[place] = np.array([[place.uses_kernel(b, w) for w in widths] for b in befores])
            self.settled[place] = np.array([self._settle(place, width, space.align) for width in widths])
        self.used = {place: used for place, used in self.used.items() if not used.all()}
        self.settled = {place: made for place, made in self.settled.items() if (np.diff(made) < 1).any()}
        self.droppable = [place for place in self.places if place.depth is not None]

    @property
    def plain(self) -> bool:
        """Whether every code is canonical."""
        return not (self.used or self.settled or self.droppable)

    def _settle(self, place: Place, width: float, align: int) -> list[int]:
        """For each shape (expansion, ghost) in order, the one of the least expansion, then ratio, that is the same."""
        expansions = self.only if place.expansion is None else self.genes[place.expansion].choices
        shapes = list(product(expansions, self.genes[place.ghost].choices))
        made = [place.made(width, expansion, ratio, kernel, align) for expansion, (ratio, kernel) in shapes]
        least: dict[tuple[int, ...], int] = {}
        for k in sorted(range(len(shapes)), key=lambda k: (shapes[k][0], *shapes[k][1])):
            least.setdefault(made[k], k)
        return [least[each] for each in made]

    def active(self, codes: Codes) -> NDArray[np.bool_]:
        """[n, genes] -> [n, genes] which genes mean something"""
        active = np.ones(codes.shape[::-1], dtype=bool)  # gene by gene: whole rows are fast
        for place, used in self.used.items():
            active[place.kernel] = used[codes[:, place.before], codes[:, place.width]]
        for place in self.droppable:
            kept = np.array(self.genes[place.depth].choices) > place.index  # type: ignore[index]
            active[place.own, :] &= kept[codes[:, place.depth]]
        return active.T

    def canonical(self, codes: Codes) -> Codes:
        """[n, genes] or [genes] -> the canonical codes of the same networks, of the same shape"""
        if self.plain:
            return codes
        flat = np.array(codes, ndmin=2)
        for place, settled in self.settled.items():
            ghosts = self.choices[place.ghost]
            shape = flat[:, place.ghost] + (0 if place.expansion is None else ghosts * flat[:, place.expansion])
            self._set_shape(flat, place, settled[flat[:, place.width], shape])
        return np.where(self.active(flat), flat, self.default).reshape(np.shape(codes))

    def _set_shape(self, codes: Codes, place: Place, shape: Codes) -> None:
        expansion, codes[:, place.ghost] = np.divmod(shape, self.choices[place.ghost])
        if place.expansion is not None:
            codes[:, place.expansion] = expansion

    @cached_property
    def size(self) -> int:
        """Exact number of different networks."""
        resolutions = 1 if self.resolution is None else int(self.choices[self.resolution])
        return int(self._after[0].sum()) * int(self.choices[len(self.depths) + 1]) * resolutions

    @cached_property
    def _ways(self) -> list[Counts]:
        """For each stage, what its blocks can be: [width before, width, depth]."""
        stages = []
        for stage, depth in enumerate(self.depths):
            blocks = [self._options(place) for place in self.places if place.stage == stage]
            depths = (len(blocks),) if depth is None else self.genes[depth].choices
            stages.append(np.stack([math.prod(blocks[1:kept], start=blocks[0]) for kept in depths], axis=-1))
        return stages

    def _options(self, place: Place) -> Counts:
        """The different blocks that can stand at a place: [width before, width]."""
        shape = self.choices[[place.before, place.width]]
        count = np.full(shape, math.prod(int(self.choices[gene]) for gene in place.own), dtype=object)
        if place in self.settled:
            count = count // self.settled[place].shape[1] * self._different(place).astype(object)
        if place in self.used:
            count = np.where(self.used[place], count, count // int(self.choices[place.kernel]))
        return np.diagonal(count)[None] if place.before == place.width else count

    def _different(self, place: Place) -> Codes:
        """How many different shapes a place has: [width]."""
        return (self.settled[place] == np.arange(self.settled[place].shape[1])).sum(1)

    @cached_property
    def _after(self) -> list[Counts]:
        """For the stem and each stage, by its width: what all the stages behind it can be, [width]."""
        after = [np.ones(self.choices[len(self.depths)], dtype=object)]
        for ways in reversed(self._ways):
            after.append(ways.sum(-1) @ after[-1])
        return after[::-1]

    def draw(self, rng: np.random.Generator, count: int) -> Codes:
        """Canonical codes of `count` networks, each drawn evenly from all: [count, genes]"""
        codes = rng.integers(self.choices, size=(count, len(self.choices)))
        if self.plain:
            return codes
        before = np.zeros(count, dtype=np.int64)
        codes[:, 0] = before = _pick(rng, self._after[0][None] / self._after[0].sum(), before)
        for stage, (depth, ways) in enumerate(zip(self.depths, self._ways, strict=True)):
            share = ways * self._after[stage + 1][:, None] / self._after[stage][:, None, None]
            both = _pick(rng, share.reshape(len(share), -1), before)
            codes[:, stage + 1] = before = both // ways.shape[2]
            if depth is not None:
                codes[:, depth] = both % ways.shape[2]
        for place, settled in self.settled.items():
            width = codes[:, place.width]
            nth = rng.integers(self._different(place)[width])  # of the canonical shapes, which come first in `order`
            order = np.argsort(settled != np.arange(settled.shape[1]), axis=1, kind="stable")
            self._set_shape(codes, place, order[width, nth])
        return self.canonical(codes)


def _pick(rng: np.random.Generator, share: Counts, row: Codes) -> Codes:
    """One column for each of `row` [n], with the odds of that row of `share` [rows, columns]: [n]"""
    bounds = share.astype(np.float64).cumsum(1)[:, :-1]
    return (rng.random(len(row))[:, None] >= bounds[row]).sum(1)
