"""The expected improvement of a front's hypervolume by a network, over samples of what its objectives may be.

Hypervolume is the mean, over directions in the positive orthant, of min_i (y_i / direction_i)^m (Zhang and Golovin,
ICML 2020, lemma 5), for any number m of objectives. So the gain of one network, or of a batch one after the other, is
arithmetic on arrays.
"""

import math
from collections.abc import Sequence

import moocore
import numpy as np
from numpy.typing import NDArray

from search.engine.front import BEYOND_PROPOSED
from search.engine.objectives import Columns, Objective, values
from search.engine.trial import Trial

Floats = NDArray[np.float64]
DIRECTIONS = 256


class HypervolumeImprovement:
    """The improvement over the front of some trials.

    Args:
        rows: complete trials, at least one.
        num_samples: samples of each expensive objective; every direction uses one of them.
    """

    def __init__(
        self, objectives: Sequence[Objective], rows: Sequence[Trial], num_samples: int, rng: np.random.Generator
    ) -> None:
        self.objectives = objectives
        points = values(rows, objectives)
        best = points[moocore.is_nondominated(points, maximise=True)]
        extent = np.ptp(best, axis=0)
        extent = np.where(extent > 0, extent, np.maximum(np.ptp(points, axis=0), 1e-9))
        self.worst, self.extent = best.min(0) - BEYOND_PROPOSED * extent, extent
        directions = np.abs(rng.standard_normal((DIRECTIONS, len(objectives)))) + 1e-9
        self.directions = directions / np.linalg.norm(directions, axis=1, keepdims=True)
        self.sample_index = rng.integers(num_samples, size=DIRECTIONS)
        self.reached = self._scalar(np.broadcast_to(best, (DIRECTIONS, *best.shape))).max(1)

    def contribution(self, columns: Columns, samples: dict[str, Floats]) -> Floats:
        """What networks contribute in each direction: [directions, n].

        Args:
            columns: of each objective that is known, [n].
            samples: of each that is not, [samples, n].
        """
        points = [
            o.sign
            * (samples[o.name][self.sample_index] if o.name in samples else np.tile(columns[o.name], (DIRECTIONS, 1)))
            for o in self.objectives
        ]
        return self._scalar(np.stack(points, axis=-1))

    def by_measuring_again(self, columns: Columns, samples: dict[str, Floats]) -> Floats:
        """The gain of the front that networks are expected to make, on average, if one of them is measured again: [n].
        It is small beside that of a new network, and so by exact volumes.

        Args:
            columns: of each objective what is expected now, [n].
            samples: of those that a measurement tells, [samples, n].
        """
        points = self._points(columns)
        count = len(next(iter(samples.values())))
        draws = np.stack(
            [self._points({**columns, **{name: each[k] for name, each in samples.items()}}) for k in range(count)]
        )
        now, gains = self._volume(points), np.zeros(len(points))
        for k in np.flatnonzero((draws != points).any((0, 2))):
            others = np.delete(points, k, 0)
            others = others[moocore.is_nondominated(others, maximise=True)] if len(others) else others
            gains[k] = np.mean([self._volume(np.vstack([others, draw])) for draw in draws[:, k]]) - now
        return gains

    def _points(self, columns: Columns) -> Floats:
        """[n] of each objective -> [n, objectives], from 0, the reference point, upwards"""
        points = np.stack([o.sign * columns[o.name] for o in self.objectives], axis=-1)
        return np.maximum(points - self.worst, 0) / self.extent

    def _volume(self, points: Floats) -> float:
        """In the unit of `expected`, which leaves out the lemma's constant factor."""
        m = len(self.objectives)
        factor = math.pi ** (m / 2) / (2**m * math.gamma(m / 2 + 1))
        return float(moocore.hypervolume(points, ref=np.zeros(m), maximise=True)) / factor

    def expected(self, contribution: Floats) -> Floats:
        """[directions, n] -> the expected improvement by each network alone, [n]"""
        return np.maximum(contribution - self.reached[:, None], 0).mean(0)

    def add(self, contribution: Floats) -> None:
        """Adds a network to the front, by its contribution [directions]."""
        self.reached = np.maximum(self.reached, contribution)

    def _scalar(self, points: Floats) -> Floats:
        """[directions, n, objectives] -> [directions, n]"""
        height = np.maximum(points - self.worst, 0) / self.extent
        return (height / self.directions[:, None]).min(2) ** len(self.objectives)
