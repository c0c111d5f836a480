"""From a latency table to milliseconds, for one network or a population.

Blocks that are timed alone run hot in cache: their sum is low, evenly so, and lower still where a network has many
weights, which it must fetch anew in every run, and more so where they outgrow a cache. A fit on whole networks mends
that, by an intercept, a slope, the parameters and their square. Timed alone a unit also brings its input and its output
into the form that the runtime computes in, or out of it, while in a network neighbours hand their maps over:
corrections for each place, by the size of the map that stands there (ridge, on relative errors). A block of ghost ratio
1 is convolutions alone, whose maps stay in the runtime's form from one block to the next; one with
squeeze-and-excitation leaves it. So what such blocks take less or more in a network than alone is fitted as well: where
a search for low latency ends, all are of ratio 1 and without SE (`results/latency/budgets.md`).

The interval is split-conformal (Lei et al., JASA 2018, section 5.2: locally weighted): a quantile, over networks that
were not fitted, of the relative error over what the entries' own intervals and the fit leave uncertain. So a network of
estimated units has a wider one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ghostnet.arch import Arch
from ghostnet.units import Bottleneck, Unit, chain, output_values, se_chs
from search.errors import UserError
from search.latency.fallback import estimate
from search.latency.table import Correction, Entry, Fallback, LatencyTable
from spaces.custom import parse_space
from spaces.space import Codes, Space
from spaces.tables import Floats, UnitTable, params_table

COVERAGE = 0.9
RIDGES = tuple(10.0**k for k in range(5))
UNSURE = 0.02  # relative standard error of an entry that has a single measurement
NORMAL_95 = 1.96
MILLION = 1e6
NETWORKS_PER_TERM = 2  # at least, that a fit takes of more than units' milliseconds and parameters
OF_WEIGHTS = ("ms_per_mparam", "ms_per_mparam_squared")


@dataclass(frozen=True, slots=True)
class Prediction:
    """Milliseconds a run [n], the interval that holds the measurement with the table's coverage, and the share of the
    units that were timed rather than estimated."""

    latency_ms: Floats
    low_ms: Floats
    high_ms: Floats
    timed: Floats
    estimate: str = "fallback"

    @property
    def source(self) -> list[str]:
        """table: every unit was timed; fallback: some are estimated from their layers; transfer: some are, and from
        another target's table."""
        return ["table" if share == 1 else self.estimate for share in self.timed]


@dataclass(frozen=True, slots=True)
class Tangent:
    """Latencies as sums over units, in milliseconds, and what comes on top."""

    table: UnitTable
    intercept_ms: float


@dataclass(frozen=True, slots=True)
class UnitValues:
    """Of n networks' units: milliseconds alone, parameters, values that they put out, and whether they are blocks of
    ghost ratio 1 (`plain`) or with squeeze-and-excitation (`se`), 1 or 0; each [n, positions]."""

    ms: Floats
    params: Floats
    outputs: Floats
    plain: Floats
    se: Floats

    def __iter__(self) -> Iterator[Floats]:
        return iter((self.ms, self.params, self.outputs, self.plain, self.se))

    def __getitem__(self, networks: NDArray[np.int64] | slice) -> "UnitValues":
        """Those of some of the networks."""
        return UnitValues(*(values[networks] for values in self))


