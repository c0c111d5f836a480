"""The genes of a space: what is chosen, and from what. One class a kind.

The class methods decide the choices, each from the spec and the part of the network that the gene is about; nothing
else does. The ghost ratio s and the cheap kernel d are one gene, because d means nothing where s = 1. Where a gene
stands in the code, and what depends on it, the layout says.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from ghostnet.published import SE_RATIO, Row, make_divisible
from ghostnet.units import STEM, TAIL
from spaces.spec import SpaceSpec

Codes = NDArray[np.int64]  # [genes] for one network, [n, genes] for a population


@dataclass(frozen=True, slots=True)
class Gene:
    """One choice.

    Args:
        part: the part of the network that it is about: `stem`, `stages.2`, `blocks.2.0`, `tail`; empty for the whole.
        choices: the values, from small to large.
    """

    part: str
    choices: tuple[Any, ...]
    kind: ClassVar[str]

    @property
    def name(self) -> str:
        """Unique in a space: the place and the kind, such as `blocks.2.0.ghost`."""
        return f"{self.part}.{self.kind}" if self.part else self.kind

    @property
    def dimensions(self) -> dict[str, tuple[Any, ...]]:
        """The values of each dimension that the gene chooses in."""
        return {self.kind: self.choices}

    @property
    def labels(self) -> tuple[str | float, ...]:
        """The choices as people read them, each a single value."""
        return self.choices

    @property
    def features(self) -> tuple[str, ...]:
        """What the columns of `numbers` are."""
        return tuple(self.dimensions)

    def numbers(self) -> NDArray[np.float64]:
        """The choices as numbers that mean something, for predictors: [choices, features]"""
        return np.array(self.choices, dtype=np.float64).reshape(len(self.choices), -1)

    def meaningful(self) -> NDArray[np.bool_]:
        """Where a number is a choice of something that is there: [choices, features]"""
        return np.ones((len(self.choices), len(self.features)), dtype=bool)


class WidthGene(Gene):
    """The width of the stem, a stage or the tail: a multiplier of its channels."""

    kind = "width"

    @classmethod
    def stem(cls, spec: SpaceSpec) -> Self:
        return cls(STEM, _distinct(spec.widths, lambda width: make_divisible(spec.stem_chs * width)))

    @classmethod
    def stage(cls, spec: SpaceSpec, part: str, rows: tuple[Row, ...]) -> Self:
        return cls(part, _distinct(spec.widths, partial(_channels, spec, rows)))

    @classmethod
    def tail(cls, spec: SpaceSpec) -> Self:
        return cls(TAIL, _distinct(spec.widths, lambda width: make_divisible(spec.tail_chs * width)))


class ResolutionGene(Gene):
    """The side of the network's input, in pixels."""

    kind = "resolution"

    @classmethod
    def network(cls, spec: SpaceSpec) -> Self:
        return cls("", spec.resolution_choices)


class DepthGene(Gene):
    """How many blocks a stage has."""

    kind = "depth"

    @classmethod
    def stage(cls, spec: SpaceSpec, part: str, stage: int) -> Self:
        return cls(part, spec.depth_choices[stage])


class GhostGene(Gene):
    """How a block's Ghost modules make their features: each choice is (s, d), d 1 where s is."""

    kind = "ghost"

    @classmethod
    def block(cls, spec: SpaceSpec, part: str) -> Self:
        choices = [(s, d) for s in sorted(spec.ratios, reverse=True) for d in sorted(spec.cheap_kernels) if s > 1]
        return cls(part, (*choices, (1, 1)) if 1 in spec.ratios else tuple(choices))

    @property
    def dimensions(self) -> dict[str, tuple[Any, ...]]:
        ratios, kernels = {s for s, _ in self.choices}, {d for s, d in self.choices if s > 1}
        return {"ratio": tuple(sorted(ratios)), "cheap_kernel": tuple(sorted(kernels))}

    @property
    def labels(self) -> tuple[str | float, ...]:
        """`s=2 d=3`, or `s=1`"""
        return tuple(f"s={s} d={d}" if s > 1 else "s=1" for s, d in self.choices)

    def meaningful(self) -> NDArray[np.bool_]:
        """s always is, d where there are ghosts."""
        return np.array([(True, s > 1) for s, _ in self.choices])


class SeGene(Gene):
    """Whether a block has squeeze-and-excitation: its ratio, 0 for none."""

    kind = "se"

    @classmethod
    def block(cls, part: str) -> Self:
        return cls(part, (0.0, SE_RATIO))

    def numbers(self) -> NDArray[np.float64]:
        """There or not."""
        return (np.array(self.choices)[:, None] > 0).astype(np.float64)


class ExpansionGene(Gene):
    """A multiplier of a block's hidden channels."""

    kind = "expansion"

    @classmethod
    def block(cls, spec: SpaceSpec, part: str) -> Self:
        return cls(part, tuple(sorted(spec.expansions)))


class KernelGene(Gene):
    """The kernel of a block's depthwise convolutions."""

    kind = "kernel"

    @classmethod
    def block(cls, spec: SpaceSpec, part: str, row: Row) -> Self:
        return cls(part, spec.kernel_choices(row))


def _distinct(widths: tuple[float, ...], channels: Callable[[float], object]) -> tuple[float, ...]:
    """The widths that make different channels, each the smallest that makes them."""
    first: dict[object, float] = {}
    for width in sorted(widths):
        first.setdefault(channels(width), width)
    return tuple(first.values())


def _channels(spec: SpaceSpec, rows: tuple[Row, ...], width: float) -> object:
    """What tells one width of a stage from another. Where hidden channels have a gene of their own, or a block with
    them may be dropped, that is the output channels alone: else two codes could mean one network."""
    out_chs = tuple(make_divisible(row.out_chs * width) for row in rows)
    if len(spec.expansions) > 1 or any(len(choices) > 1 for choices in spec.depth_choices):
        return out_chs
    return out_chs, tuple(make_divisible(row.mid_chs * width * spec.expansions[0]) for row in rows)
