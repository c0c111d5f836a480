"""A search space: every GhostNet that a few choices can make.

A network is encoded as whole numbers, one a gene, each an index into that gene's choices, which are ordered from
small to large: all zeros is the smallest network, all last the largest. Every code is a network. Two codes mean the
same one only where a choice is dead, such as the kernel of a block that the depth drops; each network has one canonical
code, `decode`, `encode` and all sampling go by canonical codes, and `size` counts networks, not codes.
"""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ghostnet.arch import Arch
from spaces import encoding
from spaces.canonical import CanonicalCodes, canonical_codes
from spaces.counting import NetworkCounts
from spaces.covering import covering_architectures
from spaces.errors import SpaceError
from spaces.features import Feature, feature_columns, feature_values, meaningful_features
from spaces.genes import Codes, Gene
from spaces.layout import Layout, lay_out
from spaces.sampling import sample_codes
from spaces.spec import SpaceSpec

__all__ = ["Codes", "Gene", "Space", "SpaceError"]


class Space(SpaceSpec):
    """A `SpaceSpec` with all that follows from it: codes, sizes, samples, features. It is built from the spec's fields,
    compares by them, and `dataclasses.replace` makes one from another."""

    @cached_property
    def layout(self) -> Layout:
        """Where everything is in a code."""
        return lay_out(self)

    @property
    def genes(self) -> tuple[Gene, ...]:
        """Widths first (stem, stages, tail), then resolution and depths, then block by block (`spaces.layout`)."""
        return self.layout.genes

    @property
    def choices(self) -> NDArray[np.int64]:
        """Number of choices of each gene, [genes]."""
        return self.layout.choices

    @property
    def size(self) -> int:
        """Exact number of different networks."""
        return self._counts.size

    @cached_property
    def _counts(self) -> NetworkCounts:
        return NetworkCounts(self.layout)

    @property
    def _canonical(self) -> CanonicalCodes:
        return canonical_codes(self.layout)

    @property
    def injective(self) -> bool:
        """Whether different codes always mean different networks."""
        return self._canonical.injective

    def canonical(self, codes: Codes) -> Codes:
        """[n, genes] or [genes] -> the one code of each of these networks, of the same shape"""
        return self._canonical.canonical(codes)

    def active(self, codes: Codes) -> NDArray[np.bool_]:
        """[n, genes] -> [n, genes] which genes mean something"""
        return self._canonical.active(codes)

    def decode(self, code: Codes) -> Arch:
        """[genes] -> the architecture, the same for every code with this canonical one.

        Raises:
            SpaceError: the code has another length or an index out of range.
        """
        return encoding.decode(self.layout, code)

    def encode(self, arch: Arch) -> Codes:
        """The architecture's canonical code, [genes]: the inverse of `decode`.

        Raises:
            SpaceError: the architecture is not a member.
        """
        return encoding.encode(self.layout, arch)

    def __contains__(self, arch: Arch) -> bool:
        try:
            self.encode(arch)
        except SpaceError:
            return False
        return True

    def sample(self, rng: np.random.Generator) -> Arch:
        """One network, uniformly from all of them."""
        return self.decode(self.sample_codes(rng, 1)[0])

    def sample_codes(self, rng: np.random.Generator, count: int) -> Codes:
        """Canonical codes of `count` networks, each drawn uniformly from all of them: [count, genes]"""
        return sample_codes(self._counts, rng, count)

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
        if isinstance(width, bool) or not isinstance(width, int | float) or not 0 < width < float("inf"):
            raise SpaceError(f"`width` must be a number above 0, but got {width!r:.80}")
        arch = encoding.family_arch(self, width)
        self.encode(arch)
        return arch

    @property
    def family(self) -> dict[float, Arch]:
        """`uniform` by its width, as far as the space has it; widest first."""
        archs = {width: encoding.family_arch(self, width) for width in sorted(self.widths, reverse=True)}
        return {width: arch for width, arch in archs.items() if arch in self}

    @cached_property
    def bounds(self) -> tuple[Arch, ...]:
        """The covering architectures: networks that between them reach the largest shape of every tensor of a
        `Supernet`."""
        return covering_architectures(self.layout)

    @property
    def feature_columns(self) -> tuple[Feature, ...]:
        """The columns of `features`."""
        return feature_columns(self.layout)

    def features(self, codes: Codes) -> NDArray[np.float64]:
        """[n, genes] -> what the genes mean, in numbers for predictors: [n, features]; 0 where a gene is dead"""
        return feature_values(self.layout, codes)

    def meaningful_features(self, codes: Codes) -> NDArray[np.bool_]:
        """[n, genes] -> where `features` are of something that is there, [n, features]"""
        return meaningful_features(self.layout, codes)