class Units:
    """What is known of every unit of a space: its milliseconds, how far they may be off, whether it was timed.

    Raises:
        UserError: a unit of the space was never timed and there is nothing to estimate it by. It is not zero.
    """

    def __init__(self, space: Space, entries: dict[str, Entry], fallback: Fallback | None) -> None:
        def ms(unit: Unit) -> float:
            if unit.key in entries:
                return entries[unit.key].ms
            if fallback is None:
                raise UserError(f"the latency table has no entry for the unit {unit.key!r}")
            try:
                return estimate(fallback, unit)
            except KeyError as error:
                raise UserError(f"the latency table has nothing like the unit {unit.key!r}: no {error}") from None

        def variance(unit: Unit) -> float:
            if unit.key not in entries:
                return (ms(unit) * fallback.error) ** 2 if fallback else 0.0
            entry = entries[unit.key]
            if entry.low_ms is None or entry.high_ms is None:
                return (entry.ms * UNSURE) ** 2
            return ((entry.high_ms - entry.low_ms) / (2 * NORMAL_95)) ** 2

        def estimated(unit: Unit) -> bool:
            return unit.key not in entries or entries[unit.key].visits == 0

        self.space, self.unit_ms, self.unit_variance, self.is_estimated = space, ms, variance, estimated
        others = (UnitTable(space, value) for value in (output_values, _is_plain, _has_se))
        self.ms = UnitTable(space, ms)
        self.tables = (self.ms, params_table(space), *others)  # as `UnitValues` has them
        self.variance = UnitTable(space, variance)
        self.estimated = UnitTable(space, lambda unit: float(estimated(unit)))

    def __call__(self, codes: Codes) -> UnitValues:
        """[n, genes] -> what corrections go by"""
        return UnitValues(*(table.per_position(codes) for table in self.tables))


