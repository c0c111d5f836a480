"""A search space: every GhostNet that a few choices can make.

A network is encoded as whole numbers, one a gene, each an index into that gene's choices, which are ordered from
small to large: all zeros is the smallest network, all last the largest. Every code is a network. Two codes mean the
same one only where a choice is dead, such as the kernel of a block that the depth drops; `canonical` settles those,
`decode`, `encode` and all sampling go by canonical codes, and `size` counts networks, not codes.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ghostnet.arch import Arch, Block
from ghostnet.published import Row, make_divisible
from spaces.bounds import bounds
from spaces.chain import Chain, Codes
from spaces.checks import check
from spaces.errors import SpaceError
from spaces.features import feature_names, features
from spaces.layout import SE_RATIO, Gene, Layout, block_at, lay_out
from spaces.reading import read
from spaces.slots import Slot, slots

__all__ = ["Codes", "Gene", "Slot", "Space", "SpaceError"]
# Where these are left alone, a space's id is what it was without them.
CAME_LATER = ("expansions", "dw_kernels", "depths", "own_depths", "resolutions")


@dataclass(frozen=True, kw_only=True)
class Space:
    """Choices over a family of GhostNets.

    Args:
        rows: the family at width 1.0, stage by stage.
        resolution: side of the family's own input, in pixels.
        widths: multipliers that the stem, each stage and the tail choose from.
        ratios: ghost ratios s.
        cheap_kernels: cheap kernels d, used where s > 1.
        align: intrinsic widths are multiples of it (see `Arch`).
        num_classes, in_chs: of the data; they matter to costs and latencies only.
        expansions: multipliers of each block's hidden channels.
        dw_kernels: kernels of each block's strided convolution and shortcut; None leaves each row its own.
        depths: for each stage, how many of its leading blocks may stand; None keeps all.
        own_depths: for each stage, how many of its rows the family itself has; None: all.
        resolutions: sides to choose from, `resolution` among them; none leaves only that.

    Raises:
        SpaceError: a value breaks a rule (`spaces.checks`).
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
    expansions: tuple[float, ...] = (1.0,)
    dw_kernels: tuple[int, ...] | None = None
    depths: tuple[tuple[int, ...], ...] | None = None
    own_depths: tuple[int, ...] | None = None
    resolutions: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check(self)

    @cached_property
    def depth_choices(self) -> tuple[tuple[int, ...], ...]:
        """How many leading blocks each stage may have, ascending."""
        whole = tuple((len(stage),) for stage in self.rows)
        return whole if self.depths is None else tuple(tuple(sorted(choices)) for choices in self.depths)

    @cached_property
    def stages(self) -> tuple[tuple[Row, ...], ...]:
        """The rows that some network has."""
        return tuple(stage[: choices[-1]] for stage, choices in zip(self.rows, self.depth_choices, strict=True))

    @cached_property
    def resolution_choices(self) -> tuple[int, ...]:
        """Sides of the input, ascending."""
        return tuple(sorted(self.resolutions)) or (self.resolution,)

    def kernel_choices(self, row: Row) -> tuple[int, ...]:
        """Kernels that a row's block may have where it uses one, ascending."""
        return (row.dw_kernel,) if self.dw_kernels is None else tuple(sorted(self.dw_kernels))

    @cached_property
    def layout(self) -> Layout:
        """Where everything is in a code."""
        return lay_out(self)

    @property
    def genes(self) -> tuple[Gene, ...]:
        """Widths first (stem, stages, tail), then resolution and depths, then block by block (`spaces.layout`)."""
        return self.layout.genes

    @cached_property
    def choices(self) -> NDArray[np.int64]:
        """Number of choices of each gene, [genes]."""
        return np.array([len(gene.choices) for gene in self.genes], dtype=np.int64)

    @cached_property
    def chain(self) -> Chain:
        """Counts and draws along the chain of widths."""
        return Chain(self)

    @property
    def size(self) -> int:
        """Exact number of different networks."""
        return self.chain.size

    @cached_property
    def id(self) -> str:
        """Ten hexadecimal digits that change with anything that changes the space."""
        content = asdict(self) | {"se_ratio": SE_RATIO}
        for field in fields(self):
            if field.name in CAME_LATER and getattr(self, field.name) == field.default:
                del content[field.name]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:10]

    def canonical(self, codes: Codes) -> Codes:
        """[n, genes] or [genes] -> the one code of each of these networks, of the same shape"""
        return self.chain.canonical(codes)

    def decode(self, code: Codes) -> Arch:
        """[genes] -> the architecture, the same for every code with this canonical one.

        Raises:
            SpaceError: the code has another length or an index out of range.
        """
        code = np.asarray(code)
        if code.shape != self.choices.shape or (code < 0).any() or (code >= self.choices).any():
            raise SpaceError(f"a code of {self.name} has {len(self.choices)} indices below {self.choices.tolist()}")
        return self._decode(self.canonical(code))

    def _decode(self, code: Codes) -> Arch:
        values = [gene.choices[index] for gene, index in zip(self.genes, code.tolist(), strict=True)]
        stages: list[list[Block]] = [[] for _ in self.rows]
        for place in self.layout.places:
            if block := block_at(self, place, values):
                stages[place.stage].append(block)
        gene = self.layout.resolution
        return self._arch(stages, values[0], values[len(stages) + 1], self.resolution if gene is None else values[gene])

    def encode(self, arch: Arch) -> Codes:
        """The architecture's canonical code, [genes]: the inverse of `decode`.

        Raises:
            SpaceError: the architecture is not a member.
        """
        try:
            code = read(self, arch)
            if self._decode(code) == arch:  # which may state a network by other than its canonical ratios
                return self.canonical(code)
        except ValueError:
            pass
        raise SpaceError(f"architecture {arch.id} is not in space {self.name}")

    def __contains__(self, arch: Arch) -> bool:
        try:
            self.encode(arch)
        except SpaceError:
            return False
        return True

    def sample(self, rng: np.random.Generator) -> Arch:
        """One network, uniformly from all of them."""
        return self.decode(self.chain.draw(rng, 1)[0])

    @cached_property
    def smallest(self) -> Arch:
        """The smallest choice everywhere."""
        return self.decode(np.zeros_like(self.choices))

    @cached_property
    def largest(self) -> Arch:
        """The largest choice everywhere: the teacher of a sandwich."""
        return self.decode(self.choices - 1)

    def uniform(self, width: float) -> Arch:
        """The family's own network at one width: the paper's s = 2, d = 3, SE placement, kernels and depth.

        Raises:
            SpaceError: a width or a choice that the space doesn't have.
        """
        depths = self.own_depths or tuple(map(len, self.rows))
        blocks = [[row.block(width) for row in rows[:depth]] for rows, depth in zip(self.rows, depths, strict=True)]
        arch = self._arch(blocks, width, width, self.resolution)
        self.encode(arch)
        return arch

    def _arch(self, stages: Sequence[Sequence[Block]], stem_width: float, tail_width: float, resolution: int) -> Arch:
        return Arch(
            stages=tuple(tuple(stage) for stage in stages),
            stem_chs=make_divisible(self.stem_chs * stem_width),
            stem_stride=self.stem_stride,
            tail_chs=make_divisible(self.tail_chs * tail_width),
            head_chs=self.head_chs,
            resolution=resolution,
            align=self.align,
        )

    @cached_property
    def bounds(self) -> tuple[Arch, ...]:
        """Networks that between them reach the largest shape of every tensor."""
        return bounds(self)

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """The chain of units with the genes that each depends on: what `spaces.tables` tabulates."""
        return slots(self)

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the columns of `features`."""
        return feature_names(self)

    def features(self, codes: Codes) -> NDArray[np.float64]:
        """[n, genes] -> what the genes mean, in numbers for predictors: [n, features]; 0 where a gene is dead"""
        return features(self, codes)
