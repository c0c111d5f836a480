"""A table for another target from few measurements on it, with a whole table of some other target as the prior.

A law of layers is fitted to the units that were timed on the target, near the source's own law: with few units it is
the source's at another scale, with many the target's. How far the source's milliseconds are off its law, in widths that
do or don't fill registers, say, the target may share, a part or all: as much as suits the timed units best. What is
left a Gaussian process learns, as it does in tables that have no source (`unit_estimates.py`). Where timed units that
are left out are told better without the source, it isn't used.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ghostnet.units import Unit
from search.errors import UserError
from search.latency import fallback
from search.latency.bench import all_units
from search.latency.predictor import COVERAGE, Predictor, Units
from search.latency.table import Device, Entry, Fallback, LatencyTable, Setting
from search.latency.unit_estimates import Layers, by_law, estimated, learn
from spaces.space import Space

FEWEST_TO_FIT = 8  # to fit on
FEWEST_HELD_OUT = round(COVERAGE / (1 - COVERAGE))  # of fewer, no quantile is the interval's coverage
FEWEST_UNITS = 8
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the source's oddities, that a target may have
LEAST_VARIANCE = 1e-9
SAME_DEVICE = ("machine", "cpu", "cores")


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
    if fit_networks < FEWEST_TO_FIT or held_out < FEWEST_HELD_OUT:
        raise UserError(
            f"a transfer needs {FEWEST_TO_FIT} networks to fit and {FEWEST_HELD_OUT} that are held out for its "
            f"{COVERAGE:.0%} interval, but got {fit_networks} and {held_out}"
        )


def check_source(source: LatencyTable, space: Space, setting: Setting, device: Device) -> None:
    """Raises:
    UserError: the source is of another space, class count or resolution, or of this very target.
    """
    Predictor(source, space)
    if is_same_device(source.device, device) and source.setting == setting:
        raise UserError(
            f"the source is a table of this very target ({setting.runtime} {setting.runtime_version}, {setting.dtype}, "
            f"{setting.threads} thread(s), batch {setting.batch}): `calibrate check` says whether it is still true"
        )


def is_same_device(one: Device, other: Device) -> bool:
    """Whether two tables' devices are machines of one kind."""
    return all(getattr(one, name) == getattr(other, name) for name in SAME_DEVICE)


def transfer_units(
    space: Space, source: LatencyTable, timed: Mapping[str, Entry], noise: float = 0.0
) -> TransferredUnits:
    """What every unit of the space takes on the target, by those that were timed there and by the source.

    What a timed unit is off what all others tell of it may be its own, or the timing's: the share that timing explains
    is left out (empirical Bayes).

    Args:
        noise: relative standard error of one measurement.

    Raises:
        UserError: too few units were timed.
    """
    known = all_units(space)
    if len(timed) < min(FEWEST_UNITS, len(known)):
        raise UserError(f"a transfer needs {FEWEST_UNITS} units that were timed on the target, but got {len(timed)}")
    keys, there = sorted(known), Units(space, source.entries, source.fallback)
    wanted = [key for key in keys if key not in timed]
    ms, source_ms = {key: entry.ms for key, entry in timed.items()}, {key: there.unit_ms(known[key]) for key in keys}
    layers = {key: fallback.terms(known[key]) for key in keys}
    # How far off what was timed at the source may be, the process has seen; what was estimated there, it has not.
    unseen = [there.unit_variance(known[key]) / source_ms[key] ** 2 * there.is_estimated(known[key]) for key in wanted]
    ways = [(*_near_source(known, layers, ms, source_ms), np.array(unseen))]
    law = fallback.fit({known[key]: value for key, value in ms.items()})
    if law is not None and all(terms.keys() <= law.ms.keys() for terms in layers.values()):
        ways.append((by_law(law, layers), None, np.zeros(len(wanted))))
    found = []
    for rough, also, variance in ways:
        off = {key: float(np.log(value / rough[key])) for key, value in ms.items()}
        learned = learn(known, layers, timed, rough, wanted, _root_mean_square(off.values()), also, judged=True)
        learned = replace(learned, deviation=np.sqrt(learned.deviation**2 + variance), left_out=off | learned.left_out)
        found.append(learned)
    best = min(found, key=lambda each: _root_mean_square(each.left_out.values()))
    unexplained = max(_root_mean_square(best.left_out.values()) ** 2, LEAST_VARIANCE)
    of_timing = {key: min(noise**2 / entry.visits / unexplained, 1.0) for key, entry in timed.items()}
    entries = {key: entry.times(float(np.exp(-of_timing[key] * best.left_out[key]))) for key, entry in timed.items()}
    entries |= dict(zip(wanted, estimated(best), strict=True))
    return TransferredUnits(entries={key: entries[key] for key in keys}, error=best.error)


def _near_source(
    known: Mapping[str, Unit], layers: Layers, timed: Mapping[str, float], source_ms: Mapping[str, float]
) -> tuple[dict[str, float], dict[str, tuple[float, float]] | None]:
    """Rough milliseconds of every unit by a law near the source's, and what else of the source tells more."""
    law_there = fallback.fit({known[key]: ms for key, ms in source_ms.items()})
    if law_there is None:  # a space of few units: at another scale the source is all there is to say
        scale = float(np.exp(np.median([np.log(ms / source_ms[key]) for key, ms in timed.items()])))
        return {key: scale * ms for key, ms in source_ms.items()}, None
    told_there = by_law(law_there, layers)
    oddity = {key: float(np.log(ms / told_there[key])) for key, ms in source_ms.items()}

    def law_without(shared: float) -> Fallback:
        """The target's, if so much of the source's oddities is its own, too."""
        even = {known[key]: ms * float(np.exp(-shared * oddity[key])) for key, ms in timed.items()}
        return fallback.fit_near(even, law_there)

    law, shared = min(((law_without(share), share) for share in SHARES), key=lambda each: each[0].error)
    rough = {key: ms * float(np.exp(shared * oddity[key])) for key, ms in by_law(law, layers).items()}
    return rough, {key: (oddity[key], float(np.log(rough[key] / source_ms[key]))) for key in layers}


def _root_mean_square(values: Iterable[float]) -> float:
    return float(np.sqrt(np.mean(np.square([*values]))))