class Predictor:
    """Latency of networks of one space by one table.

    Args:
        wanted: what else the table must have been made for: `runtime`, `threads`, `batch`, `dtype`.

    Raises:
        UserError: the table is of another space, resolution or setting, or lacks a unit that the space has.
    """

    def __init__(self, table: LatencyTable, space: Space, **wanted: Any) -> None:
        setting = table.setting
        wanted |= {"resolution": space.resolution, "num_classes": space.num_classes, "in_chs": space.in_chs}
        for name, value in wanted.items():
            if (actual := getattr(setting, name)) != value:
                raise UserError(f"the latency table was made for {name} {actual}, not {value}")
        if not space.has_id(setting.space_id):
            raise UserError(
                f"the latency table is of space {table.space_name} ({setting.space_id}), "
                f"not of {space.name} ({space.id})"
            )
        for by_position in (table.correction.ms_per_mvalue, table.correction.slots):
            if by_position and len(by_position) != (units := len(space.layout.positions)):
                raise UserError(f"the latency table corrects {len(by_position)} units of a network, not {units}")
        self.space, self.correction = space, table.correction
        self._estimate = "fallback" if table.transfer is None else "transfer"
        self._units, self._params = Units(space, table.entries, table.fallback), params_table(space)

    def __call__(self, codes: Codes) -> Prediction:
        """[n, genes] -> predictions for n networks"""
        ms = apply(self.correction, self._units(codes))
        width = self.correction.quantile * sigma(self.correction, self._units, codes, ms)
        estimated = self._units.estimated.total(codes) / len(self.space.layout.positions)
        return Prediction(ms, ms / (1 + width), ms * (1 + width), 1 - estimated, self._estimate)

    def per_unit(self, arch: Arch) -> dict[str, float]:
        """The part of the predicted milliseconds that each unit of a network takes, by its name in
        `ghostnet.units.Chain`. They add up to the prediction, less an intercept above zero, which is paid once a run.
        Where a fit counts a unit, or the whole, for less than nothing, all others have that much less in proportion."""
        code, names = self.space.encode(arch), chain(arch).named
        whole = self(code).latency_ms.item() - max(self.correction.intercept_ms, 0.0)
        parts = contributions(self.correction, units := self._units(code))[0].clip(0.0)
        parts = parts if parts.any() else units.ms[0]
        positions = zip(self.space.layout.positions, (parts * (whole / parts.sum())).tolist(), strict=True)
        return {position.name: ms for position, ms in positions if position.name in names}

    def timed_units(self, arch: Arch) -> set[str]:
        """The units of a network that were timed, by name; the others are estimated."""
        alike = self.space.decode(self.space.encode(arch))  # of two ratios that make a block, the one that is timed
        named = chain(alike, self.space.num_classes, self.space.in_chs).named
        return {name for name, unit in named.items() if not self._units.is_estimated(unit)}

    @cached_property
    def tangent(self) -> Tangent:
        """Predictions as sums over units, at the middle of the space's parameters."""
        ends = [self._params.total(self._params.extreme(largest)).item() for largest in (False, True)]
        return self.tangent_at(sum(ends) / 2)

    def tangent_at(self, params: float) -> Tangent:
        """Sums over units that are no more than predictions, and equal to those of networks with so many parameters:
        by parameters, whose square they have, predictions are convex."""
        c, mparams = self.correction, params / MILLION
        values = zip(*(table.values for table in self._units.tables), strict=True)
        places = zip(*_by_position(c, len(self.space.layout.positions)), values, strict=True)
        by_param = c.ms_per_mparam + 2 * c.ms_per_mparam_squared * mparams
        parts = [_added(c, slope, by_value, by_param, UnitValues(*each)) for slope, by_value, each in places]
        base = c.intercept_ms - c.ms_per_mparam_squared * mparams**2
        return Tangent(UnitTable.of(self.space, parts), base)

    def most_ms(self, high_ms: float) -> float:
        """The largest prediction whose interval may end at `high_ms`: that of a network whose units are the surest."""
        variance = np.array(self._units.variance.total(self._units.variance.extreme()).item())
        ends = np.linspace(0, high_ms, 10_001)
        highs = ends + self.correction.quantile * _unsure(self.correction, ends, variance)
        return float(ends[min(int(np.searchsorted(highs, high_ms, side="right")), len(ends) - 1)])

    def fastest(self) -> Codes:
        """The code of the least predicted latency in the whole space: [genes]."""
        return self._least(lambda tangent: tangent.table.extreme(), lambda code: self(code).latency_ms.item())

    def least_high(self) -> Codes:
        """The code of the least upper end of an interval in the whole space: [genes]. It is not always the fastest
        one's, whose units may be estimated while those of a slower network were timed."""
        return self._surest.copy()

    @cached_property
    def _surest(self) -> Codes:
        return self._least(self._least_high, lambda code: self(code).high_ms.item())

    def _least(self, least_by: Callable[[Tangent], Codes], value: Callable[[Codes], float]) -> Codes:
        """The code of the least value in the whole space. None is less than by a tangent, and a network that is the
        least by the tangent at its own parameters has there its own value: it is the least of all. Where there is no
        such one (parameters squared that count for much), what tangents led to is the least but for what they are off
        between them."""
        codes: dict[float, Codes] = {}  # by the parameters that tangents touch at
        at = self._params.total(self._params.extreme()).item()
        while at not in codes:
            codes[at] = least_by(self.tangent_at(at))
            at = self._params.total(codes[at]).item()
        return min(codes.values(), key=value)

    def _least_high(self, tangent: Tangent) -> Codes:
        """The code of the least upper end where latencies are a tangent's.

        An upper end grows with two sums over units, milliseconds and variance. It is least at a corner of the convex
        hull of all networks' sums (it is quasi-concave in them as long as `quantile * spread` is below 1), and a corner
        has the least of some weighted sum, which `UnitTable.extreme` finds.
        """
        sums = tangent.table, self._units.variance
        values = list(zip(*(table.values for table in sums), strict=True))

        def corner(ms_weight: float, variance_weight: float) -> tuple[Codes, float, float]:
            weighted = [ms_weight * ms + variance_weight * variance for ms, variance in values]
            code = UnitTable.of(self.space, weighted).extreme()
            return code, sums[0].total(code).item(), sums[1].total(code).item()

        def upper_end(ms: float, variance: float) -> float:
            total = np.array(ms + tangent.intercept_ms)
            return float(total + self.correction.quantile * _unsure(self.correction, total, np.array(variance)))

        first, last = corner(1, 0), corner(0, 1)
        least = min((first, last), key=lambda corner: upper_end(*corner[1:]))
        between = [(first, last)]
        while between:
            (_, ms, most), (_, most_ms, variance) = pair = between.pop()
            if upper_end(ms, variance) >= upper_end(*least[1:]) or not (ms < most_ms and variance < most):
                continue  # what lies between has no less of either
            weights = most - variance, most_ms - ms
            new = corner(*weights)
            if weights[0] * (new[1] - ms) + weights[1] * (new[2] - most) < -1e-9 * weights[0] * weights[1]:
                least = min((least, new), key=lambda corner: upper_end(*corner[1:]))
                between += [(pair[0], new), (new, pair[1])]
        return least[0]


