"""From a latency table to milliseconds, for one network or a population.

Blocks that are timed alone run hot in cache and their sum is low, evenly so: an affine fit on whole networks mends
most of it, small corrections a slot (ridge, on relative errors) the rest. The interval is split-conformal: the
quantile of the relative errors on networks that were not fitted.
"""

from dataclasses import dataclass

import numpy as np

from search.errors import UserError
from search.latency.table import Correction, LatencyTable, Network, Validation
from spaces.space import Codes, Space
from spaces.tables import Floats, UnitTable

COVERAGE = 0.9
RIDGES = tuple(10.0**k for k in range(-3, 5))


@dataclass(frozen=True, slots=True)
class Prediction:
    """Milliseconds [n], and the interval that holds the measurement with the table's coverage."""

    ms: Floats
    low_ms: Floats
    high_ms: Floats


class Predictor:
    """Latency of networks of one space by one table.

    Raises:
        UserError: the table is of another space, or lacks a unit that the space has.
    """

    def __init__(self, table: LatencyTable, space: Space) -> None:
        if table.setting.space_id != space.id:
            raise UserError(
                f"the latency table is of space {table.space_name} ({table.setting.space_id}), "
                f"not of {space.name} ({space.id})"
            )
        self.space, self.correction = space, table.correction
        self._units = unit_sums(space, {key: entry.ms for key, entry in table.entries.items()})

    def __call__(self, codes: Codes) -> Prediction:
        """[n, genes] -> predictions for n networks"""
        ms = apply(self.correction, self._units.per_slot(codes))
        width = self.correction.interval
        return Prediction(ms, ms / (1 + width), ms * (1 + width))

    def fastest(self) -> Codes:
        """The code of the least predicted latency in the whole space: [genes]."""
        corrected = UnitTable(self.space, lambda unit: 0.0)
        weights = self.correction.slope + np.array(self.correction.slots)
        corrected.values = [weight * values for weight, values in zip(weights, self._units.values, strict=True)]
        return corrected.extreme()


def unit_sums(space: Space, entries: dict[str, float]) -> UnitTable:
    """The table of unit latencies over a space.

    Raises:
        UserError: a unit of the space was never timed. It is not zero.
    """
    try:
        return UnitTable(space, lambda unit: entries[unit.key])
    except KeyError as error:
        raise UserError(f"the latency table has no entry for the unit {error}") from None


def apply(correction: Correction, per_slot: Floats) -> Floats:
    """[n, slots] unit latencies -> [n] milliseconds"""
    total = correction.intercept_ms + correction.slope * per_slot.sum(1) + per_slot @ np.array(correction.slots)
    return np.maximum(total, per_slot.max(1))  # never below its slowest unit


def fit(per_slot: Floats, measured: Floats) -> Correction:
    """Fits [n, slots] unit latencies to [n] measured milliseconds, on relative error; the interval is still open."""
    from sklearn.linear_model import HuberRegressor, RidgeCV

    # 1 = slope * (sum / measured) + intercept / measured, robustly: a visit that was disturbed unnoticed is far off
    relative = np.stack([per_slot.sum(1), np.ones(len(measured))], 1) / measured[:, None]
    slope, base = (
        HuberRegressor(alpha=0, fit_intercept=False, max_iter=1000).fit(relative, np.ones(len(measured))).coef_
    )
    rest = measured - slope * per_slot.sum(1) - base
    spread, limit = per_slot.std(0) + 1e-12, 3 * np.median(np.abs(rest)) / 0.6745
    scaled = (per_slot - per_slot.mean(0)) / spread
    ridge = RidgeCV(alphas=RIDGES, fit_intercept=False)
    slots = ridge.fit(scaled, rest.clip(-limit, limit) / measured.mean()).coef_ * measured.mean() / spread
    intercept = float(base - slots @ per_slot.mean(0))
    return Correction(
        intercept_ms=intercept,
        slope=float(slope),
        slots=tuple(slots.tolist()),
        interval=0.0,
        coverage=COVERAGE,
    )


def validate(
    correction: Correction, per_slot: Floats, measured: Floats, halves: Floats, codes: Codes
) -> tuple[Correction, Validation]:
    """Errors on held-out networks, and the correction with the interval that they give.

    Args:
        halves: [n, 2] scores of two halves of each network's visits, not-a-number where there was only one.
    """
    from scipy.stats import kendalltau

    predicted = apply(correction, per_slot)
    error = predicted / measured - 1
    size = np.abs(error)
    rank = min(len(size), int(np.ceil(COVERAGE * (len(size) + 1))))  # split-conformal quantile
    interval = float(np.sort(size)[rank - 1])
    ruler = np.abs(halves[:, 0] - halves[:, 1]) / halves.mean(1)
    validation = Validation(
        networks=len(size),
        mape=float(size.mean()),
        p90=float(np.percentile(size, 90)),
        max=float(size.max()),
        bias=float(error.mean()),
        within_5=float((size <= 0.05).mean()),
        within_10=float((size <= 0.10).mean()),
        kendall_tau=float(kendalltau(predicted, measured).statistic),
        ruler_mape=float(np.nanmean(ruler)) if np.isfinite(ruler).any() else None,
        held_out=tuple(
            Network(code=tuple(code), measured_ms=m, predicted_ms=p)
            for code, m, p in zip(codes.tolist(), measured.tolist(), predicted.tolist(), strict=True)
        ),
    )
    return correction.model_copy(update={"interval": interval}), validation
