"""A table for another target from few measurements on it, with a whole table of some other target as the prior.

What a unit takes on the target, over what it takes at the source, is a function of its layers: smooth, but for widths
that do or don't fill the registers. A Gaussian process learns its logarithm from the units that were timed on both
(Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, chapters 2 and 5): a linear kernel is a scale
for each kind of layer, drawn to one common scale, and a Matern kernel what such scales leave. How much of each there
is, and how much noise, is what makes the measurements most likely. One of the features is how far the source's own
milliseconds are off a law of layers, so the process also learns whether the target shares the source's oddities;
another is what the target's own law of layers says of a unit that it was not fitted on, which may be all there is to
learn where the two have little in common.
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ghostnet.cost import Layer, unit_layers
from ghostnet.units import Unit
from search.errors import UserError
from search.latency import fallback
from search.latency.bench import all_units
from search.latency.predictor import COVERAGE, NORMAL_95, Predictor, Units
from search.latency.table import Device, Entry, LatencyTable, Setting
from spaces.space import Space
from spaces.tables import Floats

FEWEST_NETWORKS = 8  # to fit on
FEWEST_HELD_OUT = round(COVERAGE / (1 - COVERAGE))  # of fewer, no quantile is the interval's coverage
FEWEST_UNITS = 8
BLOCKS = (4, 8, 16)  # channels that a vector register, or a few, hold
MOST_TO_LEARN = 400  # units by which the process's strengths are chosen; all of them are what it predicts from
SAME_DEVICE = ("machine", "cpu", "cores")
LEAST_NOISE = 1e-6  # variance
LEAST_RATIO = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferredUnits:
    """Every unit of a space on the target.

    Args:
        entries: those that were timed there as the timing is sure of it; the others with `visits` 0.
        error: relative, of a timed unit that is left out: root mean square.
    """

    entries: dict[str, Entry]
    error: float


def check_counts(fit_networks: int, held_out: int) -> None:
    """Raises:
    UserError: too few networks to fit a transfer, or for its interval.
    """
    if fit_networks < FEWEST_NETWORKS or held_out < FEWEST_HELD_OUT:
        raise UserError(
            f"a transfer needs {FEWEST_NETWORKS} networks to fit and {FEWEST_HELD_OUT} that are held out for its "
            f"{COVERAGE:.0%} interval, but got {fit_networks} and {held_out}"
        )


def check_source(source: LatencyTable, space: Space, setting: Setting, device: Device) -> None:
    """Raises:
    UserError: the source is of another space, class count or resolution, or of this very target.
    """
    Predictor(source, space)
    same_device = all(getattr(source.device, name) == getattr(device, name) for name in SAME_DEVICE)
    if same_device and source.setting == setting:
        raise UserError(
            f"the source is a table of this very target ({setting.runtime} {setting.runtime_version}, {setting.dtype}, "
            f"{setting.threads} thread(s), batch {setting.batch}): `calibrate check` says whether it is still true"
        )


def transfer_units(
    space: Space, source: LatencyTable, timed: Mapping[str, Entry], noise: float = 0.0
) -> TransferredUnits:
    """What every unit of the space takes on the target, by those that were timed there and by the source.

    What a timed unit is off the process may be its own, or the timing's: of what the process can't explain, the share
    that timing explains is left out (empirical Bayes).

    Args:
        noise: relative standard error of one measurement.

    Raises:
        UserError: too few units were timed.
    """
    known = all_units(space)
    if len(timed) < min(FEWEST_UNITS, len(known)):
        raise UserError(f"a transfer needs {FEWEST_UNITS} units that were timed on the target, but got {len(timed)}")
    keys, there = sorted(known), Units(space, source.entries, source.fallback)
    source_values = np.array([there.unit_ms(known[key]) for key in keys])
    units = [known[key] for key in keys]
    x = features(units, source_values)
    own_law = fallback.cross_estimates({known[key]: entry.ms for key, entry in timed.items()}, units)
    if own_law is not None:
        x = np.hstack([x, _standardised(_log_ratio(own_law, source_values))])
    is_timed = np.array([key in timed for key in keys])
    log_ratio = np.log([timed[key].ms for key in keys if key in timed]) - np.log(source_values[is_timed])
    predicted, sd, error, unexplained = _gaussian_process(x[is_timed], log_ratio, x)
    # How far off what was timed at the source may be, the process has seen; what was estimated there, it has not.
    estimated = [there.unit_variance(known[key]) * there.is_estimated(known[key]) for key in keys]
    sd = np.sqrt(sd**2 + np.array(estimated) / source_values**2)
    visits = np.array([timed[key].visits for key in keys if key in timed])
    own = np.clip(1 - noise**2 / visits / unexplained, 0, 1)
    predicted[is_timed] += own * (log_ratio - predicted[is_timed])
    ms, factor = source_values * np.exp(predicted), np.exp(NORMAL_95 * sd)
    entries = {
        key: timed[key].times(m / timed[key].ms) if key in timed else Entry(ms=m, low_ms=m / f, high_ms=m * f, visits=0)
        for key, m, f in zip(keys, ms.tolist(), factor.tolist(), strict=True)
    }
    return TransferredUnits(entries=entries, error=error)


def features(units: Sequence[Unit], source_values: Floats) -> Floats:
    """Units -> [n, features]: groups of them, each of unit variance over the space.

    A unit is its amounts of every kind of layer, the shares of its time that they take at the source, how well its
    widths fill blocks of channels, and how far the source is off its own law of layers.
    """
    names, x = fallback.amounts(units)
    layers = [[layer for layer in unit_layers(unit) if layer.size > 1] for unit in units]
    aligned, padding = (np.array([list(of(each)) for each in layers]) for of in (_aligned, _padding))
    groups = [np.log1p(x), aligned, padding]
    law = fallback.fit(dict(zip(units, source_values.tolist(), strict=True)))
    if law is not None:
        parts = x * np.array([law.ms[name] for name in names])
        whole = np.maximum(parts.sum(1), LEAST_RATIO * source_values)
        groups += [parts / whole[:, None], _log_ratio(whole, source_values)]
    return np.hstack([_standardised(group) for group in groups])


def _log_ratio(ms: Floats, source_values: Floats) -> Floats:
    """Of estimates to the source: [n, 1]. A law of layers with no negative terms may estimate a unit as nothing."""
    return np.log(np.maximum(ms / source_values, LEAST_RATIO))[:, None]


def _standardised(group: Floats) -> Floats:
    return (group - group.mean(0)) / (group.std(0) + 1e-9) / np.sqrt(group.shape[1])


def _aligned(layers: Sequence[Layer]) -> Iterable[float]:
    """Shares of the layers' multiply-adds and outputs whose channels are a multiple of each block."""
    for block in BLOCKS:
        for channels in (_in_chs, _out_chs):
            for amount in (_macs, _outputs):
                whole = sum(map(amount, layers))
                yield sum(amount(layer) for layer in layers if channels(layer) % block == 0) / max(whole, 1)


