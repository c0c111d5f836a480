"""Networks drawn from a space, each with the same odds."""

import numpy as np

from spaces.counting import NetworkCounts, Numbers
from spaces.genes import Codes


def sample_codes(counts: NetworkCounts, rng: np.random.Generator, count: int) -> Codes:
    """Canonical codes of `count` networks, each drawn uniformly from all networks of the space: [count, genes]

    Where different codes may mean one network, widths and depths are drawn along the chain by how many networks follow
    from them.
    """
    layout, canonical = counts.layout, counts.codes
    codes = rng.integers(layout.choices, size=(count, len(layout.choices)))
    if canonical.injective:
        return codes
    before = np.zeros(count, dtype=np.int64)
    codes[:, layout.stem.width] = before = _pick(rng, counts.after[0][None] / counts.after[0].sum(), before)
    for stage, ways, here, after in zip(layout.stages, counts.ways, counts.after, counts.after[1:], strict=False):
        share = ways * after[:, None] / here[:, None, None]
        both = _pick(rng, share.reshape(len(share), -1), before)
        codes[:, stage.width] = before = both // ways.shape[2]
        if stage.depth is not None:
            codes[:, stage.depth] = both % ways.shape[2]
    for block in canonical.canonical_shape:
        width, different = codes[:, block.width], canonical.is_canonical(block)
        nth = rng.integers(different.sum(1)[width])  # of the canonical shapes, which come first in `order`
        order = np.argsort(~different, axis=1, kind="stable")
        canonical.set_shape(codes, block, order[width, nth])
    return canonical.canonical(codes)


def _pick(rng: np.random.Generator, share: Numbers, row: Codes) -> Codes:
    """One column for each of `row` [n], with the odds of that row of `share` [rows, columns]: [n]"""
    bounds = share.astype(np.float64).cumsum(1)[:, :-1]
    return (rng.random(len(row))[:, None] >= bounds[row]).sum(1)
