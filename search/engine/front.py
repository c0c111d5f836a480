"""The Pareto front of accuracy (up) against latency (down), and which of its networks to take."""

import numpy as np

from search.engine.problem import Trial


def points(trials: list[Trial]) -> np.ndarray:
    """[n, 2]: accuracy, latency in milliseconds"""
    return np.array([(t["accuracy"], t["latency_ms"]) for t in trials], dtype=float).reshape(-1, 2)


def front(trials: list[Trial]) -> list[Trial]:
    """The trials that none other beats in both, fastest first; of equal ones the first."""
    import moocore

    if not trials:
        return []
    best = moocore.is_nondominated(points(trials), maximise=[True, False])
    return sorted((t for t, keep in zip(trials, best, strict=True) if keep), key=lambda t: t["latency_ms"])


def hypervolume(trials: list[Trial], worst_latency_ms: float) -> float:
    """Area between the front and (accuracy 0, `worst_latency_ms`)."""
    import moocore

    if not trials:
        return 0.0
    return float(moocore.hypervolume(points(trials), ref=[0.0, worst_latency_ms], maximise=[True, False]))


def choose(trials: list[Trial], count: int) -> list[Trial]:
    """`count` networks along the front, evenly from its fastest to its most accurate, fastest first. A front with fewer
    is filled up from the fronts behind it."""
    import moocore

    ranks = moocore.pareto_rank(points(trials), maximise=[True, False])
    pool: list[Trial] = []
    for rank in np.unique(ranks):
        layer = sorted((t for t, r in zip(trials, ranks, strict=True) if r == rank), key=lambda t: t["latency_ms"])
        places = np.linspace(0, len(layer) - 1, min(count - len(pool), len(layer)))
        pool += [layer[round(place)] for place in places]
        if len(pool) >= count:
            break
    return sorted(pool, key=lambda t: t["latency_ms"])
