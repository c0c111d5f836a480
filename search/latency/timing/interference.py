"""How a session is timed: in short windows of runs, each between two timings of a small reference network.

On shared machines another process on the same physical core slows everything by up to 2x, for milliseconds to seconds
at a time. The reference network, timed just before and just after each window (a probe), shows that; such a window is
repeated, on another core if that one is quieter. Times are divided by the reference's only where no quiet moment came.
A measurement is several quiet windows, of which the minimum counts, because interruptions only add time. An item's
latency is the pseudo-median of its quiet measurements.
"""

from __future__ import annotations

import gc
import os
import time
from collections import deque
from contextlib import contextmanager

import numpy as np

WARM_UP = 2
WINDOWS = 3  # quiet windows in a measurement; its minimum is over all of them
RUNS = (2, 10)  # in a window, at least and at most
WINDOW_NS = 700_000
REFERENCE_RUNS = 3
QUIET_PERCENTILE = 25
PROBES_KEPT = 1000
MAX_PROBES = 40  # of the reference, before a measurement is put off
QUIET_RATIO = 1.1  # a measurement is quiet if the reference took at most this many times its quiet time around it
INITIAL_PROBES_S = 0.5


def window(once) -> list:
    """A few runs in a row, in nanoseconds each."""
    times: list = []
    with _no_garbage_collection():
        while len(times) < RUNS[0] or (len(times) < RUNS[1] and sum(times) < WINDOW_NS):
            times.append(once())
    return times


def score(minima_ms) -> float:
    """The latency that several measurements give, in milliseconds."""
    return float(pseudo_median(np.asarray(minima_ms, dtype=float)))


def pseudo_median(minima_ms):
    """[..., measurements] -> [...]: the median of the means of all pairs (Hodges and Lehmann, 1963).

    Quiet measurements still vary to both sides. This averages them nearly as well as the mean does, and a few that were
    disturbed unnoticed don't move it."""
    first, second = np.triu_indices(minima_ms.shape[-1])
    return np.median((minima_ms[..., first] + minima_ms[..., second]) / 2, axis=-1)


class InterferenceFilter:
    """Tells whether the machine is quiet, by the time of a small network compared with its time in quiet moments.

    Args:
        reference: the small network's session, which has `timer(images)`.
        shape: of its input, batch first.
        probes_ms: the reference's times from before, when a calibration is resumed.
    """

    def __init__(self, reference, shape, threads: int, probes_ms=()) -> None:
        self._once = reference.timer(np.zeros(shape, dtype=np.float32))
        self._probes = deque(probes_ms, maxlen=PROBES_KEPT)
        self.quiet_ms = quiet_time(self._probes) if self._probes else float("inf")
        self._cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        self._free = self._cores if threads == 1 and len(self._cores) > 1 else []  # one thread may move between these
        end = time.monotonic() + INITIAL_PROBES_S
        while time.monotonic() < end:
            self.probe()

    def probe(self) -> float:
        """The reference's time now, in milliseconds: the least of a few runs."""
        now = min(self._once() for _ in range(REFERENCE_RUNS)) / 1e6
        self._probes.append(now)
        self.quiet_ms = quiet_time(self._probes)
        return now

    def measure(self, session, shape) -> dict:
        """Measures a session in quiet moments, for which it waits a little, or else in noisy ones.

        `reference_ms`, the slowest of the reference's times around the windows that count, tells which it was."""
        once = session.timer(np.random.default_rng(0).standard_normal(shape, dtype=np.float32))
        for _ in range(WARM_UP):
            once()
        windows = []  # the reference's time, and the runs
        before = self.probe()
        for _ in range(MAX_PROBES):
            if not self.is_quiet(before):
                self._switch_core()
                before = self.probe()
                continue
            runs = window(once)
            after = self.probe()
            if self.is_quiet(after):
                windows.append((max(before, after), runs))
                if len(windows) == WINDOWS:
                    break
            before = after
        if not windows:
            runs = window(once)
            windows.append((max(before, self.probe()), runs))
        times = [time for _, runs in windows for time in runs]
        return {
            "min_ms": min(times) / 1e6,
            "median_ms": float(np.median(times)) / 1e6,
            "p90_ms": float(np.percentile(times, 90)) / 1e6,
            "runs": len(times),
            "reference_ms": max(reference for reference, _ in windows),
        }

    def is_quiet(self, reference_ms: float) -> bool:
        """Whether a measurement with that reference time is quiet, by the quiet time as it is known now."""
        return quiet(reference_ms, self.quiet_ms)

    def quiet_minima(self, measurements) -> list:
        """The minima of the quiet measurements.

        Where none was quiet, those of all, divided by how much the reference was slowed: an approximation, and counted
        as disturbed."""
        return quiet_minima(measurements, self.quiet_ms)

    def _switch_core(self) -> None:
        """Moves to the next core that we may use. One thread only; more would share the cores anyway."""
        if self._free:
            self._free = self._free[1:] + self._free[:1]
            os.sched_setaffinity(0, {self._free[0]})

    def close(self) -> None:
        """Gives back the cores that we may use."""
        if self._free:
            os.sched_setaffinity(0, set(self._cores))


def quiet_time(reference_ms) -> float:
    """The reference's time in quiet moments: the lower quartile of its probes. The least ones won't do: a clock that
    ran faster for a second, or two threads that woke at once, beside which all usual moments would look disturbed."""
    return float(np.percentile(reference_ms, QUIET_PERCENTILE))


def quiet(reference_ms: float, best_ms: float) -> bool:
    """Whether a measurement is quiet: the reference took little more time around it than in quiet moments."""
    return reference_ms <= QUIET_RATIO * best_ms


def quiet_minima(measurements, quiet_ms: float) -> list:
    """As `InterferenceFilter.quiet_minima`, from a log: `best_ms` is the reference's time in quiet moments."""
    minima = [row["min_ms"] for row in measurements if quiet(row["reference_ms"], quiet_ms)]
    return minima or [row["min_ms"] * quiet_ms / row["reference_ms"] for row in measurements]


@contextmanager
def _no_garbage_collection():
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
