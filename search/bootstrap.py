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
) -> Any:
    """The ends of a statistic's interval [2, ...]: a number's two ends, or an array's of its own shape.

    Args:
        statistic: of `count` items drawn with replacement, given as their indices [count]; what is not a number in a
            draw (a rank correlation of equal values, say) is left out of it.
        vectorized: the statistic takes all draws at once: [draws, count] -> [draws, ...].
    """
    picks = rng.integers(count, size=(draws, count))
    resampled = statistic(picks) if vectorized else np.array([statistic(each) for each in picks])
    return np.nanquantile(resampled, ((1 - coverage) / 2, (1 + coverage) / 2), axis=0)
