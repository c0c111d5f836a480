"""A search space: every GhostNet that a few independent choices can make.

A network is encoded as whole numbers, one a gene, each an index into that gene's choices, which are ordered from
small to large: all zeros is the smallest network, all last the largest. The ghost ratio s and the cheap kernel d of
a block are one gene, because d means nothing where s = 1; so every code is a network, two codes never mean the same
one, and `size` is a plain product.
"""

import hashlib
import json
import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ghostnet.arch import Arch, Block
from ghostnet.published import Row, make_divisible
from ghostnet.units import Unit, units

Codes = NDArray[np.int64]  # [genes] for one network, [n, genes] for a population
SE_RATIO = 0.25


class SpaceError(ValueError):
    """An architecture outside a space, an unknown space, or a budget that can't be met; says the rule and the value."""


@dataclass(frozen=True, slots=True)
class Gene:
    """One independent choice, e.g. `blocks.2.0.ghost` with choices (s, d)."""

    name: str
    choices: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Slot:
    """A unit's place in the chain: the genes it depends on, and the unit that a choice of those genes makes."""

    genes: tuple[int, ...]
    unit: Callable[[tuple[int, ...]], Unit]


@dataclass(frozen=True, kw_only=True)
class Space:
    """Choices over a family of GhostNets.

    Args:
        rows: the family at width 1.0, stage by stage.
        widths: multipliers that the stem, each stage and the tail choose from, ascending.
        ratios: ghost ratios s, any order.
        cheap_kernels: cheap kernels d, used where s > 1.
        align: intrinsic widths are multiples of it (see `Arch`).
        num_classes, in_chs: of the data; they matter to costs and latencies only.
    """

    name: str
    rows: tuple[tuple[Row, ...], ...]
    stem_chs: int
    stem_stride: int
    tail_chs: int
    head_chs: int
    resolution: int
    widths: tuple[float, ...]
    ratios: tuple[int, ...] = (1, 2, 3, 4)
    cheap_kernels: tuple[int, ...] = (1, 3, 5)
    align: int = 1
    num_classes: int = 1000
    in_chs: int = 3

    @cached_property
    def genes(self) -> tuple[Gene, ...]:
        """Widths first (stem, stages, tail), then two genes a block: `ghost` and `se`."""
        stages = [self._distinct(partial(_blocks, stage)) for stage in self.rows]
        widths = [
            Gene("stem.width", self._distinct(lambda w: make_divisible(self.stem_chs * w))),
            *(Gene(f"stages.{i}.width", choices) for i, choices in enumerate(stages)),
            Gene("tail.width", self._distinct(lambda w: make_divisible(self.tail_chs * w))),
        ]
        ghosts = [(s, d) for s in sorted(self.ratios, reverse=True) for d in sorted(self.cheap_kernels) if s > 1]
        ghosts += [(1, 1)] if 1 in self.ratios else []
        per_block = [
            gene
            for i, stage in enumerate(self.rows)
            for j in range(len(stage))
            for gene in (Gene(f"blocks.{i}.{j}.ghost", tuple(ghosts)), Gene(f"blocks.{i}.{j}.se", (0.0, SE_RATIO)))
        ]
        return (*widths, *per_block)

    def _distinct(self, made: Callable[[float], object]) -> tuple[float, ...]:
        """The widths that make different channels, each the smallest that makes them."""
        first: dict[str, float] = {}
        for width in sorted(self.widths):
            first.setdefault(repr(made(width)), width)
        return tuple(first.values())

    @cached_property
    def choices(self) -> NDArray[np.int64]:
        """Number of choices of each gene, [genes]."""
        return np.array([len(gene.choices) for gene in self.genes], dtype=np.int64)

    @property
    def size(self) -> int:
        """Exact number of different networks."""
        return math.prod(len(gene.choices) for gene in self.genes)

    @cached_property
    def id(self) -> str:
        """Ten hexadecimal digits that change with anything that changes the space."""
        content = json.dumps(asdict(self) | {"se_ratio": SE_RATIO}, sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:10]

    def decode(self, code: Codes) -> Arch:
        """[genes] -> the architecture.

        Raises:
            SpaceError: the code has another length or an index out of range.
        """
        code = np.asarray(code)
        if code.shape != self.choices.shape or (code < 0).any() or (code >= self.choices).any():
            raise SpaceError(f"a code of {self.name} has {len(self.choices)} indices below {self.choices.tolist()}")
        values = [gene.choices[index] for gene, index in zip(self.genes, code.tolist(), strict=True)]
        stem, stage_widths, tail = values[0], values[1 : len(self.rows) + 1], values[len(self.rows) + 1]
        per_block = iter(values[len(self.rows) + 2 :])
        stages: list[list[Block]] = []
        for stage, width in zip(self.rows, stage_widths, strict=True):
            blocks = []
            for row in stage:
                (ratio, kernel), se_ratio = next(per_block), next(per_block)
                blocks.append(row.block(width, ratio=ratio, cheap_kernel=kernel, se_ratio=se_ratio))
            stages.append(blocks)
        return self._arch(stages, stem, tail)

    def encode(self, arch: Arch) -> Codes:
        """The architecture's code, [genes]: the inverse of `decode`.

        Raises:
            SpaceError: the architecture is not a member.
        """
        outside = SpaceError(f"architecture {arch.id} is not in space {self.name}")
        if len(arch.stages) != len(self.rows):
            raise outside
        made: list[Callable[[Any], bool]] = [lambda w: make_divisible(self.stem_chs * w) == arch.stem_chs]
        for rows, blocks in zip(self.rows, arch.stages, strict=True):
            made.append(partial(_same_widths, rows, blocks))
        made.append(lambda w: make_divisible(self.tail_chs * w) == arch.tail_chs)
        for block in arch.blocks:
            made += [partial(operator.eq, (block.ratio, block.cheap_kernel)), partial(operator.eq, block.se_ratio)]
        if len(made) != len(self.genes):
            raise outside
        found = [
            next((k for k, choice in enumerate(gene.choices) if fits(choice)), -1)
            for gene, fits in zip(self.genes, made, strict=True)
        ]
        code = np.array(found, dtype=np.int64)
        if (code < 0).any() or self.decode(code) != arch:
            raise outside
        return code

    def __contains__(self, arch: Arch) -> bool:
        try:
            self.encode(arch)
        except SpaceError:
            return False
        return True

    def sample(self, rng: np.random.Generator) -> Arch:
        """One network, uniformly from all of them."""
        return self.decode(rng.integers(self.choices))

    @cached_property
    def smallest(self) -> Arch:
        """The smallest choice everywhere."""
        return self.decode(np.zeros_like(self.choices))

    @cached_property
    def largest(self) -> Arch:
        """The largest choice everywhere: the teacher of a sandwich."""
        return self.decode(self.choices - 1)

    def uniform(self, width: float) -> Arch:
        """The family's own network at one width: the paper's s = 2, d = 3 and SE placement in every block.

        Raises:
            SpaceError: a width or a choice that the space doesn't have.
        """
        arch = self._arch([_blocks(rows, width) for rows in self.rows], width, width)
        self.encode(arch)
        return arch

    def _arch(self, stages: Sequence[Sequence[Block]], stem_width: float, tail_width: float) -> Arch:
        return Arch(
            stages=tuple(tuple(stage) for stage in stages),
            stem_chs=make_divisible(self.stem_chs * stem_width),
            stem_stride=self.stem_stride,
            tail_chs=make_divisible(self.tail_chs * tail_width),
            head_chs=self.head_chs,
            resolution=self.resolution,
            align=self.align,
        )

    @cached_property
    def bounds(self) -> tuple[Arch, ...]:
        """Networks that between them reach the largest shape of every tensor: the largest network at each ratio s,
        and with each width one step down, where a convolution takes the place of an identity shortcut."""
        top = self.choices - 1
        codes = []
        ghost_genes = [k for k, gene in enumerate(self.genes) if gene.name.endswith(".ghost")]
        for ratio in self.ratios:
            code = top.copy()
            options = self.genes[ghost_genes[0]].choices
            code[ghost_genes] = max(k for k, (s, _) in enumerate(options) if s == ratio)
            codes.append(code)
        for k in range(len(self.rows) + 2):
            if top[k] > 0:
                code = top.copy()
                code[k] -= 1
                codes.append(code)
        return tuple(self.decode(code) for code in codes)

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """The chain of units with the genes that each depends on: what `spaces.tables` tabulates."""
        stem, tail = 0, len(self.rows) + 1
        slots = [self._slot(0, (stem,))]
        before, gene = stem, tail + 1
        for i, stage in enumerate(self.rows):
            for _ in stage:
                width = i + 1
                depends = (width,) if before == width else (before, width)
                slots.append(self._slot(len(slots), (*depends, gene, gene + 1)))
                before, gene = width, gene + 2
        slots.append(self._slot(len(slots), (before, tail)))
        return tuple(slots)

    def _slot(self, place: int, genes: tuple[int, ...]) -> Slot:
        def unit(choice: tuple[int, ...]) -> Unit:
            code = np.zeros_like(self.choices)
            code[list(genes)] = choice
            return units(self.decode(code), self.num_classes, self.in_chs)[place]

        return Slot(genes, unit)


def _blocks(rows: tuple[Row, ...], width: float) -> list[Block]:
    return [row.block(width) for row in rows]


def _same_widths(rows: tuple[Row, ...], blocks: tuple[Block, ...], width: float) -> bool:
    made = _blocks(rows, width)
    return [(b.mid_chs, b.out_chs) for b in made] == [(b.mid_chs, b.out_chs) for b in blocks]
