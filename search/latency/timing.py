"""How a session is timed: short visits between two looks at a reference network, scored by their lower quartile.

Everything is timed in every round, in a new order each time, so that a slow minute of the machine touches all alike.
A visit's minimum shrugs off interruptions inside it. On shared machines a neighbour on the same physical core slows
everything by up to 2x for milliseconds to seconds at a time: the reference, timed just before and just after, tells,
and such a visit is made again. The reference is a gate, never a divisor.
"""

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ghostnet.network import GhostNet
from search.latency.runtimes import Runtime, Session, Shape
from spaces.presets import DIGITS

Visit = dict[str, Any]  # min_ms, median_ms, runs, reference_ms; in a calibration's log also item, visit, at_s
WARM_UP = 2
RUNS = (3, 30)  # at least, at most
VISIT_NS = 2_000_000
REFERENCE_RUNS = 5
LOOKS = 20  # at the reference, before a visit is put off
CALM = 1.08  # a visit counts if the reference took at most this much more than at its best, before and after
SETTLE_S = 0.5


def visit(session: Session, shape: Shape) -> Visit:
    """One visit at batch 1: discarded runs, then timed ones. Times in milliseconds."""
    images = np.random.default_rng(0).standard_normal((1, *shape), dtype=np.float32)
    for _ in range(WARM_UP):
        session(images)
    times: list[int] = []
    with _no_garbage_collection():
        while len(times) < RUNS[0] or (len(times) < RUNS[1] and sum(times) < VISIT_NS):
            start = time.perf_counter_ns()
            session(images)
            times.append(time.perf_counter_ns() - start)
    return {"min_ms": min(times) / 1e6, "median_ms": float(np.median(times)) / 1e6, "runs": len(times)}


def score(minima_ms: list[float]) -> float:
    """The latency that a set of visits stands for: the 25th percentile of their minima, in milliseconds."""
    return float(np.percentile(minima_ms, 25))


class Gate:
    """Tells whether the machine is calm, by a small network whose best time is known ever better.

    Args:
        best_ms: the best time known from before, when a calibration is resumed.
    """

    def __init__(self, run: Runtime, best_ms: float = float("inf")) -> None:
        self._shape: Shape = (1, DIGITS.resolution, DIGITS.resolution)
        network = GhostNet(DIGITS.uniform(0.5), DIGITS.num_classes, DIGITS.in_chs)
        self._session = run.load(run.compile(network, self._shape))
        self._images = np.zeros((1, *self._shape), dtype=np.float32)
        self.best_ms = best_ms
        end = time.monotonic() + SETTLE_S
        while time.monotonic() < end:
            self.look()

    def look(self) -> float:
        """The reference's time now, in milliseconds: the least of a few runs."""
        times = []
        for _ in range(REFERENCE_RUNS):
            start = time.perf_counter_ns()
            self._session(self._images)
            times.append(time.perf_counter_ns() - start)
        now = min(times) / 1e6
        self.best_ms = min(self.best_ms, now)
        return now

    def visit(self, session: Session, shape: Shape) -> Visit:
        """A visit in a calm moment, waiting a little for one, or a disturbed one if none comes: `reference_ms`, the
        slower of the reference's times before and after it, tells which."""
        for _ in range(LOOKS):
            if not self.calm(before := self.look()):
                continue
            row = visit(session, shape)
            if self.calm(after := max(before, self.look())):
                return {**row, "reference_ms": after}
        before = self.look()
        return {**visit(session, shape), "reference_ms": max(before, self.look())}

    def calm(self, reference_ms: float) -> bool:
        """Whether a visit with that reference time counts, by the best that is known now."""
        return reference_ms <= CALM * self.best_ms


def counted(visits: list[Visit], gate: Gate) -> list[float]:
    """The minima of the calm visits, or of all where none was calm."""
    calm = [visit["min_ms"] for visit in visits if gate.calm(visit["reference_ms"])]
    return calm or [visit["min_ms"] for visit in visits]


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
