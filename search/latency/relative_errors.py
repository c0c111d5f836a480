"""Fits of what is never below zero, and of measurements that lie orders of magnitude apart: both by relative errors."""

import numpy as np

from spaces.tables import Floats


def relative_least_squares(x: Floats, y: Floats) -> Floats:
    """[n, columns], [n] -> [columns], none below zero, of the least squares of the relative errors of x w to y."""
    return non_negative_least_squares(x / y[:, None], np.ones(len(y)))


def non_negative_least_squares(a: Floats, b: Floats) -> Floats:
    """The w >= 0 that minimises |a w - b|^2."""
    from scipy.optimize import nnls

    scale = np.maximum(np.abs(a).max(0), 1e-12)
    weights: Floats = nnls(a / scale, b)[0] / scale
    return weights


def distance(predicted: Floats, measured: Floats) -> Floats:
    """How far a factor on both sides of a prediction must reach to hold the measurement, less 1: [n], [n] -> [n]"""
    return np.maximum(predicted / measured, measured / predicted) - 1
