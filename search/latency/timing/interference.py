"""Whether the machine is quiet: a small reference network is timed, and compared with its time in quiet moments.

On shared machines another process on the same physical core slows everything by up to 2x, for milliseconds to seconds
at a time. The reference network, timed just before and just after a window of runs (a probe), shows that.
"""

from __future__ import annotations

import os
import time
from collections import deque

import numpy as np

REFERENCE_RUNS = 3
QUIET_PERCENTILE = 25
PROBES_KEPT = 1000
QUIET_RATIO = 1.1  # a measurement is quiet if the reference took at most this many times its quiet time around it
INITIAL_PROBES_S = 0.5


class InterferenceFilter:
    """Tells whether the machine is quiet, by the time of a small network compared with its time in quiet moments.

    It is a context: however its block ends, the process has all its cores again.

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

    def is_quiet(self, reference_ms: float) -> bool:
        """Whether a measurement with that reference time is quiet, by the quiet time as it is known now."""
        return quiet(reference_ms, self.quiet_ms)

    def switch_core(self) -> None:
        """Moves to the next core that we may use. One thread only; more would share the cores anyway."""
        if self._free:
            self._free = self._free[1:] + self._free[:1]
            os.sched_setaffinity(0, {self._free[0]})

    def __enter__(self) -> InterferenceFilter:
        return self

    def __exit__(self, *_) -> None:
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
