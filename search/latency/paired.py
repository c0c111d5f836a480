"""Which of a few things is faster: timed side by side in many rounds, and compared round by round.

A slow minute of the machine touches all of them, and leaves their ratio in each round nearly alone.
"""

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from search.bootstrap import interval

MEASUREMENT_NS = 4_000_000  # a measurement is one discarded run, then runs for at least so long
RUNS = (2, 20)  # at least and at most


@dataclass(frozen=True)
class Interval:
    """A median and its 95 % bootstrap interval."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def time_interleaved(
    things: Mapping[str, Callable[[], int]], rounds: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Milliseconds of each thing in each round, the least of a short measurement: name -> [rounds].

    Args:
        things: session timers, or anything else that runs once and returns its nanoseconds.
        rng: the order within each round.
    """
    names = list(things)
    times = {name: np.empty(rounds) for name in names}
    was = gc.isenabled()
    gc.disable()
    gc.freeze()  # what is there already is not looked through after every round
    try:
        for turn in range(rounds):
            for k in rng.permutation(len(names)):
                times[names[k]][turn] = _measure(things[names[k]]) / 1e6
            gc.collect()
    finally:
        gc.unfreeze()
        if was:
            gc.enable()
    return times


def _measure(once: Callable[[], int]) -> int:
    once()
    times: list[int] = []
    while len(times) < RUNS[0] or (len(times) < RUNS[1] and sum(times) < MEASUREMENT_NS):
        times.append(once())
    return min(times)


def median_interval(values: np.ndarray, rng: np.random.Generator) -> Interval:
    """The median of independent values [n]."""
    low, high = interval(lambda picks: np.median(values[picks], axis=-1), len(values), rng, vectorized=True)
    return Interval(float(np.median(values)), float(low), float(high))
