"""Predicts what an evaluation will give from those before it: a Gaussian process over the features of a code."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
from threadpoolctl import threadpool_limits

from search.accuracy.predictor import fit_process
from spaces.space import Codes, Space

Floats = NDArray[np.float64]
NUM_SAMPLES = 16
MOST, TUNED = 500, 200  # examples that it goes by, and those that its kernel is fitted to: both cost their cube


class GaussianProcess:
    """One column of the log, for networks of a space.

    Args:
        codes, values: [n, genes], and what their evaluations gave, [n].
    """

    def __init__(self, space: Space, codes: Codes, values: Floats, rng: np.random.Generator) -> None:
        chosen = rng.permutation(len(codes))[:MOST]
        self.space, seen = space, space.features(codes[chosen])
        self._mean, spread = seen.mean(0), seen.std(0)
        self._spread = np.where(spread > 0, spread, 1.0)
        far = seen.shape[1] ** 0.5  # how far apart two networks are, roughly
        kernel = ConstantKernel() * Matern(far, (far / 10, far * 20), nu=2.5) + WhiteKernel(0.01, (1e-6, 1))
        x, y = self._scaled(seen), values[chosen]
        self._process = fit_process(kernel, x, y, TUNED)
        self._noise = self._process.kernel_.k2.noise_level * self._process._y_train_std**2

    def predict(self, codes: Codes) -> Floats:
        """[n, genes] -> [samples, n]: evenly spread quantiles of what each network's value may be, without the noise of
        measuring it"""
        with threadpool_limits(1):
            mean, deviation = self._process.predict(self._scaled(self.space.features(codes)), return_std=True)
        deviation = np.sqrt(np.maximum(deviation**2 - self._noise, 0))
        return mean + norm.ppf((np.arange(NUM_SAMPLES) + 0.5) / NUM_SAMPLES)[:, None] * deviation

    def _scaled(self, features: Floats) -> Floats:
        return (features - self._mean) / self._spread
