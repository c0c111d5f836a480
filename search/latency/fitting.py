"""From measurements to a table: scores with intervals, the fit, and its errors on networks that were not fitted."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from search import bootstrap
from search.latency import fallback
from search.latency.bench import all_units
from search.latency.drift import without_drift
from search.latency.measurements import Measurement
from search.latency.predictor import Predictor, Units, apply, conformal, fit, linear, sigma
from search.latency.relative_errors import distance
from search.latency.table import (
    Agreement,
    Correction,
    Entry,
    Fallback,
    LatencyTable,
    Network,
    Transfer,
    Validation,
)
from search.latency.timing.interference import quiet, quiet_time
from search.latency.timing.rounds import FEWEST_NETWORKS, interval
from search.latency.timing.scores import quiet_minima, score
from search.latency.transfer import transfer_units
from search.latency.unit_estimates import estimate_units
from search.rank_correlation import KendallTau, SpearmanRho, kendall_tau, spearman_rho
from spaces.space import Codes, Space
from spaces.tables import Floats, macs_table

BOOTSTRAPS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedTable:
    """All that is learned from a calibration's measurements."""

    entries: dict[str, Entry]
    fallback: Fallback | None
    correction: Correction
    validation: Validation
    transfer: Transfer | None
    disturbed: float


def fit_table(
    space: Space,
    codes: Codes,
    fit_networks: int,
    measurements: Mapping[str, Sequence[Measurement]],
    *,
    quick: bool = False,
    source: LatencyTable | None = None,
) -> FittedTable:
    """Fits a table and validates it on networks that were held out.

    Args:
        codes: of the whole networks, [n, genes]; the first `fit_networks` are fitted, the others are held out.
        measurements: by item; networks are "network 0", "network 1", ...
        quick: without bootstrap intervals, for an estimate during the calibration.
        source: a table of another target, from which the units come that were not measured.
    """
    quiet_ms = quiet_time([row.reference_ms for rows in measurements.values() for row in rows])
    num_quiet = {name: len(_quiet(rows, quiet_ms)) for name, rows in measurements.items()}
    minima = {
        name: quiet_minima([(row.min_ms, row.reference_ms) for row in rows], quiet_ms)
        for name, rows in measurements.items()
        if rows
    }
    names = [f"network {k}" for k in range(len(codes))]
    at = {name: [(row.at_s, row.min_ms) for row in _quiet(measurements.get(name, ()), quiet_ms)] for name in names}
    minima |= without_drift({name: item_rows for name, item_rows in at.items() if item_rows})
    # A whole network without a quiet measurement is neither fitted nor held out, unless that leaves too few.
    steady = np.array([num_quiet.get(name, 0) > 0 for name in names])
    present = np.array([name in minima for name in names])
    fit_index, held_out = (
        part[steady[part]] if steady[part].sum() >= FEWEST_NETWORKS else part[present[part]]
        for part in np.split(np.arange(len(codes)), [fit_networks])
    )
    measured = np.array([score(minima[name]) if name in minima else np.nan for name in names])
    known = all_units(space)
    entries = {key: _entry(minima[key], quick) for key in sorted(known) if key in minima}
    rough = fallback.fit({known[key]: entry.ms for key, entry in entries.items()})
    transfer = None
    if source is not None:
        transferred, rough = transfer_units(space, source, entries, repeatability(minima.values())), None
        transfer = Transfer(
            content_sha256=source.digest,
            device=source.device,
            setting=source.setting,
            networks=len(fit_index),
            units=len(entries),
            unit_error=transferred.error,
        )
        entries = transferred.entries
    elif rough is not None:
        estimated = estimate_units(known, entries, rough, quick=quick)
        entries, rough = entries | estimated.entries, rough.model_copy(update={"error": estimated.error})
    units = Units(space, entries, rough)
    values = units(codes)
    correction = fit(values[fit_index], measured[fit_index], by_position=source is None)
    ms = apply(correction, values[held_out])
    unsure = sigma(correction, units, codes[held_out], ms)
    scores = distance(ms, measured[held_out]) / unsure
    correction = correction.model_copy(update={"quantile": conformal(scores)})
    simple = _simpler_predictors(space, codes, values.ms.sum(1), measured, fit_index, held_out, source)
    halves = np.array([_halves(minima[names[k]]) for k in held_out])
    return FittedTable(
        entries=entries,
        fallback=rough,
        correction=correction,
        validation=_validation(
            codes[held_out], ms, measured[held_out], unsure, correction.quantile, halves, simple, quick
        ),
        transfer=transfer,
        disturbed=1 - sum(num_quiet.values()) / sum(map(len, measurements.values())),
    )