def table_space(table: LatencyTable) -> Space:
    """The space that a table is of.

    Raises:
        UserError: this version makes another one of what the table says.
    """
    setting = table.setting
    space = replace(parse_space(setting.space), num_classes=setting.num_classes, in_chs=setting.in_chs)
    if not space.has_id(setting.space_id):
        raise UserError(f"the latency table is of another space {space.name}: {setting.space_id}, not {space.id}")
    return space


def contributions(correction: Correction, units: UnitValues) -> Floats:
    """[n, positions] milliseconds, which with the intercept add up to the network's."""
    mparams = units.params.sum(1, keepdims=True) / MILLION
    by_param = correction.ms_per_mparam + correction.ms_per_mparam_squared * mparams
    return _added(correction, *_by_position(correction, units.ms.shape[1]), by_param, units)


def _by_position(correction: Correction, positions: int) -> tuple[Floats, Floats]:
    """What a unit's milliseconds and a million of the values that it puts out count at each position."""
    nothing = np.zeros(positions)
    by_slot, by_value = (np.array(each) if each else nothing for each in (correction.slots, correction.ms_per_mvalue))
    return correction.slope + by_slot, by_value


def _added(
    correction: Correction, slope: Floats, ms_per_mvalue: Floats, ms_per_mparam: Floats | float, units: UnitValues
) -> Floats:
    """The milliseconds that units add to their network, of which each has these two of its position."""
    at_its_end = ms_per_mvalue + correction.ms_per_plain_mvalue * units.plain
    millions = ms_per_mparam * units.params + at_its_end * units.outputs
    kinds = correction.ms_per_plain * units.plain + correction.ms_per_se * units.se
    return slope * units.ms + millions / MILLION + kinds


def _is_plain(unit: Unit) -> float:
    return float(isinstance(unit, Bottleneck) and unit.block.ratio == 1)


def _has_se(unit: Unit) -> float:
    return float(isinstance(unit, Bottleneck) and se_chs(unit.block) > 0)


def apply(correction: Correction, units: UnitValues) -> Floats:
    """[n] milliseconds of networks."""
    total = correction.intercept_ms + contributions(correction, units).sum(1)
    return np.maximum(total, units.ms.max(1))  # never below its slowest unit


def sigma(correction: Correction, units: Units, codes: Codes, ms: Floats) -> Floats:
    """Relative uncertainty of predictions [n]: the fit's, and that of the networks' entries."""
    return _unsure(correction, ms, units.variance.total(codes)) / ms


def _unsure(correction: Correction, ms: Floats, variance: Floats) -> Floats:
    """Milliseconds by which predictions may be off, before the interval's quantile."""
    c = correction
    return np.sqrt((c.spread * ms) ** 2 + c.spread_ms**2 + c.slope**2 * variance)


