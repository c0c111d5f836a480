"""Percentile bootstrap intervals (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13).

`search/latency/timing` has the same three lines of its own: a kit carries it to devices that have numpy alone.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

DRAWS, COVERAGE = 2000, 0.95


def interval(
    statistic: Callable[[NDArray[np.int64]], Any],
    count: int,
    rng: np.random.Generator,
    draws: int = DRAWS,
    coverage: float = COVERAGE,
    *,
    vectorized: bool = False,
    group: NDArray[np.int64] | None = None,
) -> Any:
    """The ends of a statistic's interval [2, ...]: a number's two ends, or an array's of its own shape.

    Args:
        statistic: of `count` items drawn with replacement, given as their indices [count]; what is not a number in a
            draw (a rank correlation of equal values, say) is left out of it.
        vectorized: the statistic takes all draws at once: [draws, count] -> [draws, ...].
        group: of each item, [count]: each draw has as many of a group as there are. None: all are of one.
    """
    members = [np.flatnonzero(group == name) for name in np.unique(group)] if group is not None else [np.arange(count)]
    picks = np.concatenate([each[rng.integers(len(each), size=(draws, len(each)))] for each in members], axis=1)
    resampled = statistic(picks) if vectorized else np.array([statistic(each) for each in picks])
    return np.nanquantile(resampled, ((1 - coverage) / 2, (1 + coverage) / 2), axis=0)
