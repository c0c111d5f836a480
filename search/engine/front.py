"""The Pareto front, by default of accuracy (up) against latency (down)."""

from collections.abc import Iterable, Sequence

import moocore
import numpy as np
from numpy.typing import NDArray

from search.engine.objectives import USUAL, Metrics, Objective, values
from search.engine.trial import Trial

# Where the reference point of a hypervolume lies: behind the worst of a front, by this part of the front's extent. The
# farther, the more the ends of a front count beside its middle.
BEYOND_CHOSEN = 0.5  # for networks that are chosen of a front
BEYOND_PROPOSED = 1.0  # for networks that may improve it
BEYOND_PROMOTED = 0.1  # for networks of a rung, of which some go on to the next


def front(trials: Sequence[Trial], objectives: Sequence[Objective] = USUAL) -> list[Trial]:
    """The trials that none other beats in every objective, fastest first; of equal ones the first."""
    if not trials:
        return []
    best = moocore.is_nondominated(values(trials, objectives), maximise=True)
    return _sorted((t for t, keep in zip(trials, best, strict=True) if keep), objectives)


def layers(trials: Sequence[Trial], objectives: Sequence[Objective] = USUAL) -> list[list[Trial]]:
    """The front, the front behind it, and so on."""
    if not trials:
        return []
    ranks = moocore.pareto_rank(values(trials, objectives), maximise=True)
    return [
        _sorted((t for t, r in zip(trials, ranks, strict=True) if r == rank), objectives) for rank in np.unique(ranks)
    ]


def hypervolume(trials: Sequence[Metrics], worst_latency_ms: float) -> float:
    """Area between the front and (accuracy 0, `worst_latency_ms`)."""
    if not trials:
        return 0.0
    return float(moocore.hypervolume(values(trials, USUAL), ref=[0.0, -worst_latency_ms], maximise=True))


def growth(trials: Sequence[Trial], objectives: Sequence[Objective] = USUAL, share: float = 1 / 3) -> float:
    """The part of the front's hypervolume that the last share of the trials added, in their order. The hypervolume
    reaches to the worst value of each objective, and to 0 of one that is made large."""
    if not trials:
        return 0.0
    points = values(trials, objectives)
    limits = [0.0 if o.maximise else np.inf for o in objectives]
    worst, kept = np.minimum(points.min(0), limits), round((1 - share) * len(trials))
    whole = moocore.hypervolume(points, ref=worst, maximise=True)
    before = moocore.hypervolume(points[:kept], ref=worst, maximise=True) if kept else 0.0
    return float(1 - before / whole) if whole else 0.0


def _sorted(trials: Iterable[Trial], objectives: Sequence[Objective]) -> list[Trial]:
    cost = next((o for o in objectives if not o.maximise), objectives[0])
    return sorted(trials, key=lambda t: -cost.sign * t[cost.name])


class Front:
    """A front that grows with its trials, at little cost each."""

    def __init__(self, objectives: Sequence[Objective]) -> None:
        self.objectives = objectives
        self.points: NDArray[np.float64] = np.empty((0, len(objectives)))

    def __len__(self) -> int:
        return len(self.points)

    def add(self, trials: Sequence[Trial]) -> None:
        """Takes in complete trials."""
        for point in values(trials, self.objectives):
            if not (self.points >= point).all(1).any():
                beaten = (point >= self.points).all(1)
                self.points = np.concatenate([self.points[~beaten], point[None]])