def _quiet(rows: Sequence[Measurement], quiet_ms: float) -> list[Measurement]:
    return [row for row in rows if quiet(row.reference_ms, quiet_ms)]


def _entry(minima: list[float], quick: bool) -> Entry:
    several = len(minima) > 1 and not quick
    low, high = interval(minima) if several else (None, None)
    return Entry(ms=score(minima), low_ms=low, high_ms=high, visits=len(minima))


def repeatability(minima: Iterable[Sequence[float]]) -> float:
    """Relative standard error of one measurement, by items that were measured twice or more in a row: robust, as 1.48
    times the median of |log ratio| / sqrt(2). 0 where none were."""
    ratios = [np.diff(np.log(each)) for each in minima if len(each) > 1]
    return float(1.4826 * np.median(np.abs(np.concatenate(ratios))) / np.sqrt(2)) if ratios else 0.0


def _halves(minima: list[float]) -> tuple[float, float]:
    return (score(minima[::2]), score(minima[1::2])) if len(minima) > 1 else (np.nan, np.nan)


def _validation(
    codes: Codes,
    ms: Floats,
    measured: Floats,
    unsure: Floats,
    quantile: float,
    halves: Floats,
    simpler: dict[str, Agreement],
    quick: bool,
) -> Validation:
    error = ms / measured - 1
    size = np.abs(error)

    def ends(statistic: Callable[[NDArray[np.int64]], Any]) -> tuple[float, float]:
        whole = float(statistic(np.arange(len(ms))))
        if quick or np.isnan(whole):  # equal values have no ranks, in no draw either
            return (float(np.nan_to_num(whole)),) * 2
        low, high = bootstrap.interval(statistic, len(ms), np.random.default_rng(0), BOOTSTRAPS, vectorized=True)
        return float(low), float(high)

    width, several = quantile * unsure, np.isfinite(halves).all(1)
    return Validation(
        networks=len(ms),
        mape=float(size.mean()),
        mape_95=ends(lambda picks: size[picks].mean(-1)),
        p90=float(np.percentile(size, 90)),
        max=float(size.max()),
        bias=float(error.mean()),
        within_5=float((size <= 0.05).mean()),
        within_10=float((size <= 0.10).mean()),
        kendall_tau=kendall_tau(ms, measured),
        kendall_tau_95=ends(KendallTau(ms, measured)),
        spearman=spearman_rho(ms, measured),
        spearman_95=ends(SpearmanRho(ms, measured)),
        ruler=_agreement(*halves[several].T) if several.sum() > 1 else None,
        simpler=simpler,
        held_out=tuple(
            Network(code=tuple(code), measured_ms=m, predicted_ms=p, low_ms=p / (1 + w), high_ms=p * (1 + w))
            for code, m, p, w in zip(codes.tolist(), measured.tolist(), ms.tolist(), width.tolist(), strict=True)
        ),
    )


def _simpler_predictors(
    space: Space,
    codes: Codes,
    sums: Floats,
    measured: Floats,
    fitted: NDArray[np.int64],
    held_out: NDArray[np.int64],
    source: LatencyTable | None,
) -> dict[str, Agreement]:
    """What a table is held against: predictors that need no table, or no correction, on the same networks."""
    macs = macs_table(space).total(codes)
    slope, base = linear([macs[fitted]], measured[fitted])
    x = space.features(codes)
    ridge = make_pipeline(StandardScaler(), RidgeCV(alphas=np.logspace(-3, 4, 8))).fit(x[fitted], measured[fitted])
    predictions = {
        "macs alone, affine": base + slope * macs[held_out],
        "sum of units, uncorrected": sums[held_out],
        "features alone, ridge": ridge.predict(x[held_out]),
    }
    if source is not None:
        there = Predictor(source, space)(codes).latency_ms
        predictions["source, one scale"] = np.median(measured[fitted] / there[fitted]) * there[held_out]
    return {name: _agreement(ms, measured[held_out]) for name, ms in predictions.items()}


def _agreement(ms: Floats, measured: Floats) -> Agreement:
    return Agreement(mape=float(np.mean(np.abs(ms / measured - 1))), kendall_tau=kendall_tau(ms, measured))
