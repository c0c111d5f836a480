"""Kendall's tau (b) and Spearman's rho of two values of each item, and of thousands of bootstrap resamples at once.

A resample is told by how often it has each item. Tau needs the signs of the items' differences, and rho how many items
are below and how many are equal: both are the same in every resample but for these weights, and are computed once.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Picks = NDArray[np.int64]


class KendallTau:
    """Kendall's tau of two values of each item, x and y [items].

    Args:
        group: of each item; only pairs of items of one group count. None: all pairs do.
    """

    def __init__(self, x: Floats, y: Floats, group: NDArray[np.int64] | None = None) -> None:
        dx, dy = (np.sign(v[:, None] - v) for v in (x, y))
        counts = True if group is None else group[:, None] == group
        self._concordant, self._x_differs, self._y_differs = dx * dy * counts, abs(dx) * counts, abs(dy) * counts

    def __call__(self, picks: Picks | None = None) -> Any:
        """Of all items, or of resamples given as the indices of their items [..., count] -> [...]; not a number where
        all x or all y are equal."""
        weights = _weights(picks, len(self._concordant))
        both, x, y = (
            ((weights @ pairs) * weights).sum(-1) for pairs in (self._concordant, self._x_differs, self._y_differs)
        )
        return _ratio(both, x, y)


class SpearmanRho:
    """Spearman's rho of two values of each item, x and y [items]: the correlation of their ranks."""

    def __init__(self, x: Floats, y: Floats) -> None:
        self._below_x, self._below_y = ((v[:, None] < v) + 0.5 * (v[:, None] == v) for v in (x, y))

    def __call__(self, picks: Picks | None = None) -> Any:
        """As `KendallTau`'s."""
        weights = _weights(picks, len(self._below_x))
        total = weights.sum(-1, keepdims=True)
        x, y = (weights @ below for below in (self._below_x, self._below_y))
        x, y = (ranks - (weights * ranks).sum(-1, keepdims=True) / total for ranks in (x, y))
        return _ratio(*((weights * product).sum(-1) for product in (x * y, x * x, y * y)))


def kendall_tau(x: Floats, y: Floats, group: NDArray[np.int64] | None = None) -> float:
    """Kendall's tau of two values of each item, as `KendallTau`'s; 0 where one value ranks nothing."""
    return float(np.nan_to_num(KendallTau(x, y, group)()))


def spearman_rho(x: Floats, y: Floats) -> float:
    """Spearman's rho of two values of each item; 0 where one value ranks nothing."""
    return float(np.nan_to_num(SpearmanRho(x, y)()))


def _weights(picks: Picks | None, items: int) -> Floats:
    """How often each resample has each item: [..., items]"""
    if picks is None:
        return np.ones(items)
    rows = picks.reshape(-1, picks.shape[-1])
    places = rows + items * np.arange(len(rows))[:, None]
    return np.bincount(places.ravel(), minlength=len(rows) * items).reshape(*picks.shape[:-1], items).astype(float)


def _ratio(product: Any, x: Any, y: Any) -> Any:
    """product / sqrt(x y); not a number where either is 0"""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.clip(product / np.sqrt(x * y), -1, 1)  # rounding may go beyond
