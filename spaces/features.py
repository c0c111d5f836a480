"""Codes as numbers that mean something, for predictors: widths, s, d, SE, expansions, kernels, depths, resolution."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spaces.canonical import canonical_codes
from spaces.genes import Codes
from spaces.layout import Layout

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Feature:
    """A column of `feature_values`: the part of the network, as `Gene.part`, and the kind of gene; of a ghost gene
    there are two columns, `ratio` and `cheap_kernel`."""

    part: str
    kind: str

    @property
    def name(self) -> str:
        """The place and the kind, such as `blocks.2.0.ratio`."""
        return f"{self.part}.{self.kind}" if self.part else self.kind


def feature_columns(layout: Layout) -> tuple[Feature, ...]:
    """The columns of `feature_values`: one a gene, or two where it is a ghost gene."""
    return tuple(Feature(gene.part, kind) for gene in layout.genes for kind in gene.features)


def feature_values(layout: Layout, codes: Codes) -> Floats:
    """[n, genes] -> [n, features]; 0 where a gene is dead. d is 1 where s = 1, SE is 0 or 1."""
    codes, active = _canonical(layout, codes)
    columns = [gene.numbers()[codes[:, k]] * active[:, k, None] for k, gene in enumerate(layout.genes)]
    return np.concatenate(columns, axis=1)


def meaningful_features(layout: Layout, codes: Codes) -> NDArray[np.bool_]:
    """[n, genes] -> [n, features] where `feature_values` are of something that is there: a gene that isn't dead, and d
    where s isn't 1."""
    codes, active = _canonical(layout, codes)
    columns = [gene.meaningful()[codes[:, k]] & active[:, k, None] for k, gene in enumerate(layout.genes)]
    return np.concatenate(columns, axis=1)


def _canonical(layout: Layout, codes: Codes) -> tuple[Codes, NDArray[np.bool_]]:
    """The canonical codes [n, genes], and where their genes are active."""
    canonical = canonical_codes(layout)
    codes = canonical.canonical(np.atleast_2d(codes))
    return codes, canonical.active(codes)
