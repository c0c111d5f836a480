"""The latency of a unit that was never timed, from its layers.

Large spaces have more units than a calibration has time. What was timed tells, by kind of layer, what a layer costs in
itself, a million multiply-adds and a million values read and written: a sum with no negative terms, fitted on relative
error. Rougher than an entry, and its interval says so.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from ghostnet.cost import Layer, unit_layers
from ghostnet.units import Unit
from search.latency.table import Fallback

FEWEST = 40  # units to fit on
FOLDS = 5


def terms(unit: Unit) -> Counter[str]:
    """The amounts of a unit: its layers, their millions of multiply-adds and of values, by kind of layer."""
    amounts: Counter[str] = Counter({"unit": 1})
    for layer in unit_layers(unit):
        kind = _kind(layer)
        amounts[f"{kind} layers"] += 1
        amounts[f"{kind} macs"] += layer.cost.macs / 1e6  # type: ignore[assignment]
        amounts[f"{kind} values"] += (layer.in_chs + layer.out_chs) * layer.size**2 / 1e6  # type: ignore[assignment]
    return amounts


def estimate(fallback: Fallback, unit: Unit) -> float:
    """Milliseconds of a unit.

    Raises:
        KeyError: it has a kind of layer that was never timed.
    """
    return of_terms(fallback, terms(unit))


def of_terms(fallback: Fallback, amounts: Mapping[str, float]) -> float:
    """Milliseconds of a unit with these amounts of layers; raises as `estimate`."""
    return sum(fallback.ms[term] * amount for term, amount in amounts.items())


def fit(timed: dict[Unit, float]) -> Fallback | None:
    """Fits units that were timed, in milliseconds; None where they are too few."""
    if len(timed) < FEWEST:
        return None
    names, x = amounts(list(timed))
    y = np.array(list(timed.values()))
    errors = _cross_fitted(x, y) / y - 1
    weights = _solve(x, y)
    return Fallback(
        ms=dict(zip(names, weights.tolist(), strict=True)),
        error=float(np.sqrt((errors**2).mean())),
    )


def cross_estimates(timed: dict[Unit, float], units: Sequence[Unit]) -> np.ndarray | None:
    """Milliseconds of units, [n], by those that were timed: a timed one's by a fit that it had no part in, so that what
    learns from these estimates sees errors as they are elsewhere. None where too few were timed."""
    if len(timed) < FEWEST:
        return None
    _, x = amounts(units)
    is_timed = np.array([unit in timed for unit in units])
    y = np.array([timed[unit] for unit in units if unit in timed])
    estimates = x @ _solve(x[is_timed], y)
    estimates[is_timed] = _cross_fitted(x[is_timed], y)
    return estimates


def amounts(units: Sequence[Unit]) -> tuple[list[str], np.ndarray]:
    """The names of all terms that units have, and the units' amounts of each: [n, terms]."""
    each = [terms(unit) for unit in units]
    names = sorted(set().union(*each))
    return names, np.array([[unit[name] for name in names] for unit in each], dtype=float)


def _cross_fitted(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Estimates of rows by fits on the other folds."""
    fold = np.random.default_rng(0).permutation(len(y)) % FOLDS
    estimates = np.empty(len(y))
    for k in range(FOLDS):
        estimates[fold == k] = x[fold == k] @ _solve(x[fold != k], y[fold != k])
    return estimates


def _solve(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Non-negative least squares on relative errors."""
    from scipy.optimize import nnls

    scale = np.maximum(np.abs(x / y[:, None]).max(0), 1e-12)
    return nnls(x / y[:, None] / scale, np.ones(len(y)))[0] / scale


def _kind(layer: Layer) -> str:
    if layer.groups > 1:
        return f"depthwise {layer.kernel}"
    if layer.size == 1:
        return "pooled"
    return "pointwise" if layer.kernel == 1 else f"dense {layer.kernel}"
