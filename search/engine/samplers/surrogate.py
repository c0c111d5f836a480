"""Predicts what an evaluation will give from those before it: a Gaussian process over the features of a code."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from search.gaussian_process import GaussianProcess
from spaces.space import Codes, Space

Floats = NDArray[np.float64]
NUM_SAMPLES = 16
QUANTILES = norm.ppf((np.arange(NUM_SAMPLES) + 0.5) / NUM_SAMPLES)  # of a standard normal distribution, evenly spread
MOST = 500  # examples that it goes by, which cost their cube


class Surrogate:
    """One column of the log, for networks of a space.

    Args:
        codes, values: [n, genes], and what their evaluations gave, [n].
    """

    def __init__(self, space: Space, codes: Codes, values: Floats, rng: np.random.Generator) -> None:
        chosen = rng.permutation(len(codes))[:MOST]
        self.space, self._process = space, GaussianProcess(inputs(space, codes[chosen]), values[chosen])

    def predict(self, codes: Codes) -> Floats:
        """[n, genes] -> [samples, n]: evenly spread quantiles of what each network's value may be, without the noise of
        measuring it"""
        mean, deviation = self._process.predict(inputs(self.space, codes))
        return mean + QUANTILES[:, None] * deviation


def inputs(space: Space, codes: Codes) -> Floats:
    """The features of codes, [n, features], as accuracy goes by them: logarithms of widths, and 1 / s, the share of
    features that are no ghosts. Those of a block that is left out stay 0."""
    values = space.features(codes)
    for k, feature in enumerate(space.feature_columns):
        column = values[:, k]
        alive = column > 0
        if feature.kind == "width":
            column[alive] = np.log(column[alive])
        elif feature.kind == "ratio":
            column[alive] = 1 / column[alive]
    return values
