"""How a session is timed: in short windows of runs, each between two probes of the machine.

A window that was disturbed is repeated, on another core if that one is quieter. A measurement is several quiet windows,
of which the minimum counts, because interruptions only add time.
"""

from __future__ import annotations

import gc
from contextlib import contextmanager

import numpy as np

WARM_UP = 2
WINDOWS = 3  # quiet windows in a measurement; its minimum is over all of them
RUNS = (2, 10)  # in a window, at least and at most
WINDOW_NS = 700_000
MAX_PROBES = 40  # of the reference, before a measurement is put off


def take_measurement(interference, session, shape) -> dict:
    """Measures a session in quiet moments, for which it waits a little, or else in noisy ones.

    `reference_ms`, the slowest of the reference's times around the windows that count, tells which it was."""
    once = session.timer(np.random.default_rng(0).standard_normal(shape, dtype=np.float32))
    for _ in range(WARM_UP):
        once()
    windows = []  # the reference's time, and the runs
    before = interference.probe()
    for _ in range(MAX_PROBES):
        if not interference.is_quiet(before):
            interference.switch_core()
            before = interference.probe()
            continue
        runs = window(once)
        after = interference.probe()
        if interference.is_quiet(after):
            windows.append((max(before, after), runs))
            if len(windows) == WINDOWS:
                break
        before = after
    if not windows:
        runs = window(once)
        windows.append((max(before, interference.probe()), runs))
    times = [time for _, runs in windows for time in runs]
    return {
        "min_ms": min(times) / 1e6,
        "median_ms": float(np.median(times)) / 1e6,
        "p90_ms": float(np.percentile(times, 90)) / 1e6,
        "runs": len(times),
        "reference_ms": max(reference for reference, _ in windows),
    }


def window(once) -> list:
    """A few runs in a row, in nanoseconds each."""
    times: list = []
    with _no_garbage_collection():
        while len(times) < RUNS[0] or (len(times) < RUNS[1] and sum(times) < WINDOW_NS):
            times.append(once())
    return times


@contextmanager
def _no_garbage_collection():
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
