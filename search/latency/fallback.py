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
from search.latency.relative_errors import non_negative_least_squares, relative_least_squares
from search.latency.table import Fallback

FEWEST = 40  # units to fit on
FOLDS = 5
NEAR, LEAST, TINY = 0.2, 1e-2, 1e-12  # see `fit_near`


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
    names, x = _amounts(list(timed))
    y = np.array(list(timed.values()))
    errors = _cross_fitted(x, y) / y - 1
    weights = relative_least_squares(x, y)
    return Fallback(
        ms=dict(zip(names, weights.tolist(), strict=True)),
        error=float(np.sqrt((errors**2).mean())),
    )


def fit_near(timed: dict[Unit, float], prior: Fallback) -> Fallback:
    """Fits however few units that were timed, in milliseconds, near the law of another target, which is brought to
    their scale first. A term that turns out twice as large as there costs as much as a unit that is `NEAR` off, and
    counts so in the law's error."""
    names = sorted(prior.ms)
    each = [terms(unit) for unit in timed]
    x = np.array([[unit[name] for name in names] for unit in each], dtype=float)
    y, theirs = np.array(list(timed.values())), np.array([prior.ms[name] for name in names])
    theirs *= np.exp(np.median(np.log(y / (x @ theirs))))
    # A term of nothing there is drawn to nothing, a hundredth of a unit for each `NEAR`.
    scale = np.maximum(theirs, LEAST * np.median(y) / np.where(x.max(0) > 0, x.max(0), np.inf))
    scale = np.maximum(scale, TINY)
    wanted = np.append(np.ones(len(y)), NEAR * theirs / scale)
    rows = np.vstack([x / y[:, None], np.diag(NEAR / scale)])
    weights = non_negative_least_squares(rows, wanted)
    error = np.sqrt(((rows @ weights - wanted) ** 2).sum() / len(y))
    return Fallback(ms=dict(zip(names, weights.tolist(), strict=True)), error=float(error))


def _amounts(units: Sequence[Unit]) -> tuple[list[str], np.ndarray]:
    """The names of all terms that units have, and the units' amounts of each: [n, terms]."""
    each = [terms(unit) for unit in units]
    names = sorted(set().union(*each))
    return names, np.array([[unit[name] for name in names] for unit in each], dtype=float)


def _cross_fitted(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Estimates of rows by fits on the other folds."""
    fold = np.random.default_rng(0).permutation(len(y)) % FOLDS
    estimates = np.empty(len(y))
    for k in range(FOLDS):
        estimates[fold == k] = x[fold == k] @ relative_least_squares(x[fold != k], y[fold != k])
    return estimates


def _kind(layer: Layer) -> str:
    if layer.groups > 1:
        return f"depthwise {layer.kernel}"
    if layer.size == 1:
        return "pooled"
    return "pointwise" if layer.kernel == 1 else f"dense {layer.kernel}"
