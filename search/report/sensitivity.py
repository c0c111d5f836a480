"""How much each knob moves accuracy and latency, over the networks that a search evaluated.

A linear model of all knobs at once (ridge, chosen by leave-one-out), each knob scaled from its least to its greatest
choice, so that a coefficient is what going from one to the other does while the others stay. Networks are drawn again
with replacement for the intervals. A search looks where accuracy is, so the networks are no even sample of the space.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import RidgeCV

from search.bootstrap import interval
from search.engine.trial import Trial
from spaces.space import Space

DRAWS = 200
COVERAGE = 0.9
FEWEST = 30  # networks, below which nothing is said
RIDGES = tuple(10.0**k for k in range(-3, 3))
KNOBS = {"ratio": "s", "cheap_kernel": "d", "se": "SE", "width": "width"}


@dataclass(frozen=True, slots=True)
class Effect:
    """Of one knob at one place, from its least to its greatest choice: points of accuracy and per cent of latency, each
    with the ends of its interval."""

    part: str
    knob: str
    accuracy: tuple[float, float, float]
    latency: tuple[float, float, float]


def effects(space: Space, trials: list[Trial], seed: int = 0) -> list[Effect]:
    """Effects of all knobs that vary, by knob and place; none where there are too few networks."""
    if len(trials) < FEWEST:
        return []
    x = space.features(np.array([t.code for t in trials]))
    varied = np.flatnonzero(np.ptp(x, axis=0) > 0)
    x = (x[:, varied] - x[:, varied].min(0)) / np.ptp(x[:, varied], axis=0)
    targets = np.array([(100 * t["accuracy"], 100 * np.log(t["latency_ms"])) for t in trials])
    rng = np.random.default_rng(seed)
    whole = _fit(x, targets)
    low, high = interval(lambda rows: _fit(x[rows], targets[rows]), len(x), rng, DRAWS, COVERAGE)
    whole[1], low[1], high[1] = (100 * np.expm1(each[1] / 100) for each in (whole, low, high))
    effect_list, columns = [], space.feature_columns
    for k, column in enumerate(varied):
        feature = columns[column]
        values = [(float(whole[j, k]), float(low[j, k]), float(high[j, k])) for j in range(2)]
        effect_list.append(
            Effect(feature.part or feature.kind, KNOBS.get(feature.kind, feature.kind), values[0], values[1])
        )
    return sorted(effect_list, key=lambda effect: list(dict.fromkeys(e.knob for e in effect_list)).index(effect.knob))


def _fit(x: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """[n, knobs], [n, 2] -> [2, knobs]"""
    return RidgeCV(alphas=RIDGES, alpha_per_target=True).fit(x, targets).coef_