def _padding(layers: Sequence[Layer]) -> Iterable[float]:
    """Logarithms of the multiply-adds of dense layers if channels are filled up to each block, over what they are."""
    dense = [layer for layer in layers if layer.groups == 1]
    whole = sum(map(_macs, dense))
    for block in BLOCKS:
        for channels in (_in_chs, _out_chs):
            filled = sum(_macs(layer) * -(-channels(layer) // block) * block / channels(layer) for layer in dense)
            yield float(np.log(filled / whole)) if whole else 0.0


def _in_chs(layer: Layer) -> int:
    return layer.in_chs


def _out_chs(layer: Layer) -> int:
    return layer.out_chs


def _macs(layer: Layer) -> int:
    return layer.cost.macs


def _outputs(layer: Layer) -> int:
    return layer.out_chs * layer.size**2


def _gaussian_process(x: Floats, y: Floats, wanted: Floats) -> tuple[Floats, Floats, float, float]:
    """[n, features], [n], [m, features] -> predictions and their standard deviations, [m] each, the error on a sample
    that is left out, and the variance of what is each sample's own."""
    from scipy.linalg import cho_solve
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct, Matern, WhiteKernel

    strengths = [ConstantKernel(1e-2, (1e-6, 1e2)) for _ in range(2)]
    kernel = (
        strengths[0] * DotProduct(1e-3, "fixed")
        + strengths[1] * Matern(1.0, (0.1, 100.0), nu=1.5)
        + WhiteKernel(1e-3, (LEAST_NOISE, 1.0))
    )
    mean = y.mean()
    learned = np.random.default_rng(0).permutation(len(y))[:MOST_TO_LEARN]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a strength at its bound: none of that kind
        process = GaussianProcessRegressor(kernel).fit(x[learned], y[learned] - mean)
    inverse = cho_solve((process.L_, True), np.eye(len(learned)))
    left_out = process.alpha_ / np.diag(inverse)  # the closed form of leave-one-out: section 5.4.2
    if len(learned) < len(y):
        process = GaussianProcessRegressor(process.kernel_, optimizer=None).fit(x, y - mean)
    predicted, sd = process.predict(wanted, return_std=True)
    own = float(process.kernel_.k2.noise_level)
    return mean + predicted, sd, float(np.sqrt((left_out**2).mean())), own
