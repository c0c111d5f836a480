"""A Gaussian process for few examples of many features: scikit-learn's, its lengths held by a prior.

By maximum likelihood a length for each feature is fitted to noise, and one length for all tells no gene from another.
The prior on lengths is of Hvarfner, Hellsten and Nardi ("Vanilla Bayesian optimization performs great in high
dimensions", ICML 2024), which BoTorch has as its default, too: it grows with the square root of the number of features,
so that a model begins simple, and a feature that says something shortens its length.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

Floats = NDArray[np.float64]
TUNED = 120  # examples that the kernel is fitted to, which costs their cube some fifty times
# Mean and spread of logarithms: of a length in features from 0 to 1, for one feature; of the noise's share of variance.
LENGTHS, NOISE = (2**0.5, 3**0.5), (-4.0, 1.0)
OFFSET = 100.0  # variance of the constant that all values have in common, in their own: it is free


class GaussianProcess:
    """Matern 5/2 with a length for each feature, around a constant.

    Args:
        x, y: examples [n, k], [n], the first `tuned` of which fit the kernel.

    Attributes:
        noise: the variance of a measurement.
    """

    def __init__(self, x: Floats, y: Floats, tuned: int = TUNED) -> None:
        from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

        self._low, extent = x.min(0), np.ptp(x, axis=0)
        self._varies = extent > 0
        if not self._varies.any():  # one and the same network, again and again
            self._varies[:] = True
        self._extent = np.where(extent > 0, extent, 1.0)
        x, count = self._scaled(x), int(self._varies.sum())
        prior = np.array([(LENGTHS[0] + np.log(count) / 2, LENGTHS[1])] * count + [NOISE]).T
        start = np.exp(prior[0] - prior[1] ** 2)  # where a log-normal density is highest
        kernel = (
            Matern(start[:-1], (2.5e-2, 1e4), nu=2.5)
            + ConstantKernel(OFFSET, "fixed")
            + WhiteKernel(start[-1], (1e-6, 10))
        )
        self._process = fit_process(kernel, x, y, tuned, _most_probable(*prior))
        self.noise = float(self._process.kernel_.k2.noise_level * self._process._y_train_std**2)

    def predict(self, x: Floats) -> tuple[Floats, Floats]:
        """[m, k] -> means and standard deviations [m], without the noise of measuring."""
        with threadpool_limits(1):
            mean, deviation = self._process.predict(self._scaled(x), return_std=True)
        return mean, np.sqrt(np.maximum(deviation**2 - self.noise, 0))

    def left_out(self) -> Floats:
        """By how much each example [n] is off what all others predict of it."""
        return left_out(self._process)

    def _scaled(self, x: Floats) -> Floats:
        scaled: Floats = ((x - self._low) / self._extent)[:, self._varies]
        return scaled


def fit_process(kernel: Any, x: Floats, y: Floats, tuned: int, optimizer: Any = "fmin_l_bfgs_b") -> Any:
    """scikit-learn's Gaussian process over examples [n, k], [n], whose kernel is fitted to the first `tuned` of them.

    Args:
        optimizer: of the kernel's parameters, as scikit-learn has it: by default the likeliest ones.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor

    with warnings.catch_warnings(), threadpool_limits(1):  # small matrices, and the same sums everywhere
        warnings.simplefilter("ignore", ConvergenceWarning)  # a length at its bound is a feature that says nothing
        fit = GaussianProcessRegressor(kernel, optimizer=optimizer, normalize_y=True).fit(x[:tuned], y[:tuned])
        return GaussianProcessRegressor(fit.kernel_, optimizer=None, normalize_y=True).fit(x, y)


def left_out(process: Any) -> Floats:
    """By how much each example [n] of scikit-learn's Gaussian process is off what all others predict of it: the closed
    form (Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, section 5.4.2)."""
    from scipy.linalg import cho_solve

    precision = cho_solve((process.L_, True), np.eye(len(process.alpha_)))
    errors: Floats = process.alpha_ / np.diag(precision) * process._y_train_std
    return errors


def _most_probable(mean: Floats, spread: Floats) -> Callable[..., tuple[Floats, float]]:
    """An optimizer of scikit-learn's: the parameters of greatest posterior density, each of them log-normal before.

    Args:
        mean, spread: of the parameters' logarithms.
    """
    from scipy.optimize import minimize

    def optimize(loss: Callable[..., Any], start: Floats, bounds: Floats) -> tuple[Floats, float]:
        def with_prior(logs: Floats) -> tuple[float, Floats]:
            value, gradient = loss(logs)
            z = (logs - mean) / spread
            return value + (z**2).sum() / 2 + logs.sum(), gradient + z / spread + 1

        found = minimize(with_prior, start, method="L-BFGS-B", jac=True, bounds=bounds)
        return found.x, float(found.fun)

    return optimize
