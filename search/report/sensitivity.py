"""How much each knob moves accuracy and latency, over the networks that a search evaluated.

A linear model of all knobs at once (ridge, chosen by leave-one-out), each knob scaled from its least to its greatest
choice, so that a coefficient is what going from one to the other does while the others stay. A block without ghosts
(s = 1) is a step of its own, beside s among those that have some. Where there is nothing to choose (d of such a block,
all of a block that is left out) a knob stands at its mean, so that what is missing is put down to the knob that left it
out. Networks are drawn again with replacement for the intervals. A search looks where accuracy is, so the networks are
no even sample of the space.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV

from search.bootstrap import interval
from search.engine.trial import Trial
from spaces.features import Feature
from spaces.space import Space

Floats = NDArray[np.float64]
DRAWS = 200
COVERAGE = 0.9
FEWEST, FEWEST_PER_COLUMN = 30, 1.5  # networks, below which nothing is said: intervals would be too narrow
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
    x, knobs = _design(space, np.array([t.code for t in trials]))
    if not knobs or len(trials) < FEWEST_PER_COLUMN * x.shape[1]:
        return []
    targets = np.array([(100 * t["accuracy"], 100 * np.log(t["latency_ms"])) for t in trials])
    contrasts = np.stack([contrast for _, contrast in knobs], axis=1)

    def moves(rows: NDArray[np.int64]) -> Floats:
        """[rows] -> [2, knobs]"""
        coefficients: Floats = RidgeCV(alphas=RIDGES, alpha_per_target=True).fit(x[rows], targets[rows]).coef_
        return coefficients @ contrasts

    whole = moves(np.arange(len(x)))
    low, high = interval(moves, len(x), np.random.default_rng(seed), DRAWS, COVERAGE)
    whole[1], low[1], high[1] = (100 * np.expm1(each[1] / 100) for each in (whole, low, high))
    effect_list = []
    for k, (feature, _) in enumerate(knobs):
        values = [(float(whole[j, k]), float(low[j, k]), float(high[j, k])) for j in range(2)]
        effect_list.append(
            Effect(feature.part or feature.kind, KNOBS.get(feature.kind, feature.kind), values[0], values[1])
        )
    return sorted(effect_list, key=lambda effect: list(dict.fromkeys(e.knob for e in effect_list)).index(effect.knob))


def _design(space: Space, codes: NDArray[np.int64]) -> tuple[Floats, list[tuple[Feature, Floats]]]:
    """What the model reads, [n, columns], and of each knob that varies how far its columns move, [columns], from its
    least to its greatest choice."""
    values, meaningful = space.features(codes), space.meaningful_features(codes)
    columns: list[Floats] = []
    knobs: list[tuple[Feature, dict[int, float]]] = []
    for k, feature in enumerate(space.feature_columns):
        value, there = values[:, k], meaningful[:, k]
        steps: dict[int, float] = {}
        if feature.kind == "ratio" and (plain := there & (value == 1)).any():
            there = there & ~plain
            if there.any():
                steps[len(columns)] = -1.0
                columns.append(np.where(there | plain, plain, plain.sum() / (there | plain).sum()))
        least, greatest = (value[there].min(), value[there].max()) if there.any() else (0.0, 0.0)
        if greatest > least:
            scaled = (value - least) / (greatest - least)
            middle = scaled[there].mean()
            steps[len(columns)] = 1 - middle if steps else 1.0
            columns.append(np.where(there, scaled, middle))
        if steps:
            knobs.append((feature, steps))
    contrasts = [(feature, np.array([steps.get(c, 0.0) for c in range(len(columns))])) for feature, steps in knobs]
    return np.stack(columns, axis=1) if columns else np.zeros((len(codes), 0)), contrasts
