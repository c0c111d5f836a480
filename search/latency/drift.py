"""Takes the drift of the machine's speed out of the timings of whole networks.

Between quiet measurements the speed of a shared machine still varies by some per cent, for tenths of a second to
seconds: other processes use the caches and the memory, too, which the small reference network hardly shows. All large
networks are slowed alike. So what the measurements of the same second have in common, beyond each network's own mean,
is the machine's, and is taken out.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

SECONDS = 1.0  # standard deviation of the weights in time
REACH = 4.0  # of them
PRIOR = 1.0  # weight of the prior that there is no drift, in measurements
ROUNDS = 8
CHUNK = 256
Floats = NDArray[np.float64]


def without_drift(measurements: Mapping[str, Sequence[tuple[float, float]]]) -> dict[str, list[float]]:
    """Milliseconds as they would be at the machine's mean pace.

    Args:
        measurements: of each network, as (at what second, milliseconds).
    """
    item = np.array([k for k, item_rows in enumerate(measurements.values()) for _ in item_rows], dtype=np.int64)
    at, ms = (np.array([row[which] for item_rows in measurements.values() for row in item_rows]) for which in (0, 1))
    order = np.argsort(at, kind="stable")
    drift = np.zeros(len(at))
    drift[order] = _drift(item[order], at[order], np.log(ms[order]))
    steady = iter((ms / np.exp(drift)).tolist())
    return {name: [next(steady) for _ in item_rows] for name, item_rows in measurements.items()}


def _drift(item: NDArray[np.int64], at: Floats, log_ms: Floats) -> Floats:
    """Logarithm of the pace at each measurement, by time: a weighted mean of what the measurements around it are off
    their networks' means, which are then taken anew."""
    drift, counts = np.zeros(len(at)), np.bincount(item)
    for _ in range(ROUNDS):
        off = log_ms - (np.bincount(item, log_ms - drift) / np.maximum(counts, 1))[item]
        drift = _smoothed(at, off)
    return drift


def _smoothed(at: Floats, off: Floats) -> Floats:
    smoothed = np.empty(len(at))
    for first in range(0, len(at), CHUNK):
        here = slice(first, min(first + CHUNK, len(at)))
        start = int(np.searchsorted(at, at[here][0] - REACH * SECONDS))
        stop = int(np.searchsorted(at, at[here][-1] + REACH * SECONDS))
        weights = np.exp(-0.5 * ((at[here, None] - at[None, start:stop]) / SECONDS) ** 2)
        rows = np.arange(len(weights))
        weights[rows, rows + first - start] = 0  # not by itself
        smoothed[here] = weights @ off[start:stop] / (weights.sum(1) + PRIOR)
    return smoothed