def fit(units: UnitValues, measured: Floats, *, by_position: bool = True) -> Correction:
    """Fits what is known of n networks' units to [n] measured milliseconds, on relative error; the interval is still
    open.

    Args:
        by_position: with corrections by position, for which few networks are too few.
    """
    from sklearn.linear_model import RidgeCV

    sums, params, maps = units.ms.sum(1), units.params.sum(1), units.outputs
    columns = {
        "slope": sums,
        "ms_per_mparam": params / MILLION,
        "ms_per_mparam_squared": (params / MILLION) ** 2,
        "ms_per_plain": units.plain.sum(1),
        "ms_per_plain_mvalue": (units.plain * maps).sum(1) / MILLION,
        "ms_per_se": units.se.sum(1),
    }
    if len(measured) < NETWORKS_PER_TERM * (len(columns) + 1):
        columns = {name: columns[name] for name in ("slope", "ms_per_mparam")}
    fitted = _fitted(columns, measured)
    while noise := [name for name in OF_WEIGHTS if fitted.get(name, 0.0) < 0]:  # weights cost time or none
        del columns[noise[-1]]
        fitted = _fitted(columns, measured)
    if fitted["slope"] <= 0 < np.ptp(sums):  # so does a unit: by measurements this noisy all networks are as good
        columns, fitted = {"slope": sums}, {"slope": float(np.median(measured / sums)), "intercept_ms": 0.0}
    base = fitted.pop("intercept_ms")
    by_value = np.zeros(maps.shape[1])
    if by_position:
        rest = measured - sum(fitted[name] * columns[name] for name in columns) - base
        differs = np.ptp(maps, 0) > 0  # what is the same in all networks, such as the logits, tells nothing
        spread, limit = np.where(differs, maps.std(0), 1.0), 3 * np.median(np.abs(rest)) / 0.6745
        scaled = differs * (maps - maps.mean(0)) / spread
        weights = 1 / measured**2  # relative errors
        ridge = RidgeCV(alphas=RIDGES, fit_intercept=False)
        by_value = ridge.fit(scaled, rest.clip(-limit, limit), sample_weight=weights / weights.mean()).coef_ / spread
    values = {"ms_per_mparam": 0.0, "ms_per_mvalue": tuple((MILLION * by_value).tolist())} | fitted
    values |= {"intercept_ms": float(base - by_value @ maps.mean(0)), "coverage": COVERAGE}
    correction = Correction.model_validate(values | {"spread": 1.0, "quantile": 0.0})
    errors = apply(correction, units) - measured
    # In equal parts: a network that takes little is off by a larger share of it, though not by as much as that.
    relative, absolute = (float(np.sqrt((each**2).mean() / 2)) for each in (errors / measured, errors))
    return correction.model_copy(update={"spread": max(relative, 1e-4), "spread_ms": absolute})


def _fitted(columns: Mapping[str, Floats], measured: Floats) -> dict[str, float]:
    """Slopes by name, and the intercept; see `linear`."""
    return dict(zip((*columns, "intercept_ms"), linear(list(columns.values()), measured), strict=True))


def linear(columns: Sequence[Floats], measured: Floats) -> list[float]:
    """A slope for each column [n], and the intercept, of measured milliseconds [n]: on relative error, robustly, since
    a measurement that was disturbed unnoticed is far off. A column without spread has slope 0."""
    from sklearn.linear_model import HuberRegressor

    used = [np.ptp(column) > 0 for column in columns]
    kept = [column for column, use in zip(columns, used, strict=True) if use] + [np.ones(len(measured))]
    scales = np.array([column.mean() / measured.mean() for column in kept])  # all columns of a size
    relative = np.stack(kept, 1) / scales / measured[:, None]
    ones = np.ones(len(measured))
    try:
        weights = HuberRegressor(alpha=0, fit_intercept=False, max_iter=1000).fit(relative, ones).coef_
    except ValueError:  # its line search found no way on: few networks, or such as lie on a line already
        weights = np.linalg.lstsq(relative, ones)[0]
    *slopes, intercept = (weights / scales).tolist()
    given = iter(slopes)
    return [*(next(given) if use else 0.0 for use in used), intercept]


def conformal(scores: NDArray[np.float64]) -> float:
    """The split-conformal quantile of scores of networks that were not fitted [n]."""
    rank = min(len(scores), int(np.ceil(COVERAGE * (len(scores) + 1))))
    return float(np.sort(scores)[rank - 1])
