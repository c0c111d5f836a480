"""Interleaved timing of a few things in one run."""

import statistics
import time
from collections.abc import Callable


def medians(things: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each, run in turn after one uncounted round."""
    times: dict[str, list[float]] = {name: [] for name in things}
    for turn in range(rounds + 1):
        for name, thing in things.items():
            start = time.perf_counter()
            thing()
            if turn:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}
