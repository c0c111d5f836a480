"""Codes as numbers that mean something, for predictors: widths, s, d, SE, expansions, kernels, depths, resolution."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from spaces.layout import Gene

if TYPE_CHECKING:
    from spaces.space import Codes, Space

Floats = NDArray[np.float64]


def feature_names(space: "Space") -> tuple[str, ...]:
    """One name a feature: the gene's, or two where it is a ghost gene."""
    return tuple(name for gene in space.genes for name in _names(gene))


def features(space: "Space", codes: "Codes") -> Floats:
    """[n, genes] -> [n, features]; 0 where a gene is dead. d is 1 where s = 1, SE is 0 or 1."""
    codes = space.canonical(np.atleast_2d(codes))
    active = space.chain.active(codes)
    columns = [_values(gene)[codes[:, k]] * active[:, k, None] for k, gene in enumerate(space.genes)]
    return np.concatenate(columns, axis=1)


def _names(gene: Gene) -> tuple[str, ...]:
    place, _, kind = gene.name.rpartition(".")
    return (f"{place}.ratio", f"{place}.cheap_kernel") if kind == "ghost" else (gene.name,)


def _values(gene: Gene) -> Floats:
    """[choices, features of this gene]"""
    values = np.array(gene.choices, dtype=np.float64).reshape(len(gene.choices), -1)
    return (values > 0).astype(np.float64) if gene.name.endswith(".se") else values
